//! `kiln bench`: latency, memory, and where the time goes.
//!
//! Invariant: what is timed as latency runs without a trace; the costs of kernels come from runs of
//! their own.

use super::arguments::BenchArguments;
use super::progress::Progress;
use super::{failure, inputs, model, output, peak};
use kiln::statistics::{Latency, peak_resident_bytes};
use kiln::{LaunchRecord, Model, Phase, RunSettings, Tensor};
use miette::{Result, miette};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Warm-up ends after as many runs or as much time, whatever comes later.
const WARM_RUNS: usize = 3;
const WARM_TIME: Duration = Duration::from_millis(300);
/// Traced runs, of which each kernel's median counts.
const TRACED_RUNS: usize = 5;
/// Kernels that are shown.
const SHOWN: usize = 10;

#[derive(Serialize)]
struct BenchReport {
    model: String,
    backend: Option<String>,
    threads: usize,
    runs: usize,
    latency_ms: Latency,
    throughput_per_s: f64,
    compile_ms: f64,
    /// Compiled kernels that were there before, of all machines that there is code for.
    kept: usize,
    load_ms: f64,
    peak_rss_bytes: Option<u64>,
    /// Before the model was opened.
    empty_rss_bytes: Option<u64>,
    arena_bytes: u64,
    peak_gflops: f64,
    /// What copies of memory that no cache holds read and write; 0 where there is no memory to measure it.
    copy_gbytes_per_s: f64,
    share_of_peak: f64,
    made_up_inputs: Vec<String>,
    /// Launches in one run, and bytes that they read and write at least.
    launches: usize,
    bytes: i64,
    /// All kernels, the costliest first.
    kernels: Vec<KernelReport>,
}

#[derive(Clone, Serialize)]
struct KernelReport {
    name: String,
    /// Launches in one run.
    launches: usize,
    /// Time of all its launches in one run.
    ms: f64,
    /// What that was predicted to be, where the model was compiled here.
    predicted_ms: Option<f64>,
    flops: i64,
    bytes: i64,
    share_of_peak: f64,
    /// Nodes of the model that it was launched for.
    nodes: Vec<String>,
}

