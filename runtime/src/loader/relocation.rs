//! Relocations of both architectures: what an ELF type number means, and how a value is put there.
//!
//! Invariant: a value that does not fit its field is an error, never a truncated address.

use kiln_program::Architecture;
use object::elf;

/// Which address a relocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The symbol itself.
    Symbol,
    /// The slot that holds the symbol's address.
    Slot,
}

/// Where and how the value is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `S + A` in 64 bits.
    Absolute64,
    /// `S + A` in 32 bits, zero-extended when it is used.
    Absolute32,
    /// `S + A` in 32 bits, sign-extended when it is used.
    AbsoluteSigned32,
    /// `S + A - P` in 64 bits.
    Relative64,
    /// `S + A - P` in 32 bits.
    Relative32,
    /// AArch64 `B`, `BL`: `S + A - P` in words, 26 bits.
    Branch26,
    /// AArch64 `B.cond`, `CBZ`: `S + A - P` in words, 19 bits from bit 5.
    Branch19,
    /// AArch64 `TBZ`: `S + A - P` in words, 14 bits from bit 5.
    Branch14,
    /// AArch64 `ADR`: `S + A - P`, 21 bits in two parts.
    Address21,
    /// AArch64 `ADRP`: the distance of the pages of `S + A` and `P`, 21 bits in two parts.
    Page21,
    /// AArch64 `ADD`, `LDR`, `STR`: the low 12 bits of `S + A`, in units of `1 << .0` bytes.
    Low12(u32),
}

/// What an ELF relocation type of this architecture means; `None` if it is not supported.
pub(super) fn decode(architecture: Architecture, r_type: u32) -> Option<(Subject, Field)> {
    use Field::*;
    use Subject::*;
    Some(match architecture {
        Architecture::X86_64 => match r_type {
            elf::R_X86_64_64 => (Symbol, Absolute64),
            elf::R_X86_64_32 => (Symbol, Absolute32),
            elf::R_X86_64_32S => (Symbol, AbsoluteSigned32),
            elf::R_X86_64_PC64 => (Symbol, Relative64),
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => (Symbol, Relative32),
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
                (Slot, Relative32)
            }
            _ => return None,
        },
        Architecture::Aarch64 => match r_type {
            elf::R_AARCH64_ABS64 => (Symbol, Absolute64),
            elf::R_AARCH64_ABS32 => (Symbol, Absolute32),
            elf::R_AARCH64_PREL64 => (Symbol, Relative64),
            elf::R_AARCH64_PREL32 => (Symbol, Relative32),
            elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => (Symbol, Branch26),
            elf::R_AARCH64_CONDBR19 => (Symbol, Branch19),
            elf::R_AARCH64_TSTBR14 => (Symbol, Branch14),
            elf::R_AARCH64_ADR_PREL_LO21 => (Symbol, Address21),
            elf::R_AARCH64_ADR_PREL_PG_HI21 => (Symbol, Page21),
            elf::R_AARCH64_ADD_ABS_LO12_NC | elf::R_AARCH64_LDST8_ABS_LO12_NC => (Symbol, Low12(0)),
            elf::R_AARCH64_LDST16_ABS_LO12_NC => (Symbol, Low12(1)),
            elf::R_AARCH64_LDST32_ABS_LO12_NC => (Symbol, Low12(2)),
            elf::R_AARCH64_LDST64_ABS_LO12_NC => (Symbol, Low12(3)),
            elf::R_AARCH64_LDST128_ABS_LO12_NC => (Symbol, Low12(4)),
            elf::R_AARCH64_ADR_GOT_PAGE => (Slot, Page21),
            elf::R_AARCH64_LD64_GOT_LO12_NC => (Slot, Low12(3)),
            _ => return None,
        },
    })
}

/// The value does not fit, is not aligned as the field needs, or the field is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoesNotFit;

impl Field {
    /// Puts the value for `target` (`S + A`) into `memory`, whose first byte is the field and has
    /// the address `place` (`P`).
    pub(super) fn apply(
        self,
        memory: &mut [u8],
        place: u64,
        target: u64,
    ) -> Result<(), DoesNotFit> {
        let relative = target.wrapping_sub(place) as i64;
        match self {
            Field::Absolute64 => put(memory, target.to_le_bytes()),
            Field::Absolute32 => {
                put(memory, u32::try_from(target).map_err(|_| DoesNotFit)?.to_le_bytes())
            }
            Field::AbsoluteSigned32 => {
                put(memory, i32::try_from(target as i64).map_err(|_| DoesNotFit)?.to_le_bytes())
            }
            Field::Relative64 => put(memory, relative.to_le_bytes()),
            Field::Relative32 => {
                put(memory, i32::try_from(relative).map_err(|_| DoesNotFit)?.to_le_bytes())
            }
            Field::Branch26 => insert(memory, words(relative, 26)?, 26, 0),
            Field::Branch19 => insert(memory, words(relative, 19)?, 19, 5),
            Field::Branch14 => insert(memory, words(relative, 14)?, 14, 5),
            Field::Address21 => insert_address(memory, fits(relative, 21)?),
            Field::Page21 => {
                let pages = (target & !0xfff).wrapping_sub(place & !0xfff) as i64 >> 12;
                insert_address(memory, fits(pages, 21)?)
            }
            Field::Low12(shift) => {
                let low = (target & 0xfff) as u32;
                if low & ((1 << shift) - 1) != 0 {
                    return Err(DoesNotFit);
                }
                insert(memory, low >> shift, 12, 10)
            }
        }
    }
}

