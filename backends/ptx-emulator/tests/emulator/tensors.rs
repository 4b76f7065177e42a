//! Copies of boxes: out of bounds, swizzled, stored, reduced, to several blocks.

use crate::launcher::{HEAD, numbered};
use kiln_ptx_emulator::{
    Address, Argument, Device, ElementType, Fault, FaultKind, Launch, Limits, Module, OutOfBounds,
    Swizzle, TensorMap,
};

/// A kernel with a tensor map, an address, 1 KiB of shared memory at `%base` and an mbarrier at `%bar`, already made.
fn text(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .align 64 .b8 map[128], .param .u64 out)\n{{\n.reg .pred %p<8>;\n.reg .b32 %r<32>;\n.reg .b64 %d<16>;\n\
         .reg .b32 %t, %base, %bar;\n.reg .b64 %map, %out, %mine;\n.shared .align 1024 .b8 tile[1024];\n.shared .align 8 .b64 barrier;\n\
         mov.b64 %d0, map;\ncvta.param.u64 %map, %d0;\nld.param.u64 %out, [out];\nmov.u32 %t, %tid.x;\nmov.u32 %base, tile;\nmov.u32 %bar, barrier;\n\
         mov.u32 %r30, %ctaid.x;\nmad.lo.u32 %r30, %r30, 32, %t;\nmul.wide.u32 %mine, %r30, 4;\nadd.u64 %mine, %out, %mine;\nsetp.eq.u32 %p1, %t, 0;\n\
         @%p1 mbarrier.init.shared.b64 [%bar], 1;\nfence.mbarrier_init.release.cluster;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n{body}\nret;\n}}\n"
    )
}

const EXPECT: &str = "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%bar], 128;\n";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared.b64 %p2, [%bar], 0;\n@!%p2 bra W;\n";

fn launch(
    body: &str,
    map: TensorMap,
    device: &mut Device,
    out: Address,
    launch: &Launch,
) -> Result<(), Fault> {
    let text = text(body);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{}", numbered(&text)));
    let arguments = [Argument::TensorMap(Box::new(map)), Argument::Address(out)];
    device.launch(&module, "k", launch, &arguments).map(|_| ())
}

/// A tensor of `rows` of 8 integers, counted up from 0.
fn tensor(device: &mut Device, rows: u64) -> Address {
    let address = device.allocate(rows * 32).unwrap();
    let bytes: Vec<u8> = (0..rows as u32 * 8).flat_map(u32::to_le_bytes).collect();
    device.write(address, &bytes).unwrap();
    address
}

fn map(address: Address, rows: u64, swizzle: Swizzle) -> TensorMap {
    TensorMap::tiled(
        ElementType::S32,
        address,
        &[8, rows],
        &[32],
        &[8, 4],
        &[1, 1],
        swizzle,
        OutOfBounds::Zero,
    )
    .unwrap()
}

fn words(device: &mut Device, address: Address, count: u64) -> Vec<u32> {
    let bytes = device.read(address, 4 * count).unwrap();
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
}

#[test]
fn what_is_out_of_bounds_is_filled() {
    let mut device = Device::new(Limits::default());
    let (address, out) = (tensor(&mut device, 5), device.allocate(4096).unwrap());
    let body = format!(
        "{EXPECT}@%p1 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%base], [%map, {{-2, 3}}], [%bar];\n{WAIT}\
         mad.lo.u32 %r1, %t, 4, %base;\nld.shared.b32 %r0, [%r1];\nst.global.b32 [%mine], %r0;"
    );
    launch(&body, map(address, 5, Swizzle::None), &mut device, out, &Launch::new(1, 32)).unwrap();
    let found = words(&mut device, out, 32);
    for (i, value) in found.iter().enumerate() {
        let (row, column) = (3 + i as i64 / 8, i as i64 % 8 - 2);
        let expected = if row < 5 && column >= 0 { row * 8 + column } else { 0 };
        assert_eq!(i64::from(*value), expected, "element {i}");
    }
    // The fill may be NaN.
    let nan = TensorMap::tiled(
        ElementType::F32,
        address,
        &[8, 5],
        &[32],
        &[8, 4],
        &[1, 1],
        Swizzle::None,
        OutOfBounds::NaN,
    );
    launch(&body, nan.unwrap(), &mut device, out, &Launch::new(1, 32)).unwrap();
    assert_eq!(words(&mut device, out, 32)[31], 0x7fff_ffff);
}

