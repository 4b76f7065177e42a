//! Loops and scans: a body becomes a graph of its own, run until its condition fails.
//!
//! Invariant: a value that goes from one iteration to the next keeps its type.

use super::build::V;
use super::control::{body, captures, joined, one_element, results};
use super::fault::Fault;
use super::form::Form;
use super::given::{Boxed, Given};
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::report::Problem;
use crate::resolve::Body;
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_routine::Routine;
use kiln_tensor::{DType, Dim, Tensor};
use std::collections::BTreeSet;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("Loop", 1, loop_), onnx("Scan", 8, scan)];

/// The axes of a result of a loop's body that goes into the next iteration in which it has another
/// size than it started with, or may have.
fn changing_axes(
    x: &Use<'_, '_, '_>,
    number: usize,
    v: V,
    initial: V,
) -> Result<BTreeSet<usize>, Fault> {
    let (before, after) = (x.ty(initial), x.ty(v));
    if before.dtype != after.dtype || before.rank() != after.rank() {
        return Err(Fault::unsupported(
            format!(
                "value {number} of the loop changes its type from one iteration to the next: \
                 {before} becomes {after}"
            ),
            "unroll the loop when exporting the model",
        ));
    }
    let pairs = before.shape.iter().zip(&after.shape).enumerate();
    Ok(pairs.filter(|(_, (a, b))| a != b).map(|(axis, _)| axis).collect())
}

/// A result that goes into the next iteration in the type that it started with, since the operator
/// says that it does; `None` if it cannot.
fn carried(x: &mut Use<'_, '_, '_>, number: usize, v: V, initial: V) -> Result<Option<V>, Fault> {
    let axes = changing_axes(x, number, v, initial)?;
    let (before, after) = (x.shape(initial), x.shape(v));
    if axes.iter().any(|&axis| !x.facts().may_meet(&before[axis], &after[axis])) {
        return Ok(None);
    }
    x.assume(v, before).map(Some)
}

fn boxed(x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
    let form = x.form(v);
    let dtype = DType::Sequence;
    let made = x.call1(Routine::List { dtype }, &[v], TensorType::new(dtype, Vec::new()))?;
    Ok(x.holding(made, form))
}

fn unboxed(
    x: &mut Use<'_, '_, '_>,
    list: V,
    like: &TensorType,
    axes: &BTreeSet<usize>,
) -> Result<V, Fault> {
    let mut shape = like.shape.clone();
    for &axis in axes {
        shape[axis] = x.found("carried");
    }
    let first = x.scalar(DType::I64, 0.0)?;
    x.call1(Routine::Element, &[list, first], TensorType::new(like.dtype, shape))
}

fn loop_(x: &mut Use<'_, '_, '_>) -> Results {
    let constant = |x: &mut Use<'_, '_, '_>, value: i64, dtype: DType| {
        let tensor = Tensor::scalar(value).map_err(|error| Fault::malformed(error.to_string()))?;
        let value = x.constant(tensor);
        x.cast(value, dtype)
    };
    let trip = match x.optional(0) {
        Some(trip) => one_element(x, trip, DType::I64, "the trip count")?,
        None => constant(x, i64::MAX, DType::I64)?,
    };
    let condition = match x.optional(1) {
        Some(condition) => one_element(x, condition, DType::Bool, "the condition")?,
        None => constant(x, 1, DType::Bool)?,
    };
    let body = body(x, "body")?;
    let initial =
        (2..x.inputs.len()).map(|number| x.input(number)).collect::<Result<Vec<_>, _>>()?;
    if body.inputs.len() != initial.len() + 2 || body.outputs.len() < initial.len() + 1 {
        let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
        let count = initial.len();
        return Err(Fault::malformed(format!(
            "the body has {inputs} inputs and {outputs} outputs, but {count} values are carried"
        )));
    }
    let captured = captures(x, &[body]);
    let lists = initial.iter().map(|&v| x.importer.build.elements_of(v).cloned());
    let forms: Vec<Option<Form>> = lists.collect();
    let ranks: Vec<usize> = initial.iter().map(|&v| x.rank(v)).collect();
    let mut known = x.importer.given.before(body, &ranks, &forms);
    let mut guesses = Guesses { initial: forms.clone(), rank: 0, problems: None };
    let mut given = known.clone().unwrap_or(Given { changing: Boxed::new(), forms });
    // Each time the body is told less of what it is given, until all that it gives fits that.
    let (graph, held, goes_on, certain) = loop {
        let mut held = initial.clone();
        for &number in given.changing.keys() {
            held[number] = boxed(x, initial[number])?;
        }
        x.importer.build.enter("body");
        let before = x.importer.problems.len();
        let made = loop_body(x, body, (&initial, &held), &captured, &given);
        let graph = x.importer.build.leave();
        let outcome = match made {
            Ok(outcome) => outcome,
            Err(fault) => {
                let forms = if known.take().is_some() {
                    x.importer.problems.truncate(before);
                    guesses.initial.clone()
                } else {
                    guesses.next(x, before).ok_or(fault)?
                };
                given = Given { changing: Boxed::new(), forms };
                continue;
            }
        };
        if outcome.changing.is_empty() && outcome.forms == given.forms {
            break (graph, held, outcome.goes_on, outcome.certain);
        }
        given.changing.extend(outcome.changing);
        given.forms = outcome.forms;
    };
    let inside = !x.importer.iterations.is_empty();
    x.importer.given.note(body, &given, inside);
    let scan = body.outputs.len() - 1 - initial.len();
    let begins = x.importer.build.contents(condition);
    let begins = begins.is_some_and(|truth| truth[0].as_integer() == Some(1));
    let count = x.importer.build.contents(trip).and_then(|trip| trip[0].as_dim().cloned());
    let scan_length = match count {
        Some(count) if begins && goes_on => x.facts().maximum(&count, &Dim::from(0i64)),
        _ => x.found("iterations"),
    };
    let op = op::Loop { carried: initial.len(), scan, scan_length };
    let operands = [vec![trip, condition], held, captured].concat();
    let mut results = x.importer.build.add_node(op, &operands, vec![graph])?;
    for (number, form) in given.forms.into_iter().enumerate() {
        if let Some(form) = form {
            x.holding(results[number], form);
        }
        if certain.contains(&number) {
            let first = x.scalar(DType::I64, 0.0)?;
            results[number] = super::list::element(x, results[number], first, None)?;
        }
        if let Some(axes) = given.changing.get(&number) {
            let like = x.ty(initial[number]).clone();
            results[number] = unboxed(x, results[number], &like, axes)?;
        }
    }
    Ok(results)
}

