use super::*;
use crate::kernel::{Operand, verify};
use crate::op::BinaryFn;
use kiln_tensor::{Bounds, Dim, Symbol, SymbolTable};

fn axis(name: &str, extent: impl Into<Dim>, kind: AxisKind) -> Axis {
    Axis { name: name.into(), extent: extent.into(), kind }
}

fn operand(name: &str, role: Role, shape: Vec<Dim>) -> Operand {
    Operand { name: name.into(), role, dtype: DType::F32, shape }
}

fn at(operand: usize, axes: &[usize]) -> Access {
    Access { operand, index: axes.iter().map(|&axis| Index::Axis(axis)).collect() }
}

fn read(program: &mut ScalarProgram, access: Access) -> ScalarId {
    program.push(ScalarOp::Read { access, outside: None }, DType::F32)
}

/// `y[i] = Σₖ x[i, k]` over `n` rows.
fn row_sums() -> Kernel {
    let n = Dim::named("n");
    let mut body = ScalarProgram::default();
    let x = read(&mut body, at(0, &[0, 1]));
    body.results = vec![x];
    let mut finish = ScalarProgram::default();
    finish.results = vec![finish.push(ScalarOp::Reduced(0), DType::F32)];
    Kernel {
        name: "row_sums".into(),
        symbols: SymbolTable::from([(Symbol::new("n"), Bounds::default())]),
        operands: vec![
            operand("x", Role::Input, vec![n.clone(), 3i64.into()]),
            operand("y", Role::Output, vec![n.clone()]),
        ],
        outer: vec![axis("i", n, AxisKind::Parallel)],
        stages: vec![Stage {
            axes: vec![axis("k", 3i64, AxisKind::Reduction)],
            body,
            combine: vec![Combine::Reduce(ReduceFn::Sum)],
            finish,
            writes: vec![at(1, &[0]).into()],
        }],
    }
}

fn run(kernel: &Kernel, n: i64, inputs: &[Tensor]) -> Result<Vec<Tensor>, KernelError> {
    evaluate(kernel, &SymbolValues::from([(Symbol::new("n"), n)]), inputs)
}

