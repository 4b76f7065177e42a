//! Random numbers: that they are drawn as the operators say, and are the same whenever and wherever
//! they are drawn.
//!
//! Invariant: what is expected of many numbers is off by less than five standard deviations.

use crate::written::case;
use kiln_frontend::{ImportOptions, Model, import};
use kiln_ir::{evaluate, verify};
use kiln_tensor::Tensor;
use prost::Message;

fn run(lines: &str) -> Vec<Tensor> {
    let case = case(&format!("case random opset 17\n{lines}"));
    let model = Model::from_bytes(case.model.encode_to_vec()).unwrap();
    let graph =
        import(&model, &ImportOptions::default()).unwrap_or_else(|report| panic!("{report}"));
    verify(&graph).unwrap();
    evaluate(&graph, &case.operands).unwrap()
}

/// Mean and variance.
fn moments(tensor: &Tensor) -> (f64, f64) {
    let (values, count) = (tensor.to_f64(), tensor.len() as f64);
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

#[test]
fn numbers_have_the_moments_that_are_asked_for() {
    // The fourth central moment tells how far the variance of 10,000 numbers may be off.
    for (node, mean, variance, fourth) in [
        ("RandomUniform > y shape=[100,100] low=-1.0 high=3.0", 1.0, 16.0 / 12.0, 256.0 / 80.0),
        ("RandomNormal > y shape=[10000] mean=2.0 scale=3.0", 2.0, 9.0, 3.0 * 81.0),
        ("RandomNormalLike x > y seed=1.0", 0.0, 1.0, 3.0),
        ("RandomUniformLike x > y seed=1.0 dtype=11", 0.5, 1.0 / 12.0, 1.0 / 80.0),
        ("Bernoulli p > y seed=3.0", 0.25, 0.1875, 0.082_031_25),
    ] {
        let y = &run(&format!(
            "input x f32[n=100,100] 0\ninput p f64[10000] 0.25\nnode {node}\noutput y"
        ))[0];
        let (actual_mean, actual_variance) = moments(y);
        let allowed = |variance: f64| 5.0 * (variance / 10_000.0).sqrt();
        assert!((actual_mean - mean).abs() < allowed(variance), "{node}: {actual_mean}");
        let spread = allowed(fourth - variance * variance);
        assert!((actual_variance - variance).abs() < spread, "{node}: {actual_variance}");
    }
}

#[test]
fn certain_events_happen() {
    let y = run("input p f32[4] 0 1 1 0\nnode Bernoulli p > y dtype=6\noutput y");
    assert_eq!(y[0].to_i64(), [0, 1, 1, 0]);
    let infinite = "input x f32[2,3] -inf 0 -inf 0 -inf -inf";
    let y = run(&format!("{infinite}\nnode Multinomial x > y sample_size=3 dtype=7\noutput y"));
    assert_eq!(y[0].to_i64(), [1, 1, 1, 0, 0, 0]);
}

#[test]
fn classes_are_drawn_by_their_weights() {
    // Logarithms of 1 and 3.
    let x = "input x f32[1,2] 0 1.0986123";
    let y = run(&format!("{x}\nnode Multinomial x > y sample_size=10000\noutput y"));
    assert_eq!(y[0].sizes(), [1, 10_000]);
    let (mean, _) = moments(&y[0]);
    assert!((mean - 0.75).abs() < 5.0 * (0.1875f64 / 10_000.0).sqrt(), "{mean}");
}

#[test]
fn a_node_draws_the_same_again_and_another_node_does_not() {
    let lines = "node RandomUniform > a shape=[8]
                 node RandomUniform > b shape=[8]
                 node RandomUniform > c shape=[8] seed=7.0
                 node RandomUniform > d shape=[8] seed=7.0
                 output a
                 output b
                 output c
                 output d";
    let (first, again) = (run(lines), run(lines));
    let bytes = |tensors: &[Tensor]| -> Vec<Vec<u8>> {
        tensors.iter().map(|tensor| tensor.bytes().to_vec()).collect()
    };
    let (first, again) = (bytes(&first), bytes(&again));
    assert_eq!(first, again);
    assert_ne!(first[0], first[1]);
    assert_ne!(first[0], first[2]);
    assert_eq!(first[2], first[3]);
}

#[test]
fn a_seed_gives_these_bits_everywhere() {
    // Squares with the key of the seed, computed by hand from its definition.
    let y = run("node RandomUniform > y shape=[3] seed=1.0 dtype=11\noutput y");
    let key = {
        let z = 1f64.to_bits().wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) | 1
    };
    let squares = |place: u64| {
        let y = place.wrapping_mul(key);
        let z = y.wrapping_add(key);
        let round = |x: u64, added: u64| x.wrapping_mul(x).wrapping_add(added);
        let x = round(y, y).rotate_left(32);
        let x = round(x, z).rotate_left(32);
        let x = round(x, y).rotate_left(32);
        let t = round(x, z);
        let x = t.rotate_left(32);
        t ^ (round(x, y) >> 32)
    };
    let expected: Vec<f64> =
        (0..3).map(|place| (squares(place) >> 11) as f64 / (1u64 << 53) as f64).collect();
    assert_eq!(y[0].to_f64(), expected);
}
