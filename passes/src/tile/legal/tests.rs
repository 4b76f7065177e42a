use super::*;
use kiln_ir::kernel::{Axis, Operand, ScalarProgram};
use kiln_ir::schedule::{LoopLevel, PackedLayout, VectorAxis};
use kiln_tensor::{DType, Dim};

/// Outer axes m, t (sequential) and a stage with a reduction k.
fn kernel() -> Kernel {
    let axis = |name: &str, kind| Axis { name: name.into(), extent: Dim::from(8i64), kind };
    let dims = vec![Dim::from(8i64); 2];
    let operand = |name: &str, role| Operand {
        name: name.into(),
        role,
        dtype: DType::F32,
        shape: dims.clone(),
    };
    let none = ScalarProgram::default;
    Kernel {
        name: "k".into(),
        symbols: Default::default(),
        operands: vec![operand("x", Role::Input), operand("y", Role::Output)],
        outer: vec![axis("m", AxisKind::Parallel), axis("t", AxisKind::Sequential)],
        stages: vec![Stage {
            axes: vec![axis("k", AxisKind::Reduction)],
            body: none(),
            combine: vec![],
            finish: none(),
            writes: vec![],
        }],
    }
}

fn loops(levels: &[(usize, u64)]) -> Schedule {
    let loops = levels.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect();
    let stage = StageSchedule { loops, vector: None };
    Schedule { task: vec![1, 0], stages: vec![stage], ..Schedule::default() }
}

fn packed(operand: usize, levels: Vec<(usize, Part)>) -> Schedule {
    let packing = vec![Packing { operand, layout: PackedLayout { levels }, ahead: 0 }];
    Schedule { packing, ..loops(&[]) }
}

#[test]
fn each_rule_is_checked() {
    assert_eq!(legal(&kernel(), &loops(&[(0, 8), (0, 2), (2, 4)])), Ok(()));
    let mut wide = loops(&[(0, 6)]);
    wide.stages[0].vector = Some(VectorAxis { axis: 0, lanes: 4 });
    let blocks = |inner| vec![(0, Part::Outer(4)), (1, Part::Whole), (0, Part::Inner(inner))];
    assert_eq!(legal(&kernel(), &packed(0, blocks(4))), Ok(()));
    let mut long = loops(&[(0, 1 << 20)]);
    long.stages[0].vector = Some(VectorAxis { axis: 0, lanes: 1 << 20 });
    let huge = vec![(0, Part::Outer(1 << 40)), (1, Part::Whole), (0, Part::Inner(1 << 40))];
    let cases: [(&str, Schedule); 17] = [
        ("a step of 9223372036854775808 points", loops(&[(0, 1 << 63)])),
        (
            "a task of 18446744073709551615 points",
            Schedule { task: vec![u64::MAX, 0], ..loops(&[]) },
        ),
        ("1048576 lanes do not fit", long),
        ("its blocks would be mostly empty", packed(0, huge)),
        ("0 outer axes, but there are 2", Schedule::default()),
        (
            "2 stages are scheduled",
            Schedule { stages: vec![StageSchedule::default(); 2], ..loops(&[]) },
        ),
        ("along axis 1, which is no parallel", Schedule { fastest: Some(1), ..loops(&[]) }),
        ("along axis 9, which is no parallel", Schedule { fastest: Some(9), ..loops(&[]) }),
        ("has no axis 5", loops(&[(5, 1)])),
        ("`t`, which is sequential", loops(&[(1, 1)])),
        ("do not fall", loops(&[(0, 2), (0, 4)])),
        ("do not fall", loops(&[(0, 0)])),
        ("inside of a reduction", loops(&[(2, 1), (0, 1)])),
        ("4 lanes do not fit", wide),
        ("2048 points", loops(&[(0, 2048)])),
        ("only inputs", packed(1, blocks(4))),
        ("blocks of one size", packed(0, blocks(2))),
    ];
    for (expected, schedule) in cases {
        let message = legal(&kernel(), &schedule).expect_err(expected).to_string();
        assert!(message.contains(expected), "`{message}` should say `{expected}`");
    }
}
