//! Damaged compiled models: cut short and with bits flipped, ten thousand times.
//!
//! Invariant: damage outside the weights is a typed error; damage inside them is found by `verify`,
//! and a run with them still ends.

use crate::small;
use kiln::{Backend, CompileOptions, Compiler, Target, Tensor};
use kiln_program::Artefact;
use kiln_runtime::{LoadedModel, Session, SessionOptions};
use std::sync::Arc;

const TIMES: usize = 10_000;

fn artefact(model: Vec<u8>) -> Vec<u8> {
    let options = CompileOptions { backend: Backend::Cranelift, ..CompileOptions::default() };
    let compiler = Compiler::new(Target::host().unwrap()).options(options);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.kiln");
    compiler.build(model).unwrap().save(&file).unwrap();
    std::fs::read(file).unwrap()
}

/// Where the weights begin: after what the checksums cover, at a page.
fn weights_start(bytes: &[u8]) -> usize {
    let artefact = Artefact::from_bytes(Arc::new(bytes.to_vec())).unwrap();
    bytes.len() - artefact.weights().len()
}

/// Loads and runs; what stopped it, if anything did.
fn run(bytes: Vec<u8>) -> Result<(), String> {
    let artefact = Artefact::from_bytes(Arc::new(bytes)).map_err(|error| error.to_string())?;
    let model = LoadedModel::from_artefact(&artefact).map_err(|error| error.to_string())?;
    let mut session =
        Session::new(Arc::new(model), &SessionOptions { threads: 1, ..Default::default() })
            .map_err(|error| error.to_string())?;
    let input = Tensor::from_slice(vec![2, 8], &[0.5f32; 16]).unwrap();
    session.run(&[input]).map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn damage_never_gets_past_the_checks() {
    damage(&artefact(small::perceptron()));
}

#[test]
fn damaged_places_to_read_from_stay_inside() {
    damage(&artefact(small::picker()));
}

fn damage(whole: &[u8]) {
    let start = weights_start(whole);
    assert!(start > 0 && start < whole.len());
    assert_eq!(run(whole.to_vec()), Ok(()));
    let mut state = 7u64;
    let mut below = |most: usize| -> usize {
        // Knuth's multiplier for 64 bits; the high bits are the good ones.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % most
    };
    let (mut cut, mut flipped, mut inside) = (0, 0, 0);
    for _ in 0..TIMES {
        let mut bytes = whole.to_vec();
        if below(4) == 0 {
            let length = below(whole.len());
            bytes.truncate(length);
            cut += 1;
            run(bytes).expect_err("a file that was cut short");
            continue;
        }
        // The weights are a small part of so small a model; they get their share all the same.
        let first = match below(3) {
            0 => start + below(whole.len() - start),
            _ => below(whole.len()),
        };
        for place in [first, below(whole.len())].into_iter().take(1 + below(2)) {
            bytes[place] ^= 1 << below(8);
        }
        let outside = bytes[..start] != whole[..start];
        let changed = bytes != whole;
        if outside {
            flipped += 1;
            run(bytes).expect_err("a bit that was flipped");
        } else if changed {
            inside += 1;
            let artefact = Artefact::from_bytes(Arc::new(bytes.clone())).unwrap();
            artefact.verify().expect_err("weights are checked when asked for");
            assert_eq!(run(bytes), Ok(()), "a run with other weights ends");
        }
    }
    println!("{cut} cut, {flipped} flipped outside of the weights, {inside} inside");
    assert!(cut > 1000 && flipped > 1000 && inside > 500);
}

#[test]
fn another_version_is_named() {
    let mut bytes = artefact(small::perceptron());
    bytes[8] = bytes[8].wrapping_add(1);
    let error = run(bytes).unwrap_err();
    assert!(error.contains("version"), "{error}");
}
