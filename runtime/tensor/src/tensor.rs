//! A tensor on the host: element type, sizes, bytes in row-major order.
//!
//! Invariant: the byte length is the product of the sizes times the element size.

use crate::{DType, Element, Objects, Storage};
use half::{bf16, f16};
use std::sync::Arc;
use thiserror::Error;

/// Why a host tensor could not be made or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The bytes do not fill the shape.
    #[error("shape {sizes:?} of {dtype} needs {expected} bytes, but {actual} were given")]
    Length {
        /// Element type.
        dtype: DType,
        /// Shape.
        sizes: Vec<usize>,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The shape needs more memory than there is.
    #[error("there is no memory for a tensor of {dtype} with shape {sizes:?}")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Shape.
        sizes: Vec<usize>,
    },
    /// A shape without elements whose other sizes are too many to go through.
    #[error("shape {sizes:?} has no elements, and more than 2^32 places for none")]
    TooMuchOfNothing {
        /// Sizes.
        sizes: Vec<usize>,
    },
    /// Asked for elements of another type.
    #[error("tensor holds {actual}, not {expected}")]
    Type {
        /// Type that was asked for.
        expected: DType,
        /// Type that the tensor has.
        actual: DType,
    },
    /// An element of a string or list tensor stands for no string or list.
    #[error("an element stands for no object")]
    Handle,
    /// The bytes do not start at a multiple of the element size.
    #[error("the bytes of this {dtype} tensor are not aligned for reading in place")]
    Unaligned {
        /// Element type.
        dtype: DType,
    },
}

/// A host tensor; cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    sizes: Vec<usize>,
    storage: Storage,
    /// What the elements stand for, if they are handles.
    objects: Option<Arc<Objects>>,
}

/// What the other sizes of a tensor without elements may multiply to: whatever goes through all but
/// the empty dimension comes to an end.
const MOST_OF_NOTHING: usize = 1 << 32;

impl Tensor {
    /// Bytes that a tensor of this type and shape takes; an error if that overflows.
    pub fn byte_length(dtype: DType, sizes: &[usize]) -> Result<usize, TensorError> {
        let mut others = sizes.iter().filter(|&&size| size != 0);
        let others = others.try_fold(1usize, |product, &size| product.checked_mul(size));
        let elements = match sizes.contains(&0) {
            true if others.is_none_or(|others| others > MOST_OF_NOTHING) => {
                return Err(TensorError::TooMuchOfNothing { sizes: sizes.to_vec() });
            }
            true => Some(0),
            false => others,
        };
        elements
            .and_then(|elements| elements.checked_mul(dtype.size()))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or_else(|| TensorError::TooLarge { dtype, sizes: sizes.to_vec() })
    }

    /// A tensor over existing bytes, which are not copied.
    pub fn from_storage(
        dtype: DType,
        sizes: Vec<usize>,
        storage: Storage,
    ) -> Result<Self, TensorError> {
        let expected = Self::byte_length(dtype, &sizes)?;
        if storage.len() != expected {
            return Err(TensorError::Length { dtype, sizes, expected, actual: storage.len() });
        }
        Ok(Tensor { dtype, sizes, storage, objects: None })
    }

