//! The element types that each operator takes in each version: what the standard's schemas say.
//!
//! Invariant: `element_types.txt` is written by `scripts/element_types.py` and nothing else; an
//! operand of another type is refused before its importer sees it.

use super::fault::Fault;
use kiln_tensor::DType;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What holds for an operator from an operator set version on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The first version.
    pub since: i64,
    /// The type parameters, each with the element types that it may stand for.
    pub parameters: Vec<(&'static str, Vec<DType>)>,
    /// The type parameter of each input, if it is one of tensors.
    inputs: Vec<Option<usize>>,
    /// Whether the last input stands for any number of them.
    variadic: bool,
}

impl Signature {
    /// The element types that an input may have, if they are restricted.
    fn of_input(&self, number: usize) -> Option<&[DType]> {
        let last = self.inputs.len().checked_sub(1)?;
        let place = if self.variadic { number.min(last) } else { number };
        let parameter = (*self.inputs.get(place)?)?;
        self.parameters.get(parameter).map(|(_, types)| types.as_slice())
    }

    /// An error unless the element type of an input is one that it may have.
    pub(super) fn check(&self, number: usize, ty: &kiln_ir::TensorType) -> Result<(), Fault> {
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
}

/// By domain and name.
type Table = HashMap<&'static str, HashMap<&'static str, Vec<Signature>>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("element_types.txt")))
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
    let inputs = parts.next().unwrap_or_default();
    let place = |word: &&str| {
        let wanted = word.trim_end_matches('*');
        let found = parameters.iter().position(|(name, _)| *name == wanted)?;
        // Without any tensor it is a sequence, a map or the like.
        (!parameters[found].1.is_empty()).then_some(found)
    };
    let variadic = inputs.last().is_some_and(|word| word.ends_with('*'));
    Signature { since, inputs: inputs.iter().map(place).collect(), variadic, parameters }
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
    use kiln_ir::TensorType;

    #[test]
    fn operands_have_the_types_of_their_version() {
        let check = |name: &str, version, number, dtype| {
            let signature = signature_of("ai.onnx", name, version).unwrap();
            signature.check(number, &TensorType::new(dtype, Vec::new())).is_ok()
        };
        assert!(!check("Add", 13, 0, DType::U8) && check("Add", 14, 1, DType::U8));
        assert!(check("Concat", 13, 7, DType::BF16) && !check("Concat", 12, 0, DType::BF16));
        assert!(check("Gather", 11, 1, DType::I32) && !check("Gather", 11, 1, DType::F32));
        assert!(!check("Relu", 28, 0, DType::F8E5M2) && check("Transpose", 25, 0, DType::F8E5M2));
    }
}
