//! Kiln inside another program: compile a model once, keep the compiled file, run it on threads.
//!
//! The model is compiled only if there is no compiled file beside it; loading that takes no compiler
//! and maps the weights. Try it with `cargo run --release --example embed -- MODEL.onnx`.

use kiln::{Compiler, Error, Model, SymbolValues, Target, Tensor, random_tensor};
use std::path::{Path, PathBuf};
use std::thread;

/// The compiled model, from its file if there is one.
fn open(path: &Path) -> Result<Model, Error> {
    let compiled = path.with_extension("kiln");
    if !compiled.exists() {
        Compiler::new(Target::host()?).compile(path)?.save(&compiled)?;
    }
    Model::load(&compiled)
}

/// Made-up inputs; sizes that the model leaves open are 1.
fn inputs(model: &Model, seed: u64) -> Result<Vec<Tensor>, Box<dyn std::error::Error>> {
    let mut symbols = SymbolValues::default();
    let one = |info: &kiln::TensorInfo| {
        Ok(random_tensor(info.dtype, info.sizes(&mut symbols, |_| 1)?, seed)?)
    };
    model.inputs().iter().map(one).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path: PathBuf = std::env::args_os().nth(1).ok_or("usage: embed MODEL.onnx")?.into();
    let model = open(&path)?;
    model.inputs().iter().for_each(|input| println!("input   {input}"));
    model.outputs().iter().for_each(|output| println!("output  {output}"));

    // A model is `Send` and `Sync`: any number of threads may run it at the same time.
    let requests = [inputs(&model, 1)?, inputs(&model, 2)?];
    let answers: Vec<Result<Vec<Tensor>, Error>> = thread::scope(|scope| {
        let running = requests.each_ref().map(|request| scope.spawn(|| model.run(request)));
        running.map(|thread| thread.join().unwrap_or(Err(Error::Cancelled))).into()
    });
    for answer in answers {
        for (info, tensor) in model.outputs().iter().zip(answer?) {
            let values = tensor.to_f64();
            println!(
                "{}: {:?}, begins {:.4?}",
                info.name,
                tensor.sizes(),
                &values[..values.len().min(4)]
            );
        }
    }
    Ok(())
}
