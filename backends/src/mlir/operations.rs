//! The arithmetic and the memory accesses of a nest as MLIR operations.
//!
//! Invariant: no operation here lowers to a call; what has no instruction was expanded before.

use super::EmitError;
use super::attributes::{element_name, type_name};
use super::emit::{Emitter, Raw};
use crate::nest::{Address, BinaryOp, Conversion, Element, Op, Predicate, Type, UnaryOp, ValueId};
use melior::ir::{Block, Type as MlirType};

/// Bytes that an element of memory is aligned to.
pub(super) const fn alignment(element: Element) -> u32 {
    match element.bits() {
        1 | 8 => 1,
        bits => bits / 8,
    }
}

impl<'c> Emitter<'c, '_> {
    /// The value of an operation.
    pub(super) fn operation(&self, block: &Block<'c>, op: &Op, ty: Type) -> Result<Raw, EmitError> {
        let result = self.attributes.of(ty)?;
        let missing = |what: &str| EmitError { message: format!("{what} is missing") };
        match op {
            Op::Begin => self.tasks.map(|tasks| tasks[0]).ok_or_else(|| missing("begin")),
            Op::End => self.tasks.map(|tasks| tasks[1]).ok_or_else(|| missing("end")),
            Op::Param(number) => {
                let params = self.params.ok_or_else(|| missing("params"))?;
                let number = self.constant(block, result, &format!("{number} : i64"))?;
                let place = self.element_pointer(block, params, number, "i64", true)?;
                let attributes = [self.named("alignment", "8 : i64")?];
                self.one(block, "llvm.load", &[place], result, &attributes)
            }
            Op::Constant(bits) => {
                let value = self.attributes.constant(*bits, ty.element)?;
                let name = melior::ir::Identifier::new(self.attributes.context(), "value");
                self.one(block, "arith.constant", &[], result, &[(name, value)])
            }
            Op::Splat(a) => self.one(block, "vector.broadcast", &[self.value(*a)?], result, &[]),
            Op::LaneNumbers => self.lane_numbers(block, ty),
            Op::FirstLanes(bound) => self.first_lanes(block, *bound, ty.lanes),
            Op::Load { buffer, address, mask } => self.load(block, *buffer, address, *mask, ty),
            Op::Unary(f, a) => {
                let name = match f {
                    UnaryOp::Neg => "arith.negf",
                    UnaryOp::Abs => "llvm.intr.fabs",
                    UnaryOp::Sqrt => "llvm.intr.sqrt",
                    UnaryOp::Floor => "llvm.intr.floor",
                    UnaryOp::Ceil => "llvm.intr.ceil",
                    UnaryOp::Trunc => "llvm.intr.trunc",
                    UnaryOp::RoundEven => "llvm.intr.roundeven",
                };
                self.one(block, name, &[self.value(*a)?], result, &[])
            }
            Op::Binary(f, a, b) => {
                let name = binary_name(*f, ty.element);
                self.one(block, name, &[self.value(*a)?, self.value(*b)?], result, &[])
            }
            Op::Fma(a, b, c) => {
                let operands = [self.value(*a)?, self.value(*b)?, self.value(*c)?];
                self.one(block, "llvm.intr.fma", &operands, result, &[])
            }
            Op::Repeat(a) => self.repeat(block, *a, ty),
            Op::Dot { sum, unsigned, signed } => {
                let operands = [self.value(*sum)?, self.value(*unsigned)?, self.value(*signed)?];
                let name = format!("llvm.x86.avx512.vpdpbusd.{}", 32 * ty.lanes);
                self.intrinsic(block, &name, &operands, result)
            }
            Op::Compare(predicate, a, b) => {
                let float = self.type_of(*a)?.element.is_float();
                let (name, number) = predicate_code(*predicate, float);
                let attributes = [self.named("predicate", &format!("{number} : i64"))?];
                let operands = [self.value(*a)?, self.value(*b)?];
                self.one(block, name, &operands, result, &attributes)
            }
            Op::Select(mask, a, b) => {
                let operands = [self.value(*mask)?, self.value(*a)?, self.value(*b)?];
                self.one(block, "arith.select", &operands, result, &[])
            }
            Op::Convert(how, a) => self.convert(block, *how, *a, ty),
            Op::Reduce(f, a) => {
                let kind = reduction_kind(*f)
                    .ok_or_else(|| EmitError { message: format!("reduction by {f:?}") })?;
                let attributes = [
                    self.named("kind", &format!("#vector.kind<{kind}>"))?,
                    self.named("fastmath", "#arith.fastmath<reassoc>")?,
                ];
                self.one(block, "vector.reduction", &[self.value(*a)?], result, &attributes)
            }
        }
    }

    /// A vector of at most 64 bits, over and over: as one integer in every lane.
    fn repeat(&self, block: &Block<'c>, a: ValueId, ty: Type) -> Result<Raw, EmitError> {
        let from = self.type_of(a)?;
        let bits = from.lanes * from.element.bits();
        let word = format!("i{bits}");
        let single = self.attributes.ty(&format!("vector<1x{word}>"))?;
        let lanes = self.attributes.ty(&format!("vector<{}x{word}>", ty.lanes / from.lanes))?;
        let value = self.one(block, "vector.bitcast", &[self.value(a)?], single, &[])?;
        let value = self.one(block, "vector.broadcast", &[value], lanes, &[])?;
        self.one(block, "vector.bitcast", &[value], self.attributes.of(ty)?, &[])
    }

    /// A call of one of LLVM's own functions, by its name.
    pub(super) fn intrinsic(
        &self,
        block: &Block<'c>,
        name: &str,
        operands: &[Raw],
        result: MlirType<'c>,
    ) -> Result<Raw, EmitError> {
        let attributes = [
            self.named("intrin", &format!("{name:?}"))?,
            self.named("op_bundle_sizes", "array<i32>")?,
            self.named("operandSegmentSizes", &format!("array<i32: {}, 0>", operands.len()))?,
        ];
        self.one(block, "llvm.call_intrinsic", operands, result, &attributes)
    }

    fn lane_numbers(&self, block: &Block<'c>, ty: Type) -> Result<Raw, EmitError> {
        let numbers: Vec<String> = (0..ty.lanes).map(|lane| lane.to_string()).collect();
        let text = format!("dense<[{}]> : {}", numbers.join(", "), type_name(ty));
        self.constant(block, self.attributes.of(ty)?, &text)
    }

    /// Lanes below a bound, compared as i32: half the width of the bound itself.
    fn first_lanes(&self, block: &Block<'c>, bound: ValueId, lanes: u32) -> Result<Raw, EmitError> {
        let index = self.attributes.ty("i64")?;
        let narrow = Type::new(Element::I32, lanes);
        let most = self.constant(block, index, &format!("{lanes} : i64"))?;
        let least = self.constant(block, index, "0 : i64")?;
        let bound = self.value(bound)?;
        let bound = self.one(block, "arith.minsi", &[bound, most], index, &[])?;
        let bound = self.one(block, "arith.maxsi", &[bound, least], index, &[])?;
        let scalar = self.attributes.ty("i32")?;
        let bound = self.one(block, "arith.trunci", &[bound], scalar, &[])?;
        let wide = self.attributes.of(narrow)?;
        let bound = self.one(block, "vector.broadcast", &[bound], wide, &[])?;
        let numbers = self.lane_numbers(block, narrow)?;
        let mask = self.attributes.of(Type::new(Element::Mask, lanes))?;
        let (name, number) = predicate_code(Predicate::Less, false);
        let attributes = [self.named("predicate", &format!("{number} : i64"))?];
        self.one(block, name, &[numbers, bound], mask, &attributes)
    }

    /// The address of the first lane, or of each lane.
    pub(super) fn address(
        &self,
        block: &Block<'c>,
        buffer: u32,
        address: &Address,
        ty: Type,
        inside: bool,
    ) -> Result<Raw, EmitError> {
        let base = self.bases.get(buffer as usize).copied();
        let base = base.ok_or_else(|| EmitError { message: format!("buffer {buffer}") })?;
        let element = element_name(ty.element);
        let offsets = match *address {
            Address::Contiguous(start) => {
                return self.element_pointer(block, base, self.value(start)?, element, inside);
            }
            Address::Strided(start, stride) => {
                let wide = Type::new(Element::I64, ty.lanes);
                let vector = self.attributes.of(wide)?;
                let numbers = self.lane_numbers(block, wide)?;
                let [start, stride] = [self.value(start)?, self.value(stride)?];
                let start = self.one(block, "vector.broadcast", &[start], vector, &[])?;
                let stride = self.one(block, "vector.broadcast", &[stride], vector, &[])?;
                let along = self.one(block, "arith.muli", &[numbers, stride], vector, &[])?;
                self.one(block, "arith.addi", &[start, along], vector, &[])?
            }
            Address::Scattered(offsets) => self.value(offsets)?,
        };
        let pointers = self.attributes.ty(&format!("vector<{}x!llvm.ptr>", ty.lanes))?;
        self.pointer_of(block, base, offsets, element, false, pointers)
    }

    fn load(
        &self,
        block: &Block<'c>,
        buffer: u32,
        address: &Address,
        mask: Option<ValueId>,
        ty: Type,
    ) -> Result<Raw, EmitError> {
        let result = self.attributes.of(ty)?;
        let bytes = alignment(ty.element);
        let contiguous = matches!(address, Address::Contiguous(_));
        let mut place = self.address(block, buffer, address, ty, mask.is_none())?;
        if contiguous && (mask.is_none() || ty.lanes == 1) {
            if let (Some(mask), Some(zeros)) = (mask, self.zeros) {
                // A hidden scalar is read from the zeros: no branch, and no access beyond.
                let pointer = self.attributes.ty("!llvm.ptr")?;
                let operands = [self.value(mask)?, place, zeros];
                place = self.one(block, "llvm.select", &operands, pointer, &[])?;
            }
            let attributes = [self.named("alignment", &format!("{bytes} : i64"))?];
            return self.one(block, "llvm.load", &[place], result, &attributes);
        }
        let mask = self.full_mask(block, mask, ty.lanes)?;
        let zero = if ty.element.is_float() { "0.0" } else { "0" };
        let zeros = self.constant(block, result, &format!("dense<{zero}> : {}", type_name(ty)))?;
        let attributes = [self.named("alignment", &format!("{bytes} : i32"))?];
        let name = if contiguous { "llvm.intr.masked.load" } else { "llvm.intr.masked.gather" };
        self.one(block, name, &[place, mask, zeros], result, &attributes)
    }

    /// Announces a read into the nearest cache.
    pub(super) fn prefetch(
        &self,
        block: &Block<'c>,
        buffer: u32,
        element: Element,
        place: ValueId,
    ) -> Result<(), EmitError> {
        let scalar = Type::new(element, 1);
        let place = self.address(block, buffer, &Address::Contiguous(place), scalar, false)?;
        let attributes = [
            self.named("rw", "0 : i32")?,
            self.named("hint", "3 : i32")?,
            self.named("cache", "1 : i32")?,
        ];
        self.effect(block, "llvm.intr.prefetch", &[place], &attributes)
    }

    fn convert(
        &self,
        block: &Block<'c>,
        how: Conversion,
        a: ValueId,
        ty: Type,
    ) -> Result<Raw, EmitError> {
        let result = self.attributes.of(ty)?;
        let from = self.type_of(a)?;
        let value = self.value(a)?;
        let half = |element: &str| match ty.lanes {
            1 => self.attributes.ty(element),
            lanes => self.attributes.ty(&format!("vector<{lanes}x{element}>")),
        };
        let name = match how {
            Conversion::SignExtend => "arith.extsi",
            Conversion::ZeroExtend => "arith.extui",
            Conversion::Truncate => "arith.trunci",
            Conversion::SignedToFloat => "arith.sitofp",
            Conversion::UnsignedToFloat => "arith.uitofp",
            Conversion::FloatToFloat if ty.element == Element::F64 => "arith.extf",
            Conversion::FloatToFloat => "arith.truncf",
            Conversion::Bits => "arith.bitcast",
            Conversion::HalfToSingle => {
                let bits = self.one(block, "arith.bitcast", &[value], half("f16")?, &[])?;
                return self.one(block, "arith.extf", &[bits], result, &[]);
            }
            Conversion::SingleToHalf => {
                let short = self.one(block, "arith.truncf", &[value], half("f16")?, &[])?;
                return self.one(block, "arith.bitcast", &[short], result, &[]);
            }
            Conversion::FloatToSigned => return self.to_integer(block, value, from, ty, true),
            Conversion::FloatToUnsigned => return self.to_integer(block, value, from, ty, false),
        };
        self.one(block, name, &[value], result, &[])
    }
}

