//! Every operation on every element, for scalars and for vectors that are short, whole, long and odd.

use super::draft::{Draft, draft};
use super::numbers::Numbers;
use super::{Run, check, dtype_of};
use crate::cranelift::translate::{compares, converts, is_associative, is_defined};
use crate::nest::{
    BinaryOp, Carried, Conversion, Element, For, Op, Predicate, Stmt, Type, UnaryOp, ValueId,
};

const ELEMENTS: [Element; 7] = [
    Element::Mask,
    Element::I8,
    Element::I16,
    Element::I32,
    Element::I64,
    Element::F32,
    Element::F64,
];

const LANES: [u32; 7] = [1, 2, 3, 4, 7, 8, 16];

const UNARY: [UnaryOp; 7] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Sqrt,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Trunc,
    UnaryOp::RoundEven,
];

const BINARY: [BinaryOp; 20] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::DivSigned,
    BinaryOp::DivUnsigned,
    BinaryOp::RemSigned,
    BinaryOp::RemUnsigned,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::ShiftLeft,
    BinaryOp::ShiftRight,
    BinaryOp::ShiftRightLogical,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::MinSigned,
    BinaryOp::MaxSigned,
    BinaryOp::MinUnsigned,
    BinaryOp::MaxUnsigned,
];

const PREDICATES: [Predicate; 11] = [
    Predicate::Equal,
    Predicate::NotEqual,
    Predicate::Less,
    Predicate::LessEqual,
    Predicate::Greater,
    Predicate::GreaterEqual,
    Predicate::LessUnsigned,
    Predicate::LessEqualUnsigned,
    Predicate::GreaterUnsigned,
    Predicate::GreaterEqualUnsigned,
    Predicate::Unordered,
];

const CONVERSIONS: [Conversion; 9] = [
    Conversion::SignExtend,
    Conversion::ZeroExtend,
    Conversion::Truncate,
    Conversion::SignedToFloat,
    Conversion::UnsignedToFloat,
    Conversion::FloatToSigned,
    Conversion::FloatToUnsigned,
    Conversion::FloatToFloat,
    Conversion::Bits,
];

/// How often each operation is run, each time on other numbers.
const ROUNDS: usize = 24;

impl Draft {
    /// Loads a value, masks as bytes that are not 0.
    fn input(&mut self, ty: Type, buffer: u32, start: ValueId) -> ValueId {
        if ty.element != Element::Mask {
            return self.load(ty, buffer, start);
        }
        let bytes = Type::new(Element::I8, ty.lanes);
        let byte = self.load(bytes, buffer, start);
        let zero = self.op(Type::new(Element::I8, 1), Op::Constant(0));
        let zero = if ty.lanes == 1 { zero } else { self.op(bytes, Op::Splat(zero)) };
        self.op(ty, Op::Compare(Predicate::NotEqual, byte, zero))
    }

    fn output(&mut self, buffer: u32, start: ValueId, value: ValueId) {
        let ty = self.types[value.0 as usize];
        if ty.element != Element::Mask {
            return self.store(buffer, start, value);
        }
        let bytes = Type::new(Element::I8, ty.lanes);
        let byte = self.op(bytes, Op::Convert(Conversion::ZeroExtend, value));
        self.store(buffer, start, byte);
    }
}

/// Runs `out = f(inputs)` over `ROUNDS` vectors in a loop. `f` gets the loaded values.
fn case(
    name: &str,
    inputs: &[Type],
    out: Type,
    mut numbers: impl FnMut(usize) -> Vec<u8>,
    f: impl FnOnce(&mut Draft, &[ValueId]) -> ValueId,
) -> Run {
    let mut nest = draft();
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    for (number, ty) in inputs.iter().enumerate() {
        nest.buffer(dtype_of(ty.element), ROUNDS * ty.lanes as usize, false);
        buffers.push(numbers(number));
    }
    let result = nest.buffer(dtype_of(out.element), ROUNDS * out.lanes as usize, true);
    buffers.push(vec![0xee; ROUNDS * out.lanes as usize * dtype_of(out.element).size()]);

    let [from, to] = [0, ROUNDS as i64].map(|bound| nest.index(bound));
    let outside = std::mem::take(&mut nest.body);
    let variable = nest.value(Type::INDEX);
    let start = |nest: &mut Draft, lanes: u32| {
        let lanes = nest.index(i64::from(lanes));
        nest.op(Type::INDEX, Op::Binary(BinaryOp::Mul, variable, lanes))
    };
    let mut values = Vec::new();
    for (number, ty) in (0u32..).zip(inputs) {
        let at = start(&mut nest, ty.lanes);
        values.push(nest.input(*ty, number, at));
    }
    let value = f(&mut nest, &values);
    let at = start(&mut nest, out.lanes);
    nest.output(result, at, value);
    let body = std::mem::replace(&mut nest.body, outside);
    let carried: Vec<Carried> = Vec::new();
    nest.body.push(Stmt::For(Box::new(For { variable, from, to, step: 1, carried, body })));
    Run::new(nest.finish(name), buffers)
}

