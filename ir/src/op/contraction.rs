//! Sums of products over shared dimensions: every matrix product there is.
//!
//! Invariant: a label occurs at most once in an operand and in the result, so a contraction has
//! batch, row, column and reduction dimensions and nothing else.

use super::elements::{MOST_ELEMENTS, pack_floats, pack_integers};
use super::places::{gathered, strides};
use super::typing::{element, equal_dims, exactly, is_numeric, rank, same_element};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{Dim, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::Wrapping;
use std::ops::{Add, Mul};
use std::str::FromStr;

/// Which dimensions meet, as in `bmk,bkn->bmn`: a label a dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContractSpec {
    /// Labels of the left operand.
    pub lhs: Vec<u8>,
    /// Labels of the right operand.
    pub rhs: Vec<u8>,
    /// Labels of the result.
    pub out: Vec<u8>,
}

impl ContractSpec {
    /// The plain matrix product of operands with `batch` leading dimensions in common.
    pub fn matmul(batch: usize) -> Self {
        let labels: Vec<u8> = (b'a'..=b'z').filter(|l| !b"mnk".contains(l)).take(batch).collect();
        let with = |tail: &[u8]| [labels.as_slice(), tail].concat();
        ContractSpec { lhs: with(b"mk"), rhs: with(b"kn"), out: with(b"mn") }
    }

    /// The labels that are summed: those of an operand that the result does not have, in order
    /// of first occurrence.
    pub fn summed(&self) -> Vec<u8> {
        let mut summed = Vec::new();
        for label in self.lhs.iter().chain(&self.rhs) {
            if !self.out.contains(label) && !summed.contains(label) {
                summed.push(*label);
            }
        }
        summed
    }

    fn check(&self) -> Result<(), String> {
        for labels in [&self.lhs, &self.rhs, &self.out] {
            for (position, label) in labels.iter().enumerate() {
                if !label.is_ascii_alphabetic() {
                    return Err(format!("label {:?} is not a letter", char::from(*label)));
                }
                if labels[..position].contains(label) {
                    return Err(format!("label `{}` occurs twice", char::from(*label)));
                }
            }
        }
        match self.out.iter().find(|label| !self.lhs.contains(label) && !self.rhs.contains(label)) {
            Some(label) => Err(format!("label `{}` is in no operand", char::from(*label))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ContractSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |labels: &[u8]| String::from_utf8_lossy(labels).into_owned();
        write!(f, "{},{}->{}", text(&self.lhs), text(&self.rhs), text(&self.out))
    }
}

impl FromStr for ContractSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let spec = text.split_once("->").and_then(|(operands, out)| {
            let (lhs, rhs) = operands.split_once(',')?;
            let bytes = |labels: &str| labels.trim().as_bytes().to_vec();
            Some(ContractSpec { lhs: bytes(lhs), rhs: bytes(rhs), out: bytes(out) })
        });
        let spec = spec.ok_or_else(|| format!("`{text}` is not of the form `mk,kn->mn`"))?;
        spec.check().map_err(|reason| format!("`{text}`: {reason}"))?;
        Ok(spec)
    }
}

impl TryFrom<String> for ContractSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ContractSpec> for String {
    fn from(spec: ContractSpec) -> String {
        spec.to_string()
    }
}

/// `a, b →` the sum over the labels that the result lacks of the products of their elements.
/// Operands and result have one element type; integers wrap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contract {
    /// Which dimensions meet.
    pub spec: ContractSpec,
}

