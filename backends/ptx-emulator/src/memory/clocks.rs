//! Vector clocks: which accesses of which threads a thread may rely on.
//!
//! Invariant: a thread knows an access `(u, c)` if it knows the clock `c` of `u`, or is `u`. What is known is shared
//! between threads that passed the same barrier, so that a barrier costs one vector, not one for each thread.
//!
//! Asynchronous work is done by agents: further "threads" that complete operations one after another. There is an
//! agent for each mbarrier (its transactions), and for each thread's copies, bulk groups and matrix products. Each
//! agent's clock is a number of what it has done, and to wait is to learn it.
//!
//! Beside what is known stands what is known and also ordered by a proxy fence (PTX ISA, Memory Consistency Model,
//! Proxies): the asynchronous proxy may only rely on that. A fence anywhere on the way from the write to the
//! asynchronous access orders them.

use std::collections::HashMap;
use std::rc::Rc;

/// A point in the life of a thread or an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub by: u32,
    pub clock: u32,
}

/// A vector of clocks that threads share.
pub(crate) type Clock = Rc<Vec<u32>>;

/// What several threads know together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    seen: Vec<u32>,
    fenced: Vec<u32>,
    /// The last vectors that were joined, which need not be again.
    last: Option<(Clock, Clock)>,
}

#[derive(Clone, Debug)]
struct Knowledge {
    seen: Clock,
    fenced: Clock,
    own: u32,
    own_fenced: u32,
}

/// The knowledge of all threads of a cluster.
#[derive(Debug)]
pub(crate) struct Clocks {
    threads: Vec<Knowledge>,
    /// Agents, numbered after the threads, with their clocks.
    agents: Vec<u32>,
    by_owner: HashMap<(u8, u64), u32>,
    /// The last joins of what is seen and of what is fenced, which all threads of a barrier repeat.
    memo: [Option<[Clock; 3]>; 2],
}

fn join(into: &mut Vec<u32>, other: &[u32]) {
    if into.len() < other.len() {
        into.resize(other.len(), 0);
    }
    for (a, b) in into.iter_mut().zip(other) {
        *a = (*a).max(*b);
    }
}

fn raise(into: &mut Vec<u32>, index: usize, value: u32) {
    if into.len() <= index {
        into.resize(index + 1, 0);
    }
    into[index] = into[index].max(value);
}

impl Clocks {
    pub fn new(threads: usize) -> Self {
        let empty = Rc::new(Vec::new());
        let one = Knowledge { seen: empty.clone(), fenced: empty, own: 1, own_fenced: 0 };
        Clocks {
            threads: vec![one; threads],
            agents: Vec::new(),
            by_owner: HashMap::new(),
            memo: [None, None],
        }
    }

    /// The stamp of what a thread does now.
    pub fn now(&self, thread: usize) -> Stamp {
        Stamp { by: thread as u32, clock: self.threads[thread].own }
    }

    /// Whether a thread may rely on what happened at a stamp.
    #[inline]
    pub fn knows(&self, thread: usize, stamp: Stamp) -> bool {
        stamp.by as usize == thread
            || self.threads[thread].seen.get(stamp.by as usize).is_some_and(|c| *c >= stamp.clock)
    }

    /// Whether the asynchronous proxy may rely on it, where a thread asks it to work.
    pub fn knows_fenced(&self, thread: usize, stamp: Stamp) -> bool {
        let knowledge = &self.threads[thread];
        if stamp.by as usize == thread && knowledge.own_fenced >= stamp.clock {
            return true;
        }
        knowledge.fenced.get(stamp.by as usize).is_some_and(|c| *c >= stamp.clock)
    }

    /// A thread passes a proxy fence.
    pub fn fence_proxy(&mut self, thread: usize) {
        let knowledge = &mut self.threads[thread];
        knowledge.fenced = knowledge.seen.clone();
        knowledge.own_fenced = knowledge.own;
        knowledge.own = knowledge.own.saturating_add(1);
    }

    /// Adds what a thread knows, its own past included; what it does from now on is later.
    pub fn release(&mut self, thread: usize, into: &mut Joined) {
        let knowledge = &mut self.threads[thread];
        let done = matches!(&into.last, Some((seen, fenced))
            if Rc::ptr_eq(seen, &knowledge.seen) && Rc::ptr_eq(fenced, &knowledge.fenced));
        if !done {
            join(&mut into.seen, &knowledge.seen);
            join(&mut into.fenced, &knowledge.fenced);
            into.last = Some((knowledge.seen.clone(), knowledge.fenced.clone()));
        }
        raise(&mut into.seen, thread, knowledge.own);
        if knowledge.own_fenced > 0 {
            raise(&mut into.fenced, thread, knowledge.own_fenced);
        }
        knowledge.own = knowledge.own.saturating_add(1);
    }

