//! Loops, carried values and branches.

use super::draft::{Draft, draft};
use super::numbers::Numbers;
use super::{Run, check};
use crate::nest::{
    Address, BinaryOp, Carried, Chosen, Conversion, Element, For, If, Op, Place, Predicate, Stmt,
    Store, Type, ValueId,
};
use kiln_tensor::{DType, Dim, Symbol};

impl Draft {
    /// A loop with carried values; `body` gets the variable and their names inside, and gives their
    /// next values. Gives their names after the loop.
    fn for_loop(
        &mut self,
        [from, to]: [ValueId; 2],
        step: i64,
        initial: &[ValueId],
        body: impl FnOnce(&mut Draft, ValueId, &[ValueId]) -> Vec<ValueId>,
    ) -> Vec<ValueId> {
        let outside = std::mem::take(&mut self.body);
        let variable = self.value(Type::INDEX);
        let shape: Vec<Type> = initial.iter().map(|value| self.types[value.0 as usize]).collect();
        let inside: Vec<ValueId> = shape.iter().map(|ty| self.value(*ty)).collect();
        let next = body(self, variable, &inside);
        let results: Vec<ValueId> = shape.iter().map(|ty| self.value(*ty)).collect();
        let carried = (0..initial.len())
            .map(|number| Carried {
                initial: initial[number],
                inside: inside[number],
                next: next[number],
                result: results[number],
            })
            .collect();
        let body = std::mem::replace(&mut self.body, outside);
        self.body.push(Stmt::For(Box::new(For { variable, from, to, step, carried, body })));
        results
    }
}

/// A matrix product with a tile of accumulators, as kernels have it.
#[test]
fn carried_accumulators() {
    let (rows, columns, depth) = (3usize, 8usize, 37usize);
    let vector = Type::new(Element::F32, columns as u32);
    let mut nest = draft();
    let a = nest.buffer(DType::F32, rows * depth, false);
    let b = nest.buffer(DType::F32, depth * columns, false);
    let c = nest.buffer(DType::F32, rows * columns, true);
    let zero = nest.op(Type::new(Element::F32, 1), Op::Constant(0));
    let zero = nest.op(vector, Op::Splat(zero));
    let bounds = [0, depth as i64].map(|bound| nest.index(bound));
    let sums = nest.for_loop(bounds, 1, &vec![zero; rows], |nest, k, sums| {
        let width = nest.index(columns as i64);
        let at = nest.op(Type::INDEX, Op::Binary(BinaryOp::Mul, k, width));
        let row = nest.load(vector, b, at);
        (0..rows)
            .map(|number| {
                let offset = nest.index((number * depth) as i64);
                let at = nest.op(Type::INDEX, Op::Binary(BinaryOp::Add, k, offset));
                let scalar = nest.load(Type::new(Element::F32, 1), a, at);
                let scalar = nest.op(vector, Op::Splat(scalar));
                let product = nest.op(vector, Op::Binary(BinaryOp::Mul, scalar, row));
                nest.op(vector, Op::Binary(BinaryOp::Add, sums[number], product))
            })
            .collect()
    });
    for (number, sum) in sums.into_iter().enumerate() {
        let at = nest.index((number * columns) as i64);
        nest.store(c, at, sum);
    }
    let mut numbers = Numbers(20);
    let mut small = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|_| ((numbers.below(201) as f32 - 100.0) / 16.0).to_le_bytes())
            .collect()
    };
    let buffers = vec![small(rows * depth), small(depth * columns), vec![0; rows * columns * 4]];
    check(&[Run::new(nest.finish("product"), buffers)]);
}

/// Steps that do not divide the distance, empty loops, loops in loops, bounds from parameters.
#[test]
fn trip_counts() {
    let mut runs = Vec::new();
    for [from, to, step] in
        [[0, 10, 1], [0, 10, 3], [0, 10, 4], [5, 5, 1], [7, 2, 1], [-3, 4, 2], [0, 1, 100]]
    {
        let mut nest = draft();
        nest.params = vec![Symbol::new("n")];
        let out = nest.buffer(DType::I64, 2, true);
        let from = nest.index(from);
        let bound = nest.op(Type::INDEX, Op::Param(0));
        let zero = nest.index(0);
        let counts = nest.for_loop([from, bound], step, &[zero, zero], |nest, outer, carried| {
            let [count, sum] = carried else { panic!("two are carried") };
            let inner = nest.for_loop([zero, outer], 2, &[*sum], |nest, variable, sum| {
                vec![nest.op(Type::INDEX, Op::Binary(BinaryOp::Add, sum[0], variable))]
            });
            let one = nest.index(1);
            let count = nest.op(Type::INDEX, Op::Binary(BinaryOp::Add, *count, one));
            vec![count, inner[0]]
        });
        for (number, value) in counts.into_iter().enumerate() {
            let at = nest.index(number as i64);
            nest.store(out, at, value);
        }
        let mut run = Run::new(nest.finish("trips"), vec![vec![0; 16]]);
        run.params = vec![to];
        runs.push(run);
    }
    check(&runs);
}

