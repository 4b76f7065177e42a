//! Types and attributes of MLIR by their text, each parsed once.
//!
//! Invariant: every text here is one that MLIR prints.

use super::EmitError;
use crate::nest::{Element, Type};
use melior::Context;
use melior::ir::attribute::IntegerAttribute;
use melior::ir::{Attribute, Type as MlirType};
use std::cell::RefCell;
use std::collections::HashMap;

/// Types and attributes of one context.
pub(super) struct Attributes<'c> {
    context: &'c Context,
    types: RefCell<HashMap<String, MlirType<'c>>>,
    attributes: RefCell<HashMap<String, Attribute<'c>>>,
}

pub(super) const fn element_name(element: Element) -> &'static str {
    match element {
        Element::Mask => "i1",
        Element::I8 => "i8",
        Element::I16 => "i16",
        Element::I32 => "i32",
        Element::I64 => "i64",
        Element::F32 => "f32",
        Element::F64 => "f64",
    }
}

/// The text of a type.
pub(super) fn type_name(ty: Type) -> String {
    match ty.lanes {
        1 => element_name(ty.element).to_owned(),
        lanes => format!("vector<{lanes}x{}>", element_name(ty.element)),
    }
}

impl<'c> Attributes<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Attributes { context, types: RefCell::default(), attributes: RefCell::default() }
    }

    pub(super) fn context(&self) -> &'c Context {
        self.context
    }

    pub(super) fn ty(&self, text: &str) -> Result<MlirType<'c>, EmitError> {
        if let Some(ty) = self.types.borrow().get(text) {
            return Ok(*ty);
        }
        let ty = MlirType::parse(self.context, text)
            .ok_or_else(|| EmitError { message: format!("type `{text}`") })?;
        self.types.borrow_mut().insert(text.to_owned(), ty);
        Ok(ty)
    }

    pub(super) fn of(&self, ty: Type) -> Result<MlirType<'c>, EmitError> {
        self.ty(&type_name(ty))
    }

    pub(super) fn attribute(&self, text: &str) -> Result<Attribute<'c>, EmitError> {
        if let Some(attribute) = self.attributes.borrow().get(text) {
            return Ok(*attribute);
        }
        let attribute = Attribute::parse(self.context, text)
            .ok_or_else(|| EmitError { message: format!("attribute `{text}`") })?;
        self.attributes.borrow_mut().insert(text.to_owned(), attribute);
        Ok(attribute)
    }

    /// A scalar constant by its bits.
    pub(super) fn constant(&self, bits: u64, element: Element) -> Result<Attribute<'c>, EmitError> {
        match element {
            Element::F32 | Element::F64 => {
                let digits = element.bits() as usize / 4;
                self.attribute(&format!("0x{bits:0digits$X} : {}", element_name(element)))
            }
            Element::Mask => self.attribute(if bits & 1 == 1 { "true" } else { "false" }),
            _ => {
                let shift = 64 - element.bits();
                let value = ((bits << shift) as i64) >> shift;
                let ty = self.of(Type::new(element, 1))?;
                Ok(IntegerAttribute::new(ty, value).into())
            }
        }
    }
}
