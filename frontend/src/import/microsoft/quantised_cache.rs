//! Caches of keys and values that are rounded to 8 bits.
//!
//! Invariant: what is attended to is what the cache holds, new keys and values included.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::quantisation::{Quantized, dequantized, quantized};
use crate::import::build::V;
use kiln_tensor::{DType, Dim};

/// The quanta of a cache: one, or one for each number of a key, `[1, heads, 1, size]`.
#[derive(Clone, Copy)]
pub(super) struct Quanta(V);

/// The quanta of keys and of values, where they are rounded; both are `[batch, heads, …, size]`.
pub(super) fn quanta(x: &mut Use<'_, '_, '_>, new: [V; 2]) -> Result<[Option<Quanta>; 2], Fault> {
    let mut found = [None; 2];
    for (number, name) in [(0, "k_quant_type"), (1, "v_quant_type")] {
        let (scale, kind) = (x.optional(12 + number), x.string_or(name, "NONE")?);
        let shape = match (kind, &x.shape(new[number])[..]) {
            ("NONE", _) if scale.is_none() => continue,
            ("PER_TENSOR", _) => Vec::new(),
            ("PER_CHANNEL", [_, heads, _, size]) => {
                vec![Dim::from(1i64), heads.clone(), Dim::from(1i64), size.clone()]
            }
            (other, _) => {
                let message = format!("{name} `{other}` is not one that a scale has");
                return Err(Fault::malformed(message));
            }
        };
        let bits = x.int_or("kv_cache_bit_width", 8)?;
        if bits != 8 {
            let help = "export the cache in floating point or in 8 bits";
            return Err(Fault::unsupported(format!("a cache of {bits} bits"), help));
        }
        let scale = x.input(12 + number)?;
        found[number] = Some(Quanta(x.reshape(scale, shape)?));
    }
    Ok(found)
}

impl Quanta {
    /// As the cache holds it.
    pub(super) fn rounded(self, x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
        quantized(x, v, self.0, Quantized::to(DType::I8, None))
    }

    /// As it is attended to.
    pub(super) fn read(self, x: &mut Use<'_, '_, '_>, v: V) -> Result<V, Fault> {
        dequantized(x, v, self.0, None, DType::F32)
    }
}
