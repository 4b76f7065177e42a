//! The library as another program uses it.
//!
//! Invariant: what the compiled code computes is compared with the reference evaluator, within the
//! project's own bounds.

use crate::small;
use kiln::inspect::Level;
use kiln::{
    Backend, CacheUse, CancelToken, CompileOptions, Compiler, Error, KernelCache, Model, Phase,
    Target, Tensor,
};
use kiln_ir::accuracy::Tolerance;
use kiln_program::Artefact;
use kiln_runtime::{LoadedModel, Session, SessionOptions, Weights};
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

#[test]
fn kernels_that_were_compiled_before_are_taken_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let own = || KernelCache::open(folder.path().join("kernels")).unwrap();
    let [plain, first, again, other] =
        ["plain", "first", "again", "other"].map(|name| folder.path().join(name));
    for backend in generators() {
        let built = |compiler: Compiler, file: &std::path::Path| {
            let compilation = compiler.build(small::perceptron()).unwrap();
            compilation.save(file).unwrap();
            compilation.cached().clone()
        };
        let without = built(compiler(backend), &plain);
        assert!(without.found == 0 && without.compiled > 0);
        let before = built(compiler(backend).cache(own()), &first);
        assert_eq!(before, CacheUse { found: 0, ..without.clone() }, "{backend}");
        let after = built(compiler(backend).cache(own()), &again);
        assert_eq!(after, CacheUse { found: without.compiled, compiled: 0, fault: None });
        // For another processor there is other code.
        let named = Compiler::new(Target::named("x86-64-v2").unwrap());
        let named = named.options(CompileOptions { backend, ..CompileOptions::default() });
        assert_eq!(built(named.cache(own()), &other).found, 0, "{backend}");

        // Whatever becomes of the files, what comes out is the same.
        for (number, entry) in files(&folder.path().join("kernels")).into_iter().enumerate() {
            let damage = [&b""[..], b"KILNOBJ1", b"KILNOBJ1 but not what should follow"];
            std::fs::write(entry, damage[number % damage.len()]).unwrap();
        }
        assert_eq!(built(compiler(backend).cache(own()), &again).found, 0, "{backend}");
        let bytes = [&plain, &first, &again].map(|file| std::fs::read(file).unwrap());
        assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2], "{backend}");
    }
}

#[test]
fn a_similar_model_compiles_only_what_it_has_more() {
    let folder = tempfile::tempdir().unwrap();
    for backend in generators() {
        let cache = Arc::new(KernelCache::open(folder.path().join(backend.to_string())).unwrap());
        let built = |model| {
            let compiler = compiler(backend).cache(Arc::clone(&cache));
            compiler.build(model).unwrap().cached().clone()
        };
        let first = built(small::perceptron());
        let similar = built(small::deeper());
        // Weights are no part of a kernel; the layer in the middle is the only new one.
        assert_eq!(
            similar,
            CacheUse { found: first.compiled, compiled: 1, fault: None },
            "{backend}"
        );
    }
}

#[cfg(feature = "llvm")]
#[test]
fn a_model_moves_to_better_code_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, tiered] = ["plain", "tiered"].map(|name| folder.path().join(name));
    let best = compiler(Backend::Llvm).compile(small::perceptron()).unwrap();
    assert!(best.tiers().is_none() && best.wait().is_ok());
    let model = compiler(Backend::Llvm).compile_tiered(small::perceptron()).unwrap();
    let kernels = model.program().unwrap().kernels.len();
    let expected = best.run(&[rows(9)]).unwrap();
    let mut seen = Vec::new();
    loop {
        let tiers = model.tiers().unwrap();
        assert_eq!((tiers.kernels, tiers.failed), (kernels, 0));
        assert_close(&model.run(&[rows(9)]).unwrap()[0], &expected[0]);
        seen.push(tiers.best);
        if tiers.is_final() {
            break;
        }
    }
    assert!(seen.is_sorted() && seen.last() == Some(&kernels), "{seen:?}");
    model.wait().unwrap();
    // The same code now, and the same file.
    assert_eq!(model.run(&[rows(9)]).unwrap(), expected);
    best.save(&plain).unwrap();
    model.save(&tiered).unwrap();
    assert!(std::fs::read(&plain).unwrap() == std::fs::read(&tiered).unwrap());

    // With a cache it begins where another ended.
    let cache = Arc::new(KernelCache::open(folder.path().join("kernels")).unwrap());
    let cached = || compiler(Backend::Llvm).cache(Arc::clone(&cache));
    let first = cached().compile_tiered(small::perceptron()).unwrap();
    assert_eq!(first.cached().unwrap().found, 0);
    first.wait().unwrap();
    drop(first);
    let second = cached().compile_tiered(small::perceptron()).unwrap();
    assert_eq!(second.tiers().unwrap().best, kernels);
    assert_eq!(second.run(&[rows(9)]).unwrap(), expected);

    // Code that is waited for can be given up, and a model that nobody waits for ends.
    let cancel = CancelToken::new();
    let given_up = compiler(Backend::Llvm).cancel(cancel.clone());
    let given_up = given_up.compile_tiered(small::perceptron()).unwrap();
    cancel.cancel();
    assert!(matches!(given_up.wait(), Err(Error::Cancelled)));
    assert_close(&given_up.run(&[rows(9)]).unwrap()[0], &expected[0]);
    drop(given_up);

    // Code for other machines comes with the rest.
    let older = Target::named("x86-64-v2").unwrap();
    let both = compiler(Backend::Llvm).also(older).compile_tiered(small::perceptron()).unwrap();
    both.save(&tiered).unwrap();
    assert!(both.tiers().is_none() && Artefact::open(&tiered).unwrap().code().count() == 2);
}

#[test]
fn one_file_has_code_for_several_machines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.kiln");
    let host = Target::host().unwrap();
    for backend in generators() {
        let reference = compiler(Backend::Reference).compile(small::perceptron()).unwrap();
        let others =
            ["x86-64-v4", "x86-64-v3", "x86-64-v2"].map(|name| Target::named(name).unwrap());
        let all = others.iter().cloned().fold(compiler(backend), Compiler::also);
        all.build(small::perceptron()).unwrap().save(&file).unwrap();
        let artefact = Artefact::open(&file).unwrap();
        let variants: Vec<_> = artefact.code().collect();
        assert_eq!(variants.len(), 4);
        // Each version by itself, on the one layout of the weights.
        for (variant, target) in variants.iter().zip([&host].into_iter().chain(&others)) {
            assert!(variant.features.iter().eq(&target.features));
            if !target.features.is_subset(&host.features) {
                continue;
            }
            let weights = Weights::Section(artefact.weights());
            let version = std::slice::from_ref(variant);
            let model = LoadedModel::new(artefact.program().clone(), version, &weights).unwrap();
            let mut session = Session::new(Arc::new(model), &SessionOptions::default()).unwrap();
            for count in [0, 1, 5, 40] {
                let expected = reference.run(&[rows(count)]).unwrap();
                assert_close(&session.run(&[rows(count)]).unwrap()[0], &expected[0]);
            }
        }
        let loaded = Model::load(&file).unwrap();
        let alone = compiler(backend).compile(small::perceptron()).unwrap();
        assert_eq!(loaded.run(&[rows(7)]).unwrap(), alone.run(&[rows(7)]).unwrap());
    }
}

/// The files in the folders of a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = |folder: &std::path::Path| {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    entries(folder).iter().flat_map(|folder| entries(folder)).collect()
}
