//! Sums of products of bytes, with and without an operation that takes four at once.
//!
//! Invariant: results are equal to the bit under every schedule; whole groups of terms that lie side by
//! side are taken together, and nothing else is.

use crate::case::{Case, one};
use crate::kernels::*;
use crate::{any_schedule, convolved};
use kiln_backends::Target;
use kiln_backends::nest::{Block, Capabilities, Op, Stmt, lower};
use kiln_ir::schedule::{PackedLayout, Packing, Part, Schedule};
use kiln_tensor::DType;
use proptest::prelude::*;

/// Numbers from all over a range, its ends among them.
fn integers(count: usize, least: i64, most: i64) -> Vec<f64> {
    let middle = |at: i64| least + (at * 7919 + at * at * 31) % (most - least + 1);
    (0..count as i64)
        .map(|at| match at % 5 {
            0 => most as f64,
            1 if at % 2 == 0 => least as f64,
            _ => middle(at) as f64,
        })
        .collect()
}

fn product_case([m, n, k]: [usize; 3], symbolic: bool) -> Case {
    let (a, b) = (integers(m * k, 0, 255), integers(k * n, -128, 127));
    let of = |place: usize| (0..k).map(|i| a[place / n * k + i] * b[i * n + place % n]).sum();
    let c = (0..m * n).map(of).collect();
    let text = [m, n, k].map(|size: usize| size.to_string());
    let names = if symbolic { ["m", "n", "k"] } else { text.each_ref().map(String::as_str) };
    let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
    Case::new(of_bytes(gemm(DType::I32, names, false)), &sizes, vec![a, b], c, 0.0)
}

fn convolution_case([h, w, c, m]: [usize; 4]) -> Case {
    let (x, k) = (integers(h * w * c, 0, 255), integers(9 * c * m, -128, 127));
    let y = convolved([h, w, c, m], &x, &k);
    let text = [h, w, c, m].map(|size: usize| size.to_string());
    let names = text.each_ref().map(String::as_str);
    Case::new(of_bytes(convolution(DType::I32, names)), &[], vec![x, k], y, 0.0)
}

/// The second operand in panels of so many places along `dim`, and in groups of four along `terms`.
fn grouped(mut schedule: Schedule, [dim, terms]: [usize; 2], width: u64, rank: usize) -> Schedule {
    let others = (0..rank).filter(|&other| other != dim && other != terms);
    let mut levels = vec![(dim, Part::Outer(width))];
    levels.extend(others.map(|other| (other, Part::Whole)));
    levels.extend([(terms, Part::Outer(4)), (dim, Part::Inner(width)), (terms, Part::Inner(4))]);
    schedule.packing = vec![Packing { operand: 1, layout: PackedLayout { levels }, ahead: 0 }];
    schedule
}

/// A register tile of rows by columns by terms, the columns in vectors.
fn tiled(rows: u64, columns: u64, terms: u64, lanes: u32) -> Schedule {
    let loops = [(0, rows), (1, columns), (2, terms)];
    grouped(one(&[0, 0], &loops, Some((1, lanes))), [1, 0], columns, 2)
}

#[test]
fn products_of_bytes() {
    for extents in [[1, 1, 4], [5, 48, 16], [3, 33, 8], [7, 70, 23], [2, 16, 3]] {
        for schedule in [
            Schedule::default(),
            tiled(3, 32, 4, 16),
            tiled(2, 16, 8, 8),
            tiled(1, 4, 4, 4),
            // Groups that begin where others end, and panels that are narrower than the tile.
            tiled(2, 16, 2, 16),
            grouped(one(&[0, 0], &[(1, 32), (2, 4)], Some((1, 16))), [1, 0], 16, 2),
            one(&[0, 0], &[(0, 2), (1, 16), (2, 4)], Some((1, 16))),
            one(&[0, 0], &[(0, 2), (2, 16)], Some((2, 16))),
        ] {
            for symbolic in [false, true] {
                product_case(extents, symbolic).run(&schedule);
            }
        }
    }
}

#[test]
fn convolutions_of_bytes() {
    let plain = one(&[1, 0, 0], &[(1, 3), (2, 16), (3, 1), (4, 1), (5, 4)], Some((2, 16)));
    for extents in [[5, 7, 4, 20], [1, 1, 8, 16], [4, 9, 6, 33]] {
        convolution_case(extents).run(&plain);
        convolution_case(extents).run(&grouped(plain.clone(), [3, 2], 16, 4));
    }
}

fn counted(block: &Block) -> [usize; 2] {
    let mut found = [0, 0];
    for statement in block {
        let inner = match statement {
            Stmt::Let(_, Op::Dot { .. }) => [1, 0],
            Stmt::Let(_, Op::Binary(kiln_backends::nest::BinaryOp::Mul, ..)) => [0, 1],
            Stmt::For(l) => counted(&l.body),
            Stmt::If(branch) => {
                let (a, b) = (counted(&branch.then), counted(&branch.otherwise));
                [a[0] + b[0], a[1] + b[1]]
            }
            _ => [0, 0],
        };
        found = [found[0] + inner[0], found[1] + inner[1]];
    }
    found
}

#[test]
fn groups_are_one_operation_where_the_target_has_it() {
    let kernel = of_bytes(gemm(DType::I32, ["6", "64", "32"], false));
    let schedule = tiled(3, 32, 8, 16);
    let dots = |name: &str| {
        let capabilities = Capabilities::full(&Target::named(name).unwrap());
        counted(&lower(&kernel, &schedule, capabilities).unwrap().body)[0]
    };
    // Three rows of two vectors, twice four terms.
    assert_eq!(dots("cascadelake"), 12);
    assert_eq!(dots("skylake-avx512"), 0);
    assert_eq!(dots("haswell"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_of_a_product_of_bytes_computes_it(
        schedule in any_schedule(2, 1, 8),
        extents in (1usize..40, 1usize..40, 1usize..20),
        groups in proptest::option::of(1u64..40),
        symbolic in any::<bool>(),
    ) {
        let (m, n, k) = extents;
        let schedule = match groups {
            Some(width) => grouped(schedule, [1, 0], width, 2),
            None => schedule,
        };
        product_case([m, n, k], symbolic).interpret(&schedule);
    }
}
