//! Placement: where in one arena buffers lie, so that those alive together do not overlap.
//!
//! Invariant: offsets are multiples of [`ALIGNMENT`], and two buffers whose lifetimes meet never
//! share a byte.

use kiln_tensor::ALIGNMENT;
use serde::{Deserialize, Serialize};

/// The steps during which a buffer must keep its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The step that writes it first.
    pub first: u32,
    /// The last step that uses it.
    pub last: u32,
}

impl Lifetime {
    fn meets(self, other: Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where the buffers lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Offset of each buffer in bytes, in the order that they were given.
    pub offsets: Vec<u64>,
    /// Bytes that the arena needs.
    pub size: u64,
}

/// Places buffers of known sizes; `None` if the arena would not fit 63 bits.
///
/// Largest first, each at the lowest offset that is free over its lifetime (the "greedy by size"
/// heuristic of Pisarchyk and Lee, arXiv 2001.03288, which comes within a few percent of the
/// lower bound on inference graphs).
pub fn place(buffers: &[(Lifetime, u64)]) -> Option<Placement> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(buffers[index].1), index));
    let mut placed: Vec<(u64, u64, Lifetime)> = Vec::with_capacity(buffers.len());
    let mut placement = Placement { offsets: vec![0; buffers.len()], size: 0 };
    for index in order {
        let (lifetime, size) = buffers[index];
        let size = size.max(1).checked_next_multiple_of(ALIGNMENT as u64)?;
        // `placed` is sorted by offset, so the first gap that is wide enough is the lowest.
        let mut offset = 0u64;
        for &(start, end, other) in &placed {
            if !lifetime.meets(other) {
                continue;
            }
            if start >= offset && start - offset >= size {
                break;
            }
            offset = offset.max(end);
        }
        let end = offset.checked_add(size).filter(|&end| end <= i64::MAX as u64)?;
        let position = placed.partition_point(|&(start, ..)| start <= offset);
        placed.insert(position, (offset, end, lifetime));
        placement.offsets[index] = offset;
        placement.size = placement.size.max(end);
    }
    Some(placement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<_> =
            (0..10).map(|step| (Lifetime { first: step, last: step + 1 }, 100)).collect();
        assert_eq!(place(&chain).unwrap().size, 256);
    }

    #[test]
    fn an_arena_beyond_63_bits_is_refused() {
        let lifetime = Lifetime { first: 0, last: 1 };
        assert!(place(&[(lifetime, u64::MAX)]).is_none());
        assert!(place(&[(lifetime, 1 << 62), (lifetime, 1 << 62)]).is_none());
    }

    proptest! {
        #[test]
        fn buffers_alive_together_never_overlap(
            buffers in prop::collection::vec((0u32..20, 0u32..6, 0u64..5000), 0..40)
        ) {
            let buffers: Vec<_> = buffers
                .into_iter()
                .map(|(first, length, size)| (Lifetime { first, last: first + length }, size))
                .collect();
            let placement = place(&buffers).unwrap();
            for (i, &(a, a_size)) in buffers.iter().enumerate() {
                let a_start = placement.offsets[i];
                prop_assert!(a_start.is_multiple_of(ALIGNMENT as u64));
                prop_assert!(a_start + a_size <= placement.size);
                for (j, &(b, b_size)) in buffers.iter().enumerate().skip(i + 1) {
                    let b_start = placement.offsets[j];
                    let apart = a_start + a_size <= b_start || b_start + b_size <= a_start;
                    prop_assert!(apart || !a.meets(b), "{i} and {j}");
                }
            }
        }
    }
}