    /// A tensor with a copy of `bytes` (little-endian, row-major).
    pub fn from_bytes(dtype: DType, sizes: Vec<usize>, bytes: &[u8]) -> Result<Self, TensorError> {
        let expected = Self::byte_length(dtype, &sizes)?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, sizes, expected, actual: bytes.len() });
        }
        let storage = Storage::copy_of(bytes)
            .ok_or_else(|| TensorError::TooLarge { dtype, sizes: sizes.clone() })?;
        Ok(Tensor { dtype, sizes, storage, objects: None })
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, sizes: Vec<usize>) -> Result<Self, TensorError> {
        let length = Self::byte_length(dtype, &sizes)?;
        let storage = Storage::zeroed(length)
            .ok_or_else(|| TensorError::TooLarge { dtype, sizes: sizes.clone() })?;
        Ok(Tensor { dtype, sizes, storage, objects: None })
    }

    /// A tensor with a copy of `elements` in row-major order.
    pub fn from_slice<T: Element>(sizes: Vec<usize>, elements: &[T]) -> Result<Self, TensorError> {
        Self::from_bytes(T::DTYPE, sizes, bytemuck::cast_slice(elements))
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Result<Self, TensorError> {
        Self::from_slice(Vec::new(), &[value])
    }

    /// A tensor of any type from numbers; each is rounded to the nearest (floats) or truncated and
    /// saturated (integers), non-zero is true; complex numbers have no imaginary part.
    pub fn from_f64(dtype: DType, sizes: Vec<usize>, values: &[f64]) -> Result<Self, TensorError> {
        let mut bytes = Vec::with_capacity(values.len() * dtype.size());
        for &value in values {
            match dtype {
                DType::Bool => bytes.push(u8::from(value != 0.0)),
                DType::U8 => bytes.push(value as u8),
                DType::U16 => bytes.extend((value as u16).to_le_bytes()),
                DType::U32 => bytes.extend((value as u32).to_le_bytes()),
                DType::U64 => bytes.extend((value as u64).to_le_bytes()),
                DType::I8 => bytes.extend((value as i8).to_le_bytes()),
                DType::I16 => bytes.extend((value as i16).to_le_bytes()),
                DType::I32 => bytes.extend((value as i32).to_le_bytes()),
                DType::I64 => bytes.extend((value as i64).to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
                DType::BF16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
                DType::F32 => bytes.extend((value as f32).to_le_bytes()),
                DType::F64 => bytes.extend(value.to_le_bytes()),
                // No number is an object; 0 is the empty string.
                handle if handle.is_handle() => bytes.extend([0; 8]),
                DType::U2 => bytes.push((value as u8).min(3)),
                DType::U4 => bytes.push((value as u8).min(15)),
                DType::I2 => bytes.push((value as i8).clamp(-2, 1) as u8),
                DType::I4 => bytes.push((value as i8).clamp(-8, 7) as u8),
                DType::C64 => bytes.extend([(value as f32).to_le_bytes(), [0; 4]].concat()),
                DType::C128 => bytes.extend([value.to_le_bytes(), [0; 8]].concat()),
                small => bytes.extend(small.encode(value)),
            }
        }
        Self::from_bytes(dtype, sizes, &bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape, outermost dimension first.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.storage.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, little-endian, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.storage
    }

    /// The bytes for writing; copied first if they are shared.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.storage.make_mut()
    }

    /// Whether the bytes can be written without a copy: nobody else has them.
    pub fn is_exclusive(&mut self) -> bool {
        self.storage.is_exclusive()
    }

    /// The storage, which can be shared without a copy.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The elements in place. Mapped bytes may be unaligned; [`Tensor::to_vec`] always works.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        self.expect_type(T::DTYPE)?;
        bytemuck::try_cast_slice(&self.storage)
            .map_err(|_| TensorError::Unaligned { dtype: self.dtype })
    }

    /// The elements in place for writing; copied first if they are shared.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        self.expect_type(T::DTYPE)?;
        let dtype = self.dtype;
        bytemuck::try_cast_slice_mut(self.storage.make_mut())
            .map_err(|_| TensorError::Unaligned { dtype })
    }

    /// A copy of the elements.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        self.expect_type(T::DTYPE)?;
        Ok(bytemuck::allocation::pod_collect_to_vec(self.bytes()))
    }

    /// The elements as numbers; 64-bit integers above 2^53 lose precision, complex numbers their
    /// imaginary parts.
    pub fn to_f64(&self) -> Vec<f64> {
        fn convert<T: Element>(bytes: &[u8], number: impl Fn(T) -> f64) -> Vec<f64> {
            bytes
                .chunks_exact(size_of::<T>())
                .map(|c| number(bytemuck::pod_read_unaligned(c)))
                .collect()
        }
        let bytes = self.bytes();
        match self.dtype {
            DType::Bool => convert::<u8>(bytes, |v| f64::from(u8::from(v != 0))),
            DType::U8 => convert::<u8>(bytes, f64::from),
            DType::U16 => convert::<u16>(bytes, f64::from),
            DType::U32 => convert::<u32>(bytes, f64::from),
            DType::U64 => convert::<u64>(bytes, |v| v as f64),
            DType::I8 => convert::<i8>(bytes, f64::from),
            DType::I16 => convert::<i16>(bytes, f64::from),
            DType::I32 => convert::<i32>(bytes, f64::from),
            DType::I64 => convert::<i64>(bytes, |v| v as f64),
            DType::F16 => convert::<f16>(bytes, f16::to_f64),
            DType::BF16 => convert::<bf16>(bytes, bf16::to_f64),
            DType::F32 => convert::<f32>(bytes, f64::from),
            DType::F64 => convert::<f64>(bytes, |v| v),
            handle if handle.is_handle() => vec![f64::NAN; self.len()],
            DType::U2 | DType::U4 => convert::<u8>(bytes, f64::from),
            DType::I2 | DType::I4 => convert::<i8>(bytes, f64::from),
            DType::C64 => convert::<f32>(bytes, f64::from).into_iter().step_by(2).collect(),
            DType::C128 => convert::<f64>(bytes, |v| v).into_iter().step_by(2).collect(),
            small => convert::<u8>(bytes, |code| small.decode(code).unwrap_or(f64::NAN)),
        }
    }

    /// The elements as 64-bit integers: exact for every integer type, truncated for floats.
    pub fn to_i64(&self) -> Vec<i64> {
        match self.dtype {
            DType::I64 => bytemuck::allocation::pod_collect_to_vec(self.bytes()),
            DType::U64 => bytemuck::allocation::pod_collect_to_vec::<u8, u64>(self.bytes())
                .into_iter()
                .map(|v| v as i64)
                .collect(),
            _ => self.to_f64().into_iter().map(|v| v as i64).collect(),
        }
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshaped(&self, sizes: Vec<usize>) -> Result<Self, TensorError> {
        let objects = self.objects.clone();
        Ok(Tensor { objects, ..Self::from_storage(self.dtype, sizes, self.storage.clone())? })
    }

    /// The table that handles are of.
    pub fn objects(&self) -> Option<&Arc<Objects>> {
        self.objects.as_ref()
    }

    /// The tensor with its handles taken to be of this table, if they are handles.
    pub fn with_objects(mut self, objects: &Arc<Objects>) -> Self {
        self.objects = self.dtype.is_handle().then(|| objects.clone());
        self
    }

    pub(crate) fn expect_type(&self, expected: DType) -> Result<(), TensorError> {
        if self.dtype == expected {
            Ok(())
        } else {
            Err(TensorError::Type { expected, actual: self.dtype })
        }
    }
}

