//! `cp.async`, mbarriers and bulk copies: what they move, and who may use it when.

use crate::launcher::{kind, run, run_with};
use kiln_ptx_emulator::{Fault, FaultKind, Launch};

fn input() -> Vec<u8> {
    (0..4096u32).flat_map(|i| i.to_le_bytes()).collect()
}

const COPY: &str = ".shared .align 128 .b8 s[2048];\nmov.u32 %r9, s;\nmad.lo.u32 %r10, %t, 16, %r9;\nmul.wide.u32 %d9, %t, 16;\nadd.u64 %d9, %in, %d9;\n";

fn both(body: &str) -> Result<Vec<u64>, Fault> {
    let launch = Launch { seed: 3, ..Launch::new(1, 64) };
    Ok(run_with("", body, &launch, &input())?.words(64))
}

#[test]
fn copies_in_groups() {
    let body = |wait: &str, after: &str| {
        format!(
            "{COPY}cp.async.cg.shared.global [%r10], [%d9], 16;\ncp.async.commit_group;\n\
             cp.async.ca.shared.global.L2::128B [%r10+1024], [%d9+1024], 8, 4;\ncp.async.ca.shared.global [%r10+1032], [%d9+1032], 8;\ncp.async.commit_group;\n\
             {wait}\n{after}\nst.global.b64 [%mine], %d0;"
        )
    };
    let words = both(&body("cp.async.wait_group 1;", "ld.shared.b64 %d0, [%r10+8];")).unwrap();
    assert_eq!(words[5], 22 | 23 << 32);
    // What is not given is zero.
    let words = both(&body("cp.async.wait_all;", "ld.shared.b64 %d0, [%r10+1024];")).unwrap();
    assert_eq!(words[5], 256 + 20);
    // Another thread's copies need its wait and a barrier.
    let other = "bar.sync 0;\nxor.b32 %r11, %t, 1;\nmad.lo.u32 %r11, %r11, 16, %r9;\nld.shared.b64 %d0, [%r11];";
    assert_eq!(both(&body("cp.async.wait_group 0;", other)).unwrap()[0], 4 | 5 << 32);
    let race = |wait: &str, after: &str| {
        let fault = both(&body(wait, after)).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    };
    race("", "ld.shared.b64 %d0, [%r10];");
    race("cp.async.wait_group 2;", "ld.shared.b64 %d0, [%r10];");
    race("cp.async.wait_group 1;", "ld.shared.b64 %d0, [%r10+1024];");
    race(
        "cp.async.wait_group 0;",
        "xor.b32 %r11, %t, 1;\nmad.lo.u32 %r11, %r11, 16, %r9;\nld.shared.b64 %d0, [%r11];",
    );
    race("", "st.shared.b64 [%r10], %d9;\nmov.b64 %d0, 0;");
}

const BARRIER: &str = ".shared .align 8 .b64 bar;\n.shared .align 128 .b8 s[2048];\nmov.u32 %r8, bar;\nmov.u32 %r9, s;\nsetp.eq.u32 %p1, %t, 0;\n";
const INIT: &str =
    "@%p1 mbarrier.init.shared::cta.b64 [%r8], 1;\nfence.proxy.async;\nbar.sync 0;\n";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r8], 0;\n@!%p2 bra W;\n";
const READ: &str =
    "mad.lo.u32 %r10, %t, 8, %r9;\nld.shared.b64 %d0, [%r10];\nst.global.b64 [%mine], %d0;";
const BULK: &str =
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r9], [%in], 1024, [%r8];";

#[test]
fn a_bulk_copy_and_its_mbarrier() {
    let issue =
        format!("@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 1024;\n@%p1 {BULK}\n");
    let whole = format!("{BARRIER}{INIT}{issue}{WAIT}{READ}");
    assert_eq!(both(&whole).unwrap()[63], 126 | 127 << 32);
    let race = |body: String| {
        let fault = both(&body).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    };
    race(format!("{BARRIER}{INIT}{issue}bar.sync 0;\n{READ}"));
    // Reused without waiting for the readers.
    let again =
        format!("@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 1024;\n@%p1 {BULK}");
    race(format!("{whole}\n{again}"));
    assert!(both(&format!("{whole}\nbar.sync 0;\n{again}")).is_ok());
}

