//! Kernels of a program: formed and scheduled once each, however often they occur.
//!
//! Invariant: two launches share an entry only if kernel, schedule and layouts are equal; names play
//! no part.

use super::PlanOptions;
use crate::form::{FormError, Formed, form};
use crate::tile::{TileTarget, identity, tile, tile_around};
use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::{PackedLayout, Schedule};
use kiln_ir::{Graph, NodeId, TensorType};
use kiln_program::{BufferId, Coverage, KernelEntry, Partition, Step};
use kiln_tensor::Tensor;
use std::collections::{BTreeSet, HashMap};
use xxhash_rust::xxh3::xxh3_128;

/// A kernel of a program, and how it is run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedKernel {
    /// What is computed.
    pub kernel: Kernel,
    /// How.
    pub schedule: Schedule,
    /// Operands that are constants, and so may lie as the schedule has them.
    pub constants: BTreeSet<usize>,
    /// Whether the schedule was known to be better than the model's.
    pub tuned: bool,
    /// Seconds of a launch as the cost model predicts them, with sizes that are not known as it takes them.
    pub predicted: f64,
}

impl PlannedKernel {
    /// How its work is cut up by its own schedule, or by another one.
    pub fn partition(&self, schedule: &Schedule) -> Partition {
        Partition {
            tasks: schedule.tasks(&self.kernel),
            scratch: schedule.scratch(&self.kernel).bytes,
        }
    }

    /// A schedule for another target, under which its constants lie as they do.
    pub fn reschedule(&self, target: &TileTarget) -> Schedule {
        tile_around(&self.kernel, &self.schedule.packing, target)
    }
}

pub(super) struct Kernels {
    target: TileTarget,
    options: PlanOptions,
    entries: Vec<KernelEntry>,
    kernels: Vec<PlannedKernel>,
    known: HashMap<String, usize>,
}

/// One use of a kernel.
pub(super) struct Launch {
    number: usize,
    formed: Formed,
    schedule: Schedule,
    pub(super) name: String,
}

impl Kernels {
    pub(super) fn new(target: TileTarget, options: PlanOptions) -> Self {
        let (entries, kernels) = (Vec::new(), Vec::new());
        Kernels { target, options, entries, kernels, known: HashMap::new() }
    }

    /// The kernel of a node, some of whose operands are constants.
    pub(super) fn launch(
        &mut self,
        graph: &Graph,
        id: NodeId,
        constants: &[Option<Tensor>],
    ) -> Result<Launch, FormError> {
        let formed = form(graph, id)?;
        let name = formed.kernel.name.clone();
        let fixed: BTreeSet<usize> = (0..constants.len())
            .filter(|&number| constants[number].is_some() && !self.options.keep_layouts)
            .collect();
        let key = identity::text(&formed.kernel, &fixed);
        let number = match self.known.get(&key) {
            Some(&number) => number,
            None => {
                let known = self.options.schedules.find(&formed.kernel, &fixed);
                let tuned = known.is_some();
                let schedule =
                    known.cloned().unwrap_or_else(|| tile(&formed.kernel, &fixed, &self.target));
                let number = self.kernels.len();
                let bound = formed.kernel.bound_operands().count();
                self.entries.push(KernelEntry {
                    name: name.clone(),
                    symbol: symbol(&formed.kernel, &schedule),
                    operands: bound as u32,
                    params: formed.kernel.symbols.keys().cloned().collect(),
                });
                let (kernel, constants) = (formed.kernel.clone(), fixed);
                let predicted = self.predicted(graph, id);
                let planned = PlannedKernel { kernel, schedule, constants, tuned, predicted };
                self.kernels.push(planned);
                self.known.insert(key, number);
                number
            }
        };
        let schedule = self.kernels[number].schedule.clone();
        Ok(Launch { number, formed, schedule, name })
    }

    fn predicted(&self, graph: &Graph, id: NodeId) -> f64 {
        let node = graph.node(id);
        let inputs: Vec<&TensorType> = node.inputs.iter().map(|&input| graph.ty(input)).collect();
        let Some(&out) = node.outputs.first() else { return 0.0 };
        self.options.cost.kernel(&node.op, &node.regions, &inputs, graph.ty(out))
    }

    pub(super) fn finish(self) -> (Vec<KernelEntry>, Vec<PlannedKernel>) {
        (self.entries, self.kernels)
    }
}

/// A name that every object format takes, and that is the same in every program that has the kernel under this
/// schedule. Versions of the function under other schedules go by it, too.
pub(super) fn symbol(kernel: &Kernel, schedule: &Schedule) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = kernel.name.chars().take(48).map(clean).collect();
    let content = format!("{} {schedule:?}", identity::text(kernel, &BTreeSet::new()));
    format!("kiln_{name}_{:032x}", xxh3_128(content.as_bytes()))
}

impl Launch {
    /// How an operand lies in memory, with the sizes that the kernel gives it; row-major if `None`.
    pub(super) fn layout(&self, operand: usize) -> Option<(Vec<usize>, PackedLayout)> {
        let packing = self.schedule.packing.iter().find(|packing| packing.operand == operand)?;
        let shape = &self.formed.kernel.operands.get(operand)?.shape;
        let sizes: Option<Vec<usize>> =
            shape.iter().map(|dim| usize::try_from(dim.as_const()?).ok()).collect();
        Some((sizes?, packing.layout.clone()))
    }

    pub(super) fn step(self, operands: Vec<(BufferId, Coverage)>, source: String) -> Step {
        Step::Launch {
            kernel: self.number as u32,
            operands,
            params: self.formed.params.clone(),
            flops: self.formed.flops.clone(),
            bytes: self.formed.bytes.clone(),
            source,
        }
    }
}
