//! The register tile: how many rows by how many vectors of accumulators.
//!
//! Invariant: accumulators, the vectors that are kept for a whole column of them and one more for
//! what passes through fit the register file; a tile that spills runs at half speed or less.

use super::TileTarget;

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
}

/// Cycles until the result of a multiply-add can be used.
const LATENCY: f64 = 4.0;
/// Loads in one cycle.
const LOADS: f64 = 2.0;
/// Sizes that stand for one that is not known.
const SAMPLES: [f64; 5] = [1.0, 16.0, 50.0, 100.0, 333.0];

/// Rows and vectors of the best tile of those whose width, in elements, `fits` the constants.
pub(super) fn choose(shape: &Shape, target: &TileTarget, fits: &dyn Fn(u64) -> bool) -> (u64, u64) {
    let most_rows = if shape.side.is_some() { 16 } else { 1 };
    let mut best = (f64::INFINITY, 1, 1);
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
            let registers = rows as f64 * vectors as f64 * shape.results
                + vectors as f64 * shape.kept
                + if target.fma { 1.0 } else { 2.0 };
            let spills = registers > f64::from(target.vector_registers);
            if spills && (rows, vectors) != (1, 1) {
                continue;
            }
            let cost = average(shape.vectors.0, |size| {
                let full = (size / width).floor();
                let rest = ((size - full * width) / shape.lanes).ceil();
                let columns = |count: f64| rows_cost(shape, rows as f64, count, target);
                (full * columns(vectors as f64) + if rest > 0.0 { columns(rest) } else { 0.0 })
                    / size.max(1.0)
            });
            if cost < best.0 * 0.995 {
                best = (cost, rows, vectors);
            }
        }
    }
    (best.1, best.2)
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
    let Some((known, _)) = shape.side else { return cycles(shape, 1.0, vectors, target) };
    average(known, |size| {
        let full = (size / rows).floor();
        let mut rest = size - full * rows;
        let mut cost = full * cycles(shape, rows, vectors, target);
        if known.is_some() {
            // What remains is one smaller tile.
            cost += if rest > 0.0 { cycles(shape, rest, vectors, target) } else { 0.0 };
        } else {
            // What remains is not known: a third of a tile at a time, then single rows.
            let third = (rows / 3.0).max(1.0).log2().floor().exp2();
            if rows >= 8.0 {
                let parts = (rest / third).floor();
                cost += parts * cycles(shape, third, vectors, target);
                rest -= parts * third;
            }
            cost += rest * cycles(shape, 1.0, vectors, target);
        }
        cost / size.max(1.0)
    })
}

/// Cycles for one step of the reduction with one tile.
fn cycles(shape: &Shape, rows: f64, vectors: f64, target: &TileTarget) -> f64 {
    let accumulators = rows * vectors * shape.results;
    let computing = accumulators / target.multiply_adds();
    let loading =
        (vectors * shape.kept + rows * shape.scalars + accumulators * shape.moving) / LOADS;
    // A little for the loop itself, which large tiles spread over more work.
    computing.max(loading).max(LATENCY) + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(m: Option<f64>, n: f64, target: &TileTarget, lanes: f64) -> (u64, u64) {
        let shape = Shape {
            side: Some((m, m.unwrap_or(64.0))),
            vectors: (Some(n), n),
            lanes,
            kept: 1.0,
            moving: 0.0,
            scalars: 1.0,
            results: 1.0,
        };
        choose(&shape, target, &|_| true)
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
    fn a_single_row_takes_many_vectors() {
        let (rows, vectors) = product(Some(1.0), 4096.0, &TileTarget::avx512(1), 16.0);
        assert!(rows == 1 && vectors >= 4, "{rows}x{vectors}");
    }
}
