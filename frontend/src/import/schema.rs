//! What each operator takes in each version, as the standard's schemas say: how many inputs, of
//! which element types, and which attributes.
//!
//! Invariant: `schemas.txt` is written by `scripts/schemas.py` and nothing else; a node that breaks
//! its operator's schema is refused before its importer sees it.

use super::fault::Fault;
use crate::resolve::Attribute;
use kiln_ir::TensorType;
use kiln_tensor::DType;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// What holds for an operator from an operator set version on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The first version.
    pub since: i64,
    /// The type parameters, each with the element types that it may stand for.
    pub parameters: Vec<(&'static str, Vec<DType>)>,
    inputs: Vec<Input>,
    attributes: Vec<Declared>,
}

/// An input, or any number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Input {
    /// Its type parameter, if it is one of tensors.
    parameter: Option<usize>,
    given: Given,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Always,
    Perhaps,
    /// Any number of them, of one type or of several.
    Often {
        alike: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Declared {
    name: &'static str,
    /// What [`Attribute::type_name`] must be.
    ty: &'static str,
    required: bool,
}

impl Signature {
    /// The input in a place, if there may be one.
    fn input(&self, number: usize) -> Option<Input> {
        let last = *self.inputs.last()?;
        let others = matches!(last.given, Given::Often { .. }).then_some(last);
        self.inputs.get(number).copied().or(others)
    }

    /// The element types that an input may have, if they are restricted.
    fn of_input(&self, number: usize) -> Option<&[DType]> {
        let parameter = self.input(number)?.parameter?;
        self.parameters.get(parameter).map(|(_, types)| types.as_slice())
    }

    /// An error unless inputs and attributes are as they must be.
    pub(super) fn check(
        &self,
        inputs: &[Option<&TensorType>],
        attributes: &BTreeMap<&str, Attribute<'_>>,
    ) -> Result<(), Fault> {
        self.check_count(inputs)?;
        self.check_attributes(attributes)?;
        let given = inputs.iter().enumerate();
        for (number, ty) in given.filter_map(|(number, ty)| Some((number, (*ty)?))) {
            self.check_type(number, ty)?;
        }
        self.check_alike(inputs)
    }

    fn check_count(&self, inputs: &[Option<&TensorType>]) -> Result<(), Fault> {
        let count = inputs.len();
        let beyond = count.checked_sub(1).filter(|&last| self.input(last).is_none());
        if beyond.is_some() {
            let most = self.inputs.len();
            return Err(Fault::malformed(format!(
                "takes at most {most} inputs, {count} are given"
            )));
        }
        for (number, input) in self.inputs.iter().enumerate() {
            if input.given == Given::Always && inputs.get(number).copied().flatten().is_none() {
                let message = format!("input {number} is missing, {count} are given");
                return Err(Fault::malformed(message));
            }
        }
        Ok(())
    }

    fn check_attributes(&self, attributes: &BTreeMap<&str, Attribute<'_>>) -> Result<(), Fault> {
        for (name, value) in attributes {
            let actual = value.type_name();
            match self.attributes.iter().find(|declared| declared.name == *name) {
                Some(declared) if declared.ty == actual => {}
                Some(Declared { ty, .. }) => {
                    let message =
                        format!("attribute `{name}` must be of type {ty}, but is {actual}");
                    return Err(Fault::malformed(message));
                }
                // What a tool keeps for itself begins so.
                None if name.starts_with("__") => {}
                None => {
                    let message = format!("has no attribute `{name}` in this version");
                    return Err(Fault::malformed(message));
                }
            }
        }
        let mut required = self.attributes.iter().filter(|declared| declared.required);
        match required.find(|declared| !attributes.contains_key(declared.name)) {
            Some(Declared { name, .. }) => {
                Err(Fault::malformed(format!("attribute `{name}` is missing")))
            }
            None => Ok(()),
        }
    }

    /// An error unless the element type of an input is one that it may have.
    fn check_type(&self, number: usize, ty: &TensorType) -> Result<(), Fault> {
        // The lists are of tensors; which operators take sequences and the like, these say.
        let open = |types: &&[DType]| !ty.dtype.is_list() && !types.contains(&ty.dtype);
        let Some(types) = self.of_input(number).filter(open) else { return Ok(()) };
        let names: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
        let names = match names.split_last() {
            None => "no tensor".to_owned(),
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
        };
        Err(Fault::malformed(format!("input {number} must be {names}, but is {ty}")))
    }

    /// An error unless inputs of one type parameter have one element type.
    fn check_alike(&self, inputs: &[Option<&TensorType>]) -> Result<(), Fault> {
        let mut bound: Vec<Option<(usize, &TensorType)>> = vec![None; self.parameters.len()];
        for (number, ty) in inputs.iter().enumerate() {
            let (Some(ty), Some(input)) = (*ty, self.input(number)) else { continue };
            let Some(parameter) = input.parameter else { continue };
            if ty.dtype.is_list() || input.given == (Given::Often { alike: false }) {
                continue;
            }
            match bound.get_mut(parameter) {
                Some(Some((other, first))) if first.dtype != ty.dtype => {
                    return Err(Fault::malformed(format!(
                        "inputs {other} and {number} must have one element type, but are {first} \
                         and {ty}"
                    )));
                }
                Some(bound @ None) => *bound = Some((number, ty)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// By domain and name.
type Table = HashMap<&'static str, HashMap<&'static str, Vec<Signature>>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("schemas.txt")))
}

fn parse(text: &'static str) -> Table {
    let mut sets: HashMap<&str, Vec<DType>> = HashMap::new();
    let mut table = Table::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("set"), Some(number), first, second) => {
                let names = first.into_iter().chain(second).chain(words);
                sets.insert(number, names.filter_map(|name| name.parse().ok()).collect());
            }
            (Some("op"), Some(domain), Some(name), Some(since)) => {
                let rest: Vec<&str> = words.collect();
                if let Ok(since) = since.parse() {
                    let operators = table.entry(domain).or_default();
                    operators.entry(name).or_default().push(signature(since, &rest, &sets));
                }
            }
            _ => {}
        }
    }
    table
}