#[test]
fn rows_are_summed() {
    let kernel = row_sums();
    verify(&kernel).unwrap();
    let x = Tensor::from_slice(vec![2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let y = run(&kernel, 2, &[x]).unwrap();
    assert_eq!(y[0].to_f64(), [6.0, 15.0]);
    let none = Tensor::from_slice::<f32>(vec![0, 3], &[]).unwrap();
    assert!(run(&kernel, 0, &[none]).unwrap()[0].is_empty());
}

#[test]
fn a_sequential_axis_sees_what_it_wrote() {
    // y[t] = acc, where acc += x[t].
    let mut kernel = row_sums();
    kernel.operands[0].shape.truncate(1);
    kernel.operands.push(operand("acc", Role::Temporary, vec![]));
    kernel.outer[0].kind = AxisKind::Sequential;
    let mut finish = ScalarProgram::default();
    let (x, acc) = (read(&mut finish, at(0, &[0])), read(&mut finish, at(2, &[])));
    let sum = finish.push(ScalarOp::Binary(BinaryFn::Add, x, acc), DType::F32);
    finish.results = vec![sum, sum];
    kernel.stages = vec![Stage {
        axes: vec![],
        body: ScalarProgram::default(),
        combine: vec![],
        finish,
        writes: vec![at(1, &[0]).into(), at(2, &[]).into()],
    }];
    verify(&kernel).unwrap();
    let x = Tensor::from_slice(vec![3], &[1f32, 2.0, 3.0]).unwrap();
    assert_eq!(run(&kernel, 3, &[x]).unwrap()[0].to_f64(), [1.0, 3.0, 6.0]);
}

/// `y = 0`, then `y[i[u]] += x[u]` for four updates in order.
fn scattered_sums() -> Kernel {
    let mut kernel = row_sums();
    let n = Dim::named("n");
    let mut index = operand("i", Role::Input, vec![4i64.into()]);
    index.dtype = DType::I64;
    kernel.operands = vec![
        operand("x", Role::Input, vec![4i64.into()]),
        index,
        operand("y", Role::Output, vec![n.clone()]),
    ];
    kernel.outer.clear();
    let mut zero = ScalarProgram::default();
    zero.results = vec![zero.push(ScalarOp::Constant(Scalar::Float(0.0)), DType::F32)];
    let mut update = ScalarProgram::default();
    let target = update.push(ScalarOp::Read { access: at(1, &[0]), outside: None }, DType::I64);
    let place = Access { operand: 2, index: vec![Index::Scalar(target)] };
    let outside = Some(Scalar::Float(0.0));
    let before = update.push(ScalarOp::Read { access: place.clone(), outside }, DType::F32);
    let x = read(&mut update, at(0, &[0]));
    let sum = update.push(ScalarOp::Binary(BinaryFn::Add, before, x), DType::F32);
    update.results = vec![sum];
    let stage = |axes, finish, write: Access| Stage {
        axes,
        body: ScalarProgram::default(),
        combine: vec![],
        finish,
        writes: vec![write.into()],
    };
    kernel.stages = vec![
        stage(vec![axis("d", n, AxisKind::Parallel)], zero, at(2, &[0])),
        stage(vec![axis("u", 4i64, AxisKind::Sequential)], update, place),
    ];
    kernel
}

#[test]
fn updates_go_where_they_say_in_order_and_not_outside() {
    let kernel = scattered_sums();
    verify(&kernel).unwrap();
    let x = Tensor::from_slice(vec![4], &[1f32, 2.0, 3.0, 4.0]).unwrap();
    let index = Tensor::from_slice(vec![4], &[2i64, 0, 2, 7]).unwrap();
    let y = run(&kernel, 3, &[x, index]).unwrap();
    assert_eq!(y[0].to_f64(), [2.0, 0.0, 4.0]);
}

/// `y[2p] = x[p]` and, where that is inside, `y[2p + 1] = x[p]`.
fn doubled() -> Kernel {
    let (p, n) = (Index::Axis(0), Dim::named("n"));
    let mut finish = ScalarProgram::default();
    let x = read(&mut finish, at(0, &[0]));
    let next = p.clone().times(2i64) + Index::Dim(Dim::from(1i64));
    let place = finish.push(ScalarOp::Index(next.clone()), DType::I64);
    let end = finish.push(ScalarOp::Dim(n.clone()), DType::I64);
    let inside = finish.push(ScalarOp::Binary(BinaryFn::Less, place, end), DType::Bool);
    finish.results = vec![x, x];
    let mut kernel = row_sums();
    let half = n.ceil_div(&Dim::from(2i64));
    kernel.operands[0].shape = vec![half.clone()];
    kernel.outer = vec![axis("p", half, AxisKind::Parallel)];
    kernel.stages = vec![Stage {
        axes: vec![],
        body: ScalarProgram::default(),
        combine: vec![],
        finish,
        writes: vec![
            Access { operand: 1, index: vec![p.times(2i64)] }.into(),
            Write { access: Access { operand: 1, index: vec![next] }, only_if: Some(inside) },
        ],
    }];
    kernel
}

#[test]
fn what_has_a_condition_is_written_only_where_it_holds() {
    let mut kernel = doubled();
    verify(&kernel).unwrap();
    assert!(kernel.to_string().contains("] = s0 if s3"), "{kernel}");
    let x = Tensor::from_slice(vec![3], &[1f32, 2.0, 3.0]).unwrap();
    let found = |kernel: &Kernel, n| run(kernel, n, std::slice::from_ref(&x));
    assert_eq!(found(&kernel, 6).unwrap()[0].to_f64(), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    assert_eq!(found(&kernel, 5).unwrap()[0].to_f64(), [1.0, 1.0, 2.0, 2.0, 3.0]);
    kernel.stages[0].writes[1].only_if = None;
    assert!(matches!(found(&kernel, 5), Err(KernelError::OutOfBounds { .. })));
    kernel.stages[0].writes[1].only_if = Some(ScalarId(1));
    let message = verify(&kernel).unwrap_err().to_string();
    assert!(message.contains("is no bool"), "{message}");
}

#[test]
fn broken_updates_are_refused() {
    type Damage = fn(&mut Kernel);
    let cases: [(&str, Damage); 4] = [
        ("is updated before it is written", |k| k.stages.swap(0, 1)),
        ("no integer that is computed before", |k| {
            k.stages[1].writes[0].access.index = vec![Index::Scalar(ScalarId(9))];
        }),
        ("which is not affine", |k| {
            k.stages[0].writes[0].access.index = vec![Index::Axis(0).modulo(2i64)];
        }),
        ("of an updating stage is a reduction", |k| {
            k.stages[1].axes.push(axis("r", 2i64, AxisKind::Reduction));
        }),
    ];
    for (expected, damage) in cases {
        let mut kernel = scattered_sums();
        damage(&mut kernel);
        let message = verify(&kernel).expect_err(expected).to_string();
        assert!(message.contains(expected), "`{message}` should say `{expected}`");
    }
}

#[test]
fn places_outside_and_uncovered_outputs_are_found() {
    let x = Tensor::from_slice(vec![2, 3], &[0f32; 6]).unwrap();
    let mut kernel = row_sums();
    kernel.outer[0].extent = Dim::named("n") + Dim::from(1i64);
    let error = run(&kernel, 2, std::slice::from_ref(&x)).unwrap_err();
    assert!(matches!(error, KernelError::OutOfBounds { .. }), "{error}");
    kernel.outer[0].extent = Dim::from(1i64);
    let error = run(&kernel, 2, std::slice::from_ref(&x)).unwrap_err();
    assert!(matches!(error, KernelError::Coverage { times: 0, element: 1, .. }), "{error}");
    assert!(matches!(run(&row_sums(), 3, &[x]), Err(KernelError::Input { .. })));
}

#[test]
fn broken_kernels_are_refused() {
    type Damage = fn(&mut Kernel);
    let cases: [(&str, Damage); 10] = [
        ("not declared", |k| k.symbols.clear()),
        ("two operands are called", |k| k.operands[1].name = "x".into()),
        ("two axes are called", |k| k.outer[0].name = "k".into()),
        ("is a reduction", |k| k.outer[0].kind = AxisKind::Reduction),
        ("has 2 dimensions, but 1", |k| k.stages[0].body.code.clear_and_read(at(0, &[0]))),
        ("there is no axis a7", |k| k.stages[0].body.code.clear_and_read(at(0, &[0, 7]))),
        ("mentions reduction axis", |k| k.stages[0].writes = vec![at(1, &[1]).into()]),
        ("visits 3 of n", |k| k.outer[0].extent = 3i64.into()),
        ("is never written", |k| k.stages.clear()),
        ("combiners", |k| k.stages[0].combine.clear()),
    ];
    for (expected, damage) in cases {
        let mut kernel = row_sums();
        damage(&mut kernel);
        let message = verify(&kernel).expect_err(expected).to_string();
        assert!(message.contains(expected), "`{message}` should say `{expected}`");
    }
}

trait ClearAndRead {
    fn clear_and_read(&mut self, access: Access);
}

impl ClearAndRead for Vec<(ScalarOp, DType)> {
    fn clear_and_read(&mut self, access: Access) {
        *self = vec![(ScalarOp::Read { access, outside: None }, DType::F32)];
    }
}

#[test]
fn the_text_form_shows_every_part() {
    let text = row_sums().to_string();
    let expected = "kernel row_sums(n: 0..) {\n  input x: f32[n, 3]\n  output y: f32[n]\n  \
         a0 = parallel i < n\n  stage\n    a1 = reduction k < 3\n    s0: f32 = x[a0, a1]\n    \
         combine sum s0\n    finish\n    s0: f32 = combined 0\n    y[a0] = s0\n}";
    assert_eq!(text, expected);
}
