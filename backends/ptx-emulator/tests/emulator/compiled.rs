//! Text that LLVM wrote: `llc -march=nvptx64 -mcpu=sm_90a -mattr=+ptx86 -O3` of the `.ll` files beside it (LLVM 22).

use kiln_ptx_emulator::{
    Argument, Device, ElementType, Launch, Limits, Module, OutOfBounds, Swizzle, TensorMap,
};

#[test]
fn a_softmax() {
    let module = Module::parse(include_str!("compiled/softmax.ptx")).unwrap();
    assert_eq!(module.target(), "sm_90a");
    let (rows, n) = (5usize, 256usize);
    let x: Vec<f32> = (0..rows * n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.1).collect();
    for seed in 0..3 {
        let mut device = Device::new(Limits::default());
        let input = device.allocate(4 * x.len() as u64).unwrap();
        device.write(input, &x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        let out = device.allocate(4 * x.len() as u64).unwrap();
        let launch = Launch { seed, ..Launch::new(rows as u32, 64) };
        let arguments = [Argument::Address(input), Argument::Address(out), Argument::U32(n as u32)];
        let counters = device.launch(&module, "softmax", &launch, &arguments).unwrap();
        assert_eq!(
            (counters.excess_sectors, counters.bank_conflicts, counters.barriers),
            (0, 0, 3 * rows as u64)
        );
        let bytes = device.read(out, 4 * x.len() as u64).unwrap();
        let got: Vec<f32> =
            bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        for row in 0..rows {
            let x = &x[row * n..(row + 1) * n];
            let top = x.iter().fold(f32::MIN, |a, b| a.max(*b));
            let total: f64 = x.iter().map(|v| f64::from(v - top).exp()).sum();
            for (v, g) in x.iter().zip(&got[row * n..]) {
                let expected = f64::from(v - top).exp() / total;
                assert!((f64::from(*g) - expected).abs() <= 3e-6 * expected, "{g} {expected}");
            }
        }
    }
}

#[test]
fn pieces() {
    let module = Module::parse(include_str!("compiled/pieces.ptx")).unwrap();
    let mut device = Device::new(Limits::default());
    let input = device.allocate(32 * 8).unwrap();
    // 2 · 3 + 1, in halves.
    let half: Vec<u8> =
        [0x4000u16, 0x4200, 0x3c00, 0].iter().flat_map(|h| h.to_le_bytes()).collect();
    device.write(input, &half.repeat(32)).unwrap();
    let out = device.allocate(32 * 16).unwrap();
    let arguments = [Argument::Address(input), Argument::Address(out)];
    device.launch(&module, "pieces", &Launch::new(1, 32), &arguments).unwrap();
    let bytes = device.read(out, 512).unwrap();
    let words: Vec<u32> =
        bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    for tid in 0..32u32 {
        let row = &words[4 * tid as usize..4 * tid as usize + 4];
        let chosen = [11, 42, 16, 33, 5].get(tid as usize).copied().unwrap_or(tid * tid);
        assert_eq!(row[0], chosen);
        assert_eq!(row[1], if tid == 4 { 77 } else { 42 });
        assert_eq!(row[2], [3, 1, 4, 1][tid as usize % 4] + 7);
        let rest = (u64::from(tid).wrapping_mul(123_456_789_012_345) % 1_000_003) as u32;
        assert_eq!(row[3], rest.rotate_left(7));
    }
    // The variable of the module was counted up.
    let count = device.symbol(&module, "count").unwrap();
    assert!(count.is_none_or(|at| device.read(at, 4).unwrap() == 32u32.to_le_bytes()));
}

#[test]
fn a_tile() {
    let module = Module::parse(include_str!("compiled/tile.ptx")).unwrap();
    assert_eq!(module.kernels()[0].static_shared, 1032);
    for seed in 0..3 {
        let mut device = Device::new(Limits::default());
        // Nine rows of 32; the box begins with the second.
        let values: Vec<f32> = (0..288).map(|i| i as f32).collect();
        let input = device.allocate(1152).unwrap();
        device
            .write(input, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
            .unwrap();
        let out = device.allocate(1024).unwrap();
        let map = TensorMap::tiled(
            ElementType::F32,
            input,
            &[32, 9],
            &[128],
            &[32, 8],
            &[1, 1],
            Swizzle::None,
            OutOfBounds::Zero,
        );
        let arguments = [Argument::TensorMap(Box::new(map.unwrap())), Argument::Address(out)];
        let launch = Launch { seed, ..Launch::new(1, 256) };
        device.launch(&module, "tile_kernel", &launch, &arguments).unwrap();
        let expected: Vec<u8> = values[32..].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(device.read(out, 1024).unwrap(), expected);
    }
}
