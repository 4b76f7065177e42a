//! What deep networks cost to optimise, in numbers that do not depend on the machine.
//!
//! Invariant: equal layers are saturated once however many there are, and memory grows with the graph.

#[path = "../benches/models/mod.rs"]
mod models;

use kiln_ir::Graph;
use kiln_passes::{CostModel, EGraphOptions, Report, optimise, simplify};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which keeps count of what each thread has.
struct Counting;

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { live: 0, peak: 0, all: 0 }) };
}

/// Bytes: in use, at most in use, and ever handed out.
#[derive(Clone, Copy, Default)]
struct Count {
    live: usize,
    peak: usize,
    all: usize,
}

impl Count {
    fn now() -> Self {
        COUNT.get()
    }

    fn change(freed: usize, taken: usize) {
        // While a thread ends, nothing is counted.
        let _ = COUNT.try_with(|count| {
            let Count { live, peak, all } = count.get();
            // What another thread allocated may be freed by this one.
            let live = live.saturating_sub(freed) + taken;
            count.set(Count { live, peak: peak.max(live), all: all + taken });
        });
    }
}

// SAFETY: everything is left to the system's allocator; what is counted on the way needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Count::change(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Count::change(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Count::change(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Count::change(layout.size(), size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What optimising a graph took.
struct Spent {
    report: Report,
    /// Bytes in use at most, beyond those before.
    peak: usize,
    /// Bytes allocated in all.
    all: usize,
}

fn spent(graph: &Graph) -> Spent {
    let simple = simplify(graph).unwrap();
    let before = Count::now();
    COUNT.set(Count { peak: before.live, ..before });
    let (_, report) =
        optimise(&simple, &EGraphOptions::default(), &CostModel::generic_cpu()).unwrap();
    let after = Count::now();
    Spent { report, peak: after.peak - before.live, all: after.all - before.all }
}

/// How many regions were saturated, and the e-nodes of all of them.
fn saturated(report: &Report) -> (usize, usize) {
    let e_nodes = report.regions.iter().map(|region| region.e_nodes).sum();
    (report.regions.len() - report.identical(), e_nodes)
}

fn check(network: fn(usize) -> Graph, most_regions: usize) {
    let few = spent(&network(12));
    assert!(saturated(&few.report).0 <= most_regions, "{}", few.report);
    for layers in [24, 100] {
        let found = spent(&network(layers));
        assert_eq!(saturated(&found.report), saturated(&few.report), "{layers} layers");
        // Counts of regions and costs alone would not show a search that goes over the graph anew for
        // each of them.
        let times = layers as f64 / 12.0;
        let more = |most: f64, least: usize| most <= 1.25 * times * least as f64;
        assert!(more(found.all as f64, few.all), "{} bytes, {} for 12 layers", found.all, few.all);
        assert!(more(found.peak as f64, few.peak), "{} bytes at once, {}", found.peak, few.peak);
        assert!(found.peak < MOST_BYTES, "{} bytes at once", found.peak);
    }
}

/// What optimising may take at once, weights aside.
const MOST_BYTES: usize = 500 << 20;

/// Networks whose layers all differ share nothing.
#[test]
fn networks_without_equal_layers_fit_too() {
    for graph in [models::resnet50(), models::densenet121()] {
        let found = spent(&graph);
        assert!(found.peak < MOST_BYTES, "{}: {} bytes at once", graph.name, found.peak);
    }
}

/// Layers that normalise what they have made.
#[test]
fn layers_of_an_encoder_cost_once() {
    check(|layers| models::encoder(layers, 64, 4), 6);
}

/// Layers that normalise what they are given, with caches that go in and out: 10,000 nodes at last.
#[test]
fn layers_of_a_decoder_cost_once() {
    assert!(models::decoder(100, 64, 4).nodes().len() >= 10_000);
    check(|layers| models::decoder(layers, 64, 4), 15);
}
