//! The outputs of a graph: their names, and the types that the model declares for them.
//!
//! Invariant: an output has the element type that is declared, if one is. Declared sizes are often
//! out of date and bind nobody.

use super::Importer;
use super::build::V;
use super::fault::Fault;
use super::form::Form;
use crate::proto::{TypeProto, ValueInfoProto, type_proto};
use crate::report::{ProblemKind, Site};
use crate::resolve::Body;
use std::collections::HashSet;

impl<'m> Importer<'m> {
    pub(super) fn outputs(&mut self, body: &Body<'m>) {
        let mut names = HashSet::new();
        for (id, info) in &body.outputs {
            let fault = if names.insert(info.name()) {
                self.value(*id).and_then(|v| self.output(v, info).err())
            } else {
                Some(Fault::Problem {
                    kind: ProblemKind::Malformed,
                    message: "the graph has another output of that name".to_owned(),
                    help: "rename one".to_owned(),
                })
            };
            if let Some(Fault::Problem { kind, message, help }) = fault {
                let site = Site { node: format!("output `{}`", info.name()), ..Site::default() };
                self.problem(site, kind, message, help);
            }
        }
    }

    fn output(&mut self, v: V, info: &ValueInfoProto) -> Result<(), Fault> {
        let ty = self.build.ty(v);
        // A model need not say what its outputs are.
        let told = |ty: &&TypeProto| match &ty.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type() != 0,
            value => value.is_some(),
        };
        if let Some(declared) = info.r#type.as_ref().filter(told) {
            let dtype = Form::declared(declared)?.dtype();
            if dtype != ty.dtype {
                return Err(Fault::malformed(format!("it is declared {dtype}, but is {ty}")));
            }
        }
        self.build.output(v, info.name())
    }
}
