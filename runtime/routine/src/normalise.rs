//! Normalised text: one case, no stop words.
//!
//! Invariant: what is dropped is dropped from the last dimension; if nothing is left, one empty
//! string is.

use crate::{RoutineError, text::strings};
use kiln_tensor::{Objects, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// How text is normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalise {
    /// What the result's case is.
    pub case: CaseChange,
    /// Whether stop words are dropped only in their own case.
    pub case_sensitive: bool,
    /// Strings that are dropped.
    pub stop_words: Vec<String>,
}

/// What becomes of the case of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaseChange {
    /// It stays.
    None,
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
}

impl CaseChange {
    fn apply(self, text: &str) -> String {
        match self {
            CaseChange::None => text.to_owned(),
            CaseChange::Lower => text.to_lowercase(),
            CaseChange::Upper => text.to_uppercase(),
        }
    }
}

impl Normalise {
    pub(crate) fn apply(
        &self,
        [x]: &[Tensor; 1],
        objects: &Arc<Objects>,
    ) -> Result<Tensor, RoutineError> {
        let rank = x.sizes().len();
        if !matches!(x.sizes(), [_] | [1, _]) {
            let sizes = x.sizes();
            return Err(RoutineError::new(format!("needs shape [c] or [1, c], not {sizes:?}")));
        }
        let folded = |text: &str| match self.case_sensitive {
            true => text.to_owned(),
            false => text.to_lowercase(),
        };
        let stop: HashSet<String> = self.stop_words.iter().map(|word| folded(word)).collect();
        let texts = x.strings()?;
        let kept = texts.iter().filter(|text| !stop.contains(&folded(text)));
        let mut kept: Vec<String> = kept.map(|text| self.case.apply(text)).collect();
        if kept.is_empty() {
            kept.push(String::new());
        }
        let mut sizes = vec![1; rank];
        sizes[rank - 1] = kept.len();
        strings(sizes, kept, objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_go_and_case_changes() {
        let x = Tensor::from_strings(vec![1, 3], &["Monday", "tuesday", "Über"]).unwrap();
        let run = |case, case_sensitive, stop: &str| {
            let stop_words = vec![stop.to_owned()];
            let normalise = Normalise { case, case_sensitive, stop_words };
            let result =
                normalise.apply(std::slice::from_ref(&x).try_into().unwrap(), &Arc::default());
            result.unwrap().strings().unwrap().join(" ")
        };
        assert_eq!(run(CaseChange::Upper, true, "monday"), "MONDAY TUESDAY ÜBER");
        assert_eq!(run(CaseChange::Lower, false, "monday"), "tuesday über");
        assert_eq!(run(CaseChange::None, true, "Monday"), "tuesday Über");
    }
}
