//! A loop nest as Cranelift IR, statement by statement.
//!
//! Invariant: loops become blocks whose parameters are the loop variable and the carried values; a
//! value is seen in the block that defines it and in those inside. Whatever a nest holds, it is
//! translated or refused with the statement's text.

mod arithmetic;
mod check;
mod convert;
mod memory;
mod value;

#[cfg(test)]
pub(super) use check::{compares, converts, is_associative, is_defined};

use super::NAME;
use super::isa::Isa;
use crate::codegen::CodegenError;
use crate::nest::{Block, Element, For, If, Nest, Op, Place, Stmt, Type, ValueId};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, Signature, StackSlotData,
    StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kiln_program::Architecture;
use value::Datum;

/// Why a statement cannot be translated; the statement's text is added where it is known.
type Failure = String;

struct Translator<'n, 'f> {
    nest: &'n Nest,
    builder: FunctionBuilder<'f>,
    architecture: Architecture,
    fma: bool,
    /// What each value is, while it is in sight.
    values: Vec<Option<Datum>>,
    /// How each value is computed.
    definitions: Vec<Option<&'n Op>>,
    /// Where each buffer starts.
    buffers: Vec<Value>,
    params: Value,
    tasks: [Value; 2],
    /// Where lanes that a mask leaves out are read, if a mask occurs.
    zeros: Option<Value>,
}

/// What a nest uses that is set up before its first statement.
#[derive(Default)]
struct Needs {
    buffers: Vec<bool>,
    zeros: bool,
}

/// The type of every kernel function.
pub(super) fn signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.extend([AbiParam::new(types::I64); 5]);
    signature
}

/// The function of a nest.
pub(super) fn translate(
    nest: &Nest,
    isa: &Isa,
    context: &mut FunctionBuilderContext,
) -> Result<Function, CodegenError> {
    let convention = isa.cranelift.default_call_conv();
    let mut function = Function::with_name_signature(
        UserFuncName::testcase(nest.name.as_bytes()),
        signature(convention),
    );
    let builder = FunctionBuilder::new(&mut function, context);
    let mut translator =
        Translator::new(nest, isa, builder).map_err(|reason| CodegenError::Statement {
            generator: NAME,
            kernel: nest.name.clone(),
            statement: "entry".to_owned(),
            reason,
        })?;
    translator.statements(&nest.body)?;
    translator.builder.ins().return_(&[]);
    translator.builder.seal_all_blocks();
    translator.builder.finalize(isa.cranelift.frontend_config());
    Ok(function)
}

