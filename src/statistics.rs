//! Order statistics of timed runs.
//!
//! Invariant: what is reported are values that occurred or interpolations between neighbours,
//! never means: shared machines have outliers.

use serde::Serialize;
use std::time::Duration;

/// Latency of the runs in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Fastest run.
    pub min: f64,
    /// Half of the runs were at least as fast.
    pub median: f64,
    /// 95 of 100 runs were at least as fast.
    pub p95: f64,
}

impl Latency {
    /// Statistics of these runs; `None` if there are none.
    pub fn of(runs: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<f64> = runs.iter().map(|run| run.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Latency {
            min: *sorted.first()?,
            median: quantile(&sorted, 0.5)?,
            p95: quantile(&sorted, 0.95)?,
        })
    }
}

/// The median of some numbers; `None` if there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// What a share `q` of sorted numbers are at most.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let position = q * sorted.len().checked_sub(1)? as f64;
    let low = *sorted.get(position.floor() as usize)?;
    let high = *sorted.get(position.ceil() as usize)?;
    Some(low + (high - low) * position.fract())
}

/// Greatest resident memory of this process so far, in bytes; `None` where the system does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let runs: Vec<_> = (1..=5).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(&runs).unwrap();
        assert_eq!((latency.min, latency.median), (1.0, 3.0));
        assert!((latency.p95 - 4.8).abs() < 1e-9);
        assert!(Latency::of(&[]).is_none());
    }
}
