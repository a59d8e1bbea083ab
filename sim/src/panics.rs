//! Panics of the code under simulation: kept as a line instead of printed, since each is one seed's failure.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are kept for `take`. Their backtraces are printed if `RUST_BACKTRACE` asks for it.
pub fn keep() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a message");
        let place = info.location().map(ToString::to_string);
        let line = format!("{message} ({})", place.unwrap_or_default());
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            eprintln!("{line}\n{}", Backtrace::force_capture());
        }
        LAST.with_borrow_mut(|last| {
            // The first is the cause; others come of unwinding.
            last.get_or_insert(line);
        });
    }));
}

/// The panic that has just been caught on this thread.
pub(crate) fn take() -> String {
    LAST.take().unwrap_or_else(|| "unknown".to_owned())
}
