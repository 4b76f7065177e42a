//! Linking: sections of all objects in one image, their symbols resolved, relocations applied.
//!
//! Invariant: planning reads objects only and linking writes one byte slice only, so that both can
//! be tested for any architecture on any machine.
//!
//! The image holds the sections, then one stub for each external function (a jump through its
//! slot, for libraries lie further away than a direct call reaches), then the slots.

use super::LoadError;
use super::external::External;
use super::relocation::{Field, Subject, decode};
use kiln_program::Architecture;
use object::read::elf::ElfFile64;
use object::{
    Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionKind, SymbolKind, SymbolSection, elf,
};
use std::collections::BTreeMap;

/// The greatest alignment that a section may ask for: a page.
const MAX_ALIGNMENT: u64 = 4096;

/// Bytes of a stub and of a slot.
const STUB: usize = 16;
const SLOT: usize = 8;

/// Where everything goes, before any address is known.
pub(super) struct LinkPlan<'data> {
    architecture: Architecture,
    sections: Vec<PlacedSection<'data>>,
    fixups: Vec<Fixup>,
    /// Whatever a relocation reaches through a slot, and all external functions.
    slots: BTreeMap<Definition, usize>,
    stubs: BTreeMap<External, usize>,
    functions: BTreeMap<String, usize>,
    size: usize,
}

struct PlacedSection<'data> {
    /// Offset in the image.
    offset: usize,
    data: &'data [u8],
}

/// One relocation, resolved.
struct Fixup {
    /// Offset of the field in the image, and of the end of its section.
    place: usize,
    limit: usize,
    subject: Subject,
    field: Field,
    target: Definition,
    addend: i64,
    /// For messages.
    object: usize,
    section: String,
    offset: u64,
}

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Definition {
    /// An offset in the image.
    Image(usize),
    /// A function outside.
    External(External),
}

type Elf<'data> = ElfFile64<'data, object::Endianness>;

/// Offsets in the image of one object's sections, by section number.
type Placement = BTreeMap<usize, usize>;

