//! Tensors in files: NumPy's `.npy` and ONNX's `TensorProto` (`.pb`).
//!
//! Invariant: a file that was written reads back as the same tensor; a file that claims more data
//! than it holds is an error before anything of that size is allocated.

use half::f16;
use kiln_tensor::{DType, Element, Tensor, TensorError};
use npyz::{DType as NpyType, NpyHeader, Order, TypeChar, TypeStr, WriterBuilder};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file format for tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFormat {
    /// NumPy's array file.
    Npy,
    /// A serialised ONNX `TensorProto`.
    Pb,
}

impl TensorFormat {
    /// The file name's ending, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            TensorFormat::Npy => "npy",
            TensorFormat::Pb => "pb",
        }
    }

    /// The format that a file name's ending stands for.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "npy" => Some(TensorFormat::Npy),
            "pb" => Some(TensorFormat::Pb),
            _ => None,
        }
    }
}

/// Why a tensor file could not be read or written.
#[derive(Debug, Error)]
pub enum TensorFileError {
    /// The file system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The ending is neither `.npy` nor `.pb`.
    #[error("{}: a tensor file ends in .npy or .pb", .0.display())]
    UnknownFormat(PathBuf),
    /// The contents are not what the ending promises.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The format has no such element type.
    #[error("{}: {format} files cannot hold {dtype} elements; use .pb", .path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
        /// The element type.
        dtype: DType,
    },
}

/// Reads a value; the format follows from the file name's ending. The element type is that of the
/// place it is for: nothing in a `.pb` file tells a sequence, an optional or a map from a tensor,
/// whatever the type of that is.
pub fn read(path: &Path, dtype: DType) -> Result<Tensor, TensorFileError> {
    let format =
        TensorFormat::of(path).ok_or_else(|| TensorFileError::UnknownFormat(path.to_owned()))?;
    let bytes = fs::read(path).map_err(|error| io_error(path, error))?;
    let tensor = match format {
        TensorFormat::Npy => parse_npy(&bytes),
        TensorFormat::Pb => {
            let list = Some(dtype).filter(|dtype| dtype.is_list());
            kiln_frontend::tensor_from_proto(&bytes, list).map_err(|error| error.to_string())
        }
    };
    tensor.map_err(|reason| TensorFileError::Malformed { path: path.to_owned(), reason })
}

/// Whether NumPy's format has this element type.
pub fn fits_npy(dtype: DType) -> bool {
    npy_type(dtype).is_some()
}

/// Writes a tensor under the name that ONNX files carry inside.
pub fn write(
    path: &Path,
    format: TensorFormat,
    name: &str,
    tensor: &Tensor,
) -> Result<(), TensorFileError> {
    let file = fs::File::create(path).map_err(|error| io_error(path, error))?;
    let mut file = BufWriter::new(file);
    let written = match format {
        TensorFormat::Npy if npy_type(tensor.dtype()).is_none() => {
            return Err(TensorFileError::UnsupportedType {
                path: path.to_owned(),
                format: ".npy",
                dtype: tensor.dtype(),
            });
        }
        TensorFormat::Npy => write_npy(&mut file, tensor),
        TensorFormat::Pb => file.write_all(&kiln_frontend::tensor_to_proto(name, tensor)),
    };
    written.and_then(|()| file.flush()).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, error: io::Error) -> TensorFileError {
    TensorFileError::Io { path: path.to_owned(), error }
}

/// NumPy's type letter of an element type. It has none for bfloat16 and for what has fewer bits than
/// a byte or is a float of 8: what extensions write for those names only their size.
fn npy_type(dtype: DType) -> Option<TypeChar> {
    match dtype {
        DType::Bool => Some(TypeChar::Bool),
        DType::BF16 => None,
        _ if dtype.is_complex() => Some(TypeChar::Complex),
        _ if dtype.is_float() => Some(TypeChar::Float),
        _ if dtype.is_integer() && dtype.is_signed() => Some(TypeChar::Int),
        _ if dtype.is_integer() => Some(TypeChar::Uint),
        _ => None,
    }
}

fn dtype_of(description: &TypeStr) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| {
        npy_type(dtype) == Some(description.type_char())
            && description.num_bytes() == Some(dtype.size())
    })
}

/// NumPy's own bound on the header of a file that nobody vouches for, in bytes.
const LONGEST_HEADER: usize = 10_000;

/// Whether the header's dictionary holds one tuple and nothing else that nests, as that of a plain array.
/// The parser takes time without end for what nests deeply.
fn is_plain(bytes: &[u8]) -> bool {
    // What is no .npy file is for the parser to refuse.
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else { return true };
    let length = match rest.get(..6) {
        Some(&[1, _, a, b, ..]) => usize::from(u16::from_le_bytes([a, b])) + 10,
        Some(&[_, _, a, b, c, d]) => (u32::from_le_bytes([a, b, c, d]) as usize).saturating_add(12),
        _ => bytes.len(),
    };
    let header = &bytes[..bytes.len().min(length)];
    let opening = header.iter().filter(|byte| b"([{".contains(byte)).count();
    header.len() <= LONGEST_HEADER && opening <= 2
}

