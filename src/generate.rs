//! Machine code of a plan's kernels, in parallel.
//!
//! Invariant: a kernel's object depends on the kernel, its schedule and the target alone, so neither the
//! number of threads that compile nor what was compiled before changes a byte.

use crate::cache::{CacheUse, KernelCache, Key};
use crate::{Backend, CancelToken, CompileOptions, Error};
use kiln_backends::nest::Capabilities;
use kiln_backends::{CodeGenerator, CodegenError, Cranelift, Target, Unit};
use kiln_ir::schedule::Schedule;
use kiln_passes::{Effort, Plan, TileTarget};
use kiln_program::{CodeVariant, Partition};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kernels that are compiled together: enough to repay a context of MLIR, few enough to spread over cores.
const UNITS: usize = 8;

/// The code generator of a backend.
pub(crate) fn generator(backend: Backend) -> Result<Box<dyn CodeGenerator>, Error> {
    match backend {
        #[cfg(feature = "llvm")]
        Backend::Llvm => Ok(Box::new(kiln_backends::Llvm)),
        Backend::Cranelift => Ok(Box::new(Cranelift)),
        Backend::Reference => Err(Error::NoCode),
        #[cfg(not(feature = "llvm"))]
        Backend::Llvm => Err(Error::NoBackend(backend)),
    }
}

/// The target as schedules for this backend should see it.
pub(crate) fn tile_target(backend: Backend, target: &Target, threads: usize) -> TileTarget {
    let seen = match backend {
        Backend::Cranelift => Cranelift.schedule_target(target),
        Backend::Llvm | Backend::Reference => target.clone(),
    };
    let cores = u32::try_from(threads).unwrap_or(u32::MAX);
    TileTarget {
        vector_bits: seen.vector_bits,
        vector_registers: seen.vector_registers,
        fma: seen.fuses_multiply_add(),
        bytes: backend == Backend::Llvm && Capabilities::full(&seen).dot.is_some(),
        l1: seen.machine.l1d_bytes,
        l2: seen.machine.l2_bytes,
        l3: seen.machine.l3_bytes_per_core,
        cores: if cores == 0 { seen.machine.cores } else { cores },
    }
}

/// Code for all kernels of a plan under these schedules, one for each, and how much of it the cache had.
pub(crate) fn code(
    generator: &dyn CodeGenerator,
    plan: &Plan,
    schedules: &[Cow<'_, Schedule>],
    target: &Target,
    cache: Option<&KernelCache>,
    cancel: &CancelToken,
) -> Result<(CodeVariant, CacheUse), Error> {
    let units = units(plan, schedules);
    let found = kept(generator, &units, target, cache)?;
    let missing: Vec<Unit<'_>> = units
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_none())
        .map(|(unit, _)| *unit)
        .collect();
    let compiled = compile(generator, &missing, target, cache, cancel)?;
    let used = CacheUse {
        found: units.len() - missing.len(),
        compiled: missing.len(),
        fault: cache.and_then(KernelCache::take_fault),
    };
    let mut compiled = compiled.into_iter();
    let objects = found.into_iter().filter_map(|found| found.or_else(|| compiled.next())).collect();
    let partitions = plan.kernels.iter().zip(schedules);
    let partitions = partitions.map(|(planned, schedule)| planned.partition(schedule)).collect();
    Ok((variant(target, objects, partitions)?, used))
}

/// Code for a target.
pub(crate) fn variant(
    target: &Target,
    objects: Vec<Vec<u8>>,
    partitions: Vec<Partition>,
) -> Result<CodeVariant, Error> {
    let features = target.features.iter().cloned().collect();
    let architecture = target.architecture().ok_or_else(|| CodegenError::Target {
        generator: "kiln",
        triple: target.triple.clone(),
        cpu: target.cpu.clone(),
        reason: "its architecture is neither x86_64 nor aarch64".to_owned(),
    })?;
    Ok(CodeVariant { architecture, features, objects, partitions })
}

