//! Tensor maps: what `cuTensorMapEncodeTiled` makes, with its rules, in a format of our own.
//!
//! Invariant: a map that exists keeps the driver API's rules. Its 128 bytes are private to this crate, little-endian:
//! `KTM1`, one byte each for element type, rank, swizzle and fill; from byte 8 the address; from 16 five sizes of 8
//! bytes less 1 in 32 bits each (20 bytes); from 40 four strides of 8 bytes; from 72 five box sizes of 16 bits; from 82
//! five element strides of 8 bits; zeros.

use crate::number::{BF16, F16, Format};
use thiserror::Error;

/// Element types (CUtensorMapDataType).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ElementType {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    BF16,
    F32Flushed,
    TF32,
    TF32Flushed,
}

const ELEMENTS: [ElementType; 13] = [
    ElementType::U8,
    ElementType::U16,
    ElementType::U32,
    ElementType::S32,
    ElementType::U64,
    ElementType::S64,
    ElementType::F16,
    ElementType::F32,
    ElementType::F64,
    ElementType::BF16,
    ElementType::F32Flushed,
    ElementType::TF32,
    ElementType::TF32Flushed,
];

impl ElementType {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            ElementType::U8 => 1,
            ElementType::U16 | ElementType::F16 | ElementType::BF16 => 2,
            ElementType::U64 | ElementType::S64 | ElementType::F64 => 8,
            _ => 4,
        }
    }

    /// The bits of the NaN that fills what is out of bounds.
    fn nan(self) -> u64 {
        let small = |format: Format| format.nan();
        match self {
            ElementType::F16 => small(F16),
            ElementType::BF16 => small(BF16),
            ElementType::F64 => 0x7fff_ffff_ffff_ffff,
            _ => 0x7fff_ffff,
        }
    }

    fn is_float(self) -> bool {
        use ElementType::{BF16, F16, F32, F32Flushed, F64, TF32, TF32Flushed};
        matches!(self, F16 | F32 | F64 | BF16 | F32Flushed | TF32 | TF32Flushed)
    }
}

/// How chunks of 16 bytes are permuted in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

const SWIZZLES: [Swizzle; 4] =
    [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

impl Swizzle {
    /// Bytes of a row that is permuted.
    pub fn bytes(self) -> u64 {
        match self {
            Swizzle::None => 16,
            Swizzle::Bytes32 => 32,
            Swizzle::Bytes64 => 64,
            Swizzle::Bytes128 => 128,
        }
    }

    /// Where an address of shared memory goes: its bits from 4 on are exclusively or'ed with as many from 7 on.
    pub fn apply(self, address: u64) -> u64 {
        let mask = match self {
            Swizzle::None => 0,
            Swizzle::Bytes32 => 1,
            Swizzle::Bytes64 => 3,
            Swizzle::Bytes128 => 7,
        };
        address ^ (address >> 7 & mask) << 4
    }
}

/// What elements outside of the tensor are in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfBounds {
    /// Zeros.
    Zero,
    /// NaN, for floats only.
    NaN,
}

/// A rule of `cuTensorMapEncodeTiled` that is broken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TensorMapError(String);

/// A tensor in device memory, and the box of it that one copy moves. Axis 0 is contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub(crate) element: ElementType,
    pub(crate) address: u64,
    pub(crate) sizes: Vec<u64>,
    /// Bytes from one index to the next, of all axes but the first.
    pub(crate) strides: Vec<u64>,
    pub(crate) box_sizes: Vec<u32>,
    pub(crate) element_strides: Vec<u32>,
    pub(crate) swizzle: Swizzle,
    pub(crate) fill: OutOfBounds,
}

fn rule(holds: bool, message: impl FnOnce() -> String) -> Result<(), TensorMapError> {
    if holds { Ok(()) } else { Err(TensorMapError(message())) }
}

impl TensorMap {
    /// A map for tiles, with the parameters and rules of `cuTensorMapEncodeTiled`: sizes in elements, strides in
    /// bytes and one less, boxes in elements. There is no interleaving.
    #[allow(clippy::too_many_arguments)]
    pub fn tiled(
        element: ElementType,
        address: crate::Address,
        sizes: &[u64],
        strides: &[u64],
        box_sizes: &[u32],
        element_strides: &[u32],
        swizzle: Swizzle,
        fill: OutOfBounds,
    ) -> Result<TensorMap, TensorMapError> {
        let rank = sizes.len();
        rule((1..=5).contains(&rank), || format!("{rank} dimensions"))?;
        rule(
            strides.len() == rank - 1 && box_sizes.len() == rank && element_strides.len() == rank,
            || String::from("the lists have other lengths"),
        )?;
        rule(address.0.is_multiple_of(16), || String::from("the address is no multiple of 16"))?;
        for size in sizes {
            rule(*size > 0 && *size <= 1 << 32, || format!("a size of {size}"))?;
        }
        for stride in strides {
            rule(stride.is_multiple_of(16) && *stride < 1 << 40, || {
                format!("a stride of {stride} bytes")
            })?;
        }
        let mut below = sizes[0] * element.bytes();
        for (stride, size) in strides.iter().zip(&sizes[1..]) {
            rule(*stride >= below, || format!("a stride of {stride} is less than {below} bytes"))?;
            below = stride.saturating_mul(*size);
        }
        for (size, step) in box_sizes.iter().zip(element_strides) {
            rule((1..=256).contains(size), || format!("a box of {size}"))?;
            rule((1..=8).contains(step), || format!("an element stride of {step}"))?;
        }
        let inner = u64::from(box_sizes[0]) * element.bytes();
        rule(inner.is_multiple_of(16), || format!("a box with rows of {inner} bytes"))?;
        rule(swizzle == Swizzle::None || inner <= swizzle.bytes(), || {
            format!("a box with rows of {inner} bytes under a swizzle of {}", swizzle.bytes())
        })?;
        rule(fill == OutOfBounds::Zero || element.is_float(), || String::from("NaN of integers"))?;
        Ok(TensorMap {
            element,
            address: address.0,
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            box_sizes: box_sizes.to_vec(),
            element_strides: element_strides.to_vec(),
            swizzle,
            fill,
        })
    }

