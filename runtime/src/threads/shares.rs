//! Tasks cut into pieces, and each thread's share of those: its own from the front, others' from behind.
//!
//! Invariant: every piece is taken once, by whomever is free.

use super::Apart;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pieces of each thread's share, if there are tasks enough: so many times can a thread that is done help
/// out one that is held up.
const PIECES: i64 = 8;

/// How the tasks of one call are cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    tasks: i64,
    pieces: u32,
    threads: u32,
}

impl Cut {
    /// For so many threads, in pieces that are at most as many as tasks, and where that leaves one for
    /// each thread, of at least half a `grain`.
    pub(super) fn of(tasks: i64, grain: i64, threads: usize) -> Self {
        let threads = u32::try_from(threads).unwrap_or(u32::MAX).max(1);
        let least = i64::from(threads);
        let worth = tasks.saturating_mul(2) / grain.max(1);
        let pieces = worth.clamp(least, least.saturating_mul(PIECES)).min(tasks).max(0);
        Cut { tasks, pieces: u32::try_from(pieces).unwrap_or(u32::MAX), threads }
    }

    /// The pieces of a thread's share: consecutive, numbers differing by at most one.
    fn share(self, thread: usize) -> Range<u32> {
        let begin = |thread: u64| {
            (u64::from(self.pieces) * thread / u64::from(self.threads)).min(self.pieces.into())
                as u32
        };
        begin(thread as u64)..begin(thread as u64 + 1)
    }

    /// The tasks of a piece, likewise.
    fn tasks(self, piece: u32) -> Range<i64> {
        let begin = |piece: u32| {
            (i128::from(self.tasks) * i128::from(piece) / i128::from(self.pieces.max(1))) as i64
        };
        begin(piece)..begin(piece + 1)
    }
}

/// What is left of the share of each thread: the first piece in the high half, the end in the low one.
pub(super) struct Shares(Vec<Apart<AtomicU64>>);

impl Shares {
    pub(super) fn new(threads: usize) -> Self {
        Shares((0..threads).map(|_| Apart(AtomicU64::new(0))).collect())
    }

    /// Deals the pieces out. Nobody may be taking any; whoever does later must have seen what was written
    /// after this.
    pub(super) fn deal(&self, cut: Cut) {
        for (thread, share) in self.0.iter().enumerate() {
            let Range { start, end } = match thread < cut.threads as usize {
                true => cut.share(thread),
                false => 0..0,
            };
            share.0.store(u64::from(start) << 32 | u64::from(end), Ordering::Relaxed);
        }
    }

    /// Tasks for a thread: the next ones of its own share, or the last ones of another's.
    pub(super) fn take(&self, cut: Cut, thread: usize) -> Option<Range<i64>> {
        let threads = (cut.threads as usize).min(self.0.len());
        let piece = self.piece(thread, true).or_else(|| {
            let others = (1..threads).map(|distance| (thread + distance) % threads);
            others.into_iter().find_map(|other| self.piece(other, false))
        });
        piece.map(|piece| cut.tasks(piece))
    }

    fn piece(&self, thread: usize, first: bool) -> Option<u32> {
        let share = &self.0.get(thread)?.0;
        let rest = |value: u64| ((value >> 32) as u32, value as u32);
        let next = |value: u64| {
            let (start, end) = rest(value);
            let left = if first { (start + 1, end) } else { (start, end.wrapping_sub(1)) };
            (start < end).then_some(u64::from(left.0) << 32 | u64::from(left.1))
        };
        // What the tasks write is handed over by whoever reports back, not here.
        let before = share.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let (start, end) = rest(before);
        Some(if first { start } else { end - 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_tasks_once() {
        let mut cases = vec![(0, 1, 3), (1, 1, 1), (5, 1, 2), (3, 1, 4), (100, 1, 4)];
        cases.extend([(100, 30, 3), (1000, 1, 7), (i64::MAX, 1, 2), (i64::MAX, i64::MAX, 5)]);
        for (tasks, grain, threads) in cases {
            let cut = Cut::of(tasks, grain, threads);
            let shares = Shares::new(threads);
            shares.deal(cut);
            let mut taken = Vec::new();
            // One thread does its own share, and then all the others'.
            while let Some(tasks) = shares.take(cut, threads - 1) {
                taken.push((tasks.start, tasks.end));
            }
            taken.sort_unstable();
            let mut next = 0;
            for (start, end) in taken {
                assert_eq!(start, next, "{tasks} tasks on {threads} threads");
                assert!(end > start);
                next = end;
            }
            assert_eq!(next, tasks);
        }
    }

    #[test]
    fn a_thread_takes_its_own_share_from_the_front_and_others_from_behind() {
        let cut = Cut::of(16, 1, 2);
        let shares = Shares::new(2);
        shares.deal(cut);
        assert_eq!(shares.take(cut, 0), Some(0..1));
        assert_eq!(shares.take(cut, 1), Some(8..9));
        for place in 1..8 {
            assert_eq!(shares.take(cut, 0), Some(place..place + 1));
        }
        assert_eq!(shares.take(cut, 0), Some(15..16));
        assert_eq!(shares.take(cut, 1), Some(9..10));
    }

    #[test]
    fn pieces_are_no_smaller_than_half_a_grain() {
        for (tasks, grain, threads, pieces) in
            [(100, 10, 2, 16), (100, 20, 2, 10), (100, 50, 2, 4), (100, 99, 2, 2), (3, 1, 8, 3)]
        {
            assert_eq!(Cut::of(tasks, grain, threads).pieces, pieces, "{tasks} by {grain}");
        }
    }
}
