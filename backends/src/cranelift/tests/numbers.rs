//! Numbers to run nests on.
//!
//! Invariant: the same on every run; those at the edges of each element occur often.

use super::dtype_of;
use crate::nest::Element;

/// The same numbers on every run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// The bits of a number: often one at an edge, else any.
    pub(super) fn bits(&mut self, element: Element) -> u64 {
        let any = self.next();
        let pick = self.below(4);
        match element {
            Element::Mask => any & 1,
            Element::F32 => {
                const EDGES: [f32; 18] = [
                    0.0,
                    -0.0,
                    1.0,
                    -1.0,
                    0.5,
                    1.5,
                    2.5,
                    -2.5,
                    127.5,
                    300.0,
                    -70000.0,
                    3e9,
                    -3e9,
                    1e30,
                    1e-40,
                    f32::INFINITY,
                    f32::NEG_INFINITY,
                    f32::NAN,
                ];
                let value = match pick {
                    0 => EDGES[self.below(EDGES.len())],
                    1 => f32::from_bits(any as u32),
                    _ => (any as i32 as f32) * 2f32.powi(self.below(40) as i32 - 40),
                };
                u64::from(value.to_bits())
            }
            Element::F64 => {
                const EDGES: [f64; 18] = [
                    0.0,
                    -0.0,
                    1.0,
                    -1.0,
                    0.5,
                    1.5,
                    2.5,
                    -2.5,
                    127.5,
                    300.0,
                    -70000.0,
                    5e9,
                    -1e19,
                    1e300,
                    1e-310,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    f64::NAN,
                ];
                let value = match pick {
                    0 => EDGES[self.below(EDGES.len())],
                    1 => f64::from_bits(any),
                    _ => (any as i64 as f64) * 2f64.powi(self.below(80) as i32 - 80),
                };
                value.to_bits()
            }
            _ => {
                let width = element.bits();
                let keep = u64::MAX >> (64 - width);
                let edges = [0, 1, 2, keep, keep >> 1, (keep >> 1) + 1, keep - 1];
                match pick {
                    0 => edges[self.below(edges.len())],
                    1 => any % 32,
                    _ => any & keep,
                }
            }
        }
    }

    /// This many elements as they lie in memory.
    pub(super) fn bytes(&mut self, element: Element, count: usize) -> Vec<u8> {
        let size = dtype_of(element).size();
        (0..count).flat_map(|_| self.bits(element).to_le_bytes()[..size].to_vec()).collect()
    }
}
