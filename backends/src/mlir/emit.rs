//! The structure of a nest as MLIR: functions, blocks, loops, branches, values.
//!
//! Invariant: every value of the nest has one value of MLIR, defined in the block that the nest
//! defines it in.

use super::attributes::{Attributes, type_name};
use super::operations::alignment;
use crate::nest::{
    Address, Block as Statements, Chosen, For, If, Nest, Place, Stmt, Store, Type, ValueId,
};
use melior::ir::block::BlockLike;
use melior::ir::operation::OperationBuilder;
use melior::ir::{Attribute, Block, Identifier, Location, Module, Region, RegionLike};
use melior::ir::{Type as MlirType, Value, ValueLike};
use mlir_sys::MlirValue;
use thiserror::Error;

/// MLIR did not accept an operation that a nest was translated to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct EmitError {
    /// What was not accepted.
    pub message: String,
}

impl From<melior::Error> for EmitError {
    fn from(error: melior::Error) -> Self {
        EmitError { message: error.to_string() }
    }
}

/// A value while its function is built.
///
/// melior ties the lifetime of a value to the borrow of the block that defines it, while blocks
/// move into their regions. So values are kept raw here.
#[derive(Clone, Copy)]
pub(super) struct Raw(MlirValue);

pub(super) struct Emitter<'c, 'n> {
    pub(super) attributes: &'n Attributes<'c>,
    pub(super) location: Location<'c>,
    pub(super) nest: &'n Nest,
    values: Vec<Option<Raw>>,
    /// Base pointer of each buffer.
    pub(super) bases: Vec<Raw>,
    /// A cache line of zeros, read in place of what a scalar mask hides.
    pub(super) zeros: Option<Raw>,
    pub(super) params: Option<Raw>,
    pub(super) tasks: Option<[Raw; 2]>,
}

/// Adds the function of a nest to a module.
///
/// `function_attributes` are LLVM's, as name and value or name alone.
pub fn emit<'c>(
    module: &Module<'c>,
    context: &'c melior::Context,
    nest: &Nest,
    symbol: &str,
    function_attributes: &[(String, Option<String>)],
) -> Result<(), EmitError> {
    let attributes = Attributes::new(context);
    let location = Location::unknown(context);
    let pointer = attributes.ty("!llvm.ptr")?;
    let index = attributes.ty("i64")?;
    let arguments = [pointer, pointer, pointer, index, index].map(|ty| (ty, location));
    let block = Block::new(&arguments);
    let mut emitter = Emitter {
        attributes: &attributes,
        location,
        nest,
        values: vec![None; nest.types.len()],
        bases: Vec::new(),
        zeros: None,
        params: None,
        tasks: None,
    };
    emitter.prologue(&block)?;
    emitter.block(&block, &nest.body)?;
    emitter.effect(&block, "llvm.return", &[], &[])?;

    let region = Region::new();
    region.append_block(block);
    let quoted = |text: &str| format!("{text:?}");
    let passthrough: Vec<String> = function_attributes
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("[{}, {}]", quoted(name), quoted(value)),
            None => quoted(name),
        })
        .collect();
    let function = OperationBuilder::new("llvm.func", location)
        .add_attributes(&[
            emitter.named("sym_name", &quoted(symbol))?,
            emitter.named("function_type", "!llvm.func<void (ptr, ptr, ptr, i64, i64)>")?,
            emitter.named("linkage", "#llvm.linkage<external>")?,
            emitter.named("passthrough", &format!("[{}]", passthrough.join(", ")))?,
        ])
        .add_regions([region])
        .build()?;
    module.body().append_operation(function);
    Ok(())
}

