//! How fast it is: printed, and held against a floor far below what it reaches.
//!
//! Invariant: only builds with optimisation are measured.

use crate::launcher::run_with;
use kiln_ptx_emulator::Launch;
use std::time::Instant;

fn measure(name: &str, body: &str, launch: &Launch) {
    let start = Instant::now();
    let counters =
        run_with("", body, launch, &[0; 16384]).unwrap_or_else(|f| panic!("{f}")).counters;
    let seconds = start.elapsed().as_secs_f64();
    let rate = counters.lane_instructions as f64 / seconds / 1e6;
    println!(
        "{name}: {rate:.0} M lane instructions a second, {:.0} MFLOP/s of matrices",
        counters.matrix_flops as f64 / seconds / 1e6
    );
    if !cfg!(debug_assertions) && counters.matrix_flops == 0 {
        assert!(rate > 2.0, "{name}: {rate}");
    }
}

#[test]
fn speed() {
    let launch = Launch::new(16, 256);
    let looped = |body: &str, times: u32| {
        format!(
            "mov.b32 %r0, 0;\nmov.b32 %f1, 0f3F800000;\nL:\n{body}\nadd.u32 %r0, %r0, 1;\nsetp.lt.u32 %p1, %r0, {times};\n@%p1 bra L;"
        )
    };
    let arithmetic = "fma.rn.f32 %f1, %f1, %f1, %f1;\nadd.rn.f32 %f2, %f1, %f1;\nmul.lo.u32 %r2, %r0, %t;\nxor.b32 %r3, %r2, %r0;\n".repeat(4);
    measure("arithmetic", &looped(&arithmetic, 200), &launch);
    let memory = "and.b32 %r2, %t, 255;\nmul.wide.u32 %d1, %r2, 4;\nadd.u64 %d2, %in, %d1;\nld.global.b32 %f2, [%d2];\nadd.rn.f32 %f1, %f1, %f2;\n";
    measure("device memory", &looped(memory, 400), &launch);
    let shared =
        ".shared .align 16 .b8 s[1024];\nmov.u32 %r9, s;\nmad.lo.u32 %r9, %t, 4, %r9;\n".to_owned();
    let body = "st.shared.b32 [%r9], %f1;\nbar.sync 0;\nxor.b32 %r8, %r9, 64;\nld.shared.b32 %f2, [%r8];\nadd.rn.f32 %f1, %f1, %f2;\nbar.sync 0;\n";
    measure("shared memory and barriers", &(shared + &looped(body, 200)), &launch);
    let mma = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r20, %r21, %r22, %r23}, {%r0, %r0, %r0, %r0}, {%r0, %r0}, {%r0, %r0, %r0, %r0};\n";
    measure("mma.sync", &looped(mma, 100), &launch);
}
