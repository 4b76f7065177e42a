//! Pooling over windows and over whole planes.
//!
//! Invariant: batch and channels are never pooled: the window is 1 there.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::unpooling::places_of_maxima;
use super::window::{Window, around, factors, pads, spatial_rank};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn, WindowFn};
use kiln_tensor::Dim;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("AveragePool", 1, average_pool),
    onnx("GlobalAveragePool", 1, |x| global(x, ReduceFn::Mean)),
    onnx("GlobalLpPool", 1, global_lp_pool),
    onnx("GlobalMaxPool", 1, |x| global(x, ReduceFn::Max)),
    onnx("LpPool", 1, lp_pool),
    onnx("MaxPool", 1, max_pool),
];

/// A window with a padding that makes room for all its places.
struct Pool {
    operand: V,
    sizes: Vec<usize>,
    window: Window,
    before: Vec<i64>,
    after: Vec<i64>,
    /// What is added after the end only to round the number of places up.
    beyond: Vec<i64>,
    /// The number of places, where that padding may make one too many.
    places: Vec<Option<Dim>>,
}

fn pool(x: &mut Use<'_, '_, '_>, operand: V, value: f64) -> Result<Pool, Fault> {
    let spatial = spatial_rank(x, operand)?;
    if x.ints("kernel_shape")?.is_none() {
        return Err(Fault::malformed("attribute `kernel_shape` is missing"));
    }
    let sizes = factors(x, "kernel_shape", spatial)?;
    let window = Window::of(x, sizes.iter().map(|&size| Dim::from(size)).collect())?;
    let (before, after) = pads(x, sizes.len())?;
    let fits = |(&pad, &size): (&i64, &usize)| (0..size as i64).contains(&pad);
    if !before.iter().zip(&sizes).chain(after.iter().zip(&sizes)).all(fits) {
        let pads = [before, after].concat();
        let message = format!("`pads` must be less than the window {sizes:?}, but is {pads:?}");
        return Err(Fault::malformed(message));
    }
    let (operand, before, after) = window.padded(x, operand, value)?;
    let shape = x.shape(operand);
    let mut beyond = vec![0; spatial];
    let mut places = vec![None; spatial];
    if x.flag("ceil_mode", false)? {
        for (number, beyond) in beyond.iter_mut().enumerate() {
            let stride = window.strides[number] as i64;
            let Some(extent) = window.extent(number).as_const() else { continue };
            let (before, after) = (before[number], after[number]);
            *beyond = match shape[number + 2].as_const() {
                Some(size) => beyond_end(size, extent, stride, before, after),
                None => {
                    // Rounding up never starts a window outside if it is long enough.
                    if stride.saturating_add(after) > extent {
                        let inside =
                            shape[number + 2].clone() + Dim::from(before) - Dim::from(1i64);
                        let most = inside.floor_div(&Dim::from(stride)) + Dim::from(1i64);
                        places[number] = Some(most);
                    }
                    stride - 1
                }
            };
        }
    }
    Ok(Pool { operand, sizes, window, before, after, beyond, places })
}

/// How much more padding makes the places of a window `⌈…⌉` many, but none that starts in the
/// padding after the end.
fn beyond_end(size: i64, extent: i64, stride: i64, before: i64, after: i64) -> i64 {
    let padded = size.saturating_add(before).saturating_add(after);
    let spare = padded.saturating_sub(extent);
    let mut steps = -spare.saturating_neg().div_euclid(stride);
    if steps.saturating_mul(stride) >= size.saturating_add(before) {
        steps -= 1;
    }
    steps.saturating_mul(stride).saturating_sub(spare).max(0)
}

impl Pool {
    fn reduce(self, x: &mut Use<'_, '_, '_>, f: WindowFn) -> Result<V, Fault> {
        let ends = self
            .after
            .iter()
            .zip(&self.beyond)
            .map(|(after, beyond)| after.saturating_add(*beyond));
        let after: Vec<i64> = ends.collect();
        let window = op::WindowReduce {
            f,
            window: [vec![1, 1], self.sizes].concat(),
            strides: [vec![1, 1], self.window.strides].concat(),
            dilations: [vec![1, 1], self.window.dilations].concat(),
            before: [vec![0, 0], self.before].concat(),
            after: [vec![0, 0], after].concat(),
        };
        let mut result = x.add(window, &[self.operand])?;
        for (number, most) in self.places.into_iter().enumerate() {
            let Some(most) = most else { continue };
            let all = x.shape(result)[number + 2].clone();
            let inside = x.facts().minimum(&all, &most);
            result = x.part(result, number + 2, 0i64, inside)?;
        }
        Ok(result)
    }
}

