//! Loads, stores and atomics in every state space, and what they cost.

use crate::launcher::{kind, one, one32, run, run_with};
use kiln_ptx_emulator::{FaultKind, Launch, Space};

#[test]
fn vectors_and_narrow_elements() {
    let input: Vec<u8> = (0..=255).collect();
    let body =
        "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%in+16];\nst.global.v2.b32 [%mine], {%r3, %r1};";
    assert_eq!(run(body, 1, &input).unwrap().words(1)[0], 0x1716_1514_1f1e_1d1c);
    let body = "ld.global.nc.L1::no_allocate.L2::128B.v2.b64 {%d0, %d1}, [%in+48];\nst.global.b64 [%mine], %d1;";
    assert_eq!(run(body, 1, &input).unwrap().words(1)[0], 0x3f3e_3d3c_3b3a_3938);
    let body = "ld.global.s8 %r0, [%in+200];\nld.global.u8 %r1, [%in+201];\nst.global.v2.b32 [%mine], {%r0, %r1};";
    assert_eq!(run(body, 1, &input).unwrap().words(1)[0], 0xc9_ffff_ffc8);
    let body = "ld.global.s16 %d0, [%in+128];\nst.global.b64 [%mine], %d0;";
    assert_eq!(run(body, 1, &input).unwrap().words(1)[0], 0xffff_ffff_ffff_8180);
    let body = "mov.b64 %d0, 0;\nst.global.b64 [%mine], %d0;\nmov.b32 %r0, 0x12345678;\nst.global.u8 [%mine+1], %r0;\nst.global.b16 [%mine+4], %r0;";
    assert_eq!(run(body, 1, &input).unwrap().words(1)[0], 0x5678_0000_7800);
}

#[test]
fn local_shared_and_generic_addresses() {
    let local = ".local .align 8 .b8 stack[16];\nmov.u64 %d1, stack;\ncvta.local.u64 %d2, %d1;\nmov.b64 %d3, 77;\n\
        st.u64 [%d2+8], %d3;\nld.local.u64 %d0, [%d1+8];";
    assert_eq!(one(local), 77);
    let shared = ".shared .align 8 .b8 tile[16];\nmov.u64 %d1, tile;\ncvta.shared.u64 %d2, %d1;\nmov.b64 %d3, 78;\n\
        st.u64 [%d2+8], %d3;\nld.shared.u64 %d0, [tile+8];\nisspacep.shared %p1, %d2;\n@!%p1 trap;\nisspacep.global %p1, %d2;\n@%p1 trap;\n\
        cvta.to.shared.u64 %d4, %d2;\nsetp.ne.u64 %p1, %d4, %d1;\n@%p1 trap;";
    assert_eq!(one(shared), 78);
    let dynamic = run_with(
        ".extern .shared .align 128 .b8 dyn[];\n.shared .align 4 .b8 fixed[20];",
        "mov.b32 %r0, 5;\nst.shared.b32 [fixed+16], %r0;\nst.shared.b32 [dyn+60], %r0;\nmov.u32 %r1, dyn;\nand.b32 %r1, %r1, 127;\ncvt.u64.u32 %d0, %r1;\nst.global.u64 [%mine], %d0;",
        &Launch { dynamic_shared: 64, ..Launch::new(1, 1) },
        &[],
    );
    assert_eq!(dynamic.unwrap().words(1), [0]);
}

#[test]
fn atomics() {
    let body = ".shared .align 4 .b32 sum;\nsetp.eq.u32 %p1, %t, 0;\nmov.b32 %r0, 0;\n@%p1 st.shared.b32 [sum], %r0;\nbar.sync 0;\n\
        atom.shared.add.u32 %r1, [sum], %t;\nbar.sync 0;\nld.shared.u32 %r2, [sum];\ncvt.u64.u32 %d0, %r2;\nst.global.u64 [%mine], %d0;";
    assert_eq!(run(body, 64, &[]).unwrap().words(64), [2016; 64]);
    let apply = |opcode: &str, start: u32, operands: &str| {
        let body = format!(
            "mov.b32 %r1, {start};\nst.global.b32 [%mine], %r1;\n{opcode} %r2, [%mine], {operands};\nld.global.u32 %r0, [%mine];\nsetp.ne.u32 %p1, %r2, {start};\n@%p1 trap;"
        );
        one32(&body)
    };
    assert_eq!(apply("atom.global.max.s32", u32::MAX, "3"), 3);
    assert_eq!(apply("atom.global.min.u32", u32::MAX, "3"), 3);
    assert_eq!(apply("atom.global.inc.u32", 7, "7"), 0);
    assert_eq!(apply("atom.global.dec.u32", 0, "7"), 7);
    assert_eq!(apply("atom.global.exch.b32", 1, "9"), 9);
    assert_eq!(apply("atom.global.cas.b32", 1, "1, 4"), 4);
    assert_eq!(apply("atom.global.cas.b32", 1, "2, 4"), 1);
    assert_eq!(apply("atom.acq_rel.gpu.global.xor.b32", 12, "10"), 6);
    let float = "mov.b32 %f1, 0f3FC00000;\nst.global.b32 [%mine], %f1;\nred.global.add.f32 [%mine], %f1;\nld.global.u32 %r0, [%mine];";
    assert_eq!(one32(float), 3f32.to_bits());
    let halves = "mov.b32 %r1, 0x3c004000;\nst.global.b32 [%mine], %r1;\nred.global.add.noftz.f16x2 [%mine], %r1;\nld.global.u32 %r0, [%mine];";
    assert_eq!(one32(halves), 0x4000_4400);
}

