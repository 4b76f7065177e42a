//! Execution: a loaded model, given tensors, gives tensors.
//!
//! Invariant: a program was validated when it was loaded, and sizes are checked as soon as they are
//! known; kernels run only on buffers that exist and are as large as their shapes say.

mod bind;
mod call;
mod error;
mod inputs;
mod plan;
mod prepare;
mod repeat;
mod run;
mod trace;

pub use error::RunError;
pub(crate) use prepare::Prepared;
pub use trace::{LaunchRecord, Trace};

use crate::arena::Arena;
use crate::model::LoadedModel;
use crate::threads::{ThreadError, ThreadPool};
use bind::Given;
use kiln_tensor::Tensor;
use plan::{GroupPlan, Plan};
use run::{Kept, Run};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Plans that a session keeps; the least recently used goes first.
const PLANS: usize = 16;

/// Choices about running.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Threads, the caller included; 0 for as many as repay on this machine.
    pub threads: usize,
    /// Most bytes that one run may take for arena, scratch memory and outputs; by default as much
    /// memory as the machine has.
    pub memory_limit: Option<u64>,
    /// Most iterations of all loops together in one run, so that every run ends.
    pub loop_limit: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { threads: 0, memory_limit: None, loop_limit: 1 << 24 }
    }
}

/// Choices about one run.
#[derive(Default)]
pub struct RunOptions<'a> {
    /// Looked at before each step: once it is true, the run ends with [`RunError::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
    /// Is told of every launch.
    pub trace: Option<&'a mut dyn Trace>,
}

/// Memory of a run, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Intermediate values. Those whose size the run itself computes count once they are known.
    pub arena: u64,
    /// Scratch memory of all threads.
    pub scratch: u64,
    /// Outputs.
    pub outputs: u64,
}

impl MemoryUse {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.arena.saturating_add(self.scratch).saturating_add(self.outputs)
    }
}

/// One user of a model: it has the memory for a run at a time, and keeps it for the next.
#[derive(Debug)]
pub struct Session {
    model: Arc<LoadedModel>,
    pool: Arc<ThreadPool>,
    memory_limit: u64,
    loop_limit: u64,
    /// Most recently used last.
    plans: Vec<Arc<Plan>>,
    /// One for each group of buffers.
    blocks: Vec<Block>,
    scratch: Arena,
    used: MemoryUse,
    /// What the run before leaves to the next.
    kept: Kept,
}

/// The memory of a group of buffers.
#[derive(Debug, Default)]
struct Block {
    arena: Arena,
    /// For groups that are placed while the program runs, the latest placement.
    placed_for: Option<PlacedFor>,
}

/// A placement, and the values of the group's symbols that it is for.
#[derive(Debug)]
struct PlacedFor {
    values: Vec<i64>,
    plan: GroupPlan,
}

