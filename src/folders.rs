//! The folders of the user, as the XDG Base Directory Specification has them.
//!
//! Invariant: a variable that is empty, or names no absolute path, counts as not set: nobody means a folder that
//! depends on where a command is run, least of all one that code is loaded from.

use std::path::PathBuf;

/// The folder that a variable names, or else this one below the user's home; `None` where neither is known.
pub(crate) fn of_user(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))
}
