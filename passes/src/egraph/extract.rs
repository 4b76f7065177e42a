//! Extraction: one operation for each class that is needed, so that the whole costs least.
//!
//! Invariant: a shared class is counted once (a DAG cost); the choice has no cycles; equal prices
//! are decided by order, so that the result repeats.

use super::body::Plain;
use super::language::{Head, TensorGraph, TensorNode};
use crate::region::JOINT;
use egg::{Id, Language};
use kiln_ir::op::Op;
use kiln_ir::{Graph, GraphError, ValueId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// The price of an e-node in a class.
pub type Price<'a> = dyn Fn(&TensorGraph, Id, &TensorNode) -> f64 + 'a;

/// One e-node for each class.
#[derive(Clone, Debug)]
pub struct Choice {
    nodes: BTreeMap<Id, TensorNode>,
}

/// Dense tables over the classes of an e-graph.
pub(super) struct Table {
    ids: Vec<Id>,
    /// For each class its e-nodes with prices and the numbers of their operands.
    nodes: Vec<Vec<(f64, Vec<usize>)>>,
    roots: Vec<usize>,
}

/// A way to compute a class.
#[derive(Clone, Debug)]
struct Way {
    total: f64,
    pick: usize,
    /// Classes that it needs, the class itself among them, each with the price that was paid.
    needs: Vec<(usize, f64)>,
}

/// Rounds of local search; each goes over every class that is in use.
const ROUNDS: usize = 4;
/// Differences below this (relative) are noise.
const GAIN: f64 = 1e-9;

/// The cheapest choice for the roots that greedy choice and local search find, with its cost;
/// `None` if a root cannot be computed from the leaves.
pub fn extract(egraph: &TensorGraph, roots: &[Id], price: &Price) -> Option<(Choice, f64)> {
    extract_from(egraph, roots, price, &[])
}

/// The greedy choice alone.
pub fn extract_greedily(
    egraph: &TensorGraph,
    roots: &[Id],
    price: &Price,
) -> Option<(Choice, f64)> {
    let table = Table::of(egraph, roots, price);
    let chosen = table.greedy()?;
    Some((table.choice(egraph, &chosen), table.cost(&chosen)?))
}

/// [`extract`] that also starts from the greedy choices under other prices: a change that pays only
/// once many classes have made it is not found one class at a time.
pub fn extract_from(
    egraph: &TensorGraph,
    roots: &[Id],
    price: &Price,
    starts: &[&Price],
) -> Option<(Choice, f64)> {
    let table = Table::of(egraph, roots, price);
    let mut best: Option<(f64, Vec<Option<usize>>)> = None;
    let others = starts.iter().map(|start| Table::of(egraph, roots, start).greedy());
    for start in std::iter::once(table.greedy()).chain(others) {
        let mut chosen = start?;
        let cost = table.search(&mut chosen, None)?;
        if best.as_ref().is_none_or(|(least, _)| cost < least - GAIN * least.abs()) {
            best = Some((cost, chosen));
        }
    }
    let (cost, chosen) = best?;
    Some((table.choice(egraph, &chosen), cost))
}

impl Table {
    pub(super) fn of(egraph: &TensorGraph, roots: &[Id], price: &Price) -> Self {
        let mut ids: Vec<Id> = egraph.classes().map(|class| class.id).collect();
        ids.sort_unstable();
        let numbers: HashMap<Id, usize> = ids.iter().enumerate().map(|(n, &id)| (id, n)).collect();
        let number = |id: Id| numbers.get(&egraph.find(id)).copied().unwrap_or(usize::MAX);
        let nodes = ids
            .iter()
            .map(|&id| {
                let nodes = egraph[id].nodes.iter();
                nodes
                    .map(|node| {
                        // What is computed when the model is compiled costs nothing where it is used.
                        let constant = egraph[id].data.constant;
                        let counts = |child: &Id| constant || !egraph[*child].data.constant;
                        let mut operands: Vec<usize> =
                            node.children().iter().copied().filter(counts).map(number).collect();
                        operands.sort_unstable();
                        operands.dedup();
                        (price(egraph, id, node), operands)
                    })
                    .collect()
            })
            .collect();
        let roots = roots.iter().map(|&root| number(root)).collect();
        Table { ids, nodes, roots }
    }

    /// Bottom up: each class takes the e-node whose operands, with all that they need counted once,
    /// cost least, until nothing gets cheaper.
    ///
    /// What a class needs is kept with the prices that it was added up from, so that every total is
    /// that of a whole way to compute the class, even if a part of it has a cheaper one by now (as in
    /// the "faster greedy" extractor of the extraction gym, github.com/egraphs-good).
    fn greedy(&self) -> Option<Vec<Option<usize>>> {
        let count = self.ids.len();
        let mut best: Vec<Option<Way>> = vec![None; count];
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (class, nodes) in self.nodes.iter().enumerate() {
            for &operand in nodes.iter().flat_map(|(_, operands)| operands) {
                if let Some(users) = users.get_mut(operand) {
                    users.push(class);
                }
            }
        }
        users.iter_mut().for_each(|users| users.dedup());
        let mut first: Vec<Option<usize>> = vec![None; count];
        let mut seen = Seen { round: 0, rounds: vec![0; count] };
        let mut pending: VecDeque<usize> = (0..count).collect();
        let mut waits = vec![true; count];
        while let Some(class) = pending.pop_front() {
            waits[class] = false;
            let mut changed = false;
            for (pick, (price, operands)) in self.nodes[class].iter().enumerate() {
                let most = best[class].as_ref().map_or(f64::INFINITY, |way| way.total);
                if let Some((total, needs)) =
                    way_through(class, *price, operands, &best, &mut seen, most)
                {
                    best[class] = Some(Way { total, pick, needs });
                    first[class].get_or_insert(pick);
                    changed = true;
                }
            }
            if changed {
                for &user in &users[class] {
                    if !std::mem::replace(&mut waits[user], true) {
                        pending.push_back(user);
                    }
                }
            }
        }
        let chosen: Vec<Option<usize>> =
            best.into_iter().map(|way| way.map(|way| way.pick)).collect();
        let complete = self.roots.iter().all(|&root| matches!(chosen.get(root), Some(Some(_))));
        complete.then(|| self.without_cycles(chosen, first))
    }

    /// What a class needs is noted when it chooses, and operands may choose anew after that: two of
    /// them may come to need each other. Where that happened, each class that can take its choice
    /// does, beginning with the first choices of all, which only need classes that chose before.
    fn without_cycles(
        &self,
        wanted: Vec<Option<usize>>,
        first: Vec<Option<usize>>,
    ) -> Vec<Option<usize>> {
        if self.order(&wanted).is_some() {
            return wanted;
        }
        let mut chosen = first;
        for (class, pick) in wanted.into_iter().enumerate() {
            let before = std::mem::replace(&mut chosen[class], pick);
            if self.order(&chosen).is_none() {
                chosen[class] = before;
            }
        }
        chosen
    }

    /// Classes that the roots need under a choice, operands first; `None` if there is a cycle.
    pub(super) fn order(&self, chosen: &[Option<usize>]) -> Option<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.ids.len()];
        let mut order = Vec::new();
        for &root in &self.roots {
            let mut stack = vec![(root, 0usize)];
            while let Some((class, next)) = stack.pop() {
                if next == 0 {
                    match marks.get(class)? {
                        Mark::Done => continue,
                        Mark::Open => return None,
                        Mark::New => marks[class] = Mark::Open,
                    }
                }
                let (_, operands) = self.nodes[class].get((*chosen.get(class)?)?)?;
                match operands.get(next) {
                    Some(&operand) => {
                        stack.push((class, next + 1));
                        stack.push((operand, 0));
                    }
                    None => {
                        marks[class] = Mark::Done;
                        order.push(class);
                    }
                }
            }
        }
        Some(order)
    }

    /// The price of all that the roots need under a choice.
    pub(super) fn cost(&self, chosen: &[Option<usize>]) -> Option<f64> {
        let order = self.order(chosen)?;
        order.iter().map(|&class| Some(self.nodes[class].get(chosen[class]?)?.0)).sum()
    }

    /// A choice as e-nodes.
    fn choice(&self, egraph: &TensorGraph, chosen: &[Option<usize>]) -> Choice {
        let nodes = self.ids.iter().zip(chosen);
        let node = |id: Id, pick: Option<usize>| egraph[id].nodes.get(pick?).cloned();
        Choice { nodes: nodes.filter_map(|(&id, &pick)| Some((id, node(id, pick)?))).collect() }
    }

    /// The class of a number.
    pub(super) fn id(&self, class: usize) -> Id {
        self.ids[class]
    }

    /// How many ways there are to compute a class.
    pub(super) fn ways(&self, class: usize) -> usize {
        self.nodes[class].len()
    }

    /// The price of one of them.
    pub(super) fn price(&self, class: usize, pick: usize) -> f64 {
        self.nodes[class][pick].0
    }

    /// A choice as numbers of e-nodes.
    pub(super) fn picks(&self, egraph: &TensorGraph, choice: &Choice) -> Vec<Option<usize>> {
        let pick = |&id: &Id| {
            let node = choice.nodes.get(&id)?;
            egraph[id].nodes.iter().position(|other| other == node)
        };
        self.ids.iter().map(pick).collect()
    }

    /// The cost if one class is computed in another way and all others as they are; `None` if that is
    /// no way to compute it.
    pub(super) fn with(&self, chosen: &[Option<usize>], class: usize, pick: usize) -> Option<f64> {
        let mut chosen = chosen.to_vec();
        chosen[class] = Some(pick);
        self.cost(&chosen)
    }

    /// [`Table::with`] after all others were chosen anew, as long as the class is used then.
    pub(super) fn forced(
        &self,
        chosen: &[Option<usize>],
        class: usize,
        pick: usize,
    ) -> Option<f64> {
        let mut chosen = chosen.to_vec();
        chosen[class] = Some(pick);
        let cost = self.search(&mut chosen, Some(class))?;
        self.order(&chosen)?.contains(&class).then_some(cost)
    }

    /// Changes one class at a time, but for a fixed one, while the whole gets cheaper.
    fn search(&self, chosen: &mut [Option<usize>], fixed: Option<usize>) -> Option<f64> {
        for _ in 0..ROUNDS {
            let mut improved = false;
            let mut state = InUse::of(self, chosen)?;
            for class in self.order(chosen)? {
                // Earlier changes may have left it without users.
                if state.users[class] == 0 || fixed == Some(class) {
                    continue;
                }
                for pick in 0..self.nodes[class].len() {
                    improved |=
                        chosen[class] != Some(pick) && state.change(self, chosen, class, pick);
                }
            }
            if !improved {
                break;
            }
        }
        self.cost(chosen)
    }
}

