//! Tells a person that the broker is gone, and that it is back, while a command waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_client::ConnectionEvent;
use tokio::time::Instant;

use crate::output::say;

/// A broker that is back so soon is not worth a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the time is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of the way to the broker.
#[derive(Debug, Default)]
struct Way {
    /// Since when no connection could be made, after one was lost.
    broken_since: Option<Instant>,
    is_said: bool,
}

impl Way {
    /// Takes in that a connection was made. Whether that is worth a word.
    fn connected(&mut self) -> bool {
        self.broken_since = None;
        std::mem::take(&mut self.is_said)
    }

    fn broken(&mut self, now: Instant) {
        self.broken_since.get_or_insert(now);
    }

    /// Whether it is time to say that the broker is gone.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = !self.is_said
            && self
                .broken_since
                .is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        self.is_said |= is_due;
        is_due
    }
}

/// Watches the connections of one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionWatch {
    way: Arc<Mutex<Way>>,
}

impl ConnectionWatch {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client calls with each event.
    pub(crate) fn take(&self, event: &ConnectionEvent<'_>) {
        match event {
            ConnectionEvent::Connected { address } => {
                let is_worth_a_word = self.way().connected();
                if is_worth_a_word {
                    say(format_args!("connected again, to {address}"));
                }
            }
            ConnectionEvent::Lost { .. } | ConnectionEvent::Failed { .. } => {
                self.way().broken(Instant::now());
            }
            _ => {}
        }
    }

    /// Speaks up from now on, on a task of its own. `limit` says how long it will be tried again.
    pub(crate) fn start(&self, broker: &str, limit: &'static str) {
        let (watch, broker) = (self.clone(), broker.to_owned());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                let now = ticks.tick().await;
                if watch.way().is_due(now) {
                    say(format_args!(
                        "lost the broker {broker}; trying again ({limit})"
                    ));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_longer_loss_is_worth_a_word_and_only_one() {
        let mut way = Way::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!way.connected());
        way.broken(at(0));
        assert!(!way.is_due(at(1999)));
        assert!(!way.connected(), "nothing was said of the loss");
        way.broken(at(3000));
        way.broken(at(4500));
        assert!(!way.is_due(at(4900)));
        assert!(way.is_due(at(5000)));
        assert!(!way.is_due(at(9000)));
        assert!(way.connected());
        assert!(!way.connected());
    }
}
