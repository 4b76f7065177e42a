//! Instructions as they are executed: operands resolved, modifiers turned into functions or fields.
//!
//! Invariant: a register number is inside of the kernel's registers, a target inside of its code.

use crate::lanes::{Binary, Ternary, Unary};
use crate::number::{Format, Rounding};
use crate::syntax::{Special, Type};

/// The register that nobody reads: `_`.
pub(crate) const SINK: u32 = u32::MAX;

/// What an operand's value is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Register(u32),
    Immediate(u64),
    Special(Special),
    /// The address of a variable of the module, and an offset.
    Symbol(u32, i64),
    /// The start of dynamic shared memory, and an offset.
    Dynamic(i64),
}

/// `@p`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub register: u32,
    pub negated: bool,
}

/// One instruction.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub operation: Operation,
    pub guard: Option<Guard>,
    pub line: u32,
    /// Its name among the kernel's opcodes, for counting.
    pub opcode: u16,
}

/// An address: a register or a constant, and an offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub base: Source,
    pub offset: i64,
}

/// The state space that an access names; shared memory may be the own block's or any of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Generic,
    Global,
    Constant,
    Parameter,
    Local,
    Shared,
    Cluster,
}

/// Memory order of an access (PTX ISA, Memory Consistency Model).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Not weak: such accesses do not race with each other.
    pub strong: bool,
    pub acquire: bool,
    pub release: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub window: Window,
    pub kind: Type,
    pub targets: Box<[u32]>,
    pub place: Place,
    /// Bits of the target registers, to which signed values are extended.
    pub bits: u32,
    pub order: Order,
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub window: Window,
    pub kind: Type,
    pub values: Box<[Source]>,
    pub place: Place,
    pub order: Order,
}

/// How an atomic operation changes memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The new value from the old one and the operand.
    Apply(Binary),
    /// The operand, if the old value is the comparand.
    CompareAndSwap,
    /// The operand.
    Exchange,
}

#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub window: Window,
    pub kind: Type,
    pub change: Change,
    /// One register an element; empty for `red`.
    pub targets: Box<[u32]>,
    pub values: Box<[Source]>,
    pub second: Option<Source>,
    pub place: Place,
    pub order: Order,
}

/// What a comparison's result becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// 1.
    Predicate,
    /// All bits of 32 or 16.
    Ones(u32),
    /// 1.0 of `f32`, or of a half.
    Bits(u64),
}

/// How a comparison is combined with a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    And,
    Or,
    Xor,
}

#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub test: Binary,
    pub target: u32,
    /// The target of `p|q`: the complement, or the upper half's result for packed types.
    pub second: u32,
    pub packed: bool,
    pub a: Source,
    pub b: Source,
    pub combine: Option<(Combine, Source, bool)>,
    pub truth: Truth,
}

/// Arithmetic with the carry flag.
#[derive(Clone, Debug)]
pub(crate) struct Carry {
    pub bits: u32,
    pub subtract: bool,
    pub reads: bool,
    pub writes: bool,
    pub target: u32,
    pub a: Source,
    pub b: Source,
    /// The register of the flag.
    pub flag: u32,
}

/// `cvt` (PTX ISA, cvt).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub from: Type,
    pub to: Type,
    pub rounding: Rounding,
    /// Whether the result is an integral value of a float.
    pub integral: bool,
    pub flush: bool,
    /// `.sat`, or `.satfinite` where the result has no infinity.
    pub saturate: bool,
    pub finite: bool,
    pub relu: bool,
    /// Bits of the target register.
    pub bits: u32,
}

/// `shfl.sync` (PTX ISA, shfl.sync).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Debug)]
pub(crate) struct Shuffle {
    pub mode: ShuffleMode,
    pub target: u32,
    pub valid: u32,
    pub value: Source,
    pub distance: Source,
    pub clamp: Source,
    pub mask: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// The element type and shape of a fragment's operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Element {
    Float(Format),
    Double,
    Signed8,
    Unsigned8,
}

impl Element {
    /// Bits in a register.
    pub fn bits(self) -> u32 {
        match self {
            Element::Float(format) => 1 + format.exponent + format.fraction + format.unused,
            Element::Double => 64,
            Element::Signed8 | Element::Unsigned8 => 8,
        }
    }
}

/// What accumulators are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accumulator {
    Half,
    Single,
    Double,
    Integer { saturate: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Mma {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a_element: Element,
    pub b_element: Element,
    pub accumulator: Accumulator,
    pub d: Box<[u32]>,
    pub a: Box<[Source]>,
    pub b: Box<[Source]>,
    pub c: Box<[Source]>,
}

/// Operand A of `wgmma`.
#[derive(Clone, Debug)]
pub(crate) enum Multiplicand {
    Registers(Box<[Source]>),
    Descriptor(Source),
}

#[derive(Clone, Debug)]
pub(crate) struct Wgmma {
    pub n: usize,
    pub k: usize,
    pub a_element: Element,
    pub b_element: Element,
    pub accumulator: Accumulator,
    pub d: Box<[u32]>,
    pub a: Multiplicand,
    pub b: Source,
    /// Whether the accumulators are added: a predicate or a constant.
    pub scale_d: (Source, bool),
    pub negate_a: bool,
    pub negate_b: bool,
    pub transpose_a: bool,
    pub transpose_b: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Mbarrier {
    Init {
        place: Place,
        count: Source,
    },
    Invalidate {
        place: Place,
    },
    Arrive {
        place: Place,
        count: Source,
        /// Bytes to expect before arriving.
        expect: Option<Source>,
        target: u32,
        drop: bool,
        no_complete: bool,
    },
    Expect {
        place: Place,
        bytes: Source,
    },
    Complete {
        place: Place,
        bytes: Source,
    },
    Test {
        place: Place,
        target: u32,
        state: Source,
        parity: bool,
        blocking: bool,
    },
    Pending {
        target: u32,
        state: Source,
    },
    /// `cp.async.mbarrier.arrive`.
    CopiesArrive {
        place: Place,
        no_increment: bool,
    },
}

/// How a bulk copy says that it is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Completion {
    /// Bytes of an mbarrier's transaction count.
    Mbarrier(Place),
    /// A bulk group of the thread.
    Group,
}

/// The reduction of `cp.reduce.async.bulk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Add,
    Minimum,
    Maximum,
    Increment,
    Decrement,
    And,
    Or,
    Xor,
}

