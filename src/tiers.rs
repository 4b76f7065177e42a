//! Models that run on quickly made code at once, and move to better code kernel by kernel.
//!
//! Invariant: both versions of a kernel belong to one program, with one layout of weights and buffers. What a
//! model is saved as does not depend on how far it has moved.

use crate::cache::{CacheUse, KernelCache, Key};
use crate::{Backend, CancelToken, Error, generate};
use kiln_backends::{CodeGenerator, CodegenError, Target, Unit};
use kiln_passes::{Plan, TileTarget};
use kiln_program::{CodeVariant, Partition};
use kiln_runtime::LoadedModel;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How far a model has moved from the code that it started with to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// Kernels of the program.
    pub kernels: usize,
    /// Those of them that run the best code that they will.
    pub best: usize,
    /// Those that have no better code, since it could not be made: [`Model::wait`](crate::Model::wait) says why.
    pub failed: usize,
}

impl Tiers {
    /// Whether nothing will change any more.
    pub fn is_final(&self) -> bool {
        self.best + self.failed == self.kernels
    }
}

/// The kernels of a program whose better code is still to be made.
pub(crate) struct Rest {
    generator: Box<dyn CodeGenerator>,
    plan: Arc<Plan>,
    target: Target,
    cache: Option<Arc<KernelCache>>,
    cancel: CancelToken,
    /// For each function the numbers of its kernels.
    functions: Vec<Vec<usize>>,
    /// The code of functions, once it is there.
    objects: Vec<Option<Vec<u8>>>,
}

/// Code to start with: what the cache has of the generator's, and otherwise Cranelift's under schedules of its
/// own. And what is left to be made.
pub(crate) fn first(
    generator: Box<dyn CodeGenerator>,
    plan: &Arc<Plan>,
    quick: &TileTarget,
    target: &Target,
    cache: Option<Arc<KernelCache>>,
    cancel: &CancelToken,
) -> Result<(CodeVariant, Rest), Error> {
    let best = generate::own_schedules(plan);
    let units = generate::units(plan, &best);
    let objects = generate::kept(&*generator, &units, target, cache.as_deref())?;
    let mut functions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, entry) in plan.program.kernels.iter().enumerate() {
        functions.entry(&entry.symbol).or_default().push(number);
    }
    let functions: Vec<Vec<usize>> =
        units.iter().map(|unit| functions.remove(unit.symbol).unwrap_or_default()).collect();

    let other = generate::other_schedules(plan, quick);
    let mut partitions = plan.partitions();
    let mut missing = Vec::new();
    for ((unit, kernels), found) in units.iter().zip(&functions).zip(&objects) {
        if found.is_none()
            && let Some(&number) = kernels.first()
        {
            missing.push(Unit { schedule: &other[number], ..*unit });
            for &number in kernels {
                partitions[number] = plan.kernels[number].partition(&other[number]);
            }
        }
    }
    let simple = generate::generator(Backend::Cranelift)?;
    let mut objects = objects;
    let made = match generate::compile(&*simple, &missing, target, None, cancel) {
        Err(Error::Codegen(_)) => {
            // What Cranelift cannot do, the generator may.
            let whole = generate::compile(&*generator, &units, target, cache.as_deref(), cancel)?;
            objects = whole.into_iter().map(Some).collect();
            partitions = plan.partitions();
            Vec::new()
        }
        made => made?,
    };
    let mut made = made.into_iter();
    let start = objects.iter().filter_map(|found| found.clone().or_else(|| made.next())).collect();
    let variant = generate::variant(target, start, partitions)?;
    let (plan, target, cancel) = (Arc::clone(plan), target.clone(), cancel.clone());
    Ok((variant, Rest { generator, plan, target, cache, cancel, functions, objects }))
}

impl Rest {
    /// How much of the best code was there before.
    pub(crate) fn cached(&self) -> CacheUse {
        let found = self.objects.iter().flatten().count();
        CacheUse { found, compiled: self.objects.len() - found, fault: None }
    }
}

/// Threads that make better code for a model, which end with it.
pub(crate) struct Improvement {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    rest: Rest,
    model: Arc<LoadedModel>,
    /// Once the model is not used any more.
    end: CancelToken,
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    /// Functions that nobody has begun, the costliest last.
    open: Vec<usize>,
    /// Functions that somebody has begun.
    begun: usize,
    /// By functions, as they come.
    objects: Vec<Option<Vec<u8>>>,
    /// Functions without better code, and why the first of them has none.
    failed: Vec<usize>,
    error: Option<CodegenError>,
    /// Why code could not be kept.
    fault: Option<String>,
}

