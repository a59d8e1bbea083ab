//! The ring on the running kernel: wake-ups, memory of dropped futures, receive buffers, messages.

mod dropped;
mod messages;
mod receive;
mod support;
mod wake_up;
