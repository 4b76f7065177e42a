//! Text that is damaged: an error, or a kernel that runs or faults, but never a panic.

use crate::launcher::{Draw, HEAD, refused, text};
use kiln_ptx_emulator::{
    Address, Argument, Device, ElementType, Launch, Limits, Module, OutOfBounds, ParseError,
    Swizzle, TensorMap,
};

#[test]
fn errors_name_the_line() {
    let cases = [
        ("add.u32 %r0, %r1;", "operands"),
        ("add.u32 %q0, %r1, %r2;", "not declared"),
        ("add.u64 %d0, %r1, %d2;", "bits"),
        ("bra NOWHERE;", "does not exist"),
        ("frobnicate.u32 %r0;", "unknown instruction"),
        ("add.bogus.u32 %r0, %r1, %r2;", "`.bogus`"),
        ("ld.global.b32 %r0, [%r1", "`]` is missing"),
        ("tcgen05.alloc.b32 %r0;", "unknown instruction"),
        ("ld.global.v2.b32 {%r0, %r1, %r2}, [%in];", "operands"),
        ("call nothing;", "not defined"),
        (
            "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%r0}, %d0, %d1, 1, 1, 1, 0, 0;",
            "shape",
        ),
        ("mov.b32 %r0, 0f12;", "no number"),
        ("{ .reg .b32 %r<999999999>;", "registers"),
        ("{ .local .b8 x[4000000000];", "bytes of a variable"),
    ];
    for (body, expected) in cases {
        let error = refused(body);
        assert!(error.to_string().contains(expected), "{body}: {error}");
        let line = text("", "\u{1}").lines().position(|l| l == "\u{1}").unwrap() as u32 + 1;
        assert!(
            error.line() == line || error.line() == line + 1 || error.line() == line + 2,
            "{body}: {error}"
        );
    }
    assert!(matches!(refused("tcgen05.alloc.b32 %r0;"), ParseError::Unsupported { .. }));
    assert!(Module::parse("").is_err());
    assert!(Module::parse(".version 8.0\n.address_size 32\n").is_err());
}

#[test]
fn text_that_nests_deep_or_never_ends() {
    let deep = format!("{HEAD}.visible .entry k()\n{}", "{".repeat(100_000));
    assert!(Module::parse(&deep).is_err());
    let vectors = format!(
        "{HEAD}.visible .entry k()\n{{\n.reg .b32 %r<4>;\nmov.b32 %r0, {}",
        "{".repeat(100_000)
    );
    assert!(Module::parse(&vectors).is_err());
    let initialiser = format!("{HEAD}.global .b32 x[4] = {}", "{".repeat(100_000));
    assert!(Module::parse(&initialiser).is_err());
    // Functions that call each other twice would double with each.
    let mut bomb = format!("{HEAD}.func f0()\n{{\nret;\n}}\n");
    for i in 1..40 {
        bomb += &format!(".func f{i}()\n{{\ncall f{0};\ncall f{0};\nret;\n}}\n", i - 1);
    }
    bomb += ".visible .entry k()\n{\ncall f39;\nret;\n}\n";
    assert!(Module::parse(&bomb).is_err());
    let registers = format!(
        "{HEAD}.func g()\n{{\n.reg .b32 %r<200000>;\nret;\n}}\n.visible .entry k()\n{{\ncall g;\ncall g;\nret;\n}}\n"
    );
    assert!(matches!(Module::parse(&registers), Err(ParseError::TooLarge { .. })));
}

/// A tensor map over the memory of the fuzzed kernels.
fn map(memory: Address) -> Argument {
    let map = TensorMap::tiled(
        ElementType::BF16,
        memory,
        &[64, 64],
        &[128],
        &[64, 64],
        &[1, 1],
        Swizzle::Bytes128,
        OutOfBounds::Zero,
    );
    Argument::TensorMap(Box::new(map.unwrap()))
}

