//! A compiled model that is not loaded yet: program, code, and the weights where the model has them.
//!
//! Invariant: weights are laid out as they are written, one at a time, or loaded, one on each core; until then
//! they lie in the mapped model file.

use crate::generate::in_parallel;
use crate::{CacheUse, Error, Model, Phase, Phases};
use kiln_passes::{Plan, Weight};
use kiln_program::{CodeVariant, Contents, Program, WeightRange};
use kiln_runtime::{LoadedModel, Weights};
use kiln_tensor::Storage;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What [`crate::Compiler::build`] made.
#[derive(Clone, Debug)]
pub struct Compilation {
    plan: Arc<Plan>,
    code: Vec<CodeVariant>,
    notes: BTreeMap<String, String>,
    phases: Phases,
    cached: CacheUse,
}

impl Compilation {
    pub(crate) fn new(
        plan: Arc<Plan>,
        code: Vec<CodeVariant>,
        notes: BTreeMap<String, String>,
        phases: Phases,
        cached: CacheUse,
    ) -> Self {
        Compilation { plan, code, notes, phases, cached }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.plan.program
    }

    /// The program with its kernels and their schedules.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the compiled model says of how it was made.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// How long each phase took.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// How much of the code was there before.
    pub fn cached(&self) -> &CacheUse {
        &self.cached
    }

    /// Kernels whose schedules were measured, here or for kernels of nearly their sizes.
    pub fn tuned(&self) -> usize {
        self.plan.kernels.iter().filter(|planned| planned.tuned).count()
    }

    /// Bytes of the weights in the layouts that kernels read.
    pub fn weight_bytes(&self) -> u64 {
        self.plan.weight_bytes()
    }

    /// Bytes of the objects.
    pub fn code_bytes(&self) -> u64 {
        self.code.iter().flat_map(|variant| &variant.objects).map(|code| code.len() as u64).sum()
    }

    /// Writes the compiled model to a file. At the path there is the old file or the whole new
    /// one, never a part.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.save_with(&self.code, path)
    }

    /// [`Compilation::save`] with other code for the same kernels.
    pub(crate) fn save_with(
        &self,
        code: &[CodeVariant],
        path: impl AsRef<Path>,
    ) -> Result<(), Error> {
        let contents = Contents { program: &self.plan.program, code, notes: &self.notes };
        let weights = self.plan.weights.iter().map(|weight| (weight.range, bytes(weight)));
        Ok(kiln_program::write(path.as_ref(), contents, weights)?)
    }

    /// Loads the compiled model to run it here, on `threads` threads (0: as many as repay).
    pub fn into_model(mut self, threads: usize) -> Result<Model, Error> {
        let mut phases = std::mem::take(&mut self.phases);
        let loaded = phases.run(Phase::Load, || {
            let weights: Vec<&Weight> = self.plan.weights.iter().collect();
            let pieces =
                in_parallel(&weights, |weight| Ok((weight.range.offset, in_memory(weight)?)))?;
            let pieces: BTreeMap<u64, Storage> = pieces.into_iter().collect();
            let program = self.plan.program.clone();
            Ok::<_, Error>(LoadedModel::new(program, &self.code, &Weights::Pieces(pieces))?)
        })?;
        self.phases = phases;
        Ok(Model::compiled(loaded, self, threads))
    }
}

/// The bytes of a weight as kernels read it; those that need no layout are not copied.
fn bytes(weight: &Weight) -> Cow<'_, [u8]> {
    if weight.packing.is_none() {
        return Cow::Borrowed(weight.tensor.bytes());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(weight.range.length).unwrap_or(0));
    // Writing to memory does not fail.
    match weight.write(&mut bytes) {
        Ok(()) | Err(_) => Cow::Owned(bytes),
    }
}

fn in_memory(weight: &Weight) -> Result<Storage, Error> {
    if weight.packing.is_none() {
        return Ok(weight.tensor.storage().clone());
    }
    let WeightRange { length, .. } = weight.range;
    let no_memory = || Error::WeightMemory(length);
    let length = usize::try_from(length).map_err(|_| no_memory())?;
    let mut storage = Storage::zeroed(length).ok_or_else(no_memory)?;
    // The length is that of the layout, so all of it fits.
    weight.write(&mut storage.make_mut()).map_err(|_| no_memory())?;
    Ok(storage)
}
