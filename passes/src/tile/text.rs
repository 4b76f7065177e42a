//! The text form of a schedule, with the names of its kernel's axes and operands.
//!
//! Invariant: shows everything that a schedule says, one line a task box, stage or packing.

use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::{Part, PointsPlace, Schedule, WHOLE};
use std::fmt::Write;

/// A schedule as text, for people.
pub fn describe(kernel: &Kernel, schedule: &Schedule) -> String {
    let mut text = String::from("task");
    for (axis, &points) in kernel.outer.iter().zip(&schedule.task) {
        let _ = match points {
            WHOLE => write!(text, " {}:whole", axis.name),
            points => write!(text, " {}:{points}", axis.name),
        };
    }
    if let Some(axis) = schedule.fastest {
        let name = kernel.outer.get(axis).map_or_else(|| format!("#{axis}"), |a| a.name.clone());
        let _ = write!(text, " fastest {name}");
    }
    if schedule.points == PointsPlace::Last {
        text.push_str(", its points last in temporaries");
    }
    text.push('\n');
    for (number, (stage, how)) in kernel.stages.iter().zip(&schedule.stages).enumerate() {
        let name = |axis: usize| {
            kernel
                .axes(stage)
                .nth(axis)
                .map_or_else(|| format!("#{axis}"), |axis| axis.name.clone())
        };
        let _ = write!(text, "stage {number}");
        for level in &how.loops {
            let _ = write!(text, " {}:{}", name(level.axis), level.step);
        }
        if let Some(vector) = how.vector {
            let _ = write!(text, " vector {}x{}", name(vector.axis), vector.lanes);
        }
        text.push('\n');
    }
    for packing in &schedule.packing {
        let operand = kernel.operands.get(packing.operand);
        let name = operand.map_or_else(|| format!("#{}", packing.operand), |o| o.name.clone());
        let _ = write!(text, "pack {name}");
        for (dim, part) in &packing.layout.levels {
            let _ = match part {
                Part::Whole => write!(text, " [{dim}]"),
                Part::Outer(block) => write!(text, " [{dim}/{block}]"),
                Part::Inner(block) => write!(text, " [{dim}%{block}]"),
            };
        }
        if packing.ahead > 0 {
            let _ = write!(text, " announced {} bytes before", packing.ahead);
        }
        text.push('\n');
    }
    text
}
