//! Which value a name means, from the innermost graph outwards.
//!
//! Invariant: a function's body sees its own names only, a subgraph sees those around it too.

use super::ValueId;
use std::collections::{BTreeSet, HashMap};

/// The names of one graph or function body.
#[derive(Default)]
struct Level<'m> {
    names: HashMap<&'m str, Option<ValueId>>,
    captures: BTreeSet<ValueId>,
    /// Whether names that are not here are looked for further out.
    open: bool,
    /// Whether this is a graph of its own, which captures what it uses from outside.
    graph: bool,
}

/// The stack of names in sight.
#[derive(Default)]
pub(super) struct Scope<'m> {
    levels: Vec<Level<'m>>,
}

/// What a name means.
pub(super) enum Lookup {
    /// A value.
    Value(ValueId),
    /// An optional input of a function that its caller left out.
    Absent,
    /// Nothing in sight has this name.
    Unknown,
}

impl<'m> Scope<'m> {
    /// Enters the main graph or a subgraph.
    pub(super) fn enter_graph(&mut self) {
        self.levels.push(Level { open: true, graph: true, ..Level::default() });
    }

    /// Enters a function's body, which stands in the graph of its caller.
    pub(super) fn enter_function(&mut self) {
        self.levels.push(Level::default());
    }

    /// Leaves the innermost body; gives what it captured.
    pub(super) fn leave(&mut self) -> BTreeSet<ValueId> {
        self.levels.pop().map(|level| level.captures).unwrap_or_default()
    }

    /// Gives `name` a meaning; false if the innermost body has one for it already.
    pub(super) fn define(&mut self, name: &'m str, value: Option<ValueId>) -> bool {
        match self.levels.last_mut() {
            Some(level) => level.names.insert(name, value).is_none(),
            None => false,
        }
    }

    /// What `name` means here; a use across graphs is noted as a capture of each one crossed.
    pub(super) fn look_up(&mut self, name: &str) -> Lookup {
        let mut found = None;
        for (depth, level) in self.levels.iter().enumerate().rev() {
            if let Some(value) = level.names.get(name) {
                found = Some((depth, *value));
                break;
            }
            if !level.open {
                break;
            }
        }
        match found {
            None => Lookup::Unknown,
            Some((_, None)) => Lookup::Absent,
            Some((depth, Some(value))) => {
                self.capture(depth, value);
                Lookup::Value(value)
            }
        }
    }

    /// Notes in each graph further in than `depth` that it uses `value` from outside.
    fn capture(&mut self, depth: usize, value: ValueId) {
        for level in self.levels.iter_mut().skip(depth + 1).filter(|level| level.graph) {
            level.captures.insert(value);
        }
    }
}
