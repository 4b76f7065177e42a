//! What the bodies of loops are told of the values that they carry, kept for when they are imported
//! again because the loop around them is.
//!
//! Invariant: it is only what an import begins with. That a body fits what it is told is found out each
//! time anew.

use super::control::joined;
use super::form::Form;
use crate::resolve::Body;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Values whose sizes change from one iteration to the next go in a list of one; along which axes
/// they do.
pub(super) type Boxed = BTreeMap<usize, BTreeSet<usize>>;

/// What a body is told of carried values.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Those that change.
    pub(super) changing: Boxed,
    /// What lists hold.
    pub(super) forms: Vec<Option<Form>>,
}

/// What each body inside of the outermost loop in hand was told when it fitted at last. A body is known
/// by where it is: one that stands in a function is another one for each call.
#[derive(Debug, Default)]
pub(super) struct Fitting(HashMap<usize, Given>);

impl Fitting {
    /// What to tell a body at first whose carried values have these ranks, and hold this, if what it was
    /// told before has the same form. That is where it starts only: where it does not fit, it is told
    /// less.
    pub(super) fn before(
        &self,
        body: &Body<'_>,
        ranks: &[usize],
        forms: &[Option<Form>],
    ) -> Option<Given> {
        let Given { changing, forms: known } = self.0.get(&address(body))?.clone();
        let fits = |(&number, axes): (&usize, &BTreeSet<usize>)| axes.last() < ranks.get(number);
        let forms = known.iter().zip(forms).map(|(a, b)| joined(a.as_ref(), b.as_ref()));
        let forms = forms.collect::<Result<Vec<_>, _>>().ok()?;
        (forms.len() == ranks.len() && changing.iter().all(fits))
            .then_some(Given { changing, forms })
    }

    /// Keeps what a body was told that fitted; where no loop is around it, nothing is tried again.
    pub(super) fn note(&mut self, body: &Body<'_>, given: &Given, inside: bool) {
        if inside {
            self.0.insert(address(body), given.clone());
        } else {
            self.0.clear();
        }
    }
}

fn address(body: &Body<'_>) -> usize {
    std::ptr::from_ref(body).addr()
}
