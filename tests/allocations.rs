//! What a run asks of the system's allocator.
//!
//! Invariant: nothing, once everything has its size, with one thread or several. What all threads ask for is
//! counted, so that the tests here run without a harness, which has threads of its own, one after the other.

use kiln::{Backend, CompileOptions, Compiler, Model, RunSettings, Target, Tensor, random_tensor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's own; counting is all that is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    a_run_like_one_before_allocates_nothing();
    memory_that_somebody_else_has_is_left_alone();
    // As a harness ends, for whoever counts.
    println!("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn a_run_like_one_before_allocates_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, sizes) in [
        (root.join("examples/perceptron.onnx"), [vec![5, 2], vec![7, 2]]),
        (
            root.join("target/models/cases/ppocr-cls/model.onnx"),
            [vec![1, 3, 48, 192], vec![2, 3, 48, 192]],
        ),
    ] {
        for threads in [1, 2] {
            let options = CompileOptions {
                backend: Backend::Cranelift,
                threads,
                ..CompileOptions::default()
            };
            let compiler = Compiler::new(Target::host().unwrap()).options(options);
            let model = compiler.compile(&file).unwrap_or_else(|error| panic!("{error}"));
            let inputs = sizes
                .clone()
                .map(|sizes| vec![random_tensor(model.inputs()[0].dtype, sizes, 1).unwrap()]);
            let mut outputs = [Vec::new(), Vec::new()];
            // By turns: a model keeps what several shapes need.
            let mut all = |model: &Model| {
                for (inputs, outputs) in inputs.iter().zip(&mut outputs) {
                    model.run_into(inputs, outputs, RunSettings::default()).unwrap();
                }
            };
            (0..2).for_each(|_| all(&model));
            // A thread that is still starting asks for memory of its own, once; a run that did would each time.
            let mut asked = || {
                let before = COUNT.load(Ordering::Relaxed);
                (0..20).for_each(|_| all(&model));
                COUNT.load(Ordering::Relaxed) - before
            };
            let mut last = asked();
            for _ in 0..100 {
                if last > 0 {
                    std::thread::sleep(Duration::from_millis(10));
                    last = asked();
                }
            }
            assert_eq!(last, 0, "{} with {threads} threads", file.display());
            for (inputs, outputs) in inputs.iter().zip(&outputs) {
                assert_eq!(&model.run(inputs).unwrap(), outputs);
            }
        }
    }
}

fn memory_that_somebody_else_has_is_left_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = CompileOptions { backend: Backend::Cranelift, ..CompileOptions::default() };
    let compiler = Compiler::new(Target::host().unwrap()).options(options);
    let model = compiler.compile(root.join("examples/perceptron.onnx")).unwrap();
    let input = |x: f32| vec![Tensor::from_slice(vec![1, 2], &[x, 2.0]).unwrap()];
    let mut outputs = Vec::new();
    model.run_into(&input(1.0), &mut outputs, RunSettings::default()).unwrap();
    let (kept, place) = (outputs[0].clone(), outputs[0].bytes().as_ptr());
    model.run_into(&input(3.0), &mut outputs, RunSettings::default()).unwrap();
    assert_ne!(outputs[0].bytes().as_ptr(), place);
    assert_eq!(kept, model.run(&input(1.0)).unwrap()[0]);
    assert_eq!(outputs, model.run(&input(3.0)).unwrap());
    // Whatever else is in the list goes.
    outputs.push(kept.clone());
    outputs[0] = Tensor::scalar(7i64).unwrap();
    model.run_into(&input(1.0), &mut outputs, RunSettings::default()).unwrap();
    assert_eq!(outputs, [kept]);
    let wrong = Tensor::scalar(1.0f32).unwrap();
    assert!(model.run_into(&[wrong], &mut outputs, RunSettings::default()).is_err());
    assert!(outputs.is_empty());
}
