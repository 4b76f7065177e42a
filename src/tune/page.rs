//! A page on what a database knows: how each search went, and how far each kernel is from what the
//! machine could do.
//!
//! Invariant: one file that loads nothing; a pure function of records and peaks; names are escaped.

use super::record::{Outcome, Record};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the machine can do with as many threads as were used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Floating-point operations a second.
    pub flops: f64,
    /// Bytes a second from and to memory.
    pub bytes: f64,
}

/// One kernel with one set of sizes.
struct Entry<'r> {
    /// Its records in the order of time.
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

/// The page of these records, which should be of one setting.
pub fn page(title: &str, records: &[&Record], peaks: Peaks) -> String {
    let mut kernels: BTreeMap<_, Entry> = BTreeMap::new();
    for record in records {
        let key = (&record.kernel, &record.params);
        kernels.entry(key).or_insert_with(|| Entry { records: Vec::new() }).records.push(record);
    }
    let mut entries: Vec<Entry> = kernels.into_values().collect();
    for entry in &mut entries {
        entry.records.sort_by_key(|record| record.time);
    }
    // What takes longest first; kernels of one name by their identity, as the map had them.
    entries.sort_by(|a, b| b.nanoseconds().total_cmp(&a.nanoseconds()));
    let title = escaped(title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{} schedules of {} kernels were measured. The \
         roofline is the longer of computing at {:.1} GFLOP/s and of moving at {:.1} GB/s, both \
         measured; what stays in the caches may be faster.</p>\n<table>\n<tr><th>kernel<th>measured\
         <th>model's, µs<th>best, µs<th>of model's<th>in models<th>GFLOP/s<th>GB/s<th>of the \
         roofline<th>best of model's, schedule by schedule</tr>\n",
        entries.iter().map(Entry::measured).sum::<usize>(),
        entries.len(),
        peaks.flops / 1e9,
        peaks.bytes / 1e9,
    );
    for entry in &entries {
        entry.row(&mut text, peaks);
    }
    text.push_str("</table>\n</html>\n");
    text
}

impl Entry<'_> {
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

    fn nanoseconds(&self) -> f64 {
        self.best().map_or(0.0, |(ns, _)| ns)
    }

    fn row(&self, text: &mut String, peaks: Peaks) {
        let Some(record) = self.records.first() else { return };
        let Some((model_ns, ratio)) = self.best() else { return };
        // The model's schedule is one of those that can be had.
        let ns = model_ns * ratio.min(1.0);
        let (flops, bytes) = (record.flops as f64, record.bytes as f64);
        let roofline = (flops / peaks.flops).max(bytes / peaks.bytes) * 1e9;
        let kept = self.records.iter().rev().find_map(|record| match record.outcome {
            Outcome::Kept { ratio } => Some(ratio),
            _ => None,
        });
        let kept = kept.map_or_else(
            || "-".to_owned(),
            |ratio| format!("<span class=\"kept\">{:.0} %</span>", ratio * 100.0),
        );
        let family: String = record.kernel.family.chars().take(8).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "<tr><td>{}<br><code>{} {:?}</code><td>{}<td>{:.1}<td>{:.1}<td>{:.0} %<td>{kept}<td>{:.1}\
             <td>{:.1}<td>{:.0} %<td>{}</tr>",
            escaped(&record.name),
            escaped(&family),
            record.params,
            self.measured(),
            model_ns / 1e3,
            ns / 1e3,
            ratio.min(1.0) * 100.0,
            flops / ns,
            bytes / ns,
            roofline / ns * 100.0,
            curve(&self.ratios()),
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
            kernel: Identity { family: name.into(), numbers: vec![] },
            name: name.into(),
            params: vec![],
            flops: 2000,
            bytes: 100,
            schedule: Schedule::default(),
            outcome,
            time,
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
            record("slow", 1, Outcome::Measured { ns: 1e6, model_ns: 1e6, ratio: 1.0 }),
        ];
        // 2000 operations take 1 µs, 100 bytes 0.1 µs.
        let peaks = Peaks { flops: 2e9, bytes: 1e9 };
        let text = page("model & more", &records.iter().collect::<Vec<_>>(), peaks);
        assert!(text.contains("<h1>model &amp; more</h1>") && !text.contains("a<b>"));
        assert!(text.contains("4 schedules of 2 kernels"), "{text}");
        let row = text.lines().find(|line| line.contains("a&lt;b&gt;")).unwrap();
        for part in ["<td>3<td>4.0<td>2.0<td>50 %<td>", "75 %", "<td>1.0<td>0.1<td>50 %<td>"] {
            assert!(row.contains(part), "`{part}` is not in {row}");
        }
        // Three schedules, and the curve falls at the last one, in the order of time.
        assert!(row.contains("0,0.0 93.3,0.0 186.7,0.0 280.0,32.0"), "{row}");
        let slow = text.find(">slow<").unwrap();
        assert!(slow < text.find("a&lt;b").unwrap(), "what takes longest comes first");
    }
}