/// How LLVM names a type in an overloaded intrinsic.
pub(super) fn overload(ty: Type) -> String {
    match ty.lanes {
        1 => element_name(ty.element).to_owned(),
        lanes => format!("v{lanes}{}", element_name(ty.element)),
    }
}

const fn binary_name(f: BinaryOp, element: Element) -> &'static str {
    match (f, element.is_float()) {
        (BinaryOp::Add, true) => "arith.addf",
        (BinaryOp::Add, false) => "arith.addi",
        (BinaryOp::Sub, true) => "arith.subf",
        (BinaryOp::Sub, false) => "arith.subi",
        (BinaryOp::Mul, true) => "arith.mulf",
        (BinaryOp::Mul, false) => "arith.muli",
        (BinaryOp::Div, _) => "arith.divf",
        (BinaryOp::DivSigned, _) => "arith.divsi",
        (BinaryOp::DivUnsigned, _) => "arith.divui",
        (BinaryOp::RemSigned, _) => "arith.remsi",
        (BinaryOp::RemUnsigned, _) => "arith.remui",
        (BinaryOp::And, _) => "arith.andi",
        (BinaryOp::Or, _) => "arith.ori",
        (BinaryOp::Xor, _) => "arith.xori",
        (BinaryOp::ShiftLeft, _) => "arith.shli",
        (BinaryOp::ShiftRight, _) => "arith.shrsi",
        (BinaryOp::ShiftRightLogical, _) => "arith.shrui",
        (BinaryOp::Min, _) => "arith.minimumf",
        (BinaryOp::Max, _) => "arith.maximumf",
        (BinaryOp::MinSigned, _) => "arith.minsi",
        (BinaryOp::MaxSigned, _) => "arith.maxsi",
        (BinaryOp::MinUnsigned, _) => "arith.minui",
        (BinaryOp::MaxUnsigned, _) => "arith.maxui",
    }
}

