//! Each kind of fault that has no test elsewhere, from the smallest kernel that has it.

use crate::launcher::{fault, kind};
use kiln_ptx_emulator::FaultKind;

#[test]
fn barriers_that_not_all_lanes_execute() {
    let body = "setp.lt.u32 %p1, %t, 5;\n@%p1 bra A;\nbra M;\nA: bar.sync 0;\nM:";
    let k = kind("", body, 32);
    assert_eq!(k, FaultKind::DivergentBarrier { arrived: 0x1f, missing: 0xffff_ffe0 });
    // A guard is a branch, too.
    let k = kind("", "setp.lt.u32 %p1, %t, 5;\n@%p1 bar.sync 0;", 32);
    assert_eq!(k, FaultKind::DivergentBarrier { arrived: 0x1f, missing: 0xffff_ffe0 });
}

#[test]
fn a_barrier_that_some_warps_do_not_reach() {
    let fault = fault("", "setp.lt.u32 %p1, %t, 32;\n@%p1 bra E;\nbar.sync 3;\nE:", 128);
    let FaultKind::Deadlock(waiting) = &fault.kind else { panic!("{fault}") };
    assert_eq!(waiting.len(), 3);
    assert_eq!((waiting[0].warp, waiting[0].lanes), (1, u32::MAX));
    assert_eq!(waiting[0].what, "barrier 3");
    assert_eq!(waiting[0].line, fault.line);
    assert!(fault.to_string().contains("deadlock"), "{fault}");
}

#[test]
fn barriers_with_the_wrong_numbers() {
    assert!(matches!(kind("", "bar.sync 0, 33;", 64), FaultKind::Operand(_)));
    assert!(matches!(kind("", "bar.sync 16;", 64), FaultKind::Operand(_)));
    let differ =
        "setp.lt.u32 %p1, %t, 32;\n@%p1 bra A;\nbar.sync 1, 64;\nbra E;\nA: bar.sync 1, 96;\nE:";
    assert!(matches!(kind("", differ, 96), FaultKind::Operand(_)));
}

#[test]
fn masks_of_lanes() {
    let k = kind("", "setp.lt.u32 %p1, %t, 5;\n@%p1 shfl.sync.idx.b32 %r0, %t, 0, 31, -1;", 32);
    assert!(matches!(k, FaultKind::LaneMask { executing: 0x1f, mask: u32::MAX, .. }), "{k:?}");
    let k = kind("", "shfl.sync.idx.b32 %r0, %t, 0, 31, 0xff;", 32);
    assert!(matches!(k, FaultKind::LaneMask { mask: 0xff, .. }), "{k:?}");
    let k = kind("", "setp.lt.u32 %p1, %t, 5;\n@%p1 exit;\nbar.warp.sync -1;", 32);
    assert!(matches!(k, FaultKind::LaneMask { .. }), "{k:?}");
    // Lanes that execute two different exchanges wait for each other for ever.
    let two = "setp.lt.u32 %p1, %t, 5;\n@%p1 bra A;\nshfl.sync.idx.b32 %r0, %t, 0, 31, -1;\nbra M;\n\
        A: shfl.sync.idx.b32 %r0, %t, 0, 31, -1;\nM:";
    assert!(matches!(kind("", two, 32), FaultKind::Deadlock(_)));
    // What a lane holds that takes no part is undefined.
    let apart = "setp.lt.u32 %p1, %t, 16;\n@%p1 shfl.sync.idx.b32 %r0, %t, 20, 31, 0xffff;\n@%p1 add.u32 %r0, %r0, 1;";
    assert_eq!(kind("", apart, 32), FaultKind::UninitialisedRegister(String::from("%r0")));
}
