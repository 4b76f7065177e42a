//! What a model says of its inputs and outputs.
//!
//! Invariant: nothing here can be wrong at run time that was right when the model was compiled.

use kiln_tensor::{DType, Dim, DimError, SymbolValues};
use std::collections::BTreeSet;
use std::fmt;

/// Name, element type and shape of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape; symbolic dimensions are bound when the model runs.
    pub shape: Vec<Dim>,
}

impl TensorInfo {
    /// Enters the values that these sizes give the symbols which have none yet. Sizes that do not
    /// fit are left for the run to refuse.
    pub fn observe(&self, sizes: &[usize], values: &mut SymbolValues) {
        for (dim, &size) in self.shape.iter().zip(sizes) {
            if let (Some(symbol), Ok(size)) = (dim.as_symbol(), i64::try_from(size)) {
                values.entry(symbol.clone()).or_insert(size);
            }
        }
    }

    /// The shape under `values`; symbols that have no value yet get the default of the first axis
    /// in which they occur, and are entered.
    pub fn sizes(
        &self,
        values: &mut SymbolValues,
        default: impl Fn(usize) -> i64,
    ) -> Result<Vec<usize>, DimError> {
        for (axis, dim) in self.shape.iter().enumerate() {
            let mut symbols = BTreeSet::new();
            dim.collect_symbols(&mut symbols);
            for symbol in symbols {
                values.entry(symbol).or_insert_with(|| default(axis));
            }
        }
        self.shape
            .iter()
            .map(|dim| {
                let size = dim.evaluate(values)?;
                usize::try_from(size).map_err(|_| DimError::Overflow(dim.to_string()))
            })
            .collect()
    }
}

/// `images: f32[batch, 3, 224, 224]`
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[", self.name, self.dtype)?;
        for (index, dim) in self.shape.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}
