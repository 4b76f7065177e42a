//! What `make demo` shows: sentences to vectors by a compiled MiniLM, and how close they are.
//!
//! Everything printed is measured in this run; progress goes to stderr, results to stdout.

use kiln::statistics::{Latency, peak_resident_bytes};
use kiln::{Backend, CompileOptions, Compiler, Model, Target, Tensor};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer};

const SENTENCES: [&str; 6] = [
    "The cat sleeps on the warm windowsill.",
    "A kitten is napping in the sun.",
    "Interest rates rose for the third time this year.",
    "The central bank has made borrowing more expensive again.",
    "Bring the water to the boil, then add the pasta.",
    "How long does spaghetti have to cook?",
];

/// How often the sentences are embedded to time it.
const RUNS: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| "target/models/files/minilm".into());
    let model_path = folder.join("model.onnx");
    if !model_path.exists() {
        return Err(format!("{} is missing; `make demo` fetches it", model_path.display()).into());
    }
    let tokenizer = open_tokenizer(&folder.join("tokenizer.json"))?;

    let backend = Backend::default();
    eprintln!("Compiling {} with the {backend} backend", model_path.display());
    let compiler = Compiler::new(Target::host()?)
        .options(CompileOptions { backend, ..CompileOptions::default() })
        .observe(|phase| eprintln!("  {phase} …"));
    let model = compiler.compile(&model_path)?;

    let inputs = tokenise(&tokenizer, &SENTENCES)?;
    let embeddings = model.run(&inputs)?.swap_remove(0);
    show_similarities(&embeddings)?;

    let latency = time(&model, &inputs)?;
    let [sentences, tokens] = [inputs[0].sizes()[0], inputs[0].sizes()[1]];
    println!(
        "\nLatency of all {sentences} sentences, {tokens} tokens each, {} threads:",
        model.threads()?
    );
    println!("  median {:.2} ms, fastest {:.2} ms ({RUNS} runs)", latency.median, latency.min);
    if let Some(bytes) = peak_resident_bytes() {
        println!("Peak memory, compiler included: {:.0} MiB", bytes as f64 / f64::from(1 << 20));
    }
    println!("Compile time: {:.2} s", model.phases().total().as_secs_f64());
    for (phase, time) in model.phases().times() {
        println!("  {:<10} {:>9.1} ms", phase.name(), time.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// The model's tokeniser, padding to the longest sentence instead of a fixed length.
fn open_tokenizer(path: &Path) -> Result<Tokenizer, Box<dyn Error>> {
    let mut tokenizer = Tokenizer::from_file(path).map_err(|error| error.to_string())?;
    let strategy = PaddingStrategy::BatchLongest;
    tokenizer.with_padding(Some(PaddingParams { strategy, ..PaddingParams::default() }));
    Ok(tokenizer)
}

/// The model's three inputs: token numbers, which of them are tokens, and which part they are of.
fn tokenise(tokenizer: &Tokenizer, sentences: &[&str]) -> Result<[Tensor; 3], Box<dyn Error>> {
    let encodings =
        tokenizer.encode_batch(sentences.to_vec(), true).map_err(|error| error.to_string())?;
    let length = encodings.first().map_or(0, |encoding| encoding.len());
    let tensor = |part: fn(&tokenizers::Encoding) -> &[u32]| {
        let numbers: Vec<i64> = encodings.iter().flat_map(part).map(|&n| i64::from(n)).collect();
        Tensor::from_slice(vec![encodings.len(), length], &numbers)
    };
    Ok([
        tensor(tokenizers::Encoding::get_ids)?,
        tensor(tokenizers::Encoding::get_attention_mask)?,
        tensor(tokenizers::Encoding::get_type_ids)?,
    ])
}

/// Prints the cosine of every pair; the vectors have unit length, so that is their product.
fn show_similarities(embeddings: &Tensor) -> Result<(), Box<dyn Error>> {
    let width = embeddings.sizes()[1];
    let rows: Vec<&[f32]> = embeddings.as_slice::<f32>()?.chunks_exact(width).collect();
    let longest = SENTENCES.iter().map(|sentence| sentence.len()).max().unwrap_or(0);
    let numbers: String = (1..=rows.len()).map(|number| format!("{number:>7}")).collect();
    println!("\n{:1$}{numbers}", "", longest + 3);
    for (number, (sentence, row)) in SENTENCES.iter().zip(&rows).enumerate() {
        print!("{}  {sentence:longest$}", number + 1);
        for other in &rows {
            let cosine: f32 = row.iter().zip(*other).map(|(a, b)| a * b).sum();
            print!("{cosine:>7.2}");
        }
        println!();
    }
    Ok(())
}

fn time(model: &Model, inputs: &[Tensor]) -> Result<Latency, Box<dyn Error>> {
    let mut runs: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        model.run(inputs)?;
        runs.push(start.elapsed());
    }
    Ok(Latency::of(&runs).ok_or("no runs")?)
}
