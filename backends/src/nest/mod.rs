//! The loop nest: a kernel under a schedule, as structured loops over typed vector values.
//!
//! Invariant: plain data and single assignment. A value is defined once, before its uses, in the
//! block of a use or in one around it; every operation here is primitive arithmetic that a code
//! generator translates one to one, without calling any library.
//!
//! A nest is the body of the function
//! `extern "C" fn(buffers: *const *mut u8, params: *const i64, scratch: *mut u8, begin: i64, end: i64)`
//! which runs the tasks `begin..end`; the loop over them stands in the nest like any other loop.

mod accumulate;
mod arith;
mod build;
mod capabilities;
mod dot;
mod error;
mod expand;
mod functions;
mod interior;
mod interpret;
mod lower;
mod place;
mod scalar;
mod stage;
mod text;
mod tile;

pub use capabilities::Capabilities;
pub(crate) use dot::GROUP;
pub use error::NestError;
pub use interpret::{InterpretError, interpret};
pub use lower::lower;

use kiln_tensor::{DType, Dim, Symbol};
use serde::{Deserialize, Serialize};

/// The function that runs tasks of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nest {
    /// The kernel's name, for people.
    pub name: String,
    /// Size parameters in the order in which `params` holds them.
    pub params: Vec<Symbol>,
    /// Memory that the function touches; [`Place`] says how each is reached.
    pub buffers: Vec<Buffer>,
    /// Number of tasks there are.
    pub tasks: Dim,
    /// Bytes of scratch memory that one thread needs, aligned to 64.
    pub scratch: Dim,
    /// Type of each value, by number.
    pub types: Vec<Type>,
    /// What is done.
    pub body: Block,
}

/// Memory of one element type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// The operand's name.
    pub name: String,
    /// Element type in memory. `bool` is a byte, 0 or 1.
    pub dtype: DType,
    /// Elements that belong to it, padding of packed layouts included.
    pub length: Dim,
    /// How it is reached.
    pub place: Place,
}

/// How a buffer is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Pointer number `slot` of the `buffers` argument; aligned to 64 bytes.
    Bound {
        /// The number.
        slot: u32,
        /// Whether the function writes there.
        written: bool,
    },
    /// The `scratch` argument. Element offsets in loads and stores count from the start of the
    /// scratch memory, and are at least `start` for this buffer.
    Scratch {
        /// First element of the buffer, in its own elements.
        start: Dim,
    },
}

/// Statements that run one after the other.
pub type Block = Vec<Stmt>;

/// A value, by its number in [`Nest::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Type {
    /// What each lane holds.
    pub element: Element,
    /// Lanes of the vector; 1 for a scalar.
    pub lanes: u32,
}

/// What a register lane holds. Integers carry no sign: operations do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Element {
    /// True or false.
    Mask,
    /// 8 bits.
    I8,
    /// 16 bits; also the bits of `f16` and `bf16`, which are only loaded, stored and converted.
    I16,
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stmt {
    /// Defines a value.
    Let(ValueId, Op),
    /// Writes memory.
    Store(Store),
    /// Announces that an element is to be read, which may lie beyond the buffer. Only where the target
    /// has it; changes no result.
    Prefetch {
        /// The buffer, by number.
        buffer: u32,
        /// What it holds.
        element: Element,
        /// Elements from its start, a scalar i64.
        place: ValueId,
    },
    /// A counted loop.
    For(Box<For>),
    /// Runs one of two blocks by a scalar mask.
    If(Box<If>),
}

/// Runs one of two blocks, and hands on what that one computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct If {
    /// A scalar mask.
    pub condition: ValueId,
    /// Runs if it is true.
    pub then: Block,
    /// Runs if it is false.
    pub otherwise: Block,
    /// Values that it hands on.
    pub chosen: Vec<Chosen>,
}

/// A value that one of two blocks hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// What it is if the condition is true, defined in that block (or further out).
    pub then: ValueId,
    /// What it is otherwise.
    pub otherwise: ValueId,
    /// Its name after both.
    pub result: ValueId,
}

