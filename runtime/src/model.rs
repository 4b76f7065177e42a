//! A loaded model: validated program, mapped code, weights in place.
//!
//! Invariant: nothing but its kernels' code ever changes, each from one version to another that computes the
//! same, so any number of threads may run it at once, each in a session of its own.

use crate::execution::Prepared;
use crate::host;
use crate::kernel::{Kernel, Version};
use crate::loader::{self, LoadError, LoadedCode};
use kiln_program::{
    Artefact, ArtefactError, Buffer, CodeVariant, Location, Partition, Program, ProgramError,
    WeightRange, check_partitions,
};
use kiln_tensor::{ALIGNMENT, Storage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thiserror::Error;

/// Why a model cannot be loaded.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// The program contradicts itself.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The code cannot be linked.
    #[error(transparent)]
    Code(#[from] LoadError),
    /// There is no code for this machine.
    #[error(
        "the model holds no code that this machine can run, only {}; compile it for this machine",
        .obstacles.join("; ")
    )]
    NoCode {
        /// What stands against each version.
        obstacles: Vec<String>,
    },
    /// A constant's bytes were not given.
    #[error("no weights were given for {range:?}")]
    MissingWeights {
        /// Where the program expects them.
        range: WeightRange,
    },
    /// A constant had to be moved to an aligned place, and there was no memory.
    #[error("no memory for a constant of {0} bytes")]
    Memory(u64),
}

/// Where constants come from.
#[derive(Clone, Debug)]
pub enum Weights {
    /// The weight section of an artefact.
    Section(Storage),
    /// Constants by their offset in the section that an artefact would have. They may lie
    /// anywhere, e.g. in the mapped file that the model came from.
    Pieces(BTreeMap<u64, Storage>),
}

impl Weights {
    fn length(&self) -> u64 {
        match self {
            Weights::Section(section) => section.len() as u64,
            Weights::Pieces(pieces) => pieces
                .iter()
                .map(|(offset, piece)| offset.saturating_add(piece.len() as u64))
                .max()
                .unwrap_or(0),
        }
    }

    fn piece(&self, range: WeightRange) -> Option<Storage> {
        let length = usize::try_from(range.length).ok()?;
        if length == 0 {
            return Storage::zeroed(0);
        }
        let (storage, offset) = match self {
            Weights::Section(section) => (section, usize::try_from(range.offset).ok()?),
            Weights::Pieces(pieces) => (pieces.get(&range.offset)?, 0),
        };
        if offset == 0 && storage.len() == length {
            return Some(storage.clone());
        }
        Storage::shared(Arc::new(Window(storage.clone())), offset, length)
    }
}

/// A storage as an owner of bytes.
struct Window(Storage);

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A model that is ready to run.
#[derive(Debug)]
pub struct LoadedModel {
    program: Program,
    prepared: Prepared,
    kernels: Vec<Kernel>,
    /// For each buffer the constant that it is, if it is one.
    constants: Vec<Option<Storage>>,
    /// Bytes of machine code.
    code_size: AtomicUsize,
    /// How often kernels were given better code.
    improvements: AtomicUsize,
}