impl<'c> Emitter<'c, '_> {
    pub(super) fn named(
        &self,
        name: &str,
        attribute: &str,
    ) -> Result<(Identifier<'c>, Attribute<'c>), EmitError> {
        let context = self.attributes.context();
        Ok((Identifier::new(context, name), self.attributes.attribute(attribute)?))
    }

    fn live(&self, raw: &Raw) -> Value<'c, '_> {
        // SAFETY: the value belongs to an operation or block that was built for this function; all
        // of them are moved into the function and none is erased while the emitter lives.
        unsafe { Value::from_raw(raw.0) }
    }

    pub(super) fn value(&self, value: ValueId) -> Result<Raw, EmitError> {
        let found = self.values.get(value.0 as usize).copied().flatten();
        found.ok_or_else(|| EmitError { message: format!("{value} is used before it is defined") })
    }

    fn define(&mut self, value: ValueId, raw: Raw) -> Result<(), EmitError> {
        let slot = self.values.get_mut(value.0 as usize);
        *slot.ok_or_else(|| EmitError { message: format!("{value} has no type") })? = Some(raw);
        Ok(())
    }

    pub(super) fn type_of(&self, value: ValueId) -> Result<Type, EmitError> {
        let ty = self.nest.type_of(value);
        ty.ok_or_else(|| EmitError { message: format!("{value} has no type") })
    }

    fn append(
        &self,
        block: &Block<'c>,
        name: &str,
        operands: &[Raw],
        result: Option<MlirType<'c>>,
        attributes: &[(Identifier<'c>, Attribute<'c>)],
    ) -> Result<Option<Raw>, EmitError> {
        let operands: Vec<Value> = operands.iter().map(|raw| self.live(raw)).collect();
        let operation = OperationBuilder::new(name, self.location)
            .add_operands(&operands)
            .add_results(result.as_slice())
            .add_attributes(attributes)
            .build()?;
        let operation = block.append_operation(operation);
        match result {
            Some(_) => Ok(Some(Raw(operation.result(0)?.to_raw()))),
            None => Ok(None),
        }
    }

    /// An operation with one result.
    pub(super) fn one(
        &self,
        block: &Block<'c>,
        name: &str,
        operands: &[Raw],
        result: MlirType<'c>,
        attributes: &[(Identifier<'c>, Attribute<'c>)],
    ) -> Result<Raw, EmitError> {
        let made = self.append(block, name, operands, Some(result), attributes)?;
        made.ok_or_else(|| EmitError { message: format!("{name} has no result") })
    }

    /// An operation without result.
    pub(super) fn effect(
        &self,
        block: &Block<'c>,
        name: &str,
        operands: &[Raw],
        attributes: &[(Identifier<'c>, Attribute<'c>)],
    ) -> Result<(), EmitError> {
        self.append(block, name, operands, None, attributes).map(|_| ())
    }

    /// A constant from its attribute's text.
    pub(super) fn constant(
        &self,
        block: &Block<'c>,
        ty: MlirType<'c>,
        text: &str,
    ) -> Result<Raw, EmitError> {
        self.one(block, "arith.constant", &[], ty, &[self.named("value", text)?])
    }

    fn argument(&self, block: &Block<'c>, number: usize) -> Result<Raw, EmitError> {
        Ok(Raw(block.argument(number)?.to_raw()))
    }

    /// Loads the base pointers and makes the zeros.
    fn prologue(&mut self, block: &Block<'c>) -> Result<(), EmitError> {
        let pointer = self.attributes.ty("!llvm.ptr")?;
        let index = self.attributes.ty("i64")?;
        let line = self.attributes.ty("vector<8xi64>")?;
        let [buffers, params, scratch, begin, end] =
            [0, 1, 2, 3, 4].map(|number| self.argument(block, number));
        let (buffers, scratch) = (buffers?, scratch?);
        self.params = Some(params?);
        self.tasks = Some([begin?, end?]);
        for buffer in &self.nest.buffers {
            let base = match buffer.place {
                Place::Scratch { .. } => scratch,
                Place::Bound { slot, .. } => {
                    let number = self.constant(block, index, &format!("{slot} : i64"))?;
                    let place = self.element_pointer(block, buffers, number, "!llvm.ptr", true)?;
                    let attributes = [self.named("alignment", "8 : i64")?];
                    self.one(block, "llvm.load", &[place], pointer, &attributes)?
                }
            };
            self.bases.push(base);
        }
        let eight = self.constant(block, index, "8 : i64")?;
        let attributes = [self.named("elem_type", "i64")?, self.named("alignment", "64 : i64")?];
        let zeros = self.one(block, "llvm.alloca", &[eight], pointer, &attributes)?;
        let zero = self.constant(block, line, "dense<0> : vector<8xi64>")?;
        self.effect(block, "llvm.store", &[zero, zeros], &[self.named("alignment", "64 : i64")?])?;
        self.zeros = Some(zeros);
        Ok(())
    }

    /// The address of an element. With `inside` it must lie in the same object as the base.
    pub(super) fn element_pointer(
        &self,
        block: &Block<'c>,
        base: Raw,
        offset: Raw,
        element: &str,
        inside: bool,
    ) -> Result<Raw, EmitError> {
        let pointer = self.attributes.ty("!llvm.ptr")?;
        self.pointer_of(block, base, offset, element, inside, pointer)
    }

    pub(super) fn pointer_of(
        &self,
        block: &Block<'c>,
        base: Raw,
        offset: Raw,
        element: &str,
        inside: bool,
        result: MlirType<'c>,
    ) -> Result<Raw, EmitError> {
        let flags = if inside { "3 : i32" } else { "0 : i32" };
        let attributes = [
            self.named("elem_type", element)?,
            self.named("rawConstantIndices", "array<i32: -2147483648>")?,
            self.named("noWrapFlags", flags)?,
        ];
        self.one(block, "llvm.getelementptr", &[base, offset], result, &attributes)
    }

    fn block(&mut self, block: &Block<'c>, statements: &Statements) -> Result<(), EmitError> {
        for statement in statements {
            match statement {
                Stmt::Let(value, op) => {
                    let ty = self.type_of(*value)?;
                    let raw = self.operation(block, op, ty)?;
                    self.define(*value, raw)?;
                }
                Stmt::Store(store) => self.store(block, store)?,
                Stmt::Prefetch { buffer, element, place } => {
                    self.prefetch(block, *buffer, *element, *place)?;
                }
                Stmt::For(l) => self.for_loop(block, l)?,
                Stmt::If(branch) => self.branch(block, branch)?,
            }
        }
        Ok(())
    }

    fn for_loop(&mut self, block: &Block<'c>, l: &For) -> Result<(), EmitError> {
        let index = self.attributes.ty("i64")?;
        let mut types = vec![index];
        let step = self.constant(block, index, &format!("{} : i64", l.step))?;
        let mut operands = vec![self.value(l.from)?, self.value(l.to)?, step];
        for carried in &l.carried {
            types.push(self.attributes.of(self.type_of(carried.initial)?)?);
            operands.push(self.value(carried.initial)?);
        }
        let arguments: Vec<_> = types.iter().map(|ty| (*ty, self.location)).collect();
        let body = Block::new(&arguments);
        let variable = self.argument(&body, 0)?;
        self.define(l.variable, variable)?;
        for (number, carried) in l.carried.iter().enumerate() {
            let inside = self.argument(&body, number + 1)?;
            self.define(carried.inside, inside)?;
        }
        self.block(&body, &l.body)?;
        let mut next = Vec::with_capacity(l.carried.len());
        for carried in &l.carried {
            next.push(self.value(carried.next)?);
        }
        self.effect(&body, "scf.yield", &next, &[])?;
        let region = Region::new();
        region.append_block(body);
        let live: Vec<Value> = operands.iter().map(|raw| self.live(raw)).collect();
        let operation = OperationBuilder::new("scf.for", self.location)
            .add_operands(&live)
            .add_results(&types[1..])
            .add_regions([region])
            .build()?;
        let operation = block.append_operation(operation);
        let mut results = Vec::with_capacity(l.carried.len());
        for number in 0..l.carried.len() {
            results.push(Raw(operation.result(number)?.to_raw()));
        }
        for (carried, raw) in l.carried.iter().zip(results) {
            self.define(carried.result, raw)?;
        }
        Ok(())
    }

    fn branch(&mut self, block: &Block<'c>, branch: &If) -> Result<(), EmitError> {
        let condition = self.value(branch.condition)?;
        let mut types = Vec::with_capacity(branch.chosen.len());
        for chosen in &branch.chosen {
            types.push(self.attributes.of(self.type_of(chosen.result)?)?);
        }
        let mut regions = Vec::with_capacity(2);
        let then: fn(&Chosen) -> ValueId = |chosen| chosen.then;
        let otherwise: fn(&Chosen) -> ValueId = |chosen| chosen.otherwise;
        for (statements, value) in [(&branch.then, then), (&branch.otherwise, otherwise)] {
            let inner = Block::new(&[]);
            self.block(&inner, statements)?;
            let values = branch.chosen.iter().map(|chosen| self.value(value(chosen)));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            self.effect(&inner, "scf.yield", &values, &[])?;
            let region = Region::new();
            region.append_block(inner);
            regions.push(region);
        }
        let operation = OperationBuilder::new("scf.if", self.location)
            .add_operands(&[self.live(&condition)])
            .add_results(&types)
            .add_regions_vec(regions)
            .build()?;
        let operation = block.append_operation(operation);
        for (number, chosen) in branch.chosen.iter().enumerate() {
            let raw = Raw(operation.result(number)?.to_raw());
            self.define(chosen.result, raw)?;
        }
        Ok(())
    }

    fn store(&mut self, block: &Block<'c>, store: &Store) -> Result<(), EmitError> {
        let ty = self.type_of(store.value)?;
        let value = self.value(store.value)?;
        let bytes = alignment(ty.element);
        let plain = matches!(store.address, Address::Contiguous(_)) && store.mask.is_none();
        let place = self.address(block, store.buffer, &store.address, ty, plain)?;
        if plain {
            let attributes = [self.named("alignment", &format!("{bytes} : i64"))?];
            return self.effect(block, "llvm.store", &[value, place], &attributes);
        }
        let mask = self.full_mask(block, store.mask, ty.lanes)?;
        let attributes = [self.named("alignment", &format!("{bytes} : i32"))?];
        let name = match store.address {
            Address::Contiguous(_) => "llvm.intr.masked.store",
            _ => "llvm.intr.masked.scatter",
        };
        self.effect(block, name, &[value, place, mask], &attributes)
    }

    /// The mask, or one of all lanes.
    pub(super) fn full_mask(
        &self,
        block: &Block<'c>,
        mask: Option<ValueId>,
        lanes: u32,
    ) -> Result<Raw, EmitError> {
        match mask {
            Some(mask) => self.value(mask),
            None => {
                let text = type_name(Type::new(crate::nest::Element::Mask, lanes));
                let ty = self.attributes.ty(&text)?;
                self.constant(block, ty, &format!("dense<true> : {text}"))
            }
        }
    }
}
