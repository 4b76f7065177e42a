//! Instructions that compute, one by one, against arithmetic done beside them.

use crate::launcher::{Draw, one, one32, run, text};
use kiln_ptx_emulator::{Argument, Device, Launch, Limits, Module};

/// `%d0` from two operands of a type of so many bits.
fn binary(opcode: &str, bits: u32, a: u64, b: u64) -> u64 {
    let r = match bits {
        16 => "h",
        32 => "r",
        _ => "d",
    };
    let result = match bits {
        16 => "cvt.u64.u16 %d0, %h2;",
        32 => "cvt.u64.u32 %d0, %r2;",
        _ => "mov.b64 %d0, %d2;",
    };
    one(&format!(
        "mov.b{bits} %{r}0, {a};\nmov.b{bits} %{r}1, {b};\n{opcode} %{r}2, %{r}0, %{r}1;\n{result}"
    ))
}

#[test]
fn integers() {
    let m = u64::from(u32::MAX);
    assert_eq!(binary("add.u32", 32, m, 2), 1);
    assert_eq!(binary("sub.s64", 64, 0, 1), u64::MAX);
    assert_eq!(binary("add.s16", 16, 0xffff, 1), 0);
    assert_eq!(binary("mul.lo.u32", 32, 0x10001, 0x10001), 0x20001);
    assert_eq!(binary("mul.hi.u32", 32, m, m), m - 1);
    assert_eq!(binary("mul.hi.s32", 32, m, m), 0);
    assert_eq!(binary("mul.hi.s64", 64, u64::MAX, 5), u64::MAX);
    assert_eq!(binary("div.s32", 32, (-7i32) as u32 as u64, 2), (-3i32) as u32 as u64);
    assert_eq!(binary("rem.s32", 32, (-7i32) as u32 as u64, 2), (-1i32) as u32 as u64);
    assert_eq!(binary("div.u64", 64, 100, 7), 14);
    assert_eq!(binary("rem.u32", 32, 100, 7), 2);
    assert_eq!(binary("div.s32", 32, 0x8000_0000, m), 0x8000_0000);
    assert_eq!(binary("min.s32", 32, m, 1), m);
    assert_eq!(binary("min.u32", 32, m, 1), 1);
    assert_eq!(binary("max.s64", 64, u64::MAX, 1), 1);
    assert_eq!(binary("min.s16x2", 32, 0xffff_0003, 0x0001_0002), 0xffff_0002);
    assert_eq!(binary("add.u16x2", 32, 0xffff_ffff, 0x0001_0001), 0);
    assert_eq!(binary("add.sat.s32", 32, 0x7fff_ffff, 1), 0x7fff_ffff);
    assert_eq!(binary("max.relu.s32", 32, m, m - 1), 0);
    assert_eq!(binary("and.b32", 32, 12, 10), 8);
    assert_eq!(binary("or.b64", 64, 12, 3), 15);
    assert_eq!(binary("xor.b16", 16, 12, 10), 6);
    assert_eq!(binary("mul24.lo.u32", 32, 0xff00_0003, 5), 15);
}

#[test]
fn wide_products_and_sums_of_products() {
    assert_eq!(one("mov.b32 %r0, -3;\nmul.wide.s32 %d0, %r0, 5;") as i64, -15);
    assert_eq!(one("mov.b32 %r0, -3;\nmul.wide.u32 %d0, %r0, 5;"), 0xffff_fffd * 5);
    assert_eq!(one32("mov.b16 %h0, -3;\nmul.wide.s16 %r0, %h0, 5;") as i32, -15);
    assert_eq!(one("mov.b32 %r0, -3;\nmov.b64 %d1, 100;\nmad.wide.s32 %d0, %r0, 5, %d1;"), 85);
    assert_eq!(one32("mov.b32 %r1, 7;\nmad.lo.s32 %r0, %r1, -2, 4;") as i32, -10);
    assert_eq!(one32("mov.b32 %r1, 0x80000000;\nmad.hi.u32 %r0, %r1, 4, 5;"), 7);
    assert_eq!(one32("mov.b32 %r1, 10;\nsad.u32 %r0, %r1, 13, 100;"), 103);
    assert_eq!(
        one32(
            "mov.b32 %r1, 0x010203ff;\nmov.b32 %r2, 0x01010102;\ndp4a.s32.s32 %r0, %r1, %r2, 10;"
        ),
        14
    );
    assert_eq!(
        one32(
            "mov.b32 %r1, 0x010203ff;\nmov.b32 %r2, 0x01010102;\ndp4a.u32.u32 %r0, %r1, %r2, 10;"
        ),
        526
    );
    assert_eq!(
        one32("mov.b32 %r1, 0x0002ffff;\nmov.b32 %r2, 0x0304;\ndp2a.lo.s32.u32 %r0, %r1, %r2, 1;"),
        3
    );
    // 64 bits from two additions with carry.
    let carry = "mov.b32 %r1, 0xffffffff;\nadd.cc.u32 %r2, %r1, 1;\naddc.u32 %r0, 5, 6;";
    assert_eq!(one32(carry), 12);
    let borrow = "mov.b32 %r1, 0;\nsub.cc.u32 %r2, %r1, 1;\nsubc.u32 %r0, 5, 1;";
    assert_eq!(one32(borrow), 3);
}

