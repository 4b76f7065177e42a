//! Asynchronous copies and mbarriers (PTX ISA, Data Movement: Asynchronous copy; mbarrier).
//!
//! Invariant: a bulk copy names how it says that it is complete.

use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{
    BulkCopy, Completion, Mbarrier, Operation, Reduction, SINK, Source, TensorCopy, Window,
};
use crate::syntax::{Operand, Type};

const REDUCTIONS: &[(&str, Reduction)] = &[
    ("add", Reduction::Add),
    ("min", Reduction::Minimum),
    ("max", Reduction::Maximum),
    ("inc", Reduction::Increment),
    ("dec", Reduction::Decrement),
    ("and", Reduction::And),
    ("or", Reduction::Or),
    ("xor", Reduction::Xor),
];

impl Decoder<'_, '_> {
    /// `cp` and `mbarrier`.
    pub fn bulk(&mut self) -> Result<Operation, ParseError> {
        if self.statement.name == "mbarrier" {
            return Ok(Operation::Mbarrier(Box::new(self.mbarrier()?)));
        }
        let reduce = self.words.take("reduce");
        if !self.words.take("async") {
            return Err(self.words.unsupported("what it copies"));
        }
        if !self.words.take("bulk") {
            return self.copy_async();
        }
        if self.words.take("commit_group") {
            self.exactly(0)?;
            return Ok(Operation::BulkCommit);
        }
        if self.words.take("wait_group") {
            self.words.take("read");
            return Ok(Operation::BulkWait { pending: self.constant(0)?.min(1 << 20) as u32 });
        }
        if self.words.take("prefetch") {
            let tensor = self.words.take("tensor");
            while self
                .words
                .pick(|w| {
                    (w.ends_with('d') || w == "L2" || w == "tile" || w == "global").then_some(())
                })
                .is_some()
            {}
            self.hints();
            let (place, _) = self.place(0)?;
            let bytes = if tensor { 128 } else { 1 };
            return Ok(Operation::Touch { place, window: Window::Generic, bytes });
        }
        let tensor = self.words.take("tensor");
        let policy = self.hints();
        let multicast = self.words.take("multicast::cluster");
        let mbarrier = self.words.take("mbarrier::complete_tx::bytes");
        let group = self.words.take("bulk_group");
        if mbarrier == group {
            return Err(self.words.unsupported("how it completes"));
        }
        let to_window = self.window().ok_or_else(|| self.words.unsupported("its destination"))?;
        let from_window = self.window().ok_or_else(|| self.words.unsupported("its source"))?;
        let reduction = if reduce {
            let how = self
                .words
                .pick(|w| REDUCTIONS.iter().find(|(name, _)| *name == w).map(|(_, how)| *how));
            Some(how.ok_or_else(|| self.words.unsupported("its reduction"))?)
        } else {
            None
        };
        if tensor {
            return self.tensor_copy(
                to_window,
                from_window,
                mbarrier,
                multicast,
                policy,
                reduction,
            );
        }
        let reduction = match reduction {
            Some(how) => {
                self.words.take("noftz");
                Some((how, self.words.kind()?))
            }
            None => None,
        };
        let mut next = 3;
        let completion = if mbarrier {
            next += 1;
            Completion::Mbarrier(self.place(3)?.0)
        } else {
            Completion::Group
        };
        let multicast = self.optional(multicast, &mut next)?;
        self.exactly(next + usize::from(policy))?;
        Ok(Operation::BulkCopy(Box::new(BulkCopy {
            to: self.place(0)?.0,
            to_window,
            from: self.place(1)?.0,
            from_window,
            bytes: self.source(2, Type::U32)?,
            completion,
            multicast,
            reduction,
        })))
    }

    fn optional(&mut self, there: bool, next: &mut usize) -> Result<Option<Source>, ParseError> {
        if !there {
            return Ok(None);
        }
        *next += 1;
        Ok(Some(self.source(*next - 1, Type::U16)?))
    }

    fn tensor_copy(
        &mut self,
        to: Window,
        from: Window,
        mbarrier: bool,
        multicast: bool,
        policy: bool,
        reduction: Option<Reduction>,
    ) -> Result<Operation, ParseError> {
        let rank = self.words.pick(|w| match w {
            "1d" => Some(1),
            "2d" => Some(2),
            "3d" => Some(3),
            "4d" => Some(4),
            "5d" => Some(5),
            _ => None,
        });
        let rank = rank.ok_or_else(|| self.words.unsupported("its number of dimensions"))?;
        self.words.take("tile");
        let load = to != Window::Global;
        let (map, shared) = if load { (1, 0) } else { (0, 1) };
        if load != (from == Window::Global) || load != mbarrier || load && reduction.is_some() {
            return Err(self.words.unsupported("its state spaces"));
        }
        let Operand::Memory { coordinates, .. } = self.at(map)? else {
            return Err(self.error("a tensor map is missing"));
        };
        if coordinates.len() != rank {
            return Err(
                self.error(format!("{} coordinates for {rank} dimensions", coordinates.len()))
            );
        }
        let coordinates: Result<Box<[Source]>, _> =
            coordinates.iter().map(|c| self.value(c, Some(Type::S32))).collect();
        let mut next = 2;
        let completion = if mbarrier {
            next += 1;
            Completion::Mbarrier(self.place(2)?.0)
        } else {
            Completion::Group
        };
        let multicast = self.optional(multicast, &mut next)?;
        self.exactly(next + usize::from(policy))?;
        Ok(Operation::TensorCopy(Box::new(TensorCopy {
            shared: self.place(shared)?.0,
            shared_window: if load { to } else { from },
            map: self.place(map)?.0,
            coordinates: coordinates?,
            completion,
            multicast,
            reduction,
        })))
    }