pub(super) fn max_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let pool = pool(x, operand, f64::NEG_INFINITY)?;
    let window = pool.window.clone();
    let maxima = pool.reduce(x, WindowFn::Max)?;
    if !x.wants(1) {
        return Ok(vec![maxima]);
    }
    Ok(places_of_maxima(x, operand, &window, maxima)?.to_vec())
}

pub(super) fn average_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let count_padding = x.flag("count_include_pad", false)?;
    let shape = x.shape(operand);
    let mut average = pool(x, operand, 0.0)?;
    let moved = average.operand != operand;
    if !count_padding {
        if moved {
            return Ok(vec![average_of_inside(x, average, shape)?]);
        }
        return Ok(vec![average.reduce(x, WindowFn::Mean { count_padding })?]);
    }
    // What only rounds up does not count, what is padded does: it becomes part of the tensor.
    if average.beyond.iter().any(|&beyond| beyond > 0) {
        let dims = |values: &[i64]| values.iter().map(|&value| Dim::from(value)).collect();
        let (before, after) = (dims(&average.before), dims(&average.after));
        average.operand = around(x, average.operand, before, after, 0.0)?;
        average.before.fill(0);
        average.after.fill(0);
        return Ok(vec![average.reduce(x, WindowFn::Mean { count_padding: false })?]);
    }
    Ok(vec![average.reduce(x, WindowFn::Mean { count_padding })?])
}

/// The mean where the padding is part of the tensor but does not count: a sum over a count.
fn average_of_inside(x: &mut Use<'_, '_, '_>, average: Pool, shape: Vec<Dim>) -> Result<V, Fault> {
    let dtype = x.dtype(average.operand);
    let (before, after) = average.window.padding(x, &shape[2..]);
    let one = x.scalar(dtype, 1.0)?;
    let ones = x.broadcast(one, shape)?;
    let operand = around(x, ones, before, after, 0.0)?;
    let count = Pool {
        operand,
        sizes: average.sizes.clone(),
        window: average.window.clone(),
        before: average.before.clone(),
        after: average.after.clone(),
        beyond: average.beyond.clone(),
        places: average.places.clone(),
    };
    let (sum, count) = (average.reduce(x, WindowFn::Sum)?, count.reduce(x, WindowFn::Sum)?);
    x.binary(BinaryFn::Div, sum, count)
}

/// Axes of a plane.
fn plane(x: &Use<'_, '_, '_>, operand: V) -> Vec<usize> {
    (2..x.rank(operand)).collect()
}

/// Batch and channels come before what is pooled.
fn has_channels(x: &Use<'_, '_, '_>, operand: V) -> Result<(), Fault> {
    if x.rank(operand) >= 2 {
        return Ok(());
    }
    Err(Fault::malformed(format!("{} has no batch and channels", x.ty(operand))))
}

fn global(x: &mut Use<'_, '_, '_>, f: ReduceFn) -> Results {
    let operand = x.input(0)?;
    has_channels(x, operand)?;
    let axes = plane(x, operand);
    Ok(vec![x.reduce(f, operand, axes, true)?])
}

/// `|x|ᵖ`, and what makes a sum of them a norm.
fn powers(x: &mut Use<'_, '_, '_>, operand: V) -> Result<(V, f64), Fault> {
    // Not a whole number in opset 1.
    let p = if x.opset() < 2 { x.float_or("p", 2.0)? } else { x.int_or("p", 2)? as f64 };
    let absolute = x.unary(UnaryFn::Abs, operand)?;
    let powers = if p == 1.0 { absolute } else { x.with_number(BinaryFn::Pow, absolute, p)? };
    Ok((powers, p))
}

fn root(x: &mut Use<'_, '_, '_>, sum: V, p: f64) -> Results {
    Ok(vec![if p == 1.0 { sum } else { x.with_number(BinaryFn::Pow, sum, 1.0 / p)? }])
}

fn lp_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (powers, p) = powers(x, operand)?;
    let sum = pool(x, powers, 0.0)?.reduce(x, WindowFn::Sum)?;
    root(x, sum, p)
}

fn global_lp_pool(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    has_channels(x, operand)?;
    let (powers, p) = powers(x, operand)?;
    let axes = plane(x, operand);
    let sum = x.reduce(ReduceFn::Sum, powers, axes, true)?;
    root(x, sum, p)
}