fn put<const N: usize>(memory: &mut [u8], value: [u8; N]) -> Result<(), DoesNotFit> {
    *memory.first_chunk_mut().ok_or(DoesNotFit)? = value;
    Ok(())
}

/// `value` as a two's complement number of `bits` bits.
fn fits(value: i64, bits: u32) -> Result<u32, DoesNotFit> {
    let half = 1i64 << (bits - 1);
    if (-half..half).contains(&value) {
        Ok(value as u32 & ((1u32 << bits) - 1))
    } else {
        Err(DoesNotFit)
    }
}

fn words(distance: i64, bits: u32) -> Result<u32, DoesNotFit> {
    if distance % 4 != 0 {
        return Err(DoesNotFit);
    }
    fits(distance / 4, bits)
}

/// Replaces `bits` bits of an instruction, from bit `first` up.
fn insert(memory: &mut [u8], value: u32, bits: u32, first: u32) -> Result<(), DoesNotFit> {
    let word = memory.first_chunk_mut().ok_or(DoesNotFit)?;
    let mask = ((1u32 << bits) - 1) << first;
    *word = (u32::from_le_bytes(*word) & !mask | (value << first) & mask).to_le_bytes();
    Ok(())
}

/// The immediate of `ADR` and `ADRP`: two low bits at 29, the others at 5.
fn insert_address(memory: &mut [u8], value: u32) -> Result<(), DoesNotFit> {
    insert(memory, value & 3, 2, 29)?;
    insert(memory, value >> 2, 19, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(field: Field, before: u32, place: u64, target: u64) -> Result<u32, DoesNotFit> {
        let mut memory = before.to_le_bytes();
        field.apply(&mut memory, place, target).map(|()| u32::from_le_bytes(memory))
    }

    /// Instruction words as GNU as prints them.
    #[test]
    fn aarch64_instructions_get_their_immediates() {
        let cases = [
            // bl .+0x1000; bl .-4
            (Field::Branch26, 0x9400_0000, 0x1000, 0x2000, Ok(0x9400_0400)),
            (Field::Branch26, 0x9400_0000, 0x1000, 0xffc, Ok(0x97ff_ffff)),
            (Field::Branch26, 0x9400_0000, 0x1000, 0x1002, Err(DoesNotFit)),
            (Field::Branch26, 0x9400_0000, 0, 1 << 27, Err(DoesNotFit)),
            // cbz x0, .+8; tbz x0, #0, .+8
            (Field::Branch19, 0xb400_0000, 0x1000, 0x1008, Ok(0xb400_0040)),
            (Field::Branch14, 0x3600_0000, 0x1000, 0x1008, Ok(0x3600_0040)),
            (Field::Branch14, 0x3600_0000, 0, 1 << 15, Err(DoesNotFit)),
            // adr x0, .+5; adrp x0 one page on
            (Field::Address21, 0x1000_0000, 0x1000, 0x1005, Ok(0x3000_0020)),
            (Field::Page21, 0x9000_0000, 0x1ffc, 0x2abc, Ok(0xb000_0000)),
            (Field::Page21, 0x9000_0000, 0, 1 << 32, Err(DoesNotFit)),
            // add x0, x0, #0xabc; ldr q0, [x0, #0xab0]; ldr x0, [x0, #0xab8]
            (Field::Low12(0), 0x9100_0000, 0, 0x1abc, Ok(0x912a_f000)),
            (Field::Low12(4), 0x3dc0_0000, 0, 0x1ab0, Ok(0x3dc2_ac00)),
            (Field::Low12(3), 0xf940_0000, 0, 0x1ab8, Ok(0xf945_5c00)),
            (Field::Low12(3), 0xf940_0000, 0, 0x1ab4, Err(DoesNotFit)),
        ];
        for (field, before, place, target, expected) in cases {
            assert_eq!(applied(field, before, place, target), expected, "{field:?} {target:#x}");
        }
    }

    #[test]
    fn data_fields_are_checked() {
        assert_eq!(applied(Field::Relative32, 0, 100, 90), Ok(-10i32 as u32));
        assert_eq!(applied(Field::Relative32, 0, 0, 1 << 31), Err(DoesNotFit));
        assert_eq!(applied(Field::Absolute32, 0, 0, 0xffff_ffff), Ok(0xffff_ffff));
        assert_eq!(applied(Field::Absolute32, 0, 0, 1 << 32), Err(DoesNotFit));
        assert_eq!(applied(Field::AbsoluteSigned32, 0, 0, (-5i64) as u64), Ok(-5i32 as u32));
        assert_eq!(applied(Field::AbsoluteSigned32, 0, 0, 1 << 31), Err(DoesNotFit));
        assert_eq!(applied(Field::Absolute64, 0, 0, 1), Err(DoesNotFit), "four bytes only");
    }
}
