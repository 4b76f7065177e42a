//! From graph to kernels: each core operation or fused body becomes one kernel.
//!
//! Invariant: a kernel computes exactly what its node does; sizes that are not known are parameters
//! of the kernel, named by their place in it, so that equal layers give equal kernels.

mod argreduce;
mod attention;
mod complex;
mod contraction;
mod convolution;
mod draft;
mod index;
mod indexing;
mod merge;
mod params;
mod pointwise;
mod recurrent;
mod reduction;
mod resize;
mod scan;
mod scatter;
mod softmax;
mod transposed;
mod walk;
mod window;
mod winograd;
mod work;

pub use work::{bytes, flops};

use crate::egraph::fused::{self, NotFusible};
use draft::{Context, Draft, Fault};
use kiln_ir::kernel::{Kernel, VerifyError, verify};
use kiln_ir::op::Op;
use kiln_ir::{Graph, GraphError, Node, NodeId, Producer};
use kiln_tensor::{Dim, SymbolTable};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// A kernel and how the graph uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Formed {
    /// The kernel. Its input operands are the node's operands and its output operands the node's
    /// results, in order; shapes may join neighbouring dimensions of theirs.
    pub kernel: Kernel,
    /// What each size parameter of the kernel is in the graph, in the order of their names.
    pub params: Vec<Dim>,
    /// Floating-point operations of one launch, in the graph's symbols.
    pub flops: Dim,
    /// Bytes that one launch reads and writes at least once, in the graph's symbols.
    pub bytes: Dim,
}

/// Why a node has no kernel.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FormError {
    /// The operation, or this use of it, has no kernel form.
    #[error("{op}{}: {reason}", note(.source_node))]
    NoForm {
        /// Name of the operation.
        op: &'static str,
        /// The model's node, if known.
        source_node: Option<Arc<str>>,
        /// What has no form.
        reason: String,
    },
    /// A fused body that is not one kernel.
    #[error("Fused `{label}`: {error}")]
    NotFusible {
        /// Label of the node.
        label: String,
        /// The rule that the body breaks.
        error: NotFusible,
    },
    /// The body of a single operation could not be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The kernel that came out breaks a rule of the kernel language.
    #[error("formed a kernel that is not well-formed: {0}")]
    Verify(#[from] VerifyError),
}

fn note(source: &Option<Arc<str>>) -> String {
    source.as_ref().map(|source| format!(" (from `{source}`)")).unwrap_or_default()
}

/// How often a kernel is formed again with axes split or stages cut.
const MOST_ATTEMPTS: usize = 8;

/// The kernel of a node.
pub fn form(graph: &Graph, id: NodeId) -> Result<Formed, FormError> {
    let node = graph.node(id);
    // Kernels move handles as the integers that they are.
    let (body, name) = match (&node.op, node.regions.as_slice()) {
        (Op::Fused(fused), [body]) => (body.clone(), fused.label.clone()),
        _ => (alone(graph, node)?, node.op.name().to_lowercase()),
    };
    let body = carried(&body)?;
    let mut symbols = body.symbols.clone();
    symbols.extend(graph.symbols.clone());
    let form = Forming { node, body: &body, symbols };
    let drafted = form.refined()?;
    let kernel = Kernel {
        name,
        symbols: form.symbols.clone(),
        operands: drafted.operands,
        outer: drafted.outer,
        stages: drafted.stages,
    };
    let kernel = merge::merge_axes(complex::in_halves(kernel));
    let (flops, bytes) = (flops(&kernel), bytes(&kernel));
    let (kernel, params) = params::localise(kernel);
    verify(&kernel)?;
    Ok(Formed { kernel, params, flops, bytes })
}

/// The body with the types that kernels have for its elements.
fn carried(body: &Graph) -> Result<Graph, FormError> {
    let is_handle = |id: u32| body.ty(kiln_ir::ValueId(id)).dtype.is_handle();
    if !(0..body.value_count() as u32).any(is_handle) {
        return Ok(body.clone());
    }
    let mut new = Graph::new(body.name.clone());
    new.symbols = body.symbols.clone();
    let mut map = BTreeMap::new();
    for &input in body.inputs() {
        let mut ty = body.ty(input).clone();
        ty.dtype = ty.dtype.carrier();
        let name = body.value(input).name.clone().unwrap_or_else(|| Arc::from(""));
        map.insert(input, new.input(name, ty));
    }
    for (_, node) in body.nodes() {
        let inputs: Vec<_> =
            node.inputs.iter().filter_map(|input| map.get(input).copied()).collect();
        let outputs =
            new.add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone())?;
        map.extend(node.outputs.iter().copied().zip(outputs));
    }
    for (output, name) in body.outputs().iter().zip(body.output_names()) {
        if let Some(&value) = map.get(output) {
            new.output(value, name.clone())?;
        }
    }
    Ok(new)
}