#[test]
fn bits() {
    assert_eq!(one32("mov.b32 %r1, 0x12345678;\nbfe.u32 %r0, %r1, 8, 8;"), 0x56);
    assert_eq!(one32("mov.b32 %r1, 0x0000f000;\nbfe.s32 %r0, %r1, 12, 4;"), 0xffff_ffff);
    assert_eq!(one32("mov.b32 %r1, 0x80000000;\nbfe.s32 %r0, %r1, 28, 20;"), 0xffff_fff8);
    assert_eq!(one32("mov.b32 %r1, 0x80000000;\nbfe.u32 %r0, %r1, 40, 4;"), 0);
    assert_eq!(
        one32("mov.b32 %r1, 0xab;\nmov.b32 %r2, 0xffffffff;\nbfi.b32 %r0, %r1, %r2, 8, 8;"),
        0xffff_abff
    );
    assert_eq!(
        one32(
            "mov.b32 %r1, 0x33221100;\nmov.b32 %r2, 0x77665544;\nprmt.b32 %r0, %r1, %r2, 0x7531;"
        ),
        0x7755_3311
    );
    assert_eq!(one32("mov.b32 %r1, 0x00008000;\nprmt.b32 %r0, %r1, 0, 0x9991;"), 0xffff_ff80);
    assert_eq!(
        one32(
            "mov.b32 %r1, 0x80000001;\nmov.b32 %r2, 0x40000002;\nshf.l.wrap.b32 %r0, %r1, %r2, 33;"
        ),
        0x8000_0005
    );
    assert_eq!(
        one32("mov.b32 %r1, 0x80000001;\nmov.b32 %r2, 3;\nshf.r.clamp.b32 %r0, %r1, %r2, 1;"),
        0xc000_0000
    );
    assert_eq!(
        one32("mov.b32 %r1, 0x80000001;\nmov.b32 %r2, 3;\nshf.r.clamp.b32 %r0, %r1, %r2, 40;"),
        3
    );
    assert_eq!(one32("mov.b32 %r1, 0xf0f0;\npopc.b32 %r0, %r1;"), 8);
    assert_eq!(one32("mov.b64 %d1, 0xf0f0;\nclz.b64 %r0, %d1;"), 48);
    assert_eq!(one32("mov.b32 %r1, 1;\nbrev.b32 %r0, %r1;"), 0x8000_0000);
    assert_eq!(one32("mov.b32 %r1, 0x80;\nbfind.u32 %r0, %r1;"), 7);
    assert_eq!(one32("mov.b32 %r1, 0;\nbfind.u32 %r0, %r1;"), u32::MAX);
    assert_eq!(one32("mov.b32 %r1, 0x80;\nbfind.shiftamt.u32 %r0, %r1;"), 24);
    assert_eq!(one32("mov.b32 %r1, 4;\nbmsk.clamp.b32 %r0, %r1, 8;"), 0xff0);
    assert_eq!(one32("mov.b32 %r1, 0xaaaaaaaa;\nfns.b32 %r0, %r1, 3, 2;"), 5);
    assert_eq!(one32("mov.b32 %r1, 0xaaaaaaaa;\nfns.b32 %r0, %r1, 8, -1;"), 7);
    // a & b | c: its truth table is 0xf0 & 0xcc | 0xaa.
    assert_eq!(one32("mov.b32 %r1, 12;\nmov.b32 %r2, 10;\nlop3.b32 %r0, %r1, %r2, 1, 0xea;"), 9);
    assert_eq!(one32("mov.b32 %r1, -1;\nshl.b32 %r0, %r1, 32;"), 0);
    assert_eq!(one32("mov.b32 %r1, 0x80000000;\nshr.s32 %r0, %r1, 99;"), u32::MAX);
    assert_eq!(one32("mov.b32 %r1, 0x80000000;\nshr.u32 %r0, %r1, 31;"), 1);
    assert_eq!(one("mov.b64 %d1, -16;\nshr.s64 %d0, %d1, 2;") as i64, -4);
    assert_eq!(one32("mov.b32 %r1, 0;\ncnot.b32 %r0, %r1;"), 1);
    assert_eq!(one32("mov.b32 %r1, -5;\nabs.s32 %r0, %r1;"), 5);
    assert_eq!(one("mov.b32 %r1, 1;\nmov.b32 %r2, 2;\nmov.b64 %d0, {%r1, %r2};"), 0x2_0000_0001);
    assert_eq!(
        one32("mov.b32 %r1, 0x00020001;\nmov.b32 {%h1, %h2}, %r1;\nmov.b32 %r0, {%h2, %h1};"),
        0x10002
    );
}

