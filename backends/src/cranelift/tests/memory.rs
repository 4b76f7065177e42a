//! Every kind of address, with and without masks, for every element and vectors of all kinds.

use super::draft::{Draft, draft};
use super::numbers::Numbers;
use super::{Run, check, dtype_of};
use crate::nest::{Address, BinaryOp, Element, Nest, Op, Predicate, Stmt, Store, Type, ValueId};
use kiln_tensor::Symbol;

const ELEMENTS: [Element; 6] =
    [Element::I8, Element::I16, Element::I32, Element::I64, Element::F32, Element::F64];

const LANES: [u32; 8] = [1, 2, 3, 4, 6, 8, 16, 17];

const LENGTH: usize = 200;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Contiguous,
    /// By a literal.
    Strided(i64),
    /// By a number that is known at run time only.
    StridedByParam(i64),
    Scattered,
}

const KINDS: [Kind; 6] = [
    Kind::Contiguous,
    Kind::Strided(3),
    Kind::Strided(-2),
    Kind::StridedByParam(5),
    Kind::StridedByParam(0),
    Kind::Scattered,
];

#[derive(Clone, Copy, Debug)]
enum Masked {
    No,
    /// Lanes below this number.
    First(i64),
    /// Lanes whose number is odd, in 64-bit lanes.
    Odd,
}

const MASKS: [Masked; 6] = [
    Masked::No,
    Masked::First(0),
    Masked::First(2),
    Masked::First(5),
    Masked::First(99),
    Masked::Odd,
];

impl Draft {
    /// Where lanes lie, from `start`; those that a mask leaves out are sent far away.
    fn address(&mut self, kind: Kind, start: i64, lanes: u32, mask: Option<ValueId>) -> Address {
        let first = self.index(start);
        match kind {
            Kind::Contiguous => Address::Contiguous(first),
            Kind::Strided(stride) => Address::Strided(first, self.index(stride)),
            Kind::StridedByParam(_) => Address::Strided(first, self.op(Type::INDEX, Op::Param(0))),
            Kind::Scattered => {
                let ty = Type::new(Element::I64, lanes);
                let splat = |nest: &mut Draft, value| {
                    let value = nest.index(value);
                    if lanes == 1 { value } else { nest.op(ty, Op::Splat(value)) }
                };
                let numbers = self.op(ty, Op::LaneNumbers);
                let seven = splat(self, 7);
                let spread = self.op(ty, Op::Binary(BinaryOp::Mul, numbers, seven));
                let one = splat(self, 13);
                let rest = self.op(ty, Op::Binary(BinaryOp::RemUnsigned, spread, one));
                let first = splat(self, start);
                let offsets = self.op(ty, Op::Binary(BinaryOp::Add, rest, first));
                let Some(mask) = mask else { return Address::Scattered(offsets) };
                let away = splat(self, 1 << 58);
                Address::Scattered(self.op(ty, Op::Select(mask, offsets, away)))
            }
        }
    }

    fn mask(&mut self, masked: Masked, lanes: u32) -> Option<ValueId> {
        let ty = Type::new(Element::Mask, lanes);
        match masked {
            Masked::No => None,
            Masked::First(count) => {
                let count = self.index(count);
                Some(self.op(ty, Op::FirstLanes(count)))
            }
            Masked::Odd => {
                let wide = Type::new(Element::I64, lanes);
                let numbers = self.op(wide, Op::LaneNumbers);
                let one = self.index(1);
                let one = if lanes == 1 { one } else { self.op(wide, Op::Splat(one)) };
                let low = self.op(wide, Op::Binary(BinaryOp::And, numbers, one));
                Some(self.op(ty, Op::Compare(Predicate::Equal, low, one)))
            }
        }
    }
}

/// Where the lanes start: far enough in for strides that go backwards.
const START: i64 = 67;

fn copy(element: Element, lanes: u32, from: (Kind, Masked), to: (Kind, Masked)) -> Nest {
    let mut nest = draft();
    nest.params = vec![Symbol::new("n")];
    let input = nest.buffer(dtype_of(element), LENGTH, false);
    let output = nest.buffer(dtype_of(element), LENGTH, true);
    let ty = Type::new(element, lanes);
    let mask = nest.mask(from.1, lanes);
    let address = nest.address(from.0, START, lanes, mask);
    let value = nest.op(ty, Op::Load { buffer: input, address, mask });
    let mask = nest.mask(to.1, lanes);
    let address = nest.address(to.0, START, lanes, mask);
    nest.body.push(Stmt::Store(Store { buffer: output, address, value, mask }));
    nest.finish(&format!("{from:?} to {to:?}"))
}

fn run(nest: Nest, element: Element, kinds: [Kind; 2]) -> Run {
    let mut numbers = Numbers(30);
    let buffers = vec![numbers.bytes(element, LENGTH), numbers.bytes(element, LENGTH)];
    let mut run = Run::new(nest, buffers);
    let stride = kinds.into_iter().find_map(|kind| match kind {
        Kind::StridedByParam(stride) => Some(stride),
        _ => None,
    });
    run.params = vec![stride.unwrap_or(1)];
    run
}

#[test]
fn loads() {
    let plain = (Kind::Contiguous, Masked::No);
    let mut runs = Vec::new();
    for element in ELEMENTS {
        for lanes in LANES {
            for kind in KINDS {
                for masked in MASKS {
                    let nest = copy(element, lanes, (kind, masked), plain);
                    runs.push(run(nest, element, [kind, plain.0]));
                }
            }
        }
    }
    check(&runs);
}

#[test]
fn stores() {
    let plain = (Kind::Contiguous, Masked::No);
    let mut runs = Vec::new();
    for element in ELEMENTS {
        for lanes in LANES {
            for kind in KINDS {
                for masked in MASKS {
                    let nest = copy(element, lanes, plain, (kind, masked));
                    runs.push(run(nest, element, [plain.0, kind]));
                }
            }
        }
    }
    check(&runs);
}

/// Indices as sums, with literals on either side, small and too large for an instruction.
#[test]
fn sums_as_addresses() {
    let mut runs = Vec::new();
    for literal in [-4i64, 0, 9, 1 << 33] {
        for swapped in [false, true] {
            let mut nest = draft();
            nest.params = vec![Symbol::new("m"), Symbol::new("n")];
            let input = nest.buffer(dtype_of(Element::F64), LENGTH, false);
            let output = nest.buffer(dtype_of(Element::F64), LENGTH, true);
            let terms = [0, 1].map(|param| nest.op(Type::INDEX, Op::Param(param)));
            let sum = nest.op(Type::INDEX, Op::Binary(BinaryOp::Add, terms[0], terms[1]));
            let constant = nest.index(literal);
            let (a, b) = if swapped { (constant, sum) } else { (sum, constant) };
            let at = nest.op(Type::INDEX, Op::Binary(BinaryOp::Add, a, b));
            let value = nest.load(Type::new(Element::F64, 4), input, at);
            nest.store(output, at, value);
            let mut run = run(nest.finish("sum"), Element::F64, [Kind::Contiguous; 2]);
            run.params = vec![50 - literal, 20];
            runs.push(run);
        }
    }
    check(&runs);
}
