//! Loads and stores.
//!
//! Invariant: memory is touched where the nest says and nowhere else: a lane that a mask leaves out
//! reads a zeroed place on the stack instead, and writes nothing.

use super::value::{Datum, lanes_per_register, scalar_type};
use super::{Failure, Translator};
use crate::nest::{Address, BinaryOp, Op, Store, Type, ValueId};
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, Value, types};

/// An address in two parts, as instructions take them.
#[derive(Clone, Copy)]
struct Place {
    pointer: Value,
    offset: i32,
}

/// Offsets up to this many bytes go into instructions; registers and lanes after them still fit.
const MAX_OFFSET: i64 = 1 << 29;
const MIN_OFFSET: i64 = -MAX_OFFSET;

/// Generated code may assume that an access that it was told to make does not fault.
const ACCESS: MemFlagsData = MemFlagsData::new().with_notrap();

impl Translator<'_, '_> {
    pub(super) fn load(
        &mut self,
        ty: Type,
        buffer: u32,
        address: Address,
        mask: Option<&Datum>,
    ) -> Result<Datum, Failure> {
        let Address::Contiguous(start) = address else {
            let places = self.places(ty, buffer, address)?;
            return self.load_lanes(ty, &places, mask);
        };
        let place = self.place(ty, buffer, start)?;
        let Some(mask) = mask else {
            return self.load_contiguous(ty, place);
        };
        let Some(all) = self.all_lanes(mask) else {
            let places = self.adjacent(ty, place);
            return self.load_lanes(ty, &places, Some(mask));
        };
        // Mostly all lanes are there.
        let [fast, slow, join] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.set_cold_block(slow);
        self.builder.ins().brif(all, fast, &[], slow, &[]);
        self.switch_to(fast);
        let datum = self.load_contiguous(ty, place)?;
        self.jump(join, &datum.parts);
        self.switch_to(slow);
        let places = self.adjacent(ty, place);
        let lanes = self.load_lanes(ty, &places, Some(mask))?;
        self.jump(join, &lanes.parts);
        let part = datum.part_type();
        let parts =
            datum.parts.iter().map(|_| self.builder.append_block_param(join, part)).collect();
        self.switch_to(join);
        Ok(Datum::new(ty, parts))
    }

    pub(super) fn store(&mut self, store: &Store) -> Result<(), Failure> {
        let value = self.get(store.value)?.clone();
        let mask = match store.mask {
            Some(mask) => Some(self.get(mask)?.clone()),
            None => None,
        };
        let Address::Contiguous(start) = store.address else {
            let places = self.places(value.ty, store.buffer, store.address)?;
            return self.store_lanes(&value, &places, mask.as_ref());
        };
        let place = self.place(value.ty, store.buffer, start)?;
        let Some(mask) = mask else {
            return self.store_contiguous(&value, place);
        };
        let Some(all) = self.all_lanes(&mask) else {
            let places = self.adjacent(value.ty, place);
            return self.store_lanes(&value, &places, Some(&mask));
        };
        let [fast, slow, join] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.set_cold_block(slow);
        self.builder.ins().brif(all, fast, &[], slow, &[]);
        self.switch_to(fast);
        self.store_contiguous(&value, place)?;
        self.jump(join, &[]);
        self.switch_to(slow);
        let places = self.adjacent(value.ty, place);
        self.store_lanes(&value, &places, Some(&mask))?;
        self.jump(join, &[]);
        self.switch_to(join);
        Ok(())
    }

    /// Whether all lanes of a vector mask are set; nothing if that is not cheap to ask.
    fn all_lanes(&mut self, mask: &Datum) -> Option<Value> {
        if mask.is_scalar() || !mask.is_full() {
            return None;
        }
        let mut parts = mask.parts.iter();
        let mut all = *parts.next()?;
        for part in parts {
            all = self.builder.ins().band(all, *part);
        }
        Some(self.builder.ins().vall_true(all))
    }

    fn load_contiguous(&mut self, ty: Type, place: Place) -> Result<Datum, Failure> {
        let bits = ty.element.bits();
        if ty.lanes == 1 {
            let flags = ACCESS.with_aligned();
            let value = self.builder.ins().load(
                scalar_type(ty.element),
                flags,
                place.pointer,
                place.offset,
            );
            return Ok(Datum::new(ty, vec![value]));
        }
        let register = super::value::part_type(ty, bits);
        let per_part = lanes_per_register(bits);
        let mut parts = Vec::new();
        let (mut lanes, mut place) = (ty.lanes, place);
        while lanes >= per_part {
            parts.push(self.builder.ins().load(register, ACCESS, place.pointer, place.offset));
            lanes -= per_part;
            place.offset += 16;
        }
        if lanes == 0 {
            return Ok(Datum::new(ty, parts));
        }
        parts.push(match whole(lanes * bits) {
            Some((integer, vector)) => {
                let bits = self.builder.ins().load(integer, ACCESS, place.pointer, place.offset);
                let vector = self.builder.ins().scalar_to_vector(vector, bits);
                self.bitcast(register, vector)
            }
            None => {
                let rest = Type::new(ty.element, lanes);
                let places = self.adjacent(rest, place);
                let lanes = self.each_lane(rest, &places, None)?;
                self.register(ty.element, register, &lanes)
            }
        });
        Ok(Datum::new(ty, parts))
    }

