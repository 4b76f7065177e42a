//! Routines: operations whose result has no kernel form, because its size is found on the way or
//! because its elements are objects. Selections, sorting, suppression, lists, maps,
//! text, images.
//!
//! Invariant: a routine is a pure function of host tensors; it checks whatever it is given, since
//! what it is given may be a damaged file's.

mod images;
mod list;
mod map;
mod ngrams;
mod normalise;
mod number;
mod order;
mod pattern;
mod places;
mod re2;
mod select;
mod suppress;
mod text;
mod unique;

pub use images::PixelFormat;
pub use ngrams::{Ngrams, Pool, Weighting};
pub use normalise::{CaseChange, Normalise};
pub use pattern::Pattern;

use kiln_tensor::{DType, Objects, Tensor, TensorError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

/// Why a routine has no result for some operands.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct RoutineError {
    /// The rule that is broken.
    pub message: String,
}

impl RoutineError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        RoutineError { message: message.into() }
    }
}

impl From<TensorError> for RoutineError {
    fn from(error: TensorError) -> Self {
        RoutineError::new(error.to_string())
    }
}

/// An element type and a number of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Element type.
    pub dtype: DType,
    /// Number of dimensions.
    pub rank: usize,
}

/// A routine with its attributes. Numbers that say where or how many are `i64[]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Routine {
    /// `x → i64[rank, n]`: the coordinates of elements that are not zero, in row-major order.
    NonZero,
    /// `x, k → values, places i64`: the `k` first along an axis, equal ones by their place.
    TopK {
        /// The axis.
        axis: usize,
        /// The greatest first, or the least.
        largest: bool,
    },
    /// `x → values, first i64[n], inverse i64[m], counts i64[n]`: distinct elements, or distinct
    /// slices along an axis.
    Unique {
        /// The axis; all elements in one dimension if none.
        axis: Option<usize>,
        /// In ascending order, or in the order in which they occur.
        sorted: bool,
    },
    /// `boxes f32[b, n, 4], scores f32[b, c, n], most, iou f32[], score f32[] → i64[m, 3]`: batch,
    /// class and box of what non-maximum suppression leaves.
    NonMaxSuppression {
        /// Boxes are centre and extent, not two corners.
        centres: bool,
    },
    /// `indices, sizes i64[k] → `: no result, but an error if one of the indices, of which the last
    /// dimension holds one for each size, is outside of its size. One size may stand for all.
    Inside,
    /// `numbers, bounds i64[2] → `: no result, but an error if one of the numbers is less than the
    /// first of the bounds or greater than the second.
    Within {
        /// What the numbers are, for people.
        what: String,
    },
    /// `x… → list[]`: a list of them.
    List {
        /// The type of list.
        dtype: DType,
    },
    /// `list[] → i64[]`: the number of elements.
    Length,
    /// `list[], place → x`: the element at a place, counted from the end if negative.
    Element,
    /// `list[], x, place → list[]`: with an element put in before a place, which may be the end.
    Insert,
    /// `list[], place → list[]`: without the element at a place.
    Erase,
    /// `list[] → x`: elements joined along an axis, or along a new one.
    Join {
        /// The axis, counted from the end if negative.
        axis: i64,
        /// Whether the axis is new.
        new_axis: bool,
    },
    /// `x, sizes i64[n] → list[]`: parts of these sizes along an axis.
    Split {
        /// The axis.
        axis: usize,
        /// Whether parts keep the axis; their size must be 1 if not.
        keep: bool,
    },
    /// `keys[c], values[n, c] → sequence[]`: a map from the keys for each row.
    Maps,
    /// `map[] → values[n]`: the values in the order of their keys.
    Values {
        /// Type of the keys.
        keys: DType,
        /// Type of the values.
        of: DType,
    },
    /// `map[], keys → values`: the value of each key, or zero.
    LookUp {
        /// The type of values.
        of: DType,
    },
    /// `a string, b string → string`: strings joined element by element, of equal shapes.
    ConcatStrings,
    /// `x string → parts string[…, n], counts i64`: strings cut at a delimiter.
    SplitStrings {
        /// The delimiter; white space if empty.
        delimiter: String,
        /// Most cuts.
        most: Option<u64>,
    },
    /// `x string → string`: case changed and stop words dropped.
    NormaliseStrings(Normalise),
    /// `x string → bool`: whether all of a string matches a regular expression.
    FullMatch {
        /// The expression; a [`Pattern`].
        pattern: String,
    },
    /// `x → string`: numbers as text.
    Format,
    /// `x string → y`: text as numbers of this type.
    Parse {
        /// The type.
        to: DType,
    },
    /// `x string → i64`: the place of each string among keys, or -1.
    Find {
        /// The keys.
        keys: Vec<String>,
    },
    /// `x → f32[…, size]`: weighted counts of n-grams.
    CountNgrams(Ngrams),
    /// `file u8[n] → u8[height, width, channels]`: the pixels of an image file. An error where the
    /// feature `images` is not built in.
    DecodeImage {
        /// What a pixel is.
        pixel: PixelFormat,
    },
}

