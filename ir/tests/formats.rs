//! Floats of at most 8 bits against the tables of ml_dtypes, which `scripts/formats.py` wrote.
//!
//! Invariant: every code is looked at, and both sides of every place where the conversion of a
//! binary32 changes, of either sign; as conversion is monotonous, that is every binary32.

use kiln_ir::Op;
use kiln_ir::op::Cast;
use kiln_tensor::{DType, SymbolValues, Tensor};

fn cast(x: &Tensor, to: DType) -> Tensor {
    let op = Op::from(Cast { to });
    op.evaluate(std::slice::from_ref(x), &[], &SymbolValues::new()).unwrap().pop().unwrap()
}

fn code(bits: u32, to: DType) -> u8 {
    cast(&Tensor::scalar(f32::from_bits(bits)).unwrap(), to).bytes()[0]
}

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

fn pairs(text: &str) -> impl Iterator<Item = (u32, u8)> {
    text.split(' ').map(|pair| {
        let (bits, code) = pair.split_once(':').unwrap();
        (hex(bits), hex(code) as u8)
    })
}

#[test]
fn conversions_are_those_of_ml_dtypes() {
    let mut lines = 0;
    for line in include_str!("formats.txt").lines() {
        lines += 1;
        let [what, name, rest] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let dtype: DType = name.parse().unwrap();
        match what {
            "decode" => {
                let codes: Vec<u8> = (0..rest.split(' ').count()).map(|code| code as u8).collect();
                assert_eq!(codes.len(), 1 << dtype.bits());
                let codes = Tensor::from_bytes(dtype, vec![codes.len()], &codes).unwrap();
                let numbers = cast(&codes, DType::F32).to_vec::<f32>().unwrap();
                for (code, (number, expected)) in numbers.iter().zip(rest.split(' ')).enumerate() {
                    let same = match expected {
                        "nan" => number.is_nan(),
                        bits => number.to_bits() == hex(bits),
                    };
                    assert!(same, "{name} {code:#x} is {number}");
                }
            }
            "encode" => {
                let format = dtype.format().unwrap();
                let mut last = 0;
                for (bits, expected) in pairs(rest) {
                    let number = f32::from_bits(bits);
                    assert_eq!(code(bits, dtype), expected, "{name} of {number:e}");
                    assert_eq!(code(bits - 1, dtype), last, "{name} just below {number:e}");
                    let minus = code(bits | 1 << 31, dtype);
                    assert_eq!(minus, expected | format.sign(), "{name} of -{number:e}");
                    last = expected;
                }
                assert_eq!(code(f32::INFINITY.to_bits(), dtype), last, "{name} of infinity");
            }
            _ => {
                for (bits, expected) in pairs(rest) {
                    assert_eq!(code(bits, dtype), expected, "{name} of {}", f32::from_bits(bits));
                }
            }
        }
    }
    assert_eq!(lines, 22);
}

#[test]
fn an_f64_is_rounded_once() {
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.format().is_some()) {
        let one = cast(&Tensor::scalar(1.0f64).unwrap(), dtype).bytes()[0];
        let step = dtype.decode(one + 1).unwrap() - 1.0;
        let above = 1.0 + step / 2.0 + 2f64.powi(-50);
        assert_eq!(cast(&Tensor::scalar(above).unwrap(), dtype).bytes()[0], one + 1, "{dtype}");
        let tie = 1.0 + step / 2.0;
        assert_eq!(cast(&Tensor::scalar(tie).unwrap(), dtype).bytes()[0], one + one % 2, "{dtype}");
    }
}
