//! `mma.sync`, `ldmatrix` and `stmatrix` against plain products, with the layouts written down from the PTX ISA.

use crate::launcher::{Draw, refused, run_with};
use kiln_ptx_emulator::Launch;

/// Row and column of element `i` in a lane of group `g`, thread `t` of its group.
type Layout = fn(g: usize, t: usize, i: usize) -> (usize, usize);

struct Case {
    opcode: &'static str,
    shape: [usize; 3],
    /// Elements of a lane, their bits and layout, and how a value is written.
    a: (usize, u32, Layout),
    b: (usize, u32, Layout),
    c: (usize, u32, Layout),
    encode: fn(f64) -> u64,
    encode_c: fn(f64) -> u64,
    register: &'static str,
    register_c: &'static str,
}

fn f16(x: f64) -> u64 {
    // Small integers only.
    if x == 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1023 + 15;
    bits >> 63 << 15 | (exponent as u64) << 10 | bits >> 42 & 0x3ff
}

fn bf16(x: f64) -> u64 {
    u64::from((x as f32).to_bits() >> 16)
}

fn f32b(x: f64) -> u64 {
    u64::from((x as f32).to_bits())
}

fn s8(x: f64) -> u64 {
    x as i8 as u8 as u64
}

fn e4m3(x: f64) -> u64 {
    if x == 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64 - 1023 + 7;
    bits >> 63 << 7 | (exponent as u64) << 3 | bits >> 49 & 7
}

fn e5m2(x: f64) -> u64 {
    f16(x) >> 8
}

fn s32(x: f64) -> u64 {
    u64::from(x as i32 as u32)
}

