//! One run: buffers bound to memory, steps done in order.
//!
//! Invariant: a view of a buffer exists only while the memory behind it does and is as long as the
//! view says; blocks are placed anew only together with all their views.

use super::bind::check_bounds;
use super::plan::{GroupPlan, LaunchSizes, Parts, Place, Plan, evaluate, sizes_of};
use super::prepare::{EARLY, Op};
use super::trace::LaunchRecord;
use super::{PlacedFor, RunError, RunOptions, Session, inputs};
use crate::loader::KernelFunction;
use crate::model::LoadedModel;
use crate::threads::Share;
use kiln_program::{BufferId, Location};
use kiln_tensor::{DType, Dim, Objects, Symbol, SymbolValues, Tensor};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A buffer's memory.
#[derive(Clone, Copy, Debug)]
struct View {
    pointer: *mut u8,
    bytes: usize,
}

/// Memory that a run leaves to the next one of its session, for its own lists; it points to nothing.
#[derive(Debug, Default)]
pub(super) struct Kept {
    views: Vec<Option<View>>,
    placed: Vec<bool>,
    pointers: Vec<*mut u8>,
    copies: Vec<Option<Tensor>>,
    outputs: Vec<Option<Tensor>>,
    pub(super) offered: Vec<Option<Tensor>>,
    /// A table of no objects but the program's own.
    objects: Option<Arc<Objects>>,
}

// SAFETY: no pointer outlives the run that put it there; between runs the lists are empty.
unsafe impl Send for Kept {}

pub(super) struct Run<'r, 'o> {
    pub(super) session: &'r mut Session,
    pub(super) model: &'r LoadedModel,
    plan: &'r Plan,
    options: RunOptions<'o>,
    pub(super) symbols: Cow<'r, SymbolValues>,
    /// For each buffer its memory, once it has some.
    views: Vec<Option<View>>,
    /// The groups that this run has placed.
    placed: Vec<bool>,
    /// Inputs that views point into, and copies of those that are not fit for it.
    inputs: &'r [Tensor],
    copies: Vec<Option<Tensor>>,
    /// Outputs that views point into, by their number.
    outputs: Vec<Option<Tensor>>,
    /// Tensors whose memory outputs may take, by the outputs' numbers.
    offered: Vec<Option<Tensor>>,
    /// Kept for its memory.
    pointers: Vec<*mut u8>,
    /// Iterations of all loops so far.
    pub(super) iterations: u64,
    /// What handles stand for.
    pub(super) objects: Arc<Objects>,
    /// Bytes of them that were counted.
    pub(super) objects_counted: u64,
}

impl<'r, 'o> Run<'r, 'o> {
    pub(super) fn new(
        session: &'r mut Session,
        model: &'r LoadedModel,
        plan: &'r Plan,
        inputs: &'r [Tensor],
        offered: Vec<Option<Tensor>>,
        options: RunOptions<'o>,
    ) -> Result<Self, RunError> {
        session.used = session.known_memory(plan);
        let program = model.program();
        let Kept { mut views, mut placed, pointers, mut copies, mut outputs, objects, .. } =
            std::mem::take(&mut session.kept);
        let objects = objects.unwrap_or_else(|| Arc::new(Objects::of_strings(&program.strings)));
        for tensor in inputs {
            copies.push(if tensor.dtype().is_handle() {
                let adopted = objects.adopt(tensor)?;
                inputs::fit(&adopted)?.or(Some(adopted))
            } else {
                inputs::fit(tensor)?
            });
        }
        let view = |bytes: &[u8]| {
            // Validation refuses programs that write to inputs and constants.
            View { pointer: bytes.as_ptr().cast_mut(), bytes: bytes.len() }
        };
        let given = |number: usize| {
            let copy = copies.get(number).and_then(Option::as_ref);
            copy.or_else(|| inputs.get(number)).map(|tensor| view(tensor.bytes()))
        };
        let buffers = program.buffers.iter().zip(model.constants());
        views.extend(buffers.map(|(buffer, constant)| match &buffer.location {
            Location::Input(number) => given(*number as usize),
            _ => constant.as_ref().map(|bytes| view(bytes)),
        }));
        placed.extend(model.prepared().groups.iter().map(|_| false));
        outputs.extend(program.outputs.iter().map(|_| None));
        let mut run = Run {
            session,
            model,
            plan,
            options,
            symbols: Cow::Borrowed(&plan.symbols),
            views,
            placed,
            inputs,
            copies,
            outputs,
            offered,
            pointers,
            iterations: 0,
            objects,
            objects_counted: 0,
        };
        run.check_memory()?;
        run.reserve_scratch(plan.scratch(model))?;
        run.place(EARLY, &plan.early)?;
        // A symbol that the program computes may also follow from the inputs.
        for number in 0..model.prepared().groups.len() {
            run.place_if_known(number)?;
        }
        Ok(run)
    }

