use super::*;
use kiln_tensor::{Symbol, SymbolValues};

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(vec![values.len()], values).unwrap()
}

#[test]
fn sums_in_another_order_and_precision_agree_and_mistakes_do_not() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    for length in [1usize, 10, 1000, 30000] {
        let rows: Vec<Vec<(f32, f32)>> =
            (0..50).map(|_| (0..length).map(|_| (next(), next())).collect()).collect();
        let exact = |row: &Vec<(f32, f32)>| {
            row.iter().map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32
        };
        let naive = |row: &Vec<(f32, f32)>| row.iter().fold(0f32, |sum, (x, y)| sum + x * y);
        let expected = floats(&rows.iter().map(exact).collect::<Vec<_>>());
        let computed: Vec<f32> = rows.iter().map(naive).collect();
        let tolerance = Tolerance::for_type(DType::F32, length as u64);
        let comparison = tolerance.compare(&floats(&computed), &expected).unwrap();
        assert!(comparison.agrees(), "{length}: {comparison}");
        // One term left out of one sum.
        let mut wrong = computed;
        wrong[7] -= rows[7]
            .iter()
            .map(|(x, y)| x * y)
            .fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
        let comparison = tolerance.compare(&floats(&wrong), &expected).unwrap();
        assert_eq!(comparison.failing, 1, "{length}: {comparison}");
        assert_eq!(comparison.worst.unwrap().index, [7]);
    }
}

#[test]
fn special_values_agree_only_with_themselves() {
    let tolerance = Tolerance::for_type(DType::F32, 100);
    let cases = [
        (f32::NAN, f32::NAN, true),
        (f32::INFINITY, f32::INFINITY, true),
        (f32::NEG_INFINITY, f32::INFINITY, false),
        (1.0, f32::NAN, false),
        (f32::NAN, 1.0, false),
        (f32::MAX, f32::INFINITY, false),
        (f32::INFINITY, f32::MAX, false),
        (0.0, -0.0, true),
        (0.0, 1e-40, true),
    ];
    for (actual, expected, agrees) in cases {
        let comparison = tolerance.compare(&floats(&[actual]), &floats(&[expected])).unwrap();
        assert_eq!(comparison.agrees(), agrees, "{actual} {expected}: {comparison}");
    }
}

#[test]
fn two_results_may_lie_on_either_side_of_the_exact_one() {
    let tolerance = Tolerance::for_type(DType::F32, 100);
    // As far from 1 as may be, upwards and downwards.
    let bound = (tolerance.relative + tolerance.absolute) as f32 * 0.99;
    let (above, exact, below) = (floats(&[1.0 + bound]), floats(&[1.0]), floats(&[1.0 - bound]));
    assert!(tolerance.compare(&above, &exact).unwrap().agrees());
    assert!(tolerance.compare(&below, &exact).unwrap().agrees());
    assert!(!tolerance.compare(&above, &below).unwrap().agrees());
    assert!(tolerance.between_two().compare(&above, &below).unwrap().agrees());
    let further = floats(&[1.0 + 1.05 * bound]);
    assert!(!tolerance.between_two().compare(&further, &below).unwrap().agrees());
    assert_eq!(Tolerance::EXACT.between_two(), Tolerance::EXACT);
}

#[test]
fn integers_are_exact_and_types_must_fit() {
    let a = Tensor::from_slice(vec![2, 2], &[1i64, 2, i64::MAX, 4]).unwrap();
    let b = Tensor::from_slice(vec![2, 2], &[1i64, 2, i64::MAX - 1, 4]).unwrap();
    let tolerance = Tolerance::for_type(DType::I64, 10);
    assert!(tolerance.compare(&a, &a).unwrap().agrees());
    let comparison = tolerance.compare(&a, &b).unwrap();
    assert_eq!((comparison.failing, comparison.worst.unwrap().index), (1, vec![1, 0]));
    let error = tolerance.compare(&a, &floats(&[1.0])).unwrap_err();
    assert_eq!(error.to_string(), "the result is i64[2, 2], but f32[1] was expected");
}

#[test]
fn steps_add_up_along_the_longest_path() {
    let text = r#"graph "g" {
        %x "x": f32[n, 64] = input
        %w "w": f32[64, 8] = input
        %a = Contract(spec: "nk,km->nm") %x, %w
        %b = Unary(f: Relu) %a
        %c = Reduce(f: Sum, axes: [0], keep: false) %b
        %d = Unary(f: Exp) %x
        return %c as "c", %d as "d" }"#;
    let graph = text.parse().unwrap();
    let symbols = SymbolValues::from([(Symbol::new("n"), 10)]);
    assert_eq!(rounded_steps(&graph, &symbols), 64 + 1 + 10);
}
