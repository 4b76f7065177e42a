//! Shared memory that threads touch with nothing between: found whatever the order of the warps, and not found where
//! something orders them.

use crate::launcher::{kind, run, run_with};
use kiln_ptx_emulator::{Checks, FaultKind, Launch};

/// `%r9` is the address of the thread's word of shared memory, `%r8` that of the next thread's.
const WORDS: &str = ".shared .align 16 .b8 s[4096];\nmov.u32 %r7, s;\nmad.lo.u32 %r9, %t, 4, %r7;\nsub.u32 %r6, %nt, 1;\n\
    add.u32 %r5, %t, 1;\nsetp.gt.u32 %p9, %r5, %r6;\nselp.b32 %r5, 0, %r5, %p9;\nmad.lo.u32 %r8, %r5, 4, %r7;\n";
const STORE: &str = "cvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";

fn races(body: &str, threads: u32) {
    for seed in 0..4 {
        let launch = Launch { seed, ..Launch::new(1, threads) };
        match run_with("", &format!("{WORDS}{body}"), &launch, &[]) {
            Ok(_) => panic!("no race with seed {seed}:\n{body}"),
            Err(fault) => assert!(
                matches!(
                    fault.kind,
                    FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }
                ),
                "{fault}"
            ),
        }
    }
}

fn clean(body: &str, threads: u32) -> Vec<u64> {
    let mut all: Option<Vec<u64>> = None;
    for seed in 0..4 {
        let launch = Launch { seed, ..Launch::new(1, threads) };
        let ran = run_with("", &format!("{WORDS}{body}\n{STORE}"), &launch, &[]);
        let words = ran.unwrap_or_else(|f| panic!("{f} with seed {seed}")).words(threads as usize);
        assert!(all.as_ref().is_none_or(|a| *a == words));
        all = Some(words);
    }
    all.unwrap()
}

#[test]
fn a_barrier_orders() {
    let words = clean("st.shared.b32 [%r9], %t;\nbar.sync 0;\nld.shared.b32 %r0, [%r8];", 128);
    assert_eq!((words[0], words[127]), (1, 0));
    races("st.shared.b32 [%r9], %t;\nld.shared.b32 %r0, [%r8];", 128);
    races(
        "st.shared.b32 [%r9], %t;\nbar.sync 0;\nld.shared.b32 %r0, [%r8];\nst.shared.b32 [%r9], %r0;",
        128,
    );
    clean(
        "st.shared.b32 [%r9], %t;\nbar.sync 0;\nld.shared.b32 %r0, [%r8];\nbar.sync 0;\nst.shared.b32 [%r9], %r0;",
        128,
    );
}

#[test]
fn lanes_of_one_warp_race_too() {
    races("st.shared.b32 [%r9], %t;\nld.shared.b32 %r0, [%r8];", 32);
    races("st.shared.b32 [%r7], %t;", 32);
    clean("st.shared.b32 [%r9], %t;\nbar.warp.sync -1;\nld.shared.b32 %r0, [%r8];", 32);
    // Exchanges synchronise lanes, but order no memory.
    races(
        "st.shared.b32 [%r9], %t;\nshfl.sync.idx.b32 %r1, %t, 0, 31, -1;\nld.shared.b32 %r0, [%r8];",
        32,
    );
    // A barrier of one warp says nothing of others.
    races("st.shared.b32 [%r9], %t;\nbar.warp.sync -1;\nld.shared.b32 %r0, [%r8];", 64);
}

#[test]
fn races_are_found_to_the_byte() {
    let body = "add.u32 %r1, %r7, %t;\nst.shared.b8 [%r1], %t;\nld.shared.u8 %r0, [%r1];";
    assert_eq!(clean(body, 64)[63], 63);
    races("mad.lo.u32 %r1, %t, 2, %r7;\nst.shared.b16 [%r1], %t;\nld.shared.b32 %r0, [%r9];", 2);
}

