//! Builds a nest statement by statement: scopes, value numbering, hoisting and index folding.
//!
//! Invariant: a pure operation is computed once, in the outermost block where all its operands are
//! known; memory is read and written where it was asked for, in that order.

use super::{
    Address, BinaryOp, Block, Capabilities, Carried, Chosen, Element, For, If, Op, Predicate, Stmt,
    Type, ValueId,
};
use kiln_tensor::{Atom, Bounds, DType, Dim, Symbol, SymbolTable};
use std::collections::HashMap;

/// Builds the body of a nest.
pub(super) struct Builder<'a> {
    pub(super) capabilities: Capabilities,
    symbols: &'a SymbolTable,
    params: HashMap<Symbol, u32>,
    values: Vec<Facts>,
    scopes: Vec<Scope>,
    dims: HashMap<Dim, ValueId>,
    /// The bits that halves in registers were made of.
    halves: HashMap<(ValueId, DType), ValueId>,
    /// For each buffer the elements, if any, by which reads of vectors are announced before.
    ahead: Vec<i64>,
    undeclared: Option<Symbol>,
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Facts {
    ty: Type,
    /// Number of the scope that defines it.
    depth: usize,
    /// For scalar i64: its value, if it is known.
    constant: Option<i64>,
    /// For scalar i64: a number that divides it; 0 only if it is 0.
    divisor: i64,
    /// For scalar i64: an interval that holds it.
    bounds: Bounds,
}

#[derive(Default)]
struct Scope {
    block: Block,
    pure: HashMap<(Op, Type), ValueId>,
    loads: HashMap<(Op, Type), ValueId>,
}

/// A loop whose body is being built.
pub(super) struct OpenFor {
    variable: ValueId,
    from: ValueId,
    to: ValueId,
    step: i64,
    /// Initial values and their names inside.
    carried: Vec<(ValueId, ValueId)>,
}

impl OpenFor {
    pub(super) fn variable(&self) -> ValueId {
        self.variable
    }

    pub(super) fn inside(&self) -> Vec<ValueId> {
        self.carried.iter().map(|(_, inside)| *inside).collect()
    }
}

const ANY: Bounds = Bounds { min: i64::MIN, max: None };

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

impl<'a> Builder<'a> {
    pub(super) fn new(symbols: &'a SymbolTable, capabilities: Capabilities) -> Self {
        let params =
            symbols.keys().enumerate().map(|(number, symbol)| (symbol.clone(), number as u32));
        Builder {
            capabilities,
            symbols,
            params: params.collect(),
            values: Vec::new(),
            scopes: vec![Scope::default()],
            dims: HashMap::new(),
            halves: HashMap::new(),
            ahead: Vec::new(),
            undeclared: None,
        }
    }

    /// Says by how many elements reads of each buffer are announced before.
    pub(super) fn announce(&mut self, ahead: Vec<i64>) {
        if self.capabilities.prefetch {
            self.ahead = ahead;
        }
    }

    /// A symbol that was used and is not declared.
    pub(super) fn undeclared(&self) -> Option<&Symbol> {
        self.undeclared.as_ref()
    }

    /// Remembers the bits of a half whose value in single precision this is.
    pub(super) fn remember_bits(&mut self, value: ValueId, dtype: DType, bits: ValueId) {
        self.halves.insert((value, dtype), bits);
    }

    /// The bits that were remembered: a half that is only moved keeps them all, and is not computed.
    pub(super) fn remembered_bits(&self, value: ValueId, dtype: DType) -> Option<ValueId> {
        self.halves.get(&(value, dtype)).copied()
    }

    /// Tells that an index is never negative.
    pub(super) fn assume_not_negative(&mut self, value: ValueId) {
        let bounds = &mut self.values[value.0 as usize].bounds;
        bounds.min = bounds.min.max(0);
    }

    /// The types of all values, and the finished body.
    pub(super) fn finish(mut self) -> (Vec<Type>, Block) {
        let body = self.scopes.pop().map(|scope| scope.block).unwrap_or_default();
        (self.values.iter().map(|facts| facts.ty).collect(), body)
    }

    fn facts(&self, value: ValueId) -> Facts {
        self.values[value.0 as usize]
    }

    pub(super) fn ty(&self, value: ValueId) -> Type {
        self.facts(value).ty
    }

    /// Number of the scope that defines a value: 0 for the function's own.
    pub(super) fn depth(&self, value: ValueId) -> usize {
        self.facts(value).depth
    }

    pub(super) fn as_const(&self, value: ValueId) -> Option<i64> {
        self.facts(value).constant
    }

