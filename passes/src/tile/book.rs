//! Schedules that were measured to be better than the model's, by the kernels that they are for.
//!
//! Invariant: what is looked up is legal for the kernel that asks, whatever was entered.

use super::{Identity, legal};
use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::Schedule;
use std::collections::{BTreeMap, BTreeSet};

/// Doublings of sizes up to which a schedule is taken over from another kernel of the family.
const NEAR: f64 = 2.0;

/// Schedules by the identities of kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    families: BTreeMap<String, Vec<(Identity, Schedule)>>,
}

impl Book {
    /// Enters a schedule, in place of another for the same kernel.
    pub fn enter(&mut self, kernel: Identity, schedule: Schedule) {
        let family = self.families.entry(kernel.family.clone()).or_default();
        family.retain(|(other, _)| *other != kernel);
        family.push((kernel, schedule));
    }

    /// The schedule of a kernel, or of the nearest one of its family.
    pub fn find(&self, kernel: &Kernel, constants: &BTreeSet<usize>) -> Option<&Schedule> {
        if self.families.is_empty() {
            return None;
        }
        let identity = Identity::of(kernel, constants);
        let family = self.families.get(&identity.family)?;
        let near = family.iter().filter_map(|(other, schedule)| {
            let distance = identity.distance(other)?;
            let fits = distance <= NEAR && fits(kernel, constants, schedule);
            fits.then_some((distance, other, schedule))
        });
        // Of two that are equally near, one by its sizes: not by the order in which they came.
        let nearest = near.min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        nearest.map(|(_, _, schedule)| schedule)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }
}

/// Whether a schedule can be that of a kernel: it is legal, and lays out constants only.
pub fn fits(kernel: &Kernel, constants: &BTreeSet<usize>, schedule: &Schedule) -> bool {
    let constant = |operand: &usize| {
        let shape = kernel.operands.get(*operand).map(|operand| &operand.shape);
        constants.contains(operand)
            && shape.is_some_and(|shape| shape.iter().all(|dim| dim.as_const().is_some()))
    };
    schedule.packing.iter().all(|packing| constant(&packing.operand))
        && legal(kernel, schedule).is_ok()
}
