//! Machine code of a plan's kernels, in parallel.
//!
//! Invariant: which kernels share an object depends on the plan alone, so the number of threads
//! that compile changes no byte.

use crate::{Backend, CancelToken, CompileOptions, Error};
use kiln_backends::nest::Capabilities;
use kiln_backends::{CodeGenerator, Cranelift, Target, Unit};
use kiln_passes::{Effort, Plan, TileTarget};
use kiln_program::{Architecture, CodeVariant};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kernels in one object: enough to repay a context of MLIR, few enough to spread over cores.
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
        fma: seen.has("fma"),
        bytes: backend == Backend::Llvm && Capabilities::full(&seen).dot.is_some(),
        l1: seen.machine.l1d_bytes,
        l2: seen.machine.l2_bytes,
        l3: seen.machine.l3_bytes_per_core,
        cores: if cores == 0 { seen.machine.cores } else { cores },
    }
}

/// Code for all kernels of a plan.
pub(crate) fn code(
    generator: &dyn CodeGenerator,
    plan: &Plan,
    target: &Target,
    cancel: &CancelToken,
) -> Result<CodeVariant, Error> {
    let units: Vec<Unit<'_>> = plan
        .kernels
        .iter()
        .zip(&plan.program.kernels)
        .map(|(planned, entry)| Unit {
            kernel: &planned.kernel,
            schedule: &planned.schedule,
            symbol: &entry.symbol,
        })
        .collect();
    let pieces: Vec<&[Unit<'_>]> = units.chunks(UNITS).collect();
    let objects = in_parallel(&pieces, |piece| {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(generator.compile(piece, target)?)
    })?;
    Ok(CodeVariant {
        architecture: architecture(target),
        features: target.features.iter().cloned().collect(),
        objects: objects.into_iter().map(|object| object.bytes).collect(),
    })
}

fn architecture(target: &Target) -> Architecture {
    if target.triple.starts_with(Architecture::Aarch64.name()) {
        Architecture::Aarch64
    } else {
        Architecture::X86_64
    }
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
pub(crate) fn notes(options: &CompileOptions, target: &Target) -> BTreeMap<String, String> {
    let dims: Vec<String> =
        options.dims.iter().map(|(name, size)| format!("{name}={size}")).collect();
    let mut notes = BTreeMap::from([
        ("kiln".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("backend".to_owned(), options.backend.to_string()),
        ("cpu".to_owned(), target.cpu.clone()),
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
