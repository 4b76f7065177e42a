//! Tiles that come by tensor copies and are multiplied by `wgmma`, in every swizzle and both layouts.
//!
//! Invariant: descriptors are those that public Hopper kernels use for tiles that a tensor copy wrote; the results are
//! plain products.

use crate::launcher::{Draw, HEAD, numbered};
use kiln_ptx_emulator::{
    Address, Argument, Counters, Device, ElementType, Fault, FaultKind, Launch, Limits, Module,
    OutOfBounds, Swizzle, TensorMap,
};

const N: usize = 32;
const K: usize = 64;

fn bf16(matrix: &[f64]) -> Vec<u8> {
    matrix.iter().flat_map(|x| ((*x as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec()).collect()
}

/// The constant part of a descriptor.
fn descriptor(leading: u64, stride: u64, swizzle: Swizzle) -> u64 {
    let mode = match swizzle {
        Swizzle::None => 0u64,
        Swizzle::Bytes128 => 1,
        Swizzle::Bytes64 => 2,
        Swizzle::Bytes32 => 3,
    };
    (leading / 16) << 16 | (stride / 16) << 32 | mode << 62
}

/// What a test changes.
struct Plan {
    swizzle: Swizzle,
    /// B is `K×N` in memory, n contiguous.
    transposed_b: bool,
    a_in_registers: bool,
    fence: &'static str,
    wait_mbarrier: bool,
    wait: &'static str,
    after: &'static str,
    seed: u64,
}

impl Plan {
    fn new(swizzle: Swizzle) -> Plan {
        Plan {
            swizzle,
            transposed_b: false,
            a_in_registers: false,
            fence: "wgmma.fence.sync.aligned;",
            wait_mbarrier: true,
            wait: "wgmma.wait_group.sync.aligned 0;",
            after: "",
            seed: 0,
        }
    }
}

/// A text with most of what Hopper has.
pub fn sample() -> String {
    text(&Plan::new(Swizzle::Bytes128))
}

fn text(plan: &Plan) -> String {
    let width = plan.swizzle.bytes() as usize / 2;
    let a_bytes = 64 * K * 2;
    let b_bytes = N * K * 2;
    let mut copies = String::new();
    let mut copy = |map: &str, offset: usize, x: usize, y: usize| {
        copies += &format!(
            "@%p1 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%base+{offset}], [{map}, {{{x}, {y}}}], [%bar];\n"
        );
    };
    // A and B are cut into boxes of a swizzle's width along k, each with all rows, one after another.
    for block in 0..K / width {
        copy("%ma", block * 64 * width * 2, block * width, 0);
    }
    if plan.transposed_b {
        // Boxes of a swizzle's width along n, each with all of k.
        for block in 0..N.div_ceil(width) {
            copy("%mb", a_bytes + block * K * width.min(N) * 2, block * width, 0);
        }
    } else {
        for block in 0..K / width {
            copy("%mb", a_bytes + block * N * width * 2, block * width, 0);
        }
    }
    let accumulators: Vec<String> = (0..N / 2).map(|i| format!("%acc{i}")).collect();
    let accumulators = accumulators.join(", ");
    let mut products = String::new();
    for step in 0..K / 16 {
        // Offset of 16 elements of k in the boxes.
        let within = |rows: usize| match plan.swizzle {
            Swizzle::None => 2 * step * rows * 16,
            _ => step * 16 / width * rows * width * 2 + step * 16 % width * 2,
        };
        let plain = |rows: usize| match plan.swizzle {
            Swizzle::None => descriptor(rows as u64 * 16, 128, Swizzle::None),
            swizzle => descriptor(16, 8 * swizzle.bytes(), swizzle),
        };
        let (b_at, b_fixed) = if plan.transposed_b {
            let line = width.min(N) * 2;
            let (rows, next) = (line as u64 * 8, (K * line) as u64);
            // Without a swizzle the strides have each other's place.
            let fixed = match plan.swizzle {
                Swizzle::None => descriptor(rows, next, Swizzle::None),
                swizzle => descriptor(next, rows, swizzle),
            };
            (step * 16 * line, fixed)
        } else {
            (within(N), plain(N))
        };
        let a = if plan.a_in_registers {
            (0..4)
                .map(|i| format!("mov.b32 %a{}, %fragment{};\n", i, 4 * step + i))
                .collect::<String>()
        } else {
            String::new()
        };
        let make = |name: &str, at: usize, fixed: u64| {
            format!(
                "add.u32 %x, %base, {at};\nshr.u32 %x, %x, 4;\nand.b32 %x, %x, 0x3fff;\ncvt.u64.u32 %{name}, %x;\nor.b64 %{name}, %{name}, {fixed};\n"
            )
        };
        products += &make("da", within(64), plain(64));
        products += &make("db", a_bytes + b_at, b_fixed);
        if plan.a_in_registers {
            products += &a;
            products += plan.fence;
        }
        let (operand, more) =
            if plan.a_in_registers { ("{%a0, %a1, %a2, %a3}", "") } else { ("%da", "0, ") };
        let transposed = u8::from(plan.transposed_b);
        products += &format!(
            "wgmma.mma_async.sync.aligned.m64n{N}k16.f32.bf16.bf16 {{{accumulators}}}, {operand}, %db, {}, 1, 1, {more}{transposed};\n",
            if step == 0 { "%pf" } else { "%pt" }
        );
        if plan.a_in_registers {
            products += "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
        }
    }
    let mut stores = String::new();
    for i in 0..N / 4 {
        // Pairs: eight columns at a time, rows g and g + 8.
        let (block, down) = (i / 2, i % 2);
        stores += &format!(
            "st.global.v2.b32 [%o+{}], {{%acc{}, %acc{}}};\n",
            4 * (8 * block + 8 * down * N),
            2 * i,
            2 * i + 1
        );
    }
    let mut fragments = String::new();
    if plan.a_in_registers {
        for i in 0..K / 4 {
            // Of each k16: rows g, g + 8, then the same eight columns on.
            let (step, down, right) = (i / 4, i % 2, i % 4 / 2);
            let offset = 2 * (8 * down * K + 16 * step + 8 * right);
            fragments += &format!("ld.global.b32 %fragment{i}, [%ga+{offset}];\n");
        }
    }
    let wait = if plan.wait_mbarrier {
        "W: mbarrier.try_wait.parity.shared::cta.b64 %pw, [%bar], 0;\n@!%pw bra W;\n"
    } else {
        ""
    };
    format!(
        "{HEAD}.extern .shared .align 1024 .b8 dyn[];
.visible .entry k(.param .align 64 .b8 a[128], .param .align 64 .b8 b[128], .param .u64 ga, .param .u64 out)
.maxntid 128, 1, 1
{{
.reg .pred %p1, %pf, %pt, %pw;
.reg .b32 %t, %base, %bar, %x, %g, %q;
.reg .b32 %acc<{}>;
.reg .b32 %a<4>;
.reg .b32 %fragment<{}>;
.reg .b64 %ma, %mb, %da, %db, %o, %ga, %y;
.shared .align 8 .b64 barrier;
mov.u32 %t, %tid.x;
setp.eq.u32 %p1, %t, 0;
setp.ne.u32 %pf, %t, %t;
setp.eq.u32 %pt, %t, %t;
mov.u32 %bar, barrier;
mov.u32 %base, dyn;
mov.b64 %y, a;
cvta.param.u64 %ma, %y;
mov.b64 %y, b;
cvta.param.u64 %mb, %y;
@%p1 mbarrier.init.shared::cta.b64 [%bar], 1;
fence.mbarrier_init.release.cluster;
bar.sync 0;
@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%bar], {};
{copies}
shr.u32 %g, %t, 2;
and.b32 %g, %g, 7;
shr.u32 %x, %t, 5;
mad.lo.u32 %g, %x, 16, %g;
and.b32 %q, %t, 3;
mul.lo.u32 %q, %q, 2;
ld.param.u64 %ga, [ga];
mad.lo.u32 %x, %g, {K}, %q;
mul.wide.u32 %y, %x, 2;
add.u64 %ga, %ga, %y;
{fragments}
{wait}
{}
{products}
wgmma.commit_group.sync.aligned;
{}
{}
ld.param.u64 %o, [out];
mad.lo.u32 %x, %g, {N}, %q;
mul.wide.u32 %y, %x, 4;
add.u64 %o, %o, %y;
{stores}
ret;
}}
",
        N / 2,
        K / 4,
        a_bytes + b_bytes,
        plan.fence,
        plan.wait,
        plan.after
    )
}

fn run(plan: &Plan) -> Result<(Vec<f64>, Vec<f64>, Counters), Fault> {
    let mut draw = Draw(5);
    let a: Vec<f64> = (0..64 * K).map(|_| draw.small()).collect();
    let b: Vec<f64> = (0..N * K).map(|_| draw.small()).collect();
    let text = text(plan);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{}", numbered(&text)));
    let mut device = Device::new(Limits::default());
    let at = device.allocate(64 * K as u64 * 2).unwrap();
    device.write(at, &bf16(&a)).unwrap();
    let bt = device.allocate((N * K) as u64 * 2).unwrap();
    device.write(bt, &bf16(&b)).unwrap();
    let out = device.allocate(64 * N as u64 * 4).unwrap();
    let width = plan.swizzle.bytes() as u32 / 2;
    let map = |address: Address, columns: usize, rows: usize, inner: u32, outer: usize| {
        TensorMap::tiled(
            ElementType::BF16,
            address,
            &[columns as u64, rows as u64],
            &[columns as u64 * 2],
            &[inner, outer as u32],
            &[1, 1],
            plan.swizzle,
            OutOfBounds::Zero,
        )
        .unwrap()
    };
    let map_a = map(at, K, 64, width, 64);
    let map_b = if plan.transposed_b {
        map(bt, N, K, width.min(N as u32), K)
    } else {
        map(bt, K, N, width, N)
    };
    let launch = Launch { dynamic_shared: 16384, seed: plan.seed, ..Launch::new(1, 128) };
    let arguments = [
        Argument::TensorMap(Box::new(map_a)),
        Argument::TensorMap(Box::new(map_b)),
        Argument::Address(at),
        Argument::Address(out),
    ];
    let counters = device.launch(&module, "k", &launch, &arguments)?;
    let bytes = device.read(out, 64 * N as u64 * 4).unwrap();
    let got = bytes
        .chunks_exact(4)
        .map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap())))
        .collect();
    let element = |k: usize, n: usize| if plan.transposed_b { b[k * N + n] } else { b[n * K + k] };
    let expected =
        (0..64 * N).map(|i| (0..K).map(|k| a[i / N * K + k] * element(k, i % N)).sum()).collect();
    Ok((got, expected, counters))
}