/// Replaces, removes, doubles or swaps a word or a byte.
fn damage(text: &str, draw: &mut Draw) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + draw.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = draw.below(bytes.len() as u64) as usize;
        let end = (at + 1 + draw.below(12) as usize).min(bytes.len());
        match draw.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            2 => bytes[at] = b" ;,{}[]().:@%_-+0123456789abxyz\n\"/*"[draw.below(34) as usize],
            3 => {
                let other = draw.below(bytes.len() as u64) as usize;
                bytes.swap(at, other);
            }
            4 => {
                let other = draw.below(bytes.len() as u64) as usize;
                let part = bytes[other..(other + 12).min(bytes.len())].to_vec();
                bytes.splice(at..end, part);
            }
            _ => {
                let word: &[u8] =
                    [&b"4294967295"[..], b"-1", b".v4", b"0x7fffffffffffffff", b"%r0", b"[%in]"]
                        [draw.below(6) as usize];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_text_never_panics() {
    let body = ".shared .align 16 .b8 s[512];\nmov.u32 %r9, s;\nmad.lo.u32 %r10, %t, 16, %r9;\nst.shared.v4.b32 [%r10], {%t, %t, %t, %t};\n\
        fence.proxy.async;\nbar.sync 0;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%r10];\n\
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4, %r5, %r6, %r7}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%r0, %r1, %r2, %r3};\n\
        shfl.sync.bfly.b32 %r8, %r4, 3, 31, -1;\ncp.async.cg.shared.global [%r10], [%in], 16;\ncp.async.commit_group;\ncp.async.wait_group 0;\n\
        cvt.rn.bf16x2.f32 %r8, %r4, %r5;\nsetp.lt.and.f32 %p1, %r4, %r5, !%p1;\natom.global.add.u32 %r8, [%out], 1;\nL: @%p1 bra L;";
    let texts = [
        text(
            ".const .align 4 .b32 c[2] = {1, 2};",
            &body
                .replace("!%p1;", "%p1;")
                .replace("setp.lt.and.f32 %p1, %r4, %r5, %p1", "setp.lt.f32 %p1, %r4, %r5"),
        ),
        text(
            ".func (.param .b32 r) f(.param .b32 x)\n{\nst.param.b32 [r], 1;\nret;\n}",
            "{\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %t;\ncall (b), f, (a);\n}\nT: .branchtargets L;\nbrx.idx 0, T;\nL:",
        ),
        String::from(include_str!("compiled/softmax.ptx")),
        String::from(include_str!("compiled/pieces.ptx")),
        crate::wgmma::sample(),
    ];
    for text in &texts {
        Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    }
    let mut draw = Draw(99);
    let (mut parsed, mut ran) = (0, 0);
    for round in 0..12_000 {
        let text = damage(&texts[round % texts.len()], &mut draw);
        let Ok(module) = Module::parse(&text) else { continue };
        parsed += 1;
        let mut device =
            Device::new(Limits { steps: 20_000, memory: 1 << 22, ..Limits::default() });
        let Ok(memory) = device.allocate(8192) else { continue };
        device.fill(memory, 1, 8192).unwrap();
        for kernel in module.kernels() {
            if kernel.static_shared > 227 << 10 || kernel.local_bytes > 1 << 16 {
                continue;
            }
            let arguments: Vec<Argument> = kernel
                .parameters
                .iter()
                .map(|p| match p.bytes {
                    8 => Argument::Address(memory),
                    4 => Argument::U32(64),
                    128 => map(memory),
                    n => Argument::Bytes(vec![0; n as usize]),
                })
                .collect();
            let threads = kernel.max_threads.unwrap_or(32).clamp(1, 128);
            let seed = round as u64 % 3;
            let launch = Launch { seed, dynamic_shared: 16384, ..Launch::new(1, threads) };
            ran += u32::from(device.launch(&module, &kernel.name, &launch, &arguments).is_ok());
        }
    }
    assert!(parsed > 500 && ran > 50, "{parsed} parsed, {ran} ran");
}

#[test]
fn instructions_that_the_target_lacks() {
    let on = |target: &str, body: &str| Module::parse(&text("", body).replace("sm_90a", target));
    let wgmma = "wgmma.fence.sync.aligned;";
    assert!(on("sm_90a", wgmma).is_ok());
    for target in ["sm_80", "sm_90", "sm_100a"] {
        assert!(on(target, wgmma).unwrap_err().to_string().contains("needs sm_90a"), "{target}");
    }
    let copy = "cp.async.bulk.commit_group;";
    assert!(on("sm_80", copy).is_err() && on("sm_90", copy).is_ok() && on("sm_100a", copy).is_ok());
    let wide = "ld.global.v4.b64 {%d0, %d1, %d2, %d3}, [%in];";
    assert!(on("sm_90a", wide).is_err() && on("sm_100a", wide).is_ok());
}

#[test]
fn registers_of_the_wrong_width() {
    for body in [
        "ld.global.v2.b32 {%r0, %h1}, [%in];",
        "mov.b64 {%r0, %h1}, %d0;",
        "mov.b64 %d0, {%r0, %h1};",
        "mov.b16 %h0, 0f3F800000;",
        "mov.b32 %r0, 0d3FF0000000000000;",
        "cvt.u32.u16 %h0, %h1;",
        "st.global.b64 [%out], %r0;",
    ] {
        assert!(matches!(refused(body), ParseError::Malformed { .. }), "{body}: {}", refused(body));
    }
}
