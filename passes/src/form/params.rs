//! Size parameters: symbols of the graph become parameters of the kernel, numbered by their place.
//!
//! Invariant: the kernel with its parameters replaced by what they stand for is the kernel that came
//! in; which names the graph uses does not show in it.

use kiln_ir::kernel::{Access, Index, Kernel, ScalarOp, ScalarProgram};
use kiln_tensor::{Atom, Bounds, Dim, Symbol, SymbolTable};
use std::collections::{BTreeMap, BTreeSet};

/// The kernel over parameters `p0`, `p1`, …, and what each stands for, in the order of their names.
pub(super) fn localise(mut kernel: Kernel) -> (Kernel, Vec<Dim>) {
    let mut renaming = Renaming::default();
    for shape in kernel.operands.iter().map(|operand| &operand.shape) {
        shape.iter().for_each(|dim| renaming.name_quotient(dim));
    }
    let mut used = BTreeSet::new();
    for_each_dim(&mut kernel, &mut |dim| {
        *dim = renaming.replaced(dim);
        renaming.collect(dim, &mut used);
    });
    // In order of first use, so that the numbering says nothing but places.
    let order = renaming.order;
    let mut names: BTreeMap<Symbol, Symbol> = BTreeMap::new();
    let mut params: BTreeMap<Symbol, Dim> = BTreeMap::new();
    let mut table = SymbolTable::new();
    for (number, symbol) in order.iter().filter(|symbol| used.contains(*symbol)).enumerate() {
        let name = Symbol::new(&format!("p{number}"));
        let meaning =
            renaming.meanings.get(symbol).cloned().unwrap_or_else(|| Dim::symbol(symbol.clone()));
        let bounds = meaning.bounds(&kernel.symbols);
        // Nothing is known below the least size.
        table.insert(name.clone(), Bounds { min: bounds.min.max(0), ..bounds });
        params.insert(name.clone(), meaning);
        names.insert(symbol.clone(), name);
    }
    let renamed = |symbol: &Symbol| names.get(symbol).cloned().map(Dim::symbol);
    for_each_dim(&mut kernel, &mut |dim| *dim = dim.substitute(&renamed));
    kernel.symbols = table;
    (kernel, params.into_values().collect())
}

#[derive(Default)]
struct Renaming {
    /// Quotients, minima and maxima that are parameters of their own, under fresh symbols.
    quotients: Vec<(Atom, Symbol)>,
    meanings: BTreeMap<Symbol, Dim>,
    /// Symbols in order of first use.
    order: Vec<Symbol>,
}

impl Renaming {
    /// Makes the quotient in a size like `⌊(h − 1)/2⌋ + 1` a parameter, unless it is one.
    fn name_quotient(&mut self, dim: &Dim) {
        let replaced = self.replaced(dim);
        for (monomial, _) in replaced.terms() {
            for atom in monomial {
                if matches!(atom, Atom::Symbol(_)) {
                    continue;
                }
                if self.quotients.iter().any(|(other, _)| other == atom) {
                    continue;
                }
                // A name that no graph has: text forms of symbols start with a letter or `_`.
                let symbol = Symbol::new(&format!("_quotient.{}", self.quotients.len()));
                let meaning = self.expanded(&of_atom(atom));
                self.meanings.insert(symbol.clone(), meaning);
                self.quotients.push((atom.clone(), symbol));
            }
        }
    }

    fn expanded(&self, dim: &Dim) -> Dim {
        dim.substitute(&|symbol: &Symbol| self.meanings.get(symbol).cloned())
    }

    /// The expression with quotients that are parameters replaced.
    fn replaced(&self, dim: &Dim) -> Dim {
        let mut sum = Dim::default();
        for (monomial, coefficient) in dim.terms() {
            let mut product = Dim::from(*coefficient);
            for atom in monomial {
                let known = self.quotients.iter().find(|(other, _)| other == atom);
                let factor = match (known, atom) {
                    (Some((_, symbol)), _) => Dim::symbol(symbol.clone()),
                    (None, Atom::FloorDiv(a, b)) => self.replaced(a).floor_div(&self.replaced(b)),
                    (None, Atom::Min(a, b)) => self.replaced(a).minimum(&self.replaced(b)),
                    (None, Atom::Max(a, b)) => self.replaced(a).maximum(&self.replaced(b)),
                    (None, Atom::Symbol(symbol)) => Dim::symbol(symbol.clone()),
                };
                product = product * factor;
            }
            sum = sum + product;
        }
        sum
    }

    fn collect(&mut self, dim: &Dim, used: &mut BTreeSet<Symbol>) {
        let mut symbols = BTreeSet::new();
        dim.collect_symbols(&mut symbols);
        for symbol in symbols {
            if used.insert(symbol.clone()) {
                self.order.push(symbol);
            }
        }
    }
}

fn of_atom(atom: &Atom) -> Dim {
    match atom {
        Atom::Symbol(symbol) => Dim::symbol(symbol.clone()),
        Atom::FloorDiv(a, b) => a.floor_div(b),
        Atom::Min(a, b) => a.minimum(b),
        Atom::Max(a, b) => a.maximum(b),
    }
}

/// Every dimension expression of a kernel, in a fixed order.
pub(super) fn for_each_dim(kernel: &mut Kernel, visit: &mut impl FnMut(&mut Dim)) {
    for operand in &mut kernel.operands {
        operand.shape.iter_mut().for_each(&mut *visit);
    }
    for axis in &mut kernel.outer {
        visit(&mut axis.extent);
    }
    for stage in &mut kernel.stages {
        for axis in &mut stage.axes {
            visit(&mut axis.extent);
        }
        in_program(&mut stage.body, visit);
        in_program(&mut stage.finish, visit);
        stage.writes.iter_mut().for_each(|write| in_access(&mut write.access, visit));
    }
}

fn in_program(program: &mut ScalarProgram, visit: &mut impl FnMut(&mut Dim)) {
    for (op, _) in &mut program.code {
        match op {
            ScalarOp::Dim(dim) => visit(dim),
            ScalarOp::Index(index) => in_index(index, visit),
            ScalarOp::Read { access, .. } => in_access(access, visit),
            _ => {}
        }
    }
}

fn in_access(access: &mut Access, visit: &mut impl FnMut(&mut Dim)) {
    access.index.iter_mut().for_each(|index| in_index(index, visit));
}

fn in_index(index: &mut Index, visit: &mut impl FnMut(&mut Dim)) {
    match index {
        Index::Axis(_) | Index::Scalar(_) => {}
        Index::Dim(dim) => visit(dim),
        Index::Add(a, b) => {
            in_index(a, visit);
            in_index(b, visit);
        }
        Index::Mul(a, dim) | Index::FloorDiv(a, dim) | Index::Mod(a, dim) => {
            in_index(a, visit);
            visit(dim);
        }
        Index::Clamp(a, low, high) => {
            in_index(a, visit);
            visit(low);
            visit(high);
        }
    }
}
