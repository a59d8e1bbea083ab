//! Ctrl-C and SIGTERM while something is under way: the first ends the command in order, the second at once.

use std::process;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::failure::Failure;

/// Becomes the signal that came.
pub(crate) type Interrupted = watch::Receiver<Option<i32>>;

/// Waits for signals from now on, on a thread of its own.
pub(crate) fn listen() -> Result<Interrupted, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
    let (sender, receiver) = watch::channel(None);
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send_replace(Some(signal)).is_some() {
                process::exit(128 + signal);
            }
        }
    });
    Ok(receiver)
}

/// Waits until a signal has come.
pub(crate) async fn interrupted(by: &mut Interrupted) -> i32 {
    let signal = by
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|signal| *signal);
    match signal {
        Some(signal) => signal,
        // The thread lives as long as the process.
        None => std::future::pending().await,
    }
}
