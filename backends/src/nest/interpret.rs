//! Runs a nest on the host, slowly, checking every access.
//!
//! Invariant: no access outside a buffer goes unnoticed; what code generators make of a nest must
//! agree with this up to the rounding of reductions.

use super::{
    Address, BinaryOp, Block, Conversion, Element, GROUP, Nest, Op, Place, Predicate, Stmt, Type,
    UnaryOp, ValueId,
};
use half::f16;
use kiln_tensor::{DimError, SymbolValues};
use thiserror::Error;

/// What a nest did wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InterpretError {
    /// An access outside its buffer.
    #[error("element {element} of `{buffer}`, which has {length}, is accessed")]
    OutOfBounds {
        /// The buffer.
        buffer: String,
        /// The element.
        element: i64,
        /// Elements that it has.
        length: i64,
    },
    /// An argument does not fit the nest.
    #[error("argument {0} is missing or too short")]
    Argument(usize),
    /// An integer division that would fault.
    #[error("division {0:?} by {1}")]
    Division(BinaryOp, i64),
    /// The nest uses a value or type where it cannot be.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A size has no value.
    #[error(transparent)]
    Size(#[from] DimError),
}

type Lanes = Vec<u64>;

struct Machine<'a> {
    nest: &'a Nest,
    values: Vec<Lanes>,
    buffers: &'a mut [Vec<u8>],
    scratch: Vec<u8>,
    /// First element and length of each buffer.
    extents: Vec<(i64, i64)>,
    params: &'a [i64],
    tasks: [i64; 2],
}

/// Runs the tasks `begin..end`. `buffers` holds one for each operand that is bound, in order;
/// `params` the size parameters. Scratch memory starts as garbage.
pub fn interpret(
    nest: &Nest,
    buffers: &mut [Vec<u8>],
    params: &[i64],
    begin: i64,
    end: i64,
) -> Result<(), InterpretError> {
    let sizes: SymbolValues = nest.params.iter().cloned().zip(params.iter().copied()).collect();
    let mut extents = Vec::with_capacity(nest.buffers.len());
    for buffer in &nest.buffers {
        let start = match &buffer.place {
            Place::Scratch { start } => start.evaluate(&sizes)?,
            Place::Bound { .. } => 0,
        };
        extents.push((start, buffer.length.evaluate(&sizes)?));
    }
    let scratch = usize::try_from(nest.scratch.evaluate(&sizes)?).unwrap_or(0);
    let mut machine = Machine {
        nest,
        values: vec![Lanes::new(); nest.types.len()],
        buffers,
        scratch: vec![0xa5; scratch],
        extents,
        params,
        tasks: [begin, end],
    };
    machine.block(&nest.body)
}

