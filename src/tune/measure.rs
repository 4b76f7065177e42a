//! Schedules of one kernel, compiled and timed by turns.
//!
//! Invariant: in each turn every schedule runs once more, so that a clock that drifts, or a neighbour
//! that comes and goes, meets all of them; a schedule that computes something else is not timed.

use super::Setting;
use crate::generate::{self, generator};
use crate::statistics::median;
use crate::{CancelToken, Error, random_tensor};
use kiln_ir::accuracy::Tolerance;
use kiln_ir::kernel::{AxisKind, Kernel};
use kiln_ir::schedule::Schedule;
use kiln_passes::plan::alone;
use kiln_passes::tile;
use kiln_runtime::{LaunchRecord, LoadedModel, RunOptions, Session, SessionOptions, Weights};
use kiln_tensor::{DType, Dim, Symbol, SymbolValues, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The code generator, the machine and the threads.
    pub setting: Setting,
    /// The kernel.
    pub kernel: Kernel,
    /// Values of its size parameters.
    pub params: Vec<i64>,
    /// What it is run by; the first is what the others are compared with.
    pub schedules: Vec<Schedule>,
    /// How long to measure in all, once everything is compiled.
    pub time: Duration,
}

/// What came of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It was timed.
    Timed {
        /// Median nanoseconds of a launch.
        ns: f64,
        /// Its time as a share of the first schedule's in the same turn; the median over turns.
        ratio: f64,
    },
    /// It cannot be used.
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// There was no time for it.
    Untried,
}

/// Launches in a turn last at least so long: clocks and interrupts matter less.
const TURN: Duration = Duration::from_micros(400);
/// Launches in a turn at most.
const LAUNCHES: usize = 200;
/// Turns before a schedule may be given up, and what it is given up for.
const DOUBTS: [(usize, f64); 3] = [(1, 2.0), (3, 1.25), (6, 1.08)];
/// Turns that are enough.
const TURNS: usize = 40;

/// Compiles and times the schedules; one answer for each, in their order.
pub fn measure(request: &Request) -> Vec<Answer> {
    let all_failed =
        |reason: String| request.schedules.iter().map(|_| failed(reason.clone())).collect();
    let mut runs = match compiled(request) {
        Ok(runs) => runs,
        Err(error) => return all_failed(error.to_string()),
    };
    let inputs = match inputs(request) {
        Ok(inputs) => inputs,
        Err(reason) => return all_failed(reason),
    };
    let mut first: Option<Vec<Tensor>> = None;
    let tolerances = tolerances(request);
    for (run, schedule) in runs.iter_mut().zip(&request.schedules) {
        let checked =
            run.as_mut().map(|run| run.check(request, schedule, &inputs, &tolerances, &mut first));
        if let Ok(Err(reason)) = checked {
            *run = Err(reason);
        }
        if first.is_none() {
            break;
        }
    }
    if first.is_none() {
        // There is nothing to compare with.
        let reason = match runs.into_iter().next() {
            Some(Err(reason)) => reason,
            _ => "there is no schedule".to_owned(),
        };
        return all_failed(reason);
    }
    time(&mut runs, request.time);
    let answer = |run: Result<Run, String>| match run {
        Ok(run) => run.answer(),
        Err(reason) => failed(reason),
    };
    runs.into_iter().map(answer).collect()
}

fn failed(reason: String) -> Answer {
    Answer::Failed { reason }
}

/// A schedule that can be run.
struct Run {
    session: Session,
    inputs: Vec<Tensor>,
    /// Launches in a turn.
    launches: usize,
    /// Nanoseconds of a launch in each turn.
    times: Vec<f64>,
    ratios: Vec<f64>,
    given_up: bool,
}

/// Every schedule as code; each has its own error.
fn compiled(request: &Request) -> Result<Vec<Result<Run, String>>, Error> {
    let schedules: Vec<&Schedule> = request.schedules.iter().collect();
    generate::in_parallel(&schedules, |schedule| {
        Ok(load(request, schedule).map_err(|error| error.to_string()))
    })
}

