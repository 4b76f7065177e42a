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

    fn steps(self) -> u64 {
        u64::from(self.last.saturating_sub(self.first)) + 1
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

/// What buffers are placed by, the greatest first.
type Urgency = fn(Lifetime, u64) -> (u64, u64);

/// Rounds in which an order is changed.
const ROUNDS: usize = 8;
/// Bytes of an arena for each that is alive at once, more than which is worth another round.
const ENOUGH: f64 = 1.02;

/// Places buffers of known sizes; `None` if the arena would not fit 63 bits.
///
/// Largest first, each at the lowest offset that is free over its lifetime (the "greedy by size"
/// heuristic of Pisarchyk and Lee, arXiv 2001.03288). Where that takes more than what is alive at once,
/// the buffer that reaches highest is placed before all others, again and again: it was squeezed out by what
/// is larger, but lives beside what could have gone elsewhere. Then the same from what is largest and alive for
/// longest, and from what is used last.
pub fn place(buffers: &[(Lifetime, u64)]) -> Option<Placement> {
    let aligned = |&(lifetime, size): &(Lifetime, u64)| {
        Some((lifetime, size.max(1).checked_next_multiple_of(ALIGNMENT as u64)?))
    };
    let buffers: Vec<(Lifetime, u64)> = buffers.iter().map(aligned).collect::<Option<_>>()?;
    let orders: [Urgency; 3] = [
        |_, size| (size, 0),
        |lifetime, size| (size.saturating_mul(lifetime.steps()), 0),
        |lifetime, size| (u64::from(lifetime.last), size),
    ];
    let enough = (alive(&buffers) as f64 * ENOUGH) as u64;
    let mut best: Option<Placement> = None;
    for urgency in orders {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&index| {
            let (lifetime, size) = buffers[index];
            (std::cmp::Reverse(urgency(lifetime, size)), index)
        });
        for _ in 0..ROUNDS {
            // One order may not fit where another does.
            let Some(next) = in_order(&buffers, &order) else { break };
            let ends = |index: usize| next.offsets[index] + buffers[index].1;
            let highest = order.iter().position(|&index| ends(index) == next.size);
            if best.as_ref().is_none_or(|best| next.size < best.size) {
                best = Some(next);
            }
            if best.as_ref().is_some_and(|best| best.size <= enough) {
                return best;
            }
            let Some(highest) = highest.filter(|&place| place > 0) else { break };
            order[..=highest].rotate_right(1);
        }
    }
    best
}

/// Places buffers one after the other, each as low as it can.
fn in_order(buffers: &[(Lifetime, u64)], order: &[usize]) -> Option<Placement> {
    let mut placed: Vec<(u64, u64, Lifetime)> = Vec::with_capacity(buffers.len());
    let mut placement = Placement { offsets: vec![0; buffers.len()], size: 0 };
    for &index in order {
        let (lifetime, size) = buffers[index];
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

/// Bytes that are alive at once, at most: no placement takes fewer.
fn alive(buffers: &[(Lifetime, u64)]) -> u64 {
    let begins = buffers.iter().map(|&(lifetime, size)| (lifetime.first, true, size));
    let ends =
        buffers.iter().map(|&(lifetime, size)| (lifetime.last.saturating_add(1), false, size));
    let mut events: Vec<(u32, bool, u64)> = begins.chain(ends).collect();
    // What ends at a step does so before others begin.
    events.sort_unstable();
    let (mut now, mut most) = (0u64, 0u64);
    for (_, begins, size) in events {
        now = if begins { now.saturating_add(size) } else { now.saturating_sub(size) };
        most = most.max(now);
    }
    most
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
    fn what_largest_first_squeezes_out_is_placed_earlier() {
        let buffers = [(1, 1, 4), (3, 4, 3), (3, 5, 2), (1, 3, 3)]
            .map(|(first, last, size)| (Lifetime { first, last }, size * ALIGNMENT as u64));
        // The fourth lies above the first, and the third above both that it lives beside.
        assert_eq!(in_order(&buffers, &[0, 1, 3, 2]).unwrap().size, 9 * ALIGNMENT as u64);
        assert_eq!(alive(&buffers), 8 * ALIGNMENT as u64);
        assert_eq!(place(&buffers).unwrap().size, 8 * ALIGNMENT as u64);
    }

    #[test]
    fn what_is_alive_at_once_is_counted_step_by_step() {
        let buffers = [(0, 0, 5), (0, 2, 1), (1, 1, 3), (2, 2, 7)];
        let buffers = buffers.map(|(first, last, size)| (Lifetime { first, last }, size));
        assert_eq!(alive(&buffers), 8);
        assert_eq!(alive(&[]), 0);
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
