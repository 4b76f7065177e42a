//! Kernels written by hand, one of each kind, for tests of code generation.
//!
//! Invariant: small enough to be read beside their expected results.

use kiln_ir::kernel::{
    Access, Axis, AxisKind, Combine, Index, Kernel, Operand, Role, Scalar, ScalarId, ScalarOp,
    ScalarProgram, Stage,
};
use kiln_ir::op::{BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{Bounds, DType, Dim, Symbol};

pub fn dim(text: &str) -> Dim {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is a dimension"))
}

pub fn axis(name: &str, extent: &str, kind: AxisKind) -> Axis {
    Axis { name: name.to_owned(), extent: dim(extent), kind }
}

pub fn operand(name: &str, role: Role, dtype: DType, shape: &[&str]) -> Operand {
    let shape = shape.iter().map(|text| dim(text)).collect();
    Operand { name: name.to_owned(), role, dtype, shape }
}

pub fn at(operand: usize, index: &[usize]) -> Access {
    Access { operand, index: index.iter().map(|axis| Index::Axis(*axis)).collect() }
}

pub fn read(program: &mut ScalarProgram, access: Access, dtype: DType) -> ScalarId {
    program.push(ScalarOp::Read { access, outside: None }, dtype)
}

/// A program that hands its one combined value on.
pub fn identity(dtype: DType) -> ScalarProgram {
    let mut program = ScalarProgram::default();
    let value = program.push(ScalarOp::Reduced(0), dtype);
    program.results.push(value);
    program
}

fn symbols(kernel: &mut Kernel) {
    let mut found = std::collections::BTreeSet::new();
    for operand in &kernel.operands {
        operand.shape.iter().for_each(|dim| dim.collect_symbols(&mut found));
    }
    let axes = kernel.outer.iter().chain(kernel.stages.iter().flat_map(|stage| &stage.axes));
    axes.for_each(|axis| axis.extent.collect_symbols(&mut found));
    kernel.symbols = found.into_iter().map(|symbol: Symbol| (symbol, Bounds::default())).collect();
}

/// C = A·B of extents m, n, k in one type, plus an optional bias over n and relu.
pub fn gemm(dtype: DType, [m, n, k]: [&str; 3], epilogue: bool) -> Kernel {
    let mut body = ScalarProgram::default();
    let a = read(&mut body, at(0, &[0, 2]), dtype);
    let b = read(&mut body, at(1, &[2, 1]), dtype);
    let product = body.push(ScalarOp::Binary(BinaryFn::Mul, a, b), dtype);
    body.results.push(product);
    let mut operands =
        vec![operand("a", Role::Input, dtype, &[m, k]), operand("b", Role::Input, dtype, &[k, n])];
    let mut finish = identity(dtype);
    if epilogue {
        operands.push(operand("bias", Role::Input, dtype, &[n]));
        let bias = read(&mut finish, at(2, &[1]), dtype);
        let sum = finish.results[0];
        let sum = finish.push(ScalarOp::Binary(BinaryFn::Add, sum, bias), dtype);
        let relu = finish.push(ScalarOp::Unary(UnaryFn::Relu, sum), dtype);
        finish.results = vec![relu];
    }
    let out = operands.len();
    operands.push(operand("c", Role::Output, dtype, &[m, n]));
    let mut kernel = Kernel {
        name: "gemm".to_owned(),
        symbols: Default::default(),
        operands,
        outer: vec![axis("m", m, AxisKind::Parallel), axis("n", n, AxisKind::Parallel)],
        stages: vec![Stage {
            axes: vec![axis("k", k, AxisKind::Reduction)],
            body,
            combine: vec![Combine::Reduce(ReduceFn::Sum)],
            finish,
            writes: vec![at(out, &[0, 1]).into()],
        }],
    };
    symbols(&mut kernel);
    kernel
}

/// y = f(x) over one axis.
pub fn unary(f: UnaryFn, dtype: DType, n: &str) -> Kernel {
    let mut body = ScalarProgram::default();
    let x = read(&mut body, at(0, &[0]), dtype);
    let result = f.result(dtype).unwrap_or(dtype);
    let y = body.push(ScalarOp::Unary(f, x), result);
    body.results.push(y);
    let combine = vec![Combine::Reduce(ReduceFn::Sum)];
    let stage =
        Stage { axes: Vec::new(), body, combine, finish: identity(result), writes: Vec::new() };
    over_vectors(&format!("{f:?}"), &["x"], [dtype, result], n, stage)
}

/// One stage over vectors of this length, which are read and made element by element.
pub fn over_vectors(
    name: &str,
    inputs: &[&str],
    [dtype, result]: [DType; 2],
    n: &str,
    mut stage: Stage,
) -> Kernel {
    let given = inputs.iter().map(|name| operand(name, Role::Input, dtype, &[n]));
    stage.writes = vec![at(inputs.len(), &[0]).into()];
    let mut kernel = Kernel {
        name: name.to_lowercase(),
        symbols: Default::default(),
        operands: given.chain([operand("y", Role::Output, result, &[n])]).collect(),
        outer: vec![axis("n", n, AxisKind::Parallel)],
        stages: vec![stage],
    };
    symbols(&mut kernel);
    kernel
}

/// Softmax over the second axis: greatest, exponentials and their sum, quotients.
pub fn softmax(dtype: DType, [rows, columns]: [&str; 2]) -> Kernel {
    let column = |kind| vec![axis("c", columns, kind)];
    let mut greatest = ScalarProgram::default();
    let x = read(&mut greatest, at(0, &[0, 1]), dtype);
    greatest.results.push(x);
    let mut exponential = ScalarProgram::default();
    let x = read(&mut exponential, at(0, &[0, 1]), dtype);
    let top = read(&mut exponential, at(2, &[]), dtype);
    let less = exponential.push(ScalarOp::Binary(BinaryFn::Sub, x, top), dtype);
    let e = exponential.push(ScalarOp::Unary(UnaryFn::Exp, less), dtype);
    exponential.results.push(e);
    let mut sum = ScalarProgram::default();
    let e = read(&mut sum, at(3, &[1]), dtype);
    sum.results.push(e);
    let mut quotient = ScalarProgram::default();
    let e = read(&mut quotient, at(3, &[1]), dtype);
    let total = read(&mut quotient, at(4, &[]), dtype);
    let q = quotient.push(ScalarOp::Binary(BinaryFn::Div, e, total), dtype);
    quotient.results.push(q);
    let stage = |kind, body, combine, write: Access| Stage {
        axes: column(kind),
        body,
        combine: vec![Combine::Reduce(combine)],
        finish: identity(dtype),
        writes: vec![write.into()],
    };
    let mut kernel = Kernel {
        name: "softmax".to_owned(),
        symbols: Default::default(),
        operands: vec![
            operand("x", Role::Input, dtype, &[rows, columns]),
            operand("y", Role::Output, dtype, &[rows, columns]),
            operand("top", Role::Temporary, dtype, &[]),
            operand("e", Role::Temporary, dtype, &[columns]),
            operand("sum", Role::Temporary, dtype, &[]),
        ],
        outer: vec![axis("r", rows, AxisKind::Parallel)],
        stages: vec![
            stage(AxisKind::Reduction, greatest, ReduceFn::Max, at(2, &[])),
            stage(AxisKind::Parallel, exponential, ReduceFn::Sum, at(3, &[1])),
            stage(AxisKind::Reduction, sum, ReduceFn::Sum, at(4, &[])),
            stage(AxisKind::Parallel, quotient, ReduceFn::Sum, at(1, &[0, 1])),
        ],
    };
    symbols(&mut kernel);
    kernel
}

/// A 3×3 convolution with padding 1 and stride 2: x [h, w, c], weights [3, 3, c, m], y [oh, ow, m].
pub fn convolution(dtype: DType, [h, w, c, m]: [&str; 4]) -> Kernel {
    let half = |extent: &str| dim(&format!("floordiv({extent} + 1, 2)"));
    let mut body = ScalarProgram::default();
    let place = |o: usize, k: usize| {
        Index::Axis(o).times(2i64) + Index::Axis(k) + Index::Dim(Dim::from(-1i64))
    };
    let access = Access { operand: 0, index: vec![place(0, 3), place(1, 4), Index::Axis(5)] };
    let x = body.push(ScalarOp::Read { access, outside: Some(Scalar::Float(0.0)) }, dtype);
    let k = read(&mut body, at(1, &[3, 4, 5, 2]), dtype);
    let product = body.push(ScalarOp::Binary(BinaryFn::Mul, x, k), dtype);
    body.results.push(product);
    let mut out = operand("y", Role::Output, dtype, &[h, w, m]);
    out.shape[0] = half(h);
    out.shape[1] = half(w);
    let mut outer = vec![
        axis("oh", h, AxisKind::Parallel),
        axis("ow", w, AxisKind::Parallel),
        axis("m", m, AxisKind::Parallel),
    ];
    outer[0].extent = half(h);
    outer[1].extent = half(w);
    let mut kernel = Kernel {
        name: "convolution".to_owned(),
        symbols: Default::default(),
        operands: vec![
            operand("x", Role::Input, dtype, &[h, w, c]),
            operand("k", Role::Input, dtype, &["3", "3", c, m]),
            out,
        ],
        outer,
        stages: vec![Stage {
            axes: vec![
                axis("kh", "3", AxisKind::Reduction),
                axis("kw", "3", AxisKind::Reduction),
                axis("c", c, AxisKind::Reduction),
            ],
            body,
            combine: vec![Combine::Reduce(ReduceFn::Sum)],
            finish: identity(dtype),
            writes: vec![at(2, &[0, 1, 2]).into()],
        }],
    };
    symbols(&mut kernel);
    kernel
}

/// A sum of products, in i32, that reads bytes: those of the first operand have no sign.
pub fn of_bytes(mut kernel: Kernel) -> Kernel {
    let types = [DType::U8, DType::I8];
    for (operand, dtype) in kernel.operands.iter_mut().zip(types) {
        operand.dtype = dtype;
    }
    let body = &mut kernel.stages[0].body;
    let mut wide = ScalarProgram::default();
    let mut values = Vec::new();
    for (op, dtype) in &body.code {
        let value = match op {
            ScalarOp::Read { access, .. } => {
                let byte = wide.push(op.clone(), types[access.operand]);
                wide.push(ScalarOp::Cast(byte), DType::I32)
            }
            ScalarOp::Binary(f, a, b) => {
                let [a, b] = [a, b].map(|id| values[id.0 as usize]);
                wide.push(ScalarOp::Binary(*f, a, b), *dtype)
            }
            other => panic!("{other:?} is of no product"),
        };
        values.push(value);
    }
    wide.results = body.results.iter().map(|id| values[id.0 as usize]).collect();
    *body = wide;
    kernel
}

/// The position of the greatest element of each row.
pub fn arg_max(dtype: DType, [rows, columns]: [&str; 2]) -> Kernel {
    let mut body = ScalarProgram::default();
    let x = read(&mut body, at(0, &[0, 1]), dtype);
    let place = body.push(ScalarOp::Index(Index::Axis(1)), DType::I64);
    body.results = vec![x, place];
    let mut finish = ScalarProgram::default();
    let place = finish.push(ScalarOp::Reduced(1), DType::I64);
    finish.results.push(place);
    let mut kernel = Kernel {
        name: "argmax".to_owned(),
        symbols: Default::default(),
        operands: vec![
            operand("x", Role::Input, dtype, &[rows, columns]),
            operand("y", Role::Output, DType::I64, &[rows]),
        ],
        outer: vec![axis("r", rows, AxisKind::Parallel)],
        stages: vec![Stage {
            axes: vec![axis("c", columns, AxisKind::Reduction)],
            body,
            combine: vec![Combine::ArgMax { last: false }, Combine::Follow],
            finish,
            writes: vec![at(1, &[0]).into()],
        }],
    };
    symbols(&mut kernel);
    kernel
}

/// y[b, t] = y[b, t − 1]/2 + x[b, t], carried in a temporary along the sequential axis t.
pub fn decay(dtype: DType, [batch, steps]: [&str; 2]) -> Kernel {
    let mut body = ScalarProgram::default();
    let state = read(&mut body, at(2, &[]), dtype);
    let half = body.push(ScalarOp::Constant(Scalar::Float(0.5)), dtype);
    let faded = body.push(ScalarOp::Binary(BinaryFn::Mul, state, half), dtype);
    let x = read(&mut body, at(0, &[0, 1]), dtype);
    let sum = body.push(ScalarOp::Binary(BinaryFn::Add, faded, x), dtype);
    body.results.push(sum);
    let mut finish = identity(dtype);
    finish.results.push(finish.results[0]);
    let mut kernel = Kernel {
        name: "decay".to_owned(),
        symbols: Default::default(),
        operands: vec![
            operand("x", Role::Input, dtype, &[batch, steps]),
            operand("y", Role::Output, dtype, &[batch, steps]),
            operand("state", Role::Temporary, dtype, &[]),
        ],
        outer: vec![axis("b", batch, AxisKind::Parallel), axis("t", steps, AxisKind::Sequential)],
        stages: vec![Stage {
            axes: Vec::new(),
            body,
            combine: vec![Combine::Reduce(ReduceFn::Sum)],
            finish,
            writes: vec![at(1, &[0, 1]).into(), at(2, &[]).into()],
        }],
    };
    symbols(&mut kernel);
    kernel
}

/// y[r, c] = x[i[r], c], with the index computed from memory.
pub fn gather(dtype: DType, [rows, columns, picked]: [&str; 3]) -> Kernel {
    let mut body = ScalarProgram::default();
    let row = read(&mut body, at(1, &[0]), DType::I64);
    let access = Access { operand: 0, index: vec![Index::Scalar(row), Index::Axis(1)] };
    let x = read(&mut body, access, dtype);
    body.results.push(x);
    elementwise(
        "gather",
        vec![
            operand("x", Role::Input, dtype, &[rows, columns]),
            operand("i", Role::Input, DType::I64, &[picked]),
            operand("y", Role::Output, dtype, &[picked, columns]),
        ],
        [picked, columns],
        body,
        at(2, &[0, 1]),
        dtype,
    )
}

/// y[r, c] = x[c, r].
pub fn transpose(dtype: DType, [rows, columns]: [&str; 2]) -> Kernel {
    let mut body = ScalarProgram::default();
    let x = read(&mut body, at(0, &[1, 0]), dtype);
    body.results.push(x);
    elementwise(
        "transpose",
        vec![
            operand("x", Role::Input, dtype, &[columns, rows]),
            operand("y", Role::Output, dtype, &[rows, columns]),
        ],
        [rows, columns],
        body,
        at(1, &[0, 1]),
        dtype,
    )
}

/// y[r, c] = x[q / 3, q mod 3] with q = r·columns + c: x has rows of 3.
pub fn reshape(dtype: DType, [rows, columns]: [&str; 2]) -> Kernel {
    let flat = || Index::Axis(0).times(dim(columns)) + Index::Axis(1);
    let mut body = ScalarProgram::default();
    let index = vec![flat().floor_div(3i64), flat().modulo(3i64)];
    let x = read(&mut body, Access { operand: 0, index }, dtype);
    body.results.push(x);
    let mut source = operand("x", Role::Input, dtype, &["1", "3"]);
    source.shape[0] = (dim(rows) * dim(columns)).floor_div(&Dim::from(3i64));
    elementwise(
        "reshape",
        vec![source, operand("y", Role::Output, dtype, &[rows, columns])],
        [rows, columns],
        body,
        at(1, &[0, 1]),
        dtype,
    )
}

fn elementwise(
    name: &str,
    operands: Vec<Operand>,
    [rows, columns]: [&str; 2],
    body: ScalarProgram,
    write: Access,
    dtype: DType,
) -> Kernel {
    let mut kernel = Kernel {
        name: name.to_owned(),
        symbols: Default::default(),
        operands,
        outer: vec![axis("r", rows, AxisKind::Parallel), axis("c", columns, AxisKind::Parallel)],
        stages: vec![Stage {
            axes: Vec::new(),
            body,
            combine: vec![Combine::Reduce(ReduceFn::Sum)],
            finish: identity(dtype),
            writes: vec![write.into()],
        }],
    };
    symbols(&mut kernel);
    kernel
}