#[test]
fn phases_that_never_complete() {
    let deadlock = |body: String| {
        let fault = both(&body).unwrap_err();
        let FaultKind::Deadlock(waiting) = &fault.kind else { panic!("{fault}") };
        assert!(waiting[0].what.contains("phase 0 of the mbarrier"), "{fault}");
    };
    // Too few bytes; no arrival.
    let few = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r8], 2048;\n";
    deadlock(format!("{BARRIER}{INIT}{few}@%p1 {BULK}\n{WAIT}{READ}"));
    deadlock(format!(
        "{BARRIER}{INIT}@%p1 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r8], 1024;\n@%p1 {BULK}\n{WAIT}{READ}"
    ));
}

#[test]
fn producers_and_consumers_over_phases() {
    // One warp fills two stages in turn, the other one reads them; `full` and `empty` barriers for each.
    let body = ".shared .align 8 .b8 bars[32];\n.shared .align 16 .b8 s[256];\nmov.u32 %r8, bars;\nmov.u32 %r9, s;\nsetp.eq.u32 %p1, %t, 0;\n\
        @%p1 mbarrier.init.shared.b64 [%r8], 32;\n@%p1 mbarrier.init.shared.b64 [%r8+8], 32;\n@%p1 mbarrier.init.shared.b64 [%r8+16], 32;\n\
        @%p1 mbarrier.init.shared.b64 [%r8+24], 32;\nbar.sync 0;\nmov.b32 %r20, 0;\nmov.b32 %r30, 0;\nand.b32 %r5, %t, 31;\nsetp.ge.u32 %p3, %t, 32;\n\
        L: and.b32 %r21, %r20, 1;\nmad.lo.u32 %r22, %r21, 8, %r8;\nshr.u32 %r23, %r20, 1;\nand.b32 %r23, %r23, 1;\n\
        mad.lo.u32 %r24, %r21, 128, %r9;\nmad.lo.u32 %r24, %r5, 4, %r24;\n@%p3 bra C;\nxor.b32 %r25, %r23, 1;\n\
        WE: mbarrier.try_wait.parity.shared.b64 %p2, [%r22+16], %r25;\n@!%p2 bra WE;\nadd.u32 %r26, %r20, %r5;\nst.shared.b32 [%r24], %r26;\n\
        mbarrier.arrive.shared.b64 %d5, [%r22];\nbra N;\nC:\nWF: mbarrier.try_wait.parity.shared.b64 %p2, [%r22], %r23;\n@!%p2 bra WF;\n\
        sub.u32 %r27, 127, 0;\nxor.b32 %r28, %r5, 1;\nmad.lo.u32 %r29, %r21, 128, %r9;\nmad.lo.u32 %r29, %r28, 4, %r29;\nld.shared.b32 %r27, [%r29];\n\
        add.u32 %r30, %r30, %r27;\nmbarrier.arrive.shared.b64 %d5, [%r22+16];\nN: add.u32 %r20, %r20, 1;\nsetp.lt.u32 %p4, %r20, 6;\n@%p4 bra L;\n\
        cvt.u64.u32 %d0, %r30;\nst.global.u64 [%mine], %d0;";
    for seed in 0..5 {
        let launch = Launch { seed, ..Launch::new(1, 64) };
        let words = run_with("", body, &launch, &[]).unwrap_or_else(|f| panic!("{f}")).words(64);
        assert_eq!((words[32], words[33]), (15 + 6, 15));
        // Without waiting for the consumer, a fill races with it, or runs ahead of the phase that it waits for.
        let wait = "WE: mbarrier.try_wait.parity.shared.b64 %p2, [%r22+16], %r25;\n@!%p2 bra WE;\n";
        let Err(fault) = run_with("", &body.replace(wait, ""), &launch, &[]) else {
            panic!("no fault with seed {seed}")
        };
        assert!(matches!(fault.kind, FaultKind::Race { .. } | FaultKind::Deadlock(_)), "{fault}");
    }
}

