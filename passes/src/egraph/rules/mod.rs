//! The rules by theme.
//!
//! Invariant: every rule is in [`all`], its equation in a comment above it, and its proof test in
//! the crate's tests: a rule without a generator of instances fails there.

mod algebra;
mod attention;
mod convolution;
mod join;
mod layout;
mod precision;
mod recognise;
mod relabel;

use super::fuse;
use super::rule::Rule;

/// Every rule, in the order in which they are applied.
pub fn all() -> Vec<Rule> {
    let rewriting = [
        algebra::rules(),
        convolution::rules(),
        recognise::rules(),
        layout::rules(),
        precision::rules(),
    ];
    [rewriting.concat(), join::rules(), fuse::rules()].concat()
}
