//! Control flow, barriers and fences (PTX ISA, Control Flow, Parallel Synchronization Instructions).
//!
//! Invariant: a branch holds the number of the statement it goes to until its body is complete.

use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::{BarrierReduction, Operation, Source};
use crate::syntax::{Operand, Type};

impl Decoder<'_, '_> {
    fn label(&self, operand: &Operand) -> Result<u32, ParseError> {
        let Operand::Name(name) = operand else { return Err(self.error("a label is missing")) };
        self.label_of(name)
    }

    fn label_of(&self, name: &str) -> Result<u32, ParseError> {
        let found = self.frame.body.label(self.statement.scope, name);
        found.ok_or_else(|| self.error(format!("label `{name}` does not exist")))
    }

    /// Branches, ends, barriers and fences.
    pub fn control(&mut self) -> Result<Operation, ParseError> {
        match self.statement.name.as_str() {
            "bra" => {
                self.words.take("uni");
                self.exactly(1)?;
                Ok(Operation::Branch { target: self.label(self.at(0)?)? })
            }
            "brx" => {
                self.words.take("idx");
                self.words.take("uni");
                self.exactly(2)?;
                let index = self.source(0, Type::U32)?;
                let Operand::Name(name) = self.at(1)? else {
                    return Err(self.error("a list of targets is missing"));
                };
                let labels = self.frame.body.branch_targets(self.statement.scope, name);
                let labels =
                    labels.ok_or_else(|| self.error(format!("`{name}` has no targets")))?;
                let targets: Result<Box<[u32]>, _> =
                    labels.iter().map(|l| self.label_of(l)).collect();
                Ok(Operation::BranchIndex { targets: targets?, index })
            }
            "ret" => {
                self.words.take("uni");
                self.exactly(0)?;
                if self.frame.is_entry() {
                    return Ok(Operation::Exit);
                }
                Ok(Operation::Branch { target: self.frame.body.statements.len() as u32 })
            }
            "exit" => Ok(Operation::Exit),
            "trap" | "brkpt" => Ok(Operation::Trap),
            "bar" | "barrier" => self.barrier(),
            "membar" => {
                let _ = self.words.one_of(&["cta", "gl", "sys"]);
                if self.words.take("proxy") {
                    return self.proxy_fence();
                }
                Ok(Operation::Fence)
            }
            "fence" => {
                if self.words.take("proxy") {
                    return self.proxy_fence();
                }
                if self.words.take("mbarrier_init") {
                    self.words.take("release");
                    self.words.take("cluster");
                    return Ok(Operation::ProxyFence);
                }
                let _ = self.words.one_of(&["sc", "acq_rel", "acquire", "release"]);
                let _ = self.words.one_of(&["cta", "cluster", "gpu", "sys"]);
                Ok(Operation::Fence)
            }
            "nanosleep" => {
                self.words.kind()?;
                self.exactly(1)?;
                self.source(0, Type::U32)?;
                Ok(Operation::Sleep)
            }
            "griddepcontrol" => {
                let _ = self.words.one_of(&["launch_dependents", "wait"]);
                Ok(Operation::Nothing)
            }
            "setmaxnreg" => {
                let _ = self.words.one_of(&["inc", "dec"]);
                self.words.take("sync");
                self.words.take("aligned");
                self.words.kind()?;
                let count = self.constant(0)?;
                if !(24..=256).contains(&count) || count % 8 != 0 {
                    return Err(self.error(format!("setmaxnreg of {count}")));
                }
                Ok(Operation::Nothing)
            }
            _ => {
                self.constant(0)?;
                Ok(Operation::Nothing)
            }
        }
    }

    fn proxy_fence(&mut self) -> Result<Operation, ParseError> {
        if self.words.take("alias") {
            return Ok(Operation::Fence);
        }
        if self.words.take("async") || self.words.take("async::generic") {
            let _ = self.words.one_of(&["global", "shared::cta", "shared::cluster"]);
            let _ = self.words.one_of(&["acquire", "release"]);
            let _ = self
                .words
                .one_of(&["sync_restrict::shared::cta", "sync_restrict::shared::cluster"]);
            self.words.take("cluster");
            return Ok(Operation::ProxyFence);
        }
        if self.words.take("tensormap::generic") {
            let _ = self.words.one_of(&["acquire", "release"]);
            let _ = self.words.one_of(&["cta", "cluster", "gpu", "sys"]);
            return Ok(Operation::Fence);
        }
        Err(self.words.unsupported("its proxy"))
    }

    fn barrier(&mut self) -> Result<Operation, ParseError> {
        if self.words.take("warp") {
            self.words.take("sync");
            self.exactly(1)?;
            return Ok(Operation::WarpBarrier { mask: self.source(0, Type::B32)? });
        }
        if self.words.take("cluster") {
            self.words.take("aligned");
            if self.words.take("arrive") {
                let order = self.words.one_of(&["release", "relaxed"]);
                return Ok(Operation::ClusterArrive { release: order != Some("relaxed") });
            }
            self.words.take("wait");
            self.words.take("acquire");
            return Ok(Operation::ClusterWait);
        }
        self.words.take("cta");
        let aligned = self.statement.name == "bar" || self.words.take("aligned");
        if self.words.take("red") {
            let how = self.words.pick(|w| match w {
                "popc" => Some(BarrierReduction::Count),
                "and" => Some(BarrierReduction::And),
                "or" => Some(BarrierReduction::Or),
                _ => None,
            });
            let how = how.ok_or_else(|| self.words.unsupported("its reduction"))?;
            let kind = self.words.kind()?;
            let target = self.target(0, kind)?;
            let id = self.source(1, Type::U32)?;
            let count = if self.count() == 4 { Some(self.source(2, Type::U32)?) } else { None };
            let operand = self.at(self.count().saturating_sub(1))?;
            let (p, negated) = self.predicate(operand)?;
            return Ok(Operation::Barrier {
                id,
                count,
                wait: true,
                aligned,
                reduce: Some((how, target, p, negated)),
            });
        }
        let wait = match self.words.one_of(&["sync", "arrive"]) {
            Some("sync") => true,
            Some(_) => false,
            None => return Err(self.words.unsupported("what it does")),
        };
        let id = if self.count() == 0 { Source::Immediate(0) } else { self.source(0, Type::U32)? };
        let count = if self.count() > 1 { Some(self.source(1, Type::U32)?) } else { None };
        if !wait && count.is_none() {
            return Err(self.error("an arrival needs the number of threads"));
        }
        Ok(Operation::Barrier { id, count, wait, aligned, reduce: None })
    }
}
