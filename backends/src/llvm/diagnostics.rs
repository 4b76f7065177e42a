//! What MLIR and LLVM report, kept instead of printed.
//!
//! Invariant: the messages of one compilation go into the error of that compilation only.

use super::NAME;
use crate::codegen::CodegenError;
use melior::Context;
use std::cell::RefCell;
use std::rc::Rc;

/// The messages of one compilation.
pub(super) struct Diagnostics {
    messages: Rc<RefCell<Vec<String>>>,
}

impl Diagnostics {
    /// Listens to a context for as long as it lives.
    pub(super) fn attach(context: &Context) -> Self {
        let messages = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&messages);
        context.attach_diagnostic_handler(move |diagnostic| {
            sink.borrow_mut().push(diagnostic.to_string());
            true
        });
        Diagnostics { messages }
    }

    /// An error with all messages so far.
    pub(super) fn error(&self, phase: &'static str, message: String) -> CodegenError {
        let mut all = vec![message];
        all.extend(self.messages.borrow_mut().drain(..));
        all.retain(|message| !message.is_empty());
        CodegenError::Library { generator: NAME, phase, message: all.join("; ") }
    }
}
