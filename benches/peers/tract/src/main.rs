//! Runs a model with tract: optimised for fixed sizes, with the threads of its own executor.
//!
//! Invariant: takes and prints what the runners in Python do (`timed.py`), and warms up as they do.

mod npy;

use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tract_linalg::multithread::Executor;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{RunOptions, anyhow};

const WARM_RUNS: usize = 3;
const WARM_TIME: Duration = Duration::from_millis(300);
const SLOW_TIME: Duration = Duration::from_secs(4);
const FEW: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> TractResult<Value> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or_else(|| anyhow!("the model's folder is missing"))?;
    let folder = Path::new(&folder);
    let mut flags = HashMap::new();
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        flags.insert(flag, value);
    }
    let number = |flag: &str, default| flags.get(flag).map_or(Ok(default), |text| text.parse());
    let (threads, runs) = (number("--threads", 1)?, number("--runs", 10)?);

    let about: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("about.json"))?)?;
    let names = about["inputs"].as_array();
    let inputs: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    let read = |at: usize| npy::read(&folder.join(format!("input_{at}.npy")));
    let tensors = (0..inputs.len()).map(read).collect::<TractResult<Vec<_>>>()?;

    let before = peak_bytes();
    let start = Instant::now();
    let mut model =
        tract_onnx::onnx().model_for_path(folder.join("model.onnx"))?.with_input_names(&inputs)?;
    for (at, tensor) in tensors.iter().enumerate() {
        model.set_input_fact(at, InferenceFact::dt_shape_from_tensor(tensor))?;
    }
    let executor = (threads > 1).then(|| Executor::multithread(threads));
    let options = RunOptions { executor, ..RunOptions::default() };
    let plan = model.into_optimized()?.into_runnable_with_options(&options)?;
    let mut state = plan.spawn()?;
    let load = milliseconds(start.elapsed());

    let values: TVec<TValue> = tensors.into_iter().map(TValue::from).collect();
    let begin = Instant::now();
    let mut warm = 0;
    while warm < WARM_RUNS || begin.elapsed() < WARM_TIME {
        state.run(values.clone())?;
        warm += 1;
        if begin.elapsed() > SLOW_TIME {
            break;
        }
    }
    let mut times: Vec<Duration> = Vec::new();
    let mut outputs = TVec::new();
    let is_slow = |times: &[Duration]| times.iter().sum::<Duration>() > SLOW_TIME;
    while times.len() < runs && (times.len() < FEW || !is_slow(&times)) {
        let start = Instant::now();
        outputs = state.run(values.clone())?;
        times.push(start.elapsed());
    }
    let peak = peak_bytes();
    if let Some(folder) = flags.get("--outputs") {
        for (at, output) in outputs.iter().enumerate() {
            npy::write(&Path::new(folder).join(format!("output_{at}.npy")), output)?;
        }
    }
    times.sort_unstable();
    let sorted: Vec<f64> = times.into_iter().map(milliseconds).collect();
    let latency = json!({ "min": sorted.first(), "median": median(&sorted) });
    Ok(json!({
        "load_ms": load, "latency_ms": latency, "peak_rss_bytes": peak, "empty_rss_bytes": before
    }))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let high = sorted.get(sorted.len() / 2)?;
    let low = sorted.get((sorted.len() - 1) / 2)?;
    Some((low + high) / 2.0)
}

/// The greatest resident memory of this process so far; `None` where the system does not say.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
