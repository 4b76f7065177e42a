//! How large and how small the numbers of a constant are, and so what may be made of it beforehand.
//!
//! Invariant: the product of a moderate constant with a normal one has normal numbers of the type, zeros
//! aside, so that what is multiplied by it is off by one more rounding and nothing else. Halves have no
//! such range, and no digits to spare: constants of theirs are never merged.

use crate::layout::may_be_winograd;
use crate::region::Region;
use kiln_ir::op::{BinaryFn, Op};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::{DType, Dim, Tensor};
use std::collections::BTreeSet;

/// How large and small the numbers of a constant are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Magnitude {
    /// Anything, or not looked at.
    Any,
    /// None above 2¹²⁰: weights that may be added up, a few at a time.
    Finite,
    /// None above 2⁸⁰: a term that may be scaled before it is added.
    Bounded,
    /// All that are not 0 from 2⁻⁸⁰ to 2⁸⁰: weights that may be scaled.
    Normal,
    /// All that are not 0 from 2⁻³⁶ to 2³⁶, or integers: a scale.
    Moderate,
}

/// 2³⁶
pub(super) const MODERATE: f64 = (1u64 << 36) as f64;
/// 2⁸⁰
pub(super) const NORMAL: f64 = (1u128 << 80) as f64;
/// 2¹²⁰
const FINITE: f64 = (1u128 << 120) as f64;

impl Magnitude {
    /// Looks at every number once.
    pub fn of(tensor: &Tensor) -> Self {
        if !tensor.dtype().is_float() {
            return Magnitude::Moderate;
        }
        match Range::of(tensor) {
            Some(range) if range.within(MODERATE) => Magnitude::Moderate,
            Some(range) if range.within(NORMAL) => Magnitude::Normal,
            Some(range) if range.is_below(NORMAL) => Magnitude::Bounded,
            Some(range) if range.is_below(FINITE) => Magnitude::Finite,
            _ => Magnitude::Any,
        }
    }

    /// That of products of numbers of two constants.
    pub fn times(self, other: Self) -> Self {
        match (self.min(other), self.max(other)) {
            // Up to 2⁷².
            (Magnitude::Moderate, Magnitude::Moderate) => Magnitude::Bounded,
            // Up to 2¹¹⁶.
            (Magnitude::Bounded | Magnitude::Normal, Magnitude::Moderate) => Magnitude::Finite,
            _ => Magnitude::Any,
        }
    }
}

/// The magnitudes of those of a region's inputs that are constants of the whole graph; if they are looked
/// at, then where a rule may ask.
pub(super) fn of_constants(whole: &Graph, region: &Region, look: bool) -> Vec<Option<Magnitude>> {
    let graph = &region.graph;
    let is_constant: BTreeSet<ValueId> = (graph.inputs().iter().zip(&region.constant))
        .filter_map(|(&input, &constant)| constant.then_some(input))
        .chain(graph.nodes().filter_map(|(_, node)| match node.op {
            Op::Constant(_) => Some(node.outputs[0]),
            _ => None,
        }))
        .collect();
    let scaled = scaled(graph, &is_constant);
    let mut asked: BTreeSet<ValueId> = BTreeSet::new();
    for (_, node) in graph.nodes().filter(|_| look) {
        let asks = match node.op {
            Op::Binary(_) => true,
            // They may be transformed.
            Op::Conv(ref conv)
                if filters(graph, node).is_some_and(|w| may_be_winograd(conv, w)) =>
            {
                true
            }
            Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_) => {
                node.outputs.iter().any(|output| scaled[output.0 as usize])
            }
            _ => false,
        };
        asked.extend(node.inputs.iter().filter(|_| asks));
    }
    let magnitude = |(number, input)| {
        let tensor = whole.constant_of(region.inputs[number])?;
        let asked = asked.contains(input);
        Some(if asked { Magnitude::of(tensor) } else { Magnitude::Any })
    };
    graph.inputs().iter().enumerate().map(magnitude).collect()
}

/// The shape of a convolution's filters.
fn filters<'g>(graph: &'g Graph, node: &Node) -> Option<&'g [Dim]> {
    node.inputs.get(1).map(|&w| graph.ty(w).shape.as_slice())
}

/// Which values are multiplied by constants, at once or after nothing but sums with constants and changes
/// of shape: what rules bring a factor past. The weights of others are not read, which in a large model
/// takes longer than all else.
fn scaled(graph: &Graph, is_constant: &BTreeSet<ValueId>) -> Vec<bool> {
    let mut scaled = vec![false; graph.value_count()];
    for (_, node) in graph.nodes().rev() {
        let on = node.outputs.iter().any(|output| scaled[output.0 as usize]);
        let by_constant = node.inputs.iter().any(|input| is_constant.contains(input));
        let passes = match &node.op {
            Op::Binary(binary) => match binary.f {
                BinaryFn::Mul | BinaryFn::Div => by_constant,
                BinaryFn::Add | BinaryFn::Sub => by_constant && on,
                _ => false,
            },
            Op::Reshape(_) | Op::Transpose(_) | Op::Assume(_) => on,
            _ => false,
        };
        if passes {
            node.inputs.iter().for_each(|input| scaled[input.0 as usize] = true);
        }
    }
    scaled
}