impl<'data> LinkPlan<'data> {
    pub(super) fn new(
        objects: &[&'data [u8]],
        architecture: Architecture,
    ) -> Result<Self, LoadError> {
        let files = objects
            .iter()
            .enumerate()
            .map(|(object, bytes)| parse(object, bytes, architecture))
            .collect::<Result<Vec<_>, _>>()?;
        let mut plan = LinkPlan {
            architecture,
            sections: Vec::new(),
            fixups: Vec::new(),
            slots: BTreeMap::new(),
            stubs: BTreeMap::new(),
            functions: BTreeMap::new(),
            size: 0,
        };
        let mut placements = Vec::with_capacity(files.len());
        for (object, file) in files.iter().enumerate() {
            placements.push(plan.place_sections(object, file, objects[object].len())?);
        }
        let mut globals = BTreeMap::new();
        for (object, (file, placement)) in files.iter().zip(&placements).enumerate() {
            plan.collect_globals(object, file, placement, &mut globals)?;
        }
        for (object, (file, placement)) in files.iter().zip(&placements).enumerate() {
            plan.resolve_relocations(object, file, placement, &globals)?;
        }
        plan.place_stubs_and_slots()?;
        Ok(plan)
    }

    /// Bytes of the image.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Offsets in the image of all global functions.
    pub(super) fn into_functions(self) -> BTreeMap<String, usize> {
        self.functions
    }

    /// Writes the image for this address into `image`, which is zeroed and has the planned size.
    pub(super) fn link_into(
        &self,
        image: &mut [u8],
        address: u64,
        external: impl Fn(External) -> u64,
    ) -> Result<(), LoadError> {
        let too_small =
            || LoadError::Memory { bytes: self.size, reason: "image too small".to_owned() };
        for section in &self.sections {
            let range = section.offset..section.offset + section.data.len();
            image.get_mut(range).ok_or_else(too_small)?.copy_from_slice(section.data);
        }
        let symbol_address = |definition: Definition| match definition {
            Definition::Image(offset) => address.wrapping_add(offset as u64),
            Definition::External(function) => external(function),
        };
        for (&definition, &slot) in &self.slots {
            let field = image.get_mut(slot..slot + SLOT).ok_or_else(too_small)?;
            field.copy_from_slice(&symbol_address(definition).to_le_bytes());
        }
        for (&function, &stub) in &self.stubs {
            let slot = self.slots.get(&Definition::External(function)).copied();
            let slot = slot.ok_or_else(too_small)?;
            let code = image.get_mut(stub..stub + STUB).ok_or_else(too_small)?;
            let at = |offset: usize| address.wrapping_add(offset as u64);
            write_stub(self.architecture, code, at(stub), at(slot)).ok_or_else(too_small)?;
        }
        for fixup in &self.fixups {
            let target = match (fixup.subject, fixup.target, fixup.field) {
                (Subject::Slot, definition, _) => {
                    let slot = self.slots.get(&definition).copied().ok_or_else(too_small)?;
                    address.wrapping_add(slot as u64)
                }
                (Subject::Symbol, definition, Field::Absolute64) => symbol_address(definition),
                // Anything narrower does not reach another library: the stub stands for it.
                (Subject::Symbol, Definition::External(function), _) => {
                    let stub = self.stubs.get(&function).copied().ok_or_else(too_small)?;
                    address.wrapping_add(stub as u64)
                }
                (Subject::Symbol, definition, _) => symbol_address(definition),
            };
            let field = image.get_mut(fixup.place..fixup.limit).ok_or_else(too_small)?;
            let place = address.wrapping_add(fixup.place as u64);
            fixup
                .field
                .apply(field, place, target.wrapping_add_signed(fixup.addend))
                .map_err(|_| fixup.does_not_fit())?;
        }
        Ok(())
    }

    fn place_sections(
        &mut self,
        object: usize,
        file: &Elf<'data>,
        object_size: usize,
    ) -> Result<Placement, LoadError> {
        let mut placement = Placement::new();
        // Sections of a sound object do not overlap; without this, many headers over one range
        // could ask for any amount of memory.
        let mut budget = object_size;
        for section in file.sections() {
            if !is_loaded(object, &section)? {
                continue;
            }
            let data = section.data().map_err(malformed(object))?;
            let alignment = section.align().max(1);
            if alignment > MAX_ALIGNMENT || !alignment.is_power_of_two() {
                let what = format!("a section aligned to {alignment}");
                return Err(LoadError::Unsupported { object, what });
            }
            budget = budget.checked_sub(data.len()).ok_or_else(|| LoadError::Malformed {
                object,
                reason: "sections overlap".to_owned(),
            })?;
            let offset = self.reserve(data.len(), alignment as usize)?;
            placement.insert(section.index().0, offset);
            self.sections.push(PlacedSection { offset, data });
        }
        Ok(placement)
    }

    fn reserve(&mut self, length: usize, alignment: usize) -> Result<usize, LoadError> {
        let placed = self
            .size
            .checked_next_multiple_of(alignment)
            .and_then(|offset| offset.checked_add(length).map(|end| (offset, end)));
        let (offset, end) = placed.ok_or_else(|| LoadError::Memory {
            bytes: usize::MAX,
            reason: "larger than the address space".to_owned(),
        })?;
        self.size = end;
        Ok(offset)
    }

    fn collect_globals(
        &mut self,
        object: usize,
        file: &Elf<'data>,
        placement: &Placement,
        globals: &mut BTreeMap<String, usize>,
    ) -> Result<(), LoadError> {
        for symbol in file.symbols().filter(|symbol| symbol.is_global()) {
            let Some(offset) = image_offset(object, file, placement, &symbol)? else { continue };
            let name = symbol.name().map_err(malformed(object))?;
            if globals.contains_key(name) {
                if symbol.is_weak() {
                    continue;
                }
                return Err(LoadError::Duplicate { symbol: name.to_owned() });
            }
            globals.insert(name.to_owned(), offset);
            if symbol.kind() == SymbolKind::Text {
                self.functions.insert(name.to_owned(), offset);
            }
        }
        Ok(())
    }

    fn resolve_relocations(
        &mut self,
        object: usize,
        file: &Elf<'data>,
        placement: &Placement,
        globals: &BTreeMap<String, usize>,
    ) -> Result<(), LoadError> {
        for section in file.sections() {
            let Some(&start) = placement.get(&section.index().0) else { continue };
            let length = section.data().map_err(malformed(object))?.len();
            let name = section.name().unwrap_or("?");
            for (offset, relocation) in section.relocations() {
                let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
                if relocation.has_implicit_addend() {
                    let what = "relocations without addends".to_owned();
                    return Err(LoadError::Unsupported { object, what });
                }
                let Some((subject, field)) = decode(self.architecture, r_type) else {
                    let what = format!("relocation type {r_type}");
                    return Err(LoadError::Unsupported { object, what });
                };
                let target = match relocation.target() {
                    RelocationTarget::Symbol(index) => {
                        let symbol = file.symbol_by_index(index).map_err(malformed(object))?;
                        match image_offset(object, file, placement, &symbol)? {
                            Some(offset) => Definition::Image(offset),
                            None => outside(object, &symbol, globals)?,
                        }
                    }
                    _ => {
                        let what = "a relocation without a symbol".to_owned();
                        return Err(LoadError::Unsupported { object, what });
                    }
                };
                let fixup = Fixup {
                    place: usize::try_from(offset)
                        .ok()
                        .filter(|&offset| offset <= length)
                        .map_or(usize::MAX, |offset| start + offset),
                    limit: start + length,
                    subject,
                    field,
                    target,
                    addend: relocation.addend(),
                    object,
                    section: name.to_owned(),
                    offset,
                };
                if fixup.place > fixup.limit {
                    return Err(fixup.does_not_fit());
                }
                if subject == Subject::Slot {
                    self.slots.insert(target, 0);
                }
                if let Definition::External(function) = target {
                    self.slots.insert(target, 0);
                    self.stubs.insert(function, 0);
                }
                self.fixups.push(fixup);
            }
        }
        Ok(())
    }

    fn place_stubs_and_slots(&mut self) -> Result<(), LoadError> {
        let functions: Vec<External> = self.stubs.keys().copied().collect();
        for function in functions {
            let offset = self.reserve(STUB, STUB)?;
            self.stubs.insert(function, offset);
        }
        let definitions: Vec<Definition> = self.slots.keys().copied().collect();
        for definition in definitions {
            let offset = self.reserve(SLOT, SLOT)?;
            self.slots.insert(definition, offset);
        }
        Ok(())
    }
}

impl Fixup {
    fn does_not_fit(&self) -> LoadError {
        LoadError::Relocation {
            object: self.object,
            section: self.section.clone(),
            offset: self.offset,
        }
    }
}

fn malformed(object: usize) -> impl Fn(object::Error) -> LoadError {
    move |error| LoadError::Malformed { object, reason: error.to_string() }
}

fn parse<'data>(
    object: usize,
    bytes: &'data [u8],
    expected: Architecture,
) -> Result<Elf<'data>, LoadError> {
    let file = Elf::parse(bytes).map_err(malformed(object))?;
    let actual = match file.architecture() {
        object::Architecture::X86_64 => Some(Architecture::X86_64),
        object::Architecture::Aarch64 => Some(Architecture::Aarch64),
        _ => None,
    };
    if actual != Some(expected) || !file.is_little_endian() {
        let actual = format!("{:?}", file.architecture());
        return Err(LoadError::Architecture { object, expected, actual });
    }
    if file.kind() != ObjectKind::Relocatable {
        let what = "a file type that is not relocatable".to_owned();
        return Err(LoadError::Unsupported { object, what });
    }
    Ok(file)
}

