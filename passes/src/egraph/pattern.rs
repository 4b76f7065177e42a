//! Patterns over e-classes, written as s-expressions: `(mul ?x (sigmoid ?x))`.
//!
//! Invariant: matching enumerates bindings in a fixed order; commutative functions match both ways.
//!
//! | form | matches |
//! |---|---|
//! | `?x` | any class; the same name is the same class |
//! | `?c:const` | a class that depends on constants alone |
//! | `#s` | a constant whose elements are all one number, bound to `s`; as an operand of a function it does not stretch the other one |
//! | `0.5` | a constant whose elements are all (nearly) this number |
//! | `(add a b)` | a `Binary`, `Unary` function in lower case |
//! | `(Conv@c a b)` | any operation by its name; its attributes are bound to `c` |
//! | `(Concat@c ...)` | the same with any number of operands, which are bound to `c` too |
//! | `(or a b …)` | any of the patterns |

use super::language::{OpId, TensorGraph, variant_of};
use egg::{Id, Language};
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use kiln_tensor::DType;
use std::sync::Arc;

/// What a pattern matches.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Any class, or one of constants alone.
    Class {
        /// Name that it is bound to.
        name: Arc<str>,
        /// Whether it has to be constant.
        constant: bool,
    },
    /// A uniform constant, bound.
    Scalar(Arc<str>),
    /// A uniform constant near this number.
    Number(f64),
    /// A function of two values.
    Binary(BinaryFn, Box<[Pattern; 2]>),
    /// A function of one value.
    Unary(UnaryFn, Box<Pattern>),
    /// Any operation by name.
    Named {
        /// Name of the operation.
        op: &'static str,
        /// Its number among all operations.
        variant: u8,
        /// Name that its attributes are bound to.
        bind: Arc<str>,
        /// Operands, exactly as many; `None` for any.
        operands: Option<Vec<Pattern>>,
    },
    /// Any of them.
    Any(Vec<Pattern>),
}

/// What the names of a pattern stand for in one match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    classes: Vec<(Arc<str>, Id)>,
    ops: Vec<(Arc<str>, OpId)>,
    scalars: Vec<(Arc<str>, f64)>,
    operands: Vec<(Arc<str>, Vec<Id>)>,
}

impl Match {
    /// The class bound to a name.
    pub fn class(&self, name: &str) -> Option<Id> {
        self.classes.iter().find(|(bound, _)| &**bound == name).map(|(_, id)| *id)
    }

    /// The number bound to a name.
    pub fn scalar(&self, name: &str) -> Option<f64> {
        self.scalars.iter().find(|(bound, _)| &**bound == name).map(|(_, number)| *number)
    }

    /// The operation bound to a name.
    pub fn op<'a>(&self, egraph: &'a TensorGraph, name: &str) -> Option<&'a Op> {
        let (_, id) = self.ops.iter().find(|(bound, _)| &**bound == name)?;
        egraph.analysis.op(*id)
    }

    /// The operands of an operation that was matched with `...`.
    pub fn operands(&self, name: &str) -> Option<&[Id]> {
        self.operands.iter().find(|(bound, _)| &**bound == name).map(|(_, ids)| ids.as_slice())
    }

    fn with(mut self, name: &Arc<str>, id: Id) -> Self {
        self.classes.push((name.clone(), id));
        self
    }

    /// What a rule sees of a match at a class: equal for matches on which it does the same. How many
    /// ways there are to compute a class is a part, since rules look for some of them.
    pub(super) fn key(&self, egraph: &TensorGraph, class: Id) -> Vec<u64> {
        let seen = |id: Id| [usize::from(egraph.find(id)) as u64, egraph[id].nodes.len() as u64];
        let operands = self.operands.iter().flat_map(|(_, ids)| ids);
        let classes = self.classes.iter().map(|(_, id)| id).chain(operands);
        let numbers = self.scalars.iter().map(|(_, number)| number.to_bits());
        let ops = self.ops.iter().map(|(_, op)| op.number());
        let ids = classes.flat_map(|&id| seen(id));
        seen(class).into_iter().chain(ids).chain(ops).chain(numbers).collect()
    }
}

/// The number that every element of a class is, if it is such a constant.
pub fn uniform(egraph: &TensorGraph, class: Id) -> Option<f64> {
    let tensor = egraph[class].data.value.as_ref()?;
    let numbers = tensor.to_f64();
    let first = *numbers.first()?;
    numbers.iter().all(|number| *number == first).then_some(first)
}