    /// A number that is known to divide an index; 0 if the index is 0.
    pub(super) fn divisor(&self, value: ValueId) -> i64 {
        self.facts(value).divisor
    }

    fn fresh(&mut self, facts: Facts) -> ValueId {
        self.values.push(facts);
        ValueId(self.values.len() as u32 - 1)
    }

    fn define(&mut self, depth: usize, ty: Type) -> ValueId {
        self.fresh(Facts { ty, depth, constant: None, divisor: 1, bounds: ANY })
    }

    /// A pure operation.
    pub(super) fn pure(&mut self, op: Op, ty: Type) -> ValueId {
        let depth = op.operands().into_iter().map(|value| self.depth(value)).max().unwrap_or(0);
        let key = (op, ty);
        if let Some(value) = self.scopes[depth].pure.get(&key) {
            return *value;
        }
        let value = self.define(depth, ty);
        self.scopes[depth].block.push(Stmt::Let(value, key.0.clone()));
        self.scopes[depth].pure.insert(key, value);
        value
    }

    /// Reads memory; an equal read in the same block, with no write in between, is used again.
    pub(super) fn load(
        &mut self,
        buffer: u32,
        address: Address,
        mask: Option<ValueId>,
        ty: Type,
    ) -> ValueId {
        let depth = self.scopes.len() - 1;
        let key = (Op::Load { buffer, address, mask }, ty);
        if let Some(value) = self.scopes[depth].loads.get(&key) {
            return *value;
        }
        let ahead = self.ahead.get(buffer as usize).copied().unwrap_or(0);
        if let (Address::Contiguous(start), true, true) = (address, ahead > 0, ty.lanes > 1) {
            let ahead = self.index(ahead);
            let place = self.add(start, ahead);
            self.scopes[depth].block.push(Stmt::Prefetch { buffer, element: ty.element, place });
        }
        let value = self.define(depth, ty);
        self.scopes[depth].block.push(Stmt::Let(value, key.0.clone()));
        self.scopes[depth].loads.insert(key, value);
        value
    }

    pub(super) fn store(
        &mut self,
        buffer: u32,
        address: Address,
        value: ValueId,
        mask: Option<ValueId>,
    ) {
        for scope in &mut self.scopes {
            scope.loads.clear();
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.block.push(Stmt::Store(super::Store { buffer, address, value, mask }));
        }
    }

    /// A store, if a scalar mask holds where one is given.
    pub(super) fn store_if(
        &mut self,
        condition: Option<ValueId>,
        buffer: u32,
        address: Address,
        value: ValueId,
        mask: Option<ValueId>,
    ) {
        self.store(buffer, address, value, mask);
        let block = self.scopes.last_mut().map(|scope| &mut scope.block);
        if let (Some(condition), Some(block)) = (condition, block)
            && let Some(store) = block.pop()
        {
            let (then, otherwise, chosen) = (vec![store], Vec::new(), Vec::new());
            block.push(Stmt::If(Box::new(If { condition, then, otherwise, chosen })));
        }
    }

    /// What one of two versions computes, by a scalar mask; `build` is told which one it builds, and both
    /// give as many values of the same types.
    pub(super) fn either<E>(
        &mut self,
        condition: ValueId,
        mut build: impl FnMut(bool, &mut Self) -> Result<Vec<ValueId>, E>,
    ) -> Result<Vec<ValueId>, E> {
        let mut version = |which: bool, this: &mut Self| {
            this.scopes.push(Scope::default());
            let values = build(which, this);
            let block = this.scopes.pop().map(|scope| scope.block).unwrap_or_default();
            Ok((block, values?))
        };
        let (then, yes) = version(true, self)?;
        let (otherwise, no) = version(false, self)?;
        let depth = self.scopes.len() - 1;
        let chosen: Vec<Chosen> = yes
            .into_iter()
            .zip(no)
            .map(|(then, otherwise)| {
                let result = self.define(depth, self.ty(then));
                Chosen { then, otherwise, result }
            })
            .collect();
        let results = chosen.iter().map(|chosen| chosen.result).collect();
        let branch = If { condition, then, otherwise, chosen };
        self.scopes[depth].block.push(Stmt::If(Box::new(branch)));
        self.scopes[depth].loads.clear();
        Ok(results)
    }

    /// Opens a loop; what is built next stands in its body.
    pub(super) fn open_for(
        &mut self,
        from: ValueId,
        to: ValueId,
        step: i64,
        initial: &[ValueId],
    ) -> OpenFor {
        let depth = self.scopes.len();
        self.scopes.push(Scope::default());
        let low = self.facts(from).bounds.min;
        let high = self.facts(to).bounds.max.map(|max| max.saturating_sub(1));
        let variable = self.fresh(Facts {
            ty: Type::INDEX,
            depth,
            constant: None,
            divisor: gcd(self.divisor(from), step),
            bounds: Bounds { min: low, max: high },
        });
        let carried =
            initial.iter().map(|value| (*value, self.define(depth, self.ty(*value)))).collect();
        OpenFor { variable, from, to, step, carried }
    }

