//! The thinnest path: a vector addition as LLVM writes it, over several blocks, with a guard for the last one.

use crate::launcher::HEAD;
use kiln_ptx_emulator::{Argument, Device, DeviceError, FaultKind, Launch, Limits, Module};

const ADD: &str = "
.visible .entry add(
	.param .u64 .ptr .align 1 add_param_0,
	.param .u64 .ptr .align 1 add_param_1,
	.param .u64 .ptr .align 1 add_param_2,
	.param .u32 add_param_3
)
.maxntid 128, 1, 1
{
	.reg .pred 	%p<2>;
	.reg .b32 	%r<9>;
	.reg .b64 	%rd<11>;

// %bb.0:
	ld.param.b32 	%r2, [add_param_3];
	mov.u32 	%r3, %ctaid.x;
	mov.u32 	%r4, %ntid.x;
	mov.u32 	%r5, %tid.x;
	mad.lo.s32 	%r1, %r3, %r4, %r5;
	setp.ge.s32 	%p1, %r1, %r2;
	@%p1 bra 	$L__BB0_2;
// %bb.1:
	ld.param.b64 	%rd4, [add_param_0];
	ld.param.b64 	%rd5, [add_param_1];
	ld.param.b64 	%rd6, [add_param_2];
	cvta.to.global.u64 	%rd1, %rd4;
	cvta.to.global.u64 	%rd2, %rd5;
	cvta.to.global.u64 	%rd3, %rd6;
	mul.wide.s32 	%rd7, %r1, 4;
	add.s64 	%rd8, %rd1, %rd7;
	ld.global.nc.b32 	%r6, [%rd8];
	add.s64 	%rd9, %rd2, %rd7;
	ld.global.b32 	%r7, [%rd9];
	add.rn.f32 	%r8, %r6, %r7;
	add.s64 	%rd10, %rd3, %rd7;
	st.global.b32 	[%rd10], %r8;
$L__BB0_2:
	ret;
}
";

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn a_vector_addition() {
    let module = Module::parse(&format!("{HEAD}{ADD}")).unwrap();
    let kernel = &module.kernels()[0];
    assert_eq!(
        (kernel.max_threads, kernel.parameters.len(), kernel.static_shared),
        (Some(128), 4, 0)
    );
    assert_eq!(kernel.parameters[3].offset, 24);
    let mut device = Device::new(Limits::default());
    let n = 1000u32;
    let [a, b, c] = [0; 3].map(|_| device.allocate(4 * u64::from(n)).unwrap());
    device.write(a, &floats((0..n).map(|i| i as f32))).unwrap();
    device.write(b, &floats((0..n).map(|i| 0.5 * i as f32))).unwrap();
    let arguments =
        [Argument::Address(a), Argument::Address(b), Argument::Address(c), Argument::U32(n)];
    let counters = device.launch(&module, "add", &Launch::new(8, 128), &arguments).unwrap();
    assert_eq!(device.read(c, 4000).unwrap(), floats((0..n).map(|i| 1.5 * i as f32)));
    assert_eq!(counters.global_bytes_read, 8000);
    assert_eq!(counters.global_bytes_written, 4000);
    // 1000 floats are 125 sectors, three times; none is touched for nothing.
    assert_eq!((counters.global_sectors, counters.excess_sectors), (375, 0));
    assert_eq!(counters.instructions["ld.global"], 64);

    // One thread more than there are elements reads out of bounds.
    let wrong =
        [Argument::Address(a), Argument::Address(b), Argument::Address(c), Argument::U32(n + 1)];
    let fault = device.launch(&module, "add", &Launch::new(8, 128), &wrong).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { bytes: 4, .. }), "{fault}");
    assert_eq!((fault.block, fault.thread, fault.line), ([7, 0, 0], [104, 0, 0], 34));
}

#[test]
fn launches_that_are_refused() {
    let module = Module::parse(&format!("{HEAD}{ADD}")).unwrap();
    let mut device = Device::new(Limits::default());
    let refused = |device: &mut Device, kernel: &str, launch: Launch, arguments: &[Argument]| {
        let fault = device.launch(&module, kernel, &launch, arguments).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Launch(_)), "{fault}");
        fault.to_string()
    };
    let four = [Argument::U64(0), Argument::U64(0), Argument::U64(0), Argument::U32(0)];
    assert!(refused(&mut device, "sub", Launch::new(1, 1), &four).contains("no such kernel"));
    assert!(refused(&mut device, "add", Launch::new(1, 129), &four).contains(".maxntid"));
    assert!(refused(&mut device, "add", Launch::new(0, 32), &four).contains("grid"));
    assert!(refused(&mut device, "add", Launch::new(1, 32), &four[..3]).contains("3 arguments"));
    let narrow = [Argument::U64(0), Argument::U64(0), Argument::U32(0), Argument::U32(0)];
    assert!(refused(&mut device, "add", Launch::new(1, 32), &narrow).contains("8 bytes"));
    let shared = Launch { dynamic_shared: 228 << 10, ..Launch::new(1, 32) };
    assert!(refused(&mut device, "add", shared, &four).contains("shared memory"));
    let cluster = Launch { cluster: [2, 1, 1], ..Launch::new(3, 32) };
    assert!(refused(&mut device, "add", cluster, &four).contains("multiple"));
}

#[test]
fn memory_of_the_device() {
    let mut device = Device::new(Limits { memory: 1000, ..Limits::default() });
    let a = device.allocate(400).unwrap();
    let b = device.allocate(400).unwrap();
    assert!(matches!(device.allocate(400), Err(DeviceError::Memory { .. })));
    assert_eq!(device.read(a, 4), Err(DeviceError::Uninitialised(a.0)));
    device.fill(a, 7, 400).unwrap();
    assert_eq!(device.read(a.offset(396), 4).unwrap(), [7; 4]);
    assert!(matches!(device.read(a.offset(397), 4), Err(DeviceError::OutOfBounds { .. })));
    assert!(matches!(device.write(a.offset(397), &[0; 4]), Err(DeviceError::OutOfBounds { .. })));
    device.free(a).unwrap();
    assert_eq!(device.free(a), Err(DeviceError::NotAllocated(a.0)));
    assert!(matches!(device.read(a, 4), Err(DeviceError::OutOfBounds { .. })));
    assert!(device.allocate(400).unwrap() > b);
}
