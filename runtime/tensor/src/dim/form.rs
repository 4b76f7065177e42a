//! Dimension expressions in serde's formats: text (or a plain integer) where people read, terms
//! elsewhere.
//!
//! Invariant: what is read is brought into normal form, whoever wrote it.

use super::{Dim, Monomial};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match (to.is_human_readable(), self.as_const()) {
            (true, Some(value)) => to.serialize_i64(value),
            (true, None) => to.collect_str(self),
            (false, _) => self.terms().serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return from.deserialize_any(Text);
        }
        let mut terms = Vec::<(Monomial, i64)>::deserialize(from)?;
        terms.iter_mut().for_each(|(monomial, _)| monomial.sort());
        Ok(Dim::from_terms(terms))
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Dim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a dimension expression in quotes")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Dim, E> {
        Ok(Dim::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Dim, E> {
        i64::try_from(value).map(Dim::from).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Dim, E> {
        text.parse().map_err(E::custom)
    }
}
