//! One instruction after another: which group runs, and where it goes.
//!
//! Invariant: the ready group with the least program counter runs, unless it has branched backwards many times while
//! others were ready; then those run for a while, so that a lane may wait for another of its warp.

use super::Machine;
use super::warp::{Group, Wait, Warp};
use crate::fault::{Fault, FaultKind, Outcome, Trouble, trouble};
use crate::instruction::{Instruction, Operation};
use crate::lanes::{WIDTH, set};

/// Backward branches after which another group has its turn.
const PATIENCE: u32 = 32;

/// What becomes of the group.
pub(crate) enum Flow {
    Next,
    /// All go there.
    Jump(u32),
    /// Some go there, others to the next instruction.
    Split {
        target: u32,
        taken: u32,
    },
    /// Each lane goes its own way.
    Scatter([u32; WIDTH]),
    /// The instruction is executed again when the wait is over.
    Stay(Wait),
    /// The next instruction is executed when the wait is over.
    Then(Wait),
    /// These lanes are done.
    Exit(u32),
}

impl Machine<'_> {
    /// Runs a warp until it waits, ends, or has had its turn. Tells whether anything was executed.
    pub fn turn(&mut self, warp: &mut Warp, quantum: u32) -> Result<bool, Fault> {
        let kernel = self.kernel;
        let mut progressed = false;
        for _ in 0..quantum {
            let Some(chosen) = self.select(warp).map_err(|t| self.fault(warp, warp.line, *t))?
            else {
                return Ok(progressed);
            };
            let Group { pc, mask: group, .. } = warp.groups[chosen];
            let Some(instruction) = kernel.code.get(pc as usize) else {
                self.exit(warp, chosen, group);
                continue;
            };
            self.tally.steps += 1;
            if self.tally.steps > self.grid.steps {
                let kind = FaultKind::Steps(self.grid.steps);
                let lane = group.trailing_zeros() as usize;
                return Err(self.fault(warp, instruction.line, Trouble { lane, kind }));
            }
            let flow = self.guarded(warp, instruction, group);
            let flow = flow.map_err(|t| self.fault(warp, instruction.line, *t))?;
            progressed |= !matches!(flow, Flow::Stay(_));
            self.follow(warp, chosen, flow);
            if warp.groups.is_empty() {
                return Ok(true);
            }
        }
        Ok(progressed)
    }

    fn guarded(&mut self, warp: &mut Warp, instruction: &Instruction, group: u32) -> Outcome<Flow> {
        warp.line = instruction.line;
        let mut mask = group;
        if let Some(guard) = instruction.guard {
            let register = guard.register as usize;
            let missing = group & !warp.defined[register];
            if missing != 0 {
                let name = self.kernel.register_names[register].clone();
                return trouble(
                    missing.trailing_zeros() as usize,
                    FaultKind::UninitialisedRegister(name),
                );
            }
            let values = &warp.registers[register];
            let mut holds = 0u32;
            for (lane, value) in values.iter().enumerate() {
                holds |= u32::from(*value != 0) << lane;
            }
            mask &= if guard.negated { !holds } else { holds };
        }
        self.tally.opcodes[usize::from(instruction.opcode)] += 1;
        self.tally.counters.lane_instructions += u64::from(mask.count_ones());
        if mask == 0 {
            return Ok(Flow::Next);
        }
        match &instruction.operation {
            Operation::Branch { target } if mask == group => Ok(Flow::Jump(*target)),
            Operation::Branch { target } => Ok(Flow::Split { target: *target, taken: mask }),
            operation => self.execute(warp, operation, mask, group),
        }
    }

    fn follow(&mut self, warp: &mut Warp, chosen: usize, flow: Flow) {
        let group = &mut warp.groups[chosen];
        let next = group.pc + 1;
        match flow {
            Flow::Next => group.pc = next,
            Flow::Jump(target) => {
                if target <= group.pc {
                    warp.spins += 1;
                }
                warp.groups[chosen].pc = target;
            }
            Flow::Split { target, taken } => {
                if target <= group.pc {
                    warp.spins += 1;
                }
                let group = &mut warp.groups[chosen];
                group.mask &= !taken;
                group.pc = next;
                warp.groups.push(Group { pc: target, mask: taken, wait: Wait::Ready });
            }
            Flow::Scatter(targets) => {
                let mask = group.mask;
                warp.groups.swap_remove(chosen);
                for lane in set(mask) {
                    match warp
                        .groups
                        .iter_mut()
                        .find(|g| g.pc == targets[lane] && g.wait == Wait::Ready)
                    {
                        Some(same) => same.mask |= 1 << lane,
                        None => {
                            let mask = 1 << lane;
                            warp.groups.push(Group { pc: targets[lane], mask, wait: Wait::Ready });
                        }
                    }
                }
            }
            Flow::Stay(wait) => group.wait = wait,
            Flow::Then(wait) => {
                group.pc = next;
                group.wait = wait;
            }
            Flow::Exit(mask) => self.exit(warp, chosen, mask),
        }
    }

    fn exit(&mut self, warp: &mut Warp, chosen: usize, mask: u32) {
        warp.exited |= mask;
        let group = &mut warp.groups[chosen];
        group.mask &= !mask;
        group.pc += 1;
        if group.mask == 0 {
            warp.groups.swap_remove(chosen);
        }
        self.cluster_barrier.leave(mask.count_ones());
        let alive = &mut self.blocks[warp.block].alive;
        *alive = alive.saturating_sub(mask.count_ones());
    }

    /// The group that runs next.
    fn select(&mut self, warp: &mut Warp) -> Outcome<Option<usize>> {
        if warp.groups.len() == 1 {
            warp.spins = 0;
            if warp.groups[0].wait == Wait::Ready || self.ready(warp, 0)? {
                return Ok(Some(0));
            }
            return Ok(None);
        }
        let mut chosen: Option<usize> = None;
        for index in 0..warp.groups.len() {
            if warp.groups[index].wait != Wait::Ready && !self.ready(warp, index)? {
                continue;
            }
            let pc = warp.groups[index].pc;
            if chosen.is_none_or(|c| pc < warp.groups[c].pc) {
                chosen = Some(index);
            }
        }
        let Some(mut chosen) = chosen else { return Ok(None) };
        if warp.spins > PATIENCE {
            // Another group, by turns: the ready one with the next larger program counter, or the least.
            warp.spins = 0;
            let ready = |g: &Group| g.wait == Wait::Ready;
            let larger = (0..warp.groups.len())
                .filter(|i| ready(&warp.groups[*i]) && warp.groups[*i].pc > warp.last)
                .min_by_key(|i| warp.groups[*i].pc);
            if let Some(other) = larger {
                warp.last = warp.groups[other].pc;
                let mask = warp.groups[other].mask;
                let other = self.merge(warp, other);
                // It runs on by itself until it waits or has had its share.
                self.run_apart(warp, other, mask)?;
                return self.select(warp);
            }
            warp.last = 0;
        }
        chosen = self.merge(warp, chosen);
        Ok(Some(chosen))
    }

    /// Lets a group run although one with a smaller program counter is ready.
    fn run_apart(&mut self, warp: &mut Warp, group: usize, mask: u32) -> Outcome<()> {
        let kernel = self.kernel;
        let mut group = group;
        for _ in 0..PATIENCE * 8 {
            let Group { pc, mask: lanes, wait } = warp.groups[group].clone();
            let Some(instruction) = kernel.code.get(pc as usize) else { return Ok(()) };
            if wait != Wait::Ready {
                return Ok(());
            }
            self.tally.steps += 1;
            let flow = self.guarded(warp, instruction, lanes)?;
            self.follow(warp, group, flow);
            let Some(next) =
                warp.groups.iter().position(|g| g.mask & mask != 0 && g.wait == Wait::Ready)
            else {
                return Ok(());
            };
            group = next;
        }
        Ok(())
    }

    /// Joins a group with those that stand at the same instruction.
    fn merge(&mut self, warp: &mut Warp, chosen: usize) -> usize {
        let pc = warp.groups[chosen].pc;
        let joins = |g: &Group| g.pc == pc && matches!(g.wait, Wait::Ready | Wait::Converge(_));
        if warp.groups.iter().filter(|g| joins(g)).count() == 1 {
            return chosen;
        }
        let mask = warp.groups.iter().filter(|g| joins(g)).fold(0, |mask, g| mask | g.mask);
        warp.groups.retain(|g| !joins(g));
        warp.groups.push(Group { pc, mask, wait: Wait::Ready });
        warp.groups.len() - 1
    }

    /// For an instruction that all lanes of a mask execute together: whether they are all here, or what to wait for.
    pub fn converged(
        &self,
        warp: &Warp,
        executing: u32,
        group: u32,
        mask: u32,
    ) -> Outcome<Option<Flow>> {
        let lane = executing.trailing_zeros() as usize;
        let fault = |message| trouble(lane, FaultKind::LaneMask { executing, mask, message });
        if executing & !mask != 0 {
            return fault("a lane executes it that the mask does not name");
        }
        let needed = mask & warp.exists;
        if needed & !executing == 0 {
            return Ok(None);
        }
        if needed & group & !executing != 0 {
            return fault("its guard holds some of the named lanes back");
        }
        if needed & warp.exited != 0 {
            return fault("a named lane has exited");
        }
        Ok(Some(Flow::Stay(Wait::Converge(needed))))
    }

    /// Whether a wait is over; then the group is ready.
    fn ready(&mut self, warp: &mut Warp, index: usize) -> Outcome<bool> {
        let wait = warp.groups[index].wait.clone();
        let over = match wait {
            Wait::Ready => return Ok(true),
            Wait::Converge(_) => false,
            Wait::WarpBarrier(mask) => self.warp_barrier_over(warp, mask),
            Wait::Barrier { id, generation, result } => {
                self.barrier_over(warp, index, id, generation, result)
            }
            Wait::Mbarrier { block, address, phase } => {
                self.blocks[block].mbarriers.get(&address).is_none_or(|m| m.phase != phase)
            }
            Wait::Cluster(generation) => self.cluster_over(warp, index, generation),
        };
        if over {
            warp.groups[index].wait = Wait::Ready;
        }
        Ok(over)
    }
}
