//! What was found out about one schedule of one kernel.
//!
//! Invariant: a record is complete by itself and never changes; equal records are one, so that
//! databases are merged by putting their lines together.

use kiln_ir::schedule::Schedule;
use kiln_passes::tile::Identity;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A line of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which machine, code generator and number of threads this holds for: see
    /// [`super::Setting::key`].
    pub target: String,
    /// The version of Kiln that made the code.
    pub version: String,
    /// The kernel.
    pub kernel: Identity,
    /// Its name, for people.
    pub name: String,
    /// Values of its size parameters when it was measured.
    pub params: Vec<i64>,
    /// Floating-point operations of the launch.
    pub flops: i64,
    /// Bytes that the launch reads and writes at least.
    pub bytes: i64,
    /// How it was run.
    pub schedule: Schedule,
    /// What came of it.
    pub outcome: Outcome,
    /// Milliseconds since 1970 when this was found out.
    pub time: u64,
}

/// What came of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was measured by itself, by turns with the model's schedule.
    Measured {
        /// Median nanoseconds of a launch.
        ns: f64,
        /// The same of the model's schedule.
        model_ns: f64,
        /// Its time as a share of that of the model's schedule; the median over turns.
        ratio: f64,
    },
    /// It made whole models faster: this is what compiling uses.
    Kept {
        /// Its time in a run of the whole model as a share of that of the model's schedule.
        ratio: f64,
    },
    /// It cannot be used.
    Failed {
        /// What went wrong.
        reason: String,
    },
}

impl Record {
    /// A number that equal schedules share, to tell which were tried.
    pub(super) fn fingerprint(schedule: &Schedule) -> u64 {
        let mut hasher = DefaultHasher::new();
        schedule.hash(&mut hasher);
        hasher.finish()
    }
}
