//! Branches, loops, calls: lanes part and meet again.

use crate::launcher::{HEAD, kind, one32, run, run_with};
use kiln_ptx_emulator::{Argument, Device, FaultKind, Launch, Limits, Module};

const STORE: &str = "cvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";

#[test]
fn a_loop_with_a_length_of_its_own_for_each_lane() {
    let body = format!(
        "mov.u32 %r0, 0;\nmov.u32 %r1, 0;\nL: setp.ge.u32 %p1, %r1, %t;\n@%p1 bra E;\nadd.u32 %r0, %r0, %r1;\n\
         add.u32 %r1, %r1, 1;\nbra.uni L;\nE: {STORE}"
    );
    let ran = run(&body, 64, &[]).unwrap();
    // The store is one instruction of each warp: all lanes have met again.
    assert_eq!(ran.counters.instructions["st.global"], 2);
    let words = ran.words(64);
    assert!((0..64u64).all(|t| words[t as usize] == t * t.saturating_sub(1) / 2));
}

#[test]
fn both_sides_of_a_branch_meet() {
    let body = format!(
        "setp.lt.u32 %p1, %t, 10;\n@%p1 bra A;\nmov.u32 %r0, 7;\nbra M;\nA: mov.u32 %r0, 3;\nM: {STORE}"
    );
    let ran = run(&body, 32, &[]).unwrap();
    assert_eq!(ran.counters.instructions["st.global"], 1);
    assert_eq!(ran.words(32)[9..11], [3, 7]);
}

#[test]
fn guards_leave_other_lanes_alone() {
    let body = format!(
        "mov.u32 %r0, 1;\nsetp.eq.u32 %p1, %t, 3;\n@%p1 mov.u32 %r0, 9;\n@!%p1 add.u32 %r0, %r0, 1;\n{STORE}"
    );
    let words = run(&body, 32, &[]).unwrap().words(32);
    assert_eq!(words[2..5], [2, 9, 2]);
}

#[test]
fn a_branch_by_index() {
    let body = format!(
        "and.b32 %r1, %t, 3;\nT: .branchtargets A, B, C, A;\nbrx.idx %r1, T;\nA: mov.u32 %r0, 10;\nbra M;\n\
         B: mov.u32 %r0, 11;\nbra M;\nC: mov.u32 %r0, 12;\nM: {STORE}"
    );
    assert_eq!(run(&body, 32, &[]).unwrap().words(32)[..5], [10, 11, 12, 10, 10]);
    let far = body.replace("and.b32 %r1, %t, 3;", "mov.b32 %r1, 4;");
    assert!(matches!(kind("", &far, 1), FaultKind::Operand(_)));
}

#[test]
fn nested_scopes_have_their_own_names() {
    let body = "mov.u32 %r0, 1;\n{\n.reg .b32 %x;\nmov.u32 %x, 5;\nbra L;\nL:\nadd.u32 %r0, %r0, %x;\n}\n\
        {\n.reg .b64 %x;\nmov.u64 %x, 7;\nbra L;\nL:\ncvt.u32.u64 %r1, %x;\nadd.u32 %r0, %r0, %r1;\n}";
    assert_eq!(one32(body), 13);
}

#[test]
fn calls() {
    let functions = "\
.func (.param .b32 r) square(.param .b32 x)
{
.reg .b32 %a<3>;
ld.param.b32 %a0, [x];
setp_free: mul.lo.s32 %a1, %a0, %a0;
st.param.b32 [r], %a1;
ret;
}
.func (.param .b32 r) fourth(.param .b32 x)
{
.reg .pred %p;
.reg .b32 %a<3>;
ld.param.b32 %a0, [x];
setp.eq.s32 %p, %a0, 3;
@%p bra EARLY;
{
.param .b32 p0;
st.param.b32 [p0], %a0;
.param .b32 r0;
call.uni (r0), square, (p0);
ld.param.b32 %a1, [r0];
}
mul.lo.s32 %a1, %a1, %a1;
st.param.b32 [r], %a1;
ret;
EARLY: st.param.b32 [r], -1;
ret;
}";
    let body = format!(
        "{{\n.param .b32 p0;\nst.param.b32 [p0], %t;\n.param .b32 r0;\ncall (r0), fourth, (p0);\nld.param.b32 %r0, [r0];\n}}\n{STORE}"
    );
    let words = run_with(functions, &body, &Launch::new(1, 32), &[]).unwrap().words(32);
    assert_eq!(words[..5], [0, 1, 16, 0xffff_ffff, 256]);
}