    /// A thread learns what others knew.
    pub fn acquire(&mut self, thread: usize, seen: &Clock, fenced: &Clock) {
        self.threads[thread].seen = self.union(0, self.threads[thread].seen.clone(), seen);
        self.threads[thread].fenced = self.union(1, self.threads[thread].fenced.clone(), fenced);
    }

    fn union(&mut self, of: usize, a: Clock, b: &Clock) -> Clock {
        if Rc::ptr_eq(&a, b) || b.is_empty() {
            return a;
        }
        if a.is_empty() {
            return b.clone();
        }
        if let Some([x, y, result]) = &self.memo[of]
            && Rc::ptr_eq(x, &a)
            && Rc::ptr_eq(y, b)
        {
            return result.clone();
        }
        let mut both = (*a).clone();
        join(&mut both, b);
        // What adds nothing keeps the shared vector.
        let result = if both == **b { b.clone() } else { Rc::new(both) };
        self.memo[of] = Some([a, b.clone(), result.clone()]);
        result
    }

    /// A thread learns what an agent has done.
    pub fn learn(&mut self, thread: usize, stamp: Stamp) {
        let knowledge = &mut self.threads[thread];
        if knowledge.seen.get(stamp.by as usize).is_some_and(|c| *c >= stamp.clock) {
            return;
        }
        let mut seen = (*knowledge.seen).clone();
        raise(&mut seen, stamp.by as usize, stamp.clock);
        knowledge.seen = Rc::new(seen);
    }

    /// The agent of an owner, by the kind of its work.
    pub fn agent(&mut self, kind: u8, owner: u64) -> u32 {
        let next = (self.threads.len() + self.agents.len()) as u32;
        let agents = &mut self.agents;
        *self.by_owner.entry((kind, owner)).or_insert_with(|| {
            agents.push(1);
            next
        })
    }

    /// The stamp of what an agent does now.
    pub fn agent_now(&self, agent: u32) -> Stamp {
        let index = (agent as usize).saturating_sub(self.threads.len());
        Stamp { by: agent, clock: self.agents.get(index).copied().unwrap_or(0) }
    }

    /// An agent goes on to its next piece of work; gives the stamp of what is done.
    pub fn agent_advance(&mut self, agent: u32) -> Stamp {
        let stamp = self.agent_now(agent);
        let index = (agent as usize).saturating_sub(self.threads.len());
        if let Some(clock) = self.agents.get_mut(index) {
            *clock = clock.saturating_add(1);
        }
        stamp
    }

    pub fn is_agent(&self, by: u32) -> bool {
        by as usize >= self.threads.len()
    }
}

impl Joined {
    /// Adds what an agent has done.
    pub fn add(&mut self, stamp: Stamp) {
        raise(&mut self.seen, stamp.by as usize, stamp.clock);
    }

    /// Adds what others joined.
    pub fn merge(&mut self, other: &Joined) {
        join(&mut self.seen, &other.seen);
        join(&mut self.fenced, &other.fenced);
    }

    /// What was joined, to be learned by threads.
    pub fn share(&self) -> (Clock, Clock) {
        (Rc::new(self.seen.clone()), Rc::new(self.fenced.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_orders_and_a_fence_fences() {
        let mut clocks = Clocks::new(3);
        let write = clocks.now(0);
        assert!(clocks.knows(0, write) && !clocks.knows(1, write));
        clocks.fence_proxy(0);
        let later = clocks.now(0);
        let mut joined = Joined::default();
        clocks.release(0, &mut joined);
        clocks.release(1, &mut joined);
        let (seen, fenced) = joined.share();
        clocks.acquire(1, &seen, &fenced);
        assert!(clocks.knows(1, write) && clocks.knows(1, later));
        assert!(clocks.knows_fenced(1, write) && !clocks.knows_fenced(1, later));
        assert!(!clocks.knows(2, write));
        let after = clocks.now(0);
        assert!(!clocks.knows(1, after));
    }

    #[test]
    fn agents_are_learned_one_by_one() {
        let mut clocks = Clocks::new(1);
        let agent = clocks.agent(0, 7);
        assert_eq!(agent, clocks.agent(0, 7));
        let first = clocks.agent_advance(agent);
        let second = clocks.agent_now(agent);
        clocks.learn(0, first);
        assert!(clocks.knows(0, first) && !clocks.knows(0, second));
    }
}
