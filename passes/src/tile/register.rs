//! The register tile: how many rows by how many vectors of accumulators.
//!
//! Invariant: accumulators, the vectors that are kept for a whole column of them and one more for
//! what passes through fit the register file; a tile that spills runs at half speed or less.

use super::TileTarget;
use super::vary::POINTS;
use super::window::Window;

/// What there is to tile.
pub(super) struct Shape {
    /// Size of the other axis, if it is known, and what it is taken for.
    pub(super) side: Option<(Option<f64>, f64)>,
    /// Size of the vector axis, likewise.
    pub(super) vectors: (Option<f64>, f64),
    pub(super) lanes: f64,
    /// Vector loads for each vector of the tile.
    pub(super) kept: f64,
    /// Vector loads for each accumulator.
    pub(super) moving: f64,
    /// Scalar loads, spread over lanes, for each row of the tile.
    pub(super) scalars: f64,
    /// Accumulators for each point.
    pub(super) results: f64,
    /// Points of the reduction in the body of its loop.
    pub(super) unroll: f64,
    /// Whether another loop runs inside of that body, so that its vectors are kept for all points.
    pub(super) apart: bool,
    /// Whether neighbouring rows read what neighbouring points in the body do.
    pub(super) overlap: bool,
    /// Whether what is kept for rows comes from beyond the first cache.
    pub(super) streamed: bool,
    /// Rows whose scalars find room in the first cache side by side.
    pub(super) room: f64,
    /// The window whose points come one by one, if the rows' reads have one.
    pub(super) window: Option<Window>,
}

/// Cycles until the result of a multiply-add can be used.
const LATENCY: f64 = 4.0;
/// Cycles more that a vector takes that comes from beyond the first cache.
const FAR: f64 = 0.25;
/// Cycles more that a scalar takes which others have driven out of the first cache.
const CROWDED: f64 = 0.5;
/// Cycles that vectors cost which are kept for several points.
const KEEP: f64 = 1.0;
/// Cycles to decide whether a place lies outside, and to read what holds there.
const GUARD: f64 = 0.5;
/// Loads in one cycle.
const LOADS: f64 = 2.0;
/// Sizes that stand for one that is not known.
const SAMPLES: [f64; 5] = [1.0, 16.0, 50.0, 100.0, 333.0];

/// A tile, and cycles for each point of the reduction and of what is tiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) rows: u64,
    pub(super) vectors: u64,
    pub(super) cost: f64,
}

/// The best tile of those whose width, in elements, `fits` the constants; `None` if every one spills.
pub(super) fn choose(
    shape: &Shape,
    target: &TileTarget,
    fits: &dyn Fn(u64) -> bool,
) -> Option<Chosen> {
    let most_rows = if shape.side.is_some() { 16 } else { 1 };
    let mut best: Option<Chosen> = None;
    for vectors in 1..=8u64 {
        let width = vectors as f64 * shape.lanes;
        // A tile wider than the axis only adds masked work.
        if vectors > 1 && (vectors - 1) as f64 * shape.lanes >= shape.vectors.1 {
            break;
        }
        if vectors > 1 && !fits(width as u64) {
            continue;
        }
        for rows in 1..=most_rows {
            if rows > 1 && shape.side.is_some_and(|(_, size)| rows as f64 > size) {
                break;
            }
            let registers = registers(shape, rows as f64, vectors as f64, target);
            let spills = registers > f64::from(target.vector_registers);
            let long = rows as f64 * vectors as f64 * shape.results * shape.unroll > POINTS as f64;
            if (spills || long) && (rows, vectors, shape.unroll) != (1, 1, 1.0) {
                continue;
            }
            let cost = average(shape.vectors.0, |size| {
                let full = (size / width).floor();
                let rest = ((size - full * width) / shape.lanes).ceil();
                let columns = |count: f64| rows_cost(shape, rows as f64, count, target);
                (full * columns(vectors as f64) + if rest > 0.0 { columns(rest) } else { 0.0 })
                    / size.max(1.0)
            });
            if best.is_none_or(|best| cost < best.cost * 0.995) {
                best = Some(Chosen { rows, vectors, cost });
            }
        }
    }
    best
}

/// The cost at a known size, or on average over several.
fn average(size: Option<f64>, cost: impl Fn(f64) -> f64) -> f64 {
    match size {
        Some(size) => cost(size),
        None => SAMPLES.iter().map(|&size| cost(size)).sum::<f64>() / SAMPLES.len() as f64,
    }
}

