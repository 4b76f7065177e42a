//! Products of 8-bit integers as sums of products of bytes.
//!
//! Invariant: results are equal to the bit, whatever the types and zero points; a product that is
//! written so is a byte without sign times one with.

use crate::build::Build;
use crate::interpreter;
use kiln_ir::kernel::Stage;
use kiln_ir::op::{BinaryFn, Cast, Conv, ConvLayout, Op};
use kiln_ir::{Graph, Node, TensorType, ValueId, evaluate};
use kiln_passes::{
    CostModel, EGraphOptions, IntegerProducts, PlanOptions, TileTarget, optimise, plan,
    simplify_for,
};
use kiln_tensor::{DType, Dim, Tensor};

/// A zero point that is a constant, or an input of the graph with this value.
#[derive(Clone, Copy, Debug)]
enum Zero {
    Constant(i64),
    Input(i64),
}

/// Integers less their zero point, as ConvInteger and MatMulInteger take them.
fn shifted(b: &mut Build, integers: ValueId, zero: Zero, dtype: DType) -> ValueId {
    let wide = b.op(Cast { to: DType::I32 }, &[integers]);
    let zero = match zero {
        Zero::Constant(0) => return wide,
        Zero::Constant(value) => {
            b.graph.constant(Tensor::from_f64(dtype, vec![], &[value as f64]).unwrap()).unwrap()
        }
        Zero::Input(_) => b.graph.input("zero", TensorType::new(dtype, vec![])),
    };
    let zero = b.op(Cast { to: DType::I32 }, &[zero]);
    b.binary(BinaryFn::Sub, wide, zero)
}

/// Numbers from all over the type, the last and the first among them.
fn numbers(dtype: DType, sizes: &[usize], range: (i64, i64)) -> Tensor {
    let (least, most) = range;
    let count: usize = sizes.iter().product();
    let values: Vec<f64> = (0..count as i64)
        .map(|at| match at {
            0 => least as f64,
            1 => most as f64,
            _ => (least + (at * 7919 + at * at * 31) % (most - least + 1)) as f64,
        })
        .collect();
    Tensor::from_f64(dtype, sizes.to_vec(), &values).unwrap()
}

fn whole(dtype: DType) -> (i64, i64) {
    if dtype == DType::U8 { (0, 255) } else { (-128, 127) }
}

/// What is multiplied, and the operands that the graph is run with.
struct Case {
    graph: Graph,
    inputs: Vec<Tensor>,
}

fn case(x: (DType, Zero), w: (DType, i64), range: (i64, i64), pads: Option<[i64; 2]>) -> Case {
    let mut b = Build::new("product");
    let (x_sizes, w_sizes) = match pads {
        Some(_) => (vec![2, 8, 5, 6], vec![17, 8, 3, 2]),
        None => (vec![2, 3, 8], vec![8, 17]),
    };
    let ty = TensorType::new(x.0, x_sizes.iter().map(|&size| Dim::from(size)).collect());
    let input = b.graph.input("x", ty);
    let mut inputs = vec![numbers(x.0, &x_sizes, whole(x.0))];
    if let Zero::Input(value) = x.1 {
        inputs.push(Tensor::from_f64(x.0, vec![], &[value as f64]).unwrap());
    }
    let weights = b.graph.constant(numbers(w.0, &w_sizes, range)).unwrap();
    let left = shifted(&mut b, input, x.1, x.0);
    let right = shifted(&mut b, weights, Zero::Constant(w.1), w.0);
    let y = match pads {
        Some([before, after]) => {
            let conv = Conv {
                strides: vec![2, 1],
                dilations: vec![1, 2],
                before: vec![before, after],
                after: vec![after, before],
                groups: 1,
                layout: ConvLayout::ChannelsFirst,
            };
            b.op(conv, &[left, right])
        }
        None => b.contract("bmk,kn->bmn", left, right),
    };
    Case { graph: b.finish(&[y]), inputs }
}

fn in_bytes(graph: &Graph) -> Graph {
    simplify_for(graph, IntegerProducts::InBytes).unwrap()
}

