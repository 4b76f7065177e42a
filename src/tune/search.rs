//! The search through the schedules of one kernel.
//!
//! Invariant: asks for no schedule twice, and knows what earlier searches found; the draws repeat, but
//! what they are compared by is measured.
//!
//! What was faster for kernels of the same family comes first, the nearest sizes before others. Then a walk
//! from the best schedules that are known, a few choices at a time: mostly one, sometimes more, to leave
//! the neighbourhood of one that no single choice improves.

use super::FASTER;
use super::measure::Answer;
use super::record::{Outcome, Record};
use fastrand::Rng;
use kiln_ir::schedule::Schedule;
use kiln_passes::TileTarget;
use kiln_passes::plan::PlannedKernel;
use kiln_passes::tile::{Identity, Space, fits, tile};
use std::collections::HashSet;

/// Schedules that new ones are drawn from.
const PARENTS: usize = 4;
/// Draws for each schedule that is wanted.
const DRAWS: usize = 16;
/// Schedules of other kernels that wait to be tried.
const OTHERS: usize = 8;

/// What the launches of a kernel are in a run of the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Launch {
    /// Values of its size parameters where it does most.
    pub(super) params: Vec<i64>,
    /// The model's nodes that they are for.
    pub(super) nodes: Vec<String>,
    /// Operations and bytes of that launch.
    pub(super) flops: i64,
    pub(super) bytes: i64,
    /// Operations and bytes of all launches of a run.
    pub(super) work: (i64, i64),
    /// Time of all launches of a run, in nanoseconds.
    pub(super) cost: f64,
}

/// One kernel while it is searched.
pub(super) struct Search {
    pub(super) planned: PlannedKernel,
    pub(super) identity: Identity,
    pub(super) launch: Launch,
    /// The model's own schedule, which all ratios are to.
    pub(super) model: Schedule,
    /// The fastest that are known, the fastest first.
    best: Vec<(f64, Schedule)>,
    /// The time of the schedule that the model runs with, as a share of that of the model's own.
    own: f64,
    /// What was faster for other kernels of the family, by how far their sizes are and the ratio there.
    others: Vec<(f64, f64, Schedule)>,
    tried: HashSet<u64>,
    random: Rng,
    /// Schedules that were measured in this search, or found to be unusable.
    pub(super) asked: usize,
    /// Rounds since the last improvement.
    stale: u32,
    /// Whether there is nothing left to draw.
    pub(super) exhausted: bool,
}

impl Search {
    pub(super) fn new(
        planned: &PlannedKernel,
        target: &TileTarget,
        launch: Launch,
        records: &[&Record],
        seed: u64,
    ) -> Self {
        let identity = Identity::of(&planned.kernel, &planned.constants);
        let model = tile(&planned.kernel, &planned.constants, target);
        let mut search = Search {
            planned: planned.clone(),
            identity,
            launch,
            tried: HashSet::from([Record::fingerprint(&model)]),
            best: vec![(1.0, model.clone())],
            own: 1.0,
            others: Vec::new(),
            model,
            random: Rng::with_seed(seed),
            asked: 0,
            stale: 0,
            exhausted: false,
        };
        search.hear(records.iter().copied());
        search
    }

