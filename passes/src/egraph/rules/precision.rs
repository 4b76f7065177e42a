//! Cheaper forms with larger errors; used only under an error budget.
//!
//! Invariant: every rule here is `Lossy` and states its error.

use crate::egraph::build::unary;
use crate::egraph::rule::{Class, Rule, Theme};
use kiln_ir::op::UnaryFn;

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // x·(1 + erf(x/√2))/2 ≈ x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2, off by at most 4.8e-4
        // (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).
        Rule::new(
            "gelu-by-tanh",
            Theme::Precision,
            Class::Lossy { error: 5e-4 },
            "(gelu ?x)",
            |egraph, m| unary(egraph, UnaryFn::GeluTanh, m.class("x")?),
        ),
    ]
}
