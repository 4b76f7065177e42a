//! Recurrent layers: the sequence as a sequential axis, the state in temporaries.
//!
//! Invariant: every direction runs in the same kernel: with stages of its own, or, where all are given in the
//! order in which their steps run, along an axis. A reversed one starts at the last place and waits there
//! until its sequence begins.

use super::draft::{Draft, Fault, computed_in};
use super::index::shifted;
use super::walk::Walk;
use kiln_ir::kernel::{Access, AxisKind, Combine, Index, ScalarId, ScalarOp};
use kiln_ir::op::{
    Activation, BinaryFn, Cell, Direction, Recurrent, RecurrentOperands, ReduceFn, UnaryFn,
};
use kiln_ir::{Node, ValueId};
use kiln_tensor::{DType, Dim};

pub(super) fn form(draft: &mut Draft, core: &Node, op: &Recurrent) -> Result<(), Fault> {
    let body = draft.context.body;
    let operands = op.operands(&core.inputs).ok_or("operands are missing")?;
    let shape = &body.ty(operands.x).shape;
    let steps = shape[0].clone();
    if steps.is(0) {
        return Err("a sequence without steps leaves the state unset".into());
    }
    let dtype = computed_in(body.ty(operands.x).dtype);
    let hidden = body.ty(operands.r).shape[2].clone();
    let count = op.cell.activations();
    let activations = |number: usize| op.activations.get(number * count..(number + 1) * count);
    // Directions are one axis, or follow each other where their steps run the other way.
    let together = op.projected && op.direction.count() > 1;
    let direction = |draft: &mut Draft| match together {
        true => draft.outer_axis("d", &Dim::from(op.direction.count()), AxisKind::Parallel),
        false => Index::zero(),
    };
    let axis = direction(draft);
    let batch_dim = if op.projected { &shape[2] } else { &shape[1] };
    let batch = draft.outer_axis("b", batch_dim, AxisKind::Parallel);
    let time = draft.outer_axis("t", &steps, AxisKind::Sequential);
    let last = shifted(&time.clone().times(-1i64), steps - Dim::from(1i64));
    let runs: Vec<(Index, bool)> = match op.direction {
        _ if together && activations(0) != activations(1) => {
            return Err("directions with different activations are no one axis".into());
        }
        _ if together => vec![(axis, false)],
        Direction::Forward => vec![(Index::zero(), false)],
        Direction::Reverse => vec![(Index::zero(), !op.projected)],
        Direction::Bidirectional => {
            (0..2usize).map(|number| (Index::Dim(Dim::from(number)), number == 1)).collect()
        }
    };
    for (number, (direction, reversed)) in runs.into_iter().enumerate() {
        let mut layer = Layer {
            op,
            core,
            operands,
            dtype,
            number,
            direction,
            hidden: hidden.clone(),
            batch: batch.clone(),
            time: time.clone(),
            last: last.clone(),
            place: if reversed { last.clone() } else { time.clone() },
            activations: activations(number).ok_or("an activation is missing")?.to_vec(),
            state: draft.temporary(&format!("h{number}"), dtype, vec![hidden.clone()]),
            memory: 0,
            gates: 0,
        };
        if op.cell == Cell::Lstm {
            layer.memory = draft.temporary(&format!("c{number}"), dtype, vec![hidden.clone()]);
        }
        let rows = hidden.clone() * Dim::from(op.cell.gates());
        layer.gates = draft.temporary(&format!("gates{number}"), dtype, vec![rows]);
        layer.stages(draft)?;
    }
    Ok(())
}

/// One direction of a layer, or all of them along an axis.
struct Layer<'a> {
    op: &'a Recurrent,
    core: &'a Node,
    operands: RecurrentOperands<ValueId>,
    dtype: DType,
    /// Number of the layer in names.
    number: usize,
    direction: Index,
    hidden: Dim,
    batch: Index,
    time: Index,
    /// The last place in the sequence at the first step, the first at the last.
    last: Index,
    /// Where in `x` and `y` this step is.
    place: Index,
    activations: Vec<Activation>,
    /// Temporaries: the state h, the cell's memory c, and what goes into the gates.
    state: usize,
    memory: usize,
    gates: usize,
}

