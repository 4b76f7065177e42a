//! Integer arithmetic on sizes, done on dimension expressions: `Shape → Gather → Mul → Concat`
//! becomes one `SizeOf`.
//!
//! Invariant: a value is only replaced where every element is known as an expression that equals
//! what the operations compute, for every size that the symbols allow.

use super::rebuild::Rebuild;
use crate::PassError;
use kiln_ir::op::{BinaryFn, Op, ReduceFn, Reshape, SizeOf, UnaryFn};
use kiln_ir::{Graph, Node};
use kiln_tensor::{DType, Dim, SymbolTable};

/// Longer tensors are data, not sizes.
const MAX_ELEMENTS: usize = 64;

pub(super) fn shape_arithmetic(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("shape_arithmetic", graph);
    let mut known: Vec<Option<Vec<Dim>>> = vec![None; graph.value_count()];
    for (_, node) in graph.nodes() {
        let elements = elements(graph, &known, node);
        let leaf = matches!(node.op, Op::Constant(_) | Op::SizeOf(_));
        let from_leaf = matches!(node.op, Op::Reshape(_));
        if let (Some(elements), &[output]) = (elements, node.outputs.as_slice()) {
            let ty = graph.ty(output);
            if !leaf && !from_leaf && ty.dtype == DType::I64 && !elements.is_empty() {
                let op = SizeOf { dims: elements.clone(), scalar: ty.rank() == 0 };
                let mut value = rebuild.add1(op, &[], node)?;
                if ty.rank() > 1 {
                    value = rebuild.add1(Reshape { shape: ty.shape.clone() }, &[value], node)?;
                }
                rebuild.replace(graph, node, &[value])?;
            } else {
                rebuild.keep(graph, node)?;
            }
            known[output.0 as usize] = Some(elements);
            continue;
        }
        rebuild.keep(graph, node)?;
    }
    rebuild.finish(graph)
}

/// Every element of a node's result in row-major order, if all are known.
fn elements(graph: &Graph, known: &[Option<Vec<Dim>>], node: &Node) -> Option<Vec<Dim>> {
    let &[output] = node.outputs.as_slice() else { return None };
    let ty = graph.ty(output);
    let sizes = ty.static_sizes()?;
    let small =
        sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size))? <= MAX_ELEMENTS;
    if !matches!(ty.dtype, DType::I64 | DType::I32) || !small {
        return None;
    }
    let of = |position: usize| -> Option<&Vec<Dim>> {
        known.get(node.inputs.get(position)?.0 as usize)?.as_ref()
    };
    let shape = |position: usize| -> Option<Vec<usize>> {
        graph.ty(*node.inputs.get(position)?).static_sizes()
    };
    match &node.op {
        Op::Constant(constant) => {
            Some(constant.tensor.to_i64().into_iter().map(Dim::from).collect())
        }
        Op::SizeOf(size) => Some(size.dims.clone()),
        Op::Reshape(_) | Op::Assume(_) => of(0).cloned(),
        // A cast to a narrower type could wrap, and so could arithmetic in it.
        Op::Cast(cast) if cast.to == DType::I64 => of(0).cloned(),
        Op::Broadcast(_) => {
            let from = shape(0)?;
            let x = of(0)?;
            Some(indices(&sizes).map(|index| x[stretched(&index, &from)].clone()).collect())
        }
        Op::Binary(binary) if ty.dtype == DType::I64 => {
            let (a, b) = (of(0)?, of(1)?);
            let (from_a, from_b) = (shape(0)?, shape(1)?);
            indices(&sizes)
                .map(|index| {
                    let (a, b) = (&a[stretched(&index, &from_a)], &b[stretched(&index, &from_b)]);
                    apply(binary.f, a, b, &graph.symbols)
                })
                .collect()
        }
        Op::Unary(unary) if unary.f == UnaryFn::Neg => {
            Some(of(0)?.iter().map(|dim| -dim.clone()).collect())
        }
        Op::Concat(concat) if ty.rank() == 1 && concat.axis == 0 => {
            let parts = (0..node.inputs.len()).map(of).collect::<Option<Vec<_>>>()?;
            Some(parts.into_iter().flatten().cloned().collect())
        }
        Op::Gather(gather) if gather.axis == 0 && shape(0)?.len() == 1 => {
            let (data, at) = (of(0)?, of(1)?);
            let length = i64::try_from(data.len()).ok()?;
            at.iter()
                .map(|index| {
                    let index = index.as_const()?;
                    let index = if index < 0 { index.checked_add(length)? } else { index };
                    data.get(usize::try_from(index).ok()?).cloned()
                })
                .collect()
        }
        Op::Slice(slice) if ty.rank() == 1 => {
            let data = of(0)?;
            let (start, step) = (slice.starts[0].as_const()?, slice.steps[0]);
            (0..i64::try_from(sizes[0]).ok()?)
                .map(|position| {
                    let index = start.checked_add(position.checked_mul(step)?)?;
                    data.get(usize::try_from(index).ok()?).cloned()
                })
                .collect()
        }
        Op::Reduce(reduce) if shape(0)?.len() == 1 && reduce.axes == [0] => {
            let (f, start) = match reduce.f {
                ReduceFn::Sum => (BinaryFn::Add, 0i64),
                ReduceFn::Prod => (BinaryFn::Mul, 1),
                _ => return None,
            };
            let start = Dim::from(start);
            let mut x = of(0)?.iter();
            Some(vec![x.try_fold(start, |sum, dim| apply(f, &sum, dim, &graph.symbols))?])
        }
        _ => None,
    }
}

