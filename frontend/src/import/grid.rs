//! Images sampled where a grid of coordinates says, and the grids that affine maps make.
//!
//! Invariant: coordinates go from −1 to 1 over the image, the last of a place's coordinates
//! belonging to the first spatial dimension.

use super::antialias::polynomial;
use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, microsoft, onnx};
use super::sampling::{self, Tap, corners, place, rows, within};
use super::window::spatial_rank;
use kiln_ir::op::{BinaryFn, Contract, ContractSpec, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("AffineGrid", 20, affine_grid),
    onnx("GridSample", 16, grid_sample),
    microsoft("GridSample", grid_sample),
];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What lies around the image.
#[derive(Clone, Copy, PartialEq)]
enum Around {
    Zeros,
    Border,
    Reflection,
}

/// How one spatial dimension is sampled.
struct Sampler {
    mode: Mode,
    around: Around,
    /// Whether −1 and 1 are the centres of the outermost elements and not their edges.
    align_corners: bool,
}

fn grid_sample(x: &mut Use<'_, '_, '_>) -> Results {
    let (image, grid) = (x.input(0)?, x.input(1)?);
    let sampler = Sampler {
        mode: match x.string_or("mode", "linear")? {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
        },
        around: match x.string_or("padding_mode", "zeros")? {
            "zeros" => Around::Zeros,
            "border" => Around::Border,
            "reflection" => Around::Reflection,
            other => {
                return Err(Fault::malformed(format!("padding_mode `{other}` is not known")));
            }
        },
        align_corners: x.flag("align_corners", false)?,
    };
    let spatial = spatial_rank(x, image)?;
    let grid = x.with_dim(grid, spatial + 1, &Dim::from(spatial))?;
    let (shape, coordinates) = (x.shape(image), x.shape(grid));
    if !x.dtype(grid).is_float() {
        return Err(Fault::malformed(format!("the grid must be of floats, but is {}", x.ty(grid))));
    }
    if coordinates.len() != spatial + 2 || !coordinates[spatial + 1].is(spatial as i64) {
        let (image, grid) = (x.ty(image), x.ty(grid));
        return Err(Fault::malformed(format!("the grid {grid} does not fit the image {image}")));
    }
    let grid = x.of_dim(grid, 0, &shape[0], "the grid")?;
    // Coordinates are rounded to single precision unless everything is in double.
    let dtype = sampling::computed_in(&[x.dtype(image), x.dtype(grid)]);
    let grid = x.cast(grid, dtype)?;
    let mut taps = Vec::with_capacity(spatial);
    for (number, size) in shape[2..].iter().enumerate() {
        let at = x.element(grid, spatial + 1, spatial - 1 - number)?;
        taps.push(sampler.taps(x, at, size)?);
    }
    let (rows, steps) = rows(x, image)?;
    let rank = spatial + 1;
    let first = x.counter(&shape[0], DType::I64, 0, rank)?;
    let area = x.size(&shape[2..].iter().cloned().product(), DType::I64)?;
    let first = x.binary(BinaryFn::Mul, first, area)?;
    let corners = corners(x, (rows, &steps), first, &taps)?;
    let result = if sampler.mode == Mode::Nearest {
        corners.first().ok_or(Fault::Silent)?.value
    } else {
        sampling::sum(x, corners, dtype)?
    };
    let result = x.cast(result, x.dtype(image))?;
    let perm = [0, rank].into_iter().chain(1..rank).collect();
    Ok(vec![x.transpose(result, perm)?])
}

