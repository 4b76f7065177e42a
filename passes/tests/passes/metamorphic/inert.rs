//! Operations that together hand on their operand: a transpose and its inverse, a split and the
//! concatenation of its parts, a conversion to a wider type and back; and such pairs around a function of
//! single elements.
//!
//! Invariant: the result has the type and, to the bit, the elements that were there without.

use fastrand::Rng;
use kiln_ir::op::*;
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_tensor::{DType, Dim, Tensor};

/// The graph with something inert behind one of its values, for all that use it or for one; and what
/// that is. `None` if nothing of the kind that was drawn fits the value.
pub fn put_in(graph: &Graph, random: &mut Rng) -> Option<(Graph, String)> {
    let value = ValueId(random.usize(..graph.value_count()) as u32);
    let uses = graph.uses();
    let users = &uses[value.0 as usize];
    // An output is used by no node, and handed on with its place.
    let only =
        (random.usize(..2) == 0 && !users.is_empty()).then(|| users[random.usize(..users.len())]);
    let mut put = Put { new: Graph::new(graph.name.clone()), random };
    put.new.symbols = graph.symbols.clone();
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    let mut with = None;
    for &input in graph.inputs() {
        let name = graph.value(input).name.clone().unwrap_or_default();
        let made = put.new.input(name, graph.ty(input).clone());
        map[input.0 as usize] = Some(made);
    }
    if let Producer::Input(_) = graph.value(value).producer {
        with = Some(put.behind(map[value.0 as usize]?, only.is_none())?);
    }
    let operand = |with: &Option<(ValueId, String)>,
                   map: &[Option<ValueId>],
                   user: Option<NodeId>,
                   old: ValueId| match with {
        Some((with, _)) if old == value && (only.is_none() || only == user) => Some(*with),
        _ => map[old.0 as usize],
    };
    for (id, node) in graph.nodes() {
        let inputs: Option<Vec<ValueId>> =
            node.inputs.iter().map(|&input| operand(&with, &map, Some(id), input)).collect();
        let made = put.new.add_copy(graph, node, &inputs?, node.regions.clone())?;
        for (&old, &made) in node.outputs.iter().zip(&made) {
            map[old.0 as usize] = Some(made);
            if let Some(name) = &graph.value(old).name {
                put.new.set_name(made, name.clone());
            }
        }
        if node.outputs.contains(&value) {
            with = Some(put.behind(map[value.0 as usize]?, only.is_none())?);
        }
    }
    for (&output, name) in graph.outputs().iter().zip(graph.output_names()) {
        put.new.output(operand(&with, &map, None, output)?, name.clone()).ok()?;
    }
    let (_, what) = with?;
    Some((put.new, what))
}

/// A graph on its way.
struct Put<'s> {
    new: Graph,
    random: &'s mut Rng,
}