fn float(opcode: &str, operands: &[f32]) -> u32 {
    let mut body = String::new();
    let mut names = String::new();
    for (i, operand) in operands.iter().enumerate() {
        body += &format!("mov.b32 %f{}, 0f{:08X};\n", i + 1, operand.to_bits());
        names += &format!(", %f{}", i + 1);
    }
    one32(&format!("{body}{opcode} %r0{names};"))
}

#[test]
fn single_precision() {
    let mut draw = Draw(3);
    for _ in 0..20 {
        let [a, b, c] = [0; 3].map(|_| (draw.bits() as i32 as f32) * 1e-5);
        assert_eq!(float("add.rn.f32", &[a, b]), (a + b).to_bits());
        assert_eq!(float("sub.f32", &[a, b]), (a - b).to_bits());
        assert_eq!(float("mul.f32", &[a, b]), (a * b).to_bits());
        assert_eq!(float("div.rn.f32", &[a, b]), (a / b).to_bits());
        assert_eq!(float("fma.rn.f32", &[a, b, c]), a.mul_add(b, c).to_bits());
        assert_eq!(float("sqrt.rn.f32", &[a.abs()]), a.abs().sqrt().to_bits());
        assert_eq!(float("rcp.rn.f32", &[a]), (1.0 / a).to_bits());
        assert_eq!(float("neg.f32", &[a]), (-a).to_bits());
        // Down and up enclose the exact value, and are neighbours unless it is one.
        let (down, up) = (float("add.rm.f32", &[a, b]), float("add.rp.f32", &[a, b]));
        let (down, up) = (f64::from(f32::from_bits(down)), f64::from(f32::from_bits(up)));
        let exact = f64::from(a) + f64::from(b);
        assert!(down <= exact && exact <= up);
    }
    let n = f32::NAN;
    assert_eq!(float("add.rn.f32", &[n, 1.0]), 0x7fff_ffff);
    assert_eq!(float("min.f32", &[n, 1.0]), 1f32.to_bits());
    assert_eq!(float("max.NaN.f32", &[n, 1.0]), 0x7fff_ffff);
    assert_eq!(float("min.f32", &[0.0, -0.0]), (-0f32).to_bits());
    assert_eq!(float("add.sat.f32", &[0.75, 0.75]), 1f32.to_bits());
    assert_eq!(float("fma.rn.ftz.f32", &[1e-20, 1e-20, 0.0]), 0);
    assert_eq!(float("fma.rn.f32", &[1e-20, 1e-20, 0.0]), 1e-40f32.to_bits());
    assert_eq!(float("ex2.approx.ftz.f32", &[3.0]), 8f32.to_bits());
    assert_eq!(float("lg2.approx.f32", &[8.0]), 3f32.to_bits());
    assert_eq!(float("rsqrt.approx.f32", &[4.0]), 0.5f32.to_bits());
    assert_eq!(float("rcp.approx.ftz.f32", &[4.0]), 0.25f32.to_bits());
    assert_eq!(float("sqrt.approx.f32", &[9.0]), 3f32.to_bits());
    assert_eq!(float("div.full.f32", &[9.0, 3.0]), 3f32.to_bits());
    assert_eq!(float("tanh.approx.f32", &[100.0]), 1f32.to_bits());
    assert_eq!(float("sin.approx.f32", &[1.0]), (1f64.sin() as f32).to_bits());
    assert_eq!(float("cos.approx.f32", &[0.0]), 1f32.to_bits());
    assert_eq!(float("copysign.f32", &[-1.0, 3.0]), (-3f32).to_bits());
}