/// Whether a number is a constant of mathematics as exporters write it: with seven digits, or
/// rounded to its element type. What a type represents exactly, such as 2 or −0.5, is written
/// exactly.
pub fn near(number: f64, expected: f64, dtype: DType) -> bool {
    let exactly_written = (expected * 64.0).fract() == 0.0 && expected.abs() < 64.0;
    let tolerance = match dtype {
        _ if exactly_written => 0.0,
        DType::F64 => 1e-12,
        dtype => (1.01 * dtype.unit_roundoff()).max(1e-6),
    };
    (number - expected).abs() <= tolerance * expected.abs()
}

impl Pattern {
    /// All matches of the pattern at a class.
    pub fn matches(&self, egraph: &TensorGraph, class: Id) -> Vec<Match> {
        let mut found = Vec::new();
        self.extend(egraph, class, Match::default(), &mut found);
        let mut unique: Vec<Match> = Vec::new();
        for one in found {
            if !unique.contains(&one) {
                unique.push(one);
            }
        }
        unique
    }

    fn extend(&self, egraph: &TensorGraph, class: Id, so_far: Match, found: &mut Vec<Match>) {
        let class = egraph.find(class);
        match self {
            Pattern::Class { name, constant } => {
                if *constant && !egraph[class].data.constant {
                    return;
                }
                match so_far.class(name) {
                    Some(bound) if egraph.find(bound) != class => {}
                    Some(_) => found.push(so_far),
                    None => found.push(so_far.with(name, class)),
                }
            }
            Pattern::Scalar(name) => {
                if let Some(number) = uniform(egraph, class) {
                    let mut next = so_far;
                    next.scalars.push((name.clone(), number));
                    found.push(next);
                }
            }
            Pattern::Number(expected) => {
                let dtype = egraph[class].data.ty.dtype;
                if uniform(egraph, class).is_some_and(|number| near(number, *expected, dtype)) {
                    found.push(so_far);
                }
            }
            Pattern::Any(either) => {
                either.iter().for_each(|p| p.extend(egraph, class, so_far.clone(), found));
            }
            Pattern::Unary(f, operand) => {
                for node in egraph[class]
                    .nodes
                    .iter()
                    .filter(|node| node.op.variant() == variant_of("Unary"))
                {
                    let Some(Op::Unary(unary)) = egraph.analysis.op(node.op) else { continue };
                    if let (true, &[child]) = (unary.f == *f, node.children()) {
                        operand.extend(egraph, child, so_far.clone(), found);
                    }
                }
            }
            Pattern::Binary(f, operands) => {
                let [left, right] = &**operands;
                for node in egraph[class]
                    .nodes
                    .iter()
                    .filter(|node| node.op.variant() == variant_of("Binary"))
                {
                    let Some(Op::Binary(binary)) = egraph.analysis.op(node.op) else { continue };
                    let &[a, b] = node.children() else { continue };
                    if binary.f != *f {
                        continue;
                    }
                    let shape = |id: Id| &egraph[id].data.ty.shape;
                    let own = shape(class);
                    let mut both = |a: Id, b: Id| {
                        // A number that stretches what it is an operand with is no mere number.
                        if (left.is_number() && shape(b) != own)
                            || (right.is_number() && shape(a) != own)
                        {
                            return;
                        }
                        let mut partial = Vec::new();
                        left.extend(egraph, a, so_far.clone(), &mut partial);
                        for next in partial {
                            right.extend(egraph, b, next, found);
                        }
                    };
                    both(a, b);
                    if commutes(*f) && a != b {
                        both(b, a);
                    }
                }
            }
            Pattern::Named { variant, bind, operands, .. } => {
                for node in &egraph[class].nodes {
                    if node.op.variant() != *variant {
                        continue;
                    }
                    let mut next = so_far.clone();
                    next.ops.push((bind.clone(), node.op));
                    let Some(operands) = operands else {
                        next.operands.push((bind.clone(), node.children().to_vec()));
                        found.push(next);
                        continue;
                    };
                    if node.children().len() != operands.len() {
                        continue;
                    }
                    let mut partial = vec![next];
                    for (operand, &child) in operands.iter().zip(node.children()) {
                        let mut further = Vec::new();
                        for one in partial {
                            operand.extend(egraph, child, one, &mut further);
                        }
                        partial = further;
                    }
                    found.extend(partial);
                }
            }
        }
    }