/// The product of a graph and the types of what it multiplies, before they are widened.
fn factors(graph: &Graph) -> Vec<DType> {
    let is_product = |node: &&Node| matches!(node.op, Op::Conv(_) | Op::Contract(_));
    let product = graph.nodes().map(|(_, node)| node).find(is_product).unwrap();
    let narrow = |&input: &ValueId| match graph.value(input).producer {
        kiln_ir::Producer::Node { node, .. } => graph.ty(graph.node(node).inputs[0]).dtype,
        kiln_ir::Producer::Input(_) => graph.ty(input).dtype,
    };
    product.inputs.iter().map(narrow).collect()
}

const TARGET: TileTarget = TileTarget { bytes: true, ..TileTarget::avx512(1) };

#[test]
fn products_are_the_same_to_the_bit() {
    let mut count = 0;
    for x_type in [DType::U8, DType::I8] {
        let (least, most) = whole(x_type);
        for zero in [0, least, 3, most].map(Zero::Constant).into_iter().chain([Zero::Input(5)]) {
            for w_type in [DType::U8, DType::I8] {
                let (first, last) = whole(w_type);
                // Zero points in the middle, off it, and with weights that stay near them.
                let weights = [
                    (0, (first, last)),
                    (last - 127, (first, last)),
                    (67, (first, last)),
                    (67, (60, 75)),
                ];
                for (w_zero, range) in weights {
                    for pads in [None, Some([0, 0]), Some([1, 2])] {
                        let what =
                            format!("{x_type} {zero:?} {w_type} {w_zero} {range:?} {pads:?}");
                        let case = case((x_type, zero), (w_type, w_zero), range, pads);
                        let expected = evaluate(&case.graph, &case.inputs).unwrap();
                        let simple = in_bytes(&case.graph);
                        assert_eq!(factors(&simple), [DType::U8, DType::I8], "{what}");
                        assert_eq!(evaluate(&simple, &case.inputs).unwrap(), expected, "{what}");
                        assert_eq!(in_bytes(&simple), simple, "{what}");
                        let options = EGraphOptions::default();
                        let best =
                            optimise(&simple, &options, &CostModel::generic_cpu()).unwrap().0;
                        let plan = plan(&best, &TARGET, &PlanOptions::default()).unwrap();
                        let found = interpreter::run(&plan, &case.inputs).unwrap();
                        assert_eq!(found, expected, "{what}");
                        let stages = plan.kernels.iter().flat_map(|planned| &planned.kernel.stages);
                        assert_eq!(stages.filter_map(Stage::byte_product).count(), 1, "{what}");
                        count += 1;
                    }
                }
            }
        }
    }
    assert_eq!(count, 2 * 5 * 2 * 4 * 3);
}

/// What processors have no operation for stays in floats.
#[test]
fn other_products_stay_in_floats() {
    let odd = |x_sizes: &str, w: Vec<usize>, spec: &str| {
        let mut b = Build::new("product");
        let ty = TensorType::new(DType::U8, crate::build::shape(x_sizes));
        let x = b.graph.input("x", ty);
        let weights = b.graph.constant(numbers(DType::I8, &w, (-128, 127))).unwrap();
        let left = shifted(&mut b, x, Zero::Constant(3), DType::U8);
        let right = shifted(&mut b, weights, Zero::Constant(0), DType::I8);
        let y = b.contract(spec, left, right);
        let simple = in_bytes(&b.finish(&[y]));
        let is_product = |node: &&Node| matches!(node.op, Op::Contract(_));
        let product = simple.nodes().map(|(_, node)| node).find(is_product).unwrap().clone();
        simple.ty(product.inputs[0]).dtype
    };
    assert_eq!(odd("m, 8", vec![8, 32], "mk,kn->mn"), DType::I32);
    // Terms that are no whole groups, few results, and terms that lie apart.
    assert_eq!(odd("m, 6", vec![6, 32], "mk,kn->mn"), DType::F32);
    assert_eq!(odd("m, 8", vec![8, 4], "mk,kn->mn"), DType::F32);
    assert_eq!(odd("8, m", vec![8, 32], "km,kn->mn"), DType::F32);
}
