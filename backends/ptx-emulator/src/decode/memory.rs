//! Loads, stores, atomics and addresses (PTX ISA, Data Movement and Conversion Instructions).
//!
//! Invariant: hints to caches are taken and forgotten; what changes a value or an order is kept.

use super::integer::reduction;
use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{Atomic, Change, Load, Operation, Order, Place, Source, Store, Window};
use crate::syntax::{Operand, Type};

impl Decoder<'_, '_> {
    /// The state space that the modifiers name.
    pub fn window(&mut self) -> Option<Window> {
        self.words.pick(|w| match w {
            "global" => Some(Window::Global),
            "const" => Some(Window::Constant),
            "shared" | "shared::cta" => Some(Window::Shared),
            "shared::cluster" => Some(Window::Cluster),
            "local" => Some(Window::Local),
            "param" | "param::entry" | "param::func" => Some(Window::Parameter),
            _ => None,
        })
    }

    fn order(&mut self) -> Order {
        let order = match self
            .words
            .one_of(&["weak", "volatile", "relaxed", "acquire", "release", "acq_rel", "mmio"])
        {
            None | Some("weak") => Order::default(),
            Some("acquire") => Order { strong: true, acquire: true, release: false },
            Some("release") => Order { strong: true, acquire: false, release: true },
            Some("acq_rel") => Order { strong: true, acquire: true, release: true },
            Some(_) => Order { strong: true, ..Order::default() },
        };
        let _ = self.words.one_of(&["cta", "cluster", "gpu", "sys"]);
        order
    }

    /// Hints; true if the last operand is a cache policy.
    pub fn hints(&mut self) -> bool {
        let hint = |w: &str| {
            let known = matches!(
                w,
                "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" | "nc" | "unified" | "noftz"
            );
            (known || w.starts_with("L1::") || w.starts_with("L2::") && w != "L2::cache_hint")
                .then_some(())
        };
        while self.words.pick(hint).is_some() {}
        self.words.take("L2::cache_hint")
    }

    /// The place of operand `index`, with the window that modifiers or the variable tell.
    fn placed(
        &mut self,
        index: usize,
        named: Option<Window>,
    ) -> Result<(Place, Window), ParseError> {
        if !matches!(self.at(index)?, Operand::Memory { .. }) {
            return Err(
                self.error(format!("operand {} has to be an address in brackets", index + 1))
            );
        }
        let (place, own) = self.place(index)?;
        // A parameter of a call is memory of the thread, whatever the instruction calls it.
        let window = match (named, own) {
            (Some(Window::Parameter), Some(own)) => own,
            (Some(named), _) => named,
            (None, Some(own)) if own != Window::Shared => own,
            (None, Some(_)) => Window::Shared,
            (None, None) => Window::Generic,
        };
        Ok((place, window))
    }

    fn lanes(&mut self) -> usize {
        match self.words.one_of(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
            None => 1,
        }
    }

