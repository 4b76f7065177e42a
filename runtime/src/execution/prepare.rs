//! Preparation: the program's steps with what is needed again and again looked up once.
//!
//! Invariant: depends on the program alone, so it is made once a model, not once a run.

use kiln_program::{BufferId, Location, LoopStep, Program, Step};
use kiln_routine::Routine;
use kiln_tensor::{Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};

/// A program ready for planning and running.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) launches: Vec<Launch>,
    pub(super) steps: Vec<Op>,
    pub(super) groups: Vec<Group>,
    /// Symbols that get their value while the program runs.
    pub(super) late: BTreeSet<Symbol>,
}

/// Buffers whose sizes are known at the same moment and that are placed together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Symbols that the sizes depend on.
    pub(super) symbols: BTreeSet<Symbol>,
    /// Those of them that get their value while the program runs; none for the first group, whose
    /// sizes follow from the inputs.
    pub(super) late: BTreeSet<Symbol>,
    /// Those buffers of the group that need a place: in the arena or as an output.
    pub(super) members: Vec<BufferId>,
}

/// The first group.
pub(super) const EARLY: usize = 0;

/// A launch of a kernel.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) kernel: usize,
    pub(super) operands: Vec<BufferId>,
    pub(super) sizes: LaunchDims,
    pub(super) source: String,
    /// Whether the sizes follow from the inputs.
    pub(super) early: bool,
}

/// The sizes of a launch as expressions.
#[derive(Debug)]
pub(super) struct LaunchDims {
    pub(super) params: Vec<Dim>,
    pub(super) flops: Dim,
    pub(super) bytes: Dim,
}

/// A call of a routine.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) routine: Routine,
    pub(super) inputs: Vec<(BufferId, Vec<Dim>)>,
    pub(super) outputs: Vec<BufferId>,
    pub(super) binds: Vec<Symbol>,
    pub(super) source: String,
}

/// A step.
#[derive(Debug)]
pub(super) enum Op {
    Launch(usize),
    Sizes { buffer: BufferId, dims: Vec<Dim> },
    Copy { from: BufferId, to: BufferId },
    Bind { symbol: Symbol, buffer: BufferId, element: u32, source: String },
    Call(Box<Call>),
    CheckEqual { left: Dim, right: Dim, source: String },
    Branch { condition: BufferId, then: Vec<Op>, otherwise: Vec<Op> },
    Loop { step: Box<LoopStep>, body: Vec<Op> },
}

impl Prepared {
    pub(crate) fn new(program: &Program) -> Self {
        let late = program.late_symbols();
        let mut prepared = Prepared {
            launches: Vec::new(),
            steps: Vec::new(),
            groups: vec![Group::default()],
            late,
        };
        let mut numbers = BTreeMap::from([(BTreeSet::new(), EARLY)]);
        for (number, buffer) in program.buffers.iter().enumerate() {
            let mut symbols = BTreeSet::new();
            buffer.shape.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
            let late: BTreeSet<Symbol> = symbols.intersection(&prepared.late).cloned().collect();
            let group = *numbers.entry(late.clone()).or_insert_with(|| {
                prepared.groups.push(Group { late, ..Group::default() });
                prepared.groups.len() - 1
            });
            prepared.groups[group].symbols.append(&mut symbols);
            if matches!(buffer.location, Location::Arena(_) | Location::Output(_)) {
                prepared.groups[group].members.push(BufferId(number as u32));
            }
        }
        prepared.steps = prepared.ops(&program.steps);
        prepared
    }

    fn ops(&mut self, steps: &[Step]) -> Vec<Op> {
        steps.iter().map(|step| self.op(step)).collect()
    }

    fn op(&mut self, step: &Step) -> Op {
        match step {
            Step::Launch { kernel, operands, params, flops, bytes, source } => {
                let sizes = LaunchDims {
                    params: params.clone(),
                    flops: flops.clone(),
                    bytes: bytes.clone(),
                };
                let mut symbols = BTreeSet::new();
                sizes.all().for_each(|dim| dim.collect_symbols(&mut symbols));
                self.launches.push(Launch {
                    kernel: *kernel as usize,
                    operands: operands.iter().map(|(id, _)| *id).collect(),
                    sizes,
                    source: source.clone(),
                    early: symbols.is_disjoint(&self.late),
                });
                Op::Launch(self.launches.len() - 1)
            }
            Step::Sizes { buffer, dims } => Op::Sizes { buffer: *buffer, dims: dims.clone() },
            Step::Copy { from, to } => Op::Copy { from: *from, to: *to },
            Step::Bind { symbol, buffer, element, source } => Op::Bind {
                symbol: symbol.clone(),
                buffer: *buffer,
                element: *element,
                source: source.clone(),
            },
            Step::Call { routine, inputs, outputs, binds, source } => Op::Call(Box::new(Call {
                routine: routine.clone(),
                inputs: inputs.clone(),
                outputs: outputs.clone(),
                binds: binds.clone(),
                source: source.clone(),
            })),
            Step::CheckEqual { left, right, source } => {
                Op::CheckEqual { left: left.clone(), right: right.clone(), source: source.clone() }
            }
            Step::Branch { condition, then, otherwise } => Op::Branch {
                condition: *condition,
                then: self.ops(then),
                otherwise: self.ops(otherwise),
            },
            Step::Loop(step) => {
                let body = self.ops(&step.body);
                Op::Loop { step: Box::new(LoopStep { body: Vec::new(), ..(**step).clone() }), body }
            }
        }
    }
}

impl LaunchDims {
    pub(super) fn all(&self) -> impl Iterator<Item = &Dim> {
        self.params.iter().chain([&self.flops, &self.bytes])
    }
}
