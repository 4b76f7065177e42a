//! Index arithmetic: sums of multiples over the axes of a domain, with what is known of their ranges.
//!
//! Invariant: every rewrite keeps the value of an index at every point of the domain; a quotient or
//! remainder is only left standing where ranges do not do away with it.

use kiln_ir::kernel::{Axis, Index};
use kiln_tensor::{Dim, SymbolTable};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// `Σ term·coefficient + offset`; a term is an axis or something that is not linear.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Linear {
    pub(super) terms: Vec<(Index, Dim)>,
    pub(super) offset: Dim,
}

impl Linear {
    pub(super) fn of(index: &Index) -> Linear {
        let mut linear = Linear::default();
        linear.add(index, &Dim::from(1i64));
        linear.terms.retain(|(_, coefficient)| !coefficient.is(0));
        linear
    }

    fn add(&mut self, index: &Index, factor: &Dim) {
        match index {
            Index::Dim(dim) => {
                self.offset = std::mem::take(&mut self.offset) + dim.clone() * factor.clone();
            }
            Index::Add(a, b) => {
                self.add(a, factor);
                self.add(b, factor);
            }
            Index::Mul(a, multiple) => self.add(a, &(factor.clone() * multiple.clone())),
            term => match self.terms.iter_mut().find(|(other, _)| other == term) {
                Some((_, slot)) => *slot = std::mem::take(slot) + factor.clone(),
                None => self.terms.push((term.clone(), factor.clone())),
            },
        }
    }

    pub(super) fn index(&self) -> Index {
        let terms = self.terms.iter().map(|(term, factor)| term.clone().times(factor.clone()));
        let sum = terms.reduce(|sum, term| sum + term);
        match sum {
            Some(sum) => sum + Index::Dim(self.offset.clone()),
            None => Index::Dim(self.offset.clone()),
        }
    }
}

/// The index plus a constant.
pub(super) fn shifted(index: &Index, by: Dim) -> Index {
    Linear::of(&(index.clone() + Index::Dim(by))).index()
}

/// The points that the axes span, and which axes one would rather have split.
pub(super) struct Space<'a> {
    pub(super) axes: &'a [Axis],
    pub(super) symbols: &'a SymbolTable,
    /// Wanted refinements: the inner extent that an axis should be split by.
    pub(super) wanted: &'a RefCell<BTreeMap<String, Dim>>,
}