    /// Closes the innermost loop and gives the values that its last iteration handed on.
    pub(super) fn close_for(&mut self, open: OpenFor, next: &[ValueId]) -> Vec<ValueId> {
        let body = self.scopes.pop().map(|scope| scope.block).unwrap_or_default();
        let depth = self.scopes.len() - 1;
        let carried: Vec<Carried> = open
            .carried
            .iter()
            .zip(next)
            .map(|(&(initial, inside), &next)| {
                let result = self.define(depth, self.ty(initial));
                Carried { initial, inside, next, result }
            })
            .collect();
        let results = carried.iter().map(|carried| carried.result).collect();
        let OpenFor { variable, from, to, step, .. } = open;
        let statement = For { variable, from, to, step, carried, body };
        self.scopes[depth].block.push(Stmt::For(Box::new(statement)));
        self.scopes[depth].loads.clear();
        results
    }

    // Indices: scalar i64 with folding.

    pub(super) fn index(&mut self, value: i64) -> ValueId {
        let id = self.pure(Op::Constant(value as u64), Type::INDEX);
        let facts = &mut self.values[id.0 as usize];
        facts.constant = Some(value);
        facts.divisor = value;
        facts.bounds = Bounds::exactly(value);
        id
    }

    pub(super) fn task_bounds(&mut self) -> (ValueId, ValueId) {
        let begin = self.pure(Op::Begin, Type::INDEX);
        let end = self.pure(Op::End, Type::INDEX);
        self.values[begin.0 as usize].bounds = Bounds::default();
        (begin, end)
    }

