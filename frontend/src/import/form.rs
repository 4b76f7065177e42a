//! What lists hold: the types of elements, as far as they are known.
//!
//! Invariant: a form says no more of an element than holds for every element that the list can have;
//! of a list that is certainly empty it may say anything.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use crate::proto::{TypeProto, tensor_shape_proto::dimension, type_proto};
use crate::read::element_type;
use kiln_ir::TensorType;
use kiln_tensor::{DType, Dim};

/// What an element is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// A tensor.
    Tensor {
        /// Element type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
    },
    /// A list of this type, with elements of this form.
    List(DType, Box<Form>),
    /// What a map holds instead of elements.
    Entries {
        /// Element type of the keys.
        keys: DType,
        /// Form of a value.
        of: Box<Form>,
    },
}

/// What is known of the shapes of elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// There are no elements.
    Empty,
    /// As many dimensions, some of them of sizes that are known.
    Ranked(Vec<Option<i64>>),
    /// Not even their number of dimensions.
    Open,
}

impl Form {
    /// The element type of a tensor that is, or holds, such a value.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Form::Tensor { dtype, .. } | Form::List(dtype, _) => *dtype,
            Form::Entries { .. } => DType::Map,
        }
    }

    /// The form of a list that has elements of both forms.
    pub(super) fn joined(&self, other: &Form) -> Result<Form, Fault> {
        Ok(match (self, other) {
            (Form::List(a, x), Form::List(b, y)) if a == b => {
                Form::List(*a, Box::new(x.joined(y)?))
            }
            (Form::Tensor { dtype, shape }, Form::Tensor { dtype: other, shape: with })
                if dtype == other =>
            {
                Form::Tensor { dtype: *dtype, shape: shape.joined(with) }
            }
            (Form::Entries { keys, of }, Form::Entries { keys: other, of: with })
                if keys == other =>
            {
                Form::Entries { keys: *keys, of: Box::new(of.joined(with)?) }
            }
            _ => {
                let message = "the elements of a sequence must have one element type";
                return Err(Fault::malformed(message));
            }
        })
    }

    /// The form of what a list that is certainly empty holds: where nothing is declared of a shape,
    /// any fits.
    pub(super) fn of_nothing(self) -> Form {
        match self {
            Form::Tensor { dtype, shape: Shape::Open } => {
                Form::Tensor { dtype, shape: Shape::Empty }
            }
            Form::List(dtype, of) => Form::List(dtype, Box::new(of.of_nothing())),
            known => known,
        }
    }

    /// This form with elements of as many dimensions, if there are no elements yet.
    pub(super) fn guessed(&self, rank: usize) -> Option<Form> {
        match self {
            Form::Tensor { dtype, shape: Shape::Empty } => {
                Some(Form::Tensor { dtype: *dtype, shape: Shape::Ranked(vec![None; rank]) })
            }
            _ => None,
        }
    }

    /// The form that a declared type stands for.
    pub(super) fn declared(ty: &TypeProto) -> Result<Form, Fault> {
        let nested = |ty: Option<&TypeProto>| match ty {
            Some(ty) => Form::declared(ty).map(Box::new),
            None => Err(Fault::malformed("the type of its elements is missing")),
        };
        Ok(match &ty.value {
            Some(type_proto::Value::TensorType(tensor)) => {
                let dtype = declared_type(tensor.elem_type())?;
                let size = |value: &Option<dimension::Value>| match value {
                    Some(dimension::Value::DimValue(size)) => Some(*size),
                    _ => None,
                };
                let shape = tensor.shape.as_ref().map_or(Shape::Open, |shape| {
                    Shape::Ranked(shape.dim.iter().map(|dim| size(&dim.value)).collect())
                });
                Form::Tensor { dtype, shape }
            }
            Some(type_proto::Value::SequenceType(of)) => {
                Form::List(DType::Sequence, nested(of.elem_type.as_deref())?)
            }
            Some(type_proto::Value::OptionalType(of)) => {
                Form::List(DType::Optional, nested(of.elem_type.as_deref())?)
            }
            Some(type_proto::Value::MapType(of)) => {
                let keys = declared_type(of.key_type())?;
                let of = nested(of.value_type.as_deref())?;
                Form::List(DType::Map, Box::new(Form::Entries { keys, of }))
            }
            _ => {
                return Err(Fault::unsupported(
                    "a sparse tensor is not supported",
                    "make it dense",
                ));
            }
        })
    }
}

fn declared_type(number: i32) -> Result<DType, Fault> {
    element_type(number).map_err(|error| Fault::unsupported(error.to_string(), error.help()))
}

impl Shape {
    fn joined(&self, other: &Shape) -> Shape {
        match (self, other) {
            (Shape::Empty, shape) | (shape, Shape::Empty) => shape.clone(),
            (Shape::Ranked(a), Shape::Ranked(b)) if a.len() == b.len() => {
                Shape::Ranked(a.iter().zip(b).map(|(a, b)| a.filter(|_| a == b)).collect())
            }
            _ => Shape::Open,
        }
    }
}

impl Use<'_, '_, '_> {
    /// The form of a value as an element of a list.
    pub(super) fn form(&self, v: V) -> Form {
        let ty = self.ty(v);
        match self.importer.build.elements_of(v) {
            Some(of) => Form::List(ty.dtype, Box::new(of.clone())),
            None => {
                let shape = Shape::Ranked(ty.shape.iter().map(Dim::as_const).collect());
                Form::Tensor { dtype: ty.dtype, shape }
            }
        }
    }

    /// The form of the elements of a list.
    pub(super) fn elements_form(&self, v: V) -> Result<Form, Fault> {
        let of = self.importer.build.elements_of(v).cloned();
        let ty = self.ty(v);
        of.ok_or_else(|| Fault::malformed(format!("a sequence or the like is needed, not {ty}")))
    }

    /// A list with elements of this form.
    pub(super) fn holding(&mut self, v: V, form: Form) -> V {
        self.importer.build.hold(v, form);
        v
    }

    /// The type of an element, its open sizes symbols of their own. `rank` helps where the form
    /// does not say it.
    pub(super) fn element_type_of(
        &mut self,
        form: &Form,
        rank: Option<usize>,
    ) -> Result<TensorType, Fault> {
        let (dtype, shape) = match form {
            Form::List(dtype, _) => return Ok(TensorType::new(*dtype, Vec::new())),
            Form::Tensor { dtype, shape } => (*dtype, shape),
            Form::Entries { .. } => return Err(Fault::malformed("a map has no elements")),
        };
        let sizes = match (shape, rank) {
            (Shape::Ranked(sizes), _) => sizes.clone(),
            (_, Some(rank)) => vec![None; rank],
            _ => {
                return Err(Fault::unsupported(
                    "how many dimensions the elements of the sequence have is not known",
                    "declare the shapes of its elements, with names for open sizes",
                ));
            }
        };
        let dims = sizes.into_iter().map(|size| match size {
            Some(size) => Dim::from(size),
            None => self.found("element"),
        });
        Ok(TensorType::new(dtype, dims.collect()))
    }
}
