//! The cost model of the machine at hand: what its constants are is measured with small kernels.
//!
//! Invariant: what is measured goes the same way as any model, through planning and code generation, so
//! that a prediction holds for what Kiln makes and not for what a processor could do.

use crate::statistics::median;
use crate::{Compiler, Error, Model, RunSettings, random_tensor};
use kiln_ir::op::{Binary, BinaryFn, Contract, ContractSpec, Conv, ConvLayout, Op, Unary, UnaryFn};
use kiln_ir::{Graph, TensorType};
use kiln_passes::{CostModel, PassError};
use kiln_runtime::LaunchRecord;
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What was measured of a machine: a line of a [`Database`](crate::tune::Database).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Which machine, code generator and number of threads this holds for: see
    /// [`Setting::key`](crate::tune::Setting::key).
    pub target: String,
    /// The version of Kiln that made the code.
    pub version: String,
    /// The constants.
    pub cost: CostModel,
    /// Milliseconds since 1970 when this was found out.
    pub time: u64,
}

/// How long all kernels run by turns.
const TIME: Duration = Duration::from_secs(4);
/// Turns at least, however long they take.
const TURNS: usize = 5;
/// Elements of what stays in a core's own caches.
const NEAR: usize = 4096;
/// Elements of each of three operands that have to come from farther away.
const FAR: usize = 1 << 19;

/// The constants of the machine that this runs on, for a compiler's backend and threads. Takes some
/// seconds.
///
/// Errors are those of compiling and running, or [`Error::Calibration`].
pub fn calibrate(compiler: &Compiler) -> Result<CostModel, Error> {
    let shipped = compiler.cost_model();
    let mut probes = Vec::new();
    for what in [
        What::Launch,
        What::Product,
        What::Pointwise(Pointwise::Binary(BinaryFn::Add)),
        What::Pointwise(Pointwise::Binary(BinaryFn::Div)),
        What::Pointwise(Pointwise::Unary(UnaryFn::Exp)),
        What::Pointwise(Pointwise::Unary(UnaryFn::Gelu)),
        What::Memory,
        What::Convolution(ConvLayout::ChannelsFirst),
        What::Convolution(ConvLayout::ChannelsLast),
    ] {
        probes.push(Probe::new(what, compiler)?);
    }
    let begin = Instant::now();
    let mut turns = 0;
    while turns < TURNS || begin.elapsed() < TIME {
        for probe in &mut probes {
            probe.run()?;
        }
        turns += 1;
    }
    let measured = constants(&probes, &shipped, compiler.setting().threads);
    if measured.is_sound() { Ok(measured) } else { Err(Error::Calibration(measured)) }
}

fn constants(probes: &[Probe], shipped: &CostModel, threads: usize) -> CostModel {
    let seconds = |wanted: &dyn Fn(&What) -> bool| {
        probes.iter().filter(|probe| wanted(&probe.what)).map(Probe::seconds).collect::<Vec<_>>()
    };
    let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
    let overhead = least(seconds(&|what| matches!(what, What::Launch)));
    // What the model says of each in units of one constant, over what it took.
    let rate = |probe: &Probe, unit: &CostModel| {
        probe.units(unit) / (probe.seconds() - overhead).max(1e-9)
    };
    let rates = |wanted: &dyn Fn(&What) -> bool, unit: &CostModel| -> f64 {
        let found: Vec<f64> =
            probes.iter().filter(|p| wanted(&p.what)).map(|p| rate(p, unit).ln()).collect();
        (found.iter().sum::<f64>() / found.len().max(1) as f64).exp()
    };
    let free = CostModel {
        flops: f64::INFINITY,
        elementwise: f64::INFINITY,
        bandwidth: f64::INFINITY,
        overhead: 0.0,
        channels_first: 1.0,
        ..shipped.clone()
    };
    let of_flops = CostModel { flops: 1.0, ..free.clone() };
    let convolved = |layout: ConvLayout| {
        rates(&|what| matches!(what, What::Convolution(l) if *l == layout), &of_flops)
    };
    let share = convolved(ConvLayout::ChannelsFirst) / convolved(ConvLayout::ChannelsLast);
    CostModel {
        flops: rates(&|what| matches!(what, What::Product), &of_flops),
        // What stays in a core's own caches is too little to be shared out; more is.
        elementwise: threads.max(1) as f64
            * rates(
                &|what| matches!(what, What::Pointwise(_)),
                &CostModel { elementwise: 1.0, ..free.clone() },
            ),
        bandwidth: rates(
            &|what| matches!(what, What::Memory),
            &CostModel { bandwidth: 1.0, ..free },
        ),
        overhead,
        // A layout that is as good as the other one is no reason to change layouts.
        channels_first: share.clamp(0.05, 1.0),
        ..shipped.clone()
    }
}