fn load(request: &Request, schedule: &Schedule) -> Result<Run, Error> {
    let Setting { backend, target, threads } = &request.setting;
    let plan = alone(&request.kernel, schedule, &request.params)?;
    let generator = generator(*backend)?;
    // Candidates are compiled once, and most of them never again.
    let schedules = generate::own_schedules(&plan);
    let (code, _) =
        generate::code(&*generator, &plan, &schedules, target, None, &CancelToken::new())?;
    drop(schedules);
    let weights = Weights::Pieces(BTreeMap::new());
    let model = Arc::new(LoadedModel::new(plan.program, &[code], &weights)?);
    let options = SessionOptions { threads: *threads, ..SessionOptions::default() };
    let session = Session::new(model, &options).map_err(kiln_runtime::RunError::from)?;
    let (inputs, times, ratios) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Run { session, inputs, launches: 1, times, ratios, given_up: false })
}

/// Made-up inputs of the kernel, in row-major order.
fn inputs(request: &Request) -> Result<Vec<Tensor>, String> {
    let values = values(request);
    let inputs = request.kernel.bound_operands().filter(|(_, operand)| is_input(operand));
    let tensors = inputs.map(|(number, operand)| {
        let sizes = sizes(&operand.shape, &values)?;
        random_tensor(operand.dtype, sizes, number as u64).map_err(|error| error.to_string())
    });
    tensors.collect()
}

fn is_input(operand: &kiln_ir::kernel::Operand) -> bool {
    operand.role == kiln_ir::kernel::Role::Input
}

fn values(request: &Request) -> SymbolValues {
    let symbols = request.kernel.symbols.keys().cloned();
    symbols.zip(request.params.iter().copied()).collect::<BTreeMap<Symbol, i64>>()
}

fn sizes(shape: &[Dim], values: &SymbolValues) -> Result<Vec<usize>, String> {
    let size = |dim: &Dim| {
        let size = dim.evaluate(values).map_err(|error| error.to_string())?;
        usize::try_from(size).map_err(|_| format!("a size is {size}"))
    };
    shape.iter().map(size).collect()
}

/// How far the outputs of two schedules may be apart.
fn tolerances(request: &Request) -> Vec<Tolerance> {
    let values = values(request);
    let axes = request.kernel.stages.iter().flat_map(|stage| &stage.axes);
    let reduced = axes.filter(|axis| axis.kind == AxisKind::Reduction);
    let extent = |dim: &Dim| dim.evaluate(&values).map_or(1, |size| size.max(1) as u64);
    let length = reduced.fold(1u64, |all, axis| all.saturating_mul(extent(&axis.extent)));
    let outputs = request.kernel.bound_operands().filter(|(_, operand)| !is_input(operand));
    let of = |dtype: DType| match dtype {
        // A number beside a half, summed up in another order, is rounded to its other neighbour.
        DType::I8 | DType::U8 => Tolerance { floor: 1.0, ..Tolerance::EXACT },
        _ => Tolerance::for_type(dtype, length).between_two(),
    };
    outputs.map(|(_, operand)| of(operand.dtype)).collect()
}