fn check(plan: &Plan) {
    let (got, expected, counters) = run(plan).unwrap_or_else(|f| panic!("{:?}: {f}", plan.swizzle));
    assert_eq!(got, expected, "{:?} transposed {}", plan.swizzle, plan.transposed_b);
    assert_eq!(counters.matrix_flops, 2 * 64 * N as u64 * K as u64);
}

const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

#[test]
fn products_in_every_swizzle() {
    for swizzle in ALL {
        for seed in 0..2 {
            check(&Plan { seed, ..Plan::new(swizzle) });
        }
        check(&Plan { a_in_registers: true, ..Plan::new(swizzle) });
    }
}

#[test]
fn products_with_a_transposed_operand() {
    // A row of 32 elements is half of what the widest swizzle takes, so that one is not used here.
    for swizzle in [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64] {
        check(&Plan { transposed_b: true, ..Plan::new(swizzle) });
    }
}

#[test]
fn what_wgmma_demands() {
    let fault = |plan: Plan| match run(&plan) {
        Ok(_) => panic!("no fault"),
        Err(fault) => fault.kind,
    };
    let plan = || Plan::new(Swizzle::Bytes128);
    let k = fault(Plan { fence: "", ..plan() });
    assert!(matches!(k, FaultKind::MissingWgmmaFence(_)), "{k:?}");
    let k = fault(Plan { wait: "", ..plan() });
    assert!(matches!(k, FaultKind::InFlight(ref name) if name == "%acc0"), "{k:?}");
    let k = fault(Plan { wait: "wgmma.wait_group.sync.aligned 1;", ..plan() });
    assert!(matches!(k, FaultKind::InFlight(_)), "{k:?}");
    let k = fault(Plan { wait_mbarrier: false, ..plan() });
    assert!(matches!(k, FaultKind::Race { .. } | FaultKind::UninitialisedMemory { .. }), "{k:?}");
    // Shared memory that the matrix unit reads is written, by the same thread.
    let k = fault(Plan { wait: "st.shared.b32 [%base], 0;", ..plan() });
    assert!(matches!(k, FaultKind::Race { earlier: "asynchronous read", .. }), "{k:?}");
    // After its own wait it may, where the other warps have waited, too.
    let after = "bar.sync 0;\n@%p1 st.shared.b32 [%base], 0;";
    assert!(run(&Plan { after, ..plan() }).is_ok());
    let k = fault(Plan { after: "@%p1 st.shared.b32 [%base+8192], 0;", seed: 3, ..plan() });
    assert!(matches!(k, FaultKind::Race { .. }), "{k:?}");
    // Generic writes before the matrix unit reads.
    let k = fault(Plan {
        fence: "@%p1 st.shared.b32 [%base], 0;\nbar.sync 0;\nwgmma.fence.sync.aligned;",
        ..plan()
    });
    assert!(matches!(k, FaultKind::MissingProxyFence { .. }), "{k:?}");
    let fence = "@%p1 st.shared.b32 [%base], 0;\nfence.proxy.async;\nbar.sync 0;\nwgmma.fence.sync.aligned;";
    assert!(run(&Plan { fence, ..plan() }).is_ok());
}

#[test]
fn speed() {
    let start = std::time::Instant::now();
    let mut flops = 0;
    for _ in 0..20 {
        flops +=
            run(&Plan::new(Swizzle::Bytes128)).map_or(0, |(_, _, counters)| counters.matrix_flops);
    }
    println!(
        "wgmma, parsing and copies included: {:.0} MFLOP/s",
        flops as f64 / start.elapsed().as_secs_f64() / 1e6
    );
}