#[test]
fn boxes_of_three_dimensions_with_steps() {
    let mut device = Device::new(Limits::default());
    let (address, out) = (tensor(&mut device, 24), device.allocate(4096).unwrap());
    // 8 × 4 × 6; of the last axis every second, two in all.
    let map = TensorMap::tiled(
        ElementType::U32,
        address,
        &[8, 4, 6],
        &[32, 128],
        &[4, 4, 4],
        &[1, 1, 2],
        Swizzle::None,
        OutOfBounds::Zero,
    )
    .unwrap();
    assert_eq!(map.box_bytes(), 128);
    let body = format!(
        "{EXPECT}@%p1 cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%base], [%map, {{4, 0, 1}}], [%bar];\n{WAIT}\
         mad.lo.u32 %r1, %t, 4, %base;\nld.shared.b32 %r0, [%r1];\nst.global.b32 [%mine], %r0;"
    );
    launch(&body, map, &mut device, out, &Launch::new(1, 32)).unwrap();
    for (i, value) in words(&mut device, out, 32).iter().enumerate() {
        let (x, y, z) = (4 + i % 4, i / 4 % 4, 1 + 2 * (i / 16));
        assert_eq!(*value as usize, x + 8 * y + 32 * z);
    }
}

#[test]
fn boxes_are_stored_and_added() {
    let mut device = Device::new(Limits::default());
    let (address, out) = (tensor(&mut device, 5), device.allocate(4096).unwrap());
    // Written in the order of the 32-byte swizzle: chunks of 16 bytes change places in the second four rows.
    let store = |opcode: &str| {
        format!(
            "mad.lo.u32 %r1, %t, 4, %base;\nadd.u32 %r0, %t, 100;\nst.shared.b32 [%r1], %r0;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
             @%p1 {opcode} [%map, {{0, 2}}], [%base];\n@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;"
        )
    };
    let plain = store("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group");
    launch(&plain, map(address, 5, Swizzle::None), &mut device, out, &Launch::new(1, 32)).unwrap();
    let found = words(&mut device, address, 40);
    assert_eq!((found[15], found[16], found[39]), (15, 100, 123));
    let add = store("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group");
    launch(&add, map(address, 5, Swizzle::None), &mut device, out, &Launch::new(1, 32)).unwrap();
    assert_eq!(words(&mut device, address, 40)[16..18], [200, 202]);
}

#[test]
fn a_swizzled_tile_is_where_the_formula_says() {
    let mut device = Device::new(Limits::default());
    let out = device.allocate(8192).unwrap();
    let address = tensor(&mut device, 32);
    for (swizzle, columns) in
        [(Swizzle::None, 8), (Swizzle::Bytes32, 8), (Swizzle::Bytes64, 16), (Swizzle::Bytes128, 32)]
    {
        // The same 1 KiB, cut into rows of as many bytes as the swizzle has.
        let rows = 256 / columns;
        let map = TensorMap::tiled(
            ElementType::S32,
            address,
            &[columns as u64, rows as u64],
            &[4 * columns as u64],
            &[columns as u32, rows as u32],
            &[1, 1],
            swizzle,
            OutOfBounds::Zero,
        );
        let mut body = format!(
            "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%bar], 1024;\n@%p1 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%base], [%map, {{0, 0}}], [%bar];\n{WAIT}\
             mad.lo.u32 %r1, %t, 4, %base;\n"
        );
        for i in 0..8 {
            body += &format!(
                "ld.shared.b32 %r0, [%r1+{}];\nst.global.b32 [%mine+{}], %r0;\n",
                128 * i,
                128 * i
            );
        }
        launch(&body, map.unwrap(), &mut device, out, &Launch::new(1, 32)).unwrap();
        let found = words(&mut device, out, 256);
        for row in 0..rows {
            for column in 0..columns {
                let chunk = column / 4;
                // Rows of 128 bytes take turns by eight, of 64 bytes by pairs of four, of 32 bytes by fours of two.
                let moved = match swizzle {
                    Swizzle::None => chunk,
                    Swizzle::Bytes32 => chunk ^ (row / 4 % 2),
                    Swizzle::Bytes64 => chunk ^ (row / 2 % 4),
                    Swizzle::Bytes128 => chunk ^ (row % 8),
                };
                assert_eq!(
                    found[row * columns + moved * 4 + column % 4] as usize,
                    row * columns + column
                );
            }
        }
    }
}

