//! `DiskImage`: everything that a disk holds, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use super::contents::Contents;

/// The directories and files of a disk at one moment. Cheap to clone: the blocks are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskImage {
    pub(super) directories: BTreeSet<String>,
    pub(super) files: BTreeMap<String, Contents>,
}

impl DiskImage {
    /// Every file's path and length in bytes, in the order of the paths.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        self.files
            .iter()
            .map(|(path, contents)| (path.clone(), contents.len))
            .collect()
    }

    /// Every directory's path, in order, the data directory itself left out.
    #[must_use]
    pub fn directories(&self) -> Vec<String> {
        self.directories.iter().cloned().collect()
    }

    /// A file's bytes.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.files.get(path).map(Contents::to_bytes)
    }

    /// Puts a file in place, with the directories above it.
    pub fn write(&mut self, path: &str, bytes: &[u8]) {
        let above = path
            .match_indices('/')
            .map(|(end, _)| path[..end].to_owned());
        self.directories.extend(above);
        self.files
            .insert(path.to_owned(), Contents::from_bytes(bytes));
    }

    /// Removes a file, and says whether there was one.
    pub fn remove(&mut self, path: &str) -> bool {
        self.files.remove(path).is_some()
    }

    /// Cuts a file to `len` bytes, or fills it up with zeros.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn truncate(&mut self, path: &str, len: u64) {
        self.file_mut(path).truncate(len);
    }

    /// Turns over one bit of a file's byte.
    ///
    /// # Panics
    /// If there is no such file, or it is not that long.
    pub fn flip_bit(&mut self, path: &str, byte: u64, bit: u8) {
        let contents = self.file_mut(path);
        assert!(
            byte < contents.len,
            "{path} has {} bytes, not a byte {byte}",
            contents.len
        );
        contents.flip_bit(byte, bit);
    }

    fn file_mut(&mut self, path: &str) -> &mut Contents {
        self.files
            .get_mut(path)
            .unwrap_or_else(|| panic!("there is no file {path}"))
    }
}