/// Random numbers for inputs of these types.
fn random(inputs: &[Type], seed: u64) -> impl FnMut(usize) -> Vec<u8> {
    let inputs = inputs.to_vec();
    let mut numbers = Numbers(seed);
    move |number| numbers.bytes(inputs[number].element, ROUNDS * inputs[number].lanes as usize)
}

#[test]
fn unary_operations() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for element in [Element::F32, Element::F64] {
            let ty = Type::new(element, lanes);
            for op in UNARY {
                runs.push(case(&format!("{op:?}"), &[ty], ty, random(&[ty], 1), |nest, v| {
                    nest.op(ty, Op::Unary(op, v[0]))
                }));
            }
        }
    }
    check(&runs);
}

/// Operands of an operation that is not defined for all.
fn operands(op: BinaryOp, ty: Type, seed: u64) -> impl FnMut(usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let element = ty.element;
    let size = dtype_of(element).size();
    let ones = u64::MAX >> (64 - element.bits());
    move |number| {
        let count = ROUNDS * ty.lanes as usize;
        let mut one = || loop {
            let bits = numbers.bits(element);
            match op {
                BinaryOp::ShiftLeft | BinaryOp::ShiftRight | BinaryOp::ShiftRightLogical
                    if number == 1 =>
                {
                    return bits % u64::from(element.bits());
                }
                BinaryOp::DivSigned | BinaryOp::RemSigned
                    if number == 1 && (bits == 0 || bits == ones) => {}
                BinaryOp::DivUnsigned | BinaryOp::RemUnsigned if number == 1 && bits == 0 => {}
                _ => return bits,
            }
        };
        (0..count).flat_map(|_| one().to_le_bytes()[..size].to_vec()).collect()
    }
}

#[test]
fn binary_operations() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for element in ELEMENTS {
            for op in BINARY.into_iter().filter(|op| is_defined(*op, element)) {
                let ty = Type::new(element, lanes);
                let name = format!("{op:?}");
                let mut run = case(&name, &[ty, ty], ty, operands(op, ty, 2), |nest, v| {
                    nest.op(ty, Op::Binary(op, v[0], v[1]))
                });
                // The nest leaves open which zero is the lesser.
                if matches!(op, BinaryOp::Min | BinaryOp::Max) {
                    run.compare[2].1 = true;
                }
                runs.push(run);
            }
        }
    }
    check(&runs);
}

#[test]
fn shifts_by_one_amount() {
    let mut runs = Vec::new();
    for lanes in [2, 4, 16, 32] {
        for element in [Element::I8, Element::I16, Element::I32, Element::I64] {
            let ty = Type::new(element, lanes);
            for op in [BinaryOp::ShiftLeft, BinaryOp::ShiftRight, BinaryOp::ShiftRightLogical] {
                for amount in [0, 1, u64::from(element.bits()) - 1] {
                    runs.push(case(&format!("{op:?}"), &[ty], ty, random(&[ty], 3), |nest, v| {
                        let amount = nest.op(Type::new(element, 1), Op::Constant(amount));
                        let amount = nest.op(ty, Op::Splat(amount));
                        nest.op(ty, Op::Binary(op, v[0], amount))
                    }));
                }
                let scalar = Type::new(element, 1);
                let mut numbers = operands(op, ty, 4);
                let mut amounts = operands(op, scalar, 5);
                runs.push(case(
                    &format!("{op:?}"),
                    &[ty, scalar],
                    ty,
                    |number| if number == 0 { numbers(0) } else { amounts(1) },
                    |nest, v| {
                        let amount = nest.op(ty, Op::Splat(v[1]));
                        nest.op(ty, Op::Binary(op, v[0], amount))
                    },
                ));
            }
        }
    }
    check(&runs);
}

#[test]
fn comparisons() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for element in ELEMENTS {
            for predicate in PREDICATES.into_iter().filter(|p| compares(*p, element)) {
                let ty = Type::new(element, lanes);
                let out = Type::new(Element::Mask, lanes);
                let name = format!("{predicate:?}");
                runs.push(case(&name, &[ty, ty], out, random(&[ty, ty], 6), |nest, v| {
                    nest.op(out, Op::Compare(predicate, v[0], v[1]))
                }));
            }
        }
    }
    check(&runs);
}