/// Which classes a choice uses, and how often.
struct InUse {
    /// Chosen e-nodes in use, and roots, that use each class.
    users: Vec<usize>,
    /// Walks for cycles.
    seen: Seen,
}

impl InUse {
    fn of(table: &Table, chosen: &[Option<usize>]) -> Option<Self> {
        let count = table.ids.len();
        let seen = Seen { round: 0, rounds: vec![0; count] };
        let mut state = InUse { users: vec![0; count], seen };
        for &root in &table.roots {
            state.acquire(table, chosen, root)?;
        }
        Some(state)
    }

    /// Takes another e-node for a class if the whole gets cheaper by that; whether it did.
    fn change(
        &mut self,
        table: &Table,
        chosen: &mut [Option<usize>],
        class: usize,
        pick: usize,
    ) -> bool {
        let before = chosen[class];
        let Some((old, new)) = before.and_then(|before| {
            Some((table.nodes[class].get(before)?, table.nodes[class].get(pick)?))
        }) else {
            return false;
        };
        if self.reaches(table, chosen, &new.1, class) {
            return false;
        }
        // What the new e-node needs is taken before what the old one needed is let go, so that what
        // both need stays.
        let taken = self.acquire_all(table, chosen, &new.1);
        let freed = self.release_all(table, chosen, &old.1);
        let (Some(taken), Some(freed)) = (taken, freed) else { return false };
        let gain = old.0 + freed - new.0 - taken;
        if gain > GAIN * (old.0 + freed).abs() {
            chosen[class] = Some(pick);
            return true;
        }
        self.acquire_all(table, chosen, &old.1);
        self.release_all(table, chosen, &new.1);
        false
    }

