//! Exchanges within a warp (PTX ISA, shfl.sync, vote.sync, match.sync, redux.sync, elect.sync).
//!
//! Invariant: all lanes that a mask names execute the instruction together, or the group waits for the others.

use super::Machine;
use super::step::Flow;
use super::warp::Warp;
use crate::fault::Outcome;
use crate::instruction::{SINK, Shuffle, ShuffleMode, Source, VoteMode};
use crate::lanes::{Binary, WIDTH, set};
use crate::syntax::low_bits;

impl Machine<'_> {
    /// The mask that the lanes name, once they are all here.
    pub fn member_mask(
        &mut self,
        warp: &Warp,
        mask: u32,
        group: u32,
        named: Source,
    ) -> Outcome<Result<u32, Flow>> {
        let masks = self.fetch(warp, named, mask)?;
        let lane = mask.trailing_zeros() as usize;
        let named = masks[lane] as u32;
        if let Some(other) = set(mask).find(|l| masks[*l] as u32 != named) {
            let message = "lanes name different masks";
            return crate::fault::trouble(
                other,
                crate::fault::FaultKind::LaneMask { executing: mask, mask: named, message },
            );
        }
        Ok(match self.converged(warp, mask, group, named)? {
            Some(flow) => Err(flow),
            None => Ok(named),
        })
    }

    /// `shfl.sync`.
    pub fn shuffle(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        shuffle: &Shuffle,
    ) -> Outcome<Flow> {
        if let Err(flow) = self.member_mask(warp, mask, group, shuffle.mask)? {
            return Ok(flow);
        }
        let distance = self.fetch(warp, shuffle.distance, mask)?;
        let clamp = self.fetch(warp, shuffle.clamp, mask)?;
        let values = self.fetch(warp, shuffle.value, mask)?;
        let (mut out, mut valid) = ([0; WIDTH], [0; WIDTH]);
        let mut undefined = 0u32;
        for lane in set(mask) {
            let b = (distance[lane] & 0x1f) as usize;
            let c = (clamp[lane] & 0x1f) as usize;
            let segment = (clamp[lane] >> 8 & 0x1f) as usize;
            let most = lane & segment | c & !segment;
            let least = lane & segment;
            let (from, inside) = match shuffle.mode {
                ShuffleMode::Up => {
                    let from = lane as isize - b as isize;
                    (from, from >= most as isize)
                }
                ShuffleMode::Down => (lane as isize + b as isize, lane + b <= most),
                ShuffleMode::Butterfly => ((lane ^ b) as isize, lane ^ b <= most),
                ShuffleMode::Index => {
                    let from = least | b & !segment;
                    (from as isize, from <= most)
                }
            };
            let from = if inside { from as usize } else { lane };
            valid[lane] = u64::from(inside);
            out[lane] = values[from % WIDTH];
            // What a lane that takes no part holds is undefined.
            if mask >> (from % WIDTH) & 1 == 0 {
                undefined |= 1 << lane;
            }
        }
        self.write(warp, shuffle.target, mask, &out)?;
        self.write(warp, shuffle.valid, mask, &valid)?;
        if shuffle.target != SINK {
            warp.defined[shuffle.target as usize] &= !undefined;
        }
        Ok(Flow::Next)
    }

    /// `vote.sync`.
    #[allow(clippy::too_many_arguments)]
    pub fn vote(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        mode: VoteMode,
        d: u32,
        p: (Source, bool),
        named: Source,
    ) -> Outcome<Flow> {
        if let Err(flow) = self.member_mask(warp, mask, group, named)? {
            return Ok(flow);
        }
        let values = self.fetch(warp, p.0, mask)?;
        let held = set(mask).filter(|l| (values[*l] != 0) != p.1).fold(0u32, |all, l| all | 1 << l);
        let result = match mode {
            VoteMode::All => u64::from(held == mask),
            VoteMode::Any => u64::from(held != 0),
            VoteMode::Uniform => u64::from(held == mask || held == 0),
            VoteMode::Ballot => u64::from(held),
        };
        self.write(warp, d, mask, &[result; WIDTH])?;
        Ok(Flow::Next)
    }

    /// `match.sync`.
    #[allow(clippy::too_many_arguments)]
    pub fn matching(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        (d, p): (u32, u32),
        a: Source,
        named: Source,
        all: bool,
        bits: u32,
    ) -> Outcome<Flow> {
        if let Err(flow) = self.member_mask(warp, mask, group, named)? {
            return Ok(flow);
        }
        let values = self.fetch(warp, a, mask)?;
        let equal = |x: u64, y: u64| (x ^ y) & low_bits(bits) == 0;
        let mut out = [0; WIDTH];
        for lane in set(mask) {
            let same =
                set(mask).filter(|l| equal(values[*l], values[lane])).fold(0u32, |m, l| m | 1 << l);
            out[lane] = u64::from(if all && same != mask { 0 } else { same });
        }
        let held = out.map(|m| u64::from(m != 0));
        self.write(warp, d, mask, &out)?;
        self.write(warp, p, mask, &held)?;
        Ok(Flow::Next)
    }

    /// `redux.sync`.
    pub fn reduce_lanes(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        f: Binary,
        d: u32,
        (a, named): (Source, Source),
    ) -> Outcome<Flow> {
        if let Err(flow) = self.member_mask(warp, mask, group, named)? {
            return Ok(flow);
        }
        let values = self.fetch(warp, a, mask)?;
        let mut lanes = set(mask);
        let mut total = [lanes.next().map_or(0, |l| values[l]); WIDTH];
        for lane in lanes {
            total = f(&total, &[values[lane]; WIDTH]);
        }
        self.write(warp, d, mask, &total)?;
        Ok(Flow::Next)
    }

    /// `elect.sync`: the lowest lane of the mask.
    pub fn elect(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        group: u32,
        d: u32,
        p: u32,
        named: Source,
    ) -> Outcome<Flow> {
        let named = match self.member_mask(warp, mask, group, named)? {
            Ok(named) => named,
            Err(flow) => return Ok(flow),
        };
        let leader = (named & warp.exists).trailing_zeros() as usize;
        let mut chosen = [0; WIDTH];
        chosen[leader % WIDTH] = 1;
        self.write(warp, d, mask, &[leader as u64; WIDTH])?;
        self.write(warp, p, mask, &chosen)?;
        Ok(Flow::Next)
    }
}
