//! The slot table: which operation a completion belongs to.
//!
//! Owns what must outlive an operation in the kernel: the waker of whoever awaits it and, once nobody does,
//! the memory that the kernel may still touch. Never makes a system call and never wakes anybody itself:
//! wakers and freed memory are handed out in a `Harvest`, to be used when nothing is borrowed. One per ring.

use std::any::Any;
use std::rc::Rc;
use std::task::Waker;

use super::buffers::Piece;

/// The `user_data` of operations whose completion nobody looks at.
pub(super) const IGNORED: u64 = u64::MAX;

/// The `user_data` of completions that another ring posted.
pub(super) const MESSAGE: u64 = u64::MAX - 1;

/// The `user_data` of operations that close a descriptor: a ring that ends does not cancel them.
pub(super) const CLOSE: u64 = u64::MAX - 2;

const NONE: u32 = u32::MAX;

/// Names one use of one slot. The generation tells a late completion from that of a slot's next user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotKey {
    index: u32,
    generation: u32,
}

impl SlotKey {
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_user_data(user_data: u64) -> Self {
        Self {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

/// An operation with many completions.
pub(super) trait Stream {
    /// One completion; `more` says whether another will follow.
    fn complete(&self, result: i32, flags: u32, more: bool, harvest: &mut Harvest);
}

enum State {
    Free {
        next: u32,
    },
    /// In flight, and its future is alive.
    Waiting {
        waker: Option<Waker>,
    },
    /// Complete, and its future has not looked yet.
    Done {
        result: i32,
    },
    /// In flight, and its future is gone: the kernel may still touch the memory kept here.
    Orphan {
        _memory: Box<dyn Any>,
    },
    Stream(Rc<dyn Stream>),
}

struct Slot {
    generation: u32,
    state: State,
}

/// What a round of completions leaves to do when nothing is borrowed any more.
#[derive(Default)]
pub(super) struct Harvest {
    pub(super) wakers: Vec<Waker>,
    /// Memory of operations whose futures are gone. Dropping it may run any code, even push operations.
    pub(super) orphans: Vec<Box<dyn Any>>,
    /// Received bytes that nobody wants.
    pub(super) pieces: Vec<Piece>,
}

pub(super) struct Slots {
    slots: Vec<Slot>,
    free: u32,
    orphans: u32,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            orphans: 0,
        }
    }

    pub(super) fn insert_one_shot(&mut self) -> SlotKey {
        self.insert(State::Waiting { waker: None })
    }

    pub(super) fn insert_stream(&mut self, stream: Rc<dyn Stream>) -> SlotKey {
        self.insert(State::Stream(stream))
    }

    /// Operations whose futures are gone and that the kernel has not completed.
    pub(super) fn orphans(&self) -> u32 {
        self.orphans
    }

    fn insert(&mut self, state: State) -> SlotKey {
        if self.free == NONE {
            let index = u32::try_from(self.slots.len()).expect("operations fit memory");
            assert!(index < NONE - 2, "the reserved numbers are never reached");
            self.slots.push(Slot {
                generation: 0,
                state,
            });
            return SlotKey {
                index,
                generation: 0,
            };
        }
        let index = self.free;
        let slot = &mut self.slots[index as usize];
        let State::Free { next } = slot.state else {
            unreachable!("the free list names free slots");
        };
        self.free = next;
        slot.state = state;
        SlotKey {
            index,
            generation: slot.generation,
        }
    }

    fn remove(&mut self, index: u32) -> State {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let state = std::mem::replace(&mut slot.state, State::Free { next: self.free });
        self.free = index;
        state
    }

    fn current(&mut self, key: SlotKey) -> &mut Slot {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(
            slot.generation, key.generation,
            "a slot is freed once, by its last completion or its future"
        );
        slot
    }

    /// Takes in one completion that was not `IGNORED` or a `MESSAGE`.
    pub(super) fn complete(
        &mut self,
        user_data: u64,
        result: i32,
        flags: u32,
        harvest: &mut Harvest,
    ) {
        let key = SlotKey::from_user_data(user_data);
        let more = io_uring::cqueue::more(flags);
        let slot = self.current(key);
        match &mut slot.state {
            State::Waiting { waker } => {
                harvest.wakers.extend(waker.take());
                slot.state = State::Done { result };
            }
            State::Orphan { .. } => {
                let State::Orphan { _memory } = self.remove(key.index) else {
                    unreachable!("matched above");
                };
                self.orphans -= 1;
                harvest.orphans.push(_memory);
            }
            State::Stream(stream) => {
                stream.complete(result, flags, more, harvest);
                if !more {
                    drop(self.remove(key.index));
                }
            }
            State::Free { .. } | State::Done { .. } => {
                unreachable!("a one-shot operation completes once");
            }
        }
    }

    /// The result of a one-shot operation, whose slot is then free; or none yet, and `waker` is kept.
    pub(super) fn poll(&mut self, key: SlotKey, waker: &Waker) -> Option<i32> {
        let slot = self.current(key);
        match &mut slot.state {
            State::Done { result } => {
                let result = *result;
                drop(self.remove(key.index));
                Some(result)
            }
            State::Waiting { waker: kept } => {
                match kept {
                    Some(kept) => kept.clone_from(waker),
                    None => *kept = Some(waker.clone()),
                }
                None
            }
            State::Free { .. } | State::Orphan { .. } | State::Stream(_) => {
                unreachable!("a future polls its own one-shot operation");
            }
        }
    }

    /// The future of a one-shot operation is gone. Memory that the kernel may still touch is kept until the
    /// completion; otherwise it is handed back.
    pub(super) fn abandon(
        &mut self,
        key: SlotKey,
        memory: impl FnOnce() -> Box<dyn Any>,
    ) -> Option<Waker> {
        let slot = self.current(key);
        if let State::Done { .. } = slot.state {
            drop(self.remove(key.index));
            return None;
        }
        let State::Waiting { waker } = &mut slot.state else {
            unreachable!("a future abandons its own one-shot operation");
        };
        let waker = waker.take();
        slot.state = State::Orphan { _memory: memory() };
        self.orphans += 1;
        waker
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let mut slots = Slots::new();
        let mut harvest = Harvest::default();
        let first = slots.insert_one_shot();
        assert_eq!(slots.poll(first, Waker::noop()), None);
        slots.complete(first.user_data(), 7, 0, &mut harvest);
        assert_eq!(harvest.wakers.len(), 1);
        assert_eq!(slots.poll(first, Waker::noop()), Some(7));
        let second = slots.insert_one_shot();
        assert_eq!(second.index, first.index);
        assert_ne!(second.user_data(), first.user_data());
    }

    #[test]
    fn abandoned_memory_is_kept_until_the_completion() {
        struct Noisy(Rc<Cell<bool>>);
        impl Drop for Noisy {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = Rc::new(Cell::new(false));
        let mut slots = Slots::new();
        let mut harvest = Harvest::default();
        let key = slots.insert_one_shot();
        let memory = Noisy(dropped.clone());
        slots.abandon(key, || Box::new(memory));
        assert_eq!((slots.orphans(), dropped.get()), (1, false));
        slots.complete(key.user_data(), 0, 0, &mut harvest);
        assert_eq!((slots.orphans(), dropped.get()), (0, false));
        drop(harvest);
        assert!(dropped.get());
    }

    #[test]
    #[should_panic(expected = "a slot is freed once")]
    fn a_completion_for_the_previous_user_of_a_slot_is_a_bug() {
        let mut slots = Slots::new();
        let mut harvest = Harvest::default();
        let key = slots.insert_one_shot();
        slots.complete(key.user_data(), 0, 0, &mut harvest);
        assert_eq!(slots.poll(key, Waker::noop()), Some(0));
        let _ = slots.insert_one_shot();
        slots.complete(key.user_data(), 0, 0, &mut harvest);
    }
}