/// Fragments of 16-bit elements, k = 16 (and k = 8, whose elements are the first four and two).
const A16: Layout = |g, t, i| {
    let row = if i < 2 || (4..6).contains(&i) { g } else { g + 8 };
    (row, t * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
};
const B16: Layout = |g, t, i| (t * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, g);
const C: Layout = |g, t, i| (if i < 2 { g } else { g + 8 }, t * 2 + (i & 1));
const A_TF32: Layout =
    |g, t, i| (if i % 2 == 0 { g } else { g + 8 }, t + if i >= 2 { 4 } else { 0 });
const B_TF32: Layout = |g, t, i| (t + if i == 1 { 4 } else { 0 }, g);
const A8: Layout = |g, t, i| {
    let row = if i < 4 || (8..12).contains(&i) { g } else { g + 8 };
    (row, t * 4 + (i & 3) + if i >= 8 { 16 } else { 0 })
};
const B8: Layout = |g, t, i| (t * 4 + (i & 3) + if i >= 4 { 16 } else { 0 }, g);
const A_F64: Layout = |g, t, _| (g, t);
const B_F64: Layout = |g, t, _| (t, g);
const C_F64: Layout = |g, t, i| (g, t * 2 + i);

const CASES: &[Case] = &[
    Case {
        opcode: "m16n8k16.row.col.f32.f16.f16.f32",
        shape: [16, 8, 16],
        a: (8, 16, A16),
        b: (4, 16, B16),
        c: (4, 32, C),
        encode: f16,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k8.row.col.f32.f16.f16.f32",
        shape: [16, 8, 8],
        a: (4, 16, A16),
        b: (2, 16, B16),
        c: (4, 32, C),
        encode: f16,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k16.row.col.f16.f16.f16.f16",
        shape: [16, 8, 16],
        a: (8, 16, A16),
        b: (4, 16, B16),
        c: (4, 16, C),
        encode: f16,
        encode_c: f16,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k16.row.col.f32.bf16.bf16.f32",
        shape: [16, 8, 16],
        a: (8, 16, A16),
        b: (4, 16, B16),
        c: (4, 32, C),
        encode: bf16,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k8.row.col.f32.tf32.tf32.f32",
        shape: [16, 8, 8],
        a: (4, 32, A_TF32),
        b: (2, 32, B_TF32),
        c: (4, 32, C),
        encode: f32b,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k4.row.col.f32.tf32.tf32.f32",
        shape: [16, 8, 4],
        a: (2, 32, A_TF32),
        b: (1, 32, B_TF32),
        c: (4, 32, C),
        encode: f32b,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k32.row.col.s32.s8.s8.s32",
        shape: [16, 8, 32],
        a: (16, 8, A8),
        b: (8, 8, B8),
        c: (4, 32, C),
        encode: s8,
        encode_c: s32,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k16.row.col.satfinite.s32.s8.s8.s32",
        shape: [16, 8, 16],
        a: (8, 8, A8),
        b: (4, 8, B8),
        c: (4, 32, C),
        encode: s8,
        encode_c: s32,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k32.row.col.f32.e4m3.e4m3.f32",
        shape: [16, 8, 32],
        a: (16, 8, A8),
        b: (8, 8, B8),
        c: (4, 32, C),
        encode: e4m3,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m16n8k32.row.col.f32.e5m2.e5m2.f32",
        shape: [16, 8, 32],
        a: (16, 8, A8),
        b: (8, 8, B8),
        c: (4, 32, C),
        encode: e5m2,
        encode_c: f32b,
        register: "b32",
        register_c: "b32",
    },
    Case {
        opcode: "m8n8k4.row.col.f64.f64.f64.f64",
        shape: [8, 8, 4],
        a: (1, 64, A_F64),
        b: (1, 64, B_F64),
        c: (2, 64, C_F64),
        encode: f64::to_bits,
        encode_c: f64::to_bits,
        register: "b64",
        register_c: "b64",
    },
];

/// The bytes of a fragment, lane after lane.
fn fragment(
    matrix: &[f64],
    columns: usize,
    (count, bits, layout): (usize, u32, Layout),
    encode: fn(f64) -> u64,
) -> Vec<u8> {
    let mut out = Vec::new();
    for lane in 0..32 {
        for i in 0..count {
            let (row, column) = layout(lane / 4, lane % 4, i);
            out.extend_from_slice(
                &encode(matrix[row * columns + column]).to_le_bytes()[..bits as usize / 8],
            );
        }
    }
    out
}

fn load(
    names: &str,
    first: usize,
    bytes: usize,
    offset: usize,
    register: &str,
) -> (String, Vec<String>) {
    let size = if register == "b64" { 8 } else { 4 };
    let prefix = if register == "b64" { "d" } else { "r" };
    let mut text = format!(
        "mad.lo.u32 %r63, %t, {bytes}, {offset};\ncvt.u64.u32 %d30, %r63;\nadd.u64 %d30, %in, %d30;\n"
    );
    let mut list = Vec::new();
    for i in 0..bytes.div_ceil(size) {
        let name = format!("%{prefix}{}", first + i);
        text += &format!("ld.global.{register} {name}, [%d30+{}];\n", i * size);
        list.push(name);
    }
    assert!(!names.is_empty());
    (text, list)
}

#[test]
fn products() {
    for case in CASES {
        let [m, n, k] = case.shape;
        let mut draw = Draw(11);
        let a: Vec<f64> = (0..m * k).map(|_| draw.small()).collect();
        let b: Vec<f64> = (0..k * n).map(|_| draw.small()).collect();
        let c: Vec<f64> = (0..m * n).map(|_| draw.small()).collect();
        let parts = [
            fragment(&a, k, case.a, case.encode),
            fragment(&b, n, case.b, case.encode),
            fragment(&c, n, case.c, case.encode_c),
        ];
        let bytes = parts.each_ref().map(|p| p.len() / 32);
        let mut body = String::new();
        let (text, a_names) = load("a", 0, bytes[0], 0, case.register);
        body += &text;
        let (text, b_names) = load("b", 8, bytes[1], parts[0].len(), case.register);
        body += &text;
        let (text, c_names) =
            load("c", 16, bytes[2], parts[0].len() + parts[1].len(), case.register_c);
        body += &text;
        let d_names: Vec<String> = (0..c_names.len())
            .map(|i| {
                if case.register_c == "b64" {
                    format!("%d{}", 20 + i)
                } else {
                    format!("%r{}", 24 + i)
                }
            })
            .collect();
        body += &format!(
            "mma.sync.aligned.{} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n",
            case.opcode,
            d_names.join(", "),
            a_names.join(", "),
            b_names.join(", "),
            c_names.join(", ")
        );
        let size = if case.register_c == "b64" { 8 } else { 4 };
        body += &format!(
            "mad.lo.u32 %r63, %t, {}, 0;\ncvt.u64.u32 %d30, %r63;\nadd.u64 %d30, %out, %d30;\n",
            bytes[2]
        );
        for (i, name) in d_names.iter().enumerate() {
            body += &format!("st.global.{} [%d30+{}], {name};\n", case.register_c, i * size);
        }
        let ran = run_with("", &body, &Launch::new(1, 32), &parts.concat())
            .unwrap_or_else(|f| panic!("{}: {f}", case.opcode));
        assert_eq!(ran.counters.matrix_flops, 2 * (m * n * k) as u64);
        let product: Vec<f64> = (0..m * n)
            .map(|at| c[at] + (0..k).map(|i| a[at / n * k + i] * b[i * n + at % n]).sum::<f64>())
            .collect();
        let expected = fragment(&product, n, case.c, case.encode_c);
        let mut device = ran.device;
        assert_eq!(
            device.read(ran.out, expected.len() as u64).unwrap(),
            expected,
            "{}",
            case.opcode
        );
    }
}

#[test]
fn matrices_are_loaded_and_stored() {
    // Four 8×8 matrices side by side: element (r, c) of matrix i is 64·i + 8·r + c.
    let fill = ".shared .align 128 .b8 s[512];\n.shared .align 128 .b8 o[512];\nmov.u32 %r9, s;\nmad.lo.u32 %r10, %t, 16, %r9;\n\
        shl.b32 %r1, %t, 3;\nadd.u32 %r2, %r1, 1;\nshl.b32 %r2, %r2, 16;\nor.b32 %r1, %r1, %r2;\nadd.u32 %r2, %r1, 0x00020002;\n\
        add.u32 %r3, %r1, 0x00040004;\nadd.u32 %r4, %r1, 0x00060006;\nst.shared.v4.b32 [%r10], {%r1, %r2, %r3, %r4};\nbar.sync 0;\n";
    let pair = |x: u64| x | (x + 1) << 16;
    for (transpose, name) in [(false, ""), (true, ".trans")] {
        let body = format!(
            "{fill}ldmatrix.sync.aligned.m8n8.x4{name}.shared.b16 {{%r20, %r21, %r22, %r23}}, [%r10];\n\
             mad.lo.u32 %r63, %t, 8, 0;\ncvt.u64.u32 %d30, %r63;\nadd.u64 %d30, %out, %d30;\nst.global.v2.b32 [%d30], {{%r20, %r22}};"
        );
        let ran = run_with("", &body, &Launch::new(1, 32), &[]).unwrap();
        // Rows of 16 bytes, one after another: no conflicts.
        assert_eq!(ran.counters.bank_conflicts, 0);
        let words = ran.words(32);
        for (lane, word) in words.iter().enumerate() {
            let (r, c) = ((lane / 4) as u64, 2 * (lane % 4) as u64);
            let first =
                if transpose { (8 * c + r) | (8 * (c + 1) + r) << 16 } else { pair(8 * r + c) };
            assert_eq!(*word as u32 as u64, first, "lane {lane}{name}");
            let third = if transpose {
                (128 + 8 * c + r) | (128 + 8 * (c + 1) + r) << 16
            } else {
                pair(128 + 8 * r + c)
            };
            assert_eq!(*word >> 32, third, "lane {lane}{name}");
        }
        // Stored the same way, they are what they were.
        let body = format!(
            "{fill}ldmatrix.sync.aligned.m8n8.x2{name}.shared.b16 {{%r20, %r21}}, [%r10];\nmov.u32 %r11, o;\nmad.lo.u32 %r11, %t, 16, %r11;\n\
             stmatrix.sync.aligned.m8n8.x2{name}.shared.b16 [%r11], {{%r20, %r21}};\nbar.warp.sync -1;\nmov.u32 %r11, o;\nmad.lo.u32 %r11, %t, 8, %r11;\n\
             ld.shared.b64 %d0, [%r11];\nst.global.b64 [%mine], %d0;"
        );
        let words = run_with("", &body, &Launch::new(1, 32), &[]).unwrap().words(32);
        for (i, word) in words.iter().enumerate() {
            assert_eq!(*word, pair(4 * i as u64) | pair(4 * i as u64 + 2) << 32);
        }
    }
}

#[test]
fn shapes_that_do_not_exist_are_refused() {
    for opcode in [
        "m16n8k64.row.col.f32.f16.f16.f32",
        "m16n8k16.row.row.f32.f16.f16.f32",
        "m16n8k32.row.col.s32.s8.e4m3.s32",
    ] {
        let body = format!(
            "mma.sync.aligned.{opcode} {{%r0, %r1, %r2, %r3}}, {{%r4, %r5, %r6, %r7}}, {{%r8, %r9}}, {{%r0, %r1, %r2, %r3}};"
        );
        assert!(refused(&body).to_string().contains("not executed"), "{}", refused(&body));
    }
    let few = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%r8, %r9}, {%r0, %r1, %r2, %r3};";
    assert!(refused(few).to_string().contains("registers are needed"));
}