    pub(super) fn steps(&mut self, steps: &[Op]) -> Result<(), RunError> {
        for step in steps {
            if self.options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                return Err(RunError::Cancelled);
            }
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Op) -> Result<(), RunError> {
        match step {
            Op::Launch(number) => self.launch(*number),
            Op::Sizes { buffer, dims } => {
                let value = |dim| evaluate(dim, &self.symbols, || "computed sizes".to_owned());
                self.write_all(*buffer, dims.iter().map(value))
            }
            Op::Copy { from, to } => self.copy(*from, *to),
            Op::Bind { symbol, buffer, element, source } => {
                let value = self.integer(*buffer, *element as usize)?;
                self.bind(symbol, value, source)
            }
            Op::Call(call) => self.call(call),
            Op::CheckEqual { left, right, source } => self.check_equal(left, right, source),
            Op::Branch { condition, then, otherwise } => {
                let steps = if self.truth(*condition)? { then } else { otherwise };
                self.steps(steps)
            }
            Op::Loop { step, body } => self.repeat(step, body),
        }
    }

    fn launch(&mut self, number: usize) -> Result<(), RunError> {
        let Some(launch) = self.model.prepared().launches.get(number) else { return Ok(()) };
        let named = |error: RunError| match error {
            RunError::Size { error, .. } => {
                RunError::Size { place: format!("node `{}`", launch.source), error }
            }
            RunError::ImpossibleSize { value, .. } => {
                RunError::ImpossibleSize { place: format!("node `{}`", launch.source), value }
            }
            other => other,
        };
        let sizes = match self.plan.launches.get(number) {
            Some(Some(sizes)) => Cow::Borrowed(sizes),
            _ => {
                let sizes = LaunchSizes::new(launch, self.model, &self.symbols);
                Cow::Owned(sizes.map_err(named)?)
            }
        };
        let (Some(kernel), Some(entry)) = (
            self.model.kernels().get(launch.kernel),
            self.model.program().kernels.get(launch.kernel),
        ) else {
            return Ok(());
        };
        let (tier, version) = kernel.best();
        let parts = sizes.parts(tier, version, &entry.params).map_err(named)?;
        self.reserve_scratch(parts.scratch)?;
        self.pointers.clear();
        for &operand in &launch.operands {
            let pointer = self.view(operand).map_err(named)?.pointer;
            self.pointers.push(pointer);
        }
        let start = self.options.trace.is_some().then(Instant::now);
        call(self.session, version.function(), &self.pointers, &sizes.params, parts)?;
        if let (Some(start), Some(trace)) = (start, self.options.trace.as_deref_mut()) {
            trace.launch(&LaunchRecord {
                kernel: launch.kernel,
                params: &sizes.params,
                name: &entry.name,
                source: &launch.source,
                start,
                duration: start.elapsed(),
                tasks: parts.tasks,
                threads: self.session.pool.threads_for(parts.tasks, parts.grain),
                flops: sizes.flops,
                bytes: sizes.bytes,
            });
        }
        Ok(())
    }

    fn copy(&mut self, from: BufferId, to: BufferId) -> Result<(), RunError> {
        let (source, target) = (self.view(from)?, self.view(to)?);
        if source.bytes != target.bytes {
            return Err(RunError::Bytes {
                place: format!("copy of buffer {} to buffer {}", from.0, to.0),
                from: source.bytes as u64,
                to: target.bytes as u64,
            });
        }
        // SAFETY: both views are valid for their bytes, `to` for writing by validation; the copy
        // allows them to overlap.
        unsafe { std::ptr::copy(source.pointer, target.pointer, source.bytes) };
        Ok(())
    }

    fn check_equal(&self, left: &Dim, right: &Dim, source: &str) -> Result<(), RunError> {
        match left.unequal(right, &self.symbols) {
            Ok(None) => Ok(()),
            Ok(Some(sizes)) => Err(RunError::Unequal { node: source.to_owned(), sizes }),
            Err(error) => Err(RunError::Size { place: format!("node `{source}`"), error }),
        }
    }

