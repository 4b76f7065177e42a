//! Several processes that tune one model together, each a part of its kernels.
//!
//! Invariant: all ranks exchange the same things in the same order; one that cannot go on ends all.

use crate::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error as ThisError;

/// The processes of one search, as MPI has them.
pub trait Ranks {
    /// The number of this one.
    fn rank(&self) -> usize;
    /// How many there are.
    fn count(&self) -> usize;
    /// Waits for all, without using the processor, and gives what each has to say, by rank.
    fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError>;
    /// Ends all of them, because this one cannot go on. Of one alone nothing has to be ended.
    fn abandon(&self) {}
}

/// Why processes cannot tune together.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum RanksError {
    /// There is no MPI in this build, or it does not start.
    #[error("{reason}")]
    Start {
        /// What is missing.
        reason: &'static str,
    },
    /// Ranks were given different models, inputs or options.
    #[error(
        "rank {rank} has {theirs} kernels, and rank 0 has {ours}: give all of them the same model and options"
    )]
    Kernels {
        /// The rank that differs.
        rank: usize,
        /// Kernels of its model.
        theirs: usize,
        /// Kernels of the model of rank 0.
        ours: usize,
    },
    /// What a rank says is not understood: it is another version of Kiln, or its message is too long.
    #[error("what rank {rank} sends cannot be read: {reason}")]
    Message {
        /// Who sent it.
        rank: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// One process alone.
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        Ok(vec![own.to_vec()])
    }
}

/// What each rank has to say, by rank.
pub(super) fn exchange<T: Serialize + DeserializeOwned>(
    ranks: &dyn Ranks,
    own: &T,
) -> Result<Vec<T>, Error> {
    let rank = ranks.rank();
    let unreadable = |rank| {
        move |error: serde_json::Error| RanksError::Message { rank, reason: error.to_string() }
    };
    let own = serde_json::to_vec(own).map_err(unreadable(rank))?;
    let all = ranks.exchange(&own)?;
    let read = all
        .iter()
        .enumerate()
        .map(|(rank, said)| Ok(serde_json::from_slice(said).map_err(unreadable(rank))?));
    read.collect()
}

/// Which rank searches each kernel, by what kernels cost: the costliest first, each to the rank that has
/// least to do. Equal costs give equal shares.
pub(super) fn shares(costs: &[f64], ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]).then(a.cmp(&b)));
    let mut loads = vec![0.0; ranks.max(1)];
    let mut shares = vec![0; costs.len()];
    for kernel in order {
        let least = (0..loads.len()).min_by(|&a, &b| f64::total_cmp(&loads[a], &loads[b]));
        let rank = least.unwrap_or(0);
        loads[rank] += costs[kernel];
        shares[kernel] = rank;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_shared_evenly() {
        assert_eq!(shares(&[1.0, 5.0, 2.0, 2.0], 2), [1, 0, 1, 1]);
        assert_eq!(shares(&[1.0, 1.0, 1.0], 1), [0, 0, 0]);
        assert_eq!(shares(&[], 3), [0; 0]);
    }
}
