//! Tuning: schedules of a model's kernels, measured on the machine at hand.
//!
//! Invariant: a schedule is used only where a run of a whole model was faster with it; what was
//! measured is kept even if the search is cut short, and is not measured again.
//!
//! 1. The model runs as it is, which tells what each kernel costs in it.
//! 2. Where most is to gain, schedules are drawn (`search`), compiled and timed by turns with the
//!    model's own (`measure`) in a process of its own (`worker`).
//! 3. The model is compiled with the fastest ones and runs by turns with itself as it was
//!    (`trial`); what is faster there is kept.
//!
//! Several processes share this out by [`Ranks`]: each searches some of the kernels, all hear what the
//! others found, and rank 0 tries it.

mod database;
mod measure;
#[cfg(feature = "mpi")]
mod mpi;
mod page;
mod ranks;
mod record;
mod search;
mod trial;
mod worker;

pub use database::{Database, DatabaseError};
pub use measure::{Answer, Request};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use page::{Peaks, page};
pub use ranks::{Alone, Ranks, RanksError};
pub use record::{Outcome, Record};
pub use worker::{Program, Worker, WorkerError, serve};

use crate::generate::tile_target;
use crate::statistics::median;
use crate::{Backend, CancelToken, Compiler, Error, Model, RunSettings, Source};
use kiln_backends::Target;
use kiln_ir::schedule::Schedule;
use kiln_passes::TileTarget;
use kiln_passes::tile::Identity;
use kiln_runtime::LaunchRecord;
use kiln_tensor::Tensor;
use search::{Launch, Search};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trial::Trial;
use xxhash_rust::xxh3::xxh3_64;

/// What measurements hold for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Who makes the code.
    pub backend: Backend,
    /// The machine.
    pub target: Target,
    /// Threads of a run.
    pub threads: usize,
}

impl Setting {
    /// What a compiler's code will run on; `threads` 0 is one for each core of the target.
    pub fn new(backend: Backend, target: &Target, threads: usize) -> Self {
        let threads = if threads == 0 { target.machine.cores as usize } else { threads };
        Setting { backend, target: target.clone(), threads }
    }

    /// A name that equal settings share: what records are told apart by.
    pub fn key(&self) -> String {
        let Setting { backend, target, threads } = self;
        // A structure of plain data always has JSON.
        let all = serde_json::to_vec(target).unwrap_or_default();
        format!("{backend} {} {threads} {:016x}", target.cpu, xxh3_64(&all))
    }
}

/// The version that records are told apart by: code and schedules of another are not comparable.
pub const VERSION: &str = kiln_backends::REVISION;

/// Choices about tuning.
#[derive(Clone, Debug)]
pub struct TuneOptions {
    /// When to stop.
    pub budget: Duration,
    /// What measures: see [`serve`].
    pub program: Program,
    /// Draws begin here.
    pub seed: u64,
    /// Ends the search before its time; what was found by then is tried.
    pub enough: CancelToken,
}

/// What is told while a search runs.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Since the beginning.
    pub elapsed: Duration,
    /// The kernel in hand; nothing while whole models run.
    pub kernel: Option<&'a str>,
    /// Schedules that were measured.
    pub measured: usize,
    /// How much faster the model would be by what was found so far.
    pub speedup: f64,
}

/// What came of tuning.
#[derive(Clone, Debug, Serialize)]
pub struct TuneReport {
    /// Schedules that were measured, and those of them that cannot be used.
    pub measured: usize,
    /// Schedules that cannot be used.
    pub failed: usize,
    /// Milliseconds of a run before, with what was known then.
    pub before_ms: f64,
    /// Milliseconds of a run by turns with that, with what is known now.
    pub after_ms: f64,
    /// Processes that searched.
    pub ranks: usize,
    /// The kernels, the costliest first.
    pub kernels: Vec<KernelReport>,
}

/// One kernel of [`TuneReport`].
#[derive(Clone, Debug, Serialize)]
pub struct KernelReport {
    /// The kernel, as its records name it.
    pub kernel: Identity,
    /// Its name.
    pub name: String,
    /// The model's nodes that it computes, by their names.
    pub nodes: Vec<String>,
    /// Values of its size parameters where it costs most.
    pub params: Vec<i64>,
    /// Milliseconds in a run before.
    pub ms: f64,
    /// Floating-point operations in a run.
    pub flops: i64,
    /// Bytes that it reads and writes at least in a run.
    pub bytes: i64,
    /// The rank that searched it.
    pub rank: usize,
    /// Schedules that were measured this time.
    pub measured: usize,
    /// The fastest one's time by itself as a share of that of the model's schedule, if any was ever
    /// measured.
    pub alone: Option<f64>,
    /// Its time in the model as a share of what it was before, if it was tried there.
    pub in_model: Option<f64>,
    /// Whether it is kept.
    pub kept: bool,
}