#[test]
fn states_and_misuse_of_mbarriers() {
    let body = format!(
        "{BARRIER}mbarrier.init.shared.b64 [%r8], 3;\nmbarrier.arrive.shared.b64 %d1, [%r8], 2;\nmbarrier.pending_count.b64 %r1, %d1;\n\
         mbarrier.test_wait.shared.b64 %p2, [%r8], %d1;\n@%p2 trap;\nmbarrier.arrive.shared.b64 %d2, [%r8];\nmbarrier.test_wait.shared.b64 %p2, [%r8], %d1;\n\
         @!%p2 trap;\ncvt.u64.u32 %d0, %r1;\nst.global.b64 [%mine], %d0;"
    );
    assert_eq!(run(&body, 1, &[]).unwrap().words(1), [3]);
    let misuse = |body: &str| {
        let k = kind("", &format!("{BARRIER}{body}"), 1);
        assert!(matches!(k, FaultKind::Mbarrier { .. }), "{k:?}");
    };
    misuse("mbarrier.arrive.shared.b64 %d1, [%r8];");
    misuse("mbarrier.init.shared.b64 [%r8], 0;");
    misuse("mbarrier.init.shared.b64 [%r8], 1;\nmbarrier.init.shared.b64 [%r8], 1;");
    misuse("mbarrier.init.shared.b64 [%r8], 1;\nld.shared.b64 %d0, [bar];");
    misuse("mbarrier.init.shared.b64 [%r8], 1;\nmbarrier.arrive.shared.b64 %d1, [%r8], 2;");
    let unordered =
        "@%p1 mbarrier.init.shared.b64 [%r8], 64;\nmbarrier.arrive.shared.b64 %d1, [%r8];";
    let k = kind("", &format!("{BARRIER}{unordered}"), 32);
    assert!(matches!(k, FaultKind::Mbarrier { .. }), "{k:?}");
}

#[test]
fn copies_that_arrive_at_an_mbarrier() {
    let body = format!(
        "{BARRIER}@%p1 mbarrier.init.shared::cta.b64 [%r8], 64;\nbar.sync 0;\nmad.lo.u32 %r10, %t, 16, %r9;\nmul.wide.u32 %d9, %t, 16;\nadd.u64 %d9, %in, %d9;\n\
         cp.async.ca.shared.global [%r10], [%d9], 16;\ncp.async.mbarrier.arrive.noinc.shared.b64 [%r8];\n{WAIT}{READ}"
    );
    assert_eq!(both(&body).unwrap()[63], 126 | 127 << 32);
    let alone = body.replace(
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r8];",
        "mbarrier.arrive.shared.b64 %d5, [%r8];",
    );
    assert!(matches!(both(&alone).unwrap_err().kind, FaultKind::Race { .. }));
}

#[test]
fn the_asynchronous_proxy_needs_a_fence() {
    let store = format!(
        "{BARRIER}mad.lo.u32 %r10, %t, 16, %r9;\nst.shared.v4.b32 [%r10], {{%t, %t, %t, %t}};\n"
    );
    let copy = "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%out], [%r9], 1024;\n@%p1 cp.async.bulk.commit_group;\n";
    let end = "cp.async.bulk.wait_group.read 0;";
    let ran = run_with(
        "",
        &format!("{store}fence.proxy.async.shared::cta;\nbar.sync 0;\n{copy}{end}"),
        &Launch::new(1, 64),
        &[],
    )
    .unwrap();
    assert_eq!(ran.words(128)[127], 63 | 63 << 32);
    // A fence on the way is enough, also after the barrier.
    assert!(both(&format!("{store}bar.sync 0;\nfence.proxy.async;\n{copy}{end}")).is_ok());
    let fault = both(&format!("{store}bar.sync 0;\n{copy}{end}")).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::MissingProxyFence { .. }), "{fault}");
    // Before the write it says nothing of it.
    let fault = both(&format!("fence.proxy.async;\n{store}bar.sync 0;\n{copy}{end}")).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::MissingProxyFence { .. }), "{fault}");
    let fault = both(&format!("{store}fence.proxy.async;\n{copy}{end}")).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    // The source is written again before the copy has read it.
    let again = "st.shared.v4.b32 [%r10], {%t, %t, %t, %t};";
    let fenced = format!("{store}fence.proxy.async;\nbar.sync 0;\n{copy}");
    assert!(matches!(
        both(&format!("{fenced}bar.sync 0;\n{again}")).unwrap_err().kind,
        FaultKind::Race { .. }
    ));
    assert!(both(&format!("{fenced}{end}\nbar.sync 0;\n{again}")).is_ok());
}

