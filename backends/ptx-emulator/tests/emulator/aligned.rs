//! Barriers of blocks and clusters that give results.

use crate::launcher::{kind, run, run_with};
use kiln_ptx_emulator::{FaultKind, Launch};

#[test]
fn reductions_at_barriers() {
    let store = "cvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";
    let few = "setp.lt.u32 %p1, %t, 40;\n";
    let ran = run(&format!("{few}bar.red.popc.u32 %r0, 0, %p1;\n{store}"), 96, &[]).unwrap();
    assert_eq!(ran.counters.barriers, 1);
    assert_eq!(ran.words(96), [40; 96]);
    let and = format!("{few}bar.red.and.pred %p2, 0, %p1;\nselp.b32 %r0, 1, 0, %p2;\n{store}");
    assert_eq!(run(&and, 96, &[]).unwrap().words(96), [0; 96]);
    let or =
        format!("{few}barrier.cta.red.or.pred %p2, 0, %p1;\nselp.b32 %r0, 1, 0, %p2;\n{store}");
    assert_eq!(run(&or, 96, &[]).unwrap().words(96), [1; 96]);
}

#[test]
fn a_block_that_does_not_fill_its_last_warp() {
    let body = ".shared .align 4 .b8 s[256];\nmov.u32 %r1, s;\nmad.lo.u32 %r2, %t, 4, %r1;\nst.shared.b32 [%r2], %t;\nbar.sync 0;\n\
        ld.shared.b32 %r0, [s+156];\ncvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";
    assert_eq!(run(body, 40, &[]).unwrap().words(40), [39; 40]);
}

#[test]
fn clusters_see_each_others_shared_memory() {
    let body = ".shared .align 4 .b8 s[4];\nmov.u32 %r1, %cluster_ctarank;\nadd.u32 %r2, %r1, 100;\nst.shared.b32 [s], %r2;\n\
        barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\nxor.b32 %r3, %r1, 1;\nmov.u32 %r4, s;\n\
        mapa.shared::cluster.u32 %r5, %r4, %r3;\nld.shared::cluster.u32 %r0, [%r5];\nbarrier.cluster.arrive.aligned;\n\
        barrier.cluster.wait.aligned;\ncvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";
    let launch = Launch { cluster: [2, 1, 1], ..Launch::new(4, 1) };
    assert_eq!(run_with("", body, &launch, &[]).unwrap().words(4), [101, 100, 101, 100]);
    let without =
        body.replacen("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n", "", 1);
    let Err(fault) = run_with("", &without, &launch, &[]) else { panic!("no fault") };
    assert!(
        matches!(fault.kind, FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }),
        "{fault}"
    );
    let far = body.replace("xor.b32 %r3, %r1, 1;", "mov.b32 %r3, 2;");
    let Err(fault) = run_with("", &far, &launch, &[]) else { panic!("no fault") };
    assert!(matches!(fault.kind, FaultKind::Operand(_)), "{fault}");
    assert!(matches!(kind("", "barrier.cluster.wait.aligned;", 32), FaultKind::Operand(_)));
}

#[test]
fn a_block_that_has_exited_has_no_shared_memory() {
    // Block 0 ends at once, block 1 looks for its memory later.
    let body = ".shared .align 4 .b8 s[4];\nst.shared.b32 [s], 7;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
        mov.u32 %r1, %cluster_ctarank;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 exit;\nmov.u32 %r3, 0;\nL: add.u32 %r3, %r3, 1;\nsetp.lt.u32 %p2, %r3, 20000;\n\
        @%p2 bra L;\nmov.u32 %r4, s;\nmapa.shared::cluster.u32 %r5, %r4, 0;\nld.shared::cluster.u32 %r0, [%r5];";
    let launch = Launch { cluster: [2, 1, 1], ..Launch::new(2, 32) };
    let Err(fault) = run_with(
        "",
        &body.replace(
            "st.shared.b32 [s], 7;",
            "setp.eq.u32 %p3, %t, 0;\n@%p3 st.shared.b32 [s], 7;",
        ),
        &launch,
        &[],
    ) else {
        panic!("no fault")
    };
    assert!(fault.to_string().contains("has exited"), "{fault}");
}
