//! Equality saturation on regions of the graph: what is computed, in which layout, and what is fused.
//!
//! Invariant: decides no loop bounds; stops on node and iteration counts, never on time, so that
//! the same graph and options give the same result.

pub mod fused;
