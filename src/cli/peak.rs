//! The machine's peaks, measured: fused multiply-adds on registers alone, and copies of memory.
//!
//! Invariant: the loop of sums touches no memory and has more independent ones than the units have
//! stages, so nothing but the units limits it; what is copied is larger than caches.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Independent sums in one loop: four cycles of latency times two units, and some more.
const SUMS: usize = 12;
/// Multiply-adds of each sum between two looks at the clock.
const STEPS: usize = 20_000;
/// Long enough for the clock to rise and for the best of several tries to be undisturbed.
const TIME: Duration = Duration::from_millis(60);

/// Single-precision operations a second of `threads` threads at once.
pub fn flops(threads: usize) -> f64 {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(of_this_thread)).collect();
        let own = of_this_thread();
        own + others.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum::<f64>()
    })
}

/// Bytes that each thread copies at once.
const COPIED: usize = 64 << 20;

/// Bytes a second that `threads` threads read and write at once; copying reads one for each that it
/// writes. Nothing if there is no memory for it.
pub fn bandwidth(threads: usize) -> f64 {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(copied_by_this_thread)).collect();
        let own = copied_by_this_thread();
        own + others.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum::<f64>()
    })
}

/// The best rate that was seen.
fn copied_by_this_thread() -> f64 {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    if from.try_reserve_exact(COPIED).is_err() || to.try_reserve_exact(COPIED).is_err() {
        return 0.0;
    }
    from.resize(COPIED, 1u8);
    to.resize(COPIED, 2u8);
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while begin.elapsed() < 4 * TIME {
        let start = Instant::now();
        black_box(&mut to).copy_from_slice(black_box(&from));
        best = best.max((2 * COPIED) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// The best rate that was seen.
fn of_this_thread() -> f64 {
    let (run, lanes) = kernel();
    let operations = (2 * lanes * SUMS * STEPS) as f64;
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while begin.elapsed() < TIME {
        let start = Instant::now();
        black_box(run(black_box(0.999_999)));
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    best
}

/// The widest loop that this processor has, and its lanes.
fn kernel() -> (fn(f32) -> f32, usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return (|factor| unsafe { x86::wide(factor) }, 16);
        }
        if std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the feature, and with it AVX.
            return (|factor| unsafe { x86::narrow(factor) }, 8);
        }
    }
    (plain, 4)
}

/// What the compiler makes of it without any extension: vectors of four.
fn plain(factor: f32) -> f32 {
    let mut sums = [[1.0f32; 4]; SUMS];
    for _ in 0..STEPS {
        for lane in sums.iter_mut().flatten() {
            *lane = *lane * factor + 1e-6;
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STEPS, SUMS};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) fn wide(factor: f32) -> f32 {
        let (factor, term) = (_mm512_set1_ps(factor), _mm512_set1_ps(1e-6));
        let mut sums = [_mm512_set1_ps(1.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        sums.into_iter().fold(0.0, |total, sum| total + _mm512_reduce_add_ps(sum))
    }

    #[target_feature(enable = "avx,fma")]
    pub(super) fn narrow(factor: f32) -> f32 {
        let (factor, term) = (_mm256_set1_ps(factor), _mm256_set1_ps(1e-6));
        let mut sums = [_mm256_set1_ps(1.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        let total = sums.into_iter().fold(_mm256_setzero_ps(), |a, b| _mm256_add_ps(a, b));
        _mm_cvtss_f32(_mm256_castps256_ps128(total))
    }
}
