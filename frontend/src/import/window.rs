//! Where a window moves along spatial dimensions: strides, dilations and padding as attributes
//! give them, and what `auto_pad` and `ceil_mode` make of them.
//!
//! Invariant: padding that depends on a size which is not known is put around the tensor by an
//! operation of its own, so that a window's own padding is always constant.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op;
use kiln_tensor::{DType, Dim};

/// A window's steps over spatial dimensions.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) size: Vec<Dim>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) padding: Padding,
}

/// How much lies around the tensor.
#[derive(Clone, Debug)]
pub(super) enum Padding {
    /// As given.
    Explicit { before: Vec<i64>, after: Vec<i64> },
    /// As much as makes `⌈size/stride⌉` places; the odd one before if `lower`.
    Same { lower: bool },
}

/// A list with an entry for each spatial dimension, each at least 1; by default all 1.
pub(super) fn factors(
    x: &Use<'_, '_, '_>,
    name: &str,
    spatial: usize,
) -> Result<Vec<usize>, Fault> {
    let Some(values) = x.ints(name)? else { return Ok(vec![1; spatial]) };
    let sizes = values.iter().map(|&value| usize::try_from(value).ok().filter(|&size| size > 0));
    let sizes = sizes.collect::<Option<Vec<usize>>>().filter(|sizes| sizes.len() == spatial);
    sizes.ok_or_else(|| {
        Fault::malformed(format!(
            "`{name}` must be {spatial} numbers of at least 1, but is {values:?}"
        ))
    })
}

/// The `pads` attribute: what lies before and after each spatial dimension.
pub(super) fn pads(x: &Use<'_, '_, '_>, spatial: usize) -> Result<(Vec<i64>, Vec<i64>), Fault> {
    let Some(pads) = x.ints("pads")? else { return Ok((vec![0; spatial], vec![0; spatial])) };
    if pads.len() != 2 * spatial {
        return Err(Fault::malformed(format!(
            "`pads` must be {} numbers, but is {pads:?}",
            2 * spatial
        )));
    }
    let (before, after) = pads.split_at(spatial);
    Ok((before.to_vec(), after.to_vec()))
}

impl Window {
    /// The window that the attributes of a node give.
    pub(super) fn of(x: &Use<'_, '_, '_>, size: Vec<Dim>) -> Result<Window, Fault> {
        let spatial = size.len();
        let (before, after) = pads(x, spatial)?;
        let padding = match x.string_or("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Padding::Explicit { before, after },
            "VALID" => Padding::Explicit { before: vec![0; spatial], after: vec![0; spatial] },
            "SAME_UPPER" => Padding::Same { lower: false },
            "SAME_LOWER" => Padding::Same { lower: true },
            other => return Err(Fault::malformed(format!("auto_pad `{other}` is not known"))),
        };
        let (strides, dilations) =
            (factors(x, "strides", spatial)?, factors(x, "dilations", spatial)?);
        Ok(Window { size, strides, dilations, padding })
    }

    /// From the first to the last element under the window, along a dimension.
    pub(super) fn extent(&self, number: usize) -> Dim {
        let one = Dim::from(1i64);
        (self.size[number].clone() - one.clone()) * Dim::from(self.dilations[number]) + one
    }

    /// The padding of each spatial dimension of `shape`, as expressions.
    pub(super) fn padding(&self, x: &mut Use<'_, '_, '_>, shape: &[Dim]) -> (Vec<Dim>, Vec<Dim>) {
        let lower = match &self.padding {
            Padding::Explicit { before, after } => {
                let dims = |values: &[i64]| values.iter().map(|&value| Dim::from(value)).collect();
                return (dims(before), dims(after));
            }
            Padding::Same { lower } => *lower,
        };
        let (zero, two) = (Dim::from(0i64), Dim::from(2i64));
        let totals = shape.iter().enumerate().map(|(number, size)| {
            let stride = Dim::from(self.strides[number]);
            let reach = (size.ceil_div(&stride) - Dim::from(1i64)) * stride + self.extent(number);
            x.facts().maximum(&(reach - size.clone()), &zero)
        });
        let totals: Vec<Dim> = totals.collect();
        let less: Vec<Dim> = totals.iter().map(|total| total.floor_div(&two)).collect();
        let more = totals.iter().zip(&less).map(|(total, less)| total.clone() - less.clone());
        let more = more.collect();
        if lower { (more, less) } else { (less, more) }
    }

    /// The tensor with what padding the window cannot have itself, and the window's own.
    pub(super) fn padded(
        &self,
        x: &mut Use<'_, '_, '_>,
        operand: V,
        value: f64,
    ) -> Result<(V, Vec<i64>, Vec<i64>), Fault> {
        let shape = x.shape(operand);
        let (before, after) = self.padding(x, &shape[2..]);
        let constant = |dims: &[Dim]| dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>();
        if let (Some(before), Some(after)) = (constant(&before), constant(&after)) {
            return Ok((operand, before, after));
        }
        let spatial = before.len();
        let operand = around(x, operand, before, after, value)?;
        Ok((operand, vec![0; spatial], vec![0; spatial]))
    }
}

/// The tensor with a value around its spatial dimensions.
pub(super) fn around(
    x: &mut Use<'_, '_, '_>,
    operand: V,
    before: Vec<Dim>,
    after: Vec<Dim>,
    value: f64,
) -> Result<V, Fault> {
    let none = || vec![Dim::from(0i64); 2];
    let (before, after) = ([none(), before].concat(), [none(), after].concat());
    let dtype = x.dtype(operand);
    let value = least(dtype, value);
    let value = x.scalar(dtype, value)?;
    x.add(op::Pad { before, after, mode: op::PadMode::Constant }, &[operand, value])
}

/// −∞ as the least value of an integer type.
fn least(dtype: DType, value: f64) -> f64 {
    if dtype.is_float() || value.is_finite() { value } else { f64::MIN }
}

/// Spatial dimensions of a tensor that has batch and channels before them.
pub(super) fn spatial_rank(x: &Use<'_, '_, '_>, operand: V) -> Result<usize, Fault> {
    x.rank(operand).checked_sub(2).filter(|&spatial| spatial > 0).ok_or_else(|| {
        Fault::malformed("the operand must have batch, channels and spatial dimensions")
    })
}
