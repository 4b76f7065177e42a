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
    /// The shape under `values`; symbols that have no value yet get `default` and are entered.
    pub fn sizes(
        &self,
        values: &mut SymbolValues,
        default: i64,
    ) -> Result<Vec<usize>, DimError> {
        let mut symbols = BTreeSet::new();
        self.shape.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
        for symbol in symbols {
            values.entry(symbol).or_insert(default);
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