/// Whether `x/c` may be written as `x·(1/c)`.
pub(super) fn invertible(tensor: &Tensor) -> bool {
    tensor.dtype().is_float() && Range::of(tensor).is_some_and(|c| !c.zeros && c.within(MODERATE))
}

/// The least and the greatest magnitude of numbers that are not 0, both 1 if all are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    least: f64,
    most: f64,
    /// Whether there are zeros.
    zeros: bool,
}

impl Range {
    /// That of numbers that may be merged: of f32 or f64. A NaN is above all.
    pub(super) fn of(tensor: &Tensor) -> Option<Self> {
        // Magnitudes are ordered as their bits are; those of 0, less one, are above all.
        let start = (u64::MAX, 0, false);
        let wider = |(least, most, zeros): (u64, u64, bool), bits: u64| {
            (least.min(bits.wrapping_sub(1)), most.max(bits), zeros | (bits == 0))
        };
        let bytes = tensor.bytes();
        let (least, most, zeros) = match tensor.dtype() {
            DType::F32 => {
                // As numbers with a sign, which every processor compares many of at once. Weights lie wherever
                // the model's file has them.
                let (words, _) = bytes.as_chunks::<4>();
                let bits = words.iter().map(|word| i32::from_le_bytes(*word) & i32::MAX);
                let all = (i32::MAX, 0, false);
                let (least, most, zeros) = bits.fold(all, |(least, most, zeros), bits| {
                    let size = if bits == 0 { i32::MAX } else { bits };
                    (least.min(size), most.max(bits), zeros | (bits == 0))
                });
                let number = |bits: i32| f64::from(f32::from_bits(bits as u32));
                (number(least), number(most), zeros)
            }
            DType::F64 => {
                let bits = tensor.to_f64().into_iter().map(|value| value.abs().to_bits());
                let (least, most, zeros) = bits.fold(start, wider);
                (f64::from_bits(least.wrapping_add(1)), f64::from_bits(most), zeros)
            }
            _ => return None,
        };
        let (least, most) = if most == 0.0 { (1.0, 1.0) } else { (least, most) };
        Some(Range { least, most, zeros })
    }

    /// That of ones.
    pub(super) const ONE: Range = Range { least: 1.0, most: 1.0, zeros: false };

    /// Whether all are between a number and its inverse.
    pub(super) fn within(self, reach: f64) -> bool {
        1.0 / reach <= self.least && self.is_below(reach)
    }

    /// Whether none is above a number.
    pub(super) fn is_below(self, reach: f64) -> bool {
        self.most <= reach
    }

    /// That of products with numbers of another, some of them.
    pub(super) fn times(self, by: Range) -> Range {
        let zeros = self.zeros || by.zeros;
        Range { least: self.least * by.least, most: self.most * by.most, zeros }
    }

    /// That of quotients of 1 by them.
    pub(super) fn inverse(self) -> Range {
        Range { least: 1.0 / self.most, most: 1.0 / self.least, zeros: false }
    }

    /// That of sums, which may be as small as numbers get.
    pub(super) fn plus(self, by: Range) -> Range {
        Range { least: 0.0, most: self.most + by.most, zeros: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Magnitude {
        Magnitude::of(&Tensor::from_slice(vec![values.len()], values).unwrap())
    }

    #[test]
    fn zeros_do_not_count() {
        assert_eq!(of(&[8.0, 0.0, -0.3, 1e10]), Magnitude::Moderate);
        assert_eq!(of(&[0.0, -0.0]), Magnitude::Moderate);
        assert_eq!(of(&[0.0, 8.0, 1e-20]), Magnitude::Normal);
        assert_eq!(of(&[8.0, 1e-40]), Magnitude::Bounded);
        assert_eq!(of(&[8.0, -1e30]), Magnitude::Finite);
        for wild in [3e38, f32::INFINITY, f32::NAN] {
            assert_eq!(of(&[0.0, wild]), Magnitude::Any, "{wild}");
        }
        let half = Tensor::from_f64(DType::F16, vec![1], &[1.0]).unwrap();
        assert_eq!(Magnitude::of(&half), Magnitude::Any);
    }

    #[test]
    fn products_are_as_large_as_their_factors_allow() {
        let levels = [8.0f32, 1e-20, 1e20, 1e30, f32::NAN];
        for (a, b) in levels.iter().flat_map(|a| levels.iter().map(move |b| (*a, *b))) {
            let claimed = of(&[a]).times(of(&[b]));
            // The largest that the factors' levels allow.
            let largest = |x: f32| match of(&[x]) {
                Magnitude::Moderate => MODERATE,
                Magnitude::Normal | Magnitude::Bounded => NORMAL,
                _ => f64::INFINITY,
            };
            let product = (largest(a) * largest(b)) as f32;
            assert!(claimed <= of(&[product]), "{a} times {b} is called {claimed:?}");
        }
        assert_eq!(of(&[8.0]).times(of(&[1e-20])), Magnitude::Finite);
    }

    #[test]
    fn what_has_a_zero_has_no_inverse() {
        let all =
            |values: &[f64]| invertible(&Tensor::from_slice(vec![values.len()], values).unwrap());
        assert!(all(&[8.0, -0.3]));
        for wrong in [0.0, 1e-40, 3e38, f64::INFINITY, f64::NAN] {
            assert!(!all(&[2.0, wrong]), "{wrong}");
        }
    }
}
