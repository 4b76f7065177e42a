//! How nest values lie in Cranelift values.
//!
//! Invariant: a vector is a row of 128-bit registers, its lanes in order and the last register partly
//! used if need be; what stands in unused lanes is never seen. A mask in registers has lanes of all
//! ones or all zeros, as wide as the values that it was compared from; a scalar mask is 0 or 1 in
//! an i8.

use super::{Failure, Translator};
use crate::nest::{Element, Type};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Value, types};

/// Bits of a vector register.
pub(super) const REGISTER_BITS: u32 = 128;

/// A translated value.
#[derive(Clone, Debug)]
pub(super) struct Datum {
    pub(super) ty: Type,
    /// Bits of one lane as it lies in a register; those of the element except for masks.
    pub(super) bits: u32,
    /// One for a scalar, the registers of a vector.
    pub(super) parts: Vec<Value>,
}

impl Datum {
    pub(super) fn scalar(element: Element, value: Value) -> Self {
        Datum { ty: Type::new(element, 1), bits: element.bits(), parts: vec![value] }
    }

    /// A vector, or a scalar of one lane.
    pub(super) fn new(ty: Type, parts: Vec<Value>) -> Self {
        Datum { ty, bits: ty.element.bits(), parts }
    }

    /// A mask of this many bits a lane.
    pub(super) fn mask(lanes: u32, bits: u32, parts: Vec<Value>) -> Self {
        Datum { ty: Type::new(Element::Mask, lanes), bits, parts }
    }

    pub(super) fn is_scalar(&self) -> bool {
        self.ty.lanes == 1
    }

    /// The only part of a scalar.
    pub(super) fn single(&self) -> Result<Value, Failure> {
        match self.parts.as_slice() {
            [value] if self.is_scalar() => Ok(*value),
            _ => Err(format!("a scalar is needed where {} stands", self.ty)),
        }
    }

    /// Number of lanes in one register.
    pub(super) fn lanes_per_part(&self) -> u32 {
        lanes_per_register(self.bits)
    }

    /// Whether every lane of every register is used.
    pub(super) fn is_full(&self) -> bool {
        self.ty.lanes.is_multiple_of(self.lanes_per_part())
    }

    /// The Cranelift type of a part.
    pub(super) fn part_type(&self) -> types::Type {
        part_type(self.ty, self.bits)
    }
}

pub(super) fn lanes_per_register(bits: u32) -> u32 {
    REGISTER_BITS / bits.max(1)
}

/// Registers that this many lanes need.
pub(super) fn registers(lanes: u32, bits: u32) -> usize {
    lanes.div_ceil(lanes_per_register(bits)) as usize
}

/// The Cranelift type of a scalar.
pub(super) fn scalar_type(element: Element) -> types::Type {
    match element {
        Element::Mask | Element::I8 => types::I8,
        Element::I16 => types::I16,
        Element::I32 => types::I32,
        Element::I64 => types::I64,
        Element::F32 => types::F32,
        Element::F64 => types::F64,
    }
}

/// The register type of integer lanes.
pub(super) fn integer_register(bits: u32) -> types::Type {
    match bits {
        8 => types::I8X16,
        16 => types::I16X8,
        32 => types::I32X4,
        _ => types::I64X2,
    }
}

/// The register type of an element's lanes.
pub(super) fn register_type(element: Element, bits: u32) -> types::Type {
    match element {
        Element::F32 => types::F32X4,
        Element::F64 => types::F64X2,
        _ => integer_register(bits),
    }
}

/// The type of each part of a value.
pub(super) fn part_type(ty: Type, bits: u32) -> types::Type {
    if ty.lanes == 1 { scalar_type(ty.element) } else { register_type(ty.element, bits) }
}

impl Translator<'_, '_> {
    pub(super) fn iconst(&mut self, ty: types::Type, value: i64) -> Value {
        // Cranelift wants constants of narrow types without bits beyond their width.
        let value = match ty.bits() {
            bits if bits < 64 => value & ((1 << bits) - 1),
            _ => value,
        };
        self.builder.ins().iconst(ty, value)
    }

    /// The same bits as another type of equal size.
    pub(super) fn bitcast(&mut self, to: types::Type, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == to {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.builder.ins().bitcast(to, flags, value)
    }

    /// A register of these bytes.
    pub(super) fn vconst(&mut self, ty: types::Type, bytes: [u8; 16]) -> Value {
        let constant = self.builder.func.dfg.constants.insert(bytes.to_vec().into());
        self.builder.ins().vconst(ty, constant)
    }

    pub(super) fn zero(&mut self, ty: types::Type) -> Value {
        match ty {
            types::F32 => self.builder.ins().f32const(0.0),
            types::F64 => self.builder.ins().f64const(0.0),
            ty if ty.is_vector() => self.vconst(ty, [0; 16]),
            ty => self.iconst(ty, 0),
        }
    }

    /// Bytes picked from two registers: 0–15 from the first, 16–31 from the second.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, bytes: [u8; 16]) -> Value {
        let ty = self.builder.func.dfg.value_type(a);
        let (a, b) = (self.bitcast(types::I8X16, a), self.bitcast(types::I8X16, b));
        let bytes = self.builder.func.dfg.immediates.push(bytes.to_vec().into());
        let shuffled = self.builder.ins().shuffle(a, b, bytes);
        self.bitcast(ty, shuffled)
    }