    /// Whether a class is among what these need under a choice.
    fn reaches(
        &mut self,
        table: &Table,
        chosen: &[Option<usize>],
        operands: &[usize],
        class: usize,
    ) -> bool {
        self.seen.round += 1;
        let mut pending = operands.to_vec();
        while let Some(next) = pending.pop() {
            if next == class {
                return true;
            }
            if self.seen.is_new(next)
                && let Some((_, operands)) =
                    chosen[next].and_then(|pick| table.nodes[next].get(pick))
            {
                pending.extend(operands);
            }
        }
        false
    }

    fn acquire_all(
        &mut self,
        table: &Table,
        chosen: &[Option<usize>],
        operands: &[usize],
    ) -> Option<f64> {
        operands.iter().map(|&operand| self.acquire(table, chosen, operand)).sum()
    }

    fn release_all(
        &mut self,
        table: &Table,
        chosen: &[Option<usize>],
        operands: &[usize],
    ) -> Option<f64> {
        operands.iter().map(|&operand| self.release(table, chosen, operand)).sum()
    }

    /// Counts one more user; the price of what is used for the first time by that.
    fn acquire(&mut self, table: &Table, chosen: &[Option<usize>], class: usize) -> Option<f64> {
        let (mut price, mut pending) = (0.0, vec![class]);
        while let Some(class) = pending.pop() {
            let users = self.users.get_mut(class)?;
            *users += 1;
            if *users == 1 {
                let (own, operands) = table.nodes[class].get(chosen[class]?)?;
                price += own;
                pending.extend(operands);
            }
        }
        Some(price)
    }

