//! The library as another program uses it.
//!
//! Invariant: what the compiled code computes is compared with the reference evaluator, within the
//! project's own bounds.

use crate::small;
use kiln::inspect::Level;
use kiln::{Backend, CancelToken, CompileOptions, Compiler, Error, Model, Phase, Target, Tensor};
use kiln_ir::accuracy::Tolerance;
use kiln_tensor::DType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn compiler(backend: Backend) -> Compiler {
    let options = CompileOptions { backend, ..CompileOptions::default() };
    Compiler::new(Target::host().unwrap()).options(options)
}

/// The code generators of this build.
fn generators() -> impl Iterator<Item = Backend> {
    [Backend::Llvm, Backend::Cranelift].into_iter().filter(|backend| backend.is_built_in())
}

fn rows(count: usize) -> Tensor {
    let values: Vec<f32> = (0..count * 8).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_slice(vec![count, 8], &values).unwrap()
}

#[track_caller]
fn assert_close(actual: &Tensor, expected: &Tensor) {
    // Two products of 8 and 16 terms, and a softmax of 4.
    let comparison = Tolerance::for_type(DType::F32, 32).compare(actual, expected).unwrap();
    assert!(comparison.agrees(), "{comparison:?}");
}

#[test]
fn every_backend_agrees_with_the_reference_at_every_size() {
    let reference = compiler(Backend::Reference).compile(small::perceptron()).unwrap();
    for backend in generators() {
        let model = compiler(backend).compile(small::perceptron()).unwrap();
        for count in [1, 2, 3, 17, 64, 0] {
            let input = [rows(count)];
            let actual = model.run(&input).unwrap();
            let expected = reference.run(&input).unwrap();
            assert_eq!(actual[0].sizes(), [count, 4]);
            assert_close(&actual[0], &expected[0]);
        }
    }
}

#[test]
fn saved_models_load_and_compute_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for backend in generators() {
        let file = folder.path().join("model.kiln");
        let model = compiler(backend).compile(small::perceptron()).unwrap();
        model.save(&file).unwrap();
        let loaded = Model::load(&file).unwrap();
        assert_eq!(loaded.inputs(), model.inputs());
        assert_eq!(loaded.outputs(), model.outputs());
        assert_eq!(loaded.backend(), Some(backend));
        assert_eq!(loaded.inputs()[0].to_string(), "x: f32[batch, 8]");
        assert_eq!(loaded.run(&[rows(5)]).unwrap(), model.run(&[rows(5)]).unwrap());
        // A loaded model saves as the file that it came from.
        let again = folder.path().join("again.kiln");
        loaded.save(&again).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&again).unwrap());
    }
}

#[test]
fn equal_input_and_options_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for backend in generators() {
        let bytes: Vec<Vec<u8>> = (0..3)
            .map(|number| {
                let file = folder.path().join(format!("{number}.kiln"));
                compiler(backend).build(small::perceptron()).unwrap().save(&file).unwrap();
                std::fs::read(file).unwrap()
            })
            .collect();
        assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "{backend}");
    }
}

#[test]
fn a_path_and_its_bytes_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    std::fs::write(&file, small::perceptron()).unwrap();
    let compiler = compiler(Backend::Cranelift);
    let (by_path, by_bytes) = (compiler.compile(&file), compiler.compile(small::perceptron()));
    let input = [rows(2)];
    assert_eq!(by_path.unwrap().run(&input).unwrap(), by_bytes.unwrap().run(&input).unwrap());
}