fn apply(f: BinaryFn, a: &Dim, b: &Dim, symbols: &SymbolTable) -> Option<Dim> {
    // Truncation and rounding down agree where nothing is negative.
    let natural = || a.bounds(symbols).min >= 0 && b.bounds(symbols).min >= 1;
    if !Dim::is_small_product([a, b]) {
        return None;
    }
    let made = match f {
        BinaryFn::Add => Some(a.clone() + b.clone()),
        BinaryFn::Sub => Some(a.clone() - b.clone()),
        BinaryFn::Mul => Some(a.clone() * b.clone()),
        BinaryFn::Min => Some(a.minimum(b)),
        BinaryFn::Max => Some(a.maximum(b)),
        BinaryFn::Div if natural() => Some(a.floor_div(b)),
        BinaryFn::Rem | BinaryFn::Mod if natural() => Some(a.modulo(b)),
        _ => None,
    };
    made.filter(Dim::is_small)
}

/// Every index of a shape, in row-major order.
fn indices(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let count: usize = sizes.iter().product();
    (0..count).map(move |mut flat| {
        let mut index = vec![0; sizes.len()];
        for (slot, &size) in index.iter_mut().zip(sizes).rev() {
            *slot = flat % size;
            flat /= size;
        }
        index
    })
}

/// Where an index of the result reads in an operand that is stretched to it.
fn stretched(index: &[usize], from: &[usize]) -> usize {
    let offset = index.len().saturating_sub(from.len());
    from.iter()
        .zip(&index[offset..])
        .fold(0, |flat, (&size, &at)| flat * size + if size == 1 { 0 } else { at })
}

/// The expressions of a value that is a `SizeOf` or a small integer constant.
#[cfg(test)]
fn dims_of(graph: &Graph, value: kiln_ir::ValueId) -> Option<Vec<Dim>> {
    match graph.value(value).producer {
        kiln_ir::Producer::Node { node, .. } => elements(graph, &[], graph.node(node)),
        kiln_ir::Producer::Input(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::TensorType;
    use kiln_ir::op::{Binary, Concat, Gather};
    use kiln_tensor::Tensor;

    #[test]
    fn expressions_that_grow_stay_data() {
        let mut graph = Graph::new("g");
        let dims = vec![Dim::named("n") + Dim::named("m")];
        let mut value = graph.add1(SizeOf { dims, scalar: true }.into(), &[]).unwrap();
        for _ in 0..40 {
            value = graph.add1(Binary { f: BinaryFn::Mul }.into(), &[value, value]).unwrap();
        }
        graph.output(value, "y").unwrap();
        let (simple, changed) = shape_arithmetic(&graph).unwrap();
        assert!(changed);
        assert_eq!(dims_of(&simple, simple.outputs()[0]), None);
    }

    #[test]
    fn the_usual_reshape_arithmetic_becomes_one_size() {
        let mut graph = Graph::new("g");
        let (batch, seq) = (Dim::named("batch"), Dim::named("seq"));
        graph.input("x", TensorType::new(DType::F32, vec![batch.clone(), seq.clone()]));
        let shape = SizeOf { dims: vec![batch.clone(), seq.clone()], scalar: false };
        let shape = graph.add1(shape.into(), &[]).unwrap();
        let at = graph.constant(Tensor::from_slice(vec![1], &[-1i64]).unwrap()).unwrap();
        let last = graph.add1(Gather { axis: 0 }.into(), &[shape, at]).unwrap();
        let two = graph.constant(Tensor::scalar(2i64).unwrap()).unwrap();
        let half = graph.add1(Binary { f: BinaryFn::Div }.into(), &[last, two]).unwrap();
        let both = graph.add1(Concat { axis: 0 }.into(), &[half, shape]).unwrap();
        graph.output(both, "y").unwrap();
        let (simple, changed) = shape_arithmetic(&graph).unwrap();
        assert!(changed);
        let expected = vec![seq.floor_div(&Dim::from(2i64)), batch, seq];
        assert_eq!(dims_of(&simple, simple.outputs()[0]), Some(expected));
    }
}