/// Schedules that are compiled and measured together.
const BATCH: usize = 8;
/// How long a batch is measured.
const BATCH_TIME: Duration = Duration::from_millis(600);
/// How long models run by turns at the end, at most.
const TRIAL_TIME: Duration = Duration::from_secs(3);
/// How long compiling and the first runs of a batch may go on beyond the end of the search.
const GRACE: Duration = Duration::from_secs(2);
/// Kernels below this share of a run are left alone.
const SHARE: f64 = 0.002;
/// What takes less than this share of the time of another counts as faster.
const FASTER: f64 = 0.98;
/// Traced runs before the search.
const RUNS: usize = 5;

/// Tunes the kernels of a model for inputs like those that are given.
pub struct Tuner<'a> {
    compiler: &'a Compiler,
    source: &'a Source,
    model: &'a Model,
    inputs: &'a [Tensor],
    options: &'a TuneOptions,
    setting: Setting,
    target: TileTarget,
    ranks: &'a dyn Ranks,
}

impl<'a> Tuner<'a> {
    /// A tuner of `model`, which `compiler` made of `source`.
    pub fn new(
        compiler: &'a Compiler,
        source: &'a Source,
        model: &'a Model,
        inputs: &'a [Tensor],
        options: &'a TuneOptions,
    ) -> Self {
        let setting = compiler.setting();
        let target = tile_target(setting.backend, &setting.target, setting.threads);
        Tuner { compiler, source, model, inputs, options, setting, target, ranks: &Alone }
    }

    /// The same as one of several processes, which are given the same model, inputs and options.
    pub fn with(self, ranks: &'a dyn Ranks) -> Self {
        Tuner { ranks, ..self }
    }