/// How many dimensions the elements of lists that begin empty have, where the body takes one before
/// anything says it: of all numbers the first by which the body puts in what it is said to take out.
/// That is how many they have, then: there are no others at first, and each iteration keeps it so.
struct Guesses {
    /// What carried lists hold before the loop.
    initial: Vec<Option<Form>>,
    rank: usize,
    /// What was said without a guess.
    problems: Option<Vec<Problem>>,
}

/// More dimensions than elements of lists have in practice.
const MOST_DIMENSIONS: usize = 6;

impl Guesses {
    /// What to say of the lists next, after an attempt of which `before` problems are older; `None` if
    /// that does not help, with the problems as they were without a guess.
    fn next(&mut self, x: &mut Use<'_, '_, '_>, before: usize) -> Option<Vec<Option<Form>>> {
        let told = x.importer.problems.split_off(before);
        let problems = self.problems.get_or_insert(told);
        let mut guess = self.initial.clone();
        let mut guessed = false;
        for form in guess.iter_mut().flatten() {
            if let Some(ranked) = form.guessed(self.rank) {
                (*form, guessed) = (ranked, true);
            }
        }
        self.rank += 1;
        if guessed && self.rank <= MOST_DIMENSIONS + 1 {
            return Some(guess);
        }
        x.importer.problems.append(problems);
        None
    }
}

/// What `made` gives, which runs once for each value of `number`.
pub(super) fn in_iteration<'i, 'r, 'm, T>(
    x: &mut Use<'i, 'r, 'm>,
    number: V,
    made: impl FnOnce(&mut Use<'i, 'r, 'm>) -> T,
) -> T {
    x.importer.iterations.push(number);
    let made = made(x);
    x.importer.iterations.pop();
    made
}

/// What importing a loop's body tells.
struct Outcome {
    /// Carried values that must be boxed, along more axes than they are.
    changing: Boxed,
    /// Optional values of which the body makes certain ones.
    certain: BTreeSet<usize>,
    /// Whether the body never ends the loop.
    goes_on: bool,
    /// What carried lists hold.
    forms: Vec<Option<Form>>,
}