/// Cycles for all rows of the other axis, a row each, with tiles of this many vectors.
fn rows_cost(shape: &Shape, rows: f64, vectors: f64, target: &TileTarget) -> f64 {
    let Some((known, _)) = shape.side else { return cycles(shape, 1.0, 1.0, vectors, target) };
    average(known, |size| {
        let cycles = |rows: f64| cycles(shape, size, rows, vectors, target);
        let full = (size / rows).floor();
        let mut rest = size - full * rows;
        let mut cost = full * cycles(rows);
        if known.is_some() {
            // What remains is one smaller tile.
            cost += if rest > 0.0 { cycles(rest) } else { 0.0 };
        } else {
            // What remains is not known: a third of a tile at a time, then single rows.
            let third = (rows / 3.0).max(1.0).log2().floor().exp2();
            if rows >= 8.0 {
                let parts = (rest / third).floor();
                cost += parts * cycles(third);
                rest -= parts * third;
            }
            cost += rest * cycles(1.0);
        }
        cost / size.max(1.0)
    })
}

/// Registers that a tile takes.
fn registers(shape: &Shape, rows: f64, vectors: f64, target: &TileTarget) -> f64 {
    let kept = if shape.apart { shape.kept * shape.unroll } else { shape.kept };
    // A scalar that neighbouring points have in common is spread out once and stays until the last of them.
    let common = if shape.unroll > 1.0 && shape.overlap { 2.0 * shape.scalars } else { 0.0 };
    let passing = if target.fma { 1.0 } else { 2.0 };
    rows * vectors * shape.results + vectors * kept + common + passing
}

/// Cycles for one point of the reduction with one tile of so many along `size`.
fn cycles(shape: &Shape, size: f64, rows: f64, vectors: f64, target: &TileTarget) -> f64 {
    let accumulators = rows * vectors * shape.results;
    let computing = accumulators / target.multiply_adds();
    // Scalars that points have in common, of those that they have.
    let fresh =
        if shape.overlap { (rows + shape.unroll - 1.0) / (rows * shape.unroll) } else { 1.0 };
    let loading = vectors * shape.kept + rows * shape.scalars * fresh + accumulators * shape.moving;
    let guarding =
        shape.window.map_or(0.0, |window| window.guards * rows * GUARD * window.beyond(size, rows));
    let waiting = if shape.streamed { vectors * shape.kept * FAR } else { 0.0 };
    let crowding = if rows > shape.room { rows * shape.scalars * CROWDED } else { 0.0 };
    let keeping = match (shape.apart, shape.overlap) {
        (false, _) => 0.0,
        (true, true) => KEEP,
        (true, false) => 2.0 * KEEP,
    };
    // A little for the loop itself, which large tiles spread over more work.
    computing.max(loading / LOADS).max(LATENCY)
        + guarding
        + waiting
        + crowding
        + keeping
        + 1.0 / shape.unroll
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(m: Option<f64>, n: f64, target: &TileTarget, lanes: f64) -> (u64, u64) {
        crowded(m, n, target, lanes, f64::INFINITY)
    }

    fn crowded(m: Option<f64>, n: f64, target: &TileTarget, lanes: f64, room: f64) -> (u64, u64) {
        let shape = Shape {
            side: Some((m, m.unwrap_or(64.0))),
            vectors: (Some(n), n),
            lanes,
            kept: 1.0,
            moving: 0.0,
            scalars: 1.0,
            results: 1.0,
            unroll: 1.0,
            apart: false,
            overlap: false,
            streamed: false,
            room,
            window: None,
        };
        let chosen = choose(&shape, target, &|_| true).unwrap();
        (chosen.rows, chosen.vectors)
    }

    #[test]
    fn products_fill_the_register_file() {
        let wide = TileTarget::avx512(1);
        let (rows, vectors) = product(Some(1024.0), 1024.0, &wide, 16.0);
        assert!(rows * vectors >= 24 && rows * vectors + vectors < 32, "{rows}x{vectors}");
        let narrow = TileTarget { vector_bits: 256, vector_registers: 16, ..wide };
        let (rows, vectors) = product(Some(1024.0), 1024.0, &narrow, 8.0);
        assert!(rows * vectors >= 10 && rows * vectors + vectors < 16, "{rows}x{vectors}");
    }

    #[test]
    fn rows_that_drive_each_other_out_of_the_cache_are_few() {
        let wide = TileTarget::avx512(1);
        let (rows, vectors) = crowded(Some(1024.0), 1024.0, &wide, 16.0, 6.0);
        assert!(rows <= 6 && rows * vectors >= 20, "{rows}x{vectors}");
    }

    #[test]
    fn a_single_row_takes_many_vectors() {
        let (rows, vectors) = product(Some(1.0), 4096.0, &TileTarget::avx512(1), 16.0);
        assert!(rows == 1 && vectors >= 4, "{rows}x{vectors}");
    }
}