impl Put<'_> {
    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<ValueId> {
        self.new.add1(op.into(), inputs).ok()
    }

    /// Something inert on a value, and what it is; around what made the value, if all that use it get it.
    fn behind(&mut self, x: ValueId, all: bool) -> Option<(ValueId, String)> {
        let ty = self.new.ty(x).clone();
        if ty.dtype.is_handle() || ty.dtype.is_list() {
            return None;
        }
        let (kind, value) = match self.random.usize(..11) {
            8..=10 if all => ("around", self.around(x)?),
            0 | 1 => ("split and concatenation", self.split(x)?),
            2 | 3 => {
                let moves = self.turn(x)?;
                ("transpose and inverse", self.pair(x, moves)?)
            }
            4 | 5 => {
                let moves = self.flatten(x)?;
                ("reshape and back", self.pair(x, moves)?)
            }
            6 => ("conversion and back", self.casts(x)?),
            _ => ("identity", self.identity(x)?),
        };
        assert_eq!(*self.new.ty(value), ty, "{kind}");
        let at = self.new.value(x).name.clone().unwrap_or_default();
        Some((value, format!("{kind} behind %{} {at}: {ty}", x.0)))
    }

    /// Two or three slices that partition a dimension, side by side again.
    fn split(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.new.ty(x).shape.clone();
        if shape.is_empty() {
            return None;
        }
        let axis = self.random.usize(..shape.len());
        let parts = 2 + self.random.usize(..2);
        let mut ends = vec![Dim::from(0i64)];
        for part in 1..parts {
            ends.push(match shape[axis].as_const() {
                Some(size) if size >= parts as i64 => Dim::from(size * part as i64 / parts as i64),
                Some(_) => return None,
                // What is left of a symbol may be nothing, which is a part as well.
                None => (shape[axis].clone() * Dim::from(part as i64))
                    .floor_div(&Dim::from(parts as i64)),
            });
        }
        ends.push(shape[axis].clone());
        let mut slices = Vec::new();
        for pair in ends.windows(2) {
            let mut starts = vec![Dim::from(0i64); shape.len()];
            let mut sizes = shape.clone();
            starts[axis] = pair[0].clone();
            sizes[axis] = pair[1].clone() - pair[0].clone();
            slices.push(self.op(Slice { starts, sizes, steps: vec![1; shape.len()] }, &[x])?);
        }
        self.op(Concat { axis }, &slices)
    }

    fn pair(&mut self, x: ValueId, [there, back]: [Op; 2]) -> Option<ValueId> {
        let moved = self.op(there, &[x])?;
        self.op(back, &[moved])
    }

    /// A transpose and its inverse.
    fn turn(&mut self, x: ValueId) -> Option<[Op; 2]> {
        let rank = self.new.ty(x).rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        for last in (1..rank).rev() {
            let other = self.random.usize(..last + 1);
            perm.swap(last, other);
        }
        let mut back = vec![0; rank];
        perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        Some([Transpose { perm }.into(), Transpose { perm: back }.into()])
    }

    /// A reshape to other dimensions and back.
    fn flatten(&mut self, x: ValueId) -> Option<[Op; 2]> {
        let shape = self.new.ty(x).shape.clone();
        let mut other = shape.clone();
        match self.random.usize(..3) {
            0 => other = vec![shape.iter().cloned().product()],
            1 if shape.len() > 1 => {
                let at = self.random.usize(..shape.len() - 1);
                let joined = other.remove(at) * other.remove(at);
                other.insert(at, joined);
            }
            _ => other.insert(self.random.usize(..shape.len() + 1), Dim::from(1i64)),
        }
        Some([Reshape { shape: other }.into(), Reshape { shape }.into()])
    }

    /// A conversion to a type that holds all numbers of this one, and back.
    fn casts(&mut self, x: ValueId) -> Option<ValueId> {
        let from = self.new.ty(x).dtype;
        let wider: &[DType] = match from {
            DType::Bool => &[DType::U8, DType::I32, DType::F32],
            DType::I8 => &[DType::I16, DType::I32, DType::I64, DType::F16, DType::F32],
            DType::U8 => &[DType::I16, DType::U32, DType::I64, DType::F16, DType::F64],
            DType::I16 | DType::U16 => &[DType::I32, DType::I64, DType::F32, DType::F64],
            DType::I32 | DType::U32 => &[DType::I64, DType::F64],
            DType::F16 | DType::BF16 => &[DType::F32, DType::F64],
            DType::F32 => &[DType::F64],
            _ => return None,
        };
        let to = wider[self.random.usize(..wider.len())];
        let wide = self.op(Cast { to }, &[x])?;
        self.op(Cast { to: from }, &[wide])
    }

    /// The function of one operand that made a value, between a transpose or reshape of its operand and
    /// the way back.
    fn around(&mut self, x: ValueId) -> Option<ValueId> {
        let Producer::Node { node, .. } = self.new.value(x).producer else { return None };
        let (op, from) = match self.new.node(node) {
            Node { op: op @ Op::Unary(_), inputs, .. } => (op.clone(), *inputs.first()?),
            _ => return None,
        };
        let moves = if self.random.usize(..2) == 0 { self.turn(from) } else { self.flatten(from) };
        let [there, back] = moves?;
        let moved = self.op(there, &[from])?;
        let made = self.op(op, &[moved])?;
        self.op(back, &[made])
    }

    /// One operation that hands its operand on.
    fn identity(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.new.ty(x).clone();
        let zeros = vec![Dim::from(0i64); ty.rank()];
        match self.random.usize(..5) {
            0 => {
                let steps = vec![1; ty.rank()];
                self.op(Slice { starts: zeros, sizes: ty.shape, steps }, &[x])
            }
            1 => self.op(Broadcast { shape: ty.shape }, &[x]),
            2 => self.op(Assume { shape: ty.shape }, &[x]),
            3 => {
                let number = self.new.constant(Tensor::zeros(ty.dtype, vec![]).ok()?).ok()?;
                let mode = PadMode::Constant;
                self.op(Pad { before: zeros.clone(), after: zeros, mode }, &[x, number])
            }
            _ if ty.rank() > 0 => self.op(Concat { axis: 0 }, &[x]),
            _ => self.op(Cast { to: ty.dtype }, &[x]),
        }
    }
}
