//! Which processors this process may use, in the order in which threads should take them.
//!
//! Invariant: only processors of the process' own affinity mask are ever named, and every physical
//! core comes once before any comes twice.

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::BTreeMap;
use std::num::NonZero;

/// The processors of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Processors {
    /// Processor numbers, one of each physical core first.
    order: Vec<usize>,
    /// How many of them are on cores of their own.
    cores: usize,
}

impl Processors {
    /// What the system says; empty if it does not.
    pub(super) fn of_this_process() -> Self {
        // That of its first thread: the calling one may have been tied to a processor of its own.
        let Ok(allowed) = sched_getaffinity(Some(getpid())) else {
            return Processors { order: Vec::new(), cores: 0 };
        };
        let allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        Self::ordered(allowed.map(|cpu| (cpu, siblings_of(cpu))))
    }

    /// Orders processors, each given with a text that is the same for all of its core.
    fn ordered(processors: impl Iterator<Item = (usize, String)>) -> Self {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, usize)> = processors
            .map(|(cpu, core)| {
                let rank = seen.entry(core).or_default();
                *rank += 1;
                (*rank, cpu)
            })
            .collect();
        ranked.sort_unstable();
        Processors { order: ranked.into_iter().map(|(_, cpu)| cpu).collect(), cores: seen.len() }
    }

    /// Threads that repay: one a core, and no more than the process' share of time (a container's
    /// limit) allows.
    pub(super) fn default_threads(&self) -> usize {
        let share = std::thread::available_parallelism().map_or(1, NonZero::get);
        if self.cores == 0 { share } else { self.cores.min(share) }
    }

    /// Whether so many threads can each have a processor.
    pub(super) fn suffice_for(&self, threads: usize) -> bool {
        threads <= self.order.len()
    }

    /// Puts the calling thread, that of this number among so many, where it belongs: on a processor of its own if
    /// the threads take all of them, and else wherever the system finds one that is free, since other pools and
    /// other processes choose theirs, too. A system that refuses leaves it where it is: this is about speed only.
    pub(super) fn place_this_thread(&self, number: usize, threads: usize) {
        let mut set = CpuSet::new();
        let own = (threads == self.order.len()).then(|| self.order.get(number)).flatten();
        match own {
            Some(&cpu) => set.set(cpu),
            None => self.order.iter().for_each(|&cpu| set.set(cpu)),
        }
        let _ = sched_setaffinity(None, &set);
    }
}

/// The processors on the same core, as Linux lists them; unique to `cpu` where it does not say.
fn siblings_of(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).unwrap_or_else(|_| format!("cpu{cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_come_before_their_second_threads() {
        let siblings = ["0,4", "1,5", "2-3", "2-3", "0,4", "1,5"];
        let listed = siblings.into_iter().map(str::to_owned).enumerate();
        let processors = Processors::ordered(listed);
        assert_eq!(processors.order, [0, 1, 2, 3, 4, 5]);
        let listed = ["a", "a", "b", "b"].into_iter().map(str::to_owned).enumerate();
        let processors = Processors::ordered(listed);
        assert_eq!((processors.order.as_slice(), processors.cores), (&[0, 2, 1, 3][..], 2));
    }

    #[test]
    fn threads_that_take_all_processors_have_one_each_and_others_any() {
        let all = Processors::of_this_process();
        assert!(!all.order.is_empty());
        let placed = |number: usize, threads: usize| {
            let all = all.clone();
            let thread = std::thread::spawn(move || {
                all.place_this_thread(number, threads);
                let set = sched_getaffinity(None).unwrap();
                (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect::<Vec<_>>()
            });
            thread.join().unwrap()
        };
        let count = all.order.len();
        assert_eq!(placed(count - 1, count), [all.order[count - 1]]);
        let mut any = all.order.clone();
        any.sort_unstable();
        assert_eq!(placed(0, count + 1), any);
    }

    #[test]
    fn a_thread_that_was_tied_down_sees_all_processors() {
        let all = Processors::of_this_process();
        let tied = all.clone();
        let thread = std::thread::spawn(move || {
            tied.place_this_thread(0, tied.order.len());
            Processors::of_this_process()
        });
        assert_eq!(thread.join().unwrap(), all);
    }
}
