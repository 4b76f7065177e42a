//! Sequences and optional values: lists, which routines make and take apart.
//!
//! Invariant: a list is a scalar of its type, so that branches and loops hand it on like any value.

use super::build::V;
use super::control::{body, captures, results};
use super::fault::Fault;
use super::form::{Form, Shape};
use super::loops::{in_iteration, repeat};
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::read::element_type;
use crate::resolve::Attribute;
use kiln_ir::TensorType;
use kiln_ir::op::{self, BinaryFn};
use kiln_routine::Routine;
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("ConcatFromSequence", 11, concat_from_sequence),
    onnx("Optional", 15, optional),
    onnx("OptionalGetElement", 15, optional_get_element),
    onnx("OptionalHasElement", 15, optional_has_element),
    onnx("SequenceAt", 11, sequence_at),
    onnx("SequenceConstruct", 11, sequence_construct),
    onnx("SequenceEmpty", 11, sequence_empty),
    onnx("SequenceErase", 11, sequence_erase),
    onnx("SequenceInsert", 11, sequence_insert),
    onnx("SequenceLength", 11, |x| {
        let list = x.input(0)?;
        Ok(vec![length(x, list)?])
    }),
    onnx("SequenceMap", 17, sequence_map),
    onnx("SplitToSequence", 11, split_to_sequence),
];

fn list_type(dtype: DType) -> TensorType {
    TensorType::new(dtype, Vec::new())
}

/// A list of values, with elements of this form.
fn list(x: &mut Use<'_, '_, '_>, dtype: DType, values: &[V], form: Form) -> Result<V, Fault> {
    let made = x.call1(Routine::List { dtype }, values, list_type(dtype))?;
    Ok(x.holding(made, form))
}

fn length(x: &mut Use<'_, '_, '_>, list: V) -> Result<V, Fault> {
    x.elements_form(list)?;
    // Of one that is made in sight, so that a branch which asks for it is decided: the other one may
    // take out of a list what nothing is known of.
    if let Some((op::Op::Call(op::Call { routine: Routine::List { .. }, .. }), elements)) =
        x.importer.build.producer(list)
    {
        let count = elements.len();
        return x.size(&Dim::from(count), DType::I64);
    }
    x.call1(Routine::Length, &[list], TensorType::new(DType::I64, Vec::new()))
}

/// The element at a place.
pub(super) fn element(
    x: &mut Use<'_, '_, '_>,
    list: V,
    place: V,
    rank: Option<usize>,
) -> Result<V, Fault> {
    let form = x.elements_form(list)?;
    let ty = x.element_type_of(&form, rank)?;
    let made = x.call1(Routine::Element, &[list, place], ty)?;
    Ok(match form {
        Form::List(_, of) => x.holding(made, *of),
        Form::Tensor { .. } | Form::Entries { .. } => made,
    })
}

fn sequence_construct(x: &mut Use<'_, '_, '_>) -> Results {
    let values = x.all_inputs()?;
    let mut forms = values.iter().map(|&v| x.form(v));
    let first = forms.next().ok_or_else(|| Fault::malformed("a sequence needs an element"))?;
    let form = forms.try_fold(first, |all, form| all.joined(&form))?;
    Ok(vec![list(x, DType::Sequence, &values, form)?])
}

fn sequence_empty(x: &mut Use<'_, '_, '_>) -> Results {
    let number = x.int_or("dtype", 1)?;
    let dtype = i32::try_from(number).ok().and_then(|number| element_type(number).ok());
    let dtype = dtype.ok_or_else(|| Fault::malformed(format!("type {number} is not known")))?;
    let form = Form::Tensor { dtype, shape: Shape::Empty };
    Ok(vec![list(x, DType::Sequence, &[], form)?])
}

fn sequence_at(x: &mut Use<'_, '_, '_>) -> Results {
    let (list, place) = (x.input(0)?, x.input(1)?);
    let rank = x.importer.declared_rank(x.node.outputs[0]);
    Ok(vec![element(x, list, place, rank)?])
}

/// Where an element is put in or taken out.
fn place(x: &mut Use<'_, '_, '_>, number: usize, absent: impl Fn(V) -> Option<i64>) -> Results {
    let list = x.input(0)?;
    Ok(vec![match (x.optional(number), absent(list)) {
        (Some(place), _) => place,
        (None, Some(place)) => x.scalar(DType::I64, place as f64)?,
        (None, None) => length(x, list)?,
    }])
}

fn sequence_insert(x: &mut Use<'_, '_, '_>) -> Results {
    let (list, value) = (x.input(0)?, x.input(1)?);
    let form = x.elements_form(list)?.joined(&x.form(value))?;
    let place = place(x, 2, |_| None)?;
    let operands = [list, value, place[0]];
    let made = x.call1(Routine::Insert, &operands, list_type(DType::Sequence))?;
    Ok(vec![x.holding(made, form)])
}

fn sequence_erase(x: &mut Use<'_, '_, '_>) -> Results {
    let list = x.input(0)?;
    let form = x.elements_form(list)?;
    let place = place(x, 1, |_| Some(-1))?;
    let made = x.call1(Routine::Erase, &[list, place[0]], list_type(DType::Sequence))?;
    Ok(vec![x.holding(made, form)])
}

