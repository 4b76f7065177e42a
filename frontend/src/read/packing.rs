//! Elements of fewer than 8 bits: packed in files, one a byte in memory.
//!
//! Invariant: in a file an element follows the one before it bit by bit, the low bits of a byte
//! first; in memory it is extended to its byte as its sign says.

use kiln_tensor::DType;

/// Bytes that this many elements take in a file, for a type whose elements fill bytes in memory;
/// for others what they take in memory.
pub(super) fn packed_length(dtype: DType, length: usize) -> usize {
    match dtype.bits() {
        // No tensor in memory has more than 2⁶³ bytes.
        bits @ ..8 => (length as u128 * u128::from(bits)).div_ceil(8) as usize,
        _ => length,
    }
}

/// This many elements of packed bytes, of which there are enough.
pub(super) fn unpacked(dtype: DType, packed: &[u8], length: usize) -> Vec<u8> {
    let bits = dtype.bits() as usize;
    let element = |number: usize| {
        let (byte, shift) = (number * bits / 8, number * bits % 8);
        let pair = u16::from_le_bytes([packed[byte], packed.get(byte + 1).copied().unwrap_or(0)]);
        dtype.extended((pair >> shift) as u8)
    };
    (0..length).map(element).collect()
}

/// The elements packed.
pub(super) fn packed(dtype: DType, elements: &[u8]) -> Vec<u8> {
    let bits = dtype.bits() as usize;
    let mut packed = vec![0; packed_length(dtype, elements.len())];
    for (number, element) in elements.iter().enumerate() {
        let (byte, shift) = (number * bits / 8, number * bits % 8);
        let low = u16::from(element & ((1 << bits) - 1)) << shift;
        packed[byte] |= low as u8;
        if let (Some(next), 1..) = (packed.get_mut(byte + 1), low >> 8) {
            *next |= (low >> 8) as u8;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `onnx.numpy_helper.from_array(...).raw_data`.
    #[test]
    fn bytes_are_those_of_onnx() {
        for (dtype, elements, bytes) in [
            (DType::I4, &[7u8, 0xf8, 0xff][..], &[0x87u8, 0x0f][..]),
            (DType::U4, &[1, 2, 15], &[0x21, 0x0f]),
            (DType::F4E2M1, &[8, 3], &[0x38]),
            (DType::I2, &[1, 0xfe, 0xff, 0, 1], &[0x39, 0x01]),
            (DType::U2, &[3, 2, 1], &[0x1b]),
            (DType::F6E2M3, &[0x3f, 0x01, 0x20, 0x15, 0x2a], &[0x7f, 0x00, 0x56, 0x2a]),
            (DType::F6E3M2, &[], &[]),
        ] {
            assert_eq!(packed(dtype, elements), bytes, "{dtype}");
            assert_eq!(unpacked(dtype, bytes, elements.len()), elements, "{dtype}");
        }
    }
}
