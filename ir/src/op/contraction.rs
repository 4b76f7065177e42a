//! Sums of products over shared dimensions: every matrix product there is.
//!
//! Invariant: a label occurs at most once in an operand and in the result, so a contraction has
//! batch, row, column and reduction dimensions and nothing else.

use super::typing::{element, equal_dims, exactly, is_numeric, rank, same_element};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
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
}
