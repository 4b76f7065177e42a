//! A model that is ready to run.
//!
//! Invariant: its kernels' code may change, but not what they compute within its bounds, so any number of threads may run it at once; each run has a session of its
//! own, and sessions are kept for the next run.

use crate::tiers::{Improvement, Rest, Tiers};
use crate::{Backend, CacheUse, CancelToken, Compilation, Error, Phases, TensorInfo};
use kiln_ir::Graph;
use kiln_program::{Artefact, Program};
use kiln_runtime::{LoadedModel, MemoryUse, RunOptions, Session, SessionOptions, Trace};
use kiln_tensor::Tensor;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled or loaded model.
pub struct Model {
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    phases: Phases,
    form: Form,
}

enum Form {
    /// Machine code.
    Code(Box<Code>),
    /// A graph for the reference evaluator.
    Reference(Box<Graph>),
}

struct Code {
    loaded: Arc<LoadedModel>,
    origin: Origin,
    options: SessionOptions,
    /// Those that are not running. There are never more than runs at the same time.
    idle: Mutex<Vec<Session>>,
    /// Who makes better code for it.
    improvement: Option<Improvement>,
}

/// What a model can be saved from.
enum Origin {
    Compilation(Box<Compilation>),
    Artefact(Box<Artefact>),
}

/// Choices about loading.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads of a run, the caller included; 0 for as many as repay on this machine.
    pub threads: usize,
    /// Most bytes that one run may take for intermediate values and outputs; by default as much
    /// memory as the machine has.
    pub memory_limit: Option<u64>,
}

/// Choices about one run.
#[derive(Default)]
pub struct RunSettings<'a> {
    /// Ends the run with an error once it is cancelled. The reference evaluator does not look.
    pub cancel: Option<&'a CancelToken>,
    /// Is told of every launch of a kernel. The reference evaluator launches none.
    pub trace: Option<&'a mut dyn Trace>,
}

