//! The table of operators: for each the domain, the name, the versions and the importer.
//!
//! Invariant: an operator stands in the table once, beside its importer's family; what is
//! documented as supported is this table.

use super::families;
use super::fault::Fault;
use super::node::Use;
use crate::read::{ONNX_DOMAIN, OPSET_VERSIONS};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// Operators of ONNX Runtime beside the standard ones.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// Classical machine learning, and its last version.
const ML: (&str, i64) = ("ai.onnx.ml", 5);

/// What imports one operator: from a use of it to its results, as many as there are.
pub(super) type Import = fn(&mut Use<'_, '_, '_>) -> Result<Vec<super::build::V>, Fault>;

/// A supported operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Canonical domain.
    pub domain: &'static str,
    /// Name.
    pub name: &'static str,
    /// The first operator set version that has it.
    pub first: i64,
    /// The last operator set version that has it.
    pub last: i64,
}

impl Operator {
    /// The versions that are imported.
    pub fn versions(&self) -> RangeInclusive<i64> {
        self.first..=self.last
    }
}

/// An operator with its importer.
pub(super) struct Entry {
    pub(super) operator: Operator,
    pub(super) import: Import,
}

/// An operator of the default domain, from this version on.
pub(super) const fn onnx(name: &'static str, first: i64, import: Import) -> Entry {
    onnx_until(name, first, *OPSET_VERSIONS.end(), import)
}

/// An operator of the default domain that was removed after `last`.
pub(super) const fn onnx_until(name: &'static str, first: i64, last: i64, import: Import) -> Entry {
    Entry { operator: Operator { domain: ONNX_DOMAIN, name, first, last }, import }
}

/// An operator of classical machine learning, from this version on.
pub(super) const fn ml(name: &'static str, first: i64, import: Import) -> Entry {
    Entry { operator: Operator { domain: ML.0, name, first, last: ML.1 }, import }
}

/// An operator that the standard tries out, in a domain of version 1.
pub(super) const fn preview(domain: &'static str, name: &'static str, import: Import) -> Entry {
    Entry { operator: Operator { domain, name, first: 1, last: 1 }, import }
}

/// An operator of ONNX Runtime's own.
pub(super) const fn microsoft(name: &'static str, import: Import) -> Entry {
    Entry { operator: Operator { domain: MICROSOFT, name, first: 1, last: 1 }, import }
}

fn table() -> &'static BTreeMap<(&'static str, &'static str), &'static Entry> {
    static TABLE: OnceLock<BTreeMap<(&str, &str), &Entry>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let entries = families().into_iter().flatten();
        entries.map(|entry| ((entry.operator.domain, entry.operator.name), entry)).collect()
    })
}

/// Every supported operator, by domain and name.
pub fn operators() -> Vec<Operator> {
    table().values().map(|entry| entry.operator).collect()
}

/// The entry of an operator.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Entry> {
    table().get(&(domain, name)).copied()
}

/// Names like `name`, for a message.
pub(super) fn similar(domain: &str, name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let names = table().keys().filter(|(other, _)| *other == domain).map(|(_, name)| *name);
    let mut alike = names.filter(|other| other.to_lowercase() == lower);
    alike.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_one_entry() {
        let count: usize = families().iter().map(|family| family.len()).sum();
        assert_eq!(operators().len(), count);
        assert!(operators().iter().all(|operator| !operator.versions().is_empty()));
    }
}
