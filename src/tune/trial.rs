//! A model with new schedules by turns with itself as it was.
//!
//! Invariant: a kernel that runs alone finds its operands in the caches; what counts is its time
//! between those that run before and after it.

use super::FASTER;
use crate::statistics::median;
use crate::{Error, Model, RunSettings};
use kiln_runtime::LaunchRecord;
use kiln_tensor::Tensor;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Turns at least, and at most.
const TURNS: (usize, usize) = (12, 200);
/// How likely a model that is as fast may be taken for a faster one.
const BY_CHANCE: f64 = 0.05;
/// Runs of a model that a trial takes at least.
pub(super) const LEAST: u32 = 2 + 2 * TURNS.0 as u32;

/// What came of it.
pub(super) struct Trial {
    /// Milliseconds of a run before and after, turn by turn.
    whole: [Vec<f64>; 2],
    /// The time of each kernel as a share of its time before, turn by turn.
    ratios: Vec<Vec<f64>>,
}

impl Trial {
    /// Of so many kernels, of which none was tried.
    pub(super) fn none(kernels: usize) -> Self {
        Trial { whole: [Vec::new(), Vec::new()], ratios: vec![Vec::new(); kernels] }
    }

    /// Runs the model, and the tuned one if there is one, on these inputs for so long.
    pub(super) fn run(
        model: &Model,
        tuned: Option<&Model>,
        inputs: &[Tensor],
        kernels: usize,
        time: Duration,
    ) -> Result<Self, Error> {
        let mut trial = Trial::none(kernels);
        let both = [model, tuned.unwrap_or(model)];
        for model in both {
            run(model, inputs, kernels)?;
        }
        let begin = Instant::now();
        for turn in 0..TURNS.1 {
            // Who comes first finds the caches of the other.
            let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut times = [Vec::new(), Vec::new()];
            for which in order {
                let (whole, each) = run(both[which], inputs, kernels)?;
                trial.whole[which].push(whole);
                times[which] = each;
            }
            for (ratios, (before, after)) in
                trial.ratios.iter_mut().zip(times[0].iter().zip(&times[1]))
            {
                if *before > 0.0 {
                    ratios.push(after / before);
                }
            }
            if turn + 1 >= TURNS.0 && begin.elapsed() >= time {
                break;
            }
        }
        Ok(trial)
    }

    /// Median milliseconds of a run before and after.
    pub(super) fn milliseconds(&self) -> (f64, f64) {
        let [before, after] = &self.whole;
        (median(before).unwrap_or(0.0), median(after).unwrap_or(0.0))
    }

    /// The time of a kernel as a share of its time before.
    pub(super) fn ratio(&self, kernel: usize) -> Option<f64> {
        median(self.ratios.get(kernel)?)
    }

    /// Those of the kernels that were faster.
    pub(super) fn faster(&self, kernels: &BTreeSet<usize>) -> BTreeSet<usize> {
        let faster = |kernel: &&usize| self.ratio(**kernel).is_some_and(|ratio| ratio < FASTER);
        kernels.iter().filter(faster).copied().collect()
    }

    /// Whether the whole model was faster, in the median and in so many turns that it is no chance: one that is as
    /// fast is faster in half of them, as coins fall (the sign test).
    pub(super) fn pays(&self) -> bool {
        let (before, after) = self.milliseconds();
        let [old, new] = &self.whole;
        let faster = old.iter().zip(new).filter(|(old, new)| new < old).count();
        after < before && at_least_heads(faster, old.len().min(new.len())) <= BY_CHANCE
    }
}

/// The probability that of so many coins at least `heads` show heads.
fn at_least_heads(heads: usize, coins: usize) -> f64 {
    let mut exactly = 0.5f64.powi(i32::try_from(coins).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    for number in 0..=coins {
        if number >= heads {
            sum += exactly;
        }
        exactly *= (coins - number) as f64 / (number + 1) as f64;
    }
    sum
}

/// Milliseconds of a run, and of each kernel in it.
fn run(model: &Model, inputs: &[Tensor], kernels: usize) -> Result<(f64, Vec<f64>), Error> {
    let mut times = vec![0.0; kernels];
    let mut trace = |record: &LaunchRecord<'_>| {
        if let Some(time) = times.get_mut(record.kernel) {
            *time += record.duration.as_secs_f64() * 1e3;
        }
    };
    let settings = RunSettings { trace: Some(&mut trace), ..RunSettings::default() };
    let start = Instant::now();
    model.run_with(inputs, settings)?;
    Ok((start.elapsed().as_secs_f64() * 1e3, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_fall_as_the_binomial_distribution_says() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(at_least_heads(0, 7), 1.0) && near(at_least_heads(7, 7), 1.0 / 128.0));
        assert!(near(at_least_heads(3, 4), 5.0 / 16.0));
        assert!(near(at_least_heads(100, 199), 0.5));
    }

    /// A model that takes as long in both, with noise, is kept as seldom as it should be.
    #[test]
    fn equal_models_seldom_pay() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut pays = |factor: f64, turns: usize| {
            let mut times =
                |factor: f64| (0..turns).map(|_| factor * (1.0 + random.f64())).collect();
            Trial { whole: [times(1.0), times(factor)], ratios: Vec::new() }.pays()
        };
        for turns in [TURNS.0, 25, TURNS.1] {
            let equal = (0..2000).filter(|_| pays(1.0, turns)).count();
            assert!(equal < 120, "{equal} of 2000 after {turns} turns");
            assert!((0..200).filter(|_| pays(0.4, turns)).count() > 190);
        }
    }
}