    /// Whether it stands for a constant whose elements are all one number.
    fn is_number(&self) -> bool {
        matches!(self, Pattern::Scalar(_) | Pattern::Number(_))
    }

    /// The name of the root operation, for finding classes that can match at all.
    pub fn root(&self) -> Option<&'static str> {
        match self {
            Pattern::Binary(..) => Some("Binary"),
            Pattern::Unary(..) => Some("Unary"),
            Pattern::Named { op, .. } => Some(op),
            Pattern::Any(all) => {
                let first = all.first()?.root()?;
                all.iter().all(|one| one.root() == Some(first)).then_some(first)
            }
            _ => None,
        }
    }

    /// Reads the text form; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut position = 0;
        let pattern = parse(&tokens, &mut position).map_err(|e| format!("`{text}`: {e}"))?;
        if position != tokens.len() {
            return Err(format!("`{text}`: text after the pattern"));
        }
        Ok(pattern)
    }
}

pub(super) fn commutes(f: BinaryFn) -> bool {
    use BinaryFn::*;
    matches!(f, Add | Mul | Min | Max | And | Or | Xor | BitAnd | BitOr | BitXor | Equal)
}

fn parse(tokens: &[&str], position: &mut usize) -> Result<Pattern, String> {
    let token = *tokens.get(*position).ok_or("the pattern ends early")?;
    *position += 1;
    if token != "(" {
        return leaf(token);
    }
    let head = *tokens.get(*position).ok_or("an operation is missing")?;
    *position += 1;
    if tokens.get(*position) == Some(&"...") && tokens.get(*position + 1) == Some(&")") {
        *position += 2;
        return named(head, None);
    }
    let mut operands = Vec::new();
    while *tokens.get(*position).ok_or("`)` is missing")? != ")" {
        operands.push(parse(tokens, position)?);
    }
    *position += 1;
    if head.contains('@') {
        return named(head, Some(operands));
    }
    let is = |debug: String| debug.to_lowercase() == head;
    let pair = |operands: Vec<Pattern>| {
        <[Pattern; 2]>::try_from(operands).map_err(|_| format!("`{head}` takes two operands"))
    };
    if head == "or" {
        return Ok(Pattern::Any(operands));
    }
    if let Some(f) = BinaryFn::ALL.into_iter().find(|f| is(format!("{f:?}"))) {
        return Ok(Pattern::Binary(f, Box::new(pair(operands)?)));
    }
    if let Some(f) = UnaryFn::ALL.into_iter().find(|f| is(format!("{f:?}"))) {
        let [operand] = <[Pattern; 1]>::try_from(operands)
            .map_err(|_| format!("`{head}` takes one operand"))?;
        return Ok(Pattern::Unary(f, Box::new(operand)));
    }
    Err(format!("no function `{head}`"))
}

fn named(head: &str, operands: Option<Vec<Pattern>>) -> Result<Pattern, String> {
    let (name, bind) = head.split_once('@').ok_or_else(|| format!("`{head}` has no name"))?;
    let known = Op::NAMES.iter().find(|known| **known == name);
    let op = *known.ok_or_else(|| format!("no operation `{name}`"))?;
    Ok(Pattern::Named { op, variant: variant_of(op), bind: bind.into(), operands })
}

fn leaf(token: &str) -> Result<Pattern, String> {
    if let Some(name) = token.strip_prefix('?') {
        let (name, constant) = match name.strip_suffix(":const") {
            Some(name) => (name, true),
            None => (name, false),
        };
        return Ok(Pattern::Class { name: name.into(), constant });
    }
    if let Some(name) = token.strip_prefix('#') {
        return Ok(Pattern::Scalar(name.into()));
    }
    token.parse().map(Pattern::Number).map_err(|_| format!("`{token}` is not a pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_patterns_say_what_is_wrong() {
        for (text, expected) in [
            ("(mul ?x", "is missing"),
            ("(mul ?x)", "two operands"),
            ("(frobnicate ?x)", "no function"),
            ("(Frobnicate@f ?x)", "no operation"),
            ("?x ?y", "after the pattern"),
            ("x", "not a pattern"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