impl Space<'_> {
    /// Bounds, both inclusive, of an index over the domain.
    pub(super) fn range(&self, index: &Index) -> Option<(Dim, Dim)> {
        let linear = Linear::of(index);
        let (mut low, mut high) = (linear.offset.clone(), linear.offset);
        for (term, coefficient) in &linear.terms {
            let (least, most) = self.term_range(term)?;
            let bounds = coefficient.bounds(self.symbols);
            let (least, most) = if bounds.min >= 0 {
                (least, most)
            } else if bounds.max.is_some_and(|max| max <= 0) {
                (most, least)
            } else {
                return None;
            };
            low = low + least * coefficient.clone();
            high = high + most * coefficient.clone();
        }
        Some((low, high))
    }

    fn term_range(&self, term: &Index) -> Option<(Dim, Dim)> {
        let one = Dim::from(1i64);
        match term {
            Index::Axis(axis) => Some((Dim::default(), self.axes.get(*axis)?.extent.clone() - one)),
            Index::Mod(_, divisor) => Some((Dim::default(), divisor.clone() - one)),
            Index::FloorDiv(a, divisor) => {
                let (low, high) = self.range(a)?;
                divisor.as_const().filter(|&d| d > 0)?;
                Some((low.floor_div(divisor), high.floor_div(divisor)))
            }
            Index::Clamp(_, low, high) => Some((low.clone(), high.clone())),
            _ => None,
        }
    }

    pub(super) fn at_least(&self, a: &Dim, b: &Dim) -> bool {
        (a.clone() - b.clone()).bounds(self.symbols).min >= 0
    }

    /// Whether an index lies in `0..extent` at every point.
    pub(super) fn inside(&self, index: &Index, extent: &Dim) -> bool {
        let (not_below, not_above) = self.sides(index, extent);
        not_below && not_above
    }

    /// Whether an index is never below 0, and never beyond the extent.
    pub(super) fn sides(&self, index: &Index, extent: &Dim) -> (bool, bool) {
        let Some((low, high)) = self.range(index) else { return (false, false) };
        let last = extent.clone() - Dim::from(1i64);
        (self.at_least(&low, &Dim::default()), self.at_least(&last, &high))
    }

    /// Quotient and remainder by a positive divisor.
    pub(super) fn div_mod(&self, index: &Index, divisor: &Dim) -> (Index, Index) {
        if divisor.is(1) {
            return (index.clone(), Index::zero());
        }
        let linear = Linear::of(index);
        let (mut quotient, mut rest) = (Linear::default(), Linear::default());
        for (term, coefficient) in linear.terms {
            match coefficient.exact_div(divisor) {
                Some(multiple) => quotient.terms.push((term, multiple)),
                None => rest.terms.push((term, coefficient)),
            }
        }
        match (linear.offset.as_const(), divisor.as_const()) {
            (Some(offset), Some(divisor)) if divisor > 0 => {
                quotient.offset = Dim::from(offset.div_euclid(divisor));
                rest.offset = Dim::from(offset.rem_euclid(divisor));
            }
            _ => match linear.offset.exact_div(divisor) {
                Some(multiple) => quotient.offset = multiple,
                None => rest.offset = linear.offset,
            },
        }
        let (quotient, index) = (quotient.index(), rest.index());
        if self.inside(&index, divisor) {
            return (quotient, index);
        }
        self.want_split(&rest, divisor);
        (quotient + index.clone().floor_div(divisor.clone()), index.modulo(divisor.clone()))
    }

    /// Asks for an axis to be split so that the divisor falls between its parts.
    fn want_split(&self, rest: &Linear, divisor: &Dim) {
        for (term, coefficient) in &rest.terms {
            let Index::Axis(axis) = term else { continue };
            let Some(axis) = self.axes.get(*axis) else { continue };
            // An axis that runs backwards is split at the same places.
            let backwards = coefficient.bounds(self.symbols).max.is_some_and(|max| max < 0);
            let step = if backwards { -coefficient.clone() } else { coefficient.clone() };
            let inner = divisor.exact_div(&step);
            let inner = inner.filter(|inner| inner.bounds(self.symbols).min >= 0);
            let split = inner.filter(|inner| axis.extent.exact_div(inner).is_some());
            if let Some(inner) = split.filter(|inner| !inner.is(1) && *inner != axis.extent) {
                self.wanted.borrow_mut().entry(axis.name.clone()).or_insert(inner);
                return;
            }
        }
    }

    /// The place in a tensor of shape `from` of the element that lies at `index` after a reshape to
    /// `to`.
    pub(super) fn reshaped(&self, from: &[Dim], to: &[Dim], index: &[Index]) -> Vec<Index> {
        let mut places = vec![Index::zero(); from.len()];
        let old: Vec<usize> = (0..from.len()).filter(|&dim| !from[dim].is(1)).collect();
        let new: Vec<usize> = (0..to.len()).filter(|&dim| !to[dim].is(1)).collect();
        let (mut i, mut j) = (0, 0);
        while i < old.len() && j < new.len() {
            let (first_old, first_new) = (i, j);
            let (mut a, mut b) = (from[old[i]].clone(), to[new[j]].clone());
            (i, j) = (i + 1, j + 1);
            while a != b && (i < old.len() || j < new.len()) {
                let grow_old = b.exact_div(&a).is_some() || j == new.len();
                if grow_old && i < old.len() {
                    a = a * from[old[i]].clone();
                    i += 1;
                } else if j < new.len() && (a.exact_div(&b).is_some() || i == old.len()) {
                    b = b * to[new[j]].clone();
                    j += 1;
                } else {
                    // Nothing shows where groups end: all that is left is one group.
                    (i, j) = (old.len(), new.len());
                }
            }
            if i == old.len() || j == new.len() {
                // Dimensions without a partner belong to the last group.
                (i, j) = (old.len(), new.len());
            }
            self.regroup(from, &old[first_old..i], to, &new[first_new..j], index, &mut places);
        }
        places
    }

    fn regroup(
        &self,
        from: &[Dim],
        old: &[usize],
        to: &[Dim],
        new: &[usize],
        index: &[Index],
        places: &mut [Index],
    ) {
        // A dimension alone keeps its index as it stands.
        if let (&[from], &[to]) = (old, new) {
            places[from] = index[to].clone();
            return;
        }
        let flat = row_major(new.iter().map(|&dim| (&index[dim], &to[dim])));
        let mut rest = Linear::of(&flat).index();
        for (position, &dim) in old.iter().enumerate().rev() {
            if position == 0 {
                places[dim] = rest;
                break;
            }
            let (quotient, remainder) = self.div_mod(&rest, &from[dim]);
            places[dim] = remainder;
            rest = Linear::of(&quotient).index();
        }
    }
}

