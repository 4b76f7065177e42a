//! `wgmma` on every type of element, on tiles without swizzle that are laid out by hand.
//!
//! Invariant: the layout is that of core matrices: eight lines of sixteen bytes, one after another.

use crate::launcher::{Draw, HEAD, numbered};
use kiln_ptx_emulator::{Argument, Device, Fault, Launch, Limits, Module};

const N: usize = 16;

struct Case {
    types: &'static str,
    bits: usize,
    encode_a: fn(f64) -> u64,
    encode_b: fn(f64) -> u64,
    decode: fn(u32) -> f64,
    /// What follows the descriptors, and whether A is negated and transposed.
    flags: &'static str,
    sign: f64,
    transposed: (bool, bool),
    unsigned: bool,
}

fn f16(x: f64) -> u64 {
    if x == 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    bits >> 63 << 15 | (((bits >> 52 & 0x7ff) as i64 - 1008) as u64) << 10 | bits >> 42 & 0x3ff
}

fn half(bits: u32) -> f64 {
    let bits = bits & 0xffff;
    let magnitude = match bits >> 10 & 31 {
        0 => f64::from(bits & 0x3ff) / 16777216.0,
        e => f64::from(1024 + (bits & 0x3ff)) * 2f64.powi(e as i32 - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn tf32(x: f64) -> u64 {
    // Bits below the thirteenth are not looked at.
    u64::from((x as f32).to_bits() | 0x1fff)
}

fn e4m3(x: f64) -> u64 {
    if x == 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    bits >> 63 << 7 | (((bits >> 52 & 0x7ff) as i64 - 1016) as u64) << 3 | bits >> 49 & 7
}

fn e5m2(x: f64) -> u64 {
    f16(x) >> 8
}

fn byte(x: f64) -> u64 {
    u64::from(x as i8 as u8)
}

fn single(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits))
}

fn integer(bits: u32) -> f64 {
    f64::from(bits as i32)
}

const PLAIN: Case = Case {
    types: "f32.f16.f16",
    bits: 16,
    encode_a: f16,
    encode_b: f16,
    decode: single,
    flags: ", 1, 1, 0, 0",
    sign: 1.0,
    transposed: (false, false),
    unsigned: false,
};

fn cases() -> Vec<Case> {
    vec![
        PLAIN,
        Case { flags: ", -1, 1, 0, 0", sign: -1.0, ..PLAIN },
        Case { flags: ", -1, -1, 1, 0", transposed: (true, false), ..PLAIN },
        Case { flags: ", 1, 1, 0, 1", transposed: (false, true), ..PLAIN },
        Case { flags: ", 1, 1, 1, 1", transposed: (true, true), ..PLAIN },
        Case { types: "f16.f16.f16", decode: half, ..PLAIN },
        Case {
            types: "f32.tf32.tf32",
            bits: 32,
            encode_a: tf32,
            encode_b: tf32,
            flags: ", 1, 1",
            ..PLAIN
        },
        Case {
            types: "f32.e4m3.e4m3",
            bits: 8,
            encode_a: e4m3,
            encode_b: e4m3,
            flags: ", 1, 1",
            ..PLAIN
        },
        Case {
            types: "f32.e5m2.e4m3",
            bits: 8,
            encode_a: e5m2,
            encode_b: e4m3,
            flags: ", 1, -1",
            sign: -1.0,
            ..PLAIN
        },
        Case {
            types: "s32.s8.s8",
            bits: 8,
            encode_a: byte,
            encode_b: byte,
            decode: integer,
            flags: "",
            ..PLAIN
        },
        Case {
            types: "s32.u8.s8",
            bits: 8,
            encode_a: byte,
            encode_b: byte,
            decode: integer,
            flags: "",
            unsigned: true,
            ..PLAIN
        },
    ]
}

/// The bytes of a tile of `lines` by `k`. Without transposition lines of 16 bytes of k are side by side, 128 bytes on
/// are the next 16 bytes of k, and 256 the next eight lines. Transposed, k counts the lines.
fn tile(
    matrix: &[f64],
    lines: usize,
    k: usize,
    bits: usize,
    encode: fn(f64) -> u64,
    transposed: bool,
) -> Vec<u8> {
    let (size, each) = (bits / 8, 128 / bits);
    let mut out = vec![0; lines * k * size];
    for line in 0..lines {
        for i in 0..k {
            let at = if transposed {
                line % each * size + i % 8 * 16 + i / 8 * 128 + line / each * 256
            } else {
                i % each * size + line % 8 * 16 + i / each * 128 + line / 8 * 256
            };
            out[at..at + size].copy_from_slice(&encode(matrix[line * k + i]).to_le_bytes()[..size]);
        }
    }
    out
}

fn run(case: &Case) -> Result<(Vec<f64>, Vec<f64>), Fault> {
    let k = 256 / case.bits;
    let mut draw = Draw(21);
    let mut number = |unsigned: bool| if unsigned { draw.below(5) as f64 } else { draw.small() };
    let a: Vec<f64> = (0..64 * k).map(|_| number(case.unsigned)).collect();
    let b: Vec<f64> = (0..N * k).map(|_| number(false)).collect();
    let mut image = tile(&a, 64, k, case.bits, case.encode_a, case.transposed.0);
    let b_at = image.len();
    image.extend(tile(&b, N, k, case.bits, case.encode_b, case.transposed.1));
    let halves = case.types.starts_with("f16");
    let registers = if halves { N / 4 } else { N / 2 };
    let list: Vec<String> = (0..registers).map(|i| format!("%c{i}")).collect();
    // Leading 128 and stride 256 bytes; 1024 is where shared variables begin, so addresses are not 0.
    let fixed: u64 = (128 / 16) << 16 | (256 / 16) << 32;
    let stores: String =
        (0..registers).map(|i| format!("st.global.b32 [%o+{}], %c{i};\n", 4 * i)).collect();
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n.reg .pred %p1, %pw;\n.reg .b32 %t, %s, %b, %x;\n.reg .b32 %c<{registers}>;\n\
         .reg .b64 %in, %o, %y, %da, %db;\n.shared .align 128 .b8 tile[{}];\n.shared .align 8 .b64 barrier;\nld.param.u64 %in, [in];\nld.param.u64 %o, [out];\n\
         mov.u32 %t, %tid.x;\nsetp.eq.u32 %p1, %t, 0;\nmov.u32 %s, tile;\nmov.u32 %b, barrier;\n@%p1 mbarrier.init.shared.b64 [%b], 1;\nfence.proxy.async;\nbar.sync 0;\n\
         @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%b], {0};\n\
         @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%in], {0}, [%b];\n\
         W: mbarrier.try_wait.parity.shared.b64 %pw, [%b], 0;\n@!%pw bra W;\nshr.u32 %x, %s, 4;\ncvt.u64.u32 %da, %x;\nor.b64 %da, %da, {fixed};\nadd.u64 %db, %da, {};\n\
         wgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned.m64n{N}k{k}.{} {{{}}}, %da, %db, 0{};\nwgmma.commit_group.sync.aligned;\n\
         wgmma.wait_group.sync.aligned 0;\nmul.wide.u32 %y, %t, {};\nadd.u64 %o, %o, %y;\n{stores}ret;\n}}\n",
        image.len(),
        b_at / 16,
        case.types,
        list.join(", "),
        case.flags,
        4 * registers,
    );
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{}", numbered(&text)));
    let mut device = Device::new(Limits::default());
    let input = device.allocate(image.len() as u64).unwrap();
    device.write(input, &image).unwrap();
    let bytes = 128 * 4 * registers as u64;
    let out = device.allocate(bytes).unwrap();
    device.launch(
        &module,
        "k",
        &Launch::new(1, 128),
        &[Argument::Address(input), Argument::Address(out)],
    )?;
    let words: Vec<u32> = device
        .read(out, bytes)
        .unwrap()
        .chunks_exact(4)
        .map(|c| u32::from_le_bytes(c.try_into().unwrap()))
        .collect();
    let (mut got, mut expected) = (Vec::new(), Vec::new());
    for thread in 0..128 {
        for i in 0..N / 2 {
            let word = if halves {
                words[thread * registers + i / 2] >> (16 * (i % 2))
            } else {
                words[thread * registers + i]
            };
            got.push((case.decode)(word));
            // PTX ISA, Register Fragments for wgmma, accumulator D.
            let row = 16 * (thread / 32) + thread % 32 / 4 + 8 * (i / 2 % 2);
            let column = 8 * (i / 4) + thread % 4 * 2 + i % 2;
            expected
                .push(case.sign * (0..k).map(|x| a[row * k + x] * b[column * k + x]).sum::<f64>());
        }
    }
    Ok((got, expected))
}

#[test]
fn every_type_of_element() {
    for case in cases() {
        let (got, expected) = run(&case).unwrap_or_else(|f| panic!("{}: {f}", case.types));
        assert_eq!(got, expected, "{}{}", case.types, case.flags);
    }
}
