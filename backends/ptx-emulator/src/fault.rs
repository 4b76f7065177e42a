//! Faults: what a kernel did that a GPU would leave undefined, refuse, or never finish.
//!
//! Invariant: a fault of an instruction names the kernel, the line of the text, the block and the thread.

use std::fmt;
use thiserror::Error;

/// A state space of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Device memory.
    Global,
    /// Memory of a block.
    Shared,
    /// Memory of a thread.
    Local,
    /// Constants of the module.
    Constant,
    /// Parameters of the kernel.
    Parameter,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Constant => "constant",
            Space::Parameter => "parameter",
        })
    }
}

/// Threads of one warp that wait for something that does not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Block, within the grid.
    pub block: [u32; 3],
    /// Warp, within its block.
    pub warp: u32,
    /// A bit for each lane that waits.
    pub lanes: u32,
    /// Line of the instruction that waits.
    pub line: u32,
    /// What it waits for.
    pub what: String,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "block {:?} warp {} lanes {:#010x} at line {}: {}",
            self.block, self.warp, self.lanes, self.line, self.what
        )
    }
}

/// What went wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultKind {
    /// The launch itself is not possible.
    #[error("the launch is refused: {0}")]
    Launch(String),
    /// An access that is not inside of one live allocation, variable or parameter.
    #[error("{bytes} bytes at {space} address {address:#x} are out of bounds")]
    OutOfBounds {
        /// The state space.
        space: Space,
        /// First byte.
        address: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// An access whose address is no multiple of its size.
    #[error("{space} address {address:#x} is not a multiple of {bytes}")]
    Misaligned {
        /// The state space.
        space: Space,
        /// The address.
        address: u64,
        /// What it has to be a multiple of.
        bytes: u64,
    },
    /// A write to what can only be read.
    #[error("a write to {space} address {address:#x}, which is read only")]
    ReadOnly {
        /// The state space.
        space: Space,
        /// The address.
        address: u64,
    },
    /// A register is used that nothing has written.
    #[error("register {0} is read before it is written")]
    UninitialisedRegister(String),
    /// A byte is used that nothing has written.
    #[error("{space} byte {address:#x} is read before it is written")]
    UninitialisedMemory {
        /// The state space.
        space: Space,
        /// The byte.
        address: u64,
    },
    /// Two threads touch a byte, one of them writes, and nothing orders them.
    #[error(
        "race at shared byte {address:#x}: a {this} and an earlier {earlier} by {by} are not ordered"
    )]
    Race {
        /// The byte, within the shared memory of its block.
        address: u64,
        /// What this thread does.
        this: &'static str,
        /// What was done before.
        earlier: &'static str,
        /// Who did that.
        by: String,
    },
    /// Bytes that were written by ordinary stores are used by the asynchronous proxy without a proxy fence.
    #[error(
        "shared byte {address:#x}, written by {by}, is used by the asynchronous proxy with no fence.proxy.async between"
    )]
    MissingProxyFence {
        /// The byte, within the shared memory of its block.
        address: u64,
        /// Who wrote it.
        by: String,
    },
    /// A barrier that not all lanes of a warp execute together.
    #[error(
        "lanes {arrived:#010x} execute a barrier that lanes {missing:#010x} of the warp do not"
    )]
    DivergentBarrier {
        /// Lanes that are there.
        arrived: u32,
        /// Lanes of the warp that live, but are elsewhere.
        missing: u32,
    },
    /// A warp-level instruction whose mask does not fit the lanes that execute it.
    #[error("lanes {executing:#010x} execute an instruction for lanes {mask:#010x}: {message}")]
    LaneMask {
        /// Lanes that execute it.
        executing: u32,
        /// Lanes that it names.
        mask: u32,
        /// What does not fit.
        message: &'static str,
    },
    /// Nothing can go on.
    #[error("deadlock: {}", .0.iter().map(Waiting::to_string).collect::<Vec<_>>().join("; "))]
    Deadlock(Vec<Waiting>),
    /// A register that a `wgmma` in flight reads or writes is touched.
    #[error("register {0} belongs to a wgmma that is in flight")]
    InFlight(String),
    /// A register that `wgmma` uses was written after the last `wgmma.fence`.
    #[error("register {0} was written with no wgmma.fence before its use by wgmma")]
    MissingWgmmaFence(String),
    /// An mbarrier is used as it must not be.
    #[error("mbarrier at shared address {address:#x}: {message}")]
    Mbarrier {
        /// Its address within the shared memory of its block.
        address: u64,
        /// What is wrong.
        message: &'static str,
    },
    /// An operand that the instruction does not allow.
    #[error("{0}")]
    Operand(String),
    /// `trap` was executed.
    #[error("trap")]
    Trap,
    /// More instructions than the limits allow.
    #[error("more than {0} warp instructions")]
    Steps(u64),
}

/// A fault and where it happened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct Fault {
    /// Name of the kernel.
    pub kernel: String,
    /// Line of the text, from 1; 0 if it is about the whole launch.
    pub line: u32,
    /// Block within the grid.
    pub block: [u32; 3],
    /// Thread within the block.
    pub thread: [u32; 3],
    /// What went wrong.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.kernel, self.kind);
        }
        write!(
            f,
            "{} line {}, block {:?}, thread {:?}: {}",
            self.kernel, self.line, self.block, self.thread, self.kind
        )
    }
}

/// A fault of one lane, before it is known where the lane is.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub lane: usize,
    pub kind: FaultKind,
}

/// What an instruction gives, or why not.
pub(crate) type Outcome<T> = Result<T, Box<Trouble>>;

/// A fault of a lane.
pub(crate) fn trouble<T>(lane: usize, kind: FaultKind) -> Outcome<T> {
    Err(Box::new(Trouble { lane, kind }))
}
