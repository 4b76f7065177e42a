//! Masked stores of a single lane become stores of one element.
//!
//! Invariant: what is stored, and where, stays the same; every other instruction stays as it is.
//!
//! LLVM 22 takes a masked store of a truncated vector, of which the mask leaves one lane, for a store
//! of the whole element from before the truncation: four or eight bytes where one was meant, over
//! what lies behind it. Here no such mask is left for it to see.

use inkwell::builder::{Builder, BuilderError};
use inkwell::context::ContextRef;
use inkwell::module::Module;
use inkwell::values::{
    AsValueRef, BasicValueEnum, CallSiteValue, InstructionOpcode, InstructionValue, PointerValue,
    VectorValue,
};

/// A masked store whose mask leaves one lane.
struct OneLane<'ctx> {
    call: InstructionValue<'ctx>,
    vector: VectorValue<'ctx>,
    to: PointerValue<'ctx>,
    lane: u32,
}

/// Replaces the masked stores of one lane in a module.
pub(super) fn store_single_lanes(module: &Module<'_>) -> Result<(), String> {
    let context = module.get_context();
    let builder = context.create_builder();
    let found: Vec<OneLane<'_>> = module
        .get_functions()
        .flat_map(|function| function.get_basic_blocks())
        .flat_map(|block| block.get_instructions())
        .filter_map(one_lane)
        .collect();
    for store in found {
        replace(&context, &builder, &store)?;
    }
    Ok(())
}

fn one_lane(call: InstructionValue<'_>) -> Option<OneLane<'_>> {
    if call.get_opcode() != InstructionOpcode::Call {
        return None;
    }
    let callee = CallSiteValue::try_from(call).ok()?.get_called_fn_value()?;
    if !callee.get_name().to_bytes().starts_with(b"llvm.masked.store.") {
        return None;
    }
    let operand = |index| call.get_operand(index)?.value();
    let BasicValueEnum::VectorValue(vector) = operand(0)? else { return None };
    let BasicValueEnum::PointerValue(to) = operand(1)? else { return None };
    // The mask comes last, with an alignment in front of it or not.
    let mask = (2..call.get_num_operands()).filter_map(operand).find_map(|value| match value {
        BasicValueEnum::VectorValue(mask) => Some(mask),
        _ => None,
    })?;
    let mut lanes = (0..mask.get_type().get_size()).filter(|&lane| is_set(mask, lane));
    let lane = lanes.next()?;
    (lanes.next().is_none() && mask.is_const()).then_some(OneLane { call, vector, to, lane })
}

/// Whether a lane of a constant mask is on; lanes that are not known are.
fn is_set(mask: VectorValue<'_>, lane: u32) -> bool {
    if !mask.is_const() {
        return true;
    }
    // SAFETY: the mask is a constant vector; of a lane that it does not have, or that is an
    // expression, the answer is null.
    let element = unsafe { llvm_sys::core::LLVMGetAggregateElement(mask.as_value_ref(), lane) };
    if element.is_null() {
        return true;
    }
    // SAFETY: the element of a constant is a live constant of the same context.
    let element = unsafe { BasicValueEnum::new(element) };
    !matches!(element, BasicValueEnum::IntValue(bit) if bit.get_zero_extended_constant() == Some(0))
}

fn replace<'ctx>(
    context: &ContextRef<'ctx>,
    builder: &Builder<'ctx>,
    store: &OneLane<'ctx>,
) -> Result<(), String> {
    let wrong = |error: BuilderError| error.to_string();
    builder.position_before(&store.call);
    let index = context.i64_type().const_int(u64::from(store.lane), false);
    let element = builder.build_extract_element(store.vector, index, "").map_err(wrong)?;
    let ty = store.vector.get_type().get_element_type();
    // SAFETY: the masked store wrote to this element, so it lies inside of the buffer.
    let to = unsafe { builder.build_in_bounds_gep(ty, store.to, &[index], "").map_err(wrong)? };
    // Lanes lie anywhere; the processors at hand do not mind.
    let stored = builder.build_store(to, element).map_err(wrong)?;
    stored.set_alignment(1).map_err(|error| error.to_string())?;
    store.call.erase_from_basic_block();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;

    fn rewritten(mask: &str) -> String {
        let text = format!(
            "define void @f(ptr %p, <4 x i8> %v, <4 x i1> %m) {{\n  \
             call void @llvm.masked.store.v4i8.p0(<4 x i8> %v, ptr align 1 %p, <4 x i1> {mask})\n  \
             ret void\n}}\n"
        );
        let context = Context::create();
        let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "test");
        let module = context.create_module_from_ir(buffer).unwrap();
        store_single_lanes(&module).unwrap();
        module.verify().unwrap();
        module.print_to_string().to_string()
    }

    #[test]
    fn stores_of_one_lane_are_stores_of_an_element() {
        let first = rewritten("<i1 true, i1 false, i1 false, i1 false>");
        assert!(first.contains("store i8") && !first.contains("call void"), "{first}");
        let third = rewritten("<i1 false, i1 false, i1 true, i1 false>");
        assert!(third.contains("extractelement <4 x i8> %v, i64 2"), "{third}");
    }

    #[test]
    fn other_stores_stay() {
        for mask in ["<i1 true, i1 true, i1 false, i1 false>", "zeroinitializer", "%m"] {
            let text = rewritten(mask);
            assert!(text.contains("call void") && !text.contains("store i8"), "{mask}: {text}");
        }
    }
}
