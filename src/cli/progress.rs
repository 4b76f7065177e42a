//! Progress on a terminal, silence in a pipe.
//!
//! Invariant: nothing is drawn unless standard error is a terminal, and what was drawn is gone
//! before a result or an error is printed.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A progress bar, or nothing.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A spinner for work of unknown length.
    pub fn spinner() -> Self {
        Self::styled(ProgressBar::new_spinner(), "{spinner} {msg} [{elapsed}]")
    }

    /// A bar over `steps` equal steps.
    pub fn bar(steps: u64) -> Self {
        Self::styled(ProgressBar::new(steps), "{bar:30} {pos}/{len} {msg} [{elapsed}, {eta} left]")
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Progress { bar: ProgressBar::hidden() }
    }

    fn styled(bar: ProgressBar, template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar }
    }

    /// Says what is being done.
    pub fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Prints something that stays, with the bar out of the way.
    pub fn hide_while(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// One more step is done.
    pub fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