#[derive(Clone, Debug)]
pub(crate) struct BulkCopy {
    pub to: Place,
    pub to_window: Window,
    pub from: Place,
    pub from_window: Window,
    pub bytes: Source,
    pub completion: Completion,
    pub multicast: Option<Source>,
    pub reduction: Option<(Reduction, Type)>,
}

#[derive(Clone, Debug)]
pub(crate) struct TensorCopy {
    pub shared: Place,
    pub shared_window: Window,
    pub map: Place,
    pub coordinates: Box<[Source]>,
    pub completion: Completion,
    pub multicast: Option<Source>,
    pub reduction: Option<Reduction>,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Unary {
        f: Unary,
        d: u32,
        a: Source,
    },
    Binary {
        f: Binary,
        d: u32,
        a: Source,
        b: Source,
    },
    Ternary {
        f: Ternary,
        d: u32,
        a: Source,
        b: Source,
        c: Source,
    },
    Convert {
        conversion: Conversion,
        d: u32,
        a: Source,
        b: Option<Source>,
    },
    Insert {
        d: u32,
        a: Source,
        b: Source,
        position: Source,
        length: Source,
        bits: u32,
    },
    Lop3 {
        d: u32,
        a: Source,
        b: Source,
        c: Source,
        table: u8,
    },
    Compare(Box<Compare>),
    Select {
        d: u32,
        a: Source,
        b: Source,
        p: Source,
    },
    Move {
        d: u32,
        a: Source,
    },
    Pack {
        d: u32,
        parts: Box<[Source]>,
        bits: u32,
    },
    Unpack {
        parts: Box<[u32]>,
        a: Source,
        bits: u32,
    },
    Carry(Box<Carry>),
    ToGeneric {
        d: u32,
        a: Source,
        window: Window,
    },
    FromGeneric {
        d: u32,
        a: Source,
        window: Window,
    },
    IsSpace {
        d: u32,
        a: Source,
        window: Window,
    },
    MapAddress {
        d: u32,
        a: Source,
        rank: Source,
        generic: bool,
    },
    RankOf {
        d: u32,
        a: Source,
    },
    Load(Box<Load>),
    Store(Box<Store>),
    Atomic(Box<Atomic>),
    Branch {
        target: u32,
    },
    BranchIndex {
        targets: Box<[u32]>,
        index: Source,
    },
    Exit,
    Trap,
    Nothing,
    /// `bar`, `barrier.cta`: arrive, and wait where `wait`; `reduce` counts a predicate.
    Barrier {
        id: Source,
        count: Option<Source>,
        wait: bool,
        aligned: bool,
        reduce: Option<(BarrierReduction, u32, Source, bool)>,
    },
    ClusterArrive {
        release: bool,
    },
    ClusterWait,
    WarpBarrier {
        mask: Source,
    },
    Fence,
    ProxyFence,
    Shuffle(Box<Shuffle>),
    Vote {
        mode: VoteMode,
        d: u32,
        p: Source,
        negated: bool,
        mask: Source,
    },
    Match {
        d: u32,
        p: u32,
        a: Source,
        mask: Source,
        all: bool,
        bits: u32,
    },
    ActiveMask {
        d: u32,
    },
    ReduceLanes {
        f: Binary,
        d: u32,
        a: Source,
        mask: Source,
    },
    Elect {
        d: u32,
        p: u32,
        mask: Source,
    },
    CopyAsync {
        to: Place,
        from: Place,
        from_window: Window,
        bytes: u32,
        source_bytes: Option<Source>,
    },
    CopyCommit,
    /// Waits until at most so many groups are pending; `u32::MAX`: until all copies are done.
    CopyWait(u32),
    LoadMatrix {
        targets: Box<[u32]>,
        place: Place,
        window: Window,
        transpose: bool,
    },
    StoreMatrix {
        values: Box<[Source]>,
        place: Place,
        window: Window,
        transpose: bool,
    },
    Mma(Box<Mma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait(u32),
    Wgmma(Box<Wgmma>),
    Mbarrier(Box<Mbarrier>),
    BulkCopy(Box<BulkCopy>),
    TensorCopy(Box<TensorCopy>),
    BulkCommit,
    /// With or without `.read`: what was copied is in device memory when it was read.
    BulkWait {
        pending: u32,
    },
    /// Prefetches that only check their address.
    Touch {
        place: Place,
        window: Window,
        bytes: u64,
    },
    Sleep,
}

/// The reduction of `bar.red`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierReduction {
    Count,
    And,
    Or,
}
