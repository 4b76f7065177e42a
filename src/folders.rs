//! The folders of the user, as the XDG Base Directory Specification has them.
//!
//! Invariant: a variable that is empty counts as not set.

use std::path::PathBuf;

/// The folder that a variable names, or else this one below the user's home; `None` where neither is known.
pub(crate) fn of_user(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set(variable)
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(below_home)))
}