#[test]
fn coalescing_and_bank_conflicts_are_counted() {
    let stride = |bytes: u32| {
        let body = format!(
            "mul.wide.u32 %d1, %t, {bytes};\nadd.u64 %d1, %in, %d1;\nld.global.b32 %r0, [%d1];"
        );
        let counters = run(&body, 32, &[0; 4096]).unwrap().counters;
        (counters.global_sectors, counters.excess_sectors)
    };
    assert_eq!(stride(4), (4, 0));
    assert_eq!(stride(8), (8, 4));
    assert_eq!(stride(64), (32, 28));
    assert_eq!(stride(0), (1, 0));
    let banks = |bytes: u32, kind: &str| {
        let body = format!(
            ".shared .align 16 .b8 tile[8192];\nmul.lo.u32 %r1, %t, {bytes};\nmov.u32 %r2, tile;\nadd.u32 %r1, %r1, %r2;\n\
             mov.b32 %r0, 1;\nmov.b32 %r3, 1;\nmov.b32 %r4, 1;\nmov.b32 %r5, 1;\nst.shared{kind};"
        );
        let counters = run(&body, 32, &[]).unwrap().counters;
        (counters.shared_wavefronts, counters.bank_conflicts)
    };
    assert_eq!(banks(4, ".b32 [%r1], %r0"), (1, 0));
    assert_eq!(banks(8, ".b32 [%r1], %r0"), (2, 1));
    assert_eq!(banks(128, ".b32 [%r1], %r0"), (32, 31));
    assert_eq!(banks(132, ".b32 [%r1], %r0"), (1, 0));
    assert_eq!(banks(16, ".v4.b32 [%r1], {%r0, %r3, %r4, %r5}"), (4, 0));
    assert_eq!(banks(8, ".v2.b32 [%r1], {%r0, %r3}"), (2, 0));
}

#[test]
fn bounds_and_alignment() {
    let out = |k: FaultKind, space: Space| {
        assert!(matches!(k, FaultKind::OutOfBounds { space: s, .. } if s == space), "{k:?}")
    };
    out(kind("", "ld.global.b32 %r0, [%in+4096];", 1), Space::Global);
    out(kind("", "ld.global.b32 %r0, [%in+-4];", 1), Space::Global);
    out(kind("", "mov.u64 %d1, 0;\nst.global.b32 [%d1], 1;", 1), Space::Global);
    out(kind("", ".shared .align 4 .b8 s[8];\nst.shared.b32 [s+8], 1;", 1), Space::Shared);
    out(kind("", "mov.u32 %r1, 0;\nld.shared.b32 %r0, [%r1];", 1), Space::Shared);
    out(kind("", ".local .align 4 .b8 s[8];\nst.local.b32 [s+8], 1;", 1), Space::Local);
    out(kind("", "ld.param.b64 %d0, [in+16];", 1), Space::Parameter);
    let misaligned = |body: &str| {
        let k = kind("", body, 1);
        assert!(matches!(k, FaultKind::Misaligned { .. }), "{k:?}");
    };
    misaligned("ld.global.b32 %r0, [%in+2];");
    misaligned("ld.global.v2.b32 {%r0, %r1}, [%in+4];");
    misaligned(".shared .align 16 .b8 s[16];\nst.shared.b64 [s+4], 1;");
    assert!(matches!(
        kind(".const .align 4 .u32 c = 3;", "mov.u64 %d1, c;\nst.global.u32 [%d1], 1;", 1),
        FaultKind::ReadOnly { .. }
    ));
}

#[test]
fn bytes_that_nothing_wrote() {
    let missing = |body: &str, space: Space| {
        let k = kind("", body, 1);
        assert!(
            matches!(k, FaultKind::UninitialisedMemory { space: s, .. } if s == space),
            "{k:?}"
        );
    };
    missing("ld.global.b32 %r0, [%out];", Space::Global);
    missing(
        "mov.b32 %r1, 0;\nst.global.b8 [%out], %r1;\nst.global.b16 [%out+2], %r1;\nld.global.b32 %r0, [%out];",
        Space::Global,
    );
    missing(
        ".shared .align 4 .b8 s[8];\nmov.b32 %r1, 0;\nst.shared.b8 [s], %r1;\nld.shared.b16 %r0, [s];",
        Space::Shared,
    );
    missing(".local .align 4 .b8 s[8];\nld.local.b32 %r0, [s];", Space::Local);
    let k = kind("", "add.u32 %r0, %r1, 1;", 1);
    assert_eq!(k, FaultKind::UninitialisedRegister(String::from("%r1")));
    // Copies pass on that nothing was written; one lane's register may be written, another's not.
    assert_eq!(one32("mov.b32 %r1, %r2;\nmov.b32 %r0, 3;"), 3);
    let k = kind("", "mov.b32 %r1, %r2;\nst.global.b32 [%mine], %r1;", 1);
    assert_eq!(k, FaultKind::UninitialisedRegister(String::from("%r1")));
    let partly = "setp.lt.u32 %p1, %t, 4;\n@%p1 mov.b32 %r0, 1;\nadd.u32 %r1, %r0, 1;";
    assert_eq!(kind("", partly, 32), FaultKind::UninitialisedRegister(String::from("%r0")));
}