impl Run {
    /// Runs once, and compares with what the first schedule gave.
    fn check(
        &mut self,
        request: &Request,
        schedule: &Schedule,
        inputs: &[Tensor],
        tolerances: &[Tolerance],
        first: &mut Option<Vec<Tensor>>,
    ) -> Result<(), String> {
        self.inputs = packed(request, schedule, inputs)?;
        let outputs = self.session.run(&self.inputs).map_err(|error| error.to_string())?;
        let Some(expected) = first else {
            *first = Some(outputs);
            return Ok(());
        };
        for ((actual, expected), tolerance) in outputs.iter().zip(expected).zip(tolerances) {
            let largest = |tensor: &Tensor| {
                let finite = tensor.to_f64().into_iter().filter(|x| x.is_finite());
                finite.fold(1.0, |most: f64, x| most.max(x.abs()))
            };
            let agree = if expected.dtype().is_float() {
                // Sums that cancel are as inexact as what was added up.
                let tolerance = tolerance.with_magnitude(largest(expected));
                tolerance.compare(actual, expected).is_ok_and(|found| found.agrees())
            } else {
                let (a, b) = (actual.to_f64(), expected.to_f64());
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= tolerance.floor)
            };
            if !agree {
                return Err("it computes something else".to_owned());
            }
        }
        Ok(())
    }

    /// Nanoseconds of a launch, the median of this turn.
    fn turn(&mut self) -> Result<f64, String> {
        let mut times = Vec::with_capacity(self.launches);
        for _ in 0..self.launches {
            let mut time = Duration::ZERO;
            let mut trace = |record: &LaunchRecord<'_>| time += record.duration;
            let options = RunOptions { trace: Some(&mut trace), ..RunOptions::default() };
            self.session.run_with(&self.inputs, options).map_err(|error| error.to_string())?;
            times.push(time.as_secs_f64() * 1e9);
        }
        Ok(median(&times).unwrap_or(f64::INFINITY))
    }

    fn answer(self) -> Answer {
        match (median(&self.times), median(&self.ratios)) {
            (Some(ns), Some(ratio)) => Answer::Timed { ns, ratio },
            _ => failed("it was not timed".to_owned()),
        }
    }
}

/// The inputs as a schedule wants them.
fn packed(
    request: &Request,
    schedule: &Schedule,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    let numbers = request.kernel.bound_operands().filter(|(_, operand)| is_input(operand));
    let numbers = numbers.map(|(number, _)| number);
    let tensors = numbers.zip(inputs).map(|(number, tensor)| {
        let Some(packing) = schedule.packing.iter().find(|packing| packing.operand == number)
        else {
            return Ok(tensor.clone());
        };
        let shape: Vec<Dim> = tensor.sizes().iter().map(|&size| Dim::from(size)).collect();
        let sizes = sizes(&packing.layout.extents(&shape), &SymbolValues::new())?;
        let mut bytes = Vec::new();
        tile::pack(tensor, tensor.sizes(), &packing.layout, &mut bytes)
            .map_err(|error| error.to_string())?;
        Tensor::from_bytes(tensor.dtype(), sizes, &bytes).map_err(|error| error.to_string())
    });
    tensors.collect()
}

/// Times what can be run by turns, until the time is over or there were enough turns.
fn time(runs: &mut [Result<Run, String>], limit: Duration) {
    // How long a launch takes tells how many make a turn. The run before this one was the first,
    // which finds its memory and its code cold.
    for run in runs.iter_mut() {
        let Ok(ready) = run else { continue };
        match ready.turn() {
            Ok(ns) => {
                let wanted = (TURN.as_secs_f64() * 1e9 / ns.max(1.0)).ceil();
                ready.launches = (wanted as usize).clamp(1, LAUNCHES);
            }
            Err(reason) => *run = Err(reason),
        }
    }
    let begin = Instant::now();
    for turn in 0..TURNS {
        let mut base = None;
        for run in runs.iter_mut() {
            let Ok(ready) = run else { continue };
            if ready.given_up {
                continue;
            }
            match ready.turn() {
                Ok(ns) => {
                    let ratio = ns / *base.get_or_insert(ns);
                    ready.times.push(ns);
                    ready.ratios.push(ratio);
                }
                Err(reason) => *run = Err(reason),
            }
        }
        let doubt = DOUBTS.iter().filter(|(after, _)| turn + 1 >= *after).map(|(_, most)| *most);
        let most = doubt.fold(f64::INFINITY, f64::min);
        for run in runs.iter_mut().flatten() {
            run.given_up |= median(&run.ratios).is_some_and(|ratio| ratio > most);
        }
        if begin.elapsed() >= limit {
            return;
        }
    }
}
