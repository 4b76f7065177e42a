//! Exchanges within a warp, against what their pseudo-code in the PTX ISA gives.

use crate::launcher::run;

fn lanes(body: &str) -> Vec<u64> {
    let body = format!("{body}\ncvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;");
    run(&body, 32, &[]).unwrap_or_else(|f| panic!("{f}")).words(32)
}

#[test]
fn shuffles() {
    let down = lanes("shfl.sync.down.b32 %r0|%p1, %t, 4, 31, -1;\n@!%p1 mov.b32 %r0, 99;");
    assert!((0..32u64).all(|l| down[l as usize] == if l < 28 { l + 4 } else { 99 }));
    let up = lanes("shfl.sync.up.b32 %r0|%p1, %t, 1, 0, -1;\n@!%p1 mov.b32 %r0, 99;");
    assert_eq!(up[..3], [99, 0, 1]);
    let butterfly = lanes("shfl.sync.bfly.b32 %r0, %t, 16, 31, -1;");
    assert!((0..32u64).all(|l| butterfly[l as usize] == l ^ 16));
    // Segments of eight lanes.
    let index = lanes("shfl.sync.idx.b32 %r0, %t, 3, 0x181f, -1;");
    assert!((0..32u64).all(|l| index[l as usize] == (l & !7) + 3));
    let down = lanes("shfl.sync.down.b32 %r0|%p1, %t, 2, 0x181f, -1;\n@!%p1 mov.b32 %r0, 99;");
    assert_eq!(down[4..10], [6, 7, 99, 99, 10, 11]);
    let up = lanes("shfl.sync.up.b32 %r0|%p1, %t, 2, 0x1800, -1;\n@!%p1 mov.b32 %r0, 99;");
    assert_eq!(up[7..12], [5, 99, 99, 8, 9]);
}

#[test]
fn a_sum_over_a_warp() {
    let mut body = String::from("mov.b32 %r0, %t;\n");
    for distance in [16, 8, 4, 2, 1] {
        body +=
            &format!("shfl.sync.bfly.b32 %r1, %r0, {distance}, 31, -1;\nadd.u32 %r0, %r0, %r1;\n");
    }
    assert_eq!(lanes(&body), [496; 32]);
}

#[test]
fn votes_matches_and_reductions() {
    let odd = "and.b32 %r1, %t, 1;\nsetp.eq.u32 %p1, %r1, 1;\n";
    assert_eq!(lanes(&format!("{odd}vote.sync.ballot.b32 %r0, %p1, -1;")), [0xaaaa_aaaa; 32]);
    assert_eq!(lanes(&format!("{odd}vote.sync.ballot.b32 %r0, !%p1, -1;")), [0x5555_5555; 32]);
    assert_eq!(
        lanes(&format!("{odd}vote.sync.any.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")),
        [1; 32]
    );
    assert_eq!(
        lanes(&format!("{odd}vote.sync.all.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")),
        [0; 32]
    );
    assert_eq!(
        lanes(&format!("{odd}vote.sync.uni.pred %p2, %p1, -1;\nselp.b32 %r0, 1, 0, %p2;")),
        [0; 32]
    );
    let groups = lanes("shr.u32 %r1, %t, 3;\nmatch.any.sync.b32 %r0, %r1, -1;");
    assert_eq!((groups[0], groups[31]), (0xff, 0xff00_0000));
    assert_eq!(lanes("mov.b32 %r1, 4;\nmatch.all.sync.b32 %r0|%p1, %r1, -1;"), [0xffff_ffff; 32]);
    assert_eq!(lanes("redux.sync.add.s32 %r0, %t, -1;"), [496; 32]);
    assert_eq!(lanes("sub.u32 %r1, %t, 5;\nredux.sync.min.s32 %r0, %r1, -1;"), [0xffff_fffb; 32]);
    assert_eq!(lanes("sub.u32 %r1, %t, 5;\nredux.sync.min.u32 %r0, %r1, -1;"), [0; 32]);
    assert_eq!(lanes("redux.sync.or.b32 %r0, %t, -1;"), [31; 32]);
    let elected = lanes("elect.sync _|%p1, -1;\nselp.b32 %r0, 1, 0, %p1;");
    assert_eq!((elected[0], elected.iter().sum::<u64>()), (1, 1));
    let active = lanes("mov.b32 %r0, 0;\nsetp.lt.u32 %p1, %t, 4;\n@%p1 activemask.b32 %r0;");
    assert_eq!(active[2..6], [15, 15, 0, 0]);
}

#[test]
fn exchanges_among_some_lanes() {
    // Two halves, each on its own side of a branch.
    let body = "setp.lt.u32 %p1, %t, 16;\n@%p1 bra A;\nredux.sync.add.u32 %r0, %t, 0xffff0000;\nbra M;\n\
        A: redux.sync.add.u32 %r0, %t, 0x0000ffff;\nM:";
    let sums = lanes(body);
    assert_eq!((sums[0], sums[31]), (120, 376));
    // Lanes that come late are waited for.
    let late = "mov.u32 %r1, 0;\nsetp.lt.u32 %p1, %t, 16;\n@%p1 bra B;\nL: add.u32 %r1, %r1, 1;\nsetp.lt.u32 %p2, %r1, %t;\n\
        @%p2 bra L;\nB: redux.sync.max.u32 %r0, %r1, -1;";
    assert_eq!(lanes(late), [31; 32]);
}