/// The schedules that a plan has for its kernels.
pub(crate) fn own_schedules(plan: &Plan) -> Vec<Cow<'_, Schedule>> {
    plan.kernels.iter().map(|planned| Cow::Borrowed(&planned.schedule)).collect()
}

/// Schedules for a plan's kernels on another target, around the layouts of their constants.
pub(crate) fn other_schedules(plan: &Plan, target: &TileTarget) -> Vec<Cow<'static, Schedule>> {
    plan.kernels.iter().map(|planned| Cow::Owned(planned.reschedule(target))).collect()
}

/// What is to be compiled of a plan under these schedules: each function once.
pub(crate) fn units<'a>(plan: &'a Plan, schedules: &'a [Cow<'_, Schedule>]) -> Vec<Unit<'a>> {
    let mut symbols = BTreeSet::new();
    plan.kernels
        .iter()
        .zip(schedules)
        .zip(&plan.program.kernels)
        .filter(|(_, entry)| symbols.insert(entry.symbol.as_str()))
        .map(|((planned, schedule), entry)| Unit {
            kernel: &planned.kernel,
            schedule,
            symbol: &entry.symbol,
        })
        .collect()
}

/// The code of units as far as a cache has it.
pub(crate) fn kept(
    generator: &dyn CodeGenerator,
    units: &[Unit<'_>],
    target: &Target,
    cache: Option<&KernelCache>,
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let Some(cache) = cache else { return Ok(vec![None; units.len()]) };
    in_parallel(&units.iter().collect::<Vec<_>>(), |unit| {
        Ok(Key::of(generator, target, unit).and_then(|key| cache.find(&key)))
    })
}

/// Compiles units, and leaves their code in a cache.
pub(crate) fn compile(
    generator: &dyn CodeGenerator,
    units: &[Unit<'_>],
    target: &Target,
    cache: Option<&KernelCache>,
    cancel: &CancelToken,
) -> Result<Vec<Vec<u8>>, Error> {
    let pieces: Vec<&[Unit<'_>]> = units.chunks(UNITS).collect();
    let compiled = in_parallel(&pieces, |piece| {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let objects = generator.compile(piece, target)?;
        if let Some(cache) = cache {
            for (unit, object) in piece.iter().zip(&objects) {
                if let Some(key) = Key::of(generator, target, unit) {
                    cache.keep(&key, &object.bytes);
                }
            }
        }
        Ok(objects)
    })?;
    if let Some(cache) = cache.filter(|_| !units.is_empty()) {
        cache.trim();
    }
    Ok(compiled.into_iter().flatten().map(|object| object.bytes).collect())
}

/// Compiles the pieces on as many threads as there are cores; the results are in order, and of
/// several errors the first in order is given.
pub(crate) fn in_parallel<P: Copy + Sync, T: Send>(
    pieces: &[P],
    compile: impl Fn(P) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<T, Error>>> = Mutex::default();
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&piece) = pieces.get(number) else { return };
            let result = compile(piece);
            if result.is_err() {
                // Nobody starts another piece; those that run come to their end.
                next.fetch_max(pieces.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(number, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces.len()) {
            scope.spawn(work);
        }
        work();
    });
    let done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.into_values().collect()
}

/// What an artefact says of how it was made: nothing that differs between equal compilations.
pub(crate) fn notes(options: &CompileOptions, targets: &[&Target]) -> BTreeMap<String, String> {
    let dims: Vec<String> =
        options.dims.iter().map(|(name, size)| format!("{name}={size}")).collect();
    let cpus: Vec<&str> = targets.iter().map(|target| target.cpu.as_str()).collect();
    let mut notes = BTreeMap::from([
        ("kiln".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("backend".to_owned(), options.backend.to_string()),
        ("cpu".to_owned(), cpus.join(", ")),
    ]);
    let effort = match options.effort {
        Effort::Off => Some("off"),
        Effort::Greedy => Some("greedy"),
        Effort::Full => None,
    };
    if let Some(effort) = effort {
        notes.insert("egraph".to_owned(), effort.to_owned());
    }
    if !dims.is_empty() {
        notes.insert("dims".to_owned(), dims.join(" "));
    }
    notes
}