/// `for variable in (from..to).step_by(step)`, not at all if `from >= to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct For {
    /// The loop variable, a scalar i64 that is visible in `body`.
    pub variable: ValueId,
    /// First value.
    pub from: ValueId,
    /// Bound that the variable stays below. The distance need not be a multiple of the step.
    pub to: ValueId,
    /// What is added after each iteration, at least 1.
    pub step: i64,
    /// Values that one iteration hands to the next.
    pub carried: Vec<Carried>,
    /// What an iteration does.
    pub body: Block,
}

/// A value that one iteration of a loop hands to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Its value before the first iteration, defined outside.
    pub initial: ValueId,
    /// Its name in the body.
    pub inside: ValueId,
    /// Its value for the next iteration, defined in the body (or further out).
    pub next: ValueId,
    /// Its name after the loop.
    pub result: ValueId,
}

/// Writes lanes to memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// The buffer, by number.
    pub buffer: u32,
    /// Where each lane goes.
    pub address: Address,
    /// The lanes; their element has the size of the buffer's.
    pub value: ValueId,
    /// Lanes that are written; all without it.
    pub mask: Option<ValueId>,
}

/// Where the lanes of a load or store lie, in elements from the start of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// Lane `i` at `start + i`. Also the form of every scalar access. No alignment beyond the
    /// element's is promised.
    Contiguous(ValueId),
    /// Lane `i` at `start + i·stride`; both scalar i64.
    Strided(ValueId, ValueId),
    /// Each lane at its own offset: a vector of i64.
    Scattered(ValueId),
}

/// How a value is computed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// The first task to run; i64.
    Begin,
    /// The bound of the tasks to run; i64.
    End,
    /// A size parameter; i64.
    Param(u32),
    /// A scalar by its bits (zero-extended; floats as their IEEE bits, masks 0 or 1).
    Constant(u64),
    /// A scalar in every lane.
    Splat(ValueId),
    /// 0, 1, 2, … in the lanes of an integer vector.
    LaneNumbers,
    /// The mask of lanes whose number is below a scalar i64 (which may be negative or large).
    FirstLanes(ValueId),
    /// Reads lanes from memory; the element has the size of the buffer's.
    Load {
        /// The buffer, by number.
        buffer: u32,
        /// Where each lane lies.
        address: Address,
        /// Lanes that are read (a scalar mask for a scalar load). The others are zero, and their
        /// memory is not touched.
        mask: Option<ValueId>,
    },
    /// Of one value, lane by lane.
    Unary(UnaryOp, ValueId),
    /// Of two values of equal type, lane by lane.
    Binary(BinaryOp, ValueId, ValueId),
    /// `a·b + c` rounded once; floats. Only where the target has it.
    Fma(ValueId, ValueId, ValueId),
    /// The lanes of a shorter vector, over and over.
    Repeat(ValueId),
    /// To each lane of a sum, i32, the products of four bytes without sign and four with: those that lie
    /// where the lane does. Wraps. Only where the target has it.
    Dot {
        /// What is added to.
        sum: ValueId,
        /// I8, four for each lane, taken to have no sign.
        unsigned: ValueId,
        /// I8, four for each lane.
        signed: ValueId,
    },
    /// A mask, lane by lane.
    Compare(Predicate, ValueId, ValueId),
    /// `mask ? a : b`, lane by lane.
    Select(ValueId, ValueId, ValueId),
    /// To the result's element, lane by lane.
    Convert(Conversion, ValueId),
    /// All lanes combined into a scalar, in any order.
    Reduce(BinaryOp, ValueId),
}

/// An operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnaryOp {
    /// −x; floats.
    Neg,
    /// |x|; floats.
    Abs,
    /// √x, correctly rounded; floats.
    Sqrt,
    /// Rounded down; floats.
    Floor,
    /// Rounded up; floats.
    Ceil,
    /// Rounded towards zero; floats.
    Trunc,
    /// Rounded to the nearest whole number, halves to even; floats.
    RoundEven,
}