#[test]
fn fixed_dimensions_are_part_of_the_compiled_model() {
    let dims = BTreeMap::from([("batch".to_owned(), 3)]);
    let options = CompileOptions { backend: Backend::Cranelift, dims, ..Default::default() };
    let compiler = Compiler::new(Target::host().unwrap()).options(options);
    let model = compiler.compile(small::perceptron()).unwrap();
    assert_eq!(model.inputs()[0].to_string(), "x: f32[3, 8]");
    assert!(model.run(&[rows(3)]).is_ok());
    let error = model.run(&[rows(4)]).unwrap_err();
    assert!(matches!(error, Error::Run(_)) && error.to_string().contains("[3, 8]"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_with_names_and_types() {
    let model = compiler(Backend::Cranelift).compile(small::perceptron()).unwrap();
    let wide = Tensor::zeros(DType::F32, vec![2, 9]).unwrap();
    let double = Tensor::zeros(DType::F64, vec![2, 8]).unwrap();
    let flat = Tensor::zeros(DType::F32, vec![8]).unwrap();
    for (inputs, expected) in [
        (vec![], "the model takes 1 inputs, but 0 were given"),
        (vec![wide], "input `x` has shape [batch, 8], but [2, 9] was given"),
        (vec![double], "input `x` holds f32, but f64 was given"),
        (vec![flat], "input `x` has shape [batch, 8], but [8] was given"),
    ] {
        let message = model.run(&inputs).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn every_backend_refuses_indices_outside_of_what_they_index() {
    let x = Tensor::from_slice(vec![3, 2], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    for backend in generators().chain([Backend::Reference]) {
        let model = compiler(backend).compile(small::lookup()).unwrap();
        let run =
            |at: &[i64]| model.run(&[x.clone(), Tensor::from_slice(vec![at.len()], at).unwrap()]);
        assert_eq!(run(&[2, -3]).unwrap()[0].to_f64(), [4.0, 5.0, 0.0, 1.0], "{backend}");
        for (at, index) in [([0, 3], 3), ([1, -4], -4)] {
            let error = run(&at).unwrap_err().to_string();
            let rule = format!("index {index} (element 1 of the indices) is outside");
            assert!(error.contains("Gather_y") && error.contains(&rule), "{backend}: {error}");
        }
    }
}

#[test]
fn everything_wrong_with_a_model_is_reported_at_once() {
    let error = compiler(Backend::Cranelift).compile(small::broken()).unwrap_err();
    let message = error.to_string();
    for part in ["3 problems", "NoSuchOperator", "com.example Frobnicate", "MatMul", "f32[2, 3]"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert_eq!(error.code(), "import/report");
}

#[test]
fn a_cancelled_compilation_stops() {
    let token = CancelToken::new();
    let compiler = compiler(Backend::Cranelift).cancel(token.clone());
    assert!(compiler.compile(small::perceptron()).is_ok());
    token.cancel();
    let error = compiler.compile(small::perceptron()).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

#[test]
fn phases_are_told_and_timed_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let compiler =
        compiler(Backend::Cranelift).observe(move |phase| list.lock().unwrap().push(phase));
    let model = compiler.compile(small::perceptron()).unwrap();
    let timed: Vec<Phase> = model.phases().times().iter().map(|(phase, _)| *phase).collect();
    assert_eq!(timed, Phase::ALL);
    assert_eq!(*seen.lock().unwrap(), Phase::ALL);
}

#[test]
fn a_level_is_shown_without_those_below() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    let compiler =
        compiler(Backend::Cranelift).observe(move |phase| list.lock().unwrap().push(phase));
    compiler.inspect(small::perceptron(), Level::Graph, None).unwrap();
    assert_eq!(*seen.lock().unwrap(), Phase::ALL[..3]);
}

#[test]
fn threads_share_a_model() {
    let model = compiler(Backend::Cranelift).compile(small::perceptron()).unwrap();
    let expected = model.run(&[rows(9)]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(model.run(&[rows(9)]).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn the_reference_has_nothing_to_save() {
    let model = compiler(Backend::Reference).compile(small::perceptron()).unwrap();
    let error = model.save("/nonexistent/model.kiln").unwrap_err();
    assert!(matches!(error, Error::NoCode) && error.help().is_some());
}

#[cfg(not(feature = "llvm"))]
#[test]
fn a_missing_backend_says_so() {
    let error = compiler(Backend::Llvm).compile(small::perceptron()).unwrap_err();
    assert!(matches!(error, Error::NoBackend(Backend::Llvm)) && error.help().is_some());
}
