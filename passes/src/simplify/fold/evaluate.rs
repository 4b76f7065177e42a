//! The values of constant operations, by as many threads as there are cores.
//!
//! Invariant: a value does not depend on which thread computes it or when. What nobody reads any more is
//! released at once, so that memory which was touched is used again.

use super::{Choice, elementwise, maker, movement, product};
use kiln_ir::op::Op;
use kiln_ir::{Graph, Node, NodeId, TensorType};
use kiln_tensor::{Storage, SymbolValues, Tensor};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Numbers that are evaluated one at a time, at most.
const MOST_NUMBERS: usize = 1 << 22;
/// Multiplications of a product that is computed beforehand, and numbers of its matrices.
const MOST_PRODUCTS: usize = 1 << 30;
const MOST_PACKED: usize = 1 << 25;
/// Bytes of results for which threads are worth starting.
const MUCH: usize = 1 << 20;

/// The values of what is stored; what cannot be computed is left out.
pub(super) fn all(graph: &Graph, choice: &Choice) -> BTreeMap<NodeId, Tensor> {
    let work = Work::new(graph, choice);
    let bytes = |number: usize| {
        let node = graph.node(NodeId(number as u32));
        match &node.op {
            Op::Constant(_) => 0,
            _ => super::bytes(graph, node.outputs[0]),
        }
    };
    let computed = (0..choice.computed.len()).filter(|&number| choice.computed[number]);
    let threads = match computed.map(bytes).fold(0, usize::saturating_add) {
        0..MUCH => 1,
        _ => std::thread::available_parallelism().map_or(1, |count| count.get()),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no thread for it, the others do its work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || work.run());
        }
        work.run();
    });
    let mut state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let stored = choice.stored.iter();
    stored.filter_map(|&id| Some((id, state.values[id.0 as usize].take()?))).collect()
}

/// Nodes to be computed, each once what it reads is there.
struct Work<'a> {
    graph: &'a Graph,
    /// Computed nodes that read the result of each.
    readers: Vec<Vec<usize>>,
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    values: Vec<Option<Tensor>>,
    /// Reads of each value that are to come, one more if it is stored.
    uses: Vec<usize>,
    /// Operands of each node that are not there yet.
    waits: Vec<usize>,
    /// What can be computed; the last first, so that what was just made is read soon.
    ready: Vec<usize>,
    /// Nodes that are not computed yet.
    left: usize,
}

impl<'a> Work<'a> {
    fn new(graph: &'a Graph, choice: &Choice) -> Self {
        let count = choice.computed.len();
        let mut readers = vec![Vec::new(); count];
        let (mut uses, mut waits) = (vec![0; count], vec![0; count]);
        let mut ready = Vec::new();
        for number in (0..count).rev().filter(|&number| choice.computed[number]) {
            for input in operands(graph, graph.node(NodeId(number as u32))) {
                readers[input].push(number);
                uses[input] += 1;
                waits[number] += 1;
            }
            if waits[number] == 0 {
                ready.push(number);
            }
        }
        choice.stored.iter().for_each(|id| uses[id.0 as usize] += 1);
        let left = choice.computed.iter().filter(|computed| **computed).count();
        let state = State { values: vec![None; count], uses, waits, ready, left };
        Work { graph, readers, state: Mutex::new(state), news: Condvar::new() }
    }