    /// Memory and addresses.
    pub fn memory(&mut self) -> Result<Operation, ParseError> {
        let name = self.statement.name.as_str();
        match name {
            "ld" | "ldu" => {
                let order = self.order();
                let policy = self.hints();
                let named = self.window();
                let lanes = self.lanes();
                let kind = self.words.kind()?;
                self.exactly(2 + usize::from(policy))?;
                let targets = self.targets(0, None)?;
                self.memory_type(kind, lanes, targets.len())?;
                let bits = self.same_width(0, kind.bits(), false)?;
                let (place, window) = self.placed(1, named)?;
                Ok(Operation::Load(Box::new(Load { window, kind, targets, place, bits, order })))
            }
            "st" => {
                let order = self.order();
                let policy = self.hints();
                let named = self.window();
                let lanes = self.lanes();
                let kind = self.words.kind()?;
                self.exactly(2 + usize::from(policy))?;
                let values = self.sources(1, None)?;
                self.memory_type(kind, lanes, values.len())?;
                self.same_width(1, kind.bits(), false)?;
                let (place, window) = self.placed(0, named)?;
                Ok(Operation::Store(Box::new(Store { window, kind, values, place, order })))
            }
            "atom" | "red" => self.atomic(),
            "prefetch" | "prefetchu" | "discard" | "applypriority" => {
                let tensormap = self.words.take("tensormap");
                self.hints();
                let _ = self.words.one_of(&["L1", "L2"]);
                let named = self.window();
                let (place, window) = self.placed(0, named)?;
                let bytes = if tensormap { 128 } else { 1 };
                Ok(Operation::Touch { place, window, bytes })
            }
            "cvta" => {
                let to = self.words.take("to");
                let window =
                    self.window().ok_or_else(|| self.words.unsupported("its state space"))?;
                let kind = self.words.kind()?;
                self.exactly(2)?;
                let a = match self.at(1)? {
                    Operand::Register(_) => self.source(1, kind)?,
                    _ => self.any_source(1)?,
                };
                let d = self.target(0, kind)?;
                Ok(if to {
                    Operation::FromGeneric { d, a, window }
                } else {
                    Operation::ToGeneric { d, a, window }
                })
            }
            "isspacep" => {
                let window =
                    self.window().ok_or_else(|| self.words.unsupported("its state space"))?;
                self.exactly(2)?;
                Ok(Operation::IsSpace {
                    d: self.target(0, Type::Pred)?,
                    a: self.any_source(1)?,
                    window,
                })
            }
            "mapa" => {
                let generic = self.window().is_none();
                let kind = self.words.kind()?;
                self.exactly(3)?;
                let a = match self.at(1)? {
                    Operand::Register(_) => self.source(1, kind)?,
                    _ => self.any_source(1)?,
                };
                let rank = self.source(2, Type::U32)?;
                Ok(Operation::MapAddress { d: self.target(0, kind)?, a, rank, generic })
            }
            _ => {
                self.window();
                let kind = self.words.kind()?;
                self.exactly(2)?;
                Ok(Operation::RankOf { d: self.target(0, Type::U32)?, a: self.source(1, kind)? })
            }
        }
    }

    fn memory_type(&self, kind: Type, lanes: usize, operands: usize) -> Result<(), ParseError> {
        if operands != lanes {
            return Err(self.error(format!("{operands} operands for {lanes} elements")));
        }
        // Accesses of 32 bytes came with Blackwell.
        if lanes as u64 * kind.bytes() > 16 && self.lowering.generation() < 100 {
            return Err(self.words.unsupported("32 bytes at once on this target"));
        }
        if kind == Type::Pred || kind.bits() > 64 || lanes as u64 * kind.bytes() > 32 {
            return Err(self.words.unsupported("its type"));
        }
        Ok(())
    }

    fn atomic(&mut self) -> Result<Operation, ParseError> {
        let returns = self.statement.name == "atom";
        self.words.take("async");
        let mut order = self.order();
        order.strong = true;
        let policy = self.hints();
        let named = self.window();
        let lanes = self.lanes();
        let how = self
            .words
            .one_of(&["exch", "cas", "add", "inc", "dec", "min", "max", "and", "or", "xor"]);
        let how = how.ok_or_else(|| self.words.unsupported("its operation"))?;
        let kind = self.words.kind()?;
        if kind.bits() > 64 || kind == Type::Pred {
            return Err(self.words.unsupported("its type"));
        }
        let change = match how {
            "exch" => Change::Exchange,
            "cas" => Change::CompareAndSwap,
            _ => Change::Apply(
                reduction(how, kind).ok_or_else(|| self.words.unsupported("its type"))?,
            ),
        };
        let first = usize::from(returns);
        let operands = first + 2 + usize::from(how == "cas") + usize::from(policy);
        self.exactly(operands)?;
        let targets = if returns { self.targets(0, Some(kind))? } else { Box::default() };
        let values = self.sources(first + 1, Some(kind))?;
        if values.len() != lanes || returns && targets.len() != lanes {
            return Err(self.error(format!("{} operands for {lanes} elements", values.len())));
        }
        let second: Option<Source> =
            if how == "cas" { Some(self.source(first + 2, kind)?) } else { None };
        let (place, window) = self.placed(first, named)?;
        Ok(Operation::Atomic(Box::new(Atomic {
            window,
            kind,
            change,
            targets,
            values,
            second,
            place,
            order,
        })))
    }
}