fn parse_npy(bytes: &[u8]) -> Result<Tensor, String> {
    let mut rest = bytes;
    if !is_plain(bytes) {
        return Err("structured and nested .npy arrays are not tensors".to_owned());
    }
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| format!("not an .npy file: {e}"))?;
    let NpyType::Plain(description) = header.dtype() else {
        return Err("structured and nested .npy arrays are not tensors".to_owned());
    };
    let dtype = dtype_of(&description).ok_or_else(|| match description.type_char() {
        TypeChar::ByteStr | TypeChar::UnicodeStr => {
            "strings are read from .pb files, not from .npy".to_owned()
        }
        _ => format!("element type {description} is not one that tensors have"),
    })?;
    if description.to_string().starts_with('>') {
        return Err("big-endian .npy files are not read; save with '<' byte order".to_owned());
    }
    let mut sizes = Vec::with_capacity(header.shape().len());
    for &size in header.shape() {
        sizes.push(usize::try_from(size).map_err(|_| "shape is too large".to_owned())?);
    }
    let length = Tensor::byte_length(dtype, &sizes).map_err(|e| e.to_string())?;
    let data = rest.get(..length).ok_or_else(|| {
        format!("shape {sizes:?} of {dtype} needs {length} bytes, the file holds {}", rest.len())
    })?;
    if header.order() == Order::C || sizes.len() < 2 {
        return Tensor::from_bytes(dtype, sizes, data).map_err(|e| e.to_string());
    }
    row_major(dtype, sizes, data).map_err(|e| e.to_string())
}

/// Reorders column-major elements.
fn row_major(dtype: DType, sizes: Vec<usize>, data: &[u8]) -> Result<Tensor, TensorError> {
    let width = dtype.size();
    let mut tensor = Tensor::zeros(dtype, sizes.clone())?;
    let mut index = vec![0usize; sizes.len()];
    for element in tensor.bytes_mut().chunks_exact_mut(width) {
        let position = index.iter().zip(&sizes).rev().fold(0, |sum, (&i, &size)| sum * size + i);
        element.copy_from_slice(&data[position * width..(position + 1) * width]);
        for (i, &size) in index.iter_mut().zip(&sizes).rev() {
            *i += 1;
            if *i < size {
                break;
            }
            *i = 0;
        }
    }
    Ok(tensor)
}

fn write_npy(file: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    fn elements<T: Element + npyz::AutoSerialize>(
        file: &mut impl Write,
        tensor: &Tensor,
    ) -> io::Result<()> {
        let shape: Vec<u64> = tensor.sizes().iter().map(|&size| size as u64).collect();
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
        writer.extend(tensor.to_vec::<T>().map_err(io::Error::other)?)?;
        writer.finish()
    }
    match tensor.dtype() {
        DType::Bool => {
            let shape: Vec<u64> = tensor.sizes().iter().map(|&size| size as u64).collect();
            let mut writer =
                npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
            writer.extend(tensor.bytes().iter().map(|&byte| byte != 0))?;
            writer.finish()
        }
        DType::U8 => elements::<u8>(file, tensor),
        DType::U16 => elements::<u16>(file, tensor),
        DType::U32 => elements::<u32>(file, tensor),
        DType::U64 => elements::<u64>(file, tensor),
        DType::I8 => elements::<i8>(file, tensor),
        DType::I16 => elements::<i16>(file, tensor),
        DType::I32 => elements::<i32>(file, tensor),
        DType::I64 => elements::<i64>(file, tensor),
        DType::F16 => elements::<f16>(file, tensor),
        DType::F32 => elements::<f32>(file, tensor),
        DType::F64 => elements::<f64>(file, tensor),
        DType::C64 => complex(file, tensor, "<c8"),
        DType::C128 => complex(file, tensor, "<c16"),
        other => Err(io::Error::other(format!("NumPy has no {other}"))),
    }
}

/// Elements whose bytes in memory are those of the file.
fn complex(file: &mut impl Write, tensor: &Tensor, description: &str) -> io::Result<()> {
    let shape: String = tensor.sizes().iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!(
        "{{'descr': '{description}', 'fortran_order': False, 'shape': ({}), }}",
        if tensor.sizes().len() == 1 { shape.trim_end() } else { shape.trim_end_matches(", ") }
    );
    // Magic number, version and length are 10 bytes, the end of the line is one.
    let padding = (64 - (header.len() + 11) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.write_all(tensor.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_files_read_back_for_every_type() {
        let folder = tempfile::tempdir().unwrap();
        for dtype in DType::ALL.into_iter().filter(|&dtype| npy_type(dtype).is_some()) {
            let path = folder.path().join("x.npy");
            let tensor = Tensor::from_f64(dtype, vec![2, 3], &[0., 1., 1., 0., 1., 0.]).unwrap();
            write(&path, TensorFormat::Npy, "x", &tensor).unwrap();
            assert_eq!(read(&path, DType::F32).unwrap(), tensor);
        }
        let bf16 = Tensor::zeros(DType::BF16, vec![1]).unwrap();
        let refused = write(&folder.path().join("y.npy"), TensorFormat::Npy, "y", &bf16);
        assert!(matches!(refused, Err(TensorFileError::UnsupportedType { .. })));
    }

    #[test]
    fn column_major_files_are_reordered() {
        let data: Vec<u8> = [1i32, 4, 2, 5, 3, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = row_major(DType::I32, vec![2, 3], &data).unwrap();
        assert_eq!(tensor.to_i64(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let tensor = Tensor::zeros(DType::F32, vec![100]).unwrap();
        write(&path, TensorFormat::Npy, "x", &tensor).unwrap();
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                matches!(read(&path, DType::F32), Err(TensorFileError::Malformed { .. })),
                "{length}"
            );
        }
        assert!(matches!(
            read(Path::new("x.txt"), DType::F32),
            Err(TensorFileError::UnknownFormat(_))
        ));
    }
}