    fn store_contiguous(&mut self, value: &Datum, place: Place) -> Result<(), Failure> {
        if value.is_scalar() {
            let flags = ACCESS.with_aligned();
            let value = value.single()?;
            self.builder.ins().store(flags, value, place.pointer, place.offset);
            return Ok(());
        }
        let per_part = value.lanes_per_part();
        let (mut lanes, mut place) = (value.ty.lanes, place);
        for &part in &value.parts {
            if lanes >= per_part {
                self.builder.ins().store(ACCESS, part, place.pointer, place.offset);
                lanes -= per_part;
                place.offset += 16;
                continue;
            }
            match whole(lanes * value.bits) {
                Some((_, vector)) => {
                    let bits = self.bitcast(vector, part);
                    let bits = self.builder.ins().extractlane(bits, 0);
                    self.builder.ins().store(ACCESS, bits, place.pointer, place.offset);
                }
                None => {
                    let rest = Type::new(value.ty.element, lanes);
                    for (number, place) in (0u8..).zip(self.adjacent(rest, place)) {
                        let lane = self.builder.ins().extractlane(part, number);
                        self.builder.ins().store(ACCESS, lane, place.pointer, place.offset);
                    }
                }
            }
        }
        Ok(())
    }

    fn load_lanes(
        &mut self,
        ty: Type,
        places: &[Place],
        mask: Option<&Datum>,
    ) -> Result<Datum, Failure> {
        let lanes = self.each_lane(ty, places, mask)?;
        Ok(self.gather(ty, ty.element.bits(), &lanes))
    }

    /// Loads each lane from its own place, without branches.
    fn each_lane(
        &mut self,
        ty: Type,
        places: &[Place],
        mask: Option<&Datum>,
    ) -> Result<Vec<Value>, Failure> {
        let element = scalar_type(ty.element);
        let mut lanes = Vec::with_capacity(places.len());
        for (number, place) in (0u32..).zip(places) {
            let mut place = *place;
            if let Some(mask) = mask {
                let inside = self.lane(mask, number)?;
                let zeros = self.zeros.ok_or("a masked load without a place of zeros")?;
                let pointer = self.offset(place.pointer, i64::from(place.offset));
                let pointer = self.builder.ins().select(inside, pointer, zeros);
                place = Place { pointer, offset: 0 };
            }
            let flags = ACCESS.with_aligned();
            lanes.push(self.builder.ins().load(element, flags, place.pointer, place.offset));
        }
        Ok(lanes)
    }

    /// Stores each lane to its own place, in order.
    fn store_lanes(
        &mut self,
        value: &Datum,
        places: &[Place],
        mask: Option<&Datum>,
    ) -> Result<(), Failure> {
        for (number, place) in (0u32..).zip(places) {
            let lane = self.lane(value, number)?;
            let flags = ACCESS.with_aligned();
            let Some(mask) = mask else {
                self.builder.ins().store(flags, lane, place.pointer, place.offset);
                continue;
            };
            let inside = self.lane(mask, number)?;
            let [write, next] = std::array::from_fn(|_| self.builder.create_block());
            self.builder.ins().brif(inside, write, &[], next, &[]);
            self.switch_to(write);
            self.builder.ins().store(flags, lane, place.pointer, place.offset);
            self.jump(next, &[]);
            self.switch_to(next);
        }
        Ok(())
    }

