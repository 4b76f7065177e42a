//! Addresses: which memory a lane's address is in.
//!
//! Invariant: windows of the generic address space do not overlap. Device memory has its own addresses; shared memory
//! of a cluster, local memory and parameters have a window each (PTX ISA, Generic Addressing). An address of the
//! cluster's window has the block's rank, plus 1, from bit 24 on; without it, it is the own block's.

use super::Machine;
use super::warp::Warp;
use crate::fault::{FaultKind, Outcome, Space, trouble};
use crate::instruction::{Place, Window};
use crate::lanes::Lanes;

const SHARED: u64 = 0x7f00_0000_0000;
const LOCAL: u64 = 0x7e00_0000_0000;
const PARAMETER: u64 = 0x7d00_0000_0000;
/// Bits of an address within a window.
const WITHIN: u64 = 0xff_ffff_ffff;
/// From here on bits tell the rank of a block.
pub(crate) const RANK: u32 = 24;

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Global(u64),
    /// A block of the cluster, and the address in its shared memory.
    Shared(usize, u64),
    Local(u64),
    Parameter(u64),
}

impl Machine<'_> {
    /// Addresses of all lanes.
    pub fn addresses(&mut self, warp: &Warp, place: Place, mask: u32) -> Outcome<Lanes> {
        let mut lanes = self.fetch(warp, place.base, mask)?;
        if place.offset != 0 {
            lanes.iter_mut().for_each(|a| *a = a.wrapping_add(place.offset as u64));
        }
        Ok(lanes)
    }

    /// Where a lane's address leads.
    pub fn resolve(
        &self,
        warp: &Warp,
        lane: usize,
        window: Window,
        address: u64,
    ) -> Outcome<Target> {
        let out = |space: Space| trouble(lane, FaultKind::OutOfBounds { space, address, bytes: 1 });
        match window {
            Window::Global | Window::Constant => Ok(Target::Global(address)),
            Window::Local => Ok(Target::Local(address & 0xffff_ffff)),
            Window::Parameter => Ok(Target::Parameter(address)),
            Window::Shared => {
                // An address that was computed in 32 bits may have wrapped.
                let address = address & 0xffff_ffff;
                if address >> RANK != 0 {
                    out(Space::Shared)
                } else {
                    Ok(Target::Shared(warp.block, address))
                }
            }
            Window::Cluster => {
                let address = address & 0xffff_ffff;
                let block = match (address >> RANK) as usize {
                    0 => warp.block,
                    rank => rank - 1,
                };
                if block >= self.blocks.len() {
                    return out(Space::Shared);
                }
                if self.blocks[block].alive == 0 {
                    let message =
                        format!("shared memory of block {block} of the cluster, which has exited");
                    return trouble(lane, FaultKind::Operand(message));
                }
                Ok(Target::Shared(block, address & ((1 << RANK) - 1)))
            }
            Window::Generic => match address & !WITHIN {
                SHARED => self.resolve(warp, lane, Window::Cluster, address & WITHIN),
                LOCAL => Ok(Target::Local(address & WITHIN)),
                PARAMETER => Ok(Target::Parameter(address & WITHIN)),
                _ => Ok(Target::Global(address)),
            },
        }
    }

    /// `cvta`.
    pub fn to_generic(&self, warp: &Warp, window: Window, address: u64) -> u64 {
        match window {
            Window::Shared | Window::Cluster => {
                let address = address & 0xffff_ffff;
                let rank = if address >> RANK == 0 { (warp.block as u64 + 1) << RANK } else { 0 };
                SHARED | rank | address
            }
            Window::Local => LOCAL | address & WITHIN,
            Window::Parameter => PARAMETER | address & WITHIN,
            Window::Global | Window::Constant | Window::Generic => address,
        }
    }

    /// `cvta.to`.
    pub fn without_generic(&self, warp: &Warp, window: Window, address: u64) -> u64 {
        match window {
            Window::Shared | Window::Cluster => {
                let within = address & 0xffff_ffff;
                let own = within >> RANK == warp.block as u64 + 1;
                if own { within & ((1 << RANK) - 1) } else { within }
            }
            Window::Local | Window::Parameter => address & WITHIN,
            Window::Global | Window::Constant | Window::Generic => address,
        }
    }

    /// `isspacep`.
    pub fn is_in(&self, warp: &Warp, window: Window, address: u64) -> bool {
        match (window, address & !WITHIN) {
            (Window::Shared, SHARED) => (address >> RANK & 0xff) == warp.block as u64 + 1,
            (Window::Cluster, SHARED) | (Window::Local, LOCAL) | (Window::Parameter, PARAMETER) => {
                true
            }
            (Window::Global, high) => !matches!(high, SHARED | LOCAL | PARAMETER),
            _ => false,
        }
    }

    /// `mapa`: the same variable in another block.
    pub fn map_address(&self, lane: usize, address: u64, rank: u64, generic: bool) -> Outcome<u64> {
        if rank as usize >= self.blocks.len() {
            return trouble(
                lane,
                FaultKind::Operand(format!("mapa to block {rank} of the cluster")),
            );
        }
        let within = address & ((1 << RANK) - 1);
        let mapped = (rank + 1) << RANK | within;
        Ok(if generic { SHARED | mapped } else { mapped })
    }

    /// `getctarank`.
    pub fn rank_of(&self, warp: &Warp, address: u64) -> u64 {
        match address >> RANK & 0xff {
            0 => warp.block as u64,
            rank => rank - 1,
        }
    }
}