    /// Gives a symbol the value that a node found, and memory to the buffers whose sizes are then known.
    pub(super) fn bind(&mut self, symbol: &Symbol, value: i64, node: &str) -> Result<(), RunError> {
        if let Some(&bound) = self.plan.symbols.get(symbol) {
            if bound == value {
                return Ok(());
            }
            let (node, symbol) = (node.to_owned(), symbol.clone());
            return Err(RunError::Contradiction { node, symbol, value: bound, computed: value });
        }
        check_bounds(&self.model.program().symbols, symbol, value, Some(node))?;
        self.symbols.to_mut().insert(symbol.clone(), value);
        for (number, group) in self.model.prepared().groups.iter().enumerate() {
            if group.late.contains(symbol) {
                self.place_if_known(number)?;
            }
        }
        Ok(())
    }

    /// Places a group whose sizes the run computes, if all of them are known.
    fn place_if_known(&mut self, number: usize) -> Result<(), RunError> {
        let Some(group) = self.model.prepared().groups.get(number) else { return Ok(()) };
        if group.late.is_empty() {
            return Ok(());
        }
        let values: Option<Vec<i64>> =
            group.symbols.iter().map(|s| self.symbols.get(s).copied()).collect();
        values.map_or(Ok(()), |values| self.place_late(number, values))
    }

    /// Places a group under these values of its symbols.
    fn place_late(&mut self, number: usize, values: Vec<i64>) -> Result<(), RunError> {
        let model = self.model;
        let Some(group) = model.prepared().groups.get(number) else { return Ok(()) };
        let Some(block) = self.session.blocks.get_mut(number) else { return Ok(()) };
        let placed = self.placed.get(number).copied().unwrap_or(false);
        let before = block.placed_for.take();
        let used = &mut self.session.used;
        let plan = match before {
            Some(before) if before.values == values => {
                if placed {
                    block.placed_for = Some(before);
                    return Ok(());
                }
                before.plan
            }
            before => {
                if let (true, Some(before)) = (placed, before) {
                    used.arena = used.arena.saturating_sub(before.plan.arena);
                    used.outputs = used.outputs.saturating_sub(before.plan.outputs);
                }
                GroupPlan::new(model.program(), group, &self.symbols)?
            }
        };
        used.arena = used.arena.saturating_add(plan.arena);
        used.outputs = used.outputs.saturating_add(plan.outputs);
        self.check_memory()?;
        self.place(number, &plan)?;
        if let Some(block) = self.session.blocks.get_mut(number) {
            block.placed_for = Some(PlacedFor { values, plan });
        }
        if let Some(placed) = self.placed.get_mut(number) {
            *placed = true;
        }
        Ok(())
    }

    /// Gives the members of a group their memory.
    fn place(&mut self, number: usize, plan: &GroupPlan) -> Result<(), RunError> {
        let model = self.model;
        let Some(group) = model.prepared().groups.get(number) else { return Ok(()) };
        let Some(block) = self.session.blocks.get_mut(number) else { return Ok(()) };
        block.arena.reserve(plan.arena)?;
        for (id, place) in group.members.iter().zip(&plan.places) {
            let view = match place {
                Place::Arena { offset, bytes } => Some(View {
                    pointer: block.arena.pointer(*offset, *bytes)?,
                    bytes: *bytes as usize,
                }),
                Place::Output { number, sizes } => {
                    let Some(buffer) = model.program().buffer(*id) else { continue };
                    let offered = self.offered.get_mut(*number as usize).and_then(Option::take);
                    // The program writes all of an output, so that what was there before does not matter.
                    let fits = |tensor: &mut Tensor| {
                        (tensor.dtype(), tensor.sizes()) == (buffer.dtype, sizes)
                            && tensor.objects().is_none()
                            && tensor.is_exclusive()
                    };
                    let offered =
                        offered.and_then(|mut tensor| fits(&mut tensor).then_some(tensor));
                    let mut tensor = match offered {
                        Some(tensor) => tensor,
                        None => Tensor::zeros(buffer.dtype, sizes.clone())?,
                    };
                    let bytes = tensor.bytes_mut();
                    let view = View { pointer: bytes.as_mut_ptr(), bytes: bytes.len() };
                    if let Some(slot) = self.outputs.get_mut(*number as usize) {
                        *slot = Some(tensor);
                    }
                    Some(view)
                }
                Place::Nowhere => None,
            };
            if let Some(slot) = self.views.get_mut(id.0 as usize) {
                *slot = view;
            }
        }
        Ok(())
    }