fn concat_from_sequence(x: &mut Use<'_, '_, '_>) -> Results {
    let list = x.input(0)?;
    let new_axis = x.flag("new_axis", false)?;
    let axis = x.int("axis")?.ok_or_else(|| Fault::malformed("attribute `axis` is missing"))?;
    let form = x.elements_form(list)?;
    let declared = x.importer.declared_rank(x.node.outputs[0]);
    let rank = declared.and_then(|rank| rank.checked_sub(usize::from(new_axis)));
    let mut ty = x.element_type_of(&form, rank)?;
    let place = x.axis(axis, ty.rank() + usize::from(new_axis))?;
    let joined = x.found("joined");
    if new_axis {
        ty.shape.insert(place, joined)
    } else {
        ty.shape[place] = joined
    }
    Ok(vec![x.call1(Routine::Join { axis, new_axis }, &[list], ty)?])
}

fn split_to_sequence(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let axis = x.axis(x.int_or("axis", 0)?, shape.len())?;
    let size = shape[axis].clone();
    let mut keep = true;
    let mut part = None;
    let sizes = match x.optional(1) {
        None => {
            keep = x.flag("keepdims", true)?;
            part = Some(1);
            x.filled(DType::I64, 1.0, vec![size])?
        }
        Some(split) if x.rank(split) == 0 => {
            x.not_zero(split, "a part")?;
            let split = x.sizes(split)?.pop().ok_or(Fault::Silent)?;
            let whole = x.add(op::SizeOf { dims: vec![size.clone()], scalar: true }, &[])?;
            let each = x.add(op::SizeOf { dims: vec![split.clone()], scalar: true }, &[])?;
            let number = x.add(op::Iota { length: size.ceil_div(&split) }, &[])?;
            let start = x.binary(BinaryFn::Mul, number, each)?;
            let rest = x.binary(BinaryFn::Sub, whole, start)?;
            x.binary(BinaryFn::Min, rest, each)?
        }
        Some(split) => x.cast(split, DType::I64)?,
    };
    let mut of: Vec<Option<i64>> = shape.iter().map(Dim::as_const).collect();
    of[axis] = part;
    if !keep {
        of.remove(axis);
    }
    let form = Form::Tensor { dtype: x.dtype(operand), shape: Shape::Ranked(of) };
    let routine = Routine::Split { axis, keep };
    let made = x.call1(routine, &[operand, sizes], list_type(DType::Sequence))?;
    Ok(vec![x.holding(made, form)])
}

fn optional(x: &mut Use<'_, '_, '_>) -> Results {
    if let Some(value) = x.optional(0) {
        let form = x.form(value);
        return Ok(vec![list(x, DType::Optional, &[value], form)?]);
    }
    let form = match x.attribute("type") {
        Some(Attribute::Type(ty)) => Form::declared(ty)?.of_nothing(),
        _ => return Err(Fault::malformed("an empty optional must say its type")),
    };
    Ok(vec![list(x, DType::Optional, &[], form)?])
}

/// A value that is not optional has itself.
fn optional_get_element(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    if x.dtype(operand) != DType::Optional {
        return Ok(vec![operand]);
    }
    let rank = x.importer.declared_rank(x.node.outputs[0]);
    let first = x.scalar(DType::I64, 0.0)?;
    Ok(vec![element(x, operand, first, rank)?])
}

fn optional_has_element(x: &mut Use<'_, '_, '_>) -> Results {
    Ok(vec![match x.optional(0) {
        Some(operand) if x.dtype(operand) == DType::Optional => {
            let count = length(x, operand)?;
            x.with_number(BinaryFn::Greater, count, 0.0)?
        }
        given => x.scalar(DType::Bool, f64::from(u8::from(given.is_some())))?,
    }])
}

/// A loop over the elements of the first sequence, which puts what its body makes of each into
/// sequences again.
fn sequence_map(x: &mut Use<'_, '_, '_>) -> Results {
    let body = body(x, "body")?;
    let operands = x.all_inputs()?;
    let first = x.input(0)?;
    if body.inputs.len() != operands.len() {
        return Err(Fault::malformed("the body does not fit the operands"));
    }
    let trip = length(x, first)?;
    let empty = Form::Tensor { dtype: DType::F32, shape: Shape::Empty };
    let mut initial = Vec::with_capacity(body.outputs.len());
    for _ in &body.outputs {
        initial.push(list(x, DType::Sequence, &[], empty.clone())?);
    }
    let used = [captures(x, &[body]), operands.clone()].concat();
    let mut forms = Vec::with_capacity(initial.len());
    let made = repeat(x, trip, (&initial, &used), None, |x, iteration, lists| {
        for ((id, _), &v) in body.inputs.iter().zip(&operands) {
            let v = match x.dtype(v) {
                DType::Sequence => element(x, v, iteration, None)?,
                _ => v,
            };
            x.importer.define(*id, Some(v));
        }
        let values = in_iteration(x, iteration, |x| results(x, body))?;
        let mut longer = Vec::with_capacity(values.len());
        for (&v, &list) in values.iter().zip(lists) {
            forms.push(x.form(v));
            let operands = [list, v, iteration];
            longer.push(x.call1(Routine::Insert, &operands, list_type(DType::Sequence))?);
        }
        Ok((longer, Vec::new()))
    })?;
    Ok(made.into_iter().zip(forms).map(|(v, form)| x.holding(v, form)).collect())
}
