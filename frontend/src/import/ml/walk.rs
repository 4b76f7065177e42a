//! The way down all trees at once: every row is at one node of each tree, and goes on from all of
//! them in one step.
//!
//! Invariant: after as many steps as the deepest tree has levels, every place is a leaf.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::loops::repeated;
use super::super::node::Use;
use super::attributes::{places, table};
use super::forest::relation::{EQUAL, GREATER, LESS, NEITHER};
use super::forest::{Columns, Forest};
use kiln_ir::op::{self, BinaryFn};
use kiln_tensor::{DType, Dim};

/// Up to this many levels there is no loop.
const MOST_UNROLLED: usize = 6;

/// The leaf that each row reaches in each tree: `[rows, trees]`, counted from the first leaf.
pub(super) fn leaves(x: &mut Use<'_, '_, '_>, v: V, forest: &Forest) -> Result<V, Fault> {
    let shape = x.shape(v);
    if let Some((most, least)) = forest.features() {
        let beyond = shape[1].as_const().is_some_and(|features| most >= features);
        if beyond || least < 0 {
            let (feature, ty) = (if least < 0 { least } else { most }, x.ty(v));
            return Err(Fault::malformed(format!("there is no feature {feature} in {ty}")));
        }
    }
    let columns = forest.columns();
    let roots = places(x, &columns.roots)?;
    let start = x.broadcast(roots, vec![shape[0].clone(), Dim::from(forest.trees())])?;
    let relations = forest.relations();
    let step = |x: &mut Use<'_, '_, '_>, at: V| level(x, v, at, &columns, relations);
    let mut at = start;
    if forest.depth <= MOST_UNROLLED {
        for _ in 0..forest.depth {
            at = step(x, at)?;
        }
    } else {
        at = repeated(x, forest.depth, start, &[v], step)?;
    }
    x.with_number(BinaryFn::Sub, at, forest.first_leaf() as f64)
}

/// One step from everywhere.
fn level(
    x: &mut Use<'_, '_, '_>,
    v: V,
    at: V,
    columns: &Columns,
    relations: Option<i64>,
) -> Result<V, Fault> {
    let of_node = |x: &mut Use<'_, '_, '_>, table: V| x.add(op::Gather { axis: 0 }, &[table, at]);
    let feature = places(x, &columns.feature)?;
    let feature = of_node(x, feature)?;
    let values = x.add(op::GatherElements { axis: 1 }, &[v, feature])?;
    let dtype = x.dtype(v);
    let threshold = table(x, dtype, vec![columns.threshold.len()], &columns.threshold)?;
    let threshold = of_node(x, threshold)?;
    let simple = match relations {
        Some(LESS) => Some(BinaryFn::Less),
        Some(EQUAL) => Some(BinaryFn::Equal),
        Some(GREATER) => Some(BinaryFn::Greater),
        Some(both) if both == LESS | EQUAL => Some(BinaryFn::LessEqual),
        Some(both) if both == GREATER | EQUAL => Some(BinaryFn::GreaterEqual),
        _ => None,
    };
    let taken = match simple {
        Some(f) => x.binary(f, values, threshold)?,
        None => {
            let mut found = x.scalar(DType::I64, NEITHER as f64)?;
            let relations =
                [(BinaryFn::Less, LESS), (BinaryFn::Equal, EQUAL), (BinaryFn::Greater, GREATER)];
            for (f, bit) in relations {
                let holds = x.binary(f, values, threshold)?;
                let bit = x.scalar(DType::I64, bit as f64)?;
                found = x.select(holds, bit, found)?;
            }
            let wanted = places(x, &columns.relations)?;
            let wanted = of_node(x, wanted)?;
            let common = x.binary(BinaryFn::BitAnd, wanted, found)?;
            x.with_number(BinaryFn::Greater, common, 0.0)?
        }
    };
    let (yes, no) = (places(x, &columns.yes)?, places(x, &columns.no)?);
    let (yes, no) = (of_node(x, yes)?, of_node(x, no)?);
    x.select(taken, yes, no)
}