    /// Makes sure that each thread has so much scratch memory.
    fn reserve_scratch(&mut self, each: u64) -> Result<(), RunError> {
        let threads = self.session.pool.threads() as u64;
        let bytes = each.saturating_mul(threads);
        if bytes <= self.session.scratch.size() as u64 && bytes <= self.session.used.scratch {
            return Ok(());
        }
        self.session.used.scratch = self.session.used.scratch.max(bytes);
        self.check_memory()?;
        Ok(self.session.scratch.reserve(bytes)?)
    }

    pub(super) fn check_memory(&self) -> Result<(), RunError> {
        let (needed, limit) = (self.session.used.total(), self.session.memory_limit);
        if needed > limit { Err(RunError::MemoryLimit { needed, limit }) } else { Ok(()) }
    }

    /// The memory of a buffer; an error that says why, if it has none.
    fn view(&self, id: BufferId) -> Result<View, RunError> {
        match self.views.get(id.0 as usize) {
            Some(Some(view)) => Ok(*view),
            // Asking again for the sizes tells what is wrong with them.
            _ => Err(match sizes_of(self.model.program(), id, &self.symbols) {
                Err(error) => error,
                Ok(sizes) => RunError::ImpossibleSize {
                    place: format!("buffer {}", id.0),
                    value: format!("{sizes:?}"),
                },
            }),
        }
    }

    pub(super) fn bytes(&self, id: BufferId) -> Result<&[u8], RunError> {
        let View { pointer, bytes } = self.view(id)?;
        // SAFETY: a view is valid for its bytes, all initialised, and no kernel runs meanwhile.
        Ok(unsafe { std::slice::from_raw_parts(pointer, bytes) })
    }

    /// Writes to the start of a buffer what must fill all of it.
    pub(super) fn write(&mut self, id: BufferId, value: &[u8]) -> Result<(), RunError> {
        let View { pointer, bytes } = self.view(id)?;
        if bytes != value.len() {
            let place = format!("values for buffer {}", id.0);
            return Err(RunError::Bytes { place, from: value.len() as u64, to: bytes as u64 });
        }
        // SAFETY: the view is valid for its bytes, and for writing by validation.
        unsafe { std::slice::from_raw_parts_mut(pointer, bytes) }.copy_from_slice(value);
        Ok(())
    }

    /// Writes integers, which must fill all of a buffer.
    fn write_all(
        &self,
        id: BufferId,
        values: impl ExactSizeIterator<Item = Result<i64, RunError>>,
    ) -> Result<(), RunError> {
        let View { pointer, bytes } = self.view(id)?;
        let expected = values.len() * size_of::<i64>();
        if bytes != expected {
            let place = format!("values for buffer {}", id.0);
            return Err(RunError::Bytes { place, from: expected as u64, to: bytes as u64 });
        }
        // SAFETY: the view is valid for its bytes, and for writing by validation.
        let bytes = unsafe { std::slice::from_raw_parts_mut(pointer, bytes) };
        for (slot, value) in bytes.chunks_exact_mut(size_of::<i64>()).zip(values) {
            slot.copy_from_slice(&value?.to_le_bytes());
        }
        Ok(())
    }

    fn element<const N: usize>(&self, id: BufferId, number: usize) -> Result<[u8; N], RunError> {
        let bytes = self.bytes(id)?;
        let begin = number.saturating_mul(N);
        bytes.get(begin..).and_then(|bytes| bytes.first_chunk()).copied().ok_or_else(|| {
            RunError::Bytes {
                place: format!("element {number} of buffer {}", id.0),
                from: bytes.len() as u64,
                to: begin.saturating_add(N) as u64,
            }
        })
    }

    pub(super) fn integer(&self, id: BufferId, number: usize) -> Result<i64, RunError> {
        let dtype = self.model.program().buffer(id).map_or(DType::I64, |buffer| buffer.dtype);
        Ok(match dtype {
            DType::I8 => i8::from_le_bytes(self.element(id, number)?).into(),
            DType::I16 => i16::from_le_bytes(self.element(id, number)?).into(),
            DType::I32 => i32::from_le_bytes(self.element(id, number)?).into(),
            DType::U8 => u8::from_le_bytes(self.element(id, number)?).into(),
            DType::U16 => u16::from_le_bytes(self.element(id, number)?).into(),
            DType::U32 => u32::from_le_bytes(self.element(id, number)?).into(),
            // Above 2^63 no size is possible; as a negative number it is refused like one.
            _ => i64::from_le_bytes(self.element(id, number)?),
        })
    }