    /// The place of each lane.
    fn places(&mut self, ty: Type, buffer: u32, address: Address) -> Result<Vec<Place>, Failure> {
        match address {
            Address::Contiguous(start) => {
                let place = self.place(ty, buffer, start)?;
                Ok(self.adjacent(ty, place))
            }
            Address::Strided(start, stride) => {
                let place = self.place(ty, buffer, start)?;
                let size = i64::from(ty.element.bits() / 8);
                let literal = self.literal(stride).and_then(|stride| stride.checked_mul(size));
                let reach = literal.and_then(|bytes| bytes.checked_mul(i64::from(ty.lanes)));
                if let (Some(bytes), Some(MIN_OFFSET..=MAX_OFFSET)) = (literal, reach) {
                    let at = |lane| Place {
                        offset: place.offset + (i64::from(lane) * bytes) as i32,
                        ..place
                    };
                    return Ok((0..ty.lanes).map(at).collect());
                }
                let stride = self.get(stride)?.single()?;
                let bytes = self.scaled(stride, ty);
                let mut places = vec![place];
                let mut pointer = place.pointer;
                for _ in 1..ty.lanes {
                    pointer = self.builder.ins().iadd(pointer, bytes);
                    places.push(Place { pointer, ..place });
                }
                Ok(places)
            }
            Address::Scattered(offsets) => {
                let offsets = self.get(offsets)?.clone();
                let base = self.base(buffer)?;
                let mut places = Vec::with_capacity(ty.lanes as usize);
                for lane in self.lanes(&offsets)? {
                    let bytes = self.scaled(lane, ty);
                    let pointer = self.builder.ins().iadd(base, bytes);
                    places.push(Place { pointer, offset: 0 });
                }
                Ok(places)
            }
        }
    }

    /// The places of adjacent lanes.
    fn adjacent(&self, ty: Type, place: Place) -> Vec<Place> {
        let size = (ty.element.bits() / 8) as i32;
        (0..ty.lanes as i32)
            .map(|lane| Place { offset: place.offset + lane * size, ..place })
            .collect()
    }

    /// The place of an element. A literal goes into the instruction, and what is added last stays
    /// apart, so that the rest can be computed outside the innermost loop and the instruction does the
    /// last addition.
    fn place(&mut self, ty: Type, buffer: u32, start: ValueId) -> Result<Place, Failure> {
        let mut pointer = self.base(buffer)?;
        let (rest, elements) = self.split_literal(start);
        if let Some(rest) = rest {
            let terms = match self.definition(rest) {
                Some(&Op::Binary(BinaryOp::Add, a, b)) => [Some(a), Some(b)],
                _ => [Some(rest), None],
            };
            for term in terms.into_iter().flatten() {
                let term = self.get(term)?.single()?;
                let bytes = self.scaled(term, ty);
                pointer = self.builder.ins().iadd(pointer, bytes);
            }
        }
        let bytes = elements.wrapping_mul(i64::from(ty.element.bits() / 8));
        Ok(match bytes {
            MIN_OFFSET..=MAX_OFFSET => Place { pointer, offset: bytes as i32 },
            _ => Place { pointer: self.offset(pointer, bytes), offset: 0 },
        })
    }

    /// An index as what is computed, if anything is, and a literal.
    fn split_literal(&self, index: ValueId) -> (Option<ValueId>, i64) {
        if let Some(literal) = self.literal(index) {
            return (None, literal);
        }
        if let Some(&Op::Binary(BinaryOp::Add, a, b)) = self.definition(index) {
            match (self.literal(a), self.literal(b)) {
                (_, Some(literal)) => return (Some(a), literal),
                (Some(literal), _) => return (Some(b), literal),
                _ => {}
            }
        }
        (Some(index), 0)
    }

    fn literal(&self, index: ValueId) -> Option<i64> {
        match self.definition(index) {
            Some(&Op::Constant(bits)) => Some(bits as i64),
            _ => None,
        }
    }

    fn scaled(&mut self, elements: Value, ty: Type) -> Value {
        match (ty.element.bits() / 8).trailing_zeros() {
            0 => elements,
            shift => {
                let shift = self.iconst(types::I64, i64::from(shift));
                self.builder.ins().ishl(elements, shift)
            }
        }
    }

    fn offset(&mut self, pointer: Value, bytes: i64) -> Value {
        if bytes == 0 {
            return pointer;
        }
        let bytes = self.iconst(types::I64, bytes);
        self.builder.ins().iadd(pointer, bytes)
    }

    fn base(&self, buffer: u32) -> Result<Value, Failure> {
        let base = self.buffers.get(buffer as usize).copied();
        base.ok_or_else(|| format!("there is no buffer {buffer}"))
    }

    pub(super) fn jump(&mut self, block: cranelift_codegen::ir::Block, values: &[Value]) {
        let arguments: Vec<_> = values.iter().copied().map(BlockArg::from).collect();
        self.builder.ins().jump(block, &arguments);
    }
}

/// The integer and the vector of it that hold this many bits at once, if there are such.
fn whole(bits: u32) -> Option<(types::Type, types::Type)> {
    Some(match bits {
        16 => (types::I16, types::I16X8),
        32 => (types::I32, types::I32X4),
        64 => (types::I64, types::I64X2),
        _ => return None,
    })
}
