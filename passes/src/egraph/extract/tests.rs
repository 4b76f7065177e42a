//! Extraction against the best of all choices.
//!
//! Invariant: e-graphs are small enough to try every choice.

use super::*;
use crate::egraph::language::{Knowledge, add_input, add_op};
use kiln_ir::TensorType;
use kiln_ir::op::{Binary, BinaryFn, Unary, UnaryFn};
use kiln_tensor::{DType, Dim};

fn random(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize % limit
}

/// An e-graph of a few classes, merged at random (cycles included), with random prices.
fn made_up(seed: u64) -> (TensorGraph, Vec<Id>) {
    let mut state = seed;
    let mut egraph = TensorGraph::new(Knowledge::default());
    let ty = TensorType::new(DType::F32, vec![Dim::from(3i64)]);
    let mut ids = vec![add_input(&mut egraph, ty, None)];
    for _ in 0..9 {
        let a = ids[random(&mut state, ids.len())];
        let b = ids[random(&mut state, ids.len())];
        let id = if random(&mut state, 2) == 0 {
            let f = UnaryFn::ALL[random(&mut state, 5)];
            add_op(&mut egraph, Unary { f }, &[a])
        } else {
            let f = [BinaryFn::Add, BinaryFn::Mul][random(&mut state, 2)];
            add_op(&mut egraph, Binary { f }, &[a, b])
        };
        ids.push(id.unwrap());
    }
    for _ in 0..3 {
        let (a, b) = (random(&mut state, ids.len() - 1) + 1, random(&mut state, ids.len() - 1) + 1);
        egraph.union(ids[a], ids[b]);
    }
    egraph.rebuild();
    let roots = vec![ids[9], ids[7]];
    (egraph, roots)
}

impl Table {
    /// The least cost of those of all choices that are wanted: exponential in the number of classes.
    fn exhaustive(&self, wanted: impl Fn(&[Option<usize>]) -> bool) -> Option<f64> {
        let mut chosen = vec![Some(0); self.ids.len()];
        let mut least: Option<f64> = None;
        loop {
            if let Some(cost) = self.cost(&chosen).filter(|_| wanted(&chosen)) {
                least = Some(least.map_or(cost, |least: f64| least.min(cost)));
            }
            let mut class = 0;
            loop {
                let Some(slot) = chosen.get_mut(class) else { return least };
                let next = slot.map_or(0, |pick| pick + 1);
                if next < self.nodes[class].len() {
                    *slot = Some(next);
                    break;
                }
                *slot = Some(0);
                class += 1;
            }
        }
    }
}

/// A price from 1 to 20 that depends on the class.
fn priced(seed: u64) -> impl Fn(&TensorGraph, Id, &TensorNode) -> f64 {
    move |_, class, node| {
        let mut state = usize::from(class) as u64 * 31 + node.children().len() as u64 + seed;
        1.0 + random(&mut state, 20) as f64
    }
}

#[test]
fn what_is_forced_is_used_and_costs_no_less_than_the_best_with_it() {
    let (mut forced, mut best) = (0, 0);
    for seed in 0..60 {
        let (egraph, roots) = made_up(seed);
        let price = priced(seed);
        let Some((choice, _)) = extract(&egraph, &roots, &price) else { continue };
        let table = Table::of(&egraph, &roots, &price);
        let chosen = table.picks(&egraph, &choice);
        for class in table.order(&chosen).unwrap() {
            for pick in (0..table.ways(class)).filter(|&pick| chosen[class] != Some(pick)) {
                let Some(total) = table.forced(&chosen, class, pick) else { continue };
                let uses = |chosen: &[Option<usize>]| {
                    let order = table.order(chosen);
                    chosen[class] == Some(pick) && order.is_some_and(|used| used.contains(&class))
                };
                let least = table.exhaustive(uses).unwrap();
                assert!(total >= least - 1e-9, "{seed}: {total} is below {least}");
                (forced, best) = (forced + 1, best + usize::from(total <= least + 1e-9));
            }
        }
    }
    assert!(forced > 50 && best * 10 >= forced * 8, "{best} of {forced}");
}

#[test]
fn greedy_choice_and_local_search_come_close_to_the_best() {
    let mut exact = 0;
    let cases = 200;
    for seed in 0..cases {
        let (egraph, roots) = made_up(seed);
        let price = priced(seed);
        let best = Table::of(&egraph, &roots, &price).exhaustive(|_| true);
        let found = extract(&egraph, &roots, &price).map(|(_, cost)| cost);
        match (best, found) {
            (Some(best), Some(found)) => {
                assert!(found >= best - 1e-9, "{seed}: {found} is below {best}");
                assert!(found <= 1.3 * best, "{seed}: {found} is far above {best}");
                exact += usize::from(found <= best + 1e-9);
            }
            (best, found) => assert_eq!(best, found, "{seed}"),
        }
    }
    assert!(exact * 10 >= cases as usize * 9, "only {exact} of {cases} are the best");
}

/// `a = exp x or abs b`, `b = log x or neg c`, `c = sin a`: the choices that were cheapest when
/// they were made lead from `a` to `b` to `c` and back to `a`.
#[test]
fn choices_that_come_to_need_each_other_are_taken_back() {
    let mut egraph = TensorGraph::new(Knowledge::default());
    let ty = TensorType::new(DType::F32, vec![Dim::from(3i64)]);
    let x = add_input(&mut egraph, ty, None);
    let mut unary = |f: UnaryFn, x: Id| add_op(&mut egraph, Unary { f }, &[x]).unwrap();
    let (a, b) = (unary(UnaryFn::Exp, x), unary(UnaryFn::Log, x));
    let c = unary(UnaryFn::Sin, a);
    let (other_a, other_b) = (unary(UnaryFn::Abs, b), unary(UnaryFn::Neg, c));
    egraph.union(a, other_a);
    egraph.union(b, other_b);
    egraph.rebuild();
    let price = |egraph: &TensorGraph, _: Id, node: &TensorNode| match egraph.analysis.head(node.op)
    {
        Head::Op(kiln_ir::Op::Unary(unary), _) => match unary.f {
            UnaryFn::Exp => 10.0,
            UnaryFn::Log => 5.0,
            _ => 1.0,
        },
        _ => 0.0,
    };
    let found = extract(&egraph, &[c], &price).map(|(_, cost)| cost);
    assert_eq!(found, Some(7.0));
}