fn loop_body<'m>(
    x: &mut Use<'_, '_, 'm>,
    body: &Body<'m>,
    (initial, held): (&[V], &[V]),
    captured: &[V],
    given: &Given,
) -> Result<Outcome, Fault> {
    let (boxes, lists) = (&given.changing, &given.forms);
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let mut inputs = Vec::with_capacity(body.inputs.len());
    for (number, (_, info)) in body.inputs.iter().enumerate() {
        let ty = match number {
            0 => scalar(DType::I64),
            1 => scalar(DType::Bool),
            _ => x.ty(held[number - 2]).clone(),
        };
        let v = x.importer.build.graph_input(info.name(), ty)?;
        if let Some(number) = number.checked_sub(2) {
            let form = lists[number].clone();
            if let Some(form) = form.or_else(|| x.importer.build.elements_of(held[number]).cloned())
            {
                x.holding(v, form);
            }
        }
        inputs.push(v);
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    for (number, ((id, _), &input)) in body.inputs.iter().zip(&inputs).enumerate() {
        let own = number.checked_sub(2);
        let v = match own.and_then(|number| Some((number, boxes.get(&number)?))) {
            Some((number, axes)) => {
                let like = x.ty(initial[number]).clone();
                unboxed(x, input, &like, axes)?
            }
            None => input,
        };
        x.importer.define(*id, Some(v));
    }
    let results = in_iteration(x, inputs[0], |x| results(x, body))?;
    let again = one_element(x, results[0], DType::Bool, "the condition of the body")?;
    let contents = x.importer.build.contents(again);
    let goes_on =
        again == inputs[1] || contents.is_some_and(|truth| truth[0].as_integer() == Some(1));
    let (changing, certain) = (Boxed::new(), BTreeSet::new());
    let mut outcome = Outcome { changing, certain, goes_on, forms: Vec::new() };
    let mut outputs = vec![again];
    for (number, (&v, &initial)) in results[1..].iter().zip(initial).enumerate() {
        // A loop may begin with an optional value and go on with a certain one.
        let v = match (x.dtype(initial), x.dtype(v)) {
            (DType::Optional, certain) if certain != DType::Optional => {
                outcome.certain.insert(number);
                let (form, dtype) = (x.form(v), DType::Optional);
                let ty = TensorType::new(dtype, Vec::new());
                let made = x.call1(Routine::List { dtype }, &[v], ty)?;
                x.holding(made, form)
            }
            _ => v,
        };
        outcome.forms.push(joined(lists[number].as_ref(), x.importer.build.elements_of(v))?);
        let mut axes = changing_axes(x, number, v, initial)?;
        let held = boxes.get(&number);
        if !held.map_or(axes.is_empty(), |held| axes.is_subset(held)) {
            axes.extend(held.into_iter().flatten());
            outcome.changing.insert(number, axes);
        }
        outputs.push(if held.is_some() { boxed(x, v)? } else { v });
    }
    outputs.extend(&results[1 + initial.len()..]);
    for (number, v) in outputs.into_iter().enumerate() {
        x.importer.build.output(v, &format!("result_{number}"))?;
    }
    Ok(outcome)
}

/// A value after `count` times of `step`; `outside` is what `step` uses beside it.
pub(super) fn repeated<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    count: usize,
    start: V,
    outside: &[V],
    step: impl FnOnce(&mut Use<'i, 'r, 'm>, V) -> Result<V, Fault>,
) -> Result<V, Fault> {
    let trip = x.add(op::SizeOf { dims: vec![Dim::from(count)], scalar: true }, &[])?;
    let results = repeat(x, trip, (&[start], outside), None, |x, _, values| {
        Ok((vec![step(x, values[0])?], Vec::new()))
    })?;
    results.first().copied().ok_or(Fault::Silent)
}

/// Runs `step` `trip` times: from the number of the iteration and what is carried to what is
/// carried on and what is stacked. `used` are the values from outside that it uses. Gives what is
/// carried at last, then the stacks, along a new first dimension of `stacked`.
pub(super) fn repeat<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    trip: V,
    (initial, used): (&[V], &[V]),
    stacked: Option<&Dim>,
    step: impl FnOnce(&mut Use<'i, 'r, 'm>, V, &[V]) -> Result<(Vec<V>, Vec<V>), Fault>,
) -> Results {
    let truth = x.scalar(DType::Bool, 1.0)?;
    let mut captured: Vec<V> = Vec::new();
    for &v in used {
        if !x.importer.build.is_known(v) && !captured.contains(&v) {
            captured.push(v);
        }
    }
    x.importer.build.enter("body");
    let made = step_body(x, initial, &captured, step);
    let graph = x.importer.build.leave();
    let scan = made?;
    let scan_length = match stacked {
        Some(length) => length.clone(),
        None => Dim::from(0i64),
    };
    let op = op::Loop { carried: initial.len(), scan, scan_length };
    let operands = [vec![trip, truth], initial.to_vec(), captured].concat();
    x.importer.build.add_node(op, &operands, vec![graph])
}

/// Fills the body of [`repeat`]; gives how many values are stacked.
fn step_body<'i, 'r, 'm>(
    x: &mut Use<'i, 'r, 'm>,
    initial: &[V],
    captured: &[V],
    step: impl FnOnce(&mut Use<'i, 'r, 'm>, V, &[V]) -> Result<(Vec<V>, Vec<V>), Fault>,
) -> Result<usize, Fault> {
    let scalar = |dtype| TensorType::new(dtype, Vec::new());
    let iteration = x.importer.build.graph_input("iteration", scalar(DType::I64))?;
    let again = x.importer.build.graph_input("condition", scalar(DType::Bool))?;
    let mut values = Vec::with_capacity(initial.len());
    for (number, &v) in initial.iter().enumerate() {
        let ty = x.ty(v).clone();
        values.push(x.importer.build.graph_input(&format!("carried_{number}"), ty)?);
    }
    captured.iter().try_for_each(|&v| x.importer.build.capture(v))?;
    let (values, stacked) = step(x, iteration, &values)?;
    x.importer.build.output(again, "condition")?;
    for (number, (&v, &initial)) in values.iter().zip(initial).enumerate() {
        let message = format!("value {number} changes its shape from one iteration to the next");
        let changes = || Fault::malformed(message);
        let v = carried(x, number, v, initial)?.ok_or_else(changes)?;
        x.importer.build.output(v, &format!("carried_{number}"))?;
    }
    for (number, &v) in stacked.iter().enumerate() {
        x.importer.build.output(v, &format!("stacked_{number}"))?;
    }
    Ok(stacked.len())
}

/// Directions or axes of scanned values: a number each, by default 0.
pub(super) fn each_of(x: &Use<'_, '_, '_>, name: &str, count: usize) -> Result<Vec<i64>, Fault> {
    let given = x.ints(name)?.map_or(vec![0; count], <[i64]>::to_vec);
    if given.len() == count {
        return Ok(given);
    }
    Err(Fault::malformed(format!("`{name}` has {} entries for {count} values", given.len())))
}

/// A loop over the slices of its scanned operands, which each iteration takes one of.
fn scan(x: &mut Use<'_, '_, '_>) -> Results {
    if x.opset() < 9 {
        return super::batched_scan::scan(x);
    }
    let body = body(x, "body")?;
    let operands = x.all_inputs()?;
    let scanned = x.int_or("num_scan_inputs", 0)?;
    let scanned =
        usize::try_from(scanned).ok().filter(|&count| (1..=operands.len()).contains(&count));
    let scanned = scanned.ok_or_else(|| Fault::malformed("num_scan_inputs does not fit"))?;
    let (initial, scans) = operands.split_at(operands.len() - scanned);
    let outputs = body.outputs.len().checked_sub(initial.len());
    let (Some(outputs), true) = (outputs, body.inputs.len() == operands.len()) else {
        return Err(Fault::malformed("the body does not fit the operands"));
    };
    let mut axes = Vec::with_capacity(scanned);
    for (&v, axis) in scans.iter().zip(each_of(x, "scan_input_axes", scanned)?) {
        axes.push(x.axis(axis, x.rank(v))?);
    }
    let backwards = each_of(x, "scan_input_directions", scanned)?;
    let length = x.shape(scans[0])[axes[0]].clone();
    let mut sequences = Vec::with_capacity(scanned);
    for (&v, &axis) in scans.iter().zip(&axes) {
        sequences.push(x.with_dim(v, axis, &length)?);
    }
    let used = [captures(x, &[body]), sequences.clone()].concat();
    let trip = x.add(op::SizeOf { dims: vec![length.clone()], scalar: true }, &[])?;
    let mut results = repeat(x, trip, (initial, &used), Some(&length), |x, iteration, states| {
        for ((id, _), &v) in body.inputs.iter().zip(states) {
            x.importer.define(*id, Some(v));
        }
        for (number, (id, _)) in body.inputs[states.len()..].iter().enumerate() {
            let mut place = iteration;
            if backwards[number] != 0 {
                let last = length.clone() - Dim::from(1i64);
                let last = x.add(op::SizeOf { dims: vec![last], scalar: true }, &[])?;
                place = x.binary(op::BinaryFn::Sub, last, iteration)?;
            }
            let slice = x.add(op::Gather { axis: axes[number] }, &[sequences[number], place])?;
            x.importer.define(*id, Some(slice));
        }
        let mut made = in_iteration(x, iteration, |x| results(x, body))?;
        let stacked = made.split_off(states.len().min(made.len()));
        Ok((made, stacked))
    })?;
    let axes = each_of(x, "scan_output_axes", outputs)?;
    let backwards = each_of(x, "scan_output_directions", outputs)?;
    for (number, result) in results[initial.len()..].iter_mut().enumerate() {
        if backwards[number] != 0 {
            let shape = x.shape(*result);
            let (mut starts, mut steps) =
                (vec![Dim::from(0i64); shape.len()], vec![1; shape.len()]);
            (starts[0], steps[0]) = (shape[0].clone() - Dim::from(1i64), -1);
            *result = x.add(op::Slice { starts, sizes: shape, steps }, &[*result])?;
        }
        let rank = x.rank(*result);
        let axis = x.axis(axes[number], rank)?;
        let mut perm: Vec<usize> = (1..rank).collect();
        perm.insert(axis, 0);
        *result = x.transpose(*result, perm)?;
    }
    Ok(results)
}
