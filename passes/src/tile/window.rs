//! Windows: short axes of a reduction that may stand whole in the body of its loop.
//!
//! Invariant: what is found here only ranks register tiles; any choice is correct.

use super::access::Touch;
use kiln_ir::kernel::{Axis, Operand};
use kiln_tensor::Dim;

/// Points of an axis that is taken for one of a window.
const MOST: u64 = 7;

/// Points of a window along which tiles at a border are counted.
const LONGEST: f64 = 64.0;

/// What stands in the body of the reduction's loop beside one point of every other axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    /// An axis that does as a whole, and its points.
    pub(super) axis: Option<(usize, u64)>,
    /// Whether no loop runs inside, so that what one point reads need not be kept.
    pub(super) innermost: bool,
}

impl Body {
    /// One point of every axis.
    pub(super) const ONE: Body = Body { axis: None, innermost: true };

    /// The choices: one point, and each of the short ones of the axes, which stand from the outermost loop to
    /// the innermost. More than one at once are long code and no faster.
    pub(super) fn all(axes: &[&Axis], reductions: &[usize]) -> Vec<Body> {
        let whole = |&axis: &usize| {
            let points = u64::try_from(axes[axis].extent.as_const()?).ok()?;
            let body =
                Body { axis: Some((axis, points)), innermost: reductions.last() == Some(&axis) };
            (2..=MOST).contains(&points).then_some(body)
        };
        std::iter::once(Body::ONE).chain(reductions.iter().filter_map(whole)).collect()
    }

    /// Points of the reduction in the body.
    pub(super) fn points(&self) -> u64 {
        self.axis.map_or(1, |(_, points)| points)
    }

    /// Whether an axis stands whole in the body.
    pub(super) fn has(&self, axis: usize) -> bool {
        self.axis.is_some_and(|(whole, _)| whole == axis)
    }
}

/// The window that slides along one side of a register tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The axis of its points.
    pub(super) axis: usize,
    /// Guarded reads for each row.
    pub(super) guards: f64,
    /// How far apart neighbouring windows, and points of one, are.
    steps: [f64; 2],
    /// Where the first point of the first window lies.
    first: f64,
    /// Points of a window.
    points: f64,
    /// Where the image ends, if that is known.
    end: Option<f64>,
}

impl Window {
    /// The window along `side`, an axis of the tile, if the reads have one.
    pub(super) fn of(
        side: usize,
        reads: &[Touch],
        reductions: &[usize],
        axes: &[&Axis],
        operands: &[Operand],
    ) -> Option<Window> {
        let number = |dim: &Dim| dim.as_const().map(|value| value as f64);
        let slides = |touch: &Touch| {
            let shape = &operands.get(touch.access.operand)?.shape;
            touch.access.index.iter().zip(shape).find_map(|(index, end)| {
                let place = index.affine()?;
                let step = number(&place.coefficient(side)).filter(|&step| step > 0.0)?;
                let (axis, distance) = reductions.iter().find_map(|&axis| {
                    let distance = number(&place.coefficient(axis))?;
                    (distance > 0.0).then_some((axis, distance))
                })?;
                let first = number(&place.offset)?;
                let points = number(&axes[axis].extent).filter(|&points| points <= LONGEST)?;
                let (steps, end) = ([step, distance], number(end));
                Some(Window { axis, guards: 0.0, steps, first, points, end })
            })
        };
        let window = reads.iter().find_map(slides)?;
        let guarded = reads.iter().filter(|touch| touch.guarded && slides(touch).is_some());
        Some(Window { guards: guarded.count() as f64, ..window })
    }

    /// Whether neighbouring windows read the same places at neighbouring points.
    pub(super) fn overlaps(&self) -> bool {
        self.steps[0] == self.steps[1]
    }

    /// The share of tiles of `rows` out of `size`, at each point of the window, that reach beyond the image.
    pub(super) fn beyond(&self, size: f64, rows: f64) -> f64 {
        let [step, distance] = self.steps;
        // Where the image's size is not known, windows go as far beyond its end as before its beginning.
        let last = (size - 1.0) * step + (self.points - 1.0) * distance;
        let end = self.end.unwrap_or(2.0 * self.first + last + 1.0);
        let tiles = (size / rows).ceil().max(1.0);
        let (mut beyond, mut point) = (0.0, 0.0);
        while point < self.points {
            let first = self.first + point * distance;
            let before = (-first / (rows * step)).ceil().clamp(0.0, tiles);
            // Tiles whose last row lies inside.
            let inside = ((end - first - 1.0) / step + 1.0) / rows;
            let full = if inside * rows >= size { tiles } else { inside.floor().max(0.0) };
            beyond += (before + tiles - full).min(tiles);
            point += 1.0;
        }
        beyond / (tiles * self.points.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_beyond_the_image_are_counted() {
        let window = |step: f64, end: f64| Window {
            axis: 0,
            guards: 1.0,
            steps: [step, 1.0],
            first: -1.0,
            points: 3.0,
            end: Some(end),
        };
        // The first tile at the first point, and the last at the last.
        assert_eq!(window(1.0, 20.0).beyond(20.0, 10.0), 2.0 / 6.0);
        assert_eq!(window(1.0, 40.0).beyond(40.0, 14.0), 2.0 / 9.0);
        assert_eq!(window(1.0, 7.0).beyond(7.0, 7.0), 2.0 / 3.0);
        // Every other place of an even number: none beyond the end.
        assert_eq!(window(2.0, 40.0).beyond(20.0, 10.0), 1.0 / 6.0);
        assert_eq!(Window { end: None, ..window(1.0, 0.0) }.beyond(20.0, 10.0), 2.0 / 6.0);
    }
}
