//! Tensors from and to NumPy's files.
//!
//! Invariant: element types that no model here has at its ends are errors.

use npyz::{NpyFile, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

pub fn read(path: &Path) -> TractResult<Tensor> {
    let file = NpyFile::new(BufReader::new(File::open(path)?))?;
    let shape: Vec<usize> = file.shape().iter().map(|&size| size as usize).collect();
    match file.dtype().descr().as_str() {
        "'<f4'" => Tensor::from_shape(&shape, &file.into_vec::<f32>()?),
        "'<i4'" => Tensor::from_shape(&shape, &file.into_vec::<i32>()?),
        "'<i8'" => Tensor::from_shape(&shape, &file.into_vec::<i64>()?),
        other => bail!("{}: elements are {other}", path.display()),
    }
}

pub fn write(path: &Path, tensor: &Tensor) -> TractResult<()> {
    match tensor.datum_type() {
        DatumType::F32 => write_as::<f32>(path, tensor),
        DatumType::I32 => write_as::<i32>(path, tensor),
        DatumType::I64 => write_as::<i64>(path, tensor),
        other => bail!("{}: elements are {other:?}", path.display()),
    }
}

fn write_as<T: Datum + Copy + npyz::AutoSerialize>(
    path: &Path,
    tensor: &Tensor,
) -> TractResult<()> {
    let shape: Vec<u64> = tensor.shape().iter().map(|&size| size as u64).collect();
    let file = BufWriter::new(File::create(path)?);
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(tensor.to_plain_array_view::<T>()?.iter().copied())?;
    Ok(writer.finish()?)
}
