//! Attention: scores of one query, their softmax, and the weighted values, in one kernel.
//!
//! Invariant: scores live in a temporary of one row; a tile of queries makes its two products
//! ordinary matrix products.

use super::draft::{Draft, Fault, computed_in};
use kiln_ir::Node;
use kiln_ir::kernel::{Access, AxisKind, Combine, Index, ScalarOp};
use kiln_ir::op::{Attention, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::DType;

pub(super) fn form(draft: &mut Draft, core: &Node, attention: &Attention) -> Result<(), Fault> {
    let body = draft.context.body;
    let (q, k, v) = (core.inputs[0], core.inputs[1], core.inputs[2]);
    let [q_shape, k_shape, v_shape] = [q, k, v].map(|value| &body.ty(value).shape);
    let dtype = computed_in(body.ty(q).dtype);
    let (heads, key_heads) = (&q_shape[1], &k_shape[1]);
    let repeats = heads.exact_div(key_heads).ok_or("heads do not share key heads evenly")?;
    let (queries, keys) = (&q_shape[2], &k_shape[2]);

    let batch = draft.outer_axis("b", &q_shape[0], AxisKind::Parallel);
    let key_head = draft.outer_axis("h", key_heads, AxisKind::Parallel);
    let repeat = draft.outer_axis("g", &repeats, AxisKind::Parallel);
    let head = key_head.clone().times(repeats) + repeat;
    let query = draft.outer_axis("i", queries, AxisKind::Parallel);
    let row = draft.temporary("query", dtype, vec![q_shape[3].clone()]);
    let scores = draft.temporary("scores", dtype, vec![keys.clone()]);
    let greatest = draft.temporary("greatest", dtype, Vec::new());
    let sum = draft.temporary("sum", dtype, Vec::new());
    let scalar = |operand: usize| Access { operand, index: Vec::new() };

    // query = q, which lies with the other queries of a task as the products read it.
    let mut stage = draft.stage();
    let element = stage.axis("d", &q_shape[3], AxisKind::Parallel);
    let mut finish = stage.walk();
    let at = [batch.clone(), head.clone(), query.clone(), element.clone()];
    finish.program.results = vec![finish.value(q, &at)?];
    let place = Access { operand: row, index: vec![element] };
    draft.stages.push(stage.pointwise(finish, vec![place]));

    // scores[j] = scale·query·kⱼ + mask.
    let mut stage = draft.stage();
    let key = stage.axis("j", keys, AxisKind::Parallel);
    let element = stage.axis("d", &q_shape[3], AxisKind::Reduction);
    let mut products = stage.walk();
    let x = products.read(row, dtype, std::slice::from_ref(&element), None);
    let y = products.value(k, &[batch.clone(), key_head.clone(), key.clone(), element])?;
    let product = products.binary(BinaryFn::Mul, x, y)?;
    products.program.results = vec![product];
    let mut finish = stage.walk();
    let dot = finish.push(ScalarOp::Reduced(0), dtype);
    let scale = finish.float(attention.scale, dtype);
    let mut score = finish.binary(BinaryFn::Mul, dot, scale)?;
    if let Some(&mask) = core.inputs.get(3) {
        let at = [batch.clone(), head.clone(), query.clone(), key.clone()];
        let element = finish.stretched(mask, &at)?;
        score = if body.ty(mask).dtype == DType::Bool {
            let hidden = finish.float(attention.hidden, dtype);
            finish.select(element, score, hidden)?
        } else {
            finish.binary(BinaryFn::Add, score, element)?
        };
    }
    if attention.causal {
        let last = query.clone() + Index::Dim(keys.clone() - queries.clone());
        let (at, last) = (finish.index(&key), finish.index(&last));
        let seen = finish.binary(BinaryFn::LessEqual, at, last)?;
        let unseen = finish.float(f64::NEG_INFINITY, dtype);
        score = finish.select(seen, score, unseen)?;
    }
    finish.program.results = vec![score];
    let place = Access { operand: scores, index: vec![key] };
    let total = vec![Combine::Reduce(ReduceFn::Sum)];
    draft.stages.push(stage.reducing(products, total.clone(), finish, vec![place])?);

    // greatest = max scores.
    let mut stage = draft.stage();
    let key = stage.axis("j", keys, AxisKind::Reduction);
    let mut each = stage.walk();
    let score = each.read(scores, dtype, &[key], None);
    each.program.results = vec![score];
    let mut finish = stage.walk();
    finish.program.results = vec![finish.push(ScalarOp::Reduced(0), dtype)];
    let most = vec![Combine::Reduce(ReduceFn::Max)];
    draft.stages.push(stage.reducing(each, most, finish, vec![scalar(greatest)])?);

    // scores[j] = exp(scores[j] − greatest), in place.
    let mut stage = draft.stage();
    let key = stage.axis("j", keys, AxisKind::Parallel);
    let mut finish = stage.walk();
    let score = finish.read(scores, dtype, std::slice::from_ref(&key), None);
    let most = finish.read(greatest, dtype, &[], None);
    let below = finish.binary(BinaryFn::Sub, score, most)?;
    finish.program.results = vec![finish.unary(UnaryFn::Exp, below)?];
    let place = Access { operand: scores, index: vec![key] };
    draft.stages.push(stage.pointwise(finish, vec![place]));

    // sum = Σ scores.
    let mut stage = draft.stage();
    let key = stage.axis("j", keys, AxisKind::Reduction);
    let mut each = stage.walk();
    let power = each.read(scores, dtype, &[key], None);
    each.program.results = vec![power];
    let mut finish = stage.walk();
    finish.program.results = vec![finish.push(ScalarOp::Reduced(0), dtype)];
    draft.stages.push(stage.reducing(each, total.clone(), finish, vec![scalar(sum)])?);

    // result = Σⱼ scores[j]·vⱼ / sum.
    let mut stage = draft.stage();
    let element = stage.axis("e", &v_shape[3], AxisKind::Parallel);
    let key = stage.axis("j", keys, AxisKind::Reduction);
    let mut products = stage.walk();
    let power = products.read(scores, dtype, std::slice::from_ref(&key), None);
    let value = products.value(v, &[batch.clone(), key_head, key, element.clone()])?;
    let product = products.binary(BinaryFn::Mul, power, value)?;
    products.program.results = vec![product];
    let mut finish = stage.walk();
    let weighed = finish.push(ScalarOp::Reduced(0), dtype);
    let all = finish.read(sum, dtype, &[], None);
    let mut mean = finish.binary(BinaryFn::Div, weighed, all)?;
    if keys.bounds(&draft.context.symbols).min < 1 {
        // Of no keys the sum is 0, and not 0/0.
        let zero = finish.zero(dtype);
        let none = finish.int(0, DType::I64);
        let count = finish.index(&Index::Dim(keys.clone()));
        let any = finish.binary(BinaryFn::Greater, count, none)?;
        mean = finish.select(any, mean, zero)?;
    }
    let index = [batch, head, query, element];
    let (stored, place) = draft.result(&mut finish, core.outputs[0], &index, mean)?;
    finish.program.results = vec![stored];
    draft.stages.push(stage.reducing(products, total, finish, vec![place])?);
    Ok(())
}