/// Whether two indices are the same sums, however they are written.
pub(super) fn same_place(a: &[Index], b: &[Index]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a == b || Linear::of(a).index() == Linear::of(b).index())
}

/// The number of an element in row-major order, from its indices and the sizes they run over.
pub(super) fn row_major<'i>(places: impl Iterator<Item = (&'i Index, &'i Dim)>) -> Index {
    places.fold(Index::zero(), |flat, (index, size)| {
        Linear::of(&(flat.times(size.clone()) + index.clone())).index()
    })
}

/// The place in a tensor of shape `to` of the element at `index` in one of shape `from`, where the
/// reshape only joins dimensions and adds or drops ones.
pub(super) fn merged(from: &[Dim], to: &[Dim], index: &[Index]) -> Option<Vec<Index>> {
    let mut parts = from.iter().zip(index).filter(|(dim, _)| !dim.is(1));
    let mut places = Vec::with_capacity(to.len());
    for target in to {
        if target.is(1) {
            places.push(Index::zero());
            continue;
        }
        let (mut size, mut taken) = (Dim::from(1i64), Vec::new());
        while size != *target {
            let (dim, index) = parts.next()?;
            size = size * dim.clone();
            taken.push((index, dim));
        }
        places.push(row_major(taken.into_iter()));
    }
    parts.next().is_none().then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::kernel::AxisKind;

    fn axes(extents: &[Dim]) -> Vec<Axis> {
        let axis = |(number, extent): (usize, &Dim)| Axis {
            name: format!("d{number}"),
            extent: extent.clone(),
            kind: AxisKind::Parallel,
        };
        extents.iter().enumerate().map(axis).collect()
    }

    fn dims(sizes: &[i64]) -> Vec<Dim> {
        sizes.iter().map(|&size| Dim::from(size)).collect()
    }

    #[test]
    fn reshapes_cancel_where_dimensions_match() {
        let (b, s) = (Dim::named("b"), Dim::named("s"));
        let (heads, size) = (Dim::from(12i64), Dim::from(32i64));
        let axes = axes(&[b.clone(), s.clone(), heads.clone(), size.clone()]);
        let (symbols, wanted) = (SymbolTable::new(), RefCell::default());
        let space = Space { axes: &axes, symbols: &symbols, wanted: &wanted };
        let index: Vec<Index> = (0..4).map(Index::Axis).collect();
        let merged = space.reshaped(
            &[b.clone(), s.clone(), 384i64.into()],
            &[b.clone(), s.clone(), heads.clone(), size.clone()],
            &index,
        );
        assert_eq!(merged[2], Index::Axis(2).times(32i64) + Index::Axis(3));
        // And apart again.
        let apart = space.reshaped(
            &[b.clone() * s.clone(), heads, size],
            &[b, s.clone(), 384i64.into()],
            &merged,
        );
        assert_eq!(apart[0], Index::Axis(0).times(s) + Index::Axis(1));
        assert_eq!(apart[1..], [Index::Axis(2), Index::Axis(3)]);
        assert!(wanted.borrow().is_empty());
    }

    #[test]
    fn a_split_of_an_axis_is_asked_for() {
        let axes = axes(&dims(&[384]));
        let (symbols, wanted) = (SymbolTable::new(), RefCell::default());
        let space = Space { axes: &axes, symbols: &symbols, wanted: &wanted };
        let places = space.reshaped(&dims(&[12, 32]), &dims(&[384]), &[Index::Axis(0)]);
        assert_eq!(places[1], Index::Axis(0).modulo(32i64));
        assert_eq!(wanted.borrow().get("d0"), Some(&Dim::from(32i64)));
    }
}
