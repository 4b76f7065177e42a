//! The model's inputs: element types, and a symbol for each dimension that is left open.
//!
//! Invariant: two dimensions share a symbol exactly if the model gives them one name, and every
//! size that the caller gives is used.

use super::fault::Fault;
use super::form::Form;
use super::{ImportOptions, Importer};
use crate::proto::{ValueInfoProto, tensor_shape_proto::dimension, type_proto};
use crate::read::element_type;
use crate::report::{ProblemKind, Site};
use crate::resolve::Body;
use kiln_ir::TensorType;
use kiln_tensor::{Bounds, Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};

/// Dimensions that the model leaves open.
#[derive(Default)]
struct Open {
    /// The symbol of each name in the model.
    named: BTreeMap<String, Symbol>,
    /// Names by which sizes were given and used.
    used: BTreeSet<String>,
    /// Names by which sizes can be given.
    names: BTreeSet<String>,
}

impl<'m> Importer<'m> {
    /// Makes the inputs of the main graph.
    pub(super) fn inputs(&mut self, body: &Body<'m>, options: &ImportOptions) {
        let mut open = Open::default();
        for (id, info) in &body.inputs {
            let site = Site { node: format!("input `{}`", info.name()), ..Site::default() };
            let v = match self.input_type(info, options, &mut open) {
                Ok((ty, form)) => match self.build.graph_input(info.name(), ty) {
                    Ok(v) => {
                        if let Some(form) = form {
                            self.build.hold(v, form);
                        }
                        Some(v)
                    }
                    Err(Fault::Problem { kind, message, help }) => {
                        self.problem(site, kind, message, help);
                        None
                    }
                    Err(Fault::Silent) => None,
                },
                Err((kind, message, help)) => {
                    self.problem(site, kind, message, help);
                    None
                }
            };
            self.define(*id, v);
        }
        for name in options.dims.keys().filter(|name| !open.used.contains(*name)) {
            let site = Site { node: format!("option --dim {name}"), ..Site::default() };
            let message = format!("the model has no open dimension `{name}`");
            let names: Vec<String> = open.names.iter().cloned().collect();
            let help = match names.as_slice() {
                [] => "every dimension of its inputs is fixed already".to_owned(),
                names => format!("its open dimensions are {}", names.join(", ")),
            };
            self.problem(site, ProblemKind::Option, message, help);
        }
    }

    fn input_type(
        &mut self,
        info: &ValueInfoProto,
        options: &ImportOptions,
        open: &mut Open,
    ) -> Result<(TensorType, Option<Form>), (ProblemKind, String, String)> {
        let value = info.r#type.as_ref().and_then(|ty| ty.value.as_ref());
        let tensor = match value {
            Some(type_proto::Value::TensorType(tensor)) => tensor,
            Some(_) => {
                let declared = info.r#type.as_ref().map(Form::declared);
                return match declared {
                    Some(Ok(Form::List(dtype, of))) => {
                        Ok((TensorType::new(dtype, Vec::new()), Some(*of)))
                    }
                    Some(Err(Fault::Problem { kind, message, help })) => Err((kind, message, help)),
                    _ => {
                        let message = "its type is not supported".to_owned();
                        let help = "use a tensor, sequence, optional or map".to_owned();
                        Err((ProblemKind::UnsupportedUse, message, help))
                    }
                };
            }
            None => {
                let help = "export the model again".to_owned();
                return Err((ProblemKind::Malformed, "it has no type".to_owned(), help));
            }
        };
        let dtype = element_type(tensor.elem_type())
            .map_err(|error| (ProblemKind::Tensor, error.to_string(), error.help().to_owned()))?;
        let Some(shape) = &tensor.shape else {
            let message = "it has no shape, not even a number of dimensions".to_owned();
            let help = "give it one, for example with \
                        onnx.tools.update_model_dims.update_inputs_outputs_dims"
                .to_owned();
            return Err((ProblemKind::UnsupportedUse, message, help));
        };
        let mut dims = Vec::with_capacity(shape.dim.len());
        for (axis, dim) in shape.dim.iter().enumerate() {
            let unnamed = || format!("{}_{axis}", info.name());
            dims.push(match &dim.value {
                Some(dimension::Value::DimValue(size)) if *size >= 0 => Dim::from(*size),
                Some(dimension::Value::DimParam(name)) if !matches!(name.as_str(), "" | "?") => {
                    self.open_dim(name, true, options, open)
                }
                _ => self.open_dim(&unnamed(), false, options, open),
            });
        }
        Ok((TensorType::new(dtype, dims), None))
    }

    /// A dimension that the model leaves open, under a name that other dimensions may have too
    /// if it is shared.
    fn open_dim(
        &mut self,
        name: &str,
        shared: bool,
        options: &ImportOptions,
        open: &mut Open,
    ) -> Dim {
        let known = open.named.get(name).filter(|_| shared).cloned();
        let symbol = match known {
            Some(symbol) => symbol,
            None => {
                let symbol = self.build.fresh_symbol(name, Bounds::default());
                if shared {
                    open.named.insert(name.to_owned(), symbol.clone());
                }
                open.names.insert(if shared { name.to_owned() } else { symbol.name().to_owned() });
                symbol
            }
        };
        for given in [name, symbol.name()] {
            let Some(&size) = options.dims.get(given) else { continue };
            open.used.insert(given.to_owned());
            if let Ok(size) = i64::try_from(size) {
                return Dim::from(size);
            }
        }
        Dim::symbol(symbol)
    }
}
