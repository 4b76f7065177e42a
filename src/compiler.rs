//! The compiler: one call for each arrow, from ONNX to a program with its code.
//!
//! Invariant: each phase is a pure function of the one before; cancellation is looked at between
//! phases and between pieces of code generation.

use crate::cache::KernelCache;
use crate::generate::{self, tile_target};
use crate::tune::Setting;
use crate::{Backend, CancelToken, Compilation, CompileOptions, Error, Model, Phase, Source};
use crate::{Phases, generate::generator, tiers};
use kiln_backends::{CodeGenerator, Target};
use kiln_frontend::ImportOptions;
use kiln_ir::Graph;
use kiln_passes::tile::Book;
use kiln_passes::{CostModel, EGraphOptions, Effort, IntegerProducts, Plan, PlanOptions, Report};
use std::sync::Arc;

/// Is told of each phase as it begins.
type Observer = dyn Fn(Phase) + Send + Sync;

/// Compiles models for a target, and for others beside it.
#[derive(Clone)]
pub struct Compiler {
    target: Target,
    /// Other machines that compiled models have code for, those to be preferred first.
    others: Vec<Target>,
    options: CompileOptions,
    cache: Option<Arc<KernelCache>>,
    cancel: CancelToken,
    observer: Arc<Observer>,
}

impl Compiler {
    /// A compiler for this target with default options.
    pub fn new(target: Target) -> Self {
        Compiler {
            target,
            others: Vec::new(),
            options: CompileOptions::default(),
            cache: None,
            cancel: CancelToken::new(),
            observer: Arc::new(|_| {}),
        }
    }

    /// The same with these options.
    pub fn options(self, options: CompileOptions) -> Self {
        Compiler { options, ..self }
    }

    /// The same with code for another machine, too, in one compiled model: for those that cannot run the code
    /// before. Program and weights are laid out for the first target.
    pub fn also(mut self, target: Target) -> Self {
        self.others.push(target);
        self
    }

    /// The same with these schedules.
    pub fn schedules(mut self, schedules: Book) -> Self {
        self.options.schedules = Arc::new(schedules);
        self
    }

    /// The same with what was measured of its machine; see [`crate::calibrate()`].
    pub fn cost(mut self, cost: CostModel) -> Self {
        self.options.cost = Some(cost);
        self
    }

    /// The same, taking code from a cache and leaving there what it compiles. It changes no byte of what comes
    /// out.
    pub fn cache(self, cache: impl Into<Arc<KernelCache>>) -> Self {
        Compiler { cache: Some(cache.into()), ..self }
    }

    /// The same, stopped with [`Error::Cancelled`] once the token is cancelled.
    pub fn cancel(self, cancel: CancelToken) -> Self {
        Compiler { cancel, ..self }
    }

    /// The same, telling `observer` of each phase as it begins.
    pub fn observe(self, observer: impl Fn(Phase) + Send + Sync + 'static) -> Self {
        Compiler { observer: Arc::new(observer), ..self }
    }

    /// The machine that code is made for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What its code is for: which measurements hold for it.
    pub fn setting(&self) -> Setting {
        Setting::new(self.options.backend, &self.target, self.options.threads)
    }

    /// Compiles a model and makes it ready to run on this machine.
    pub fn compile(&self, source: impl Into<Source>) -> Result<Model, Error> {
        let source = source.into();
        if self.options.backend == Backend::Reference {
            let mut phases = Phases::default();
            let graph = self.import(&source, &mut phases)?;
            return Ok(Model::reference(graph, phases));
        }
        let compilation = self.build(source)?;
        (self.observer)(Phase::Load);
        compilation.into_model(self.options.threads)
    }

    /// [`Compiler::compile`], but the model is ready as soon as Cranelift has made code for it. It moves over,
    /// kernel by kernel, to what its own backend makes in the background, the costliest kernels first; what a
    /// cache has of that it begins with. Results of both agree within the bounds that hold for each, not to the
    /// bit. A model with code for other machines, too ([`Compiler::also`]), is compiled as a whole.
    ///
    /// See [`Model::tiers`] and [`Model::wait`].
    pub fn compile_tiered(&self, source: impl Into<Source>) -> Result<Model, Error> {
        if self.options.backend != Backend::Llvm || !self.others.is_empty() {
            return self.compile(source);
        }
        let mut phases = Phases::default();
        let generator = generator(self.options.backend)?;
        let plan = Arc::new(self.planned(&source.into(), &mut phases)?);
        let quick = tile_target(Backend::Cranelift, &self.target, self.options.threads);
        let (first, rest) = self.phase(Phase::Generate, &mut phases, || {
            tiers::first(generator, &plan, &quick, &self.target, self.cache.clone(), &self.cancel)
        })?;
        let notes = generate::notes(&self.options, &[&self.target]);
        let cached = rest.cached();
        let compilation = Compilation::new(plan, vec![first], notes, phases, cached);
        (self.observer)(Phase::Load);
        Ok(compilation.into_model(self.options.threads)?.improved_by(rest))
    }

    /// Compiles a model without loading it: for writing it to a file, also for another machine.
    pub fn build(&self, source: impl Into<Source>) -> Result<Compilation, Error> {
        let mut phases = Phases::default();
        let generator = generator(self.options.backend)?;
        let plan = self.planned(&source.into(), &mut phases)?;
        self.generated(&*generator, plan, phases)
    }

