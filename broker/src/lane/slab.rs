//! Numbered places for connections and parked requests.
//!
//! A place is used again after its item is gone, under another generation, so that an answer that
//! comes late finds nothing instead of a stranger. Owned by one core.

/// The name of an item: its place, and which of the place's tenants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The place.
    pub(super) index: u32,
    /// Counts the tenants of the place.
    pub(super) generation: u32,
}

impl Key {
    /// One number for mail and tokens.
    pub(super) const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`Key::to_u64`] made the number of.
    pub(super) const fn from_u64(number: u64) -> Self {
        Self {
            index: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// Items by key. Iteration is in the order of the places, the same in every run.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    item: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, item: T) -> Key {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            debug_assert!(place.item.is_none(), "a free place is empty");
            place.item = Some(item);
            return Key {
                index,
                generation: place.generation,
            };
        }
        let index = u32::try_from(self.places.len()).expect("fewer items than 2^32");
        self.places.push(Place {
            generation: 0,
            item: Some(item),
        });
        Key {
            index,
            generation: 0,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        (place.generation == key.generation).then_some(place.item.as_ref())?
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        (place.generation == key.generation).then_some(place.item.as_mut())?
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let item = place.item.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(item)
    }

    /// Every item, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places
            .iter_mut()
            .filter_map(|place| place.item.as_mut())
    }

    /// Every item with its key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key {
                index: u32::try_from(index).expect("fewer items than 2^32"),
                generation: place.generation,
            };
            place.item.as_ref().map(|item| (key, item))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_key() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        let second = slab.insert("second");
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.remove(first), Some("first"));
        assert_eq!(slab.remove(first), None);
        let third = slab.insert("third");
        assert_eq!(third.index, first.index);
        assert_ne!(third, first);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(third), Some(&mut "third"));
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(
            slab.iter().map(|(_, item)| *item).collect::<Vec<_>>(),
            ["third", "second"]
        );
        assert_eq!(Key::from_u64(third.to_u64()), third);
    }

    #[test]
    fn unknown_keys_find_nothing() {
        let mut slab = Slab::<u8>::new();
        let key = Key {
            index: 7,
            generation: 0,
        };
        assert!(slab.get(key).is_none());
        assert!(slab.remove(key).is_none());
        assert!(slab.is_empty());
    }
}