impl LoadedModel {
    /// Maps and checks a compiled model.
    ///
    /// Its code runs with this process' rights: open only what you would run as a program.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_artefact(&Artefact::open(path)?)
    }

    /// Loads what an artefact holds; the weights stay where they are.
    pub fn from_artefact(artefact: &Artefact) -> Result<Self, ModelError> {
        let code: Vec<CodeVariant<&[u8]>> = artefact.code().collect();
        Self::new(artefact.program().clone(), &code, &Weights::Section(artefact.weights()))
    }

    /// Loads a program with its code (the first version that this machine can run) and weights.
    pub fn new<B: AsRef<[u8]>>(
        program: Program,
        code: &[CodeVariant<B>],
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        program.validate(weights.length())?;
        let (objects, partitions): (Vec<&[u8]>, &[Partition]) =
            match code.iter().find(|v| host::obstacle(v).is_none()) {
                Some(variant) => {
                    let objects = variant.objects.iter().map(AsRef::as_ref).collect();
                    (objects, variant.partitions.as_slice())
                }
                None if program.kernels.is_empty() => (Vec::new(), &[]),
                None => {
                    let obstacles = code.iter().filter_map(host::obstacle).collect();
                    return Err(ModelError::NoCode { obstacles });
                }
            };
        check_partitions(&program, partitions)?;
        let code = Arc::new(LoadedCode::load(&objects)?);
        let kernels = program
            .kernels
            .iter()
            .zip(partitions)
            .map(|(kernel, partition)| {
                let function = code.entry(&kernel.symbol)?;
                Ok::<_, LoadError>(Kernel::new(Version::new(function, partition.clone(), &code)))
            })
            .collect::<Result<_, _>>()?;
        let constants = program
            .buffers
            .iter()
            .map(|buffer| constant(buffer, weights))
            .collect::<Result<_, _>>()?;
        let prepared = Prepared::new(&program);
        let code_size = AtomicUsize::new(code.size());
        let improvements = AtomicUsize::new(0);
        Ok(LoadedModel { program, prepared, kernels, constants, code_size, improvements })
    }

    /// Gives kernels other code, with which they run from their next launch on, also in sessions that are
    /// running. A kernel takes better code once; what it is given later is not used.
    ///
    /// `kernels` are numbers of kernels of the program, each with how this code cuts up its work, and the
    /// object is code for this machine that computes what they compute, on operands in the same layouts: like
    /// all code it runs with this process' rights.
    pub fn improve(&self, object: &[u8], kernels: &[(usize, Partition)]) -> Result<(), ModelError> {
        for (number, partition) in kernels {
            let entry = self.program.kernels.get(*number).ok_or_else(|| ProgramError {
                place: "better code".to_owned(),
                reason: format!("there is no kernel {number}"),
            })?;
            partition.check(entry)?;
        }
        let code = Arc::new(LoadedCode::load(&[object])?);
        let entry = |number: usize| code.entry(&self.program.kernels[number].symbol);
        let functions = kernels.iter().map(|(number, _)| entry(*number));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        let mut used = false;
        for (function, (number, partition)) in functions.into_iter().zip(kernels) {
            used |= self.kernels[*number].improve(Version::new(function, partition.clone(), &code));
        }
        if used {
            self.code_size.fetch_add(code.size(), Ordering::Relaxed);
            self.improvements.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Names, types and shapes of the inputs, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Buffer)> {
        self.ports(&self.program.inputs)
    }

    /// Names, types and shapes of the outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &Buffer)> {
        self.ports(&self.program.outputs)
    }

    fn ports<'a>(
        &'a self,
        ports: &'a [kiln_program::Port],
    ) -> impl Iterator<Item = (&'a str, &'a Buffer)> {
        ports
            .iter()
            .filter_map(|port| Some((port.name.as_str(), self.program.buffer(port.buffer)?)))
    }

    /// Bytes of machine code.
    pub fn code_size(&self) -> usize {
        self.code_size.load(Ordering::Relaxed)
    }

    pub(crate) fn improvements(&self) -> usize {
        self.improvements.load(Ordering::Acquire)
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(crate) fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    pub(crate) fn constants(&self) -> &[Option<Storage>] {
        &self.constants
    }
}

/// Checks that a version of the code, which may be for another machine, is one of a program: that it links, and has
/// each of the program's kernels.
pub fn check<B: AsRef<[u8]>>(program: &Program, code: &CodeVariant<B>) -> Result<(), ModelError> {
    check_partitions(program, &code.partitions)?;
    let objects: Vec<&[u8]> = code.objects.iter().map(AsRef::as_ref).collect();
    let symbols = program.kernels.iter().map(|kernel| kernel.symbol.as_str());
    Ok(loader::check(&objects, code.architecture, symbols)?)
}

/// The bytes of a constant, aligned as kernels expect; `None` for other buffers.
fn constant(buffer: &Buffer, weights: &Weights) -> Result<Option<Storage>, ModelError> {
    let Location::Weights(range) = buffer.location else { return Ok(None) };
    let storage = weights.piece(range).ok_or(ModelError::MissingWeights { range })?;
    if (storage.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
        return Ok(Some(storage));
    }
    // Bytes of some other file need not lie at multiples of 64.
    Storage::copy_of(&storage).map(Some).ok_or(ModelError::Memory(range.length))
}