    pub(super) fn truth(&self, id: BufferId) -> Result<bool, RunError> {
        Ok(self.element::<1>(id, 0)? != [0])
    }

    /// Puts the outputs into a list, in the model's order.
    pub(super) fn results(&mut self, outputs: &mut Vec<Tensor>) -> Result<(), RunError> {
        for (number, port) in self.model.program().outputs.iter().enumerate() {
            let output = self.output(number, port.buffer)?;
            // An input that is handed out has a table already.
            outputs.push(match output.objects() {
                None if output.dtype().is_handle() => output.with_objects(&self.objects),
                _ => output,
            });
        }
        Ok(())
    }

    /// Leaves the memory of its lists to the next run.
    pub(super) fn end(mut self) {
        let kept = &mut self.session.kept;
        self.views.clear();
        self.placed.clear();
        self.pointers.clear();
        self.copies.clear();
        self.outputs.clear();
        self.offered.clear();
        let own = Arc::get_mut(&mut self.objects).is_some() && self.objects.bytes() == 0;
        *kept = Kept {
            views: self.views,
            placed: self.placed,
            pointers: self.pointers,
            copies: self.copies,
            outputs: self.outputs,
            offered: self.offered,
            objects: own.then_some(self.objects),
        };
    }

    fn output(&mut self, number: usize, id: BufferId) -> Result<Tensor, RunError> {
        let program = self.model.program();
        let Some(buffer) = program.buffer(id) else {
            return Err(RunError::ImpossibleSize { place: "output".into(), value: "none".into() });
        };
        let found = match &buffer.location {
            Location::Input(number) => self.inputs.get(*number as usize).cloned(),
            Location::Output(own) => {
                let later = program.outputs.get(number + 1..).unwrap_or_default();
                match self.outputs.get_mut(*own as usize) {
                    Some(output) if later.iter().all(|port| port.buffer != id) => output.take(),
                    Some(output) => output.clone(),
                    None => None,
                }
            }
            _ => None,
        };
        if let Some(tensor) = found {
            return Ok(tensor);
        }
        let sizes = sizes_of(self.model.program(), id, &self.symbols)?;
        let length = Tensor::byte_length(buffer.dtype, &sizes)?;
        let constant = self.model.constants().get(id.0 as usize).and_then(Option::as_ref);
        if let Some(constant) = constant.filter(|constant| constant.len() == length) {
            return Ok(Tensor::from_storage(buffer.dtype, sizes, constant.clone())?);
        }
        let bytes = self.bytes(id)?;
        let place = || format!("output in buffer {}", id.0);
        let bytes = bytes.get(..length).ok_or_else(|| RunError::Bytes {
            place: place(),
            from: bytes.len() as u64,
            to: length as u64,
        })?;
        Ok(Tensor::from_bytes(buffer.dtype, sizes, bytes)?)
    }
}

/// What all threads of a launch need to know.
struct Call<'a> {
    function: KernelFunction,
    operands: &'a [*mut u8],
    params: &'a [i64],
    scratch: *mut u8,
    /// Scratch bytes of each thread.
    stride: usize,
}

// SAFETY: the pointers are only handed to the kernel, which is made to be run by several threads
// on distinct tasks at once; each thread gets a scratch range of its own.
unsafe impl Sync for Call<'_> {}

impl Call<'_> {
    fn share(&self, share: Share) {
        let scratch = self.scratch.wrapping_add(share.thread * self.stride);
        // SAFETY: the function was compiled for these operands and parameters: their numbers were
        // validated when the program was loaded, buffers are as long as their shapes say, and the
        // scratch block holds one range for each thread of the pool.
        unsafe {
            (self.function)(
                self.operands.as_ptr(),
                self.params.as_ptr(),
                scratch,
                share.tasks.start,
                share.tasks.end,
            );
        }
    }
}

/// Runs a kernel over its tasks on the session's threads.
fn call(
    session: &mut Session,
    function: KernelFunction,
    operands: &[*mut u8],
    params: &[i64],
    parts: Parts,
) -> Result<(), RunError> {
    let threads = session.pool.threads() as u64;
    let scratch = session.scratch.pointer(0, parts.scratch.saturating_mul(threads))?;
    let stride = parts.scratch as usize;
    let call = Call { function, operands, params, scratch, stride };
    Ok(session.pool.run(parts.tasks, parts.grain, &|share| call.share(share))?)
}