#[test]
fn a_block_arrives_at_another_ones_mbarrier_and_copies_to_it() {
    // Block 1 copies 512 bytes of its shared memory to block 0, whose mbarrier counts them; block 0 tells block 1 that it
    // has read them by arriving there.
    let body = ".shared .align 8 .b64 bar;\n.shared .align 128 .b8 s[512];\n.shared .align 128 .b8 to[512];\nmov.u32 %r8, bar;\nmov.u32 %r9, s;\nmov.u32 %r7, to;\n\
        setp.eq.u32 %p1, %t, 0;\nmad.lo.u32 %r10, %t, 8, %r9;\nadd.u32 %r11, %n, 1000;\nst.shared.v2.b32 [%r10], {%r11, %n};\n\
        @%p1 mbarrier.init.shared.b64 [%r8], 1;\nfence.mbarrier_init.release.cluster;\nfence.proxy.async;\nbarrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n\
        mov.u32 %r1, %cluster_ctarank;\nsetp.eq.u32 %p3, %r1, 0;\n@%p3 bra ZERO;\n\
        mapa.shared::cluster.u32 %r2, %r7, 0;\nmapa.shared::cluster.u32 %r3, %r8, 0;\n\
        @%p1 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r2], [%r9], 512, [%r3];\n\
        W1: mbarrier.try_wait.parity.shared.b64 %p2, [%r8], 0;\n@!%p2 bra W1;\nmov.b64 %d0, 5;\nbra E;\n\
        ZERO: @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r8], 512;\nW0: mbarrier.try_wait.parity.shared.b64 %p2, [%r8], 0;\n@!%p2 bra W0;\n\
        mad.lo.u32 %r12, %t, 8, %r7;\nld.shared.b64 %d0, [%r12];\nbar.sync 0;\nmapa.shared::cluster.u32 %r3, %r8, 1;\n\
        @%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\nE: st.global.b64 [%mine], %d0;\n\
        barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;";
    for seed in 0..4 {
        let launch = Launch { cluster: [2, 1, 1], seed, ..Launch::new(2, 64) };
        let words = run_with("", body, &launch, &[]).unwrap_or_else(|f| panic!("{f}")).words(128);
        assert_eq!((words[3], words[127]), (1067 | 67 << 32, 5));
        let hasty = body.replace(
            "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n",
            "",
        );
        assert!(run_with("", &hasty, &launch, &[]).is_err());
    }
}

#[test]
fn hints_change_nothing() {
    let body = "griddepcontrol.wait;\nsetmaxnreg.dec.sync.aligned.u32 40;\nprefetch.global.L2 [%in];\ncreatepolicy.fractional.L2::evict_last.b64 %d5, 1.0;\n\
        nanosleep.u32 20;\nld.global.L2::cache_hint.b64 %d0, [%in], %d5;\ndiscard.global.L2 [%in], 128;\ngriddepcontrol.launch_dependents;\nst.global.b64 [%mine], %d0;";
    assert_eq!(run(body, 32, &input()).unwrap().words(1), [1 << 32]);
}