/// A mask that was compared from values of one width selects among values of another.
#[test]
fn selections() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for compared in ELEMENTS {
            for element in ELEMENTS {
                let (from, ty) = (Type::new(compared, lanes), Type::new(element, lanes));
                let inputs = [from, from, ty, ty];
                let mask = Type::new(Element::Mask, lanes);
                runs.push(case("select", &inputs, ty, random(&inputs, 7), |nest, v| {
                    let mask = nest.op(mask, Op::Compare(Predicate::NotEqual, v[0], v[1]));
                    nest.op(ty, Op::Select(mask, v[2], v[3]))
                }));
            }
        }
    }
    check(&runs);
}

/// Masks of two widths meet.
#[test]
fn mask_logic() {
    let mut runs = Vec::new();
    let mask = |lanes| Type::new(Element::Mask, lanes);
    for lanes in LANES {
        for (a, b) in [(Element::I8, Element::F64), (Element::F64, Element::I16)] {
            let (a, b) = (Type::new(a, lanes), Type::new(b, lanes));
            let inputs = [a, a, b, b];
            for op in [BinaryOp::And, BinaryOp::Or, BinaryOp::Xor] {
                runs.push(case("masks", &inputs, mask(lanes), random(&inputs, 8), |nest, v| {
                    let a = nest.op(mask(lanes), Op::Compare(Predicate::Equal, v[0], v[1]));
                    let b = nest.op(mask(lanes), Op::Compare(Predicate::Less, v[2], v[3]));
                    nest.op(mask(lanes), Op::Binary(op, a, b))
                }));
            }
        }
    }
    check(&runs);
}

#[test]
fn conversions() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for from in ELEMENTS {
            for to in ELEMENTS {
                for how in CONVERSIONS.into_iter().filter(|how| converts(*how, from, to)) {
                    let (from, to) = (Type::new(from, lanes), Type::new(to, lanes));
                    let name = format!("{how:?}");
                    runs.push(case(&name, &[from], to, random(&[from], 9), |nest, v| {
                        nest.op(to, Op::Convert(how, v[0]))
                    }));
                }
            }
        }
    }
    check(&runs);
}

#[test]
fn fused_multiply_adds() {
    let mut runs = Vec::new();
    for lanes in LANES {
        for element in [Element::F32, Element::F64] {
            let ty = Type::new(element, lanes);
            let inputs = [ty; 3];
            runs.push(case("fma", &inputs, ty, random(&inputs, 10), |nest, v| {
                nest.op(ty, Op::Fma(v[0], v[1], v[2]))
            }));
        }
    }
    check(&runs);
}

/// On floats whose sums and products are exact, since the order is free.
#[test]
fn reductions() {
    let mut runs = Vec::new();
    for lanes in [1, 2, 3, 4, 7, 8, 16, 32] {
        for element in ELEMENTS {
            let ops = BINARY.into_iter().filter(|op| is_associative(*op));
            for op in ops.filter(|op| is_defined(*op, element)) {
                let (ty, out) = (Type::new(element, lanes), Type::new(element, 1));
                let numbers = |_| {
                    let mut numbers = Numbers(11);
                    let mut one = || match element {
                        Element::F32 => {
                            let value = [1.0f32, -1.0, 2.0, 0.5][numbers.below(4)];
                            u64::from(value.to_bits())
                        }
                        Element::F64 => [1.0f64, -1.0, 2.0, 0.5][numbers.below(4)].to_bits(),
                        _ => numbers.bits(element),
                    };
                    let size = dtype_of(element).size();
                    let count = ROUNDS * lanes as usize;
                    (0..count).flat_map(|_| one().to_le_bytes()[..size].to_vec()).collect()
                };
                runs.push(case(&format!("{op:?}"), &[ty], out, numbers, |nest, v| {
                    nest.op(out, Op::Reduce(op, v[0]))
                }));
            }
        }
    }
    check(&runs);
}

/// Constants, splats, lane numbers and first lanes.
#[test]
fn lanes_made_of_scalars() {
    let mut runs = Vec::new();
    let none = |_| Vec::new();
    for lanes in LANES {
        for element in ELEMENTS {
            let (scalar, ty) = (Type::new(element, 1), Type::new(element, lanes));
            let mut numbers = Numbers(12);
            for _ in 0..4 {
                let bits = numbers.bits(element);
                runs.push(case("constant", &[], ty, none, |nest, _| {
                    let constant = nest.op(scalar, Op::Constant(bits));
                    nest.op(ty, Op::Splat(constant))
                }));
            }
            runs.push(case("splat", &[scalar], ty, random(&[scalar], 13), |nest, v| {
                nest.op(ty, Op::Splat(v[0]))
            }));
            if !element.is_float() && element != Element::Mask {
                runs.push(case("lanes", &[], ty, none, |nest, _| nest.op(ty, Op::LaneNumbers)));
            }
        }
        let (index, out) = (Type::INDEX, Type::new(Element::Mask, lanes));
        runs.push(case("first", &[index], out, random(&[index], 14), |nest, v| {
            nest.op(out, Op::FirstLanes(v[0]))
        }));
    }
    check(&runs);
}