#[test]
fn a_multicast_reaches_both_blocks() {
    let mut device = Device::new(Limits::default());
    let (address, out) = (tensor(&mut device, 4), device.allocate(4096).unwrap());
    let body = |end: &str| {
        format!(
            "{EXPECT}barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\nmov.u32 %r2, %cluster_ctarank;\nsetp.eq.and.u32 %p3, %r2, 0, %p1;\nmov.b32 %r3, 3;\n.reg .b16 %h;\ncvt.u16.u32 %h, %r3;\n\
             @%p3 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%base], [%map, {{0, 0}}], [%bar], %h;\n{WAIT}\
             mad.lo.u32 %r1, %t, 4, %base;\nld.shared.b32 %r0, [%r1];\nst.global.b32 [%mine], %r0;\n{end}"
        )
    };
    let two = Launch { cluster: [2, 1, 1], ..Launch::new(2, 32) };
    launch(&body(""), map(address, 4, Swizzle::None), &mut device, out, &two).unwrap();
    let expected: Vec<u32> = (0..32).chain(0..32).collect();
    assert_eq!(words(&mut device, out, 64), expected);
    let far = body("").replace("mov.b32 %r3, 3;", "mov.b32 %r3, 4;");
    let fault = launch(&far, map(address, 4, Swizzle::None), &mut device, out, &two).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Operand(_)), "{fault}");
}

#[test]
fn tensor_copies_that_are_wrong() {
    let mut device = Device::new(Limits::default());
    let (address, out) = (tensor(&mut device, 4), device.allocate(4096).unwrap());
    let mut fault = |body: &str, map: TensorMap| {
        launch(body, map, &mut device, out, &Launch::new(1, 32)).unwrap_err().kind
    };
    let copy = |at: &str, coordinates: &str, dims: &str| {
        format!(
            "@%p1 cp.async.bulk.tensor.{dims}.shared::cluster.global.mbarrier::complete_tx::bytes [{at}], [%map, {{{coordinates}}}], [%bar];"
        )
    };
    let map = map(address, 4, Swizzle::None);
    assert!(matches!(
        fault(&copy("%base+16", "0, 0", "2d"), map.clone()),
        FaultKind::Misaligned { .. }
    ));
    assert!(matches!(fault(&copy("%base", "0", "1d"), map.clone()), FaultKind::Operand(_)));
    assert!(matches!(
        fault(&copy("%base+1024", "0, 0", "2d"), map.clone()),
        FaultKind::OutOfBounds { .. }
    ));
    // A tensor map whose sizes are larger than the allocation.
    let large = TensorMap::tiled(
        ElementType::S32,
        address,
        &[8, 64],
        &[32],
        &[8, 4],
        &[1, 1],
        Swizzle::None,
        OutOfBounds::Zero,
    )
    .unwrap();
    assert!(matches!(fault(&copy("%base", "0, 4", "2d"), large), FaultKind::OutOfBounds { .. }));
}

#[test]
fn the_rules_of_tensor_maps() {
    let make =
        |sizes: &[u64], strides: &[u64], boxes: &[u32], steps: &[u32], swizzle, fill, address| {
            TensorMap::tiled(
                ElementType::F16,
                Address(address),
                sizes,
                strides,
                boxes,
                steps,
                swizzle,
                fill,
            )
        };
    let (none, zero) = (Swizzle::None, OutOfBounds::Zero);
    assert!(make(&[64, 8], &[128], &[64, 8], &[1, 1], Swizzle::Bytes128, zero, 4096).is_ok());
    assert!(make(&[64, 8], &[128], &[64, 8], &[1, 1], Swizzle::Bytes64, zero, 4096).is_err());
    assert!(make(&[64, 8], &[136], &[64, 8], &[1, 1], none, zero, 4096).is_err());
    assert!(make(&[64, 8], &[64], &[64, 8], &[1, 1], none, zero, 4096).is_err());
    assert!(make(&[64, 8], &[128], &[64, 257], &[1, 1], none, zero, 4096).is_err());
    assert!(make(&[64, 8], &[128], &[4, 8], &[1, 1], none, zero, 4096).is_err());
    assert!(make(&[64, 8], &[128], &[64, 8], &[1, 9], none, zero, 4096).is_err());
    assert!(make(&[64, 0], &[128], &[64, 8], &[1, 1], none, zero, 4096).is_err());
    assert!(make(&[64, 8], &[128], &[64, 8], &[1, 1], none, zero, 4104).is_err());
    assert!(make(&[64, 8], &[], &[64, 8], &[1, 1], none, zero, 4096).is_err());
    let integers = TensorMap::tiled(
        ElementType::U16,
        Address(0),
        &[64],
        &[],
        &[64],
        &[1],
        none,
        OutOfBounds::NaN,
    );
    assert!(integers.is_err());
}