    fn index_binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.pure(Op::Binary(op, a, b), Type::INDEX)
    }

    fn learn(&mut self, value: ValueId, divisor: i64, bounds: Bounds) -> ValueId {
        let facts = &mut self.values[value.0 as usize];
        facts.divisor = divisor.max(1);
        facts.bounds = bounds;
        value
    }

    pub(super) fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (Some(0), _) => return b,
            (_, Some(0)) => return a,
            (Some(x), Some(y)) => return self.index(x.wrapping_add(y)),
            _ => {}
        }
        let (x, y) = (self.facts(a), self.facts(b));
        let sum = self.index_binary(BinaryOp::Add, a, b);
        let max = x.bounds.max.zip(y.bounds.max).and_then(|(x, y)| x.checked_add(y));
        let min = x.bounds.min.saturating_add(y.bounds.min);
        self.learn(sum, gcd(x.divisor, y.divisor), Bounds { min, max })
    }

    pub(super) fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (_, Some(0)) => return a,
            (Some(x), Some(y)) => return self.index(x.wrapping_sub(y)),
            _ if a == b => return self.index(0),
            _ => {}
        }
        let (x, y) = (self.facts(a), self.facts(b));
        let difference = self.index_binary(BinaryOp::Sub, a, b);
        let min = y.bounds.max.map_or(i64::MIN, |max| x.bounds.min.saturating_sub(max));
        let max = x.bounds.max.and_then(|max| max.checked_sub(y.bounds.min));
        self.learn(difference, gcd(x.divisor, y.divisor), Bounds { min, max })
    }

    pub(super) fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (Some(0), _) | (_, Some(0)) => return self.index(0),
            (Some(1), _) => return b,
            (_, Some(1)) => return a,
            (Some(x), Some(y)) => return self.index(x.wrapping_mul(y)),
            _ => {}
        }
        let (x, y) = (self.facts(a), self.facts(b));
        let product = self.index_binary(BinaryOp::Mul, a, b);
        let bounds = if x.bounds.min >= 0 && y.bounds.min >= 0 {
            let max = x.bounds.max.zip(y.bounds.max).and_then(|(x, y)| x.checked_mul(y));
            Bounds { min: x.bounds.min.saturating_mul(y.bounds.min), max }
        } else {
            ANY
        };
        self.learn(product, x.divisor.checked_mul(y.divisor).unwrap_or(1), bounds)
    }

    pub(super) fn min(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (Some(x), Some(y)) => return self.index(x.min(y)),
            _ if a == b => return a,
            _ => {}
        }
        let (x, y) = (self.facts(a), self.facts(b));
        let least = self.index_binary(BinaryOp::MinSigned, a, b);
        let max = [x.bounds.max, y.bounds.max].into_iter().flatten().min();
        self.learn(
            least,
            gcd(x.divisor, y.divisor),
            Bounds { min: x.bounds.min.min(y.bounds.min), max },
        )
    }

    pub(super) fn max(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (Some(x), Some(y)) => return self.index(x.max(y)),
            _ if a == b => return a,
            _ => {}
        }
        let (x, y) = (self.facts(a), self.facts(b));
        let most = self.index_binary(BinaryOp::MaxSigned, a, b);
        let max = x.bounds.max.zip(y.bounds.max).map(|(x, y)| x.max(y));
        self.learn(
            most,
            gcd(x.divisor, y.divisor),
            Bounds { min: x.bounds.min.max(y.bounds.min), max },
        )
    }

    /// The quotient rounded down, for a divisor that is positive wherever the result is used; it
    /// is never divided by zero.
    pub(super) fn floor_div(&mut self, a: ValueId, b: ValueId) -> ValueId {
        match (self.as_const(a), self.as_const(b)) {
            (Some(0), _) => return a,
            (_, Some(1)) => return a,
            (Some(x), Some(y)) if y > 0 => return self.index(x.div_euclid(y)),
            _ => {}
        }
        let one = self.index(1);
        let b = if self.facts(b).bounds.min >= 1 { b } else { self.max(b, one) };
        let (x, y) = (self.facts(a), self.facts(b));
        if x.bounds.min >= 0 {
            let quotient = self.index_binary(BinaryOp::DivUnsigned, a, b);
            let divisor = y.constant.filter(|c| x.divisor % c == 0).map_or(1, |c| x.divisor / c);
            let max = x.bounds.max.map(|max| max / y.bounds.min.max(1));
            return self.learn(quotient, divisor, Bounds { min: 0, max });
        }
        // Truncating division differs from flooring where the numerator is negative and the
        // division is not exact: shift such numerators down by b − 1 first.
        let zero = self.index(0);
        let negative =
            self.pure(Op::Compare(Predicate::Less, a, zero), Type::new(Element::Mask, 1));
        let less = self.sub(b, one);
        let shifted = self.index_binary(BinaryOp::Sub, a, less);
        let numerator = self.pure(Op::Select(negative, shifted, a), Type::INDEX);
        self.index_binary(BinaryOp::DivSigned, numerator, b)
    }

    /// The remainder of [`Builder::floor_div`].
    pub(super) fn floor_mod(&mut self, a: ValueId, b: ValueId) -> ValueId {
        if let Some(y) = self.as_const(b).filter(|&y| y > 0) {
            if let Some(x) = self.as_const(a) {
                return self.index(x.rem_euclid(y));
            }
            if self.divisor(a) % y == 0 {
                return self.index(0);
            }
        }
        let quotient = self.floor_div(a, b);
        let whole = self.mul(quotient, b);
        let remainder = self.sub(a, whole);
        let max = self.facts(b).bounds.max.map(|max| max.saturating_sub(1));
        let divisor = self.divisor(remainder);
        self.learn(remainder, divisor, Bounds { min: 0, max })
    }

    /// The value of a dimension expression.
    pub(super) fn dim(&mut self, dim: &Dim) -> ValueId {
        if let Some(value) = dim.as_const() {
            return self.index(value);
        }
        if let Some(value) = self.dims.get(dim) {
            return *value;
        }
        let mut sum = self.index(0);
        for (monomial, coefficient) in dim.terms() {
            let mut product = self.index(*coefficient);
            for atom in monomial {
                let factor = self.atom(atom);
                product = self.mul(product, factor);
            }
            sum = self.add(sum, product);
        }
        let bounds = dim.bounds(self.symbols);
        let divisor = self.divisor(sum);
        if self.as_const(sum).is_none() {
            self.learn(sum, divisor, bounds);
        }
        self.dims.insert(dim.clone(), sum);
        sum
    }

    fn atom(&mut self, atom: &Atom) -> ValueId {
        match atom {
            Atom::Symbol(symbol) => {
                let Some(&number) = self.params.get(symbol) else {
                    self.undeclared = Some(symbol.clone());
                    return self.index(0);
                };
                let value = self.pure(Op::Param(number), Type::INDEX);
                let bounds = self.symbols.get(symbol).copied().unwrap_or_default();
                self.learn(value, 1, bounds)
            }
            Atom::FloorDiv(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                self.floor_div(a, b)
            }
            Atom::Min(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                self.min(a, b)
            }
            Atom::Max(a, b) => {
                let (a, b) = (self.dim(a), self.dim(b));
                self.max(a, b)
            }
        }
    }
}