    /// One lane as a scalar.
    pub(super) fn lane(&mut self, datum: &Datum, lane: u32) -> Result<Value, Failure> {
        if datum.is_scalar() {
            return datum.single();
        }
        let per_part = datum.lanes_per_part();
        let part = datum.parts.get((lane / per_part) as usize);
        let part = *part.ok_or_else(|| format!("{} has no lane {lane}", datum.ty))?;
        let value = self.builder.ins().extractlane(part, (lane % per_part) as u8);
        if datum.ty.element != Element::Mask {
            return Ok(value);
        }
        let zero = self.iconst(self.builder.func.dfg.value_type(value), 0);
        Ok(self.builder.ins().icmp(IntCC::NotEqual, value, zero))
    }

    /// All lanes as scalars.
    pub(super) fn lanes(&mut self, datum: &Datum) -> Result<Vec<Value>, Failure> {
        (0..datum.ty.lanes).map(|lane| self.lane(datum, lane)).collect()
    }

    /// A value of these lanes; masks get lanes of `bits` bits.
    pub(super) fn gather(&mut self, ty: Type, bits: u32, lanes: &[Value]) -> Datum {
        if ty.lanes == 1 {
            return Datum { ty, bits: ty.element.bits(), parts: lanes.to_vec() };
        }
        let register = register_type(ty.element, bits);
        let parts = lanes
            .chunks(lanes_per_register(bits) as usize)
            .map(|chunk| self.register(ty.element, register, chunk))
            .collect();
        Datum { ty, bits, parts }
    }

    /// One register of these lanes, zeros after them.
    pub(super) fn register(
        &mut self,
        element: Element,
        register: types::Type,
        lanes: &[Value],
    ) -> Value {
        let mut part = self.zero(register);
        for (number, &lane) in lanes.iter().enumerate() {
            let lane = match element {
                Element::Mask => self.spread(lane, register.lane_type()),
                _ => lane,
            };
            part = self.builder.ins().insertlane(part, lane, number as u8);
        }
        part
    }

    /// All ones or all zeros of a 0 or 1 in an i8.
    fn spread(&mut self, bit: Value, ty: types::Type) -> Value {
        let wide = if ty == types::I8 { bit } else { self.builder.ins().uextend(ty, bit) };
        self.builder.ins().ineg(wide)
    }

    /// A scalar in every lane; a mask gets lanes of `bits` bits.
    pub(super) fn splat(&mut self, ty: Type, bits: u32, scalar: Value) -> Datum {
        if ty.lanes == 1 {
            return Datum { ty, bits: ty.element.bits(), parts: vec![scalar] };
        }
        let register = register_type(ty.element, bits);
        let lane = match ty.element {
            Element::Mask => self.spread(scalar, register.lane_type()),
            _ => scalar,
        };
        let part = self.builder.ins().splat(register, lane);
        Datum { ty, bits, parts: vec![part; registers(ty.lanes, bits)] }
    }

    /// A computation lane by lane, for what registers cannot do.
    pub(super) fn by_lanes<const N: usize>(
        &mut self,
        inputs: [&Datum; N],
        ty: Type,
        bits: u32,
        mut f: impl FnMut(&mut Self, [Value; N]) -> Result<Value, Failure>,
    ) -> Result<Datum, Failure> {
        let mut lanes = Vec::with_capacity(ty.lanes as usize);
        for lane in 0..ty.lanes {
            let mut scalars = [Value::from_u32(0); N];
            for (scalar, input) in scalars.iter_mut().zip(inputs) {
                *scalar = self.lane(input, lane)?;
            }
            lanes.push(f(self, scalars)?);
        }
        Ok(self.gather(ty, bits, &lanes))
    }

    /// A computation part by part.
    pub(super) fn by_parts<const N: usize>(
        &mut self,
        inputs: [&Datum; N],
        ty: Type,
        bits: u32,
        mut f: impl FnMut(&mut Self, [Value; N]) -> Result<Value, Failure>,
    ) -> Result<Datum, Failure> {
        let count = inputs.first().map_or(0, |input| input.parts.len());
        let mut parts = Vec::with_capacity(count);
        for number in 0..count {
            let mut of_inputs = [Value::from_u32(0); N];
            for (part, input) in of_inputs.iter_mut().zip(inputs) {
                let found = input.parts.get(number).copied();
                *part = found.ok_or_else(|| format!("{} has too few lanes", input.ty))?;
            }
            parts.push(f(self, of_inputs)?);
        }
        Ok(Datum { ty, bits, parts })
    }
}
