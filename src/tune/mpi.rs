//! Ranks as MPI has them.
//!
//! Invariant: a rank that waits sleeps: on one machine it would otherwise take the processor from the one
//! that measures.

use super::ranks::{Ranks, RanksError};
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::time::Duration;

/// How long a rank sleeps before it looks again whether all have come.
const NAP: Duration = Duration::from_millis(2);

/// The processes that `mpirun` started.
pub struct Mpi {
    world: SimpleCommunicator,
    // Dropped last: with it, MPI is over.
    _universe: Universe,
}

impl Mpi {
    /// Joins the others. An error if MPI does not start, or was started before.
    pub fn join() -> Result<Self, RanksError> {
        let universe = mpi::initialize();
        let reason = "MPI was started in this process before, or does not start";
        let universe = universe.ok_or(RanksError::Start { reason })?;
        Ok(Mpi { world: universe.world(), _universe: universe })
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or(0)
    }

    fn count(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        let mut all_here = self.world.immediate_barrier();
        while let Err(not_yet) = all_here.test() {
            all_here = not_yet;
            std::thread::sleep(NAP);
        }
        // MPI counts in 32 bits; a rank whose message is too long says so instead of it.
        let mut lengths = vec![0u64; self.count()];
        self.world.all_gather_into(&(own.len() as u64), &mut lengths[..]);
        let total = lengths.iter().fold(0u64, |sum, &length| sum.saturating_add(length));
        if i32::try_from(total).is_err() {
            let reason = format!("all messages together have {total} bytes, more than MPI counts");
            return Err(RanksError::Message { rank: self.rank(), reason });
        }
        // None is longer than all of them.
        let counts: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
        let starts: Vec<i32> = counts
            .iter()
            .scan(0, |end, &count| {
                let start = *end;
                *end += count;
                Some(start)
            })
            .collect();
        let mut bytes = vec![0u8; total as usize];
        let mut parts = PartitionMut::new(&mut bytes[..], counts, &starts[..]);
        self.world.all_gather_varcount_into(own, &mut parts);
        let each = starts.iter().zip(&lengths);
        Ok(each
            .map(|(&start, &length)| bytes[start as usize..][..length as usize].to_vec())
            .collect())
    }

    fn abandon(&self) {
        self.world.abort(1)
    }
}