#[test]
fn what_blackwell_adds() {
    let on_blackwell = |body: &str| {
        let text = text("", &format!("{body}\nst.global.u64 [%mine], %d0;"))
            .replace("8.6\n.target sm_90a", "8.8\n.target sm_100");
        let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let mut device = Device::new(Limits::default());
        let out = device.allocate(8).unwrap();
        device
            .launch(
                &module,
                "k",
                &Launch::new(1, 1),
                &[Argument::Address(out), Argument::Address(out)],
            )
            .unwrap();
        u64::from_le_bytes(device.read(out, 8).unwrap().try_into().unwrap())
    };
    // (1, 2) · (3, 4) + (5, 6).
    let fma = "mov.b64 %d1, 0x3f80000040000000;\nmov.b64 %d2, 0x4040000040800000;\nmov.b64 %d3, 0x40a0000040c00000;\n\
        fma.rn.f32x2 %d0, %d1, %d2, %d3;";
    assert_eq!(on_blackwell(fma), 0x4100_0000_4160_0000);
    let sub = "mov.b64 %d1, 0x3f80000040000000;\nmov.b64 %d2, 0x4040000040800000;\nsub.rn.ftz.f32x2 %d0, %d1, %d2;";
    assert_eq!(on_blackwell(sub), 0xc000_0000_c000_0000);
    let max = "mov.b32 %f1, 0f3F800000;\nmov.b32 %f2, 0f40000000;\nmov.b32 %f3, 0f7FC00000;\nmax.f32 %r0, %f1, %f2, %f3;\n\
        max.NaN.f32 %r1, %f3, %f2, %f1;\nmov.b64 %d0, {%r0, %r1};";
    assert_eq!(on_blackwell(max), 0x7fff_ffff_4000_0000);
}

#[test]
fn double_precision() {
    let two = |opcode: &str, a: f64, b: f64| {
        let body = format!(
            "mov.b64 %d1, 0d{:016X};\nmov.b64 %d2, 0d{:016X};\n{opcode} %d0, %d1, %d2;",
            a.to_bits(),
            b.to_bits()
        );
        f64::from_bits(one(&body))
    };
    assert_eq!(two("add.rn.f64", 0.1, 0.2), 0.1 + 0.2);
    assert_eq!(two("mul.f64", 0.1, 0.2), 0.1 * 0.2);
    assert_eq!(two("div.rn.f64", 1.0, 3.0), 1.0 / 3.0);
    assert_eq!(two("max.f64", f64::NAN, 3.0), 3.0);
    assert_eq!(two("add.rp.f64", 1.0, 1e-30), 1f64.next_up());
}

#[test]
fn halves() {
    let two = |opcode: &str, a: u32, b: u32| {
        one32(&format!("mov.b32 %r1, {a};\nmov.b32 %r2, {b};\n{opcode} %r0, %r1, %r2;"))
    };
    // (1, 2) + (1, 0.5), upper halves first.
    assert_eq!(two("add.rn.f16x2", 0x3c00_4000, 0x3c00_3800), 0x4000_4100);
    assert_eq!(two("mul.rn.bf16x2", 0x3f80_4000, 0x4000_4040), 0x4000_40c0);
    assert_eq!(two("max.NaN.f16x2", 0x7e00_3c00, 0x3c00_4000), 0x7fff_4000);
    let fma = "mov.b16 %h1, 0x4000;\nmov.b16 %h2, 0x4200;\nmov.b16 %h3, 0xc800;\nfma.rn.relu.f16 %h0, %h1, %h2, %h3;\ncvt.u32.u16 %r0, %h0;";
    assert_eq!(one32(fma), 0);
    let ex2 = "mov.b32 %r1, 0x40004200;\nex2.approx.f16x2 %r0, %r1;";
    assert_eq!(one32(ex2), 0x4400_4800);
    assert_eq!(one32("mov.b32 %r1, 0x40004200;\nneg.bf16x2 %r0, %r1;"), 0xc000_c200);
}