/// What a kernel tells of.
#[derive(Clone, Copy, Debug)]
enum What {
    /// Starting one.
    Launch,
    /// Multiply-adds.
    Product,
    /// Elementwise operations on what is in a cache.
    Pointwise(Pointwise),
    /// Moving what is not in a core's own caches.
    Memory,
    /// A convolution with its channels in this place.
    Convolution(ConvLayout),
}

#[derive(Clone, Copy, Debug)]
enum Pointwise {
    Unary(UnaryFn),
    Binary(BinaryFn),
}

/// A kernel that is run again and again.
struct Probe {
    what: What,
    op: Op,
    inputs: Vec<TensorType>,
    output: TensorType,
    model: Model,
    arguments: Vec<Tensor>,
    /// Seconds of its launches.
    times: Vec<f64>,
}

impl Probe {
    fn new(what: What, compiler: &Compiler) -> Result<Self, Error> {
        let (op, inputs) = operation(what);
        let unfit = |error| PassError::Graph { pass: "calibrate", error };
        let mut graph = Graph::new("probe");
        let mut operands = Vec::new();
        let mut arguments = Vec::new();
        for (number, (sizes, constant)) in inputs.into_iter().enumerate() {
            let tensor = random_tensor(DType::F32, sizes, number as u64)?;
            if constant {
                operands.push(graph.constant(tensor).map_err(unfit)?);
            } else {
                operands.push(graph.input(format!("x{number}"), TensorType::of(&tensor)));
                arguments.push(tensor);
            }
        }
        let output = graph.add1(op.clone(), &operands).map_err(unfit)?;
        graph.output(output, "y").map_err(unfit)?;
        let inputs = operands.iter().map(|&operand| graph.ty(operand).clone()).collect();
        let output = graph.ty(output).clone();
        let model = compiler.as_it_is(&graph)?;
        Ok(Probe { what, op, inputs, output, model, arguments, times: Vec::new() })
    }

    fn run(&mut self) -> Result<(), Error> {
        let mut time = Duration::ZERO;
        let mut trace = |record: &LaunchRecord<'_>| time += record.duration;
        let settings = RunSettings { trace: Some(&mut trace), ..RunSettings::default() };
        self.model.run_with(&self.arguments, settings)?;
        self.times.push(time.as_secs_f64());
        Ok(())
    }

    fn seconds(&self) -> f64 {
        median(&self.times).unwrap_or(f64::INFINITY)
    }

    /// What a cost model predicts.
    fn units(&self, model: &CostModel) -> f64 {
        let inputs: Vec<&TensorType> = self.inputs.iter().collect();
        model.kernel(&self.op, &[], &inputs, &self.output)
    }
}

/// The operation, and the sizes of its operands with whether they are constants.
fn operation(what: What) -> (Op, Vec<(Vec<usize>, bool)>) {
    let conv = |layout| {
        let conv = Conv {
            strides: vec![1, 1],
            dilations: vec![1, 1],
            before: vec![1, 1],
            after: vec![1, 1],
            groups: 1,
            layout,
        };
        Op::from(conv)
    };
    let add = Op::from(Binary { f: BinaryFn::Add });
    match what {
        What::Launch => (add, vec![(vec![16], false), (vec![16], false)]),
        What::Product => {
            let spec = ContractSpec { lhs: b"mk".into(), rhs: b"kn".into(), out: b"mn".into() };
            (Contract { spec }.into(), vec![(vec![256, 512], false), (vec![512, 512], true)])
        }
        What::Pointwise(Pointwise::Unary(f)) => (Unary { f }.into(), vec![(vec![NEAR], false)]),
        What::Pointwise(Pointwise::Binary(f)) => {
            (Binary { f }.into(), vec![(vec![NEAR], false), (vec![NEAR], false)])
        }
        What::Memory => (add, vec![(vec![FAR], false), (vec![FAR], false)]),
        What::Convolution(layout @ ConvLayout::ChannelsFirst) => {
            (conv(layout), vec![(vec![1, 64, 28, 28], false), (vec![64, 64, 3, 3], true)])
        }
        What::Convolution(layout @ ConvLayout::ChannelsLast) => {
            (conv(layout), vec![(vec![1, 28, 28, 64], false), (vec![3, 3, 64, 64], true)])
        }
    }
}