/// The comparison and its number in MLIR's enumeration.
pub(super) const fn predicate_code(predicate: Predicate, float: bool) -> (&'static str, u32) {
    if float {
        let number = match predicate {
            Predicate::Equal => 1,
            Predicate::Greater | Predicate::GreaterUnsigned => 2,
            Predicate::GreaterEqual | Predicate::GreaterEqualUnsigned => 3,
            Predicate::Less | Predicate::LessUnsigned => 4,
            Predicate::LessEqual | Predicate::LessEqualUnsigned => 5,
            Predicate::NotEqual => 13,
            Predicate::Unordered => 14,
        };
        return ("arith.cmpf", number);
    }
    let number = match predicate {
        Predicate::Equal => 0,
        // No integers are unordered: compared with itself, none differs.
        Predicate::NotEqual | Predicate::Unordered => 1,
        Predicate::Less => 2,
        Predicate::LessEqual => 3,
        Predicate::Greater => 4,
        Predicate::GreaterEqual => 5,
        Predicate::LessUnsigned => 6,
        Predicate::LessEqualUnsigned => 7,
        Predicate::GreaterUnsigned => 8,
        Predicate::GreaterEqualUnsigned => 9,
    };
    ("arith.cmpi", number)
}

const fn reduction_kind(f: BinaryOp) -> Option<&'static str> {
    Some(match f {
        BinaryOp::Add => "add",
        BinaryOp::Mul => "mul",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Xor => "xor",
        BinaryOp::Min => "minimumf",
        BinaryOp::Max => "maximumf",
        BinaryOp::MinSigned => "minsi",
        BinaryOp::MaxSigned => "maxsi",
        BinaryOp::MinUnsigned => "minui",
        BinaryOp::MaxUnsigned => "maxui",
        _ => return None,
    })
}