#[test]
fn comparisons() {
    let test = |opcode: &str, a: u32, b: u32| {
        one32(&format!(
            "mov.b32 %r1, {a};\nmov.b32 %r2, {b};\n{opcode} %p1, %r1, %r2;\nselp.b32 %r0, 1, 0, %p1;"
        ))
    };
    assert_eq!(test("setp.lt.s32", u32::MAX, 0), 1);
    assert_eq!(test("setp.lt.u32", u32::MAX, 0), 0);
    assert_eq!(test("setp.hi.u32", u32::MAX, 0), 1);
    let (one_, nan) = (1f32.to_bits(), f32::NAN.to_bits());
    for (relation, ordered, with_nan) in [
        ("eq", 1, 0),
        ("ne", 0, 0),
        ("lt", 0, 0),
        ("le", 1, 0),
        ("gt", 0, 0),
        ("ge", 1, 0),
        ("equ", 1, 1),
        ("neu", 0, 1),
        ("ltu", 0, 1),
        ("leu", 1, 1),
        ("gtu", 0, 1),
        ("geu", 1, 1),
        ("num", 1, 0),
        ("nan", 0, 1),
    ] {
        assert_eq!(test(&format!("setp.{relation}.f32"), one_, one_), ordered, "{relation}");
        assert_eq!(test(&format!("setp.{relation}.f32"), nan, one_), with_nan, "{relation} of NaN");
    }
    let pair = "setp.eq.u32 %p1|%p2, %t, 0;\nselp.b32 %r1, 1, 0, %p1;\nselp.b32 %r2, 2, 0, !%p2;\nadd.u32 %r0, %r1, %r2;";
    assert_eq!(one32(&pair.replace("!%p2", "%p2")), 1);
    let combined =
        "setp.eq.u32 %p1, %t, 0;\nsetp.ne.and.u32 %p2, %t, 5, !%p1;\nselp.b32 %r0, 1, 0, %p2;";
    assert_eq!(one32(combined), 0);
    assert_eq!(one32("mov.b32 %r1, 3;\nset.lt.u32.s32 %r0, %r1, 4;"), u32::MAX);
    assert_eq!(one32("mov.b32 %r1, 3;\nset.lt.f32.s32 %r0, %r1, 4;"), 1f32.to_bits());
    assert_eq!(one32("mov.b32 %r1, -3;\nslct.b32.s32 %r0, 1, 2, %r1;"), 2);
    let halves = "mov.b32 %r1, 0x3c004000;\nmov.b32 %r2, 0x40003c00;\nsetp.lt.f16x2 %p1|%p2, %r1, %r2;\nselp.b32 %r3, 1, 0, %p1;\nselp.b32 %r4, 2, 0, %p2;\nadd.u32 %r0, %r3, %r4;";
    assert_eq!(one32(halves), 2);
}