    fn copy_async(&mut self) -> Result<Operation, ParseError> {
        if self.words.take("commit_group") {
            self.exactly(0)?;
            return Ok(Operation::CopyCommit);
        }
        if self.words.take("wait_group") {
            return Ok(Operation::CopyWait(self.constant(0)?.min(1 << 20) as u32));
        }
        if self.words.take("wait_all") {
            return Ok(Operation::CopyWait(u32::MAX));
        }
        if self.words.take("mbarrier") {
            self.words.take("arrive");
            let no_increment = self.words.take("noinc");
            self.window();
            self.words.kind()?;
            let place = self.place(0)?.0;
            return Ok(Operation::Mbarrier(Box::new(Mbarrier::CopiesArrive {
                place,
                no_increment,
            })));
        }
        let bypass = self.statement.modifiers.iter().any(|m| m == "cg");
        let policy = self.hints();
        let to_window = self.window();
        let from_window = self.window();
        if to_window != Some(Window::Shared) || from_window != Some(Window::Global) {
            return Err(self.words.unsupported("its state spaces"));
        }
        let bytes = self.constant(2)?;
        if !matches!(bytes, 4 | 8 | 16) || bypass && bytes != 16 {
            return Err(self.error(format!("a copy of {bytes} bytes")));
        }
        let operands = self.count() - usize::from(policy && self.count() > 3);
        let source_bytes = match operands {
            3 => None,
            4 => Some(self.source(3, Type::U32)?),
            _ => return Err(self.error("too many operands")),
        };
        Ok(Operation::CopyAsync {
            to: self.place(0)?.0,
            from: self.place(1)?.0,
            from_window: Window::Global,
            bytes: bytes as u32,
            source_bytes,
        })
    }

    fn mbarrier(&mut self) -> Result<Mbarrier, ParseError> {
        let _ = self.words.one_of(&["relaxed", "acquire", "release"]);
        let _ = self.words.one_of(&["cta", "cluster"]);
        // An address tells by itself whether it is generic, and of which block.
        self.window();
        if self.words.take("init") {
            self.words.kind()?;
            self.exactly(2)?;
            return Ok(Mbarrier::Init {
                place: self.place(0)?.0,
                count: self.source(1, Type::U32)?,
            });
        }
        if self.words.take("inval") {
            self.words.kind()?;
            self.exactly(1)?;
            return Ok(Mbarrier::Invalidate { place: self.place(0)?.0 });
        }
        if self.words.take("pending_count") {
            self.words.kind()?;
            self.exactly(2)?;
            return Ok(Mbarrier::Pending {
                target: self.target(0, Type::U32)?,
                state: self.source(1, Type::B64)?,
            });
        }
        let blocking = self.words.take("try_wait");
        if blocking || self.words.take("test_wait") {
            let parity = self.words.take("parity");
            self.words.kind()?;
            if self.count() < 3 {
                self.exactly(3)?;
            }
            let state = self.source(2, if parity { Type::U32 } else { Type::B64 })?;
            let (place, _) = self.place(1)?;
            return Ok(Mbarrier::Test {
                place,
                target: self.target(0, Type::Pred)?,
                state,
                parity,
                blocking,
            });
        }
        if self.words.take("complete_tx") {
            self.words.kind()?;
            let (place, _) = self.place(0)?;
            return Ok(Mbarrier::Complete { place, bytes: self.source(1, Type::U32)? });
        }
        let drop = self.words.take("arrive_drop");
        let arrive = drop || self.words.take("arrive");
        let expect = self.words.take("expect_tx");
        if !arrive && expect {
            self.words.kind()?;
            let (place, _) = self.place(0)?;
            return Ok(Mbarrier::Expect { place, bytes: self.source(1, Type::U32)? });
        }
        if !arrive {
            return Err(self.words.unsupported("what it does"));
        }
        let no_complete = self.words.take("noComplete");
        self.words.kind()?;
        // An arrival at another block's barrier gives no state.
        let first = usize::from(!matches!(self.at(0)?, Operand::Memory { .. }));
        let target = if first == 1 { self.target(0, Type::B64)? } else { SINK };
        let (place, _) = self.place(first)?;
        let more =
            if self.count() > first + 1 { Some(self.source(first + 1, Type::U32)?) } else { None };
        if expect && more.is_none() {
            return Err(self.error("the number of bytes is missing"));
        }
        let (count, expect) = if expect {
            (Source::Immediate(1), more)
        } else {
            (more.unwrap_or(Source::Immediate(1)), None)
        };
        Ok(Mbarrier::Arrive { place, count, expect, target, drop, no_complete })
    }
}