impl Routine {
    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Routine::NonZero => "nonzero",
            Routine::TopK { .. } => "top_k",
            Routine::Unique { .. } => "unique",
            Routine::NonMaxSuppression { .. } => "non_max_suppression",
            Routine::Inside => "inside",
            Routine::Within { .. } => "within",
            Routine::List { .. } => "list",
            Routine::Length => "length",
            Routine::Element => "element",
            Routine::Insert => "insert",
            Routine::Erase => "erase",
            Routine::Join { .. } => "join",
            Routine::Split { .. } => "split",
            Routine::Maps => "maps",
            Routine::Values { .. } => "values",
            Routine::LookUp { .. } => "look_up",
            Routine::ConcatStrings => "concat_strings",
            Routine::SplitStrings { .. } => "split_strings",
            Routine::NormaliseStrings(_) => "normalise_strings",
            Routine::FullMatch { .. } => "full_match",
            Routine::Format => "format",
            Routine::Parse { .. } => "parse",
            Routine::Find { .. } => "find",
            Routine::CountNgrams(_) => "count_ngrams",
            Routine::DecodeImage { .. } => "decode_image",
        }
    }

    /// The results. Operands that hold handles are of the table `objects`, and so are results.
    pub fn run(
        &self,
        operands: &[Tensor],
        objects: &Arc<Objects>,
    ) -> Result<Vec<Tensor>, RoutineError> {
        match self {
            Routine::NonZero => one(select::non_zero(take(operands)?)?),
            Routine::TopK { axis, largest } => select::top_k(take::<2>(operands)?, *axis, *largest),
            Routine::Unique { axis, sorted } => unique::unique(take(operands)?, *axis, *sorted),
            Routine::NonMaxSuppression { centres } => {
                one(suppress::suppress(take(operands)?, *centres)?)
            }
            Routine::Inside => places::inside(take(operands)?).map(|()| Vec::new()),
            Routine::Within { what } => places::within(take(operands)?, what).map(|()| Vec::new()),
            Routine::List { dtype } => one(list::list(operands, *dtype, objects)?),
            Routine::Length => one(list::length(take(operands)?)?),
            Routine::Element => one(list::element(take(operands)?)?),
            Routine::Insert => one(list::insert(take(operands)?, objects)?),
            Routine::Erase => one(list::erase(take(operands)?, objects)?),
            Routine::Join { axis, new_axis } => one(list::join(take(operands)?, *axis, *new_axis)?),
            Routine::Split { axis, keep } => {
                one(list::split(take(operands)?, *axis, *keep, objects)?)
            }
            Routine::Maps => one(map::maps(take(operands)?, objects)?),
            Routine::Values { keys, of } => one(map::values(take(operands)?, *keys, *of)?),
            Routine::LookUp { of } => one(map::look_up(take(operands)?, *of)?),
            Routine::ConcatStrings => one(text::concat(take(operands)?, objects)?),
            Routine::SplitStrings { delimiter, most } => {
                text::split(take(operands)?, delimiter, *most, objects)
            }
            Routine::NormaliseStrings(normalise) => one(normalise.apply(take(operands)?, objects)?),
            Routine::FullMatch { pattern } => one(text::full_match(take(operands)?, pattern)?),
            Routine::Format => one(number::format(take(operands)?, objects)?),
            Routine::Parse { to } => one(number::parse(take(operands)?, *to)?),
            Routine::Find { keys } => one(text::find(take(operands)?, keys)?),
            Routine::CountNgrams(ngrams) => one(ngrams.count(take(operands)?)?),
            Routine::DecodeImage { pixel } => one(images::decode(take(operands)?, *pixel)?),
        }
    }
}

fn one(tensor: Tensor) -> Result<Vec<Tensor>, RoutineError> {
    Ok(vec![tensor])
}

/// The operands, if there are as many.
fn take<const N: usize>(operands: &[Tensor]) -> Result<&[Tensor; N], RoutineError> {
    let count = operands.len();
    operands.try_into().map_err(|_| RoutineError::new(format!("takes {N} operands, got {count}")))
}

/// The one integer of a tensor.
fn integer(tensor: &Tensor, what: &str) -> Result<i64, RoutineError> {
    match tensor.to_i64()[..] {
        [value] if tensor.dtype().is_integer() => Ok(value),
        _ => Err(RoutineError::new(format!("{what} must be one integer"))),
    }
}

/// A place among `count`, counted from the end if negative.
fn place(at: i64, count: usize) -> Option<usize> {
    let from_start = if at < 0 { at.checked_add(i64::try_from(count).ok()?)? } else { at };
    usize::try_from(from_start).ok().filter(|&place| place < count)
}