#[test]
fn conversions() {
    let f = |x: f32| format!("mov.b32 %f1, 0f{:08X};\n", x.to_bits());
    assert_eq!(one32(&(f(2.5) + "cvt.rni.s32.f32 %r0, %f1;")), 2);
    assert_eq!(one32(&(f(-2.5) + "cvt.rzi.s32.f32 %r0, %f1;")) as i32, -2);
    assert_eq!(one32(&(f(-2.5) + "cvt.rmi.s32.f32 %r0, %f1;")) as i32, -3);
    assert_eq!(one32(&(f(-2.5) + "cvt.rpi.f32.f32 %r0, %f1;")), (-2f32).to_bits());
    assert_eq!(one32(&(f(3e9) + "cvt.rzi.s32.f32 %r0, %f1;")), i32::MAX as u32);
    assert_eq!(one32(&(f(-1.0) + "cvt.rzi.u32.f32 %r0, %f1;")), 0);
    assert_eq!(one32(&(f(300.0) + "cvt.rzi.u8.f32 %r0, %f1;")), 255);
    assert_eq!(one32("mov.b32 %r1, -1;\ncvt.rn.f32.s32 %r0, %r1;"), (-1f32).to_bits());
    assert_eq!(
        one32("mov.b32 %r1, 0x7fffffff;\ncvt.rz.f32.s32 %r0, %r1;"),
        2147483520f32.to_bits()
    );
    assert_eq!(
        one32("mov.b64 %d1, 0xffffffffffffffff;\ncvt.rn.f32.u64 %r0, %d1;"),
        (u64::MAX as f32).to_bits()
    );
    // Halves of an f32's last bit in an integer of 64 bits: 2^62 + 2^38 + 1 rounds up.
    let up = (1u64 << 62) + (1 << 38) + 1;
    assert_eq!(
        one32(&format!("mov.b64 %d1, {up};\ncvt.rn.f32.s64 %r0, %d1;")),
        (up as f32).to_bits()
    );
    assert_eq!(one32("mov.b32 %r1, 0x1ff;\ncvt.u32.u8 %r0, %r1;"), 0xff);
    assert_eq!(one32("mov.b32 %r1, 0x1ff;\ncvt.s32.s8 %r0, %r1;"), u32::MAX);
    assert_eq!(one32("mov.b32 %r1, -500;\ncvt.sat.s8.s32 %r0, %r1;") as i32, -128);
    assert_eq!(one32("mov.b32 %r1, 300;\ncvt.sat.u8.s32 %r0, %r1;"), 255);
    assert_eq!(one("mov.b32 %r1, -2;\ncvt.s64.s32 %d0, %r1;") as i64, -2);
    let narrow = |opcode: &str, x: f32| {
        one32(&(f(x) + &format!("{opcode} %h1, %f1;\ncvt.u32.u16 %r0, %h1;")))
    };
    assert_eq!(narrow("cvt.rn.f16.f32", 1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(narrow("cvt.rz.f16.f32", 65519.9), 0x7bff);
    assert_eq!(narrow("cvt.rn.bf16.f32", 1.0 + 3.0 / 256.0), 0x3f82);
    assert_eq!(narrow("cvt.rn.relu.f16.f32", -1.0), 0);
    assert_eq!(narrow("cvt.rn.sat.f16.f32", 7.0), 0x3c00);
    assert_eq!(one32("mov.b16 %h1, 0xc000;\ncvt.f32.f16 %r0, %h1;"), (-2f32).to_bits());
    assert_eq!(one32("mov.b16 %h1, 0x4049;\ncvt.f32.bf16 %r0, %h1;"), 0x4049_0000);
    assert_eq!(one("mov.b32 %f1, 0f3FC00000;\ncvt.f64.f32 %d0, %f1;"), 1.5f64.to_bits());
    assert_eq!(one32("mov.b64 %d1, 0d3FF0000010000000;\ncvt.rn.f32.f64 %r0, %d1;"), 0x3f80_0000);
    assert_eq!(one32("mov.b64 %d1, 0d3FF0000010000001;\ncvt.rn.f32.f64 %r0, %d1;"), 0x3f80_0001);
    assert_eq!(one32(&(f(1.0 + 1.0 / 2048.0) + "cvt.rna.tf32.f32 %r0, %f1;")), 0x3f80_2000);
    let two = |opcode: &str| {
        one32(&format!("{}mov.b32 %f2, 0f40000000;\n{opcode} %r0, %f1, %f2;", f(1.0)))
    };
    assert_eq!(two("cvt.rn.f16x2.f32"), 0x3c00_4000);
    assert_eq!(two("cvt.rn.bf16x2.f32"), 0x3f80_4000);
    let eighth = |opcode: &str, x: f32| {
        one32(&format!(
            "{}mov.b32 %f2, 0f40000000;\n{opcode} %h1, %f1, %f2;\ncvt.u32.u16 %r0, %h1;",
            f(x)
        ))
    };
    assert_eq!(eighth("cvt.rn.satfinite.e4m3x2.f32", 1.0), 0x3840);
    assert_eq!(eighth("cvt.rn.satfinite.e4m3x2.f32", 1e6), 0x7e40);
    assert_eq!(eighth("cvt.rn.satfinite.e5m2x2.f32", -1.0), 0xbc40);
    assert_eq!(one32("mov.b16 %h1, 0x3840;\ncvt.rn.f16x2.e4m3x2 %r0, %h1;"), 0x3c00_4000);
    assert_eq!(
        one32(
            "mov.b32 %r1, 0x3c004000;\ncvt.rn.satfinite.e5m2x2.f16x2 %h1, %r1;\ncvt.u32.u16 %r0, %h1;"
        ),
        0x3c40
    );
}

#[test]
fn special_registers() {
    let body = "mov.u32 %r0, %laneid;\nmov.u32 %r1, %warpid;\nmov.u32 %r2, %lanemask_lt;\nmov.u32 %r3, %nctaid.x;\n\
        mad.lo.u32 %r0, %r1, 100, %r0;\nmov.b64 %d0, {%r0, %r2};\nst.global.u64 [%mine], %d0;";
    let words = run(body, 64, &[]).unwrap().words(64);
    assert_eq!(words[33], 101 | 1 << 32);
    assert_eq!(words[5], 5 | 31 << 32);
}