impl Sampler {
    /// The neighbours of a coordinate along a dimension.
    fn taps(&self, x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<Vec<Tap>, Fault> {
        let dtype = x.dtype(at);
        let mut at = self.denormalised(x, at, size)?;
        if self.mode == Mode::Nearest {
            at = x.unary(UnaryFn::Round, at)?;
        }
        if self.around != Around::Zeros {
            at = self.returned(x, at, size)?;
        }
        if self.mode == Mode::Nearest {
            return Ok(vec![self.tap(x, at, None, size)?]);
        }
        let low = x.unary(UnaryFn::Floor, at)?;
        let beyond = x.binary(BinaryFn::Sub, at, low)?;
        let one = x.scalar(dtype, 1.0)?;
        let rest = x.binary(BinaryFn::Sub, one, beyond)?;
        let mut taps = Vec::new();
        if self.mode == Mode::Linear {
            for (offset, weight) in [(0.0, rest), (1.0, beyond)] {
                let at = x.with_number(BinaryFn::Add, low, offset)?;
                taps.push(self.tap(x, at, Some(weight), size)?);
            }
            return Ok(taps);
        }
        for (offset, distance) in [(-1.0, beyond), (0.0, beyond), (1.0, rest), (2.0, rest)] {
            let far = offset == -1.0 || offset == 2.0;
            let weight = cubic(x, distance, far)?;
            let at = x.with_number(BinaryFn::Add, low, offset)?;
            taps.push(self.tap(x, at, Some(weight), size)?);
        }
        Ok(taps)
    }

    /// A coordinate in elements.
    fn denormalised(&self, x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<V, Fault> {
        let dtype = x.dtype(at);
        let from_start = x.with_number(BinaryFn::Add, at, 1.0)?;
        if self.align_corners {
            let span = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
            let half = x.with_number(BinaryFn::Mul, from_start, 0.5)?;
            return x.binary(BinaryFn::Mul, half, span);
        }
        let size = x.size(size, dtype)?;
        let twice = x.binary(BinaryFn::Mul, from_start, size)?;
        let twice = x.with_number(BinaryFn::Sub, twice, 1.0)?;
        x.with_number(BinaryFn::Mul, twice, 0.5)
    }

    /// The first and last coordinate that count as inside.
    fn edges(&self, x: &mut Use<'_, '_, '_>, dtype: DType, size: &Dim) -> Result<(V, V), Fault> {
        let margin = if self.align_corners { 0.0 } else { 0.5 };
        let last = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
        Ok((x.scalar(dtype, -margin)?, x.with_number(BinaryFn::Add, last, margin)?))
    }

    /// A coordinate brought back from outside.
    fn returned(&self, x: &mut Use<'_, '_, '_>, at: V, size: &Dim) -> Result<V, Fault> {
        let dtype = x.dtype(at);
        let (low, high) = self.edges(x, dtype, size)?;
        let below = x.binary(BinaryFn::Less, at, low)?;
        let above = x.binary(BinaryFn::Greater, at, high)?;
        let outside = x.binary(BinaryFn::Or, below, above)?;
        let moved = if self.around == Around::Border {
            let zero = x.scalar(dtype, 0.0)?;
            let last = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
            let raised = x.binary(BinaryFn::Max, at, zero)?;
            x.binary(BinaryFn::Min, raised, last)?
        } else {
            reflected(x, at, low, high)?
        };
        x.select(outside, moved, at)
    }

    /// The element at a whole coordinate.
    fn tap(
        &self,
        x: &mut Use<'_, '_, '_>,
        at: V,
        weight: Option<V>,
        size: &Dim,
    ) -> Result<Tap, Fault> {
        let inside = match self.around {
            Around::Zeros => Some(within(x, at, size)?),
            Around::Border | Around::Reflection => None,
        };
        let mut at = at;
        if self.around == Around::Reflection {
            let (low, high) = self.edges(x, x.dtype(at), size)?;
            at = reflected(x, at, low, high)?;
        }
        Ok(Tap { place: place(x, at, size)?, weight, inside })
    }
}

/// A coordinate mirrored at two edges until it lies between them.
fn reflected(x: &mut Use<'_, '_, '_>, at: V, low: V, high: V) -> Result<V, Fault> {
    let span = x.binary(BinaryFn::Sub, high, low)?;
    // Edges that meet leave one coordinate, whatever the period.
    let period = x.with_number(BinaryFn::Mul, span, 2.0)?;
    let period = x.with_number(BinaryFn::Max, period, 1.0)?;
    let along = x.binary(BinaryFn::Sub, at, low)?;
    let turn = x.binary(BinaryFn::Mod, along, period)?;
    let back = x.binary(BinaryFn::Sub, period, turn)?;
    let nearer = x.binary(BinaryFn::Min, turn, back)?;
    let nearer = x.binary(BinaryFn::Min, nearer, span)?;
    x.binary(BinaryFn::Add, low, nearer)
}

/// Keys' cubic with a = −3/4: the weight of the neighbour at `distance`, or at one more if `far`.
fn cubic(x: &mut Use<'_, '_, '_>, distance: V, far: bool) -> Result<V, Fault> {
    const A: f64 = -0.75;
    let (d, coefficients) = if far {
        (x.with_number(BinaryFn::Add, distance, 1.0)?, [A, -5.0 * A, 8.0 * A, -4.0 * A])
    } else {
        (distance, [A + 2.0, -(A + 3.0), 0.0, 1.0])
    };
    polynomial(x, d, coefficients)
}

/// `theta` applied to the coordinates of every place of an image.
fn affine_grid(x: &mut Use<'_, '_, '_>) -> Results {
    let theta = x.input(0)?;
    let size = x.dims(x.input(1)?, "the size of the image")?;
    let align_corners = x.flag("align_corners", false)?;
    let Some((spatial, sizes)) = size.get(2..).map(|sizes| (sizes.len(), sizes.to_vec())) else {
        return Err(Fault::malformed(format!("{} sizes are no image", size.len())));
    };
    let expected = [Dim::from(spatial), Dim::from(spatial + 1)];
    let theta = x.with_dim(theta, 1, &expected[0])?;
    let theta = x.with_dim(theta, 2, &expected[1])?;
    if !(2..=3).contains(&spatial) || x.rank(theta) != 3 || x.shape(theta)[1..] != expected {
        let theta = x.ty(theta);
        return Err(Fault::malformed(format!("{theta} is no affine map of {spatial} dimensions")));
    }
    let theta = x.with_dim(theta, 0, &size[0])?;
    let dtype = x.dtype(theta);
    if !dtype.is_float() {
        return Err(Fault::malformed(format!("the map must be of floats, but is {}", x.ty(theta))));
    }
    let wide = sampling::computed_in(&[dtype]);
    // The last dimension's coordinate comes first, and 1 last.
    let shape = [sizes.clone(), vec![Dim::from(1i64)]].concat();
    let mut parts = Vec::with_capacity(spatial + 1);
    for (number, size) in sizes.iter().enumerate().rev() {
        let at = x.counter(size, wide, number, spatial + 1)?;
        let at = normalised(x, at, size, align_corners)?;
        parts.push(x.broadcast(at, shape.clone())?);
    }
    parts.push(x.filled(wide, 1.0, shape)?);
    let places = x.add(kiln_ir::op::Concat { axis: spatial }, &parts)?;
    let theta = x.cast(theta, wide)?;
    let spec = if spatial == 2 { ("nij", "hwj", "nhwi") } else { ("nij", "dhwj", "ndhwi") };
    let labels = |text: &str| text.as_bytes().to_vec();
    let spec = ContractSpec { lhs: labels(spec.0), rhs: labels(spec.1), out: labels(spec.2) };
    let grid = x.add(Contract { spec }, &[theta, places])?;
    Ok(vec![x.cast(grid, dtype)?])
}

/// Numbers of elements as coordinates from −1 to 1.
fn normalised(x: &mut Use<'_, '_, '_>, at: V, size: &Dim, align_corners: bool) -> Result<V, Fault> {
    let dtype = x.dtype(at);
    let (at, size) = if align_corners {
        // The one element of a dimension of size 1 is at −1.
        let span = x.size(&(size.clone() - Dim::from(1i64)), dtype)?;
        (at, x.with_number(BinaryFn::Max, span, 1.0)?)
    } else {
        (x.with_number(BinaryFn::Add, at, 0.5)?, x.size(size, dtype)?)
    };
    let twice = x.with_number(BinaryFn::Mul, at, 2.0)?;
    let along = x.binary(BinaryFn::Div, twice, size)?;
    x.with_number(BinaryFn::Sub, along, 1.0)
}