    /// Takes in what was found out about this kernel, and about others of its family; the same kernel at other
    /// sizes is another.
    pub(super) fn hear<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) {
        for record in records {
            if record.kernel != self.identity || record.params != self.launch.params {
                self.consider(record);
                continue;
            }
            self.tried.insert(Record::fingerprint(&record.schedule));
            // A record may say anything.
            if !fits(&self.planned.kernel, &self.planned.constants, &record.schedule) {
                continue;
            }
            if let Outcome::Measured { ratio, .. } = record.outcome {
                self.rank(ratio, &record.schedule);
            }
        }
    }

    /// Has a schedule tried that was faster for another kernel of the family, if there is none better to try.
    fn consider(&mut self, record: &Record) {
        let ratio = match record.outcome {
            Outcome::Measured { ratio, .. } | Outcome::Kept { ratio } if ratio < FASTER => ratio,
            _ => return,
        };
        let Some(distance) = self.identity.distance(&record.kernel) else { return };
        let order = |other: &(f64, f64, Schedule)| {
            other.0.total_cmp(&distance).then(other.1.total_cmp(&ratio)).is_le()
        };
        let place = self.others.partition_point(order);
        let known = self.others.iter().any(|(.., schedule)| *schedule == record.schedule)
            || self.tried.contains(&Record::fingerprint(&record.schedule));
        let (kernel, constants) = (&self.planned.kernel, &self.planned.constants);
        if place < OTHERS && !known && fits(kernel, constants, &record.schedule) {
            self.others.insert(place, (distance, ratio, record.schedule.clone()));
            self.others.truncate(OTHERS);
            self.exhausted = false;
        }
    }

    fn rank(&mut self, ratio: f64, schedule: &Schedule) {
        if ratio.is_finite() && *schedule == self.planned.schedule {
            self.own = ratio;
        }
        if !ratio.is_finite() || self.best.iter().any(|(_, known)| known == schedule) {
            return;
        }
        let place = self.best.partition_point(|(other, _)| *other <= ratio);
        self.best.insert(place, (ratio, schedule.clone()));
        self.best.truncate(PARENTS);
    }

    /// The fastest schedule, and its time as a share of the model's.
    pub(super) fn fastest(&self) -> (f64, &Schedule) {
        match self.best.first() {
            Some((ratio, schedule)) => (*ratio, schedule),
            None => (1.0, &self.model),
        }
    }

    /// Whether any other schedule was measured, now or in an earlier search.
    pub(super) fn is_known(&self) -> bool {
        self.best.iter().any(|(_, schedule)| *schedule != self.model)
    }

    /// The time of the schedule that the model runs with, as a share of that of the model's own.
    pub(super) fn current(&self) -> f64 {
        self.own
    }

    /// The time of the fastest schedule as a share of that of the one that the model runs with.
    pub(super) fn gain(&self) -> f64 {
        (self.fastest().0 / self.current()).min(1.0)
    }

    /// A schedule that is faster than the one that the model runs with, if one was found.
    pub(super) fn found(&self) -> Option<&Schedule> {
        let (_, schedule) = self.fastest();
        (self.gain() < FASTER && *schedule != self.planned.schedule).then_some(schedule)
    }

    /// What there may be to gain next, in nanoseconds of a run: the cost, less with each round that
    /// found nothing.
    pub(super) fn promise(&self) -> f64 {
        self.launch.cost * self.gain() * 0.7f64.powi(self.stale as i32)
    }

    /// Up to so many schedules that were not tried yet; none if there are no more.
    pub(super) fn draw(&mut self, target: &TileTarget, count: usize) -> Vec<Schedule> {
        let space = Space::of(&self.planned.kernel, &self.planned.constants, target);
        let mut drawn = Vec::new();
        // What the model runs with may come from another kernel.
        if self.tried.insert(Record::fingerprint(&self.planned.schedule)) {
            drawn.push(self.planned.schedule.clone());
        }
        // Half of them, since others were not found for these sizes.
        let others = self.others.len().min(count / 2);
        for (.., schedule) in self.others.drain(..others) {
            if self.tried.insert(Record::fingerprint(&schedule)) {
                drawn.push(schedule);
            }
        }
        for _ in 0..count * DRAWS {
            if drawn.len() == count {
                break;
            }
            // The better, the more often; further away the longer nothing was found.
            let parent = self.random.usize(..self.best.len()).min(self.random.usize(..PARENTS));
            let far = 1 + self.stale.min(4) as usize;
            let steps = 1 + self.random.usize(..far).min(self.random.usize(..far + 1));
            let Some((_, from)) = self.best.get(parent) else { continue };
            let schedule = space.walk(from, steps, &mut self.random);
            if self.tried.insert(Record::fingerprint(&schedule)) {
                drawn.push(schedule);
            }
        }
        self.exhausted = drawn.is_empty();
        drawn
    }

    /// Learns what came of schedules, the answers in the same order.
    pub(super) fn learn(&mut self, schedules: &[Schedule], answers: &[Answer]) {
        let before = self.fastest().0;
        self.asked += answers.iter().filter(|answer| **answer != Answer::Untried).count();
        for (schedule, answer) in schedules.iter().zip(answers) {
            if let Answer::Timed { ratio, .. } = answer {
                self.rank(*ratio, schedule);
            }
        }
        let better = self.fastest().0 < before * FASTER;
        self.stale = if better { 0 } else { self.stale.saturating_add(1) };
    }
}
