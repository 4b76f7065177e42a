//! The few functions outside itself that generated code may call.
//!
//! Invariant: the list is closed; a name that is not on it never resolves, whatever the process
//! happens to export.

use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn memcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
    fn memset(to: *mut c_void, value: c_int, length: usize) -> *mut c_void;
}

/// A function that generated code may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum External {
    Memcpy,
    Memmove,
    Memset,
}

impl External {
    /// The function of this name, if code may call it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "memcpy" => Some(External::Memcpy),
            "memmove" => Some(External::Memmove),
            "memset" => Some(External::Memset),
            _ => None,
        }
    }

    /// Its address in this process.
    pub(super) fn address(self) -> u64 {
        let pointer = match self {
            External::Memcpy => memcpy as *const (),
            External::Memmove => memmove as *const (),
            External::Memset => memset as *const (),
        };
        pointer as u64
    }
}
