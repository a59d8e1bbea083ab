//! A thread that takes memory from the kernel before it is needed.
//!
//! Owns slabs until they are taken. What it makes it gives away whole, so that nothing is shared.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::slab_memory::SlabMemory;

/// Slabs that are ready, or being made so.
const AHEAD: usize = 2;

/// The near end: asks, and takes what is ready. Its thread ends with it.
#[derive(Debug)]
pub(super) struct Preparer {
    wanted: Sender<()>,
    ready: Receiver<Option<SlabMemory>>,
}

impl Preparer {
    /// Starts the thread, and asks for the first slabs.
    pub(super) fn start() -> io::Result<Self> {
        let (wanted, asks) = channel();
        let (gives, ready) = channel();
        thread::Builder::new()
            .name("memory".into())
            .spawn(move || prepare(&asks, &gives))?;
        let preparer = Self { wanted, ready };
        for _ in 0..AHEAD {
            preparer.ask();
        }
        Ok(preparer)
    }

    /// A slab that is ready, if one is; another is asked for in its place.
    pub(super) fn take(&mut self) -> Option<SlabMemory> {
        let taken = self.ready.try_recv().ok()?;
        self.ask();
        taken
    }

    fn ask(&self) {
        // With no thread to make it, nothing is ready ever, and slabs are mapped as they are needed.
        let _ = self.wanted.send(());
    }
}

/// Makes a slab ready for each ask; none where the kernel refuses.
fn prepare(asks: &Receiver<()>, gives: &Sender<Option<SlabMemory>>) {
    while asks.recv().is_ok() {
        let made = SlabMemory::new().map(|mut memory| {
            memory.touch();
            memory
        });
        if gives.send(made).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_replaced() {
        let mut preparer = Preparer::start().expect("threads can be started");
        for _ in 0..2 * AHEAD {
            let memory = preparer.ready.recv().expect("the thread lives");
            preparer.ask();
            let memory = memory.expect("there is memory");
            // SAFETY: the slab is ours.
            assert_eq!(unsafe { memory.page(0).read() }, 0);
        }
        let taken = loop {
            if let Some(memory) = preparer.take() {
                break memory;
            }
            thread::yield_now();
        };
        // SAFETY: the slab is ours.
        unsafe { taken.page(1).write(1) };
    }
}
