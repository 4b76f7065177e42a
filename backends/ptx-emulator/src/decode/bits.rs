//! Instructions on fields, bits and bytes of a word, as functions on scalars (PTX ISA, bfe, bfi, prmt, fns, dp4a, shf).
//!
//! Invariant: operands and results are zero-extended bits.

use crate::lanes::{Ternary, three};
use crate::syntax::{low_bits, sign_extend};

/// `bfe`: a field, with its sign spread where the type has one (PTX ISA, bfe).
pub(crate) fn extract(a: u64, position: u64, length: u64, bits: u32, signed: bool) -> u64 {
    let (position, length) = ((position & 0xff) as u32, (length & 0xff) as u32);
    if length == 0 {
        return 0;
    }
    let a = if signed { sign_extend(a, bits) } else { a };
    let shifted = if !signed && position >= bits {
        0
    } else if signed {
        ((a as i64) >> position.min(63)) as u64
    } else {
        a >> position
    };
    // The sign is that of the field's last bit, or of the value's where the field goes beyond.
    let kept = if length >= 64 {
        shifted
    } else if signed {
        sign_extend(shifted, length)
    } else {
        shifted & low_bits(length)
    };
    kept & low_bits(bits)
}

/// `bfi`.
pub(crate) fn insert(field: u64, into: u64, position: u64, length: u64, bits: u32) -> u64 {
    let (position, length) = ((position & 0xff) as u32, (length & 0xff) as u32);
    if position >= bits {
        return into;
    }
    let mask = (low_bits(length) << position) & low_bits(bits);
    into & !mask | (field << position) & mask
}

/// `prmt` in its default mode.
pub(crate) fn permute(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = ((b & 0xffff_ffff) << 32 | a & 0xffff_ffff).to_le_bytes();
    let mut out = 0;
    for i in 0..4 {
        let nibble = selector >> (4 * i) & 0xf;
        let byte = bytes[(nibble & 7) as usize];
        let byte = if nibble & 8 != 0 { ((byte as i8) >> 7) as u8 } else { byte };
        out |= u64::from(byte) << (8 * i);
    }
    out
}

/// The modes of `prmt` that select all bytes at once.
pub(crate) fn permute_mode(mode: &str, c: u64) -> u64 {
    let pick = (c & 3) as usize;
    let table: [u64; 4] = match mode {
        "f4e" => [0x3210, 0x4321, 0x5432, 0x6543],
        "b4e" => [0x5670, 0x6701, 0x7012, 0x0123],
        "rc8" => [0x0000, 0x1111, 0x2222, 0x3333],
        "ecl" => [0x3210, 0x3211, 0x3222, 0x3333],
        "ecr" => [0x0000, 0x1110, 0x2210, 0x3210],
        _ => [0x1010, 0x3232, 0x1010, 0x3232],
    };
    table[pick]
}

/// `fns`: the n-th set bit from a base, upwards or downwards.
pub(crate) fn find_nth_set(mask: u64, base: u64, offset: u64) -> u64 {
    let (mask, offset) = (mask as u32, offset as u32 as i32);
    let base = (base as u32).min(31) as i32;
    if offset == 0 {
        return if mask >> base & 1 == 1 { base as u64 } else { 0xffff_ffff };
    }
    let step = if offset > 0 { 1 } else { -1 };
    let mut left = offset.unsigned_abs();
    let mut at = base;
    while (0..32).contains(&at) {
        if mask >> at & 1 == 1 {
            left -= 1;
            if left == 0 {
                return at as u64;
            }
        }
        at += step;
    }
    0xffff_ffff
}

/// The sum of four products of bytes.
pub(crate) fn dot4(a: u64, b: u64, c: u64, signed_a: bool, signed_b: bool) -> u64 {
    let byte = |x: u64, i: u32, signed: bool| {
        let raw = (x >> (8 * i)) as u8;
        if signed { i64::from(raw as i8) } else { i64::from(raw) }
    };
    let sum: i64 = (0..4).map(|i| byte(a, i, signed_a) * byte(b, i, signed_b)).sum();
    (sum as u32).wrapping_add(c as u32) as u64
}

/// The sum of two products of halves of `a` with bytes of `b`.
pub(crate) fn dot2(a: u64, b: u64, c: u64, signed_a: bool, signed_b: bool, high: bool) -> u64 {
    let b = if high { b >> 16 } else { b };
    let mut sum = 0i64;
    for i in 0..2 {
        let x = (a >> (16 * i)) as u16;
        let y = (b >> (8 * i)) as u8;
        let x = if signed_a { i64::from(x as i16) } else { i64::from(x) };
        let y = if signed_b { i64::from(y as i8) } else { i64::from(y) };
        sum += x * y;
    }
    (sum as u32).wrapping_add(c as u32) as u64
}

pub(crate) fn funnel(name: (bool, bool)) -> Ternary {
    match name {
        // Left, wrapping and clamping; right, likewise (PTX ISA, shf).
        (true, true) => three!(a, b, c => ((b << 32 | a) << (c & 31) >> 32) & 0xffff_ffff),
        (true, false) => {
            three!(a, b, c => if c as u32 >= 32 { a } else { ((b << 32 | a) << (c & 31) >> 32) & 0xffff_ffff })
        }
        (false, true) => three!(a, b, c => ((b << 32 | a) >> (c & 31)) & 0xffff_ffff),
        (false, false) => {
            three!(a, b, c => if c as u32 >= 32 { b } else { ((b << 32 | a) >> (c & 31)) & 0xffff_ffff })
        }
    }
}
