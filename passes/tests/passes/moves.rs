//! Movements of every element type: what is only moved keeps every bit, whatever the type.
//!
//! Invariant: kernels and graph operations give the same bytes for codes that no arithmetic makes,
//! NaNs with payloads among them (halves aside, which a kernel evaluates as numbers).

use kiln_ir::kernel::{Role, evaluate};
use kiln_ir::op::*;
use kiln_ir::{Graph, TensorType, ValueId};
use kiln_passes::form;
use kiln_tensor::{DType, Dim, SymbolValues, Tensor};

/// Elements of all kinds of bits.
fn tensor(dtype: DType, sizes: &[usize], seed: u8) -> Tensor {
    let count: usize = sizes.iter().product();
    let byte = |place: usize| (place as u8).wrapping_mul(37).wrapping_add(seed);
    let bytes: Vec<u8> = (0..count * dtype.size())
        .map(|place| if dtype.size() == 1 { dtype.extended(byte(place)) } else { byte(place) })
        .collect();
    Tensor::from_bytes(dtype, sizes.to_vec(), &bytes).unwrap()
}

/// The last node of a graph, by the graph's operations and by its kernel.
fn check(graph: &Graph, inputs: &[Tensor]) {
    let expected = kiln_ir::evaluate(graph, inputs).unwrap().remove(0);
    let (node, _) = graph.nodes().next_back().unwrap();
    let kernel = form(graph, node).unwrap_or_else(|error| panic!("{}: {error}", graph.name)).kernel;
    let none = SymbolValues::new();
    let operands = kernel.operands.iter().filter(|operand| operand.role == Role::Input);
    let mut all = inputs.to_vec();
    let constants = graph.node(node).inputs.iter().filter_map(|&v| graph.constant_of(v));
    all.extend(constants.cloned());
    // Complex numbers are pairs in kernels: the same bytes.
    let operands: Vec<Tensor> = operands
        .zip(&all)
        .map(|(operand, tensor)| {
            let sizes = operand.shape.iter().map(|dim| dim.evaluate(&none).unwrap() as usize);
            let storage = tensor.storage().clone();
            Tensor::from_storage(operand.dtype, sizes.collect(), storage).unwrap()
        })
        .collect();
    let actual = evaluate(&kernel, &none, &operands)
        .unwrap_or_else(|error| panic!("{}: {error}\n{kernel}", graph.name))
        .remove(0);
    assert_eq!(actual.bytes(), expected.bytes(), "{}\n{kernel}", graph.name);
}

fn case(
    name: &str,
    dtype: DType,
    inputs: &[(DType, &[usize])],
    build: impl FnOnce(&mut Graph, &[ValueId]) -> ValueId,
) {
    let mut graph = Graph::new(format!("{name} of {dtype}"));
    let tensors: Vec<Tensor> = inputs
        .iter()
        .zip(1..)
        .map(|((dtype, sizes), seed)| match dtype {
            DType::I64 => Tensor::from_slice(sizes.to_vec(), &vec![1i64; sizes.iter().product()]),
            _ => Ok(tensor(*dtype, sizes, seed * 71)),
        })
        .map(Result::unwrap)
        .collect();
    let values: Vec<ValueId> = tensors
        .iter()
        .enumerate()
        .map(|(number, tensor)| graph.input(format!("x{number}"), TensorType::of(tensor)))
        .collect();
    let result = build(&mut graph, &values);
    graph.output(result, "y").unwrap();
    check(&graph, &tensors);
}

#[test]
fn every_type_is_moved_bit_by_bit() {
    let dims = |sizes: &[i64]| sizes.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
    for dtype in DType::ALL {
        if matches!(dtype, DType::F16 | DType::BF16 | DType::I64) || dtype.is_handle() {
            continue;
        }
        let x: (DType, &[usize]) = (dtype, &[3, 4]);
        let index: (DType, &[usize]) = (DType::I64, &[2]);
        case("transpose", dtype, &[x], |graph, v| {
            graph.add1(Transpose { perm: vec![1, 0] }.into(), v).unwrap()
        });
        case("concat", dtype, &[x, x], |graph, v| {
            graph.add1(Concat { axis: 1 }.into(), v).unwrap()
        });
        case("select", dtype, &[(DType::Bool, &[3, 1]), x, x], |graph, v| {
            graph.add1(Select {}.into(), v).unwrap()
        });
        case("gather", dtype, &[x, index], |graph, v| {
            graph.add1(Gather { axis: 0 }.into(), v).unwrap()
        });
        case("pad", dtype, &[x, (dtype, &[])], |graph, v| {
            let (before, after) = (dims(&[1, 0]), dims(&[0, 2]));
            graph.add1(Pad { before, after, mode: PadMode::Constant }.into(), v).unwrap()
        });
        case("scatter", dtype, &[x, (DType::I64, &[1, 1]), (dtype, &[1, 4])], |graph, v| {
            graph.add1(ScatterNd { reduction: ScatterReduction::None }.into(), v).unwrap()
        });
    }
}
