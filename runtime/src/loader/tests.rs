use super::external::External;
use super::link::LinkPlan;
use super::*;
use object::write::{Object, Relocation, SectionId, StandardSection, Symbol, SymbolSection};
use object::{
    BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope, elf,
};
use proptest::prelude::*;

fn new_object(architecture: object::Architecture) -> Object<'static> {
    Object::new(BinaryFormat::Elf, architecture, Endianness::Little)
}

fn x86() -> Object<'static> {
    new_object(object::Architecture::X86_64)
}

fn symbol(name: &str, kind: SymbolKind, section: SymbolSection) -> Symbol {
    Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section,
        flags: SymbolFlags::None,
    }
}

/// Adds a global function; gives its section and its offset there.
fn add_function(object: &mut Object<'_>, name: &str, code: &[u8]) -> (SectionId, u64) {
    let id = object.add_symbol(symbol(name, SymbolKind::Text, SymbolSection::Undefined));
    let text = object.section_id(StandardSection::Text);
    (text, object.add_symbol_data(id, text, code, 16))
}

fn relocate(
    object: &mut Object<'_>,
    (section, offset): (SectionId, u64),
    target: &str,
    r_type: u32,
    addend: i64,
) {
    let symbol = object.symbol_id(target.as_bytes()).unwrap_or_else(|| {
        object.add_symbol(symbol(target, SymbolKind::Text, SymbolSection::Undefined))
    });
    let flags = RelocationFlags::Elf { r_type };
    object.add_relocation(section, Relocation { offset, symbol, addend, flags }).unwrap();
}

/// Stores `params[0] + 8 bytes of read-only data` into the first buffer.
///
/// ```text
/// mov rax, [rsi]; add rax, [rip + constant]; mov rdi, [rdi]; mov [rdi], rax; ret
/// ```
fn adding_object(constant: i64, name: &str) -> Vec<u8> {
    let mut object = x86();
    let code =
        [0x48, 0x8b, 0x06, 0x48, 0x03, 0x05, 0, 0, 0, 0, 0x48, 0x8b, 0x3f, 0x48, 0x89, 0x07, 0xc3];
    let (text, offset) = add_function(&mut object, name, &code);
    let data = object.section_id(StandardSection::ReadOnlyData);
    let id = object.add_symbol(symbol("constant", SymbolKind::Data, SymbolSection::Undefined));
    object.symbol_mut(id).scope = SymbolScope::Compilation;
    object.add_symbol_data(id, data, &[0xcc; 24], 8);
    let at = object.add_symbol_data(id, data, &constant.to_le_bytes(), 8);
    assert_eq!(at, 24);
    relocate(&mut object, (text, offset + 6), "constant", elf::R_X86_64_PC32, -4);
    object.write().unwrap()
}

#[cfg(target_arch = "x86_64")]
fn call(function: KernelFunction, buffer: &mut [u8], param: i64) {
    let buffers = [buffer.as_mut_ptr()];
    // SAFETY: the hand-assembled functions only touch the first buffer and the first parameter.
    unsafe { function(buffers.as_ptr(), &param, std::ptr::null_mut(), 0, 1) }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn functions_of_several_objects_run_with_their_constants() {
    let (a, b) = (adding_object(1000, "a"), adding_object(-1, "b"));
    let code = LoadedCode::load(&[&a, &b]).unwrap();
    for (name, expected) in [("a", 1042i64), ("b", 41)] {
        let mut buffer = [0u8; 8];
        call(code.entry(name).unwrap(), &mut buffer, 42);
        assert_eq!(i64::from_le_bytes(buffer), expected, "{name}");
    }
    let missing = LoadError::NoEntry { symbol: "c".to_owned() };
    assert_eq!(code.entry("c").unwrap_err(), missing);
    assert!(code.entry("constant").is_err(), "data is no function");
}

/// ```text
/// mov rdi, [rdi]; mov edx, 5; mov esi, 7; jmp memset
/// ```
#[test]
#[cfg(target_arch = "x86_64")]
fn allowed_functions_are_reached_directly_and_through_slots() {
    let prologue = [0x48, 0x8b, 0x3f, 0xba, 5, 0, 0, 0, 0xbe, 7, 0, 0, 0];
    let mut object = x86();
    // jmp rel32
    let direct = [&prologue[..], &[0xe9, 0, 0, 0, 0]].concat();
    let (text, offset) = add_function(&mut object, "direct", &direct);
    relocate(&mut object, (text, offset + 14), "memset", elf::R_X86_64_PLT32, -4);
    // jmp [rip + slot]
    let slot = [&prologue[..], &[0xff, 0x25, 0, 0, 0, 0]].concat();
    let (text, offset) = add_function(&mut object, "slot", &slot);
    relocate(&mut object, (text, offset + 15), "memset", elf::R_X86_64_GOTPCRELX, -4);
    // mov rax, imm64; jmp rax
    let absolute = [&prologue[..], &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0]].concat();
    let (text, offset) = add_function(&mut object, "absolute", &absolute);
    relocate(&mut object, (text, offset + 15), "memset", elf::R_X86_64_64, 0);
    let bytes = object.write().unwrap();
    let code = LoadedCode::load(&[&bytes]).unwrap();
    for name in ["direct", "slot", "absolute"] {
        let mut buffer = [0u8; 8];
        call(code.entry(name).unwrap(), &mut buffer, 0);
        assert_eq!(buffer, [7, 7, 7, 7, 7, 0, 0, 0], "{name}");
    }
}