fn signature(since: i64, words: &[&'static str], sets: &HashMap<&str, Vec<DType>>) -> Signature {
    let mut parts = words.split(|word| *word == "|");
    let pairs = parts.next().unwrap_or_default().iter().filter_map(|word| word.split_once('='));
    let parameters: Vec<(&str, Vec<DType>)> =
        pairs.map(|(name, set)| (name, sets.get(set).cloned().unwrap_or_default())).collect();
    let input = |word: &&'static str| {
        let name = word.trim_end_matches(['?', '*', '~']);
        let given = match &word[name.len()..] {
            "" => Given::Always,
            "?" => Given::Perhaps,
            many => Given::Often { alike: many == "*" },
        };
        let found = parameters.iter().position(|(parameter, _)| *parameter == name);
        // Without any tensor it is a sequence, a map or the like.
        Input { parameter: found.filter(|&found| !parameters[found].1.is_empty()), given }
    };
    let inputs = parts.next().unwrap_or_default().iter().map(input).collect();
    let attributes = parts.nth(1).unwrap_or_default().iter().filter_map(|word| {
        let (name, ty) = word.split_once(':')?;
        let required = ty.ends_with('!');
        // ONNX calls the type of a type by the message that holds it.
        let ty = ty.trim_end_matches('!').trim_end_matches("_proto");
        Some(Declared { name, ty, required })
    });
    let attributes = attributes.collect();
    Signature { since, inputs, attributes, parameters }
}

/// What holds for an operator in a version of its operator set, if the schemas tell.
pub(super) fn signature_of(domain: &str, name: &str, version: i64) -> Option<&'static Signature> {
    signatures(domain, name).iter().rev().find(|signature| signature.since <= version)
}

/// The versions of an operator that differ in types, oldest first.
pub fn signatures(domain: &str, name: &str) -> &'static [Signature] {
    let found = table().get(domain).and_then(|operators| operators.get(name));
    found.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_have_the_types_of_their_version() {
        let check = |name: &str, version, number, dtype| {
            let signature = signature_of("ai.onnx", name, version).unwrap();
            signature.check_type(number, &TensorType::new(dtype, Vec::new())).is_ok()
        };
        assert!(!check("Add", 13, 0, DType::U8) && check("Add", 14, 1, DType::U8));
        assert!(check("Concat", 13, 7, DType::BF16) && !check("Concat", 12, 0, DType::BF16));
        assert!(check("Gather", 11, 1, DType::I32) && !check("Gather", 11, 1, DType::F32));
        assert!(!check("Relu", 28, 0, DType::F8E5M2) && check("Transpose", 25, 0, DType::F8E5M2));
    }
}
