//! How a range of one axis is covered by register tiles: whole ones, then what remains.
//!
//! Invariant: the pieces cover every point of the range once, in ascending order, whatever the
//! length turns out to be.

use super::ValueId;
use super::build::Builder;
use kiln_tensor::Dim;

/// What is known of the length of a range before it runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Length {
    /// It is one of these.
    OneOf(Vec<i64>),
    /// It is this expression.
    Exactly(Dim),
    /// Nothing.
    Unknown,
}

impl Length {
    pub(super) fn of(extent: &Dim) -> Self {
        match extent.as_const() {
            Some(length) => Length::OneOf(vec![length]),
            None => Length::Exactly(extent.clone()),
        }
    }

    fn one_of(mut lengths: Vec<i64>) -> Self {
        lengths.sort_unstable();
        lengths.dedup();
        Length::OneOf(lengths)
    }

    /// The length of a block, when a range of this length is cut into blocks of `step`.
    pub(super) fn block(&self, step: i64) -> Length {
        match self.remainders(step) {
            Some(remainders) => {
                let whole = self.may_reach(step).then_some(step);
                Length::one_of(remainders.into_iter().filter(|r| *r != 0).chain(whole).collect())
            }
            None => Length::Unknown,
        }
    }

    /// What may remain after whole steps, ascending; `None` if anything may.
    fn remainders(&self, step: i64) -> Option<Vec<i64>> {
        match self {
            Length::OneOf(lengths) => {
                let mut rest: Vec<i64> = lengths.iter().map(|l| l.rem_euclid(step)).collect();
                rest.sort_unstable();
                rest.dedup();
                Some(rest)
            }
            Length::Exactly(dim) => Some(vec![dim.modulo(&Dim::from(step)).as_const()?]),
            Length::Unknown => None,
        }
    }

    fn may_reach(&self, step: i64) -> bool {
        match self {
            Length::OneOf(lengths) => lengths.iter().any(|length| *length >= step),
            _ => true,
        }
    }

    pub(super) fn as_const(&self) -> Option<i64> {
        match self {
            Length::OneOf(lengths) => match lengths.as_slice() {
                [length] => Some(*length),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Points of an axis that a stage runs over.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) from: ValueId,
    pub(super) to: ValueId,
    pub(super) length: Length,
}

/// Points of one axis that are unrolled in the register tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// The first point.
    pub(super) base: ValueId,
    /// Vectors along the vector axis, points along others.
    pub(super) count: i64,
    /// Lanes of one vector; 1 for points.
    pub(super) lanes: u32,
    /// Points that lie inside the range, if not all are known to.
    pub(super) inside: Option<ValueId>,
}

/// A loop over tiles of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Points of one tile, lanes counted.
    pub(super) points: i64,
    /// Lanes of one vector; 1 for points.
    pub(super) lanes: u32,
    /// Whether the tile may reach beyond the range: points beyond are masked.
    pub(super) masked: bool,
    /// Whether it takes at most one iteration and all that is left.
    pub(super) last: bool,
    /// For a masked tile: the points inside the range, if their number is known.
    pub(super) rest: Option<i64>,
}

/// The pieces that cover a range whose register tile has `step` points, in vectors of `lanes`.
pub(super) fn pieces(length: &Length, step: i64, lanes: u32, masks: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let piece = |points, lanes| Piece { points, lanes, masked: false, last: false, rest: None };
    if length.may_reach(step) {
        pieces.push(piece(step, lanes));
    }
    let width = i64::from(lanes);
    let remainders = length.remainders(step);
    let rest: Option<Vec<i64>> = remainders.map(|r| r.into_iter().filter(|r| *r != 0).collect());
    match rest.as_deref() {
        Some([]) => {}
        Some([rest]) if rest % width == 0 => {
            pieces.push(Piece { last: true, ..piece(*rest, lanes) });
        }
        Some([rest]) if masks => {
            let points = (rest + width - 1) / width * width;
            pieces.push(Piece { points, lanes, masked: true, last: true, rest: Some(*rest) });
        }
        _ if lanes > 1 && masks => {
            pieces.push(Piece { points: step, lanes, masked: true, last: true, rest: None });
        }
        _ => {
            if lanes > 1 && step > width {
                pieces.push(piece(width, lanes));
            }
            if lanes == 1 && step >= 8 {
                // A third of a tile keeps enough independent work where much may remain.
                pieces.push(piece(1 << (step / 3).ilog2(), 1));
            }
            if step > 1 || lanes > 1 {
                pieces.push(piece(1, 1));
            }
        }
    }
    pieces
}

impl Range {
    /// Where the loop of a piece ends that starts at `from`.
    pub(super) fn end_of(&self, piece: &Piece, from: ValueId, build: &mut Builder) -> ValueId {
        if piece.last || piece.points == 1 {
            return self.to;
        }
        let exact = self.length.remainders(piece.points);
        if from == self.from && exact.is_some_and(|rest| rest == [0]) {
            return self.to;
        }
        let length = build.sub(self.to, from);
        build.assume_not_negative(length);
        let points = build.index(piece.points);
        let whole = build.floor_div(length, points);
        let covered = build.mul(whole, points);
        build.add(from, covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the pieces over a range of this length and says which points they touch.
    fn covered(length: i64, known: &Length, step: i64, lanes: u32, masks: bool) -> Vec<i64> {
        let (mut at, mut points) = (0, Vec::new());
        for piece in pieces(known, step, lanes, masks) {
            let end =
                if piece.last { length } else { at + (length - at) / piece.points * piece.points };
            while at < end {
                let reach = if piece.masked {
                    piece.rest.map_or(length, |rest| at + rest)
                } else {
                    at + piece.points
                };
                points.extend(at..reach);
                at += piece.points;
            }
            at = at.min(length).max(end);
        }
        points
    }

    #[test]
    fn every_point_is_covered_once() {
        for (step, lanes) in [(1, 1), (6, 1), (14, 1), (16, 16), (32, 16), (12, 4)] {
            for length in 0..80 {
                let block = Length::OneOf(vec![5, 40]).block(32);
                assert_eq!(block, Length::OneOf(vec![5, 8, 32]));
                let known = [Length::OneOf(vec![length]), Length::Unknown];
                for known in known.iter().chain([&Length::OneOf(vec![length, 48, 7])]) {
                    for masks in [false, true] {
                        let points = covered(length, known, step, lanes, masks);
                        let expected: Vec<i64> = (0..length).collect();
                        assert_eq!(points, expected, "{length} {known:?} {step}x{lanes} {masks}");
                    }
                }
            }
        }
    }
}