impl Model {
    /// Maps a compiled model. Everything but its weights is checked.
    ///
    /// Its code runs with this process' rights: load only what you would run as a program.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// [`Model::load`] with options.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let mut phases = Phases::default();
        let (artefact, loaded) = phases.run(crate::Phase::Load, || {
            let artefact = Artefact::open(path.as_ref())?;
            let loaded = LoadedModel::from_artefact(&artefact)?;
            Ok::<_, Error>((artefact, loaded))
        })?;
        let options = SessionOptions {
            threads: options.threads,
            memory_limit: options.memory_limit,
            ..SessionOptions::default()
        };
        Ok(Self::with_code(loaded, Origin::Artefact(Box::new(artefact)), options, phases))
    }

    pub(crate) fn compiled(loaded: LoadedModel, compilation: Compilation, threads: usize) -> Self {
        let options = SessionOptions { threads, ..SessionOptions::default() };
        let phases = compilation.phases().clone();
        Self::with_code(loaded, Origin::Compilation(Box::new(compilation)), options, phases)
    }

    /// The same, moving to better code in the background.
    pub(crate) fn improved_by(mut self, rest: Rest) -> Self {
        if let Form::Code(code) = &mut self.form {
            code.improvement = Some(Improvement::start(rest, Arc::clone(&code.loaded)));
        }
        self
    }

    /// How many of its kernels run the best code that they will, if the model began with other code: see
    /// [`Compiler::compile_tiered`](crate::Compiler::compile_tiered).
    pub fn tiers(&self) -> Option<Tiers> {
        self.improvement().map(Improvement::tiers)
    }

    /// Waits until every kernel runs the best code that it will; at once for a model that began with it. An
    /// error says why there is no better code for a kernel, which then runs on as it does.
    pub fn wait(&self) -> Result<(), Error> {
        self.improvement().map_or(Ok(()), |improvement| improvement.finish().map(|_| ()))
    }

    fn improvement(&self) -> Option<&Improvement> {
        match &self.form {
            Form::Code(code) => code.improvement.as_ref(),
            Form::Reference(_) => None,
        }
    }

    fn with_code(
        loaded: LoadedModel,
        origin: Origin,
        options: SessionOptions,
        phases: Phases,
    ) -> Self {
        let info = |(name, buffer): (&str, &kiln_program::Buffer)| TensorInfo {
            name: name.to_owned(),
            dtype: buffer.dtype,
            shape: buffer.shape.clone(),
        };
        Model {
            inputs: loaded.inputs().map(info).collect(),
            outputs: loaded.outputs().map(info).collect(),
            phases,
            form: Form::Code(Box::new(Code {
                loaded: Arc::new(loaded),
                origin,
                options,
                idle: Mutex::default(),
                improvement: None,
            })),
        }
    }

    pub(crate) fn reference(graph: Graph, phases: Phases) -> Self {
        let info = |name: &str, id| {
            let ty = graph.ty(id);
            TensorInfo { name: name.to_owned(), dtype: ty.dtype, shape: ty.shape.clone() }
        };
        let name = |id| graph.value(id).name.as_deref().unwrap_or_default();
        let inputs = graph.inputs().iter().map(|&id| info(name(id), id)).collect();
        let outputs = graph.outputs().iter().zip(graph.output_names());
        let outputs = outputs.map(|(&id, name)| info(name, id)).collect();
        Model { inputs, outputs, phases, form: Form::Reference(Box::new(graph)) }
    }

    /// Names, types and shapes of the inputs, in the model's order.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }

    /// Names, types and shapes of the outputs, in the model's order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }

    /// How long each phase of compiling and loading took.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// The program, if there is one: the reference evaluator has none.
    pub fn program(&self) -> Option<&Program> {
        match &self.form {
            Form::Code(code) => Some(code.loaded.program()),
            Form::Reference(_) => None,
        }
    }

    /// What the model was compiled to, if that was done here.
    pub(crate) fn compilation(&self) -> Option<&Compilation> {
        match &self.form {
            Form::Code(code) => match &code.origin {
                Origin::Compilation(compilation) => Some(compilation),
                Origin::Artefact(_) => None,
            },
            Form::Reference(_) => None,
        }
    }

    /// How much of the code was there before, where the model was compiled here, and why what is compiled could
    /// not be kept so far.
    pub fn cached(&self) -> Option<CacheUse> {
        let mut cached = self.compilation()?.cached().clone();
        cached.fault = cached.fault.or_else(|| self.improvement()?.fault());
        Some(cached)
    }

    /// What the code was made by and for, as noted in the compiled model.
    pub fn notes(&self) -> Vec<(&str, &str)> {
        match &self.form {
            Form::Code(code) => {
                let notes = match &code.origin {
                    Origin::Compilation(compilation) => compilation.notes(),
                    Origin::Artefact(artefact) => artefact.notes(),
                };
                notes.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
            }
            Form::Reference(_) => vec![("backend", "reference")],
        }
    }

    /// Seconds that a launch of each kernel of the program is predicted to take, where the model was
    /// compiled here.
    pub fn predictions(&self) -> Option<Vec<f64>> {
        let kernels = &self.compilation()?.plan().kernels;
        Some(kernels.iter().map(|planned| planned.predicted).collect())
    }

    /// Writes the compiled model to a file, with the best code of every kernel, which is waited for.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Form::Code(code) = &self.form else { return Err(Error::NoCode) };
        match &code.origin {
            Origin::Compilation(compilation) => match &code.improvement {
                Some(improvement) => compilation.save_with(&[improvement.finish()?], path),
                None => compilation.save(path),
            },
            Origin::Artefact(artefact) => Ok(artefact.save(path.as_ref(), artefact.code())?),
        }
    }

    /// Runs the model on these inputs, in the model's order; gives the outputs in its order.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        self.run_with(inputs, RunSettings::default())
    }

    /// [`Model::run`] with cancellation and trace.
    pub fn run_with(
        &self,
        inputs: &[Tensor],
        settings: RunSettings<'_>,
    ) -> Result<Vec<Tensor>, Error> {
        let mut outputs = Vec::new();
        self.run_into(inputs, &mut outputs, settings)?;
        Ok(outputs)
    }

    /// [`Model::run_with`] into a list of tensors, whose memory the outputs take where it fits and nobody else has
    /// it: a run like one before then asks for no memory, as [`Session::run_into`] has it.
    pub fn run_into(
        &self,
        inputs: &[Tensor],
        outputs: &mut Vec<Tensor>,
        settings: RunSettings<'_>,
    ) -> Result<(), Error> {
        match &self.form {
            Form::Reference(graph) => *outputs = kiln_ir::evaluate(graph, inputs)?,
            Form::Code(code) => {
                let cancel = settings.cancel.map(CancelToken::flag);
                let options = RunOptions { cancel, trace: settings.trace };
                code.with_session(|session| Ok(session.run_into(inputs, outputs, options)?))?;
            }
        }
        Ok(())
    }

    /// Memory that a run with inputs of these shapes takes, as far as it is known before the run;
    /// nothing is known of the reference evaluator.
    pub fn plan_memory(&self, sizes: &[Vec<usize>]) -> Result<Option<MemoryUse>, Error> {
        match &self.form {
            Form::Reference(_) => Ok(None),
            Form::Code(code) => code.with_session(|session| Ok(Some(session.plan_memory(sizes)?))),
        }
    }

    /// Threads that a run uses.
    pub fn threads(&self) -> Result<usize, Error> {
        match &self.form {
            Form::Reference(_) => Ok(1),
            Form::Code(code) => code.with_session(|session| Ok(session.threads())),
        }
    }

    /// What computes the model's results.
    pub fn backend(&self) -> Option<Backend> {
        let notes = self.notes();
        let (_, name) = notes.iter().find(|(name, _)| *name == "backend")?;
        Backend::ALL.into_iter().find(|backend| backend.to_string() == *name)
    }
}

impl Code {
    /// Works with a session that nobody else uses.
    fn with_session<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = match idle {
            Some(session) => session,
            None => Session::new(Arc::clone(&self.loaded), &self.options)
                .map_err(kiln_runtime::RunError::from)?,
        };
        let result = work(&mut session);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |infos: &[TensorInfo]| -> Vec<String> {
            infos.iter().map(TensorInfo::to_string).collect()
        };
        f.debug_struct("Model")
            .field("inputs", &list(&self.inputs))
            .field("outputs", &list(&self.outputs))
            .finish_non_exhaustive()
    }
}

/// `check` holds for models: they can be shared and sent.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Model>();
};
