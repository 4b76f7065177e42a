//! Splitting the dimensions of a contraction: one label becomes several.
//!
//! Invariant: a split label stands for the same elements in the same order, wherever it occurs.

use kiln_ir::op::ContractSpec;
use kiln_tensor::Dim;

/// Which labels are split, and into what.
pub(super) struct Splits {
    entries: Vec<(u8, Vec<u8>, Vec<Dim>)>,
}

impl Splits {
    fn find(&self, label: u8) -> Option<&(u8, Vec<u8>, Vec<Dim>)> {
        self.entries.iter().find(|(whole, _, _)| *whole == label)
    }

    /// Labels with split ones replaced.
    pub fn labels(&self, labels: &[u8]) -> Vec<u8> {
        let parts = |label: &u8| match self.find(*label) {
            Some((_, parts, _)) => parts.clone(),
            None => vec![*label],
        };
        labels.iter().flat_map(parts).collect()
    }

    /// A shape with dimensions of split labels replaced.
    pub fn shape(&self, labels: &[u8], dims: &[Dim]) -> Vec<Dim> {
        let parts = |(label, dim): (&u8, &Dim)| match self.find(*label) {
            Some((_, _, sizes)) => sizes.clone(),
            None => vec![dim.clone()],
        };
        labels.iter().zip(dims).flat_map(parts).collect()
    }
}

/// The sizes of a contraction's result.
pub(super) fn sizes(spec: &ContractSpec, x: &[Dim], y: &[Dim]) -> Option<Vec<Dim>> {
    let of = |label: &u8| {
        let left = spec.lhs.iter().position(|l| l == label).and_then(|at| x.get(at));
        left.or_else(|| spec.rhs.iter().position(|l| l == label).and_then(|at| y.get(at))).cloned()
    };
    spec.out.iter().map(of).collect()
}

/// How dimensions with `labels` and sizes `wholes` split into `fine`; `None` if they do not, or if
/// there are no labels left.
pub(super) fn splits(
    labels: &[u8],
    wholes: &[Dim],
    fine: &[Dim],
    spec: &ContractSpec,
) -> Option<Splits> {
    let used = |label: &u8| {
        spec.lhs.contains(label) || spec.rhs.contains(label) || spec.out.contains(label)
    };
    let mut fresh = (b'a'..=b'z').chain(b'A'..=b'Z').filter(|label| !used(label));
    let mut entries = Vec::new();
    for (&label, group) in labels.iter().zip(groups(fine, wholes)?) {
        if group.len() == 1 {
            continue;
        }
        let names: Vec<u8> = fresh.by_ref().take(group.len()).collect();
        if names.len() != group.len() {
            return None;
        }
        entries.push((label, names, group));
    }
    Some(Splits { entries })
}

/// The runs of `fine` whose products are the dimensions `wholes`, one run each; `None` if there is
/// a dimension that is no such product.
pub(super) fn groups(fine: &[Dim], wholes: &[Dim]) -> Option<Vec<Vec<Dim>>> {
    let mut rest = fine.iter().cloned().peekable();
    let mut groups = Vec::new();
    for whole in wholes {
        let mut group = vec![rest.next()?];
        let mut product = group[0].clone();
        while product != *whole {
            let next = rest.next()?;
            product = product * next.clone();
            group.push(next);
        }
        groups.push(group);
    }
    // Ones at the end belong to the last run.
    for dim in rest {
        if !dim.is(1) {
            return None;
        }
        groups.last_mut()?.push(dim);
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_multiply_to_whole_dimensions() {
        let (b, s) = (Dim::named("b"), Dim::named("s"));
        let number = |value: i64| Dim::from(value);
        let fine = [b.clone(), s.clone(), number(12), number(64)];
        let found = groups(&fine, &[b.clone(), s.clone(), number(768)]).unwrap();
        assert_eq!(found, [vec![b.clone()], vec![s.clone()], vec![number(12), number(64)]]);
        assert!(groups(&fine, &[b.clone() * s, number(700)]).is_none());
        assert!(groups(&[number(2)], &[number(2), number(1)]).is_none());
        assert_eq!(groups(&[b.clone(), number(1)], std::slice::from_ref(&b)).unwrap()[0].len(), 2);
    }
}
