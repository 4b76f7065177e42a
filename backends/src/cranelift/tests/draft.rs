//! Nests written by hand, statement by statement.
//!
//! Invariant: values are numbered in the order in which they are asked for; nothing is checked, so that
//! malformed nests can be written, too.

use crate::nest::{Address, Block, Buffer, Nest, Op, Place, Stmt, Store, Type, ValueId};
use kiln_tensor::{DType, Dim, Symbol};

/// Builds nests by hand.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) types: Vec<Type>,
    pub(super) buffers: Vec<Buffer>,
    pub(super) params: Vec<Symbol>,
    pub(super) body: Block,
}

pub(super) fn draft() -> Draft {
    Draft::default()
}

impl Draft {
    /// A new value of a type, not yet defined.
    pub(super) fn value(&mut self, ty: Type) -> ValueId {
        self.types.push(ty);
        ValueId(self.types.len() as u32 - 1)
    }

    pub(super) fn op(&mut self, ty: Type, op: Op) -> ValueId {
        let value = self.value(ty);
        self.body.push(Stmt::Let(value, op));
        value
    }

    pub(super) fn index(&mut self, value: i64) -> ValueId {
        self.op(Type::INDEX, Op::Constant(value as u64))
    }

    pub(super) fn buffer(&mut self, dtype: DType, length: usize, written: bool) -> u32 {
        let number = self.buffers.len() as u32;
        self.buffers.push(Buffer {
            name: format!("b{number}"),
            dtype,
            length: Dim::from(length),
            place: Place::Bound { slot: number, written },
        });
        number
    }

    pub(super) fn load(&mut self, ty: Type, buffer: u32, start: ValueId) -> ValueId {
        let address = Address::Contiguous(start);
        self.op(ty, Op::Load { buffer, address, mask: None })
    }

    pub(super) fn store(&mut self, buffer: u32, start: ValueId, value: ValueId) {
        let address = Address::Contiguous(start);
        self.body.push(Stmt::Store(Store { buffer, address, value, mask: None }));
    }

    pub(super) fn finish(self, name: &str) -> Nest {
        Nest {
            name: name.to_owned(),
            params: self.params,
            buffers: self.buffers,
            tasks: Dim::from(1usize),
            scratch: Dim::from(256usize),
            types: self.types,
            body: self.body,
        }
    }
}
