//! From graph to program: kernels with their schedules, buffers with their lifetimes, weights with
//! their layouts, and the steps that use them.
//!
//! Invariant: deterministic; the program that comes out passes its own validation; equal kernels
//! stand in it once.

mod alone;
mod checks;
mod control;
mod error;
mod kernels;
mod lifetime;
mod scope;
mod weights;

pub use alone::alone;
pub use error::PlanError;
pub use kernels::PlannedKernel;
pub use weights::Weight;

use crate::egraph::CostModel;
use crate::tile::{Book, TileTarget};
use kernels::Kernels;
use kiln_ir::Graph;
use kiln_program::{Buffer, BufferId, Lifetime, Location, Partition, Port, Program, Step};
use kiln_tensor::Objects;
use scope::{Bound, Scope};
use std::sync::Arc;
use weights::Weights;

/// A model as a program, with what its code and its weights are to be made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program. Its weight ranges are those of `weights`.
    pub program: Program,
    /// The kernel and schedule of each entry of `program.kernels`.
    pub kernels: Vec<PlannedKernel>,
    /// What the weight section holds, in order of its ranges, which are disjoint and start at
    /// multiples of 64.
    pub weights: Vec<Weight>,
}

impl Plan {
    /// How the work of each kernel is cut up by its own schedule.
    pub fn partitions(&self) -> Vec<Partition> {
        self.kernels.iter().map(|planned| planned.partition(&planned.schedule)).collect()
    }

    /// Bytes of the weight section.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.last().map_or(0, |weight| weight.range.offset + weight.range.length)
    }
}

/// Choices of planning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanOptions {
    /// Leaves constants as they are, without layouts of their own.
    pub keep_layouts: bool,
    /// Schedules that are known to be better than the model's.
    pub schedules: Arc<Book>,
    /// What kernels are predicted to cost by.
    pub cost: CostModel,
}

/// The program of a graph, which should be simplified and fused already.
pub fn plan(graph: &Graph, target: &TileTarget, options: &PlanOptions) -> Result<Plan, PlanError> {
    let mut planner = Planner {
        buffers: Vec::new(),
        kernels: Kernels::new(*target, options.clone()),
        weights: Weights::default(),
        objects: Arc::default(),
    };
    let inputs: Vec<Port> = graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(number, &id)| {
            let name = graph.value(id).name.as_deref().unwrap_or_default().to_owned();
            let ty = graph.ty(id).clone();
            let buffer = planner.buffer(ty.dtype, ty.shape, Location::Input(number as u32));
            Port { name, buffer }
        })
        .collect();
    let bound = inputs.iter().map(|port| Bound::Buffer(port.buffer)).collect();
    let mut scope = Scope::new(graph, bound);
    let ports = planner.outputs(&mut scope)?;
    let mut steps = Vec::new();
    planner.nodes(&mut scope, &mut steps)?;
    let mut outputs = Vec::with_capacity(ports.len());
    for ((&value, name), wanted) in graph.outputs().iter().zip(graph.output_names()).zip(ports) {
        let made = planner.value_buffer(&mut scope, value)?;
        let buffer = match wanted {
            Some(wanted) if wanted != made => {
                steps.push(Step::Copy { from: made, to: wanted });
                wanted
            }
            Some(wanted) => wanted,
            None => made,
        };
        outputs.push(Port { name: name.to_string(), buffer });
    }
    lifetime::assign(&mut planner.buffers, &steps);
    let (entries, kernels) = planner.kernels.finish();
    let program = Program {
        name: graph.name.clone(),
        symbols: graph.symbols.clone(),
        inputs,
        outputs,
        buffers: planner.buffers,
        kernels: entries,
        steps,
        strings: planner.objects.strings(),
    };
    let plan = Plan { program, kernels, weights: planner.weights.finish() };
    plan.program.validate(plan.weight_bytes())?;
    Ok(plan)
}

/// What grows while a graph is planned.
struct Planner {
    buffers: Vec<Buffer>,
    kernels: Kernels,
    weights: Weights,
    /// What handles in constants stand for.
    objects: Arc<Objects>,
}

impl Planner {
    fn buffer(
        &mut self,
        dtype: kiln_tensor::DType,
        shape: Vec<kiln_tensor::Dim>,
        location: Location,
    ) -> BufferId {
        self.buffers.push(Buffer { dtype, shape, location });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// A buffer in the arena; its lifetime is found when all steps are known.
    fn arena(&mut self, ty: &kiln_ir::TensorType) -> BufferId {
        let location = Location::Arena(Lifetime { first: 0, last: 0 });
        self.buffer(ty.dtype, ty.shape.clone(), location)
    }

    /// Buffers for the outputs, given to the values that make them where they can be made in place:
    /// `None` where the output is an input or constant as it is.
    fn outputs(&mut self, scope: &mut Scope) -> Result<Vec<Option<BufferId>>, PlanError> {
        let graph = scope.graph;
        let mut given: Vec<(kiln_ir::ValueId, BufferId)> = Vec::new();
        let mut ports = Vec::new();
        for (number, &value) in graph.outputs().iter().enumerate() {
            let same = given.iter().find(|(other, _)| *other == value).map(|(_, id)| *id);
            let plain = scope.is_given(value);
            ports.push(match same {
                _ if plain => None,
                Some(buffer) => Some(buffer),
                None => {
                    let ty = graph.ty(value).clone();
                    let location = Location::Output(number as u32);
                    let buffer = self.buffer(ty.dtype, ty.shape, location);
                    given.push((value, buffer));
                    scope.want(value, buffer);
                    Some(buffer)
                }
            });
        }
        Ok(ports)
    }
}