/// A body of one operation whose inputs are those of the node.
fn alone(graph: &Graph, node: &Node) -> Result<Graph, FormError> {
    let mut body = Graph::new(node.op.name());
    let inputs: Vec<_> = node
        .inputs
        .iter()
        .enumerate()
        .map(|(number, &input)| body.input(format!("x{number}"), graph.ty(input).clone()))
        .collect();
    let outputs =
        body.add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone())?;
    for (number, output) in outputs.into_iter().enumerate() {
        body.output(output, format!("y{number}"))?;
    }
    Ok(body)
}

struct Forming<'a> {
    node: &'a Node,
    body: &'a Graph,
    symbols: SymbolTable,
}

type Refinements = BTreeMap<String, Dim>;
type Cuts = BTreeMap<String, Vec<Dim>>;

/// What an attempt came to.
struct Drafted {
    operands: Vec<kiln_ir::kernel::Operand>,
    outer: Vec<kiln_ir::kernel::Axis>,
    stages: Vec<kiln_ir::kernel::Stage>,
}

impl Forming<'_> {
    /// Forms the kernel, and again with what indices ask of its axes until they ask no more.
    fn refined(&self) -> Result<Drafted, FormError> {
        let (mut refine, mut cuts) = (Refinements::new(), Cuts::new());
        for _ in 0..MOST_ATTEMPTS {
            let (context, drafted) = self.attempt(&refine, &cuts)?;
            let mut again = false;
            for (axis, inner) in context.wanted.into_inner() {
                again |= refine.insert(axis, inner).is_none();
            }
            for (axis, ends) in context.wanted_cuts.into_inner() {
                if !refine.contains_key(&axis) {
                    again |= cuts.insert(axis, ends).is_none();
                }
            }
            if !again {
                return Ok(drafted);
            }
        }
        Ok(self.attempt(&refine, &cuts)?.1)
    }

    fn attempt<'s>(
        &'s self,
        refine: &Refinements,
        cuts: &Cuts,
    ) -> Result<(Context<'s>, Drafted), FormError> {
        let no_form = |reason: Fault| FormError::NoForm {
            op: self.node.op.name(),
            source_node: self.node.source.clone(),
            reason,
        };
        let body = self.body;
        let parts = match &self.node.op {
            Op::Fused(fused) => fused::parts(body)
                .map_err(|error| FormError::NotFusible { label: fused.label.clone(), error })?,
            _ => fused::parts(body).unwrap_or_default(),
        };
        let inputs = body.inputs().iter().enumerate().map(|(number, &id)| (id, number)).collect();
        let context = Context {
            body,
            symbols: self.symbols.clone(),
            inputs,
            tail: parts.tail.clone(),
            windows: parts.windows.clone(),
            refine: refine.clone(),
            cuts: cuts.clone(),
            wanted: Default::default(),
            wanted_cuts: Default::default(),
        };
        let drafted = {
            let types: Vec<_> = body.outputs().iter().map(|&output| body.ty(output)).collect();
            let mut draft = Draft::new(&context, &types);
            let core = match parts.core {
                Some(core) => Some(body.node(core)),
                None => self.alone_core(),
            };
            match core {
                Some(core) => draft.core(core),
                None => pointwise::form(&mut draft),
            }
            .map_err(no_form)?;
            let Draft { operands, outer, stages, .. } = draft;
            Drafted { operands, outer, stages }
        };
        Ok((context, drafted))
    }

    /// The single node of a body that no fused body may have.
    fn alone_core(&self) -> Option<&Node> {
        let Producer::Node { node, .. } = self.body.value(*self.body.outputs().first()?).producer
        else {
            return None;
        };
        let node = self.body.node(node);
        matches!(
            node.op,
            Op::Recurrent(_)
                | Op::Accumulate(_)
                | Op::ScatterElements(_)
                | Op::ScatterNd(_)
                | Op::If(_)
                | Op::Loop(_)
        )
        .then_some(node)
    }
}

impl Draft<'_> {
    /// Forms the kernel around its core.
    fn core(&mut self, core: &Node) -> Result<(), Fault> {
        match &core.op {
            Op::Reduce(reduce) => reduction::form(self, core, reduce),
            Op::ArgReduce(reduce) => argreduce::form(self, core, reduce),
            Op::Softmax(softmax) => softmax::form(self, core, softmax),
            Op::Normalize(normalize) => softmax::normalise(self, core, normalize),
            Op::Contract(contract) => contraction::form(self, core, contract),
            Op::Conv(conv) => convolution::form(self, core, conv),
            Op::ConvTranspose(conv) => transposed::form(self, core, conv),
            Op::Winograd(winograd) => winograd::form(self, core, winograd),
            Op::WindowReduce(window) => window::form(self, core, window),
            Op::Attention(attention) => attention::form(self, core, attention),
            Op::Resize(resize) => resize::form(self, core, resize),
            Op::Recurrent(recurrent) => recurrent::form(self, core, recurrent),
            Op::Accumulate(scan) => scan::form(self, core, scan),
            Op::ScatterElements(scatter) => scatter::elements(self, core, scatter),
            Op::ScatterNd(scatter) => scatter::slices(self, core, scatter),
            other => Err(format!("{} has no kernel form", other.name())),
        }
    }
}
