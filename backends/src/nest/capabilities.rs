//! What a code generator can translate.
//!
//! Invariant: capabilities choose among forms that compute the same values; they never say what is
//! computed.

use crate::target::Target;
use kiln_program::Architecture;

/// Operations beyond the plain ones that a code generator has for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`super::Op::Fma`]; without it a product is rounded before the addition.
    pub fma: bool,
    /// [`super::Conversion::HalfToSingle`] and back; without them they are integer arithmetic.
    pub half: bool,
    /// Bits of the widest vector of sums that [`super::Op::Dot`] adds to; at least 128.
    pub dot: Option<u32>,
    /// [`super::Stmt::Prefetch`]; without it nothing is announced.
    pub prefetch: bool,
    /// Vector loads and stores under a mask; without them the rest of a vector axis is done by a
    /// scalar loop.
    pub masks: bool,
    /// The one width that vectors may have: no wider vector of any element occurs, so that a
    /// stage that mixes widths is done in scalars.
    pub only_bits: Option<u32>,
}

impl Capabilities {
    /// For a code generator that legalises every vector type itself, as LLVM does.
    pub fn full(target: &Target) -> Self {
        let arm = target.architecture() == Some(Architecture::Aarch64);
        Capabilities {
            fma: target.fuses_multiply_add(),
            half: arm || target.has("f16c"),
            dot: dot_of(target),
            prefetch: true,
            // Where the processor has none, LLVM writes a branch for each lane.
            masks: !arm,
            only_bits: None,
        }
    }

    /// For a code generator that splits vectors into 128-bit registers and does lane by lane what
    /// those cannot, as Cranelift does here.
    pub fn narrow(target: &Target) -> Self {
        Capabilities {
            fma: target.fuses_multiply_add(),
            half: false,
            dot: None,
            prefetch: false,
            masks: false,
            only_bits: None,
        }
    }
}

/// Widest vector of sums of products of bytes.
fn dot_of(target: &Target) -> Option<u32> {
    let wide = target.has("avx512vnni") && target.has("avx512vl");
    (wide || target.has("avxvnni")).then_some(if wide { target.vector_bits } else { 256 })
}
