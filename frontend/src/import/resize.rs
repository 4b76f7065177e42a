//! Interpolation onto another grid: `Resize` in its five versions, and `Upsample` before it.
//!
//! Invariant: the sizes of the result are decided here; the core operation is told the scales only
//! where the model gives them.

use super::antialias;
use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx, onnx_until};
use super::resample::{Along, Sampling, resample};
use super::rounding;
use super::scalar::Scalar;
use kiln_ir::op::{self, BinaryFn, CoordinateMode, NearestMode, ResizeMode, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[onnx("Resize", 10, resize), onnx_until("Upsample", 1, 9, upsample)];

/// The grid of the result.
struct Grid {
    sizes: Vec<Dim>,
    /// As given, for every dimension; `None` if sizes were given or symbols are in them.
    scales: Option<Vec<f64>>,
}

/// `⌊size·scale⌋`, in the arithmetic of ONNX Runtime where it is constant; `None` where no expression says
/// how that rounds.
fn scaled(size: &Dim, scale: &Scalar) -> Result<Option<Dim>, Fault> {
    let wrong = || Fault::malformed("a scale is not a positive number");
    if let Some(number) = scale.as_number() {
        if !(number.is_finite() && number > 0.0) {
            return Err(wrong());
        }
        if let Some(size) = size.as_const() {
            return Ok(Some(Dim::from((number as f32 * size as f32).floor() as i64)));
        }
        let fraction = rounding::fraction(number, DType::F32);
        return Ok(
            fraction.map(|(num, den)| (size.clone() * Dim::from(num)).floor_div(&Dim::from(den)))
        );
    }
    let Scalar::Exact { num, den } = scale else { return Err(wrong()) };
    match Scalar::quotient(size.clone() * num.clone(), den.clone()) {
        Scalar::Exact { num, den } => Ok(Some(num.floor_div(&den))),
        Scalar::Float(_) | Scalar::Equal { .. } => Err(wrong()),
    }
}

/// The grid of scales that are known; `None` if its sizes are not, before the model runs.
fn by_scales(shape: &[Dim], scales: &[Scalar]) -> Result<Option<Grid>, Fault> {
    if scales.len() != shape.len() {
        let (given, rank) = (scales.len(), shape.len());
        return Err(Fault::malformed(format!("{given} scales are given for rank {rank}")));
    }
    let sizes = shape.iter().zip(scales).map(|(size, scale)| scaled(size, scale));
    let numbers: Option<Vec<f64>> = scales.iter().map(Scalar::as_number).collect();
    let sizes = sizes.collect::<Result<Option<Vec<Dim>>, _>>()?;
    Ok(sizes.map(|sizes| Grid { sizes, scales: numbers }))
}

/// An operand that is given and not empty, which exporters write for "not given".
fn given(x: &Use<'_, '_, '_>, number: usize) -> Option<V> {
    x.optional(number).filter(|&v| !x.ty(v).elements().is(0))
}

/// Up to opset 10, samples are taken without centring, and the neighbour below is the nearest, or
/// the one above where the result is smaller.
fn plain(x: &mut Use<'_, '_, '_>, operand: V, grid: Grid) -> Results {
    let coordinates = CoordinateMode::Asymmetric;
    let (mut v, scales) = (operand, grid.scales.clone());
    let linear = match x.string_or("mode", "nearest")? {
        "nearest" => false,
        "linear" | "bilinear" => true,
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    if linear {
        let op = op::Resize {
            sizes: grid.sizes,
            scales,
            mode: ResizeMode::Linear,
            coordinates,
            antialias: false,
            extrapolation: 0.0,
        };
        return Ok(vec![interpolate(x, v, op)?]);
    }
    let down = |axis: usize| scales.as_ref().is_some_and(|scales| scales[axis] < 1.0);
    for (smaller, nearest) in [(true, NearestMode::Ceil), (false, NearestMode::Floor)] {
        let shape = x.shape(v);
        let chosen = |axis: usize| down(axis) == smaller;
        let sizes: Vec<Dim> = (0..shape.len())
            .map(|axis| if chosen(axis) { grid.sizes[axis].clone() } else { shape[axis].clone() })
            .collect();
        let own = scales.as_ref().map(|scales| {
            let each = scales.iter().enumerate();
            each.map(|(axis, &scale)| if chosen(axis) { scale } else { 1.0 }).collect::<Vec<_>>()
        });
        if sizes == shape && own.iter().flatten().all(|&scale| scale == 1.0) {
            continue;
        }
        let op = op::Resize {
            sizes,
            scales: own,
            mode: ResizeMode::Nearest(nearest),
            coordinates: coordinates.clone(),
            antialias: false,
            extrapolation: 0.0,
        };
        v = x.add(op, &[v])?;
    }
    Ok(vec![v])
}

/// The interpolation, of integers in f32.
fn interpolate(x: &mut Use<'_, '_, '_>, v: V, op: op::Resize) -> Result<V, Fault> {
    let dtype = x.dtype(v);
    if dtype.is_float() || matches!(op.mode, ResizeMode::Nearest(_)) {
        return x.add(op, &[v]);
    }
    let wide = x.cast(v, DType::F32)?;
    let result = x.add(op, &[wide])?;
    x.cast(result, dtype)
}

/// Scales are two attributes up to opset 6, for height and width, one in 7 and 8, an operand in 9.
fn upsample(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let scales: Vec<Scalar> = if x.opset() < 7 {
        let scale = |name: &str| {
            let missing = || Fault::malformed(format!("attribute `{name}` is missing"));
            x.float(name)?.ok_or_else(missing).map(Scalar::float)
        };
        let one = || Scalar::whole(1i64);
        vec![one(), one(), scale("height_scale")?, scale("width_scale")?]
    } else if x.opset() < 9 {
        let scales = x.floats("scales")?;
        let scales = scales.ok_or_else(|| Fault::malformed("attribute `scales` is missing"))?;
        scales.iter().map(|&scale| Scalar::float(f64::from(scale))).collect()
    } else {
        let scales = x.input(1)?;
        match x.importer.build.contents(scales) {
            Some(known) => known.to_vec(),
            None => return by_data(x, operand, (0..shape.len()).collect()),
        }
    };
    match by_scales(&shape, &scales)? {
        Some(grid) => plain(x, operand, grid),
        None if x.opset() >= 9 => by_data(x, operand, (0..shape.len()).collect()),
        None => {
            let message = "a scale of a size that is not known is no fraction";
            Err(Fault::unsupported(message, "fix the sizes of inputs with --dim"))
        }
    }
}

/// A grid of which scales, sizes whose ratio counts, or the region are data.
fn by_data(x: &mut Use<'_, '_, '_>, operand: V, axes: Vec<usize>) -> Results {
    let (shape, old) = (x.shape(operand), x.opset() < 11);
    let scales = if old { x.optional(1) } else { given(x, 2) };
    let mode = match (old, x.string_or("mode", "nearest")?) {
        (true, "nearest") => ResizeMode::Nearest(NearestMode::Floor),
        (true, "linear" | "bilinear") => ResizeMode::Linear,
        _ => mode(x)?,
    };
    let coordinates = if old { "asymmetric" } else { "half_pixel" };
    let coordinates = x.string_or("coordinate_transformation_mode", coordinates)?.to_owned();
    let antialias = x.flag("antialias", false)? && !matches!(mode, ResizeMode::Nearest(_));
    let extrapolation = x.float_or("extrapolation_value", 0.0)?;
    let sampling = Sampling { mode, coordinates, ceil_if_smaller: old, antialias, extrapolation };
    let each = |x: &mut Use<'_, '_, '_>, v: V, count: usize, what: &str| {
        if x.count(v)? != count {
            let given = x.count(v)?;
            return Err(Fault::malformed(format!("{given} {what} are given, not {count}")));
        }
        x.cast(v, DType::F64)
    };
    let region = match sampling.coordinates.as_str() {
        "tf_crop_and_resize" => {
            let roi = given(x, 1).ok_or_else(|| Fault::malformed("the region is missing"))?;
            Some(each(x, roi, 2 * axes.len(), "numbers of the region")?)
        }
        _ => None,
    };
    let own: Vec<Dim> = axes.iter().map(|&axis| shape[axis].clone()).collect();
    let own = x.vector(own)?;
    let own = x.cast(own, DType::F64)?;
    let (scales, sizes) = match scales {
        Some(scales) => {
            let wide = each(x, scales, axes.len(), "scales")?;
            // In f32, as ONNX Runtime computes it.
            let (own, scales) = (x.cast(own, DType::F32)?, x.cast(wide, DType::F32)?);
            let sizes = x.binary(BinaryFn::Mul, own, scales)?;
            (wide, x.unary(UnaryFn::Floor, sizes)?)
        }
        None => {
            let sizes = given(x, 3);
            let sizes =
                sizes.ok_or_else(|| Fault::malformed("no scales and no sizes are given"))?;
            let sizes = each(x, sizes, axes.len(), "sizes")?;
            let ratios = x.binary(BinaryFn::Div, sizes, own)?;
            let f = match x.string_or("keep_aspect_ratio_policy", "stretch")? {
                "stretch" => None,
                "not_larger" => Some(op::ReduceFn::Min),
                "not_smaller" => Some(op::ReduceFn::Max),
                other => return Err(Fault::malformed(format!("policy `{other}` is not known"))),
            };
            match f {
                None => (ratios, sizes),
                Some(f) => {
                    let scale = x.reduce(f, ratios, vec![0], true)?;
                    let exact = x.binary(BinaryFn::Mul, own, scale)?;
                    let rounded = x.with_number(BinaryFn::Add, exact, 0.5)?;
                    let scales = x.broadcast(scale, vec![Dim::from(axes.len())])?;
                    (scales, x.unary(UnaryFn::Floor, rounded)?)
                }
            }
        }
    };
    let sizes = x.cast(sizes, DType::I64)?;
    let sizes = x.sizes(sizes)?;
    let mut along = Vec::with_capacity(axes.len());
    for (number, (&axis, to)) in axes.iter().zip(sizes).enumerate() {
        let scale = x.element(scales, 0, number)?;
        let region = match region {
            Some(region) => {
                let start = x.element(region, 0, number)?;
                Some([start, x.element(region, 0, axes.len() + number)?])
            }
            None => None,
        };
        along.push(Along { axis, to, scale, region });
    }
    Ok(vec![resample(x, operand, &sampling, &along)?])
}

fn resize(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    if x.opset() < 11 {
        let scales = x.input(1)?;
        let Some(scales) = x.importer.build.contents(scales) else {
            return by_data(x, operand, (0..shape.len()).collect());
        };
        return match by_scales(&shape, &scales)? {
            Some(grid) => plain(x, operand, grid),
            None => by_data(x, operand, (0..shape.len()).collect()),
        };
    }
    let axes = match x.ints("axes")? {
        Some(axes) => x.axes(axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    let policy = x.string_or("keep_aspect_ratio_policy", "stretch")?;
    let decide = [given(x, 1), given(x, 2), given(x, 3).filter(|_| policy != "stretch")];
    if decide.into_iter().flatten().any(|v| !x.is_known(v)) {
        return by_data(x, operand, axes);
    }
    let Some(grid) = grid(x, &shape, &axes)? else { return by_data(x, operand, axes) };
    let mode = mode(x)?;
    let coordinates = coordinates(x, shape.len(), &axes)?;
    let antialias = x.flag("antialias", false)? && !matches!(mode, ResizeMode::Nearest(_));
    let extrapolation = x.float_or("extrapolation_value", 0.0)?;
    let Grid { sizes, scales } = grid;
    let op = op::Resize { sizes, scales, mode, coordinates, antialias, extrapolation };
    let (dtype, mut v) = (x.dtype(operand), operand);
    if !antialias {
        return Ok(vec![interpolate(x, v, op)?]);
    }
    // What becomes smaller is filtered first, dimension by dimension.
    if !dtype.is_float() {
        v = x.cast(v, DType::F32)?;
    }
    let (v, op) = antialias::filter(x, v, op)?;
    // Even a size that stays may have a scale that moves its places.
    let v = x.add(op, &[v])?;
    let v = if dtype.is_float() { v } else { x.cast(v, dtype)? };
    Ok(vec![v])
}

fn grid(x: &mut Use<'_, '_, '_>, shape: &[Dim], axes: &[usize]) -> Result<Option<Grid>, Fault> {
    let count = axes.len();
    let fits = |given: usize, what: &str| {
        if given == count {
            return Ok(());
        }
        Err(Fault::malformed(format!("{given} {what} are given for {count} axes")))
    };
    if given(x, 2).is_some() && given(x, 3).is_some() {
        return Err(Fault::malformed("scales and sizes are both given"));
    }
    if let Some(scales) = given(x, 2) {
        let contents = x.known(scales, "the scales")?;
        fits(contents.len(), "scales")?;
        let mut all = vec![Scalar::whole(1i64); shape.len()];
        axes.iter().zip(contents.iter()).for_each(|(&axis, scale)| all[axis] = scale.clone());
        return by_scales(shape, &all);
    }
    let Some(sizes) = given(x, 3) else {
        return Err(Fault::malformed("neither scales nor sizes are given"));
    };
    let given = x.dims(sizes, "the sizes")?;
    fits(given.len(), "sizes")?;
    let mut sizes = shape.to_vec();
    axes.iter().zip(&given).for_each(|(&axis, size)| sizes[axis] = size.clone());
    let policy = x.string_or("keep_aspect_ratio_policy", "stretch")?;
    if policy == "stretch" {
        return Ok(Some(Grid { sizes, scales: None }));
    }
    let ratios = axes.iter().map(|&axis| {
        let (to, from) = (sizes[axis].as_const()?, shape[axis].as_const()?);
        Some(to as f64 / from as f64)
    });
    let Some(ratios) = ratios.collect::<Option<Vec<f64>>>() else { return Ok(None) };
    let scale = match policy {
        "not_larger" => ratios.into_iter().fold(f64::INFINITY, f64::min),
        "not_smaller" => ratios.into_iter().fold(0.0, f64::max),
        other => return Err(Fault::malformed(format!("policy `{other}` is not known"))),
    };
    let mut scales = vec![1.0; shape.len()];
    for &axis in axes {
        let size = shape[axis].as_const().unwrap_or(0) as f64;
        sizes[axis] = Dim::from((scale * size + 0.5).floor() as i64);
        scales[axis] = scale;
    }
    Ok(Some(Grid { sizes, scales: Some(scales) }))
}

fn mode(x: &Use<'_, '_, '_>) -> Result<ResizeMode, Fault> {
    Ok(match x.string_or("mode", "nearest")? {
        "nearest" => {
            ResizeMode::Nearest(match x.string_or("nearest_mode", "round_prefer_floor")? {
                "round_prefer_floor" => NearestMode::RoundPreferFloor,
                "round_prefer_ceil" => NearestMode::RoundPreferCeil,
                "floor" => NearestMode::Floor,
                "ceil" => NearestMode::Ceil,
                other => {
                    return Err(Fault::malformed(format!("nearest_mode `{other}` is not known")));
                }
            })
        }
        "linear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic {
            a: x.float_or("cubic_coeff_a", -0.75)?,
            exclude_outside: x.flag("exclude_outside", false)?,
        },
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    })
}

fn coordinates(x: &Use<'_, '_, '_>, rank: usize, axes: &[usize]) -> Result<CoordinateMode, Fault> {
    Ok(match x.string_or("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "align_corners" => CoordinateMode::AlignCorners,
        "asymmetric" => CoordinateMode::Asymmetric,
        "tf_crop_and_resize" => {
            let roi = given(x, 1).ok_or_else(|| Fault::malformed("the region is missing"))?;
            let roi = x.numbers(roi, "the region")?;
            if roi.len() != 2 * axes.len() {
                let (given, count) = (roi.len(), axes.len());
                let message = format!("a region of {given} numbers is given for {count} axes");
                return Err(Fault::malformed(message));
            }
            let (mut start, mut end) = (vec![0.0; rank], vec![1.0; rank]);
            for (number, &axis) in axes.iter().enumerate() {
                (start[axis], end[axis]) = (roi[number], roi[axes.len() + number]);
            }
            CoordinateMode::TfCropAndResize { start, end }
        }
        other => {
            let message = format!("coordinate mode `{other}` is not supported");
            return Err(Fault::unsupported(message, "export the model with `half_pixel`"));
        }
    })
}
