//! Convolutions whose filters reach for elements that the model moves.
//!
//! Invariant: samples outside of the image are 0; with offsets of 0 and a mask of 1 it is a plain
//! convolution.

use super::build::V;
use super::convolution::{add_bias, filters, groups};
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::sampling::{self, corners, rows, two};
use super::window::{factors, pads};
use kiln_ir::op::{BinaryFn, Contract, ContractSpec};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("DeformConv", 19, deform_conv)];

fn deform_conv(x: &mut Use<'_, '_, '_>) -> Results {
    let (image, w, offset) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let groups = groups(x)?;
    let w = filters(x, w, groups)?;
    let (shape, filter, moves) = (x.shape(image), x.shape(w), x.shape(offset));
    let (dtype, spatial) = (x.dtype(image), 2);
    if [&shape, &filter, &moves].iter().any(|shape| shape.len() != 4) || !dtype.is_float() {
        let types = [image, w, offset].map(|v| x.ty(v).to_string()).join(", ");
        return Err(Fault::unsupported(
            format!("image, filters and offsets must be floats of rank 4, but are {types}"),
            "write a convolution over other dimensions as one over two",
        ));
    }
    let (strides, dilations) = (factors(x, "strides", spatial)?, factors(x, "dilations", spatial)?);
    let (before, after) = pads(x, spatial)?;
    let groups = Dim::from(groups);
    let moved = x.int_or("offset_group", 1)?;
    let moved = usize::try_from(moved).ok().filter(|&groups| groups > 0);
    let moved = moved.ok_or_else(|| Fault::malformed("offset_group must be at least 1"))?;
    let moved = Dim::from(moved);
    let depth = filter[1].clone() * groups.clone();
    let image = x.with_dim(image, 1, &depth)?;
    let image = match x.shape(image)[1].clone() {
        depth if depth.exact_div(&moved).is_none() && depth.as_const().is_none() => {
            x.with_dim(image, 1, &(depth.floor_div(&moved) * moved.clone()))?
        }
        _ => image,
    };
    let shape = [shape[0].clone(), x.shape(image)[1].clone(), shape[2].clone(), shape[3].clone()];
    let channels = shape[1].exact_div(&moved).ok_or_else(|| {
        Fault::malformed(format!("{} channels are not {moved} groups of offsets", shape[1]))
    })?;
    let outputs = filter[0].exact_div(&groups).ok_or_else(|| {
        Fault::malformed(format!("{} filters are not {groups} groups", filter[0]))
    })?;
    // [batch, group, row and column of the filter, (y and x,) place]
    let (kernel, mut places) = (&filter[2..], Vec::with_capacity(2));
    for axis in 0..spatial {
        let padded = shape[2 + axis].clone() + Dim::from(before[axis]) + Dim::from(after[axis]);
        let reach = (kernel[axis].clone() - Dim::from(1i64)) * Dim::from(dilations[axis]);
        let steps = (padded - reach - Dim::from(1i64)).floor_div(&Dim::from(strides[axis]));
        places.push(steps + Dim::from(1i64));
    }
    let taps = kernel[0].clone() * kernel[1].clone();
    let offset = {
        let coordinates = moved.clone() * taps.clone() * Dim::from(2i64);
        let expected = [vec![shape[0].clone(), coordinates], places.clone()].concat();
        x.with_dims(offset, &expected)?
    };
    let apart =
        |inner: &[Dim]| [&[shape[0].clone(), moved.clone()], kernel, inner, &places].concat();
    let offset = x.reshape(offset, apart(&[Dim::from(2i64)]))?;
    let wide = sampling::computed_in(&[dtype]);
    let offset = x.cast(offset, wide)?;
    let rank = 6;
    let mut neighbours = Vec::with_capacity(2);
    for axis in 0..spatial {
        let step = x.counter(&places[axis], wide, 4 + axis, rank)?;
        let step = x.with_number(BinaryFn::Mul, step, strides[axis] as f64)?;
        let tap = x.counter(&kernel[axis], wide, 2 + axis, rank)?;
        let tap = x.with_number(BinaryFn::Mul, tap, dilations[axis] as f64)?;
        let at = x.binary(BinaryFn::Add, step, tap)?;
        let at = x.with_number(BinaryFn::Sub, at, before[axis] as f64)?;
        let moves = x.element(offset, 4, axis)?;
        let at = x.binary(BinaryFn::Add, at, moves)?;
        neighbours.push(two(x, at, &shape[2 + axis])?);
    }
    // Each group of offsets has its own channels, which stand beside it like a batch.
    let grouped = vec![
        shape[0].clone() * moved.clone(),
        channels.clone(),
        shape[2].clone(),
        shape[3].clone(),
    ];
    let grouped = x.reshape(image, grouped)?;
    let (rows, steps) = rows(x, grouped)?;
    let number = x.counter(&shape[0], DType::I64, 0, rank)?;
    let number = x.with_number(BinaryFn::Mul, number, moved.as_const().unwrap_or(1) as f64)?;
    let group = x.counter(&moved, DType::I64, 1, rank)?;
    let number = x.binary(BinaryFn::Add, number, group)?;
    let area = x.size(&(shape[2].clone() * shape[3].clone()), DType::I64)?;
    let first = x.binary(BinaryFn::Mul, number, area)?;
    let corners = corners(x, (rows, &steps), first, &neighbours)?;
    let mut columns = sampling::sum(x, corners, wide)?;
    if let Some(mask) = x.optional(4) {
        let expected = [vec![shape[0].clone(), moved.clone() * taps], places.clone()].concat();
        let mask = x.with_dims(mask, &expected)?;
        let mask = x.reshape(mask, apart(&[]))?;
        let mask = x.cast(mask, wide)?;
        let mask = sampling::beside_channels(x, mask)?;
        columns = x.binary(BinaryFn::Mul, columns, mask)?;
    }
    // [batch, group, kh, kw, oh, ow, channel] to channels in groups of the convolution.
    let columns = x.transpose(columns, vec![0, 1, 6, 2, 3, 4, 5])?;
    let depth = filter[1].clone();
    let apart = [&[shape[0].clone(), groups.clone(), depth.clone()], kernel, &places].concat();
    let columns = x.reshape(columns, apart)?;
    let w = x.cast(w, wide)?;
    let w = x.reshape(w, [&[groups, outputs, depth], kernel].concat())?;
    let labels = |text: &str| text.as_bytes().to_vec();
    let spec = ContractSpec { lhs: labels("ngcklij"), rhs: labels("gockl"), out: labels("ngoij") };
    let result = x.add(Contract { spec }, &[columns, w])?;
    let result =
        x.reshape(result, [&[shape[0].clone(), filter[0].clone()], &places[..]].concat())?;
    let result = x.cast(result, dtype)?;
    let bias = x.optional(3);
    Ok(vec![add_bias(x, result, bias)?])
}
