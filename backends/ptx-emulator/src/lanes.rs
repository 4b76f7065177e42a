//! Values of the 32 lanes of a warp, and scalar arithmetic lifted to all of them.
//!
//! Invariant: a register holds its bits zero-extended to 64, whatever its type.

/// Lanes of a warp.
pub(crate) const WIDTH: usize = 32;

/// One value a lane.
pub(crate) type Lanes = [u64; WIDTH];

/// Arithmetic on one operand.
pub(crate) type Unary = fn(&Lanes) -> Lanes;
/// Arithmetic on two operands.
pub(crate) type Binary = fn(&Lanes, &Lanes) -> Lanes;
/// Arithmetic on three operands.
pub(crate) type Ternary = fn(&Lanes, &Lanes, &Lanes) -> Lanes;

/// A [`Unary`] from an expression over `u64`.
macro_rules! one {
    ($a:ident => $body:expr) => {{
        fn lifted(x: &$crate::lanes::Lanes) -> $crate::lanes::Lanes {
            let mut out = [0u64; $crate::lanes::WIDTH];
            for lane in 0..$crate::lanes::WIDTH {
                let $a: u64 = x[lane];
                out[lane] = $body;
            }
            out
        }
        lifted as $crate::lanes::Unary
    }};
}

/// A [`Binary`] from an expression over two `u64`.
macro_rules! two {
    ($a:ident, $b:ident => $body:expr) => {{
        fn lifted(x: &$crate::lanes::Lanes, y: &$crate::lanes::Lanes) -> $crate::lanes::Lanes {
            let mut out = [0u64; $crate::lanes::WIDTH];
            for lane in 0..$crate::lanes::WIDTH {
                let ($a, $b): (u64, u64) = (x[lane], y[lane]);
                out[lane] = $body;
            }
            out
        }
        lifted as $crate::lanes::Binary
    }};
}

/// A [`Ternary`] from an expression over three `u64`.
macro_rules! three {
    ($a:ident, $b:ident, $c:ident => $body:expr) => {{
        fn lifted(
            x: &$crate::lanes::Lanes,
            y: &$crate::lanes::Lanes,
            z: &$crate::lanes::Lanes,
        ) -> $crate::lanes::Lanes {
            let mut out = [0u64; $crate::lanes::WIDTH];
            for lane in 0..$crate::lanes::WIDTH {
                let ($a, $b, $c): (u64, u64, u64) = (x[lane], y[lane], z[lane]);
                out[lane] = $body;
            }
            out
        }
        lifted as $crate::lanes::Ternary
    }};
}

pub(crate) use {one, three, two};

/// The lanes whose bit is set, lowest first.
pub(crate) fn set(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}
