//! The runtime by itself: runs a compiled model on tensors that lie in files as raw bytes.
//!
//! `run_artefact MODEL OUTPUT_PREFIX [DTYPE:SIZExSIZE:FILE]…` takes the inputs in the model's order, writes the
//! outputs to `OUTPUT_PREFIX0`, `OUTPUT_PREFIX1` …, and prints the type and the sizes of each.

use kiln_runtime::{LoadedModel, Session, SessionOptions};
use kiln_tensor::{DType, Tensor};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prefix, inputs @ ..] = arguments.as_slice() else {
        return Err("usage: run_artefact MODEL OUTPUT_PREFIX [DTYPE:SIZExSIZE:FILE]...".into());
    };
    let model = LoadedModel::open(Path::new(model))?;
    let inputs = inputs.iter().map(|input| read(input)).collect::<Result<Vec<Tensor>, _>>()?;
    let mut session = Session::new(Arc::new(model), &SessionOptions::default())?;
    for (number, output) in session.run(&inputs)?.iter().enumerate() {
        std::fs::write(format!("{prefix}{number}"), output.bytes())?;
        let sizes: Vec<String> = output.sizes().iter().map(usize::to_string).collect();
        println!("{}:{}", output.dtype(), sizes.join("x"));
    }
    Ok(())
}

fn read(input: &str) -> Result<Tensor, Box<dyn Error>> {
    let mut parts = input.splitn(3, ':');
    let (Some(dtype), Some(sizes), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("`{input}` is not DTYPE:SIZExSIZE:FILE").into());
    };
    let dtype = DType::ALL
        .into_iter()
        .find(|known| known.to_string() == dtype)
        .ok_or_else(|| format!("there is no element type `{dtype}`"))?;
    let sizes = sizes.split('x').filter(|size| !size.is_empty()).map(str::parse);
    let sizes = sizes.collect::<Result<Vec<usize>, _>>()?;
    Ok(Tensor::from_bytes(dtype, sizes, &std::fs::read(file)?)?)
}
