//! Counters: what a launch would have cost a GPU.
//!
//! Invariant: equal text, arguments and seed give equal counters.

use std::collections::BTreeMap;

/// What was counted during one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Warp instructions by opcode (first word and what distinguishes it, such as `ld.global`).
    pub instructions: BTreeMap<String, u64>,
    /// Warp instructions in all.
    pub warp_instructions: u64,
    /// Lanes of these instructions that were active.
    pub lane_instructions: u64,
    /// Wavefronts of shared-memory accesses: passes over the 32 banks of 4 bytes.
    pub shared_wavefronts: u64,
    /// Wavefronts beyond the least that the accessed bytes need: bank conflicts.
    pub bank_conflicts: u64,
    /// Sectors of 32 bytes of global memory that warps' accesses touched.
    pub global_sectors: u64,
    /// Sectors beyond the least that would hold the accessed bytes: uncoalesced accesses.
    pub excess_sectors: u64,
    /// Bytes of global memory that were read, by threads or by copies.
    pub global_bytes_read: u64,
    /// Bytes of global memory that were written, by threads or by copies.
    pub global_bytes_written: u64,
    /// Barriers of blocks that were completed.
    pub barriers: u64,
    /// Multiplications and additions of matrix instructions.
    pub matrix_flops: u64,
}
