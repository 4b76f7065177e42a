use super::*;
use crate::compilation::Compilation;
use crate::generate::{notes, tile_target};
use crate::{CompileOptions, Compiler, Model, Phases, RunSettings, Source, Tensor};
use kiln_backends::Object;

/// A generator that makes nothing, and how.
enum Broken {
    Fails,
    Panics,
    Empty,
}

impl CodeGenerator for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn compile(&self, _: &[Unit<'_>], _: &Target) -> Result<Vec<Object>, CodegenError> {
        let message = "it is not made for this".to_owned();
        match self {
            Broken::Fails => {
                Err(CodegenError::Library { generator: "broken", phase: "trying", message })
            }
            Broken::Panics => panic!("{message}"),
            Broken::Empty => Ok(Vec::new()),
        }
    }
}

/// A model that begins with Cranelift's code and gets better code from a generator, and its number of kernels.
fn moving(generator: Broken) -> Result<(Model, usize), Error> {
    let options = CompileOptions { backend: Backend::Cranelift, threads: 1, ..Default::default() };
    let target = Target::host()?;
    let compiler = Compiler::new(target.clone()).options(options.clone());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/perceptron.onnx");
    let mut phases = Phases::default();
    let graph = compiler.simplified(&Source::from(file), &mut phases)?;
    let (graph, _) = compiler.optimised(&graph, &mut phases)?;
    let plan = Arc::new(compiler.plan(&graph, &mut phases)?);
    let quick = tile_target(Backend::Cranelift, &target, 1);
    let (generator, cancel) = (Box::new(generator), CancelToken::new());
    let (variant, rest) = first(generator, &plan, &quick, &target, None, &cancel)?;
    let (kernels, cached) = (plan.kernels.len(), rest.cached());
    let notes = notes(&options, &[&target]);
    let compilation = Compilation::new(plan, vec![variant], notes, phases, cached);
    Ok((compilation.into_model(1)?.improved_by(rest), kernels))
}

#[test]
fn a_model_without_better_code_runs_on_and_says_why() {
    for (generator, reason) in [
        (Broken::Fails, "it is not made for this"),
        (Broken::Panics, "it panicked"),
        (Broken::Empty, "there is none"),
    ] {
        let (model, kernels) = moving(generator).unwrap();
        let error = model.wait().unwrap_err();
        assert!(
            matches!(error, Error::Codegen(_)) && error.to_string().contains(reason),
            "{error}"
        );
        assert_eq!(model.tiers(), Some(Tiers { kernels, best: 0, failed: kernels }));
        assert!(model.tiers().unwrap().is_final());
        let input = Tensor::from_slice(vec![1, 2], &[1.0f32, 2.0]).unwrap();
        let outputs = model.run_with(&[input], RunSettings::default()).unwrap();
        assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [2.0, 1.5, 0.0]);
        // What is saved is the best code, of which there is none.
        let folder = tempfile::tempdir().unwrap();
        let error = model.save(folder.path().join("model.kiln")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