/// Bitwise equality: same type, same shape, same bytes or objects.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.sizes == other.sizes
            && match self.dtype {
                DType::String => self.strings() == other.strings(),
                dtype if dtype.is_list() => self.lists() == other.lists(),
                _ => self.bytes() == other.bytes(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert!(Tensor::from_slice(vec![2, 2], &[1f32, 2.0, 3.0]).is_err());
        assert!(Tensor::zeros(DType::F32, vec![usize::MAX, 2]).is_err());
        assert_eq!(Tensor::zeros(DType::F32, vec![1 << 31, 0, 2]).unwrap().len(), 0);
        assert!(Tensor::zeros(DType::F32, vec![1 << 31, 0, 3]).is_err());
        assert!(Tensor::zeros(DType::F32, vec![usize::MAX, 0, 2]).is_err());
    }

    #[test]
    fn numbers_convert_both_ways() {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_handle()) {
            // `f8e8m0` has no zero.
            let least = if dtype == DType::F8E8M0 { 1 } else { 0 };
            let numbers = [f64::from(least), 1.0, 1.0];
            let tensor = Tensor::from_f64(dtype, vec![3], &numbers).unwrap();
            assert_eq!(tensor.to_f64(), numbers, "{dtype}");
            assert_eq!(tensor.to_i64(), [i64::from(least), 1, 1], "{dtype}");
        }
    }

    #[test]
    fn typed_access_refuses_another_type() {
        let tensor = Tensor::from_slice(vec![2], &[1i32, 2]).unwrap();
        assert_eq!(tensor.as_slice::<i32>().unwrap(), [1, 2]);
        assert!(matches!(tensor.as_slice::<f32>(), Err(TensorError::Type { .. })));
    }
}
