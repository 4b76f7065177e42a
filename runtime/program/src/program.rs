//! Buffers, kernels and the steps that use them.
//!
//! Invariant: every buffer a step mentions is declared in the program, and every symbol that a
//! size mentions is bound by an input's shape or by an earlier [`Step::Bind`].

use crate::Lifetime;
use kiln_routine::Routine;
use kiln_tensor::{DType, Dim, Symbol, SymbolTable};
use serde::{Deserialize, Serialize};

/// A compiled model without its code and weights, which lie beside it in the artefact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the model.
    pub name: String,
    /// Symbols of the input shapes with their bounds.
    pub symbols: SymbolTable,
    /// What the caller gives, in the model's order.
    pub inputs: Vec<Port>,
    /// What the caller gets, in the model's order.
    pub outputs: Vec<Port>,
    /// Every buffer.
    pub buffers: Vec<Buffer>,
    /// Every distinct kernel; a kernel that occurs in several layers stands here once.
    pub kernels: Vec<KernelEntry>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The strings that handles in constants stand for, from handle 1 on.
    pub strings: Vec<String>,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// The buffer that holds it. Two outputs may share one, and an output may be an input or a
    /// constant.
    pub buffer: BufferId,
}

/// Number of a buffer in [`Program::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// A typed piece of memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Element type.
    pub dtype: DType,
    /// Shape as the model sees it.
    pub shape: Vec<Dim>,
    /// Where it lives.
    pub location: Location,
}

impl Buffer {
    /// Bytes that it takes when it is not packed.
    pub fn bytes(&self) -> Dim {
        self.shape.iter().cloned().product::<Dim>() * Dim::from(self.dtype.size())
    }
}

/// Where a buffer lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Location {
    /// The caller's input of this number.
    Input(u32),
    /// The tensor handed out for output of this number.
    Output(u32),
    /// In the artefact's weight section.
    Weights(WeightRange),
    /// In the arena while its lifetime lasts. Steps are numbered in program order, the steps of
    /// nested blocks counted where they stand.
    Arena(Lifetime),
}

/// A range of the weight section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRange {
    /// First byte, a multiple of 64.
    pub offset: u64,
    /// Number of bytes (of the packed form, if the constant is packed).
    pub length: u64,
}

/// One compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelEntry {
    /// Name for people, e.g. `conv_add_relu`.
    pub name: String,
    /// Name of the function in the object code. Entries that name one function are the same code.
    pub symbol: String,
    /// Operands that it is launched with.
    pub operands: u32,
    /// Size parameters that it is launched with, by the names that its partitions give them.
    pub params: Vec<Symbol>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Runs a kernel over its tasks.
    Launch {
        /// Number in [`Program::kernels`].
        kernel: u32,
        /// One buffer for each operand.
        operands: Vec<(BufferId, Coverage)>,
        /// Values of the kernel's size parameters.
        params: Vec<Dim>,
        /// Floating-point operations that the launch performs, for planning threads and reports.
        flops: Dim,
        /// Bytes that it reads and writes at least once, likewise.
        bytes: Dim,
        /// Node of the model that it came from, for reports and messages.
        source: String,
    },
    /// Writes the values of dimension expressions into an i64 buffer.
    Sizes {
        /// The buffer, with as many elements as there are dims.
        buffer: BufferId,
        /// The values.
        dims: Vec<Dim>,
    },
    /// Copies the bytes of one buffer to another of the same size.
    Copy {
        /// Read.
        from: BufferId,
        /// Written.
        to: BufferId,
    },
    /// Gives a symbol the value of an integer in memory; it must lie in its bounds.
    Bind {
        /// The symbol.
        symbol: Symbol,
        /// An integer buffer.
        buffer: BufferId,
        /// Which of its elements.
        element: u32,
        /// Node of the model.
        source: String,
    },
    /// Runs a routine.
    Call {
        /// The routine.
        routine: Routine,
        /// Its operands: what buffers hold, each as a tensor of a shape, since a reshape is only
        /// another way of looking at a buffer.
        inputs: Vec<(BufferId, Vec<Dim>)>,
        /// Buffers for its results.
        outputs: Vec<BufferId>,
        /// Symbols that get their values from sizes of the results, in whose shapes each stands
        /// alone somewhere.
        binds: Vec<Symbol>,
        /// Node of the model.
        source: String,
    },
    /// A run-time check that two sizes are equal, with the node that needs it.
    CheckEqual {
        /// One size.
        left: Dim,
        /// The other.
        right: Dim,
        /// Node of the model.
        source: String,
    },
    /// Runs one of two blocks.
    Branch {
        /// A bool buffer with one element.
        condition: BufferId,
        /// Steps if it is true. Both blocks write the same result buffers.
        then: Vec<Step>,
        /// Steps if it is false.
        otherwise: Vec<Step>,
    },
    /// Runs a block again and again.
    Loop(Box<LoopStep>),
}

impl Program {
    /// Every launch of the program and of its blocks in order, as its kernel and the node that it is for.
    pub fn each_launch(&self, visit: &mut impl FnMut(usize, &str)) {
        each_launch(&self.steps, visit);
    }
}

fn each_launch(steps: &[Step], visit: &mut impl FnMut(usize, &str)) {
    for step in steps {
        match step {
            Step::Launch { kernel, source, .. } => visit(*kernel as usize, source),
            Step::Branch { then, otherwise, .. } => {
                each_launch(then, visit);
                each_launch(otherwise, visit);
            }
            Step::Loop(repeat) => each_launch(&repeat.body, visit),
            _ => {}
        }
    }
}

/// A loop with values that are carried from one iteration to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopStep {
    /// An i64 buffer with the greatest number of iterations; none if it is not positive.
    pub trip: BufferId,
    /// A bool buffer: whether to run the next iteration. The body writes it.
    pub condition: BufferId,
    /// An i64 buffer that receives the number of the iteration before each.
    pub iteration: BufferId,
    /// The body. Carried values are copied by it from their new to their old buffer at its end.
    pub body: Vec<Step>,
    /// Scan outputs: element `iteration` of the first buffer receives the second after each
    /// iteration.
    pub scans: Vec<(BufferId, BufferId)>,
    /// Symbol that is bound to the number of iterations that ran.
    pub count: Option<Symbol>,
    /// Node of the model.
    pub source: String,
}

/// Whether a launch overwrites all of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// The kernel reads it.
    Read,
    /// The kernel writes every element.
    Write,
}
