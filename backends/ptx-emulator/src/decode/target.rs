//! Which instructions a target has (PTX ISA, Target ISA Notes).
//!
//! Invariant: what an assembler would refuse for the text's own `.target` is refused here, too, as far as the table
//! goes; it lists what a backend has to choose by target.

use super::operands::Decoder;
use crate::error::ParseError;

/// Name, a modifier if not all forms are meant, the least target, and whether it has to be that one's own (`sm_90a`).
const NEEDS: &[(&str, Option<&str>, u32, bool)] = &[
    ("wgmma", None, 90, true),
    ("setmaxnreg", None, 90, true),
    ("cp", Some("bulk"), 90, false),
    ("cp", Some("async"), 80, false),
    ("mbarrier", Some("try_wait"), 90, false),
    ("mbarrier", Some("expect_tx"), 90, false),
    ("mbarrier", None, 80, false),
    ("barrier", Some("cluster"), 90, false),
    ("mapa", None, 90, false),
    ("getctarank", None, 90, false),
    ("elect", None, 90, false),
    ("stmatrix", None, 90, false),
    ("ldmatrix", None, 75, false),
    ("redux", None, 80, false),
    ("griddepcontrol", None, 90, false),
    ("mma", Some("e4m3"), 89, false),
    ("mma", Some("e5m2"), 89, false),
    ("mma", Some("bf16"), 80, false),
    ("mma", Some("tf32"), 80, false),
    ("cvt", Some("e4m3x2"), 89, false),
    ("cvt", Some("e5m2x2"), 89, false),
    ("add", Some("bf16"), 90, false),
    ("add", Some("bf16x2"), 90, false),
    ("sub", Some("bf16"), 90, false),
    ("sub", Some("bf16x2"), 90, false),
    ("mul", Some("bf16"), 90, false),
    ("mul", Some("bf16x2"), 90, false),
    ("fma", Some("bf16"), 80, false),
    ("fma", Some("bf16x2"), 80, false),
    ("ex2", Some("bf16"), 90, false),
    ("add", Some("f32x2"), 100, false),
    ("sub", Some("f32x2"), 100, false),
    ("mul", Some("f32x2"), 100, false),
    ("fma", Some("f32x2"), 100, false),
    ("ex2", Some("bf16x2"), 90, false),
];

impl Decoder<'_, '_> {
    /// An error if the text's target lacks the instruction.
    pub fn check_target(&self) -> Result<(), ParseError> {
        let target = self.lowering.generation();
        for (name, modifier, least, specific) in NEEDS {
            let meant = self.statement.name == *name
                && modifier.is_none_or(|m| self.statement.modifiers.iter().any(|w| w == m));
            if !meant {
                continue;
            }
            let other = *specific && (target != *least || !self.lowering.is_specific());
            if target < *least || other {
                let suffix = if *specific { "a" } else { "" };
                return Err(self.words.unsupported(format!("it needs sm_{least}{suffix}")));
            }
        }
        Ok(())
    }
}