impl Session {
    /// A session of this model.
    pub fn new(model: Arc<LoadedModel>, options: &SessionOptions) -> Result<Self, ThreadError> {
        let pool = ThreadPool::shared(options.threads)?;
        let groups = model.prepared().groups.len();
        Ok(Session {
            model,
            pool,
            memory_limit: options.memory_limit.unwrap_or_else(physical_memory),
            loop_limit: options.loop_limit,
            plans: Vec::new(),
            blocks: (0..groups).map(|_| Block::default()).collect(),
            scratch: Arena::new(),
            used: MemoryUse::default(),
            kept: Kept::default(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// Threads that it runs on.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs the model on these inputs, in the model's order; gives the outputs in its order.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.run_with(inputs, RunOptions::default())
    }

    /// Runs the model with cancellation and trace.
    pub fn run_with(
        &mut self,
        inputs: &[Tensor],
        options: RunOptions<'_>,
    ) -> Result<Vec<Tensor>, RunError> {
        let mut outputs = Vec::new();
        self.run_into(inputs, &mut outputs, options)?;
        Ok(outputs)
    }

    /// Runs the model, and puts its outputs in the place of what is in `outputs`, in its order. Of the tensors
    /// that are there, those that have the type and the sizes of the output in their place, and whose bytes
    /// nobody else has, give their memory to it: a run with inputs of the same shapes as before then asks for
    /// none, unless the model calls routines or computes sizes. After an error nothing is in `outputs`.
    pub fn run_into(
        &mut self,
        inputs: &[Tensor],
        outputs: &mut Vec<Tensor>,
        options: RunOptions<'_>,
    ) -> Result<(), RunError> {
        let mut offered = std::mem::take(&mut self.kept.offered);
        offered.clear();
        offered.extend(outputs.drain(..).map(Some));
        let given = |number: usize| {
            let tensor: &Tensor = &inputs[number];
            Given { dtype: tensor.dtype(), sizes: tensor.sizes() }
        };
        let plan = self.plan(inputs.len(), given)?;
        let model = Arc::clone(&self.model);
        let mut run = Run::new(self, &model, &plan, inputs, offered, options)?;
        let done = run.steps(&model.prepared().steps).and_then(|()| run.results(outputs));
        run.end();
        if done.is_err() {
            outputs.clear();
        }
        done
    }

    /// Memory that a run with inputs of these shapes takes, as far as it is known before the run.
    pub fn plan_memory(&mut self, inputs: &[Vec<usize>]) -> Result<MemoryUse, RunError> {
        let model = Arc::clone(&self.model);
        let dtypes = model.inputs().map(|(_, buffer)| buffer.dtype);
        let given: Vec<Given<'_>> =
            dtypes.zip(inputs).map(|(dtype, sizes)| Given { dtype, sizes }).collect();
        if given.len() != inputs.len() {
            let (expected, given) = (given.len(), inputs.len());
            return Err(RunError::InputCount { expected, given });
        }
        let plan = self.plan(given.len(), |number| given[number])?;
        Ok(self.known_memory(&plan))
    }

    /// Memory of the latest run.
    pub fn memory_use(&self) -> MemoryUse {
        self.used
    }

    fn known_memory(&self, plan: &Plan) -> MemoryUse {
        MemoryUse {
            arena: plan.early.arena,
            scratch: plan.scratch(&self.model).saturating_mul(self.pool.threads() as u64),
            outputs: plan.early.outputs,
        }
    }

    /// The plan for so many inputs, made if it is not there.
    fn plan<'g>(
        &mut self,
        count: usize,
        given: impl Fn(usize) -> Given<'g>,
    ) -> Result<Arc<Plan>, RunError> {
        let program = self.model.program();
        let fits = |plan: &Arc<Plan>| {
            let declared = program.inputs.iter().map(|port| program.buffer(port.buffer));
            plan.inputs.len() == count
                && plan.inputs.iter().zip(declared).enumerate().all(
                    |(number, (sizes, declared))| {
                        let given = given(number);
                        sizes == given.sizes && declared.is_some_and(|b| b.dtype == given.dtype)
                    },
                )
        };
        if let Some(position) = self.plans.iter().rposition(fits) {
            self.plans[position..].rotate_left(1);
            if let Some(plan) = self.plans.last() {
                return Ok(Arc::clone(plan));
            }
        }
        let given: Vec<Given<'_>> = (0..count).map(given).collect();
        let plan = Arc::new(Plan::new(&self.model, &given)?);
        if self.plans.len() >= PLANS {
            self.plans.remove(0);
        }
        self.plans.push(Arc::clone(&plan));
        Ok(plan)
    }
}

/// Memory of the machine in bytes.
fn physical_memory() -> u64 {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "the fields' width depends on the machine")]
    let (total, unit) = (u64::from(info.totalram), u64::from(info.mem_unit));
    total.saturating_mul(unit.max(1))
}

#[cfg(test)]
mod tests;
