//! Words from the guest to its author: a log, and the message of a panic.

/// Notes a line for the plugin's author. The host shows it when the call fails and under `selkie plugin test`;
/// it keeps a bounded number of bytes a call. Natively the line goes to standard error.
pub fn log(message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::puzzle::selkie::plugin::log::write(message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{message}");
}

/// Lets a panic leave its message and place in the log, as a component cannot say more than that it stopped.
/// Every entry point calls it.
#[cfg(target_family = "wasm")]
pub(crate) fn report_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| log(&panic.to_string()))));
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn report_panics() {}
