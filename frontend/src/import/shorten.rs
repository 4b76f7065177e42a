//! Sizes that are long expressions, taken as symbols that get their values when the model runs.
//!
//! Invariant: a size is taken so only where what is made of it would be too large an expression, and
//! equal sizes are one symbol wherever that is in view. A node is imported twice then: what its first
//! import left in the graph holds as well. What bodies capture is not shortened.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::scalar::Scalar;
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_tensor::{Bounds, Dim};

impl Use<'_, '_, '_> {
    /// Takes sizes of operands, and those that operands hold, as symbols; false if all are short.
    pub(super) fn shorten(&mut self) -> Result<bool, Fault> {
        let mut shorter = false;
        for number in 0..self.inputs.len() {
            let Some(v) = self.inputs[number] else { continue };
            let short = self.shortened(v)?;
            shorter |= short != v;
            self.inputs[number] = Some(short);
        }
        Ok(shorter)
    }

    fn shortened(&mut self, v: V) -> Result<V, Fault> {
        let ty = self.ty(v).clone();
        let shape = self.symbols(&ty.shape)?;
        let Some(contents) = self.importer.build.contents(v) else { return self.assume(v, shape) };
        let dims = contents.iter().map(|scalar| scalar.as_dim().cloned());
        let Some(dims) = dims.collect::<Option<Vec<Dim>>>() else { return Ok(v) };
        let short = self.symbols(&dims)?;
        if short == dims && shape == ty.shape {
            return Ok(v);
        }
        let contents = short.into_iter().map(Scalar::whole).collect();
        Ok(self.importer.build.known(TensorType::new(ty.dtype, shape), contents))
    }

    fn symbols(&mut self, dims: &[Dim]) -> Result<Vec<Dim>, Fault> {
        dims.iter().map(|dim| self.symbol_for(dim)).collect()
    }

    /// The symbol that stands for an expression from here on; what is a number or a symbol stays so.
    fn symbol_for(&mut self, dim: &Dim) -> Result<Dim, Fault> {
        if dim.as_const().is_some() || dim.as_symbol().is_some() {
            return Ok(dim.clone());
        }
        if let Some(symbol) = self.importer.build.shortened(dim) {
            return Ok(symbol);
        }
        let size = op::SizeOf { dims: vec![dim.clone()], scalar: false };
        let size = self.importer.build.add_node(size, &[], Vec::new())?;
        let min = self.facts().lower(dim).max(i64::MIN / 2);
        let max = dim.bounds(&self.facts().symbols).max;
        let symbol = Dim::symbol(self.importer.build.fresh_symbol("size", Bounds { min, max }));
        let bind = op::Bind { symbols: vec![symbol.clone()] };
        self.importer.build.add_node(bind, &size, Vec::new())?;
        self.importer.build.remember_shortened(dim, symbol.clone());
        Ok(symbol)
    }
}
