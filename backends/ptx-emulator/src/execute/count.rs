//! What accesses of a warp cost: sectors of device memory, passes over the banks of shared memory.
//!
//! Invariant: counting changes nothing else. The model is NVIDIA's of today: sectors of 32 bytes; 32 banks of 4 bytes,
//! a warp at a time for accesses of up to 4 bytes, half a warp for 8, a quarter for 16; lanes that read the same word
//! share it.

use super::Machine;
use super::address::Target;
use crate::lanes::{WIDTH, set};

const SECTOR: u64 = 32;

impl Machine<'_> {
    /// Counts one access of a warp.
    pub fn count_access(&mut self, mask: u32, targets: &[Target; WIDTH], bytes: u64) {
        let first = mask.trailing_zeros() as usize;
        match targets[first] {
            Target::Global(_) => self.count_sectors(mask, targets, bytes),
            Target::Shared(..) => self.count_banks(mask, targets, bytes),
            _ => {}
        }
    }

    fn count_sectors(&mut self, mask: u32, targets: &[Target; WIDTH], bytes: u64) {
        let mut sectors = [0u64; WIDTH * 2];
        let mut addresses = [0u64; WIDTH];
        let (mut count, mut lanes) = (0, 0);
        let mut last = u64::MAX;
        for lane in set(mask) {
            let Target::Global(address) = targets[lane] else { continue };
            addresses[lanes] = address;
            lanes += 1;
            let end = address.saturating_add(bytes.max(1) - 1) / SECTOR;
            for sector in address / SECTOR..=end {
                if sector != last && count < sectors.len() {
                    sectors[count] = sector;
                    count += 1;
                    last = sector;
                }
            }
        }
        let sorted = &mut sectors[..count];
        sorted.sort_unstable();
        let distinct = 1 + sorted.windows(2).filter(|w| w[0] != w[1]).count() as u64;
        // The least is what the distinct bytes would fill, had they been side by side.
        let lanes = &mut addresses[..lanes];
        lanes.sort_unstable();
        let places = 1 + lanes.windows(2).filter(|w| w[0] != w[1]).count() as u64;
        let least = (places * bytes).div_ceil(SECTOR);
        self.tally.counters.global_sectors += distinct;
        self.tally.counters.excess_sectors += distinct.saturating_sub(least);
    }

    fn count_banks(&mut self, mask: u32, targets: &[Target; WIDTH], bytes: u64) {
        let at_once = match bytes {
            0..=4 => 32,
            5..=8 => 16,
            _ => 8,
        };
        for start in (0..WIDTH).step_by(at_once) {
            let part = mask & (u32::MAX >> (32 - at_once)) << start;
            if part == 0 {
                continue;
            }
            let mut words = [0u64; 64];
            let mut count = 0;
            for lane in set(part) {
                let Target::Shared(_, address) = targets[lane] else { continue };
                for word in address / 4..=(address + bytes.max(1) - 1) / 4 {
                    if count < words.len() {
                        words[count] = word;
                        count += 1;
                    }
                }
            }
            self.count_words(&mut words[..count]);
        }
    }

    /// Counts the passes that words of shared memory need together.
    pub fn count_words(&mut self, words: &mut [u64]) {
        words.sort_unstable();
        let mut banks = [0u8; 32];
        let mut previous = u64::MAX;
        let mut distinct = 0u64;
        for word in words.iter() {
            if *word != previous {
                banks[(word % 32) as usize] += 1;
                distinct += 1;
                previous = *word;
            }
        }
        let passes = u64::from(banks.iter().copied().max().unwrap_or(0));
        self.tally.counters.shared_wavefronts += passes;
        self.tally.counters.bank_conflicts += passes.saturating_sub(distinct.div_ceil(32));
    }
}