#[test]
fn recursion_is_refused() {
    let text = format!(
        "{HEAD}.func f()\n{{\ncall f;\nret;\n}}\n.visible .entry k()\n{{\ncall f;\nret;\n}}\n"
    );
    let error = Module::parse(&text).unwrap_err().to_string();
    assert!(error.contains("recursion"), "{error}");
}

#[test]
fn a_lane_may_wait_for_another_of_its_warp() {
    // All lanes but the last spin on a flag that the last sets afterwards: with the least program counter alone they
    // would spin for ever.
    let body = "setp.eq.u32 %p1, %t, 31;\n@%p1 bra SET;\nSPIN: ld.volatile.global.u32 %r1, [%in];\n\
        setp.eq.u32 %p2, %r1, 0;\n@%p2 bra SPIN;\nbra M;\nSET: mov.u32 %r1, 5;\nst.volatile.global.u32 [%in], %r1;\n\
        M: mov.u32 %r0, 1;\ncvt.u64.u32 %d0, %r0;\nst.global.u64 [%mine], %d0;";
    assert_eq!(run(body, 32, &[0; 16]).unwrap().words(32), [1; 32]);
}

#[test]
fn what_runs_for_ever_meets_the_bound() {
    assert_eq!(kind("", "L: bra L;", 32), FaultKind::Steps(20_000_000));
    assert_eq!(kind("", "trap;", 32), FaultKind::Trap);
}

#[test]
fn variables_of_the_module() {
    let text = format!(
        "{HEAD}.visible .const .align 4 .u32 table[3] = {{5, 6, 7}};\n.visible .global .align 4 .b32 value[2] = {{1, 2}};\n\
         .visible .global .align 8 .u64 pointer = generic(value)+4;\n.visible .entry k(.param .u64 out)\n{{\n.reg .b32 %r<4>;\n.reg .b64 %d<4>;\n\
         ld.param.u64 %d0, [out];\nld.const.u32 %r0, [table+8];\nld.global.u64 %d1, [pointer];\nld.u32 %r1, [%d1];\n\
         add.u32 %r0, %r0, %r1;\nst.global.u32 [%d0], %r0;\nmov.u64 %d2, value;\nst.global.u32 [%d2], 40;\nret;\n}}\n"
    );
    let module = Module::parse(&text).unwrap();
    let mut device = Device::new(Limits::default());
    let out = device.allocate(4).unwrap();
    device.launch(&module, "k", &Launch::new(1, 1), &[Argument::Address(out)]).unwrap();
    assert_eq!(device.read(out, 4).unwrap(), 9u32.to_le_bytes());
    let value = device.symbol(&module, "value").unwrap().unwrap();
    assert_eq!(device.read(value, 4).unwrap(), 40u32.to_le_bytes());
}

#[test]
fn grids_of_three_dimensions() {
    let body = "mov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %ctaid.y;\nmov.u32 %r2, %ctaid.z;\nmov.u32 %r3, %tid.y;\nmov.u32 %r4, %tid.x;\n\
        mad.lo.u32 %r5, %r2, 2, %r1;\nmad.lo.u32 %r5, %r5, 3, %r0;\nmad.lo.u32 %r5, %r5, 4, %r3;\nmad.lo.u32 %r5, %r5, 2, %r4;\n\
        mul.wide.u32 %d1, %r5, 8;\nadd.u64 %d1, %out, %d1;\ncvt.u64.u32 %d0, %r5;\nst.global.u64 [%d1], %d0;";
    let launch = Launch { grid: [3, 2, 2], block: [2, 4, 1], ..Launch::new(1, 1) };
    let words = run_with("", body, &launch, &[]).unwrap().words(96);
    assert!(words.iter().enumerate().all(|(i, w)| i as u64 == *w));
}

#[test]
fn lanes_that_come_from_further_down_meet_the_others_at_a_barrier() {
    // LLVM puts what is rarely executed at the end: the lanes at the barrier wait for those that come back from there.
    let body = format!(
        "mov.u32 %r0, 1;\nsetp.lt.u32 %p1, %t, 5;\n@%p1 bra COLD;\nBACK: bar.sync 0;\nredux.sync.add.u32 %r0, %r0, -1;\n{STORE}\nbra END;\n\
         COLD: mov.u32 %r0, 10;\nbra BACK;\nEND:"
    );
    assert_eq!(run(&body, 64, &[]).unwrap().words(64)[31..33], [77, 32]);
}