/// `f` (in one object) jumps to `g` (in another), which is the adding function.
#[test]
#[cfg(target_arch = "x86_64")]
fn objects_call_each_other() {
    let mut object = x86();
    let (text, offset) = add_function(&mut object, "f", &[0xe9, 0, 0, 0, 0]);
    relocate(&mut object, (text, offset + 1), "g", elf::R_X86_64_PLT32, -4);
    let (f, g) = (object.write().unwrap(), adding_object(5, "g"));
    let code = LoadedCode::load(&[&f, &g]).unwrap();
    let mut buffer = [0u8; 8];
    call(code.entry("f").unwrap(), &mut buffer, 3);
    assert_eq!(i64::from_le_bytes(buffer), 8);
    let alone = LoadedCode::load(&[&f]).unwrap_err();
    assert_eq!(alone, LoadError::Unresolved { object: 0, symbol: "g".to_owned() });
    let twice = LoadedCode::load(&[&g, &g]).unwrap_err();
    assert_eq!(twice, LoadError::Duplicate { symbol: "g".to_owned() });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_kernels_may_not_have_is_named() {
    let mut exit = x86();
    let (text, offset) = add_function(&mut exit, "f", &[0xe9, 0, 0, 0, 0]);
    relocate(&mut exit, (text, offset + 1), "exit", elf::R_X86_64_PLT32, -4);

    let mut writable = x86();
    let data = writable.section_id(StandardSection::Data);
    writable.append_section_data(data, &[1, 2, 3, 4], 4);

    let mut unknown = x86();
    let (text, offset) = add_function(&mut unknown, "f", &[0; 8]);
    relocate(&mut unknown, (text, offset), "f", elf::R_X86_64_TPOFF32, 0);

    let mut beyond = x86();
    let (text, offset) = add_function(&mut beyond, "f", &[0; 8]);
    relocate(&mut beyond, (text, offset + 6), "f", elf::R_X86_64_PC32, 0);

    let mut narrow = x86();
    let (text, offset) = add_function(&mut narrow, "f", &[0; 8]);
    relocate(&mut narrow, (text, offset), "f", elf::R_X86_64_32, 0);

    let cases = [
        (exit, "needs `exit`"),
        (writable, "only code and constants"),
        (unknown, "relocation type 23"),
        (beyond, "relocation at 0x6 of section `.text`"),
        (narrow, "does not fit"),
        (new_object(object::Architecture::Aarch64), "expected x86_64"),
    ];
    for (object, expected) in cases {
        let message = LoadedCode::load(&[&object.write().unwrap()]).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should say `{expected}`");
    }
    let empty = LoadedCode::load(&[b""]).unwrap_err();
    assert!(matches!(empty, LoadError::Malformed { object: 0, .. }), "{empty}");
    assert!(LoadedCode::load(&[]).unwrap().entry("f").is_err());
}

/// The image of an AArch64 object is linked, but not run, on any machine.
#[test]
fn aarch64_images_are_linked_for_any_address() {
    let mut object = new_object(object::Architecture::Aarch64);
    // adrp x0, constant; ldr q0, [x0, :lo12:constant]; bl memcpy; ret
    let words = [0x9000_0000u32, 0x3dc0_0000, 0x9400_0000, 0xd65f_03c0];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (text, offset) = add_function(&mut object, "f", &code);
    let data = object.section_id(StandardSection::ReadOnlyData);
    let id = object.add_symbol(symbol("constant", SymbolKind::Data, SymbolSection::Undefined));
    object.add_symbol_data(id, data, &[9; 32], 32);
    relocate(&mut object, (text, offset), "constant", elf::R_AARCH64_ADR_PREL_PG_HI21, 0);
    relocate(&mut object, (text, offset + 4), "constant", elf::R_AARCH64_LDST128_ABS_LO12_NC, 16);
    relocate(&mut object, (text, offset + 8), "memcpy", elf::R_AARCH64_CALL26, 0);
    let bytes = object.write().unwrap();

    let plan = LinkPlan::new(&[&bytes], Architecture::Aarch64).unwrap();
    // Text at 0, the constant at 32, the stub for memcpy at 64, its slot at 80.
    assert_eq!(plan.size(), 88);
    let mut image = vec![0; plan.size()];
    let external = |_: External| 0x1234_5678_9abc_def0u64;
    plan.link_into(&mut image, 0x4000_0000, external).unwrap();
    let word = |offset: usize| u32::from_le_bytes(image[offset..offset + 4].try_into().unwrap());
    assert_eq!(word(0), 0x9000_0000, "same page");
    assert_eq!(word(4), 0x3dc0_0000 | (48 / 16) << 10);
    assert_eq!(word(8), 0x9400_0000 | ((64 - 8) / 4));
    assert_eq!(word(64), 0x9000_0010, "adrp x16");
    assert_eq!(word(68), 0xf940_0210 | (80 / 8) << 10, "ldr x16");
    assert_eq!(word(72), 0xd61f_0200, "br x16");
    assert_eq!(&image[80..88], 0x1234_5678_9abc_def0u64.to_le_bytes());
    assert_eq!(plan.into_functions().get("f"), Some(&0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damage is found, or the object still links; it never brings the process down. Linking
    /// writes into a slice, so whatever escaped the checks would panic here.
    #[test]
    fn damaged_objects_never_crash(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = adding_object(7, "f");
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(plan) = LinkPlan::new(&[&bytes], Architecture::X86_64) {
            let mut image = vec![0; plan.size()];
            let _ = plan.link_into(&mut image, 0x7000_0000_0000, |_| 0);
        }
    }
}