    /// The 128 bytes that a kernel is given.
    pub fn encode(&self) -> [u8; 128] {
        let mut out = [0u8; 128];
        out[..4].copy_from_slice(b"KTM1");
        out[4] = ELEMENTS.iter().position(|e| *e == self.element).unwrap_or(0) as u8;
        out[5] = self.sizes.len() as u8;
        out[6] = SWIZZLES.iter().position(|s| *s == self.swizzle).unwrap_or(0) as u8;
        out[7] = u8::from(self.fill == OutOfBounds::NaN);
        out[8..16].copy_from_slice(&self.address.to_le_bytes());
        for (i, size) in self.sizes.iter().enumerate() {
            out[16 + 4 * i..20 + 4 * i].copy_from_slice(&((size - 1) as u32).to_le_bytes());
        }
        for (i, stride) in self.strides.iter().enumerate() {
            out[40 + 8 * i..48 + 8 * i].copy_from_slice(&stride.to_le_bytes());
        }
        for (i, size) in self.box_sizes.iter().enumerate() {
            out[72 + 2 * i..74 + 2 * i].copy_from_slice(&(*size as u16).to_le_bytes());
        }
        for (i, step) in self.element_strides.iter().enumerate() {
            out[82 + i] = *step as u8;
        }
        out
    }

    /// The map that 128 bytes hold, if they hold one.
    pub(crate) fn decode(bytes: &[u8; 128]) -> Option<TensorMap> {
        if &bytes[..4] != b"KTM1" {
            return None;
        }
        let rank = usize::from(bytes[5]);
        if !(1..=5).contains(&rank) {
            return None;
        }
        let number = |at: usize, width: usize| {
            bytes[at..at + width]
                .iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let list = |at: usize, width: usize, count: usize| -> Vec<u64> {
            (0..count).map(|i| number(at + i * width, width)).collect()
        };
        TensorMap::tiled(
            *ELEMENTS.get(usize::from(bytes[4]))?,
            crate::Address(number(8, 8)),
            &list(16, 4, rank).iter().map(|s| s + 1).collect::<Vec<_>>(),
            &list(40, 8, rank - 1),
            &list(72, 2, rank).iter().map(|s| *s as u32).collect::<Vec<_>>(),
            &list(82, 1, rank).iter().map(|s| *s as u32).collect::<Vec<_>>(),
            *SWIZZLES.get(usize::from(bytes[6]))?,
            if bytes[7] == 0 { OutOfBounds::Zero } else { OutOfBounds::NaN },
        )
        .ok()
    }

    /// Elements of a box along each axis.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let counts = self.box_sizes.iter().zip(&self.element_strides);
        counts.map(|(size, step)| u64::from(size.div_ceil(*step))).collect()
    }

    /// Bytes of a box in shared memory.
    pub fn box_bytes(&self) -> u64 {
        self.counts().iter().product::<u64>() * self.element.bytes()
    }

    /// The bits of an element outside of the tensor.
    pub(crate) fn filling(&self) -> u64 {
        if self.fill == OutOfBounds::NaN { self.element.nan() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let map = TensorMap::tiled(
            ElementType::BF16,
            crate::Address(4096),
            &[100, 1 << 32, 3],
            &[256, 256 << 32],
            &[64, 32, 1],
            &[1, 1, 2],
            Swizzle::Bytes128,
            OutOfBounds::NaN,
        );
        // The last stride is beyond 40 bits.
        assert!(map.is_err());
        let map = TensorMap::tiled(
            ElementType::BF16,
            crate::Address(4096),
            &[100, 7, 3],
            &[256, 256 * 7],
            &[64, 32, 2],
            &[1, 1, 2],
            Swizzle::Bytes128,
            OutOfBounds::NaN,
        )
        .unwrap();
        assert_eq!(TensorMap::decode(&map.encode()), Some(map.clone()));
        assert_eq!(map.box_bytes(), 64 * 32 * 2);
        assert_eq!(TensorMap::decode(&[0; 128]), None);
    }

    #[test]
    fn a_swizzle_is_its_own_inverse() {
        for swizzle in SWIZZLES {
            for address in 0..4096 {
                assert_eq!(swizzle.apply(swizzle.apply(address)), address);
            }
        }
        // Row 1, chunk 0 of a tile with rows of 128 bytes goes to chunk 1.
        assert_eq!(Swizzle::Bytes128.apply(128), 128 + 16);
        // With rows of 64 bytes every second row is as the one before.
        assert_eq!(Swizzle::Bytes64.apply(64), 64);
        assert_eq!(Swizzle::Bytes64.apply(128), 128 + 16);
    }
}