impl Improvement {
    /// Begins to make what is left for a model.
    pub(crate) fn start(mut rest: Rest, model: Arc<LoadedModel>) -> Self {
        let mut launches = vec![0.0; rest.plan.kernels.len()];
        rest.plan.program.each_launch(&mut |kernel, _| launches[kernel] += 1.0);
        let cost = |function: usize| -> f64 {
            let kernels = rest.functions[function].iter();
            kernels.map(|&number| launches[number] * rest.plan.kernels[number].predicted).sum()
        };
        let mut open: Vec<usize> = (0..rest.objects.len()).collect();
        open.retain(|&function| rest.objects[function].is_none());
        open.sort_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        let left = open.len();
        let objects = std::mem::take(&mut rest.objects);
        let (failed, error, fault) = (Vec::new(), None, None);
        let state = Mutex::new(State { open, begun: 0, objects, failed, error, fault });
        let (end, news) = (CancelToken::new(), Condvar::new());
        let shared = Arc::new(Shared { rest, model, end, state, news });
        // One less than there are cores, for somebody waits for the model's own results.
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        let threads = (0..left.min((cores - 1).max(1)))
            .filter_map(|_| {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name("kiln-tiers".to_owned());
                builder.spawn(move || shared.run()).ok()
            })
            .collect();
        Improvement { shared, threads }
    }

    /// How far it is.
    pub(crate) fn tiers(&self) -> Tiers {
        let state = self.shared.lock();
        let Rest { plan, functions, .. } = &self.shared.rest;
        let done = functions.iter().zip(&state.objects).filter(|(_, object)| object.is_some());
        Tiers {
            kernels: plan.kernels.len(),
            best: done.map(|(kernels, _)| kernels.len()).sum(),
            failed: state.failed.iter().map(|&function| functions[function].len()).sum(),
        }
    }

    /// Why code could not be kept for the next time, if it could not so far.
    pub(crate) fn fault(&self) -> Option<String> {
        self.shared.lock().fault.clone()
    }

    /// Waits until all is made; the best code of all kernels.
    pub(crate) fn finish(&self) -> Result<CodeVariant, Error> {
        // Where no thread could be started, this one does their work.
        if self.threads.is_empty() {
            self.shared.run();
        }
        let mut state = self.shared.lock();
        loop {
            if self.shared.rest.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if state.open.is_empty() && state.begun == 0 {
                break;
            }
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(error) = &state.error {
            return Err(error.clone().into());
        }
        let objects = state.objects.iter().flatten().cloned().collect();
        let Rest { plan, target, .. } = &self.shared.rest;
        generate::variant(target, objects, plan.partitions())
    }
}

impl Drop for Improvement {
    fn drop(&mut self) {
        self.shared.end.cancel();
        // What is being made is made to its end: a library cannot be stopped.
        for thread in self.threads.drain(..) {
            // One that panicked has nothing more to do, either.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Improvement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tiers().fmt(f)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            if self.end.is_cancelled() || self.rest.cancel.is_cancelled() {
                break;
            }
            let Some(function) = state.open.pop() else { break };
            state.begun += 1;
            drop(state);
            // Whoever waits shall hear of a panic, too.
            let made = catch_unwind(AssertUnwindSafe(|| self.make(function)));
            let made = made.unwrap_or_else(|_| {
                let generator = self.rest.generator.name();
                let message = "it panicked".to_owned();
                Err(CodegenError::Library { generator, phase: "compiling", message })
            });
            let mut state = self.lock();
            state.begun -= 1;
            match made {
                Ok(object) => state.objects[function] = Some(object),
                Err(error) => {
                    state.failed.push(function);
                    state.error.get_or_insert(error);
                }
            }
            drop(state);
            if let Some(fault) = self.rest.cache.as_ref().and_then(|cache| cache.take_fault()) {
                self.lock().fault.get_or_insert(fault);
            }
            self.news.notify_all();
        }
        // Whoever gives up early has kept something, too.
        if let Some(cache) = &self.rest.cache {
            cache.trim();
        }
        self.news.notify_all();
    }

    /// Makes the code of a function and moves its kernels to it.
    fn make(&self, function: usize) -> Result<Vec<u8>, CodegenError> {
        let Rest { generator, plan, target, cache, functions, .. } = &self.rest;
        let kernels = &functions[function];
        let failed = |message: String| CodegenError::Library {
            generator: generator.name(),
            phase: "moving to its code",
            message,
        };
        let first = kernels.first().ok_or_else(|| failed("a function of no kernel".to_owned()))?;
        let planned = &plan.kernels[*first];
        let unit = Unit {
            kernel: &planned.kernel,
            schedule: &planned.schedule,
            symbol: &plan.program.kernels[*first].symbol,
        };
        let object = generator.compile(&[unit], target)?.into_iter().next();
        let object = object.ok_or_else(|| failed("there is none".to_owned()))?.bytes;
        let cut = |&number: &usize| {
            let planned = &plan.kernels[number];
            (number, planned.partition(&planned.schedule))
        };
        let kernels: Vec<(usize, Partition)> = kernels.iter().map(cut).collect();
        self.model.improve(&object, &kernels).map_err(|error| failed(error.to_string()))?;
        if let Some((cache, key)) = cache.as_ref().zip(Key::of(&**generator, target, &unit)) {
            cache.keep(&key, &object);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests;