impl Layer<'_> {
    /// The row of a gate for an element of the state.
    fn row(&self, gate: usize, element: &Index) -> Index {
        shifted(element, self.hidden.clone() * Dim::from(gate))
    }

    fn stages(&self, draft: &mut Draft) -> Result<(), Fault> {
        self.start(draft, self.operands.h0, self.state)?;
        if let Some(c0) = self.operands.c0 {
            self.start(draft, c0, self.memory)?;
        }
        if let Some(w) = self.operands.w {
            self.add_input(draft, w)?;
        }
        match self.op.cell {
            Cell::Lstm => {
                self.add_state(draft, 0, 4, self.state, self.gates)?;
                self.lstm(draft)
            }
            Cell::Gru { linear_before_reset } => {
                self.add_state(draft, 0, 2, self.state, self.gates)?;
                let name = format!("reset{}", self.number);
                let reset = draft.temporary(&name, self.dtype, vec![self.hidden.clone()]);
                self.gru(draft, reset, linear_before_reset)
            }
            Cell::Rnn => {
                self.add_state(draft, 0, 1, self.state, self.gates)?;
                self.rnn(draft)
            }
        }
    }

    /// The given state before the first step.
    fn start(&self, draft: &mut Draft, given: ValueId, held: usize) -> Result<(), Fault> {
        let mut stage = draft.stage();
        let element = stage.axis("u", &self.hidden, AxisKind::Parallel);
        let mut finish = stage.walk();
        let at = [self.direction.clone(), self.batch.clone(), element.clone()];
        let mut value = finish.value(given, &at)?;
        if self.time != Index::zero() {
            let step = finish.index(&self.time);
            let zero = finish.int(0, DType::I64);
            let first = finish.binary(BinaryFn::Equal, step, zero)?;
            let kept = finish.read(held, self.dtype, std::slice::from_ref(&element), None);
            value = finish.select(first, value, kept)?;
        }
        finish.program.results = vec![value];
        let place = Access { operand: held, index: vec![element] };
        draft.stages.push(stage.pointwise(finish, vec![place]));
        Ok(())
    }

    /// gates[j] = Σᵢ x[i]·w[j, i] + wb[j].
    fn add_input(&self, draft: &mut Draft, w: ValueId) -> Result<(), Fault> {
        let body = draft.context.body;
        let (x, b) = (self.operands.x, self.operands.b);
        let rows = self.hidden.clone() * Dim::from(self.op.cell.gates());
        let mut stage = draft.stage();
        let row = stage.axis("j", &rows, AxisKind::Parallel);
        let feature = stage.axis("i", &body.ty(x).shape[2], AxisKind::Reduction);
        let mut products = stage.walk();
        let at = [self.place.clone(), self.batch.clone(), feature.clone()];
        let input = products.value(x, &at)?;
        let weight = products.value(w, &[self.direction.clone(), row.clone(), feature])?;
        let product = products.binary(BinaryFn::Mul, input, weight)?;
        products.program.results = vec![product];
        let mut finish = stage.walk();
        let sum = finish.push(ScalarOp::Reduced(0), self.dtype);
        let bias = finish.value(b, &[self.direction.clone(), row.clone()])?;
        finish.program.results = vec![finish.binary(BinaryFn::Add, sum, bias)?];
        let place = Access { operand: self.gates, index: vec![row] };
        let how = vec![Combine::Reduce(ReduceFn::Sum)];
        draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
        Ok(())
    }

    /// Adds Σₖ from[k]·r[j, k] + rb[j] for the rows of some gates to `to` — or, where `to` is not
    /// the gates, sets it to that.
    fn add_state(
        &self,
        draft: &mut Draft,
        first: usize,
        count: usize,
        from: usize,
        to: usize,
    ) -> Result<(), Fault> {
        let (r, b) = (self.operands.r, self.operands.b);
        let rows = self.hidden.clone() * Dim::from(count);
        let all = self.hidden.clone() * Dim::from(self.op.cell.gates());
        let mut stage = draft.stage();
        let along = stage.axis("j", &rows, AxisKind::Parallel);
        let element = stage.axis("k", &self.hidden, AxisKind::Reduction);
        let row = self.row(first, &along);
        let mut products = stage.walk();
        let state = products.read(from, self.dtype, std::slice::from_ref(&element), None);
        let weight = products.value(r, &[self.direction.clone(), row.clone(), element])?;
        let product = products.binary(BinaryFn::Mul, state, weight)?;
        products.program.results = vec![product];
        let mut finish = stage.walk();
        let sum = finish.push(ScalarOp::Reduced(0), self.dtype);
        let bias = finish.value(b, &[self.direction.clone(), shifted(&row, all)])?;
        let mut sum = finish.binary(BinaryFn::Add, sum, bias)?;
        let mut place = along;
        if to == self.gates {
            let before = self.input(&mut finish, &row)?;
            sum = finish.binary(BinaryFn::Add, before, sum)?;
            place = row;
        }
        finish.program.results = vec![sum];
        let place = Access { operand: to, index: vec![place] };
        let how = vec![Combine::Reduce(ReduceFn::Sum)];
        draft.stages.push(stage.reducing(products, how, finish, vec![place])?);
        Ok(())
    }

    /// x[j] + wb[j], for a row of a gate that the state was not yet added to.
    fn input(&self, walk: &mut Walk, row: &Index) -> Result<ScalarId, Fault> {
        if self.operands.w.is_some() {
            return Ok(walk.read(self.gates, self.dtype, std::slice::from_ref(row), None));
        }
        let (x, b) = (self.operands.x, self.operands.b);
        let (direction, place) = (self.direction.clone(), self.place.clone());
        let bias = walk.value(b, &[direction.clone(), row.clone()])?;
        let product = walk.value(x, &[place, direction, self.batch.clone(), row.clone()])?;
        walk.binary(BinaryFn::Add, product, bias)
    }

    fn gate(&self, walk: &mut Walk, gate: usize, element: &Index) -> ScalarId {
        walk.read(self.gates, self.dtype, &[self.row(gate, element)], None)
    }

    fn lstm(&self, draft: &mut Draft) -> Result<(), Fault> {
        use BinaryFn::{Add, Mul};
        let mut stage = draft.stage();
        let element = stage.axis("u", &self.hidden, AxisKind::Parallel);
        let mut walk = stage.walk();
        let before = walk.read(self.memory, self.dtype, std::slice::from_ref(&element), None);
        let peep = |walk: &mut Walk, gate: ScalarId, number: usize, memory: ScalarId| {
            let Some(peepholes) = self.operands.p else { return Ok::<_, Fault>(gate) };
            let at = [self.direction.clone(), self.row(number, &element)];
            let weight = walk.value(peepholes, &at)?;
            let seen = walk.binary(Mul, weight, memory)?;
            walk.binary(Add, gate, seen)
        };
        let [i, o, f, c] = [0, 1, 2, 3].map(|gate| self.gate(&mut walk, gate, &element));
        let i = peep(&mut walk, i, 0, before)?;
        let f = peep(&mut walk, f, 2, before)?;
        let i = self.activate(&mut walk, 0, i)?;
        let f = self.activate(&mut walk, 0, f)?;
        let c = self.activate(&mut walk, 1, c)?;
        let kept = walk.binary(Mul, f, before)?;
        let new = walk.binary(Mul, i, c)?;
        let memory = walk.binary(Add, kept, new)?;
        let o = peep(&mut walk, o, 1, memory)?;
        let o = self.activate(&mut walk, 0, o)?;
        // What gates are activated with is clipped, the memory is not.
        let shown = self.apply(&mut walk, 2, memory)?;
        let state = walk.binary(Mul, o, shown)?;
        self.hand_on(draft, stage, walk, element, state, Some((before, memory)))
    }

    fn gru(&self, draft: &mut Draft, reset: usize, linear: bool) -> Result<(), Fault> {
        use BinaryFn::{Add, Mul, Sub};
        if linear {
            self.add_state(draft, 2, 1, self.state, reset)?;
        } else {
            // r∘h goes through the weights instead of h.
            let name = format!("kept{}", self.number);
            let kept = draft.temporary(&name, self.dtype, vec![self.hidden.clone()]);
            let mut stage = draft.stage();
            let element = stage.axis("u", &self.hidden, AxisKind::Parallel);
            let mut walk = stage.walk();
            let r = self.gate(&mut walk, 1, &element);
            let r = self.activate(&mut walk, 0, r)?;
            let state = walk.read(self.state, self.dtype, std::slice::from_ref(&element), None);
            walk.program.results = vec![walk.binary(Mul, r, state)?];
            let place = Access { operand: kept, index: vec![element] };
            draft.stages.push(stage.pointwise(walk, vec![place]));
            self.add_state(draft, 2, 1, kept, reset)?;
        }
        let mut stage = draft.stage();
        let element = stage.axis("u", &self.hidden, AxisKind::Parallel);
        let mut walk = stage.walk();
        let z = self.gate(&mut walk, 0, &element);
        let z = self.activate(&mut walk, 0, z)?;
        let input = self.input(&mut walk, &self.row(2, &element))?;
        let mut from_state = walk.read(reset, self.dtype, std::slice::from_ref(&element), None);
        if linear {
            let r = self.gate(&mut walk, 1, &element);
            let r = self.activate(&mut walk, 0, r)?;
            from_state = walk.binary(Mul, r, from_state)?;
        }
        let sum = walk.binary(Add, input, from_state)?;
        let new = self.activate(&mut walk, 1, sum)?;
        let before = walk.read(self.state, self.dtype, std::slice::from_ref(&element), None);
        let one = walk.float(1.0, self.dtype);
        let rest = walk.binary(Sub, one, z)?;
        let fresh = walk.binary(Mul, rest, new)?;
        let kept = walk.binary(Mul, z, before)?;
        let state = walk.binary(Add, fresh, kept)?;
        self.hand_on(draft, stage, walk, element, state, None)
    }

    fn rnn(&self, draft: &mut Draft) -> Result<(), Fault> {
        let mut stage = draft.stage();
        let element = stage.axis("u", &self.hidden, AxisKind::Parallel);
        let mut walk = stage.walk();
        let sum = self.gate(&mut walk, 0, &element);
        let state = self.activate(&mut walk, 0, sum)?;
        self.hand_on(draft, stage, walk, element, state, None)
    }

    /// Writes the new state (and memory, given before and after) to the results and for the next
    /// step.
    fn hand_on(
        &self,
        draft: &mut Draft,
        stage: super::draft::StageDraft,
        mut walk: Walk,
        element: Index,
        new: ScalarId,
        memory: Option<(ScalarId, ScalarId)>,
    ) -> Result<(), Fault> {
        let ty = draft.context.body.ty(self.core.outputs[0]).dtype;
        let (mut state, mut shown) = (new, new);
        let mut memory = memory;
        if let Some(lengths) = self.operands.lengths {
            let length = walk.value(lengths, std::slice::from_ref(&self.batch))?;
            let length = walk.cast(length, DType::I64)?;
            let place = self.place_in_sequence(&mut walk)?;
            let active = walk.binary(BinaryFn::Less, place, length)?;
            let before = walk.read(self.state, self.dtype, std::slice::from_ref(&element), None);
            let zero = walk.zero(self.dtype);
            state = walk.select(active, new, before)?;
            shown = walk.select(active, new, zero)?;
            if let Some((before, after)) = memory {
                memory = Some((before, walk.select(active, after, before)?));
            }
        }
        let at = |operand: usize, index: Vec<Index>| Access { operand, index };
        let of_batch = vec![self.direction.clone(), self.batch.clone(), element.clone()];
        let mut of_step = vec![self.place.clone()];
        of_step.extend_from_slice(&of_batch);
        let (shown, final_state) = (walk.stored(shown, ty), walk.stored(state, ty));
        let mut results = vec![shown, final_state, state];
        let mut writes = vec![
            at(draft.output(0), of_step),
            at(draft.output(1), of_batch.clone()),
            at(self.state, vec![element.clone()]),
        ];
        if let Some((_, memory)) = memory {
            results.extend([walk.stored(memory, ty), memory]);
            writes.extend([at(draft.output(2), of_batch), at(self.memory, vec![element])]);
        }
        walk.program.results = results;
        draft.stages.push(stage.pointwise(walk, writes));
        Ok(())
    }

    /// How far behind its beginning the sequence is at this step.
    fn place_in_sequence(&self, walk: &mut Walk) -> Result<ScalarId, Fault> {
        if !self.op.projected {
            return Ok(walk.index(&self.place));
        }
        match self.op.direction {
            Direction::Forward => Ok(walk.index(&self.time)),
            Direction::Reverse => Ok(walk.index(&self.last)),
            Direction::Bidirectional => {
                let [direction, time, last] =
                    [&self.direction, &self.time, &self.last].map(|index| walk.index(index));
                let zero = walk.int(0, DType::I64);
                let forward = walk.binary(BinaryFn::Equal, direction, zero)?;
                walk.select(forward, time, last)
            }
        }
    }

    /// The activation of this number of what is clipped first.
    fn activate(&self, walk: &mut Walk, number: usize, x: ScalarId) -> Result<ScalarId, Fault> {
        let mut x = x;
        if let Some(bound) = self.op.clip {
            let (low, high) = (walk.float(-bound, self.dtype), walk.float(bound, self.dtype));
            x = walk.binary(BinaryFn::Max, x, low)?;
            x = walk.binary(BinaryFn::Min, x, high)?;
        }
        self.apply(walk, number, x)
    }

    /// The activation of this number.
    fn apply(&self, walk: &mut Walk, number: usize, x: ScalarId) -> Result<ScalarId, Fault> {
        use BinaryFn::{Add, Div, Less, LessEqual, Max, Min, Mul, Sub};
        let dtype = self.dtype;
        let (zero, one) = (walk.float(0.0, dtype), walk.float(1.0, dtype));
        let linear = |walk: &mut Walk, alpha: f64, beta: f64| -> Result<ScalarId, Fault> {
            let (alpha, beta) = (walk.float(alpha, dtype), walk.float(beta, dtype));
            let product = walk.binary(Mul, alpha, x)?;
            walk.binary(Add, product, beta)
        };
        let activation = *self.activations.get(number).ok_or("an activation is missing")?;
        match activation {
            Activation::Sigmoid => walk.unary(UnaryFn::Sigmoid, x),
            Activation::Tanh => walk.unary(UnaryFn::Tanh, x),
            Activation::Relu => walk.unary(UnaryFn::Relu, x),
            Activation::Affine { alpha, beta } => linear(walk, alpha, beta),
            Activation::LeakyRelu { alpha } => {
                let scaled = linear(walk, alpha, 0.0)?;
                let below = walk.binary(Less, x, zero)?;
                walk.select(below, scaled, x)
            }
            Activation::ThresholdedRelu { alpha } => {
                let threshold = walk.float(alpha, dtype);
                let below = walk.binary(LessEqual, x, threshold)?;
                walk.select(below, zero, x)
            }
            Activation::ScaledTanh { alpha, beta } => {
                let inner = linear(walk, beta, 0.0)?;
                let tanh = walk.unary(UnaryFn::Tanh, inner)?;
                let alpha = walk.float(alpha, dtype);
                walk.binary(Mul, alpha, tanh)
            }
            Activation::HardSigmoid { alpha, beta } => {
                let line = linear(walk, alpha, beta)?;
                let raised = walk.binary(Max, line, zero)?;
                walk.binary(Min, raised, one)
            }
            Activation::Elu { alpha } => {
                let power = walk.unary(UnaryFn::Exp, x)?;
                let less = walk.binary(Sub, power, one)?;
                let alpha = walk.float(alpha, dtype);
                let curve = walk.binary(Mul, alpha, less)?;
                let below = walk.binary(Less, x, zero)?;
                walk.select(below, curve, x)
            }
            Activation::Softsign => {
                let size = walk.unary(UnaryFn::Abs, x)?;
                let more = walk.binary(Add, one, size)?;
                walk.binary(Div, x, more)
            }
            Activation::Softplus => {
                // max(x, 0) + ln(1 + e^−|x|), which cannot overflow.
                let size = walk.unary(UnaryFn::Abs, x)?;
                let minus = walk.unary(UnaryFn::Neg, size)?;
                let power = walk.unary(UnaryFn::Exp, minus)?;
                let more = walk.binary(Add, one, power)?;
                let log = walk.unary(UnaryFn::Log, more)?;
                let positive = walk.unary(UnaryFn::Relu, x)?;
                walk.binary(Add, positive, log)
            }
        }
    }
}
