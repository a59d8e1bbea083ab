//! A map from record numbers, which observers mostly count up from 0.

use std::collections::BTreeMap;

use crate::event::RecordNumber;

/// Values by record number. Those of consecutive numbers lie in a row; others may be there too.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    row: Vec<T>,
    others: BTreeMap<RecordNumber, T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            row: Vec::new(),
            others: BTreeMap::new(),
        }
    }
}

impl<T> Numbered<T> {
    fn place(&self, record: RecordNumber) -> Option<usize> {
        let place = usize::try_from(record.0).ok()?;
        (place < self.row.len()).then_some(place)
    }

    pub(crate) fn get(&self, record: RecordNumber) -> Option<&T> {
        match self.place(record) {
            Some(place) => Some(&self.row[place]),
            None => self.others.get(&record),
        }
    }

    pub(crate) fn get_mut(&mut self, record: RecordNumber) -> Option<&mut T> {
        match self.place(record) {
            Some(place) => Some(&mut self.row[place]),
            None => self.others.get_mut(&record),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.row.iter().chain(self.others.values())
    }

    /// Sets a value, and returns the one before it.
    pub(crate) fn insert(&mut self, record: RecordNumber, value: T) -> Option<T> {
        if let Some(before) = self.get_mut(record) {
            return Some(std::mem::replace(before, value));
        }
        if record.0 == self.row.len() as u64 {
            self.row.push(value);
        } else {
            self.others.insert(record, value);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_a_row_and_beside_it() {
        let mut numbered = Numbered::default();
        for (number, value) in [(0, 'a'), (2, 'c'), (u64::MAX, 'z'), (1, 'b'), (3, 'd')] {
            assert_eq!(numbered.insert(RecordNumber(number), value), None);
        }
        assert_eq!(numbered.insert(RecordNumber(2), 'x'), Some('c'));
        assert_eq!(numbered.insert(RecordNumber(1), 'y'), Some('b'));
        *numbered.get_mut(RecordNumber(3)).expect("it is there") = 'w';
        let found: Vec<_> = [0, 1, 2, 3, 4, u64::MAX]
            .map(|number| numbered.get(RecordNumber(number)).copied())
            .into();
        let expected = [Some('a'), Some('y'), Some('x'), Some('w'), None, Some('z')];
        assert_eq!(found, expected);
    }
}
