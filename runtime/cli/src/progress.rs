//! Progress on stderr: a bar where there is a terminal, nothing where there is none.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of so many steps with a message behind it.
pub(crate) fn bar(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed}, {eta} left]");
    // The template is a constant; were it wrong, the default bar would do.
    ProgressBar::new(steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