impl Operation for Contract {
    const NAME: &'static str = "Contract";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [a, b] = exactly(inputs)?;
        self.spec.check().map_err(OpError::new)?;
        same_element(a, b)?;
        element(a, "the left operand", "of an integer or floating-point type", is_numeric)?;
        rank(a, self.spec.lhs.len(), &format!("the left operand of {}", self.spec))?;
        rank(b, self.spec.rhs.len(), &format!("the right operand of {}", self.spec))?;
        let mut sizes: BTreeMap<u8, &Dim> = BTreeMap::new();
        let labelled = self.spec.lhs.iter().zip(&a.shape);
        for (label, dim) in labelled.chain(self.spec.rhs.iter().zip(&b.shape)) {
            if let Some(other) = sizes.insert(*label, dim) {
                let name = char::from(*label);
                let what = format!("dimension `{name}` of {} in {a} and {b}", self.spec);
                equal_dims(other, dim, &what)?;
            }
        }
        let shape = self.spec.out.iter().filter_map(|label| sizes.get(label).copied().cloned());
        Ok(vec![TensorType::new(a.dtype, shape.collect())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        if dtype.is_float() {
            let [a, b] = [0, 1].map(|operand| inputs[operand].to_f64());
            let result = self.contract((&a, inputs[0].sizes()), (&b, inputs[1].sizes()))?;
            return Ok(vec![pack_floats(dtype, sizes, &result)?]);
        }
        // Sums and products modulo 2⁶⁴ are right modulo any smaller power of two.
        let [a, b] = [0, 1].map(|operand| inputs[operand].to_i64().into_iter().map(Wrapping));
        let (a, b): (Vec<_>, Vec<_>) = (a.collect(), b.collect());
        let result = self.contract((&a, inputs[0].sizes()), (&b, inputs[1].sizes()))?;
        let result: Vec<i64> = result.into_iter().map(|sum| sum.0).collect();
        Ok(vec![pack_integers(dtype, sizes, &result)?])
    }
}

/// What sums of products are made of: `f64`, or integers modulo 2⁶⁴.
pub(super) trait Ring: Copy + Default + Add<Output = Self> + Mul<Output = Self> {}
impl Ring for f64 {}
impl Ring for Wrapping<i64> {}

impl Contract {
    /// Brings the operands into the form of a batched matrix product and the result out of it.
    fn contract<T: Ring>(
        &self,
        (a, a_sizes): (&[T], &[usize]),
        (b, b_sizes): (&[T], &[usize]),
    ) -> Result<Vec<T>, OpError> {
        let ContractSpec { lhs, rhs, out } = &self.spec;
        let (a_strides, b_strides) = (strides(a_sizes), strides(b_sizes));
        let size = |label: u8| {
            let of = |labels: &[u8], sizes: &[usize]| {
                labels.iter().position(|&other| other == label).map(|place| sizes[place])
            };
            of(lhs, a_sizes).or_else(|| of(rhs, b_sizes)).unwrap_or(1)
        };
        // A label that an operand lacks does not move in it.
        let stride = |labels: &[u8], strides: &[isize], label: u8| {
            labels.iter().position(|&other| other == label).map_or(0, |place| strides[place])
        };
        let among = |accepts: &dyn Fn(u8) -> bool| -> Vec<u8> {
            out.iter().copied().filter(|&label| accepts(label)).collect()
        };
        let batch = among(&|label| lhs.contains(&label) && rhs.contains(&label));
        let rows = among(&|label| !rhs.contains(&label));
        let columns = among(&|label| !lhs.contains(&label));
        let summed = self.spec.summed();
        let product =
            |labels: &[u8]| -> usize { labels.iter().map(|&label| size(label)).product() };
        let (m, n, k) = (product(&rows), product(&columns), product(&summed));
        let packed = [m * k, k * n].map(|block| block.checked_mul(product(&batch)));
        if packed.iter().any(|count| count.is_none_or(|count| count > MOST_ELEMENTS)) {
            return Err(OpError::new(format!("{} is too large to evaluate", self.spec)));
        }
        let ordered = |data: &[T], labels: &[u8], strides: &[isize], order: [&[u8]; 3]| {
            let order = order.concat();
            let sizes: Vec<usize> = order.iter().map(|&label| size(label)).collect();
            let strides: Vec<isize> =
                order.iter().map(|&label| stride(labels, strides, label)).collect();
            gathered(data, &sizes, &strides)
        };
        let a = ordered(a, lhs, &a_strides, [&batch, &rows, &summed]);
        let b = ordered(b, rhs, &b_strides, [&batch, &summed, &columns]);
        let mut products = vec![T::default(); product(&batch) * m * n];
        for (number, result) in products.chunks_mut((m * n).max(1)).enumerate() {
            matrix_product((m, k, n), &a[number * m * k..], &b[number * k * n..], result);
        }
        let order = [batch.as_slice(), &rows, &columns].concat();
        let sizes: Vec<usize> = order.iter().map(|&label| size(label)).collect();
        let product_strides = strides(&sizes);
        let sizes: Vec<usize> = out.iter().map(|&label| size(label)).collect();
        let strides: Vec<isize> =
            out.iter().map(|&label| stride(&order, &product_strides, label)).collect();
        Ok(gathered(&products, &sizes, &strides))
    }
}

/// Adds the product of `a [m, k]` and `b [k, n]` to `sums [m, n]`.
pub(super) fn matrix_product<T: Ring>(
    (m, k, n): (usize, usize, usize),
    a: &[T],
    b: &[T],
    sums: &mut [T],
) {
    // Some rows together, so that a row of `b` is read once for all of them.
    const ROWS: usize = 8;
    for (block, sums) in sums[..m * n].chunks_mut((ROWS * n).max(1)).enumerate() {
        for inner in 0..k {
            let b_row = &b[inner * n..][..n];
            for (row, sums) in sums.chunks_mut(n).enumerate() {
                let factor = a[(block * ROWS + row) * k + inner];
                for (sum, &b) in sums.iter_mut().zip(b_row) {
                    *sum = *sum + factor * b;
                }
            }
        }
    }
}