/// Whether a section belongs into memory; an error if it does but kernels may not have it.
fn is_loaded<'data>(object: usize, section: &impl ObjectSection<'data>) -> Result<bool, LoadError> {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return Ok(false) };
    if sh_flags & u64::from(elf::SHF_ALLOC) == 0 || section.size() == 0 {
        return Ok(false);
    }
    let name = section.name().map_err(malformed(object))?;
    match section.kind() {
        // Nothing ever unwinds through a kernel.
        _ if name == ".eh_frame" => Ok(false),
        SectionKind::Note | SectionKind::Metadata => Ok(false),
        SectionKind::Text
        | SectionKind::ReadOnlyData
        | SectionKind::ReadOnlyString
        | SectionKind::ReadOnlyDataWithRel => Ok(true),
        // A kernel with state of its own could not run on several threads.
        kind => Err(LoadError::Unsupported {
            object,
            what: format!("section `{name}` ({kind:?}): only code and constants are loaded"),
        }),
    }
}

/// Offset in the image of a symbol that this object defines; `None` if it does not.
fn image_offset<'data>(
    object: usize,
    file: &Elf<'data>,
    placement: &Placement,
    symbol: &impl ObjectSymbol<'data>,
) -> Result<Option<usize>, LoadError> {
    let SymbolSection::Section(index) = symbol.section() else { return Ok(None) };
    let Some(&start) = placement.get(&index.0) else { return Ok(None) };
    let size = file.section_by_index(index).map_err(malformed(object))?.size();
    if symbol.address() > size {
        let reason = "a symbol lies outside its section".to_owned();
        return Err(LoadError::Malformed { object, reason });
    }
    Ok(Some(start + symbol.address() as usize))
}

/// What a symbol that its own object does not define stands for.
fn outside<'data>(
    object: usize,
    symbol: &impl ObjectSymbol<'data>,
    globals: &BTreeMap<String, usize>,
) -> Result<Definition, LoadError> {
    let name = symbol.name().map_err(malformed(object))?;
    let defined = symbol.is_undefined().then(|| {
        globals
            .get(name)
            .map(|&offset| Definition::Image(offset))
            .or_else(|| External::named(name).map(Definition::External))
    });
    defined.flatten().ok_or_else(|| LoadError::Unresolved { object, symbol: name.to_owned() })
}

/// A jump through the slot; `None` if the slot is out of reach, which it never is.
fn write_stub(architecture: Architecture, code: &mut [u8], stub: u64, slot: u64) -> Option<()> {
    match architecture {
        Architecture::X86_64 => {
            // jmp *[rip + distance]
            code.first_chunk_mut::<2>()?.copy_from_slice(&[0xff, 0x25]);
            let next = stub.wrapping_add(6);
            Field::Relative32.apply(code.get_mut(2..)?, next, slot).ok()
        }
        Architecture::Aarch64 => {
            // adrp x16, slot; ldr x16, [x16, slot]; br x16
            let words = [0x9000_0010u32, 0xf940_0210, 0xd61f_0200];
            for (bytes, word) in code.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            Field::Page21.apply(code, stub, slot).ok()?;
            Field::Low12(3).apply(code.get_mut(4..)?, stub, slot).ok()
        }
    }
}