/// A mask that is carried keeps its meaning when the next one was compared from other widths; two
/// values that change places do so at once.
#[test]
fn carried_masks_and_swaps() {
    let mut runs = Vec::new();
    for lanes in [1, 2, 4, 8, 16] {
        for compared in [Element::I8, Element::I16, Element::F32, Element::F64, Element::I64] {
            let count = 5usize;
            let (mask, ty) = (Type::new(Element::Mask, lanes), Type::new(compared, lanes));
            let bytes = Type::new(Element::I8, lanes);
            let mut nest = draft();
            let dtype = super::dtype_of(compared);
            let input = nest.buffer(dtype, count * lanes as usize, false);
            let out = nest.buffer(DType::Bool, 2 * lanes as usize, true);
            let limit = nest.index(2);
            let first = nest.op(mask, Op::FirstLanes(limit));
            let yes = nest.op(Type::new(Element::Mask, 1), Op::Constant(1));
            let yes = nest.op(mask, Op::Splat(yes));
            let bounds = [0, count as i64].map(|bound| nest.index(bound));
            let results = nest.for_loop(bounds, 1, &[first, yes], |nest, number, carried| {
                let width = nest.index(i64::from(lanes));
                let at = nest.op(Type::INDEX, Op::Binary(BinaryOp::Mul, number, width));
                let value = nest.load(ty, input, at);
                let zero = nest.op(Type::new(compared, 1), Op::Constant(0));
                let zero = nest.op(ty, Op::Splat(zero));
                let positive = nest.op(mask, Op::Compare(Predicate::Greater, value, zero));
                let next = nest.op(mask, Op::Binary(BinaryOp::Xor, positive, carried[0]));
                vec![carried[1], next]
            });
            for (number, result) in results.into_iter().enumerate() {
                let at = nest.index(number as i64 * i64::from(lanes));
                let byte = nest.op(bytes, Op::Convert(Conversion::ZeroExtend, result));
                nest.store(out, at, byte);
            }
            let input = Numbers(21).bytes(compared, count * lanes as usize);
            let output = vec![0; 2 * lanes as usize];
            runs.push(Run::new(nest.finish("masks"), vec![input, output]));
        }
    }
    check(&runs);
}

/// Each task takes one branch; the bounds of the tasks come from the call.
#[test]
fn tasks_and_branches() {
    let mut nest = draft();
    let out = nest.buffer(DType::I32, 10, true);
    let again = nest.buffer(DType::I32, 10, true);
    let bounds = [Op::Begin, Op::End].map(|op| nest.op(Type::INDEX, op));
    let word = Type::new(Element::I32, 1);
    nest.for_loop(bounds, 1, &[], |nest, task, _| {
        let three = nest.index(3);
        let rest = nest.op(Type::INDEX, Op::Binary(BinaryOp::RemUnsigned, task, three));
        let one = nest.index(1);
        let condition =
            nest.op(Type::new(Element::Mask, 1), Op::Compare(Predicate::Equal, rest, one));
        let outside = std::mem::take(&mut nest.body);
        let seven = nest.op(word, Op::Constant(7));
        nest.store(out, task, seven);
        let then = std::mem::take(&mut nest.body);
        let narrow = nest.op(word, Op::Convert(Conversion::Truncate, task));
        nest.store(out, task, narrow);
        let otherwise = std::mem::replace(&mut nest.body, outside);
        let result = nest.value(word);
        let chosen = vec![Chosen { then: seven, otherwise: narrow, result }];
        nest.body.push(Stmt::If(Box::new(If { condition, then, otherwise, chosen })));
        // What was handed on is what was stored.
        nest.store(again, task, result);
        vec![]
    });
    let nest = nest.finish("tasks");
    let runs = [[0, 10], [2, 7], [4, 4]].map(|tasks| {
        let mut run = Run::new(nest.clone(), vec![vec![0xff; 40]; 2]);
        run.tasks = tasks;
        run
    });
    check(&runs);
}

/// Scratch memory is reached by offsets from its start; an operand that no statement touches need
/// not be bound.
#[test]
fn scratch_memory() {
    let vector = Type::new(Element::I32, 4);
    let mut nest = draft();
    let input = nest.buffer(DType::I32, 8, false);
    let out = nest.buffer(DType::I32, 8, true);
    let scratch = nest.buffer(DType::I32, 8, true);
    let start = 16;
    nest.buffers[scratch as usize].place = Place::Scratch { start: Dim::from(start as usize) };
    for number in [0, 4] {
        let at = nest.index(number);
        let value = nest.load(vector, input, at);
        let there = nest.index(start + number);
        nest.store(scratch, there, value);
    }
    for number in 0..8 {
        let there = nest.index(start + 7 - number);
        let value = nest.load(Type::new(Element::I32, 1), scratch, there);
        let at = nest.index(number);
        let address = Address::Contiguous(at);
        nest.body.push(Stmt::Store(Store { buffer: out, address, value, mask: None }));
    }
    let input = Numbers(22).bytes(Element::I32, 8);
    let mut run = Run::new(nest.finish("scratch"), vec![input, vec![0; 32]]);
    run.compare.truncate(2);
    check(&[run]);
}
