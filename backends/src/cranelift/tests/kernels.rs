//! Kernels under schedules, through the loop nest.