    /// Searches until the budget is over, and keeps in the database what was found.
    pub fn tune(
        &self,
        database: &mut Database,
        observer: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<TuneReport, Error> {
        let begin = Instant::now();
        let mut searches = self.searches(database)?;
        // Compiling once or twice more and the trials come at the end.
        let total: f64 = searches.iter().map(|search| search.launch.cost).sum();
        let run = Duration::from_nanos(total as u64);
        let again = (self.model.phases().total() + self.trial_time().max(run * trial::LEAST)) * 2;
        let until = self.options.budget.saturating_sub(again);
        let shares = self.shares(&searches)?;
        let mut worker = Worker::new(self.options.program.clone());
        let (mut measured, mut failed) = (0, 0);
        let mut found: Vec<Record> = Vec::new();
        while begin.elapsed() < until && !self.options.enough.is_cancelled() {
            let worth =
                |search: &&mut Search| search.launch.cost > SHARE * total && !search.exhausted;
            let own = searches.iter_mut().zip(&shares);
            let own = own.filter(|(_, rank)| **rank == self.ranks.rank()).map(|(search, _)| search);
            let candidates = own.filter(worth);
            let most = candidates.max_by(|a, b| a.promise().total_cmp(&b.promise()));
            let Some(search) = most else { break };
            let schedules = search.draw(&self.target, BATCH);
            if schedules.is_empty() {
                continue;
            }
            let left = until.saturating_sub(begin.elapsed());
            let (answers, model_ns) = self.ask(&mut worker, search, &schedules, left)?;
            search.learn(&schedules, &answers);
            let outcomes = answers.into_iter().map(|answer| match answer {
                Answer::Timed { ns, ratio } => Some(Outcome::Measured { ns, model_ns, ratio }),
                Answer::Failed { reason } => Some(Outcome::Failed { reason }),
                Answer::Untried => None,
            });
            let records = schedules.into_iter().zip(outcomes);
            let records: Vec<Record> = records
                .filter_map(|(schedule, outcome)| Some(self.record(search, schedule, outcome?)))
                .collect();
            let unusable = |record: &&Record| matches!(record.outcome, Outcome::Failed { .. });
            measured += records.len();
            failed += records.iter().filter(unusable).count();
            found.extend_from_slice(&records);
            let name = search.planned.kernel.name.clone();
            // What is faster here may be so for others of the family.
            searches.iter_mut().for_each(|search| search.hear(&records));
            database.extend(records)?;
            let left: f64 = searches.iter().map(|search| search.launch.cost * search.gain()).sum();
            let speedup = total / left.max(1.0);
            let elapsed = begin.elapsed();
            observer(&Progress { elapsed, kernel: Some(&name), measured, speedup });
        }
        drop(worker);
        self.hear(&mut searches, found, database)?;
        let counts = ranks::exchange(self.ranks, &(measured, failed))?;
        let asked: Vec<usize> = searches.iter().map(|search| search.asked).collect();
        for (rank, asked) in ranks::exchange(self.ranks, &asked)?.into_iter().enumerate() {
            let other = rank != self.ranks.rank();
            searches.iter_mut().zip(asked).filter(|_| other).for_each(|(s, more)| s.asked += more);
        }
        let measured = counts.iter().map(|(measured, _)| measured).sum();
        let failed = counts.iter().map(|(_, failed)| failed).sum();
        let speedup = 1.0;
        observer(&Progress { elapsed: begin.elapsed(), kernel: None, measured, speedup });
        // The others wait: where they share a machine, they would be in the way.
        let tried = match self.ranks.rank() {
            0 => Some(self.trials(database, &searches)?),
            _ => None,
        };
        let kept = tried.as_ref().map(|(trial, kept)| {
            let records = kept.iter().filter_map(|&number| {
                let search = &searches[number];
                let ratio = trial.ratio(number)? * search.current();
                Some(self.record(search, search.fastest().1.clone(), Outcome::Kept { ratio }))
            });
            records.collect()
        });
        self.hear(&mut searches, kept.unwrap_or_default(), database)?;
        let (trial, kept) = match tried {
            Some(tried) => tried,
            None => (Trial::none(searches.len()), BTreeSet::new()),
        };
        let mut kernels: Vec<KernelReport> = searches
            .iter()
            .enumerate()
            .map(|(number, search)| KernelReport {
                kernel: search.identity.clone(),
                name: search.planned.kernel.name.clone(),
                nodes: search.launch.nodes.clone(),
                params: search.launch.params.clone(),
                ms: search.launch.cost / 1e6,
                flops: search.launch.work.0,
                bytes: search.launch.work.1,
                rank: shares[number],
                measured: search.asked,
                alone: search.is_known().then(|| search.fastest().0),
                in_model: search.found().and_then(|_| trial.ratio(number)),
                kept: kept.contains(&number),
            })
            .collect();
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let (before_ms, after_ms) = trial.milliseconds();
        let ranks = self.ranks.count();
        Ok(TuneReport { measured, failed, before_ms, after_ms, ranks, kernels })
    }

    /// Which rank searches each kernel, by what rank 0 measured.
    fn shares(&self, searches: &[Search]) -> Result<Vec<usize>, Error> {
        let costs: Vec<f64> = searches.iter().map(|search| search.launch.cost).collect();
        let all = ranks::exchange(self.ranks, &costs)?;
        let Some((costs, others)) = all.split_first() else { return Ok(Vec::new()) };
        for (rank, theirs) in (1..).zip(others) {
            if theirs.len() != costs.len() {
                let (theirs, ours) = (theirs.len(), costs.len());
                return Err(RanksError::Kernels { rank, theirs, ours }.into());
            }
        }
        Ok(ranks::shares(costs, self.ranks.count()))
    }

    /// Tells the others what this rank found, and takes in what they did: into the searches, and into the
    /// database, one rank after the other, since it may be one file.
    fn hear(
        &self,
        searches: &mut [Search],
        found: Vec<Record>,
        database: &mut Database,
    ) -> Result<(), Error> {
        let all: Vec<Record> = ranks::exchange(self.ranks, &found)?.into_iter().flatten().collect();
        searches.iter_mut().for_each(|search| search.hear(&all));
        for rank in 0..self.ranks.count() {
            if rank == self.ranks.rank() {
                if self.ranks.count() > 1 {
                    *database = Database::open(database.path())?;
                }
                database.extend(all.iter().cloned())?;
            }
            ranks::exchange(self.ranks, &())?;
        }
        Ok(())
    }

    /// A search for each kernel of the model, with what the kernel costs in a run.
    fn searches(&self, database: &Database) -> Result<Vec<Search>, Error> {
        let compilation = self.model.compilation().ok_or(Error::NoCode)?;
        let key = self.setting.key();
        let records: Vec<&Record> = database
            .records()
            .iter()
            .filter(|record| record.target == key && record.version == VERSION)
            .collect();
        let kernels = &compilation.plan().kernels;
        let mut launches = vec![Launch::default(); kernels.len()];
        let mut times = vec![Vec::new(); kernels.len()];
        let begin = Instant::now();
        for number in 0..RUNS {
            // Of a slow model one run has to do.
            if number > 0 && begin.elapsed() > self.options.budget / 10 {
                break;
            }
            let mut now = vec![0.0; kernels.len()];
            launches.iter_mut().for_each(|launch| launch.work = (0, 0));
            let mut trace = |record: &LaunchRecord<'_>| {
                let Some(launch) = launches.get_mut(record.kernel) else { return };
                now[record.kernel] += record.duration.as_secs_f64() * 1e9;
                if !launch.nodes.iter().any(|node| node == record.source) {
                    launch.nodes.push(record.source.to_owned());
                }
                launch.work.0 = launch.work.0.saturating_add(record.flops);
                launch.work.1 = launch.work.1.saturating_add(record.bytes);
                // Of launches with other sizes, the one that does most.
                if launch.params.len() != record.params.len() || launch.flops < record.flops {
                    launch.params = record.params.to_vec();
                    (launch.flops, launch.bytes) = (record.flops, record.bytes);
                }
            };
            let settings = RunSettings { trace: Some(&mut trace), ..RunSettings::default() };
            self.model.run_with(self.inputs, settings)?;
            times.iter_mut().zip(now).for_each(|(times, now)| times.push(now));
        }
        let launches = launches
            .into_iter()
            .zip(times)
            .map(|(launch, times)| Launch { cost: median(&times).unwrap_or(0.0), ..launch });
        let searches = (0..)
            .zip(kernels.iter().zip(launches))
            .map(|(number, (planned, launch))| {
                let seed = self.options.seed ^ number;
                Search::new(planned, &self.target, launch, &records, seed)
            })
            .collect();
        Ok(searches)
    }