    fn run(&self) {
        let mut state = self.lock();
        while state.left > 0 {
            let Some(number) = state.ready.pop() else {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let node = self.graph.node(NodeId(number as u32));
            let given = state.taken(operands(self.graph, node));
            drop(state);
            let ending = EndIfPanicking(self);
            let value = given.and_then(|given| evaluate(self.graph, node, given));
            drop(ending);
            state = self.lock();
            state.values[number] = value.filter(|_| state.uses[number] > 0);
            state.left = state.left.saturating_sub(1);
            for &reader in &self.readers[number] {
                state.waits[reader] -= 1;
                if state.waits[reader] == 0 {
                    state.ready.push(reader);
                }
            }
            self.news.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps other threads from waiting for one that panics.
struct EndIfPanicking<'w, 'a>(&'w Work<'a>);

impl Drop for EndIfPanicking<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().left = 0;
            self.0.news.notify_all();
        }
    }
}

impl State {
    /// The values of operands, which are given away where nobody else reads them.
    fn taken(&mut self, operands: impl Iterator<Item = usize>) -> Option<Vec<Tensor>> {
        let operands: Vec<usize> = operands.collect();
        operands.iter().for_each(|&number| self.uses[number] -= 1);
        let of = |number: &usize| match self.uses[*number] {
            0 if operands.iter().filter(|other| *other == number).count() == 1 => {
                self.values[*number].take()
            }
            _ => self.values[*number].clone(),
        };
        let values: Vec<Option<Tensor>> = operands.iter().map(of).collect();
        values.into_iter().collect()
    }
}

fn operands<'g>(graph: &'g Graph, node: &'g Node) -> impl Iterator<Item = usize> + 'g {
    node.inputs.iter().filter_map(|&input| maker(graph, input))
}

fn evaluate(graph: &Graph, node: &Node, mut operands: Vec<Tensor>) -> Option<Tensor> {
    if let Op::Constant(constant) = &node.op {
        return Some(constant.tensor.clone());
    }
    let ty = graph.ty(node.outputs[0]);
    operands.iter_mut().for_each(align);
    let quick = movement::evaluate(&node.op, &operands, ty)
        .or_else(|| elementwise::evaluate(&node.op, &mut operands, ty));
    let result = match quick {
        Some(result) => result,
        None if !is_short(&node.op, &operands, ty) => return None,
        None => match product::evaluate(&node.op, &operands, ty) {
            Some(result) => result,
            None => {
                node.op.evaluate(&operands, &[], &SymbolValues::new()).ok()?.into_iter().next()?
            }
        },
    };
    (TensorType::of(&result) == *ty).then_some(result)
}

/// Weights lie wherever the model's file has them, at no multiple of their size.
fn align(tensor: &mut Tensor) {
    let size = tensor.dtype().size().max(1);
    if !(tensor.bytes().as_ptr() as usize).is_multiple_of(size)
        && let Some(copy) = Storage::copy_of(tensor.bytes())
        && let Ok(aligned) = Tensor::from_storage(tensor.dtype(), tensor.sizes().to_vec(), copy)
    {
        *tensor = match tensor.objects() {
            Some(objects) => aligned.with_objects(objects),
            None => aligned,
        };
    }
}

/// Whether evaluating an operation takes neither long nor much memory.
fn is_short(op: &Op, operands: &[Tensor], result: &TensorType) -> bool {
    let (Op::Contract(contract), [a, b]) = (op, operands) else {
        return operands.iter().map(Tensor::len).fold(0, usize::saturating_add) <= MOST_NUMBERS;
    };
    let spec = &contract.spec;
    let sizes: BTreeMap<u8, usize> = (spec.lhs.iter().zip(a.sizes()))
        .chain(spec.rhs.iter().zip(b.sizes()))
        .map(|(&label, &size)| (label, size))
        .collect();
    // What its operands and its result are as matrices, whose rows or columns an operand may lack.
    let summed = spec.summed();
    let matrix = |lacks: &[u8]| {
        let all = sizes.iter().filter(|(label, _)| !lacks.contains(label));
        all.fold(1usize, |count, (_, &size)| count.saturating_mul(size))
    };
    let only = |of: &[u8], other: &[u8]| -> Vec<u8> {
        of.iter()
            .copied()
            .filter(|label| !other.contains(label) && !summed.contains(label))
            .collect()
    };
    let (rows, columns) = (only(&spec.lhs, &spec.rhs), only(&spec.rhs, &spec.lhs));
    let numbers =
        [matrix(&columns), matrix(&rows), result.static_sizes().map_or(0, |s| s.iter().product())];
    numbers.into_iter().fold(0, usize::saturating_add) <= MOST_PACKED
        && matrix(&[]) <= MOST_PRODUCTS
}