impl Machine<'_> {
    fn get(&self, value: ValueId) -> Result<&Lanes, InterpretError> {
        match self.values.get(value.0 as usize) {
            Some(lanes) if !lanes.is_empty() => Ok(lanes),
            _ => Err(InterpretError::Malformed(format!("{value} is used before it is defined"))),
        }
    }

    fn index(&self, value: ValueId) -> Result<i64, InterpretError> {
        self.get(value)?.first().map(|bits| *bits as i64).ok_or_else(|| malformed("an index"))
    }

    fn ty(&self, value: ValueId) -> Result<Type, InterpretError> {
        self.nest.type_of(value).ok_or_else(|| malformed("a value without type"))
    }

    fn set(&mut self, value: ValueId, lanes: Lanes) -> Result<(), InterpretError> {
        let ty = self.ty(value)?;
        if lanes.len() != ty.lanes as usize {
            return Err(InterpretError::Malformed(format!("{value} is no {ty}")));
        }
        self.values[value.0 as usize] = lanes;
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), InterpretError> {
        for statement in block {
            match statement {
                Stmt::Let(value, op) => {
                    let lanes = self.op(op, self.ty(*value)?)?;
                    self.set(*value, lanes)?;
                }
                Stmt::Store(store) => {
                    let value = self.get(store.value)?.clone();
                    let places = self.places(&store.address, value.len())?;
                    let mask = self.mask(store.mask, value.len())?;
                    for lane in (0..value.len()).filter(|lane| mask[*lane]) {
                        let bits = value[lane];
                        let bytes = self.memory(store.buffer, places[lane])?;
                        let length = bytes.len();
                        bytes.copy_from_slice(&bits.to_le_bytes()[..length]);
                    }
                }
                Stmt::Prefetch { place, .. } => {
                    self.index(*place)?;
                }
                Stmt::For(l) => {
                    let (mut at, to) = (self.index(l.from)?, self.index(l.to)?);
                    let mut carried = Vec::with_capacity(l.carried.len());
                    for value in &l.carried {
                        carried.push(self.get(value.initial)?.clone());
                    }
                    while at < to {
                        self.set(l.variable, vec![at as u64])?;
                        for (value, lanes) in l.carried.iter().zip(carried.drain(..)) {
                            self.set(value.inside, lanes)?;
                        }
                        self.block(&l.body)?;
                        for value in &l.carried {
                            carried.push(self.get(value.next)?.clone());
                        }
                        at += l.step.max(1);
                    }
                    for (value, lanes) in l.carried.iter().zip(carried) {
                        self.set(value.result, lanes)?;
                    }
                }
                Stmt::If(branch) => {
                    let taken = self.index(branch.condition)? & 1 == 1;
                    self.block(if taken { &branch.then } else { &branch.otherwise })?;
                    for chosen in &branch.chosen {
                        let from = if taken { chosen.then } else { chosen.otherwise };
                        let lanes = self.get(from)?.clone();
                        self.set(chosen.result, lanes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn mask(&self, mask: Option<ValueId>, lanes: usize) -> Result<Vec<bool>, InterpretError> {
        match mask {
            None => Ok(vec![true; lanes]),
            Some(mask) => {
                let mask = self.get(mask)?;
                if mask.len() != lanes {
                    return Err(malformed("a mask of other lanes"));
                }
                Ok(mask.iter().map(|bit| bit & 1 == 1).collect())
            }
        }
    }

    fn places(&self, address: &Address, lanes: usize) -> Result<Vec<i64>, InterpretError> {
        Ok(match *address {
            Address::Contiguous(start) => {
                let start = self.index(start)?;
                (0..lanes as i64).map(|lane| start + lane).collect()
            }
            Address::Strided(start, stride) => {
                let (start, stride) = (self.index(start)?, self.index(stride)?);
                (0..lanes as i64).map(|lane| start + lane * stride).collect()
            }
            Address::Scattered(offsets) => {
                let offsets = self.get(offsets)?;
                if offsets.len() != lanes {
                    return Err(malformed("offsets of other lanes"));
                }
                offsets.iter().map(|bits| *bits as i64).collect()
            }
        })
    }

    fn memory(&mut self, buffer: u32, element: i64) -> Result<&mut [u8], InterpretError> {
        let number = buffer as usize;
        let about = self.nest.buffers.get(number).ok_or_else(|| malformed("no such buffer"))?;
        let (start, length) = self.extents[number];
        if element < start || element - start >= length {
            let (buffer, element) = (about.name.clone(), element - start);
            return Err(InterpretError::OutOfBounds { buffer, element, length });
        }
        let size = about.dtype.size();
        let from = element as usize * size;
        let (bytes, argument) = match about.place {
            Place::Bound { slot, .. } => (self.buffers.get_mut(slot as usize), slot as usize),
            Place::Scratch { .. } => (Some(&mut self.scratch), usize::MAX),
        };
        bytes
            .and_then(|bytes| bytes.get_mut(from..from + size))
            .ok_or(InterpretError::Argument(argument))
    }

    fn op(&mut self, op: &Op, ty: Type) -> Result<Lanes, InterpretError> {
        let count = ty.lanes as usize;
        let each = |lanes: &Lanes, f: &dyn Fn(u64) -> u64| -> Lanes {
            lanes.iter().map(|bits| f(*bits)).collect()
        };
        Ok(match op {
            Op::Begin => vec![self.tasks[0] as u64],
            Op::End => vec![self.tasks[1] as u64],
            Op::Param(number) => {
                let value = self.params.get(*number as usize);
                vec![*value.ok_or_else(|| malformed("a parameter is missing"))? as u64]
            }
            Op::Constant(bits) => vec![*bits; count],
            Op::Splat(a) => vec![self.get(*a)?[0]; count],
            Op::LaneNumbers => (0..count as u64).collect(),
            Op::FirstLanes(bound) => {
                let bound = self.index(*bound)?;
                (0..count as i64).map(|lane| u64::from(lane < bound)).collect()
            }
            Op::Load { buffer, address, mask } => {
                let places = self.places(address, count)?;
                let mask = self.mask(*mask, count)?;
                let mut lanes = vec![0; count];
                for lane in (0..count).filter(|lane| mask[*lane]) {
                    let bytes = self.memory(*buffer, places[lane])?;
                    let mut wide = [0; 8];
                    wide[..bytes.len()].copy_from_slice(bytes);
                    lanes[lane] = u64::from_le_bytes(wide);
                }
                lanes
            }
            Op::Unary(f, a) => each(self.get(*a)?, &|bits| unary(*f, bits, ty.element)),
            Op::Binary(f, a, b) => {
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                same_lanes(a, b)?;
                let pairs = a.iter().zip(b);
                pairs.map(|(a, b)| binary(*f, *a, *b, ty.element)).collect::<Result<_, _>>()?
            }
            Op::Fma(a, b, c) => {
                let (a, b, c) = (self.get(*a)?, self.get(*b)?, self.get(*c)?);
                same_lanes(a, b)?;
                same_lanes(a, c)?;
                let triples = a.iter().zip(b).zip(c);
                triples
                    .map(|((a, b), c)| match ty.element {
                        Element::F64 => {
                            let [a, b, c] = [*a, *b, *c].map(f64::from_bits);
                            a.mul_add(b, c).to_bits()
                        }
                        _ => {
                            let [a, b, c] = [*a, *b, *c].map(single);
                            u64::from(a.mul_add(b, c).to_bits())
                        }
                    })
                    .collect()
            }
            Op::Repeat(a) => self.get(*a)?.iter().copied().cycle().take(count).collect(),
            Op::Dot { sum, unsigned, signed } => {
                let (sum, a, b) = (self.get(*sum)?, self.get(*unsigned)?, self.get(*signed)?);
                same_lanes(a, b)?;
                let groups = a.chunks(GROUP).zip(b.chunks(GROUP));
                let products = groups.map(|(a, b)| a.iter().zip(b).map(product_of_bytes).sum());
                sum.iter().zip(products).map(|(sum, products)| added(*sum, products)).collect()
            }
            Op::Compare(predicate, a, b) => {
                let element = self.ty(*a)?.element;
                let (a, b) = (self.get(*a)?, self.get(*b)?);
                same_lanes(a, b)?;
                let pairs = a.iter().zip(b);
                pairs.map(|(a, b)| u64::from(compare(*predicate, *a, *b, element))).collect()
            }
            Op::Select(mask, a, b) => {
                let (mask, a, b) = (self.get(*mask)?, self.get(*a)?, self.get(*b)?);
                same_lanes(mask, a)?;
                same_lanes(a, b)?;
                let lanes = mask.iter().zip(a).zip(b);
                lanes.map(|((mask, a), b)| if mask & 1 == 1 { *a } else { *b }).collect()
            }
            Op::Convert(how, a) => {
                let from = self.ty(*a)?.element;
                each(self.get(*a)?, &|bits| convert(*how, bits, from, ty.element))
            }
            Op::Reduce(f, a) => {
                let lanes = self.get(*a)?;
                let mut sum = lanes[0];
                for lane in &lanes[1..] {
                    sum = binary(*f, sum, *lane, ty.element)?;
                }
                vec![sum]
            }
        })
    }
}

fn malformed(what: &str) -> InterpretError {
    InterpretError::Malformed(what.to_owned())
}

fn same_lanes(a: &Lanes, b: &Lanes) -> Result<(), InterpretError> {
    if a.len() == b.len() { Ok(()) } else { Err(malformed("operands of other lanes")) }
}

/// Of a byte without sign and one with.
fn product_of_bytes((a, b): (&u64, &u64)) -> i64 {
    cut(*a, Element::I8) as i64 * signed(*b, Element::I8)
}

fn added(sum: u64, products: i64) -> u64 {
    cut(sum.wrapping_add(products as u64), Element::I32)
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn as_float(bits: u64, element: Element) -> f64 {
    match element {
        Element::F64 => f64::from_bits(bits),
        _ => f64::from(single(bits)),
    }
}

fn of_float(value: f64, element: Element) -> u64 {
    match element {
        Element::F64 => value.to_bits(),
        _ => u64::from((value as f32).to_bits()),
    }
}

fn signed(bits: u64, element: Element) -> i64 {
    let shift = 64 - element.bits();
    ((bits << shift) as i64) >> shift
}

fn cut(bits: u64, element: Element) -> u64 {
    let shift = 64 - element.bits();
    (bits << shift) >> shift
}

fn unary(f: UnaryOp, bits: u64, element: Element) -> u64 {
    // Each of these is exact in f64 or, for the root, rounds correctly twice (Figueroa 1995).
    let x = as_float(bits, element);
    let result = match f {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Trunc => x.trunc(),
        UnaryOp::RoundEven => x.round_ties_even(),
    };
    of_float(result, element)
}

fn binary(f: BinaryOp, a: u64, b: u64, element: Element) -> Result<u64, InterpretError> {
    use BinaryOp::*;
    if element.is_float() {
        // Sums, products and quotients of f32 round correctly through f64.
        let (a, b) = (as_float(a, element), as_float(b, element));
        let either_nan = a.is_nan() || b.is_nan();
        let result = match f {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Min | Max if either_nan => f64::NAN,
            Min => a.min(b),
            Max => a.max(b),
            _ => return Err(malformed("an integer operation on floats")),
        };
        return Ok(of_float(result, element));
    }
    let (x, y) = (signed(a, element), signed(b, element));
    let (u, v) = (cut(a, element), cut(b, element));
    let division = || InterpretError::Division(f, y);
    let result = match f {
        Add => x.wrapping_add(y) as u64,
        Sub => x.wrapping_sub(y) as u64,
        Mul => x.wrapping_mul(y) as u64,
        DivSigned | RemSigned if y == 0 || y == -1 => return Err(division()),
        DivUnsigned | RemUnsigned if v == 0 => return Err(division()),
        DivSigned => (x / y) as u64,
        RemSigned => (x % y) as u64,
        DivUnsigned => u / v,
        RemUnsigned => u % v,
        And => u & v,
        Or => u | v,
        Xor => u ^ v,
        ShiftLeft | ShiftRight | ShiftRightLogical if v >= u64::from(element.bits()) => {
            return Err(malformed("a shift by the width or more"));
        }
        ShiftLeft => u << v,
        ShiftRight => (x >> v) as u64,
        ShiftRightLogical => u >> v,
        MinSigned => x.min(y) as u64,
        MaxSigned => x.max(y) as u64,
        MinUnsigned => u.min(v),
        MaxUnsigned => u.max(v),
        Div | Min | Max => return Err(malformed("a float operation on integers")),
    };
    Ok(cut(result, element))
}

fn compare(predicate: Predicate, a: u64, b: u64, element: Element) -> bool {
    use Predicate::*;
    let order = if element.is_float() {
        as_float(a, element).partial_cmp(&as_float(b, element))
    } else {
        match predicate {
            LessUnsigned | LessEqualUnsigned | GreaterUnsigned | GreaterEqualUnsigned => {
                Some(cut(a, element).cmp(&cut(b, element)))
            }
            _ => Some(signed(a, element).cmp(&signed(b, element))),
        }
    };
    match (predicate, order) {
        (Unordered, order) => order.is_none(),
        (NotEqual, order) => order.is_none_or(|order| order.is_ne()),
        (_, None) => false,
        (Equal, Some(order)) => order.is_eq(),
        (Less | LessUnsigned, Some(order)) => order.is_lt(),
        (LessEqual | LessEqualUnsigned, Some(order)) => order.is_le(),
        (Greater | GreaterUnsigned, Some(order)) => order.is_gt(),
        (GreaterEqual | GreaterEqualUnsigned, Some(order)) => order.is_ge(),
    }
}

fn convert(how: Conversion, bits: u64, from: Element, to: Element) -> u64 {
    match how {
        Conversion::SignExtend => cut(signed(bits, from) as u64, to),
        Conversion::ZeroExtend => cut(bits, from),
        Conversion::Truncate => cut(bits, to),
        Conversion::SignedToFloat => match to {
            Element::F64 => (signed(bits, from) as f64).to_bits(),
            _ => u64::from((signed(bits, from) as f32).to_bits()),
        },
        Conversion::UnsignedToFloat => match to {
            Element::F64 => (cut(bits, from) as f64).to_bits(),
            _ => u64::from((cut(bits, from) as f32).to_bits()),
        },
        Conversion::FloatToSigned => {
            let value = as_float(bits, from);
            let bound = 1i128 << (to.bits() - 1);
            let whole = (value as i128).clamp(-bound, bound - 1);
            cut(whole as u64, to)
        }
        Conversion::FloatToUnsigned => {
            let bound = 1i128 << to.bits();
            (as_float(bits, from) as i128).clamp(0, bound - 1) as u64
        }
        Conversion::FloatToFloat => of_float(as_float(bits, from), to),
        Conversion::Bits => bits,
        Conversion::HalfToSingle => u64::from(f16::from_bits(bits as u16).to_f32().to_bits()),
        Conversion::SingleToHalf => u64::from(f16::from_f32(single(bits)).to_bits()),
    }
}