    /// What comes of schedules of a kernel, and the time of the model's own in nanoseconds; `left` is the
    /// time until the search ends.
    fn ask(
        &self,
        worker: &mut Worker,
        search: &Search,
        schedules: &[Schedule],
        left: Duration,
    ) -> Result<(Vec<Answer>, f64), Error> {
        let mut all = vec![search.model.clone()];
        all.extend_from_slice(schedules);
        let request = Request {
            setting: self.setting.clone(),
            kernel: search.planned.kernel.clone(),
            params: search.launch.params.clone(),
            schedules: all,
            time: left.min(BATCH_TIME),
        };
        let mut answers = worker.ask(&request, Instant::now() + left + GRACE)?;
        let first = (!answers.is_empty()).then(|| answers.remove(0));
        let Some(Answer::Timed { ns: model_ns, .. }) = first else {
            // What cannot be compared with the model's own is not known to be unusable.
            return Ok((vec![Answer::Untried; answers.len()], 0.0));
        };
        Ok((answers, model_ns))
    }

    fn record(&self, search: &Search, schedule: Schedule, outcome: Outcome) -> Record {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Record {
            target: self.setting.key(),
            version: VERSION.to_owned(),
            kernel: search.identity.clone(),
            name: search.planned.kernel.name.clone(),
            params: search.launch.params.clone(),
            flops: search.launch.flops,
            bytes: search.launch.bytes,
            schedule,
            outcome,
            time: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The model with what was found by turns with itself, and once more without what was slower there
    /// than alone; what is kept in the end.
    fn trials(
        &self,
        database: &Database,
        searches: &[Search],
    ) -> Result<(Trial, BTreeSet<usize>), Error> {
        let found = |&number: &usize| searches[number].found().is_some();
        let all: BTreeSet<usize> = (0..searches.len()).filter(found).collect();
        let first = self.trial(database, searches, &all)?;
        let faster = first.faster(&all);
        let (trial, wanted) = match faster.len() == all.len() {
            true => (first, all),
            false => (self.trial(database, searches, &faster)?, faster),
        };
        // Other models will have these kernels, too: none that was slower in what decided.
        let kept = if trial.pays() { trial.faster(&wanted) } else { BTreeSet::new() };
        Ok((trial, kept))
    }

    /// How long models run by turns at the end, each time.
    fn trial_time(&self) -> Duration {
        (self.options.budget / 10).min(TRIAL_TIME)
    }

    fn trial(
        &self,
        database: &Database,
        searches: &[Search],
        wanted: &BTreeSet<usize>,
    ) -> Result<Trial, Error> {
        if wanted.is_empty() {
            return Trial::run(self.model, None, self.inputs, searches.len(), self.trial_time());
        }
        let mut book = database.book(&self.setting.key(), VERSION);
        for &number in wanted {
            if let Some(schedule) = searches[number].found() {
                book.enter(searches[number].identity.clone(), schedule.clone());
            }
        }
        let tuned = self.compiler.clone().schedules(book).compile(self.source.clone())?;
        Trial::run(self.model, Some(&tuned), self.inputs, searches.len(), self.trial_time())
    }
}
