//! A page on a tuned model: how far each kernel is from what the machine could do, and how each search
//! went.
//!
//! Invariant: one file that loads nothing, a pure function of what it is given; names are escaped.

use super::KernelReport;
use super::record::{Outcome, Record};
use std::fmt::Write;

/// What the machine can do with as many threads as were used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Floating-point operations a second.
    pub flops: f64,
    /// Bytes a second from and to memory.
    pub bytes: f64,
}

/// One kernel of the model, and what was tried for it with the sizes that it has there.
struct Entry<'r> {
    kernel: &'r KernelReport,
    /// In the order of time.
    records: Vec<&'r Record>,
}

/// Width and height of a curve.
const SIZE: (f64, f64) = (280.0, 64.0);

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;\
    padding:0 1rem;color:#1b1f24;background:#fff}table{border-collapse:collapse;width:100%}\
    th,td{text-align:right;padding:.4rem .8rem;border-bottom:1px solid #d8dee4;vertical-align:middle}\
    th:first-child,td:first-child{text-align:left}code{font-size:12px;color:#57606a}\
    .kept{color:#1a7f37}svg{display:block}@media(prefers-color-scheme:dark){body{color:#e6edf3;\
    background:#0d1117}th,td{border-color:#30363d}code{color:#8b949e}.kept{color:#3fb950}}";

/// The page of the kernels of a model, the costliest first, and of these records, which should be of one
/// setting.
pub fn page(title: &str, kernels: &[KernelReport], records: &[&Record], peaks: Peaks) -> String {
    let entries: Vec<Entry> = kernels.iter().map(|kernel| Entry::new(kernel, records)).collect();
    let title = escaped(title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{} kernels; {} schedules of them were measured. The \
         roofline is the longer of computing at {:.1} GFLOP/s and of moving at {:.1} GB/s, both \
         measured; what stays in the caches may be faster. The time in a run is the median before \
         tuning; alone, a kernel runs by turns with the schedule that the model gives it.</p>\n<table>\n\
         <tr><th rowspan=\"2\">kernel<th colspan=\"4\">in a run<th colspan=\"4\">alone\
         <th rowspan=\"2\">kept, of its time<th rowspan=\"2\">best of model's, schedule by schedule</tr>\n\
         <tr><th>µs<th>GFLOP/s<th>GB/s<th>of the roofline<th>schedules<th>model's, µs<th>best, µs\
         <th>of model's</tr>\n",
        entries.len(),
        entries.iter().map(Entry::measured).sum::<usize>(),
        peaks.flops / 1e9,
        peaks.bytes / 1e9,
    );
    for entry in &entries {
        entry.row(&mut text, peaks);
    }
    text.push_str("</table>\n</html>\n");
    text
}

impl<'r> Entry<'r> {
    fn new(kernel: &'r KernelReport, records: &[&'r Record]) -> Self {
        let of_it =
            |record: &&&Record| record.kernel == kernel.kernel && record.params == kernel.params;
        let mut records: Vec<&Record> = records.iter().filter(of_it).copied().collect();
        records.sort_by_key(|record| record.time);
        Entry { kernel, records }
    }

    /// Ratios of the schedules that were measured, one after the other; infinite for one that cannot
    /// be used.
    fn ratios(&self) -> Vec<f64> {
        let ratio = |record: &&Record| match &record.outcome {
            Outcome::Measured { ratio, .. } => Some(*ratio),
            Outcome::Failed { .. } => Some(f64::INFINITY),
            Outcome::Kept { .. } => None,
        };
        self.records.iter().filter_map(ratio).collect()
    }

    fn measured(&self) -> usize {
        self.ratios().len()
    }

    /// Nanoseconds of the model's schedule, and the best ratio to it.
    fn best(&self) -> Option<(f64, f64)> {
        let timed = self.records.iter().filter_map(|record| match record.outcome {
            Outcome::Measured { model_ns, ratio, .. } => Some((model_ns, ratio)),
            _ => None,
        });
        timed.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn row(&self, text: &mut String, peaks: Peaks) {
        let KernelReport { kernel, name, nodes, params, ms, flops, bytes, .. } = self.kernel;
        let node = nodes.first().map_or("", String::as_str);
        let ns = ms * 1e6;
        let (flops, bytes) = (*flops as f64, *bytes as f64);
        let roofline = (flops / peaks.flops).max(bytes / peaks.bytes) * 1e9;
        let none = || "-".to_owned();
        let kept = self.records.iter().rev().find_map(|record| match record.outcome {
            Outcome::Kept { ratio } => {
                Some(format!("<span class=\"kept\">{:.0} %</span>", ratio * 100.0))
            }
            _ => None,
        });
        let alone = self.best().map(|(model_ns, ratio)| {
            // The model's schedule is one of those that can be had.
            let ratio = ratio.min(1.0);
            let (model, best) = (model_ns / 1e3, model_ns * ratio / 1e3);
            format!("{model:.1}<td>{best:.1}<td>{:.0} %", ratio * 100.0)
        });
        let measured = Some(self.measured()).filter(|measured| *measured > 0);
        let family: String = kernel.family.chars().take(8).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "<tr><td>{} {}<br><code>{} {params:?}</code><td>{:.1}<td>{:.1}<td>{:.1}<td>{:.0} %<td>{}\
             <td>{}<td>{}<td>{}</tr>",
            escaped(name),
            escaped(node),
            escaped(&family),
            ns / 1e3,
            flops / ns.max(1.0),
            bytes / ns.max(1.0),
            roofline / ns.max(1.0) * 100.0,
            measured.map_or_else(none, |measured| measured.to_string()),
            alone.unwrap_or_else(|| "-<td>-<td>-".to_owned()),
            kept.unwrap_or_else(none),
            measured.map_or_else(String::new, |_| curve(&self.ratios())),
        );
    }
}

/// The best ratio so far after each schedule, from 100 % at the top to 0 at the bottom.
fn curve(ratios: &[f64]) -> String {
    let (width, height) = SIZE;
    let mut best: f64 = 1.0;
    let mut points = format!("0,{:.1}", 0.0);
    for (number, ratio) in (1..).zip(ratios) {
        best = best.min(*ratio);
        let x = width * f64::from(number) / ratios.len().max(1) as f64;
        let _ = write!(points, " {x:.1},{:.1}", height * (1.0 - best.max(0.0)));
    }
    format!(
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"from 100 % to {:.0} %\">\
         <path d=\"M0 {height}H{width}\" stroke=\"#8b949e\"/><polyline points=\"{points}\" \
         fill=\"none\" stroke=\"#0969da\" stroke-width=\"1.5\"/></svg>",
        best * 100.0
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::schedule::Schedule;
    use kiln_passes::tile::Identity;

    fn record(name: &str, time: u64, outcome: Outcome) -> Record {
        Record {
            target: "t".into(),
            version: "v".into(),
            kernel: Identity { family: name.into(), numbers: vec![], extents: vec![] },
            name: name.into(),
            params: vec![],
            flops: 2000,
            bytes: 100,
            schedule: Schedule::default(),
            outcome,
            time,
        }
    }

    fn kernel(name: &str, ms: f64) -> KernelReport {
        KernelReport {
            kernel: Identity { family: name.into(), numbers: vec![], extents: vec![] },
            name: name.into(),
            nodes: vec!["layer<0>".into()],
            params: vec![],
            ms,
            flops: 4000,
            bytes: 200,
            rank: 0,
            measured: 0,
            alone: None,
            in_model: None,
            kept: false,
        }
    }

    #[test]
    fn a_row_tells_what_was_measured_and_how_far_the_roofline_is() {
        let measured = |ratio| Outcome::Measured { ns: 4000.0 * ratio, model_ns: 4000.0, ratio };
        let records = [
            record("a<b>", 3, measured(0.5)),
            record("a<b>", 1, measured(1.5)),
            record("a<b>", 2, Outcome::Failed { reason: "no".into() }),
            record("a<b>", 4, Outcome::Kept { ratio: 0.75 }),
            record("another model's", 1, measured(1.0)),
        ];
        let kernels = [kernel("slow", 1.0), kernel("a<b>", 0.008)];
        // 4000 operations take 2 µs, 200 bytes 0.2 µs.
        let peaks = Peaks { flops: 2e9, bytes: 1e9 };
        let records: Vec<&Record> = records.iter().collect();
        let text = page("model & more", &kernels, &records, peaks);
        assert!(text.contains("<h1>model &amp; more</h1>") && !text.contains("a<b>"));
        assert!(text.contains("2 kernels; 3 schedules of them"), "{text}");
        let row = text.lines().find(|line| line.contains("a&lt;b&gt;")).unwrap();
        for part in ["<td>8.0<td>0.5<td>0.0<td>25 %<td>3", "<td>4.0<td>2.0<td>50 %<td>", "75 %"] {
            assert!(row.contains(part), "`{part}` is not in {row}");
        }
        // Three schedules, and the curve falls at the last one, in the order of time.
        assert!(row.contains("0,0.0 93.3,0.0 186.7,0.0 280.0,32.0"), "{row}");
        // What nothing was tried for has its distance from the roofline, too.
        let slow = text.lines().find(|line| line.contains(">slow layer&lt;0&gt;<")).unwrap();
        assert!(slow.contains("<td>1000.0<td>0.0<td>0.0<td>0 %<td>-<td>-<td>-<td>-<td>-<td></tr>"));
    }
}
