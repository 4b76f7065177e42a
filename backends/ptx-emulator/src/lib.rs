//! An emulator of PTX: text that a compiler emitted is parsed, executed on the host and checked.
//!
//! Invariant: neither text nor arguments make it panic, hang or take memory without bound; whatever a
//! GPU would leave undefined is a [`Fault`] that names kernel, line, block and thread.
//!
//! How it works, from text to result:
//! - `syntax` turns text into declarations and statements with resolved registers;
//! - `decode` turns the statements of a kernel into a flat list of instructions, functions inlined, each with
//!   the arithmetic it needs as a function on 32 lanes;
//! - `execute` runs the warps of one cluster after another. Each warp is a list of groups of lanes that stand at
//!   the same instruction; the group with the least program counter runs first, so that lanes meet again where the
//!   layout of the code joins them (LLVM lays blocks out in an order in which that is the post-dominator, as far as
//!   there is one). A group that spins while others could run gives way, as Volta's independent scheduling does;
//! - `memory` knows for every byte whether it was written, and for shared memory who touched it last, under vector
//!   clocks in which asynchronous copies and matrix units are threads of their own.
//!
//! Where the PTX ISA leaves something open, the stricter reading holds:
//! - a `bar.sync` without a count needs all threads of the block, those that have exited, too;
//! - lanes of a warp are ordered by `bar.warp.sync` and barriers, not by exchanges;
//! - a `wgmma` needs a `wgmma.fence` after any write of its registers, also after a copy from another register;
//! - a `mbarrier.try_wait` waits for ever where its phase does not complete, and that is a deadlock.
//!
//! Where it is less strict than a GPU, or differs:
//! - asynchronous copies move their bytes when they are issued; that nobody may rely on it yet is what the clocks know;
//! - of the four warps of a warpgroup each computes its own rows, so it is not checked that all execute the same
//!   `wgmma`;
//! - bounds are those of an allocation, and of a block's shared memory as a whole, not of each variable in it;
//! - approximations are exact to the last bit, and sums of matrix instructions are rounded once: a GPU's differ within
//!   the bounds that the PTX ISA gives;
//! - races in device memory are not looked for.
//!
//! Not executed, and refused by name: `tcgen05`, `wmma`, sparse matrices, elements of fewer than eight bits, im2col
//! copies, registers of 128 bits, calls by address, recursion, textures and surfaces, stochastic rounding.

mod counters;
mod decode;
mod device;
mod error;
mod execute;
mod fault;
mod instruction;
mod lanes;
mod memory;
mod module;
mod number;
mod syntax;
mod tensor_map;

pub use counters::Counters;
pub use device::{Address, Argument, Checks, Device, Launch, Limits};
pub use error::{DeviceError, ParseError};
pub use fault::{Fault, FaultKind, Space, Waiting};
pub use module::{KernelInfo, Module, Parameter};
pub use tensor_map::{ElementType, OutOfBounds, Swizzle, TensorMap, TensorMapError};