    /// The program of a model.
    fn planned(&self, source: &Source, phases: &mut Phases) -> Result<Plan, Error> {
        let simplified = self.simplified(source, phases)?;
        let (optimised, _) = self.optimised(&simplified, phases)?;
        self.plan(&optimised, phases)
    }

    /// A graph as a model, every operation a kernel.
    pub(crate) fn as_it_is(&self, graph: &Graph) -> Result<Model, Error> {
        let mut phases = Phases::default();
        let generator = generator(self.options.backend)?;
        let plan = self.plan(graph, &mut phases)?;
        self.generated(&*generator, plan, phases)?.into_model(self.options.threads)
    }

    fn generated(
        &self,
        generator: &dyn CodeGenerator,
        plan: Plan,
        mut phases: Phases,
    ) -> Result<Compilation, Error> {
        let (cache, cancel) = (self.cache.as_deref(), &self.cancel);
        let (variants, cached) = self.phase(Phase::Generate, &mut phases, || {
            let schedules = generate::own_schedules(&plan);
            let (first, mut cached) =
                generate::code(generator, &plan, &schedules, &self.target, cache, cancel)?;
            let mut variants = vec![first];
            for target in &self.others {
                let seen = tile_target(self.options.backend, target, self.options.threads);
                let schedules = generate::other_schedules(&plan, &seen);
                let (variant, more) =
                    generate::code(generator, &plan, &schedules, target, cache, cancel)?;
                variants.push(variant);
                cached = cached.and(more);
            }
            Ok((variants, cached))
        })?;
        let targets: Vec<&Target> = [&self.target].into_iter().chain(&self.others).collect();
        let notes = generate::notes(&self.options, &targets);
        Ok(Compilation::new(Arc::new(plan), variants, notes, phases, cached))
    }

    /// The graph of a model as the frontend gives it.
    pub fn import(&self, source: &Source, phases: &mut Phases) -> Result<Graph, Error> {
        let model = self.phase(Phase::Read, phases, || {
            Ok(match source {
                Source::Path(path) => kiln_frontend::Model::open(path)?,
                Source::Bytes(bytes) => kiln_frontend::Model::from_bytes(bytes.clone())?,
            })
        })?;
        let options = ImportOptions { dims: self.options.dims.clone() };
        self.phase(Phase::Import, phases, || Ok(kiln_frontend::import(&model, &options)?))
    }

    /// The graph of a model without what the passes that need no e-graph take away.
    pub fn simplified(&self, source: &Source, phases: &mut Phases) -> Result<Graph, Error> {
        let imported = self.import(source, phases)?;
        self.phase(Phase::Simplify, phases, || {
            // Bytes are summed together where channels come last, which the e-graph sees to.
            let products = match self.options.effort {
                Effort::Off => IntegerProducts::InFloats,
                _ => self.tile_target().integer_products(),
            };
            let simple = kiln_passes::simplify_for(&imported, products)?;
            Ok(match kiln_passes::unify(&simple)? {
                Some(unified) => kiln_passes::simplify_for(&unified, products)?,
                None => simple,
            })
        })
    }

    /// A simplified graph as the e-graph would have it, layouts chosen and operations fused, and what was
    /// done to it.
    pub fn optimised(&self, graph: &Graph, phases: &mut Phases) -> Result<(Graph, Report), Error> {
        self.optimised_with(graph, false, phases)
    }

    /// [`Compiler::optimised`] that also reports what other choices would have cost.
    pub fn explained(&self, graph: &Graph, phases: &mut Phases) -> Result<(Graph, Report), Error> {
        self.optimised_with(graph, true, phases)
    }

    fn optimised_with(
        &self,
        graph: &Graph,
        explain: bool,
        phases: &mut Phases,
    ) -> Result<(Graph, Report), Error> {
        let effort = self.options.effort;
        let CompileOptions { error_budget, without, .. } = &self.options;
        let (error_budget, disabled) = (*error_budget, without.clone());
        let options =
            EGraphOptions { effort, explain, error_budget, disabled, ..EGraphOptions::default() };
        self.phase(Phase::Optimise, phases, || {
            Ok(kiln_passes::optimise(graph, &options, &self.cost_model())?)
        })
    }

    /// The program of an optimised graph.
    pub fn plan(&self, graph: &Graph, phases: &mut Phases) -> Result<Plan, Error> {
        self.phase(Phase::Plan, phases, || {
            let schedules = Arc::clone(&self.options.schedules);
            let options =
                PlanOptions { schedules, cost: self.cost_model(), ..PlanOptions::default() };
            Ok(kiln_passes::plan(graph, &self.tile_target(), &options)?)
        })
    }

    /// Who makes the code.
    pub fn backend(&self) -> Backend {
        self.options.backend
    }

    /// What kernels are predicted to cost by: what was measured, or else the shipped model.
    pub fn cost_model(&self) -> CostModel {
        let shipped = || CostModel::for_cpu(&self.tile_target());
        self.options.cost.clone().unwrap_or_else(shipped)
    }

    fn tile_target(&self) -> kiln_passes::TileTarget {
        tile_target(self.options.backend, &self.target, self.options.threads)
    }

    fn phase<T>(
        &self,
        phase: Phase,
        phases: &mut Phases,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        (self.observer)(phase);
        phases.run(phase, work)
    }
}