pub fn bench(arguments: &BenchArguments) -> Result<ExitCode> {
    let empty = peak_resident_bytes();
    let model = model::open(&arguments.model, &arguments.common)?;
    let inputs = inputs::gather(&arguments.input, &arguments.common, &model)?;
    inputs.notes.iter().for_each(output::note);
    let tensors = &inputs.tensors;
    // As a program would that runs a model again and again.
    let mut outputs = Vec::new();
    let mut run =
        || model.run_into(tensors, &mut outputs, RunSettings::default()).map_err(failure::report);

    let runs = arguments.runs as usize;
    let progress = Progress::bar(runs as u64);
    progress.say("warm-up");
    let begin = Instant::now();
    let mut warm = 0;
    while warm < WARM_RUNS || begin.elapsed() < WARM_TIME {
        run()?;
        warm += 1;
    }
    progress.say("runs");
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
        progress.step();
    }
    drop(progress);
    // Measuring the machine takes memory, too.
    let resident = peak_resident_bytes();
    let latency = Latency::of(&times).ok_or_else(|| miette!("there were no runs"))?;
    let threads = model.threads().map_err(failure::report)?;
    let (peak, copied) = (peak::flops(threads), peak::bandwidth(threads));
    let kernels = kernels(&model, tensors, peak)?;
    let flops: i64 = kernels.iter().map(|kernel| kernel.flops).sum();
    let sizes: Vec<Vec<usize>> = tensors.iter().map(|tensor| tensor.sizes().to_vec()).collect();
    let memory = model.plan_memory(&sizes).map_err(failure::report)?.unwrap_or_default();
    let time_of = |wanted: &dyn Fn(Phase) -> bool| -> f64 {
        let times = model.phases().times().iter().filter(|(phase, _)| wanted(*phase));
        times.map(|(_, time)| time.as_secs_f64() * 1e3).fold(0.0, |sum, ms| sum + ms)
    };
    let report = BenchReport {
        model: arguments.model.display().to_string(),
        backend: model.backend().map(|backend| backend.to_string()),
        threads,
        runs,
        latency_ms: latency,
        throughput_per_s: 1e3 / latency.median,
        compile_ms: time_of(&|phase| phase != Phase::Load),
        kept: model.cached().map_or(0, |cached| cached.found),
        load_ms: time_of(&|phase| phase == Phase::Load),
        peak_rss_bytes: resident,
        empty_rss_bytes: empty,
        arena_bytes: memory.arena,
        peak_gflops: peak / 1e9,
        copy_gbytes_per_s: copied / 1e9,
        share_of_peak: flops as f64 / (latency.median / 1e3) / peak,
        made_up_inputs: inputs.notes,
        launches: kernels.iter().map(|kernel| kernel.launches).sum(),
        bytes: kernels.iter().fold(0, |sum, kernel| sum.saturating_add(kernel.bytes)),
        kernels,
    };
    if !output::is_taken(&arguments.common.report) {
        show(&report, &model::kept(model.cached().as_ref()));
    }
    output::json(&arguments.common.report, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds to three places, or more where those would show little: some models run in less than one
/// thousandth.
fn ms(time: f64) -> String {
    if time >= 0.1 { format!("{time:.3}") } else { format!("{time:.6}") }
}

/// All kernels, the costliest first.
fn kernels(model: &Model, inputs: &[Tensor], peak: f64) -> Result<Vec<KernelReport>> {
    /// A kernel in one run after the other.
    #[derive(Default)]
    struct Seen {
        report: Option<KernelReport>,
        times: Vec<Duration>,
    }
    let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
    for _ in 0..TRACED_RUNS {
        let mut now: BTreeMap<usize, (Duration, KernelReport)> = BTreeMap::new();
        let mut trace = |record: &LaunchRecord<'_>| {
            let (time, kernel) = now.entry(record.kernel).or_insert_with(|| {
                let report = KernelReport {
                    name: record.name.to_owned(),
                    launches: 0,
                    ms: 0.0,
                    predicted_ms: None,
                    flops: 0,
                    bytes: 0,
                    share_of_peak: 0.0,
                    nodes: Vec::new(),
                };
                (Duration::ZERO, report)
            });
            *time += record.duration;
            kernel.launches += 1;
            kernel.flops = kernel.flops.saturating_add(record.flops);
            kernel.bytes = kernel.bytes.saturating_add(record.bytes);
            if !kernel.nodes.iter().any(|node| node == record.source) {
                kernel.nodes.push(record.source.to_owned());
            }
        };
        let settings = RunSettings { trace: Some(&mut trace), ..RunSettings::default() };
        model.run_with(inputs, settings).map_err(failure::report)?;
        for (number, (time, report)) in now {
            let kernel = seen.entry(number).or_default();
            kernel.times.push(time);
            kernel.report = Some(report);
        }
    }
    let predictions = model.predictions();
    let mut kernels: Vec<KernelReport> = seen
        .into_iter()
        .filter_map(|(number, kernel)| {
            let ms = Latency::of(&kernel.times)?.median;
            let report = kernel.report?;
            let share_of_peak = report.flops as f64 / (ms / 1e3) / peak;
            let predicted = predictions.as_ref().and_then(|seconds| seconds.get(number));
            let predicted_ms = predicted.map(|seconds| seconds * 1e3 * report.launches as f64);
            Some(KernelReport { ms, predicted_ms, share_of_peak, ..report })
        })
        .collect();
    kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok(kernels)
}

fn show(report: &BenchReport, kept: &str) {
    let Latency { min, median, p95 } = report.latency_ms;
    let [median, min, p95] = [median, min, p95].map(ms);
    output::line(format!(
        "latency     median {median} ms, min {min} ms, p95 {p95} ms ({} runs, {} threads)",
        report.runs, report.threads
    ));
    output::line(format!("throughput  {:.1} runs a second", report.throughput_per_s));
    let BenchReport { compile_ms, load_ms, .. } = report;
    output::line(format!("compile     {compile_ms:.1} ms{kept}, load {load_ms:.1} ms"));
    let resident = report.peak_rss_bytes.map_or_else(|| "not known".to_owned(), output::bytes);
    output::line(format!(
        "memory      peak {resident}, arena {}",
        output::bytes(report.arena_bytes)
    ));
    output::line(format!(
        "peak        {:.1} % of {:.1} GFLOP/s (measured, f32 multiply-adds); copies move {:.1} GB/s",
        report.share_of_peak * 100.0,
        report.peak_gflops,
        report.copy_gbytes_per_s
    ));
    if report.kernels.is_empty() {
        return;
    }
    output::line(format!(
        "kernels     {} launches of {}, which move {}",
        report.launches,
        report.kernels.len(),
        output::bytes(report.bytes.max(0) as u64)
    ));
    output::line("\n      ms  share  GFLOP/s    GB/s  launches  kernel (first node)");
    for kernel in report.kernels.iter().take(SHOWN) {
        let seconds = kernel.ms / 1e3;
        output::line(format!(
            "{:>8} {:>5.1}% {:>8.1} {:>7.1}  {:>8}  {} ({})",
            ms(kernel.ms),
            100.0 * kernel.ms / report.latency_ms.median,
            kernel.flops as f64 / seconds / 1e9,
            kernel.bytes as f64 / seconds / 1e9,
            kernel.launches,
            kernel.name,
            kernel.nodes.first().map_or("", String::as_str)
        ));
    }
}
