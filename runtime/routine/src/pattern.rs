//! Regular expressions that all of a text must match.
//!
//! Invariant: an expression is looked at by itself before it is anchored, and takes time linear in the
//! text.

use crate::RoutineError;
use crate::re2::translate;
use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::hir::{Hir, Look};

/// The largest automaton, in bytes.
const MOST_BYTES: usize = 10 << 20;

/// A regular expression in the syntax of RE2 that is ready to be matched.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// If RE2 has no such expression, if a text can match it in parts of a character (`\C`), if groups
    /// are nested more than 250 deep, or if its automaton takes more than 10 MiB.
    pub fn new(pattern: &str) -> Result<Pattern, RoutineError> {
        let refused = |why: String| RoutineError::new(format!("the pattern cannot be used: {why}"));
        let translated = translate(pattern).map_err(|error| refused(error.message))?;
        let hir = regex_syntax::parse(&translated).map_err(|error| {
            refused(match error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                other => other.to_string(),
            })
        })?;
        let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
        let config =
            Config::new().nfa_size_limit(Some(MOST_BYTES)).which_captures(WhichCaptures::Implicit);
        let regex = Regex::builder().configure(config).build_from_hir(&whole);
        regex.map(Pattern).map_err(|_| refused(format!("it takes more than {MOST_BYTES} bytes")))
    }

    /// Whether all of a text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}