/// An operation on two values of equal type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BinaryOp {
    /// Integers wrap.
    Add,
    /// Integers wrap.
    Sub,
    /// Integers wrap.
    Mul,
    /// Floats.
    Div,
    /// Signed, truncating; the divisor is neither 0 nor −1 in any lane.
    DivSigned,
    /// Unsigned; the divisor is not 0 in any lane.
    DivUnsigned,
    /// Remainder of `DivSigned`, under the same conditions.
    RemSigned,
    /// Remainder of `DivUnsigned`, under the same conditions.
    RemUnsigned,
    /// Bits or masks.
    And,
    /// Bits or masks.
    Or,
    /// Bits or masks.
    Xor,
    /// The amount is below the width.
    ShiftLeft,
    /// Copies the sign; the amount is below the width.
    ShiftRight,
    /// Shifts in zeros; the amount is below the width.
    ShiftRightLogical,
    /// Floats; NaN if one is NaN; the sign of zero is not specified.
    Min,
    /// Floats; NaN if one is NaN; the sign of zero is not specified.
    Max,
    /// Signed integers.
    MinSigned,
    /// Signed integers.
    MaxSigned,
    /// Unsigned integers.
    MinUnsigned,
    /// Unsigned integers.
    MaxUnsigned,
}

/// A comparison. Those without sign in their name are for floats and signed integers; with a NaN
/// every one of them is false but `NotEqual` and `Unordered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Predicate {
    /// a = b.
    Equal,
    /// a ≠ b, or one is NaN.
    NotEqual,
    /// a < b.
    Less,
    /// a ≤ b.
    LessEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterEqual,
    /// a < b, unsigned.
    LessUnsigned,
    /// a ≤ b, unsigned.
    LessEqualUnsigned,
    /// a > b, unsigned.
    GreaterUnsigned,
    /// a ≥ b, unsigned.
    GreaterEqualUnsigned,
    /// One of them is NaN; floats.
    Unordered,
}

/// How a value becomes one of another element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Conversion {
    /// To a wider integer, keeping the sign.
    SignExtend,
    /// To a wider integer with zeros; a mask becomes 0 or 1.
    ZeroExtend,
    /// To a narrower integer, dropping high bits.
    Truncate,
    /// Nearest float of a signed integer.
    SignedToFloat,
    /// Nearest float of an unsigned integer.
    UnsignedToFloat,
    /// Towards zero, saturating, NaN to 0.
    FloatToSigned,
    /// Towards zero, saturating, NaN to 0.
    FloatToUnsigned,
    /// Between f32 and f64.
    FloatToFloat,
    /// The same bits: between an integer and the float of its width.
    Bits,
    /// From the bits of an f16 (in an I16) to f32. Only where the target has it.
    HalfToSingle,
    /// From f32 to the bits of the nearest f16. Only where the target has it.
    SingleToHalf,
}

impl Element {
    /// Bits of one lane; 1 for a mask.
    pub const fn bits(self) -> u32 {
        match self {
            Element::Mask => 1,
            Element::I8 => 8,
            Element::I16 => 16,
            Element::I32 | Element::F32 => 32,
            Element::I64 | Element::F64 => 64,
        }
    }

    /// Whether it is a float.
    pub const fn is_float(self) -> bool {
        matches!(self, Element::F32 | Element::F64)
    }
}

impl Type {
    /// The scalar i64, the type of every index.
    pub const INDEX: Type = Type { element: Element::I64, lanes: 1 };

    /// This many lanes of an element.
    pub const fn new(element: Element, lanes: u32) -> Self {
        Type { element, lanes }
    }
}

impl Op {
    /// The values that it uses.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Op::Begin | Op::End | Op::Param(_) | Op::Constant(_) | Op::LaneNumbers => Vec::new(),
            Op::Splat(a)
            | Op::Repeat(a)
            | Op::FirstLanes(a)
            | Op::Unary(_, a)
            | Op::Convert(_, a)
            | Op::Reduce(_, a) => vec![*a],
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => vec![*a, *b],
            Op::Fma(a, b, c) | Op::Select(a, b, c) => vec![*a, *b, *c],
            Op::Dot { sum, unsigned, signed } => vec![*sum, *unsigned, *signed],
            Op::Load { address, mask, .. } => {
                let mut operands = address.operands();
                operands.extend(*mask);
                operands
            }
        }
    }
}

impl Address {
    /// The values that it uses.
    pub fn operands(&self) -> Vec<ValueId> {
        match *self {
            Address::Contiguous(start) | Address::Scattered(start) => vec![start],
            Address::Strided(start, stride) => vec![start, stride],
        }
    }
}

impl Nest {
    /// The type of a value; `None` if the nest has no such value.
    pub fn type_of(&self, value: ValueId) -> Option<Type> {
        self.types.get(value.0 as usize).copied()
    }
}