    /// Counts one user less; the price of what is no longer used.
    fn release(&mut self, table: &Table, chosen: &[Option<usize>], class: usize) -> Option<f64> {
        let (mut price, mut pending) = (0.0, vec![class]);
        while let Some(class) = pending.pop() {
            let users = self.users.get_mut(class)?;
            *users = users.checked_sub(1)?;
            if *users == 0 {
                let (own, operands) = table.nodes[class].get(chosen[class]?)?;
                price += own;
                pending.extend(operands);
            }
        }
        Some(price)
    }
}

/// Which classes were met in the current walk.
struct Seen {
    round: usize,
    rounds: Vec<usize>,
}

impl Seen {
    fn is_new(&mut self, class: usize) -> bool {
        std::mem::replace(&mut self.rounds[class], self.round) != self.round
    }
}

/// What a class needs if it is computed from these operands, if that costs less than `most`.
fn way_through(
    class: usize,
    price: f64,
    operands: &[usize],
    best: &[Option<Way>],
    seen: &mut Seen,
    most: f64,
) -> Option<(f64, Vec<(usize, f64)>)> {
    let limit = if most.is_finite() { most - GAIN * most.abs() } else { most };
    let mut total = price;
    let mut needs = vec![(class, price)];
    seen.round += 1;
    seen.is_new(class);
    for &operand in operands {
        for &(member, price) in &best.get(operand)?.as_ref()?.needs {
            // An operand that needs the class itself is no way to compute it.
            if member == class {
                return None;
            }
            if seen.is_new(member) {
                total += price;
                needs.push((member, price));
            }
        }
        if total >= limit {
            return None;
        }
    }
    (total < limit).then_some((total, needs))
}

impl Choice {
    /// The chosen operation of a class.
    pub fn node(&self, egraph: &TensorGraph, class: Id) -> Option<&TensorNode> {
        self.nodes.get(&egraph.find(class))
    }

    /// Adds what is chosen for the roots to a graph whose region inputs are bound to `inputs`; the
    /// values of the roots. `None` inside the error if the choice is incomplete.
    pub fn build(
        &self,
        egraph: &TensorGraph,
        roots: &[Id],
        graph: &mut Graph,
        inputs: &[ValueId],
    ) -> Result<Option<Vec<ValueId>>, GraphError> {
        let plain = Plain::of(egraph);
        let mut values: HashMap<Id, ValueId> = HashMap::new();
        let mut results = Vec::new();
        for &root in roots {
            let mut stack = vec![egraph.find(root)];
            while let Some(&class) = stack.last() {
                if values.contains_key(&class) {
                    stack.pop();
                    continue;
                }
                let Some(node) = self.nodes.get(&class) else { return Ok(None) };
                let children: Vec<Id> =
                    node.children().iter().map(|&child| egraph.find(child)).collect();
                let missing: Vec<Id> = children
                    .iter()
                    .rev()
                    .copied()
                    .filter(|child| !values.contains_key(child))
                    .collect();
                if !missing.is_empty() {
                    stack.extend(missing);
                    continue;
                }
                let value = match egraph.analysis.head(node.op) {
                    Head::Input(number) => match inputs.get(*number) {
                        Some(&value) => value,
                        None => return Ok(None),
                    },
                    Head::Op(op, bodies) => {
                        let source = source(egraph, &plain, class, op, &children);
                        let operands: Vec<ValueId> =
                            children.iter().map(|child| values[child]).collect();
                        let added =
                            graph.add_node(op.clone(), &operands, bodies.clone(), source)?;
                        match added.as_slice() {
                            &[value] => value,
                            _ => return Ok(None),
                        }
                    }
                };
                values.insert(class, value);
                stack.pop();
            }
            match values.get(&egraph.find(root)) {
                Some(&value) => results.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(results))
    }
}

/// Where an operation came from; a fused one came from all that it does, first to last.
fn source(egraph: &TensorGraph, plain: &Plain, class: Id, op: &Op, cut: &[Id]) -> Option<Arc<str>> {
    let of = |class: Id| egraph.analysis.sources.get(&egraph.find(class));
    if !matches!(op, Op::Fused(_)) {
        return of(class).cloned();
    }
    let members = plain.body(egraph, class, cut)?.members;
    let mut sources: Vec<&str> = Vec::new();
    for source in members.iter().rev().filter_map(|&member| of(member)) {
        if !sources.contains(&&**source) {
            sources.push(source);
        }
    }
    (!sources.is_empty()).then(|| sources.join(JOINT).into())
}

#[cfg(test)]
mod tests;