impl<'n, 'f> Translator<'n, 'f> {
    fn new(nest: &'n Nest, isa: &Isa, mut builder: FunctionBuilder<'f>) -> Result<Self, Failure> {
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let &[buffers, params, scratch, begin, end] = builder.block_params(entry) else {
            return Err("the signature has five parameters".to_owned());
        };
        let mut needs = Needs { buffers: vec![false; nest.buffers.len()], zeros: false };
        needs.of(&nest.body);

        let flags = MemFlagsData::trusted().with_readonly();
        let mut bases = Vec::with_capacity(nest.buffers.len());
        for (buffer, used) in nest.buffers.iter().zip(&needs.buffers) {
            bases.push(match buffer.place {
                // A buffer that no statement touches may not even be bound.
                Place::Bound { slot, .. } if *used => {
                    let offset = i32::try_from(slot).ok().and_then(|slot| slot.checked_mul(8));
                    let offset = offset.ok_or_else(|| format!("there is no slot {slot}"))?;
                    builder.ins().load(types::I64, flags, buffers, offset)
                }
                Place::Bound { .. } | Place::Scratch { .. } => scratch,
            });
        }
        let zeros = needs.zeros.then(|| {
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8, 3);
            let slot = builder.create_sized_stack_slot(slot);
            let zero = builder.ins().iconst(types::I64, 0);
            let address = builder.ins().stack_addr(types::I64, slot, 0);
            builder.ins().store(MemFlagsData::trusted(), zero, address, 0);
            address
        });
        Ok(Translator {
            nest,
            builder,
            architecture: isa.architecture,
            fma: isa.fma,
            values: vec![None; nest.types.len()],
            definitions: vec![None; nest.types.len()],
            buffers: bases,
            params,
            tasks: [begin, end],
            zeros,
        })
    }

    /// Translates statements, and says which values are in sight after them.
    fn statements(&mut self, block: &'n Block) -> Result<Vec<ValueId>, CodegenError> {
        let mut defined = Vec::new();
        for statement in block {
            match statement {
                Stmt::Let(value, op) => {
                    let result = self.definition_of(*value, op);
                    result.map_err(|reason| self.refuse(format!("{value} = {op:?}"), reason))?;
                    defined.push(*value);
                }
                Stmt::Store(store) => {
                    let result = check::store(self.nest, store).and_then(|()| self.store(store));
                    result.map_err(|reason| self.refuse(format!("{store:?}"), reason))?;
                }
                Stmt::Prefetch { .. } => {
                    let reason = "this code generator announces no reads".into();
                    return Err(self.refuse(format!("{statement:?}"), reason));
                }
                Stmt::For(l) => {
                    self.for_loop(l)?;
                    defined.extend(l.carried.iter().map(|carried| carried.result));
                }
                Stmt::If(branch) => {
                    self.branch(branch)?;
                    defined.extend(branch.chosen.iter().map(|chosen| chosen.result));
                }
            }
        }
        Ok(defined)
    }

    fn definition_of(&mut self, value: ValueId, op: &'n Op) -> Result<(), Failure> {
        let ty = check::definition(self.nest, value, op)?;
        let datum = self.op(ty, op)?;
        self.define(value, datum)?;
        if let Some(definition) = self.definitions.get_mut(value.0 as usize) {
            *definition = Some(op);
        }
        Ok(())
    }

    fn op(&mut self, ty: Type, op: &'n Op) -> Result<Datum, Failure> {
        match op {
            Op::Begin => Ok(Datum::scalar(Element::I64, self.tasks[0])),
            Op::End => Ok(Datum::scalar(Element::I64, self.tasks[1])),
            Op::Param(number) => {
                let offset = i32::try_from(*number).ok().and_then(|number| number.checked_mul(8));
                let offset = offset.ok_or("there are fewer parameters")?;
                let flags = MemFlagsData::trusted().with_readonly();
                let value = self.builder.ins().load(types::I64, flags, self.params, offset);
                Ok(Datum::scalar(Element::I64, value))
            }
            Op::Constant(bits) => {
                let value = self.constant(ty.element, *bits);
                Ok(Datum::scalar(ty.element, value))
            }
            Op::Splat(a) => {
                if let Some(&Op::Constant(bits)) = self.definition(*a)
                    && ty.lanes > 1
                    && ty.element != Element::Mask
                {
                    return Ok(self.constant_lanes(ty, bits));
                }
                let a = self.get(*a)?.single()?;
                // Words are the likeliest width that a mask will be used with.
                let bits = if ty.element == Element::Mask { 32 } else { ty.element.bits() };
                Ok(self.splat(ty, bits, a))
            }
            Op::LaneNumbers => Ok(self.lane_numbers(ty)),
            Op::FirstLanes(count) => {
                let count = self.get(*count)?.single()?;
                self.first_lanes(count, ty.lanes)
            }
            Op::Load { buffer, address, mask } => {
                let mask = match mask {
                    Some(mask) => Some(self.get(*mask)?.clone()),
                    None => None,
                };
                self.load(ty, *buffer, *address, mask.as_ref())
            }
            Op::Unary(function, a) => {
                let a = self.get(*a)?.clone();
                self.unary(*function, &a)
            }
            Op::Binary(function, a, b) => {
                let [a, b_datum] = self.get_all([*a, *b])?;
                self.binary(*function, &a, &b_datum, Some(*b))
            }
            Op::Fma(a, b, c) => {
                let [a, b, c] = self.get_all([*a, *b, *c])?;
                self.fma(&a, &b, &c)
            }
            Op::Repeat(_) | Op::Dot { .. } => {
                Err("this code generator has no products of bytes".into())
            }
            Op::Compare(predicate, a, b) => {
                let [a, b] = self.get_all([*a, *b])?;
                self.compare(*predicate, &a, &b)
            }
            Op::Select(mask, a, b) => {
                let [mask, a, b] = self.get_all([*mask, *a, *b])?;
                self.select(&mask, &a, &b)
            }
            Op::Convert(conversion, a) => {
                let a = self.get(*a)?.clone();
                self.convert(*conversion, &a, ty)
            }
            Op::Reduce(function, a) => {
                let a = self.get(*a)?.clone();
                self.reduce(*function, &a)
            }
        }
    }

    /// The loop is entered through one test and repeated through another at its end: one branch an
    /// iteration.
    fn for_loop(&mut self, l: &'n For) -> Result<(), CodegenError> {
        let refuse = |this: &Self, reason| this.refuse(heading(l), reason);
        let (from, to, initial) = self.enter(l).map_err(|reason| refuse(self, reason))?;
        let body = self.builder.create_block();
        let exit = self.builder.create_block();
        let variable = self.builder.append_block_param(body, types::I64);
        let [inside, results] = [body, exit].map(|block| self.params_like(block, &initial));
        self.repeat([body, exit], from, to, &initial);

        self.switch_to(body);
        let mut defined = vec![l.variable];
        self.define(l.variable, Datum::scalar(Element::I64, variable))
            .map_err(|reason| refuse(self, reason))?;
        for (carried, datum) in l.carried.iter().zip(inside) {
            self.define(carried.inside, datum).map_err(|reason| refuse(self, reason))?;
            defined.push(carried.inside);
        }
        defined.extend(self.statements(&l.body)?);
        let next = self.next(l, &initial).map_err(|reason| refuse(self, reason))?;
        let step = self.iconst(types::I64, l.step);
        let following = self.builder.ins().iadd(variable, step);
        self.repeat([body, exit], following, to, &next);
        self.forget(defined);

        self.switch_to(exit);
        for (carried, datum) in l.carried.iter().zip(results) {
            self.define(carried.result, datum).map_err(|reason| refuse(self, reason))?;
        }
        Ok(())
    }

    /// Parameters of a block in the form of these.
    fn params_like(&mut self, block: ir::Block, data: &[Datum]) -> Vec<Datum> {
        let mut shape = |datum: &Datum| Datum {
            parts: datum
                .parts
                .iter()
                .map(|_| self.builder.append_block_param(block, datum.part_type()))
                .collect(),
            ..datum.clone()
        };
        data.iter().map(&mut shape).collect()
    }

    fn enter(&mut self, l: &For) -> Result<(Value, Value, Vec<Datum>), Failure> {
        if l.step < 1 {
            return Err(format!("the step is {}", l.step));
        }
        check::is(self.nest, l.variable, Type::INDEX)?;
        for carried in &l.carried {
            let ty = self.get(carried.initial)?.ty;
            for value in [carried.initial, carried.inside, carried.next, carried.result] {
                check::is(self.nest, value, ty)?;
            }
        }
        let [from, to] = self.get_all([l.from, l.to])?;
        check::is(self.nest, l.from, Type::INDEX)?;
        check::is(self.nest, l.to, Type::INDEX)?;
        let initial = l.carried.iter().map(|carried| self.get(carried.initial).cloned());
        Ok((from.single()?, to.single()?, initial.collect::<Result<_, _>>()?))
    }

    /// What an iteration hands on, in the form in which the first was given it.
    fn next(&mut self, l: &For, initial: &[Datum]) -> Result<Vec<Datum>, Failure> {
        let mut next = Vec::with_capacity(initial.len());
        for (carried, first) in l.carried.iter().zip(initial) {
            let datum = self.get(carried.next)?.clone();
            next.push(self.mask_like(&datum, first));
        }
        Ok(next)
    }

    fn branch(&mut self, branch: &'n If) -> Result<(), CodegenError> {
        let condition = check::is(self.nest, branch.condition, Type::new(Element::Mask, 1))
            .and_then(|()| self.get(branch.condition)?.single());
        let heading = || format!("if {}", branch.condition);
        let condition = condition.map_err(|reason| self.refuse(heading(), reason))?;
        let [then, otherwise, join] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.ins().brif(condition, then, &[], otherwise, &[]);
        let mut results: Option<Vec<Datum>> = None;
        for (start, block) in [(then, &branch.then), (otherwise, &branch.otherwise)] {
            self.switch_to(start);
            let defined = self.statements(block)?;
            let handed = self.handed_on(branch, start == then, results.as_deref());
            let handed = handed.map_err(|reason| self.refuse(heading(), reason))?;
            self.forget(defined);
            let parts: Vec<Value> = handed.iter().flat_map(|datum| datum.parts.clone()).collect();
            if results.is_none() {
                results = Some(self.params_like(join, &handed));
            }
            self.jump(join, &parts);
        }
        self.switch_to(join);
        for (chosen, datum) in branch.chosen.iter().zip(results.unwrap_or_default()) {
            self.define(chosen.result, datum).map_err(|reason| self.refuse(heading(), reason))?;
        }
        Ok(())
    }

    /// What one of two blocks hands on, in the form that the results have, if that is known.
    fn handed_on(
        &mut self,
        branch: &If,
        then: bool,
        results: Option<&[Datum]>,
    ) -> Result<Vec<Datum>, Failure> {
        let mut handed = Vec::with_capacity(branch.chosen.len());
        for (number, chosen) in branch.chosen.iter().enumerate() {
            let datum = self.get(if then { chosen.then } else { chosen.otherwise })?.clone();
            check::is(self.nest, chosen.result, datum.ty)?;
            handed.push(match results.and_then(|results| results.get(number)) {
                Some(like) => self.mask_like(&datum, like),
                None => datum,
            });
        }
        Ok(handed)
    }

    /// Goes on with `body` if `at < to`, else with `exit`.
    fn repeat(&mut self, [body, exit]: [ir::Block; 2], at: Value, to: Value, carried: &[Datum]) {
        let more = self.builder.ins().icmp(IntCC::SignedLessThan, at, to);
        let values = carried.iter().flat_map(|datum| &datum.parts).copied();
        let out: Vec<BlockArg> = values.map(BlockArg::from).collect();
        let mut on = vec![BlockArg::from(at)];
        on.extend(&out);
        self.builder.ins().brif(more, body, &on, exit, &out);
    }

    fn switch_to(&mut self, block: ir::Block) {
        self.builder.switch_to_block(block);
    }

    fn define(&mut self, value: ValueId, datum: Datum) -> Result<(), Failure> {
        match self.values.get_mut(value.0 as usize) {
            Some(slot @ None) => {
                *slot = Some(datum);
                Ok(())
            }
            Some(Some(_)) => Err(format!("{value} is defined twice")),
            None => Err(format!("{value} has no type")),
        }
    }

    fn forget(&mut self, values: Vec<ValueId>) {
        for value in values {
            if let Some(slot) = self.values.get_mut(value.0 as usize) {
                *slot = None;
            }
        }
    }

    fn get(&self, value: ValueId) -> Result<&Datum, Failure> {
        let datum = self.values.get(value.0 as usize).and_then(Option::as_ref);
        datum.ok_or_else(|| format!("{value} is not defined here"))
    }

    fn get_all<const N: usize>(&self, values: [ValueId; N]) -> Result<[Datum; N], Failure> {
        let data = values.iter().map(|value| self.get(*value).cloned());
        let data = data.collect::<Result<Vec<_>, _>>()?;
        data.try_into().map_err(|_| "an operand is missing".to_owned())
    }

    /// How a value that is in sight is computed, if by an operation.
    fn definition(&self, value: ValueId) -> Option<&'n Op> {
        self.definitions.get(value.0 as usize).copied().flatten()
    }

    fn refuse(&self, statement: String, reason: Failure) -> CodegenError {
        CodegenError::Statement {
            generator: NAME,
            kernel: self.nest.name.clone(),
            statement,
            reason,
        }
    }
}

fn heading(l: &For) -> String {
    format!("for {} = {} to {} step {}", l.variable, l.from, l.to, l.step)
}

impl Needs {
    fn of(&mut self, block: &Block) {
        for statement in block {
            match statement {
                Stmt::Let(_, Op::Load { buffer, mask, .. }) => {
                    self.buffer(*buffer);
                    self.zeros |= mask.is_some();
                }
                Stmt::Let(..) => {}
                Stmt::Store(store) => self.buffer(store.buffer),
                Stmt::Prefetch { buffer, .. } => self.buffer(*buffer),
                Stmt::For(l) => self.of(&l.body),
                Stmt::If(branch) => {
                    self.of(&branch.then);
                    self.of(&branch.otherwise);
                }
            }
        }
    }

    fn buffer(&mut self, number: u32) {
        if let Some(used) = self.buffers.get_mut(number as usize) {
            *used = true;
        }
    }
}