#[test]
fn many_readers_and_then_a_writer() {
    let read = "setp.eq.u32 %p1, %t, 0;\n@%p1 st.shared.b32 [%r7], 5;\nbar.sync 0;\nld.shared.b32 %r0, [%r7];\n";
    clean(&format!("{read}bar.sync 0;\n@%p1 st.shared.b32 [%r7], 6;"), 128);
    races(&format!("{read}@%p1 st.shared.b32 [%r7], 6;"), 128);
}

#[test]
fn named_barriers_of_producers_and_consumers() {
    let body = "setp.ge.u32 %p1, %t, 32;\n@%p1 bra CONSUMER;\nst.shared.b32 [%r9], %t;\nbar.arrive 1, 64;\nmov.u32 %r0, 0;\n\
        bra DONE;\nCONSUMER: bar.sync 1, 64;\nsub.u32 %r1, %r9, 128;\nld.shared.b32 %r0, [%r1];\nDONE:";
    assert_eq!(clean(body, 64)[40], 8);
    races(&body.replace("bar.arrive 1, 64;", "").replace("bar.sync 1, 64;", "bar.sync 1, 32;"), 64);
}

#[test]
fn atomics_do_not_race_with_each_other() {
    let start = "setp.eq.u32 %p1, %t, 0;\n@%p1 st.shared.b32 [%r7], 0;\nbar.sync 0;\nred.shared.add.u32 [%r7], 1;\n";
    assert_eq!(clean(&format!("{start}bar.sync 0;\nld.shared.b32 %r0, [%r7];"), 64)[9], 64);
    races(&format!("{start}ld.shared.b32 %r0, [%r7];"), 64);
}

#[test]
fn a_flag_with_release_and_acquire_orders() {
    let body = |write: &str, read: &str| {
        format!(
            "setp.eq.u32 %p1, %t, 0;\n@%p1 st.shared.b32 [%r7+128], 0;\nbar.sync 0;\nsetp.ge.u32 %p2, %t, 32;\n@%p2 bra W;\n\
             @%p1 st.shared.b32 [%r7], 42;\n{write}\nmov.u32 %r0, 42;\nbra E;\n\
             W: {read}\nsetp.eq.u32 %p3, %r1, 0;\n@%p3 bra W;\nld.shared.b32 %r0, [%r7];\nE:"
        )
    };
    let release = "@%p1 st.release.cta.shared.b32 [%r7+128], 1;";
    assert_eq!(clean(&body(release, "ld.acquire.cta.shared.b32 %r1, [%r7+128];"), 64), [42; 64]);
    let fence = "fence.acq_rel.cta;\n@%p1 st.relaxed.cta.shared.b32 [%r7+128], 1;";
    assert_eq!(
        clean(&body(fence, "ld.relaxed.cta.shared.b32 %r1, [%r7+128];\nfence.acq_rel.cta;"), 64),
        [42; 64]
    );
    let relaxed = "@%p1 st.relaxed.cta.shared.b32 [%r7+128], 1;";
    let k = kind(
        "",
        &format!("{WORDS}{}", body(relaxed, "ld.acquire.cta.shared.b32 %r1, [%r7+128];")),
        64,
    );
    assert!(matches!(k, FaultKind::Race { .. }), "{k:?}");
}

#[test]
fn a_race_names_the_other_thread_and_can_be_let_pass() {
    let body = format!("{WORDS}st.shared.b32 [%r7], %t;");
    let FaultKind::Race { address, this, earlier, by } = kind("", &body, 32) else {
        panic!("no race")
    };
    assert_eq!(
        (address, this, earlier, by.as_str()),
        (1024, "write", "write", "warp 0 lane 0 of the cluster")
    );
    let checks = Checks { races: false, ..Checks::default() };
    let launch = Launch { checks, ..Launch::new(1, 32) };
    assert!(run_with("", &body, &launch, &[]).is_ok());
    assert!(run(&format!("{WORDS}st.shared.b32 [%r9], %t;"), 32, &[]).is_ok());
}
