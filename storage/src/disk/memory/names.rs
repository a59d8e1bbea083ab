//! The names of the in-memory disk: which path is which file, now and after a crash.
//!
//! Owns the rule that a name is durable only once its directory was synced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::file::FileState;
use crate::disk::DirEntry;
use crate::testing::Random;

pub(super) type FileRef = Rc<RefCell<FileState>>;

#[derive(Clone)]
pub(super) enum Node {
    Directory,
    File(FileRef),
}

#[derive(Default)]
pub(super) struct Names {
    /// By path, the data directory itself left out.
    current: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// Changes that no sync has covered, oldest first.
    changes: Vec<(u64, Change)>,
    sequence: u64,
}

/// A change of one directory's names, which a crash keeps or loses as a whole.
#[derive(Clone)]
enum Change {
    Bind {
        path: String,
        node: Node,
    },
    Unbind {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        node: Node,
    },
}

impl Names {
    pub(super) fn new(nodes: BTreeMap<String, Node>) -> Self {
        Self {
            durable: nodes.clone(),
            current: nodes,
            changes: Vec::new(),
            sequence: 0,
        }
    }

    pub(super) fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.current
    }

    /// Every file that a path leads to now.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.current.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Directory => None,
        })
    }

    /// Whether there is a file now whose path satisfies `predicate`.
    pub(super) fn has_file(&self, predicate: impl Fn(&str) -> bool) -> bool {
        let mut nodes = self.current.iter();
        nodes.any(|(path, node)| matches!(node, Node::File(_)) && predicate(path))
    }

    pub(super) fn file(&self, path: &str) -> io::Result<Option<FileRef>> {
        match self.current.get(path) {
            Some(Node::File(file)) => Ok(Some(Rc::clone(file))),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Ok(None),
        }
    }

    /// Gives a new file or directory its name.
    pub(super) fn bind(&mut self, path: &str, node: Node) -> io::Result<()> {
        self.expect_directory(parent(path))?;
        if self.current.contains_key(path) || path.is_empty() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Bind {
            path: path.to_owned(),
            node,
        });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.file(path)?.ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Unbind {
            path: path.to_owned(),
        });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        self.expect_directory(path)?;
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Unbind {
            path: path.to_owned(),
        });
        Ok(())
    }

    /// # Panics
    /// If the two are in different directories: nothing here needs that.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        assert_eq!(
            parent(from),
            parent(to),
            "files are renamed within their directory only"
        );
        let file = self.file(from)?.ok_or(io::ErrorKind::NotFound)?;
        let _replaced = self.file(to)?;
        file.borrow_mut().path = to.into();
        self.change(Change::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            node: Node::File(file),
        });
        Ok(())
    }

    pub(super) fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.expect_directory(dir)?;
        let entries = self.current.iter().filter(|(path, _)| is_in(path, dir));
        Ok(entries
            .map(|(path, node)| {
                let name = path
                    .rsplit('/')
                    .next()
                    .expect("a split has a part")
                    .to_owned();
                match node {
                    Node::Directory => DirEntry {
                        name,
                        is_dir: true,
                        len: 0,
                    },
                    Node::File(file) => DirEntry {
                        name,
                        is_dir: false,
                        len: file.borrow().len(),
                    },
                }
            })
            .collect())
    }

    /// The length of what is at `path`, if anything is.
    pub(super) fn len(&self, path: &str) -> Option<u64> {
        match self.current.get(path) {
            Some(Node::File(file)) => Some(file.borrow().len()),
            Some(Node::Directory) => Some(0),
            None => path.is_empty().then_some(0),
        }
    }

    /// What `complete_sync` makes durable if the sync begins now.
    pub(super) fn syncable(&self, dir: &str) -> io::Result<u64> {
        self.expect_directory(dir)?;
        Ok(self.sequence)
    }

    /// A sync of `dir` that began at `begun` has succeeded.
    pub(super) fn complete_sync(&mut self, dir: &str, begun: u64) {
        self.settle(|sequence, change| (sequence <= begun && change.is_in(dir)).then_some(true));
    }

    /// A sync of `dir` has failed: the next one succeeds without what this one lost.
    pub(super) fn fail_sync(&mut self, dir: &str, random: &mut Random) {
        self.settle(|_, change| change.is_in(dir).then(|| random.coin()));
    }

    /// The paths that a crash leaves.
    pub(super) fn survivors(&self, random: &mut Random) -> BTreeMap<String, Node> {
        let mut survivors = self.durable.clone();
        let kept_in_order = random.index(self.changes.len() + 1);
        let in_order = random.coin();
        for (index, (_, change)) in self.changes.iter().enumerate() {
            if if in_order {
                index < kept_in_order
            } else {
                random.coin()
            } {
                change.apply(&mut survivors);
            }
        }
        // A name needs the names of all directories above it.
        let mut reachable = BTreeMap::new();
        for (path, node) in survivors {
            let above = parent(&path);
            if above.is_empty() || matches!(reachable.get(above), Some(Node::Directory)) {
                reachable.insert(path, node);
            }
        }
        reachable
    }

    fn change(&mut self, change: Change) {
        self.sequence += 1;
        change.apply(&mut self.current);
        self.changes.push((self.sequence, change));
    }

    /// Makes changes durable (`Some(true)`), forgets them (`Some(false)`) or leaves them as they are.
    fn settle(&mut self, mut settle: impl FnMut(u64, &Change) -> Option<bool>) {
        let durable = &mut self.durable;
        self.changes.retain(|(sequence, change)| {
            let settled = settle(*sequence, change);
            if settled == Some(true) {
                change.apply(durable);
            }
            settled.is_none()
        });
    }

    fn expect_directory(&self, path: &str) -> io::Result<()> {
        match self.current.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if path.is_empty() => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Change {
    /// Whether it is one of this directory's names.
    fn is_in(&self, dir: &str) -> bool {
        match self {
            Self::Bind { path, .. } | Self::Unbind { path } => is_in(path, dir),
            Self::Rename { to, .. } => is_in(to, dir),
        }
    }

    fn apply(&self, nodes: &mut BTreeMap<String, Node>) {
        match self {
            Self::Bind { path, node } => {
                nodes.insert(path.clone(), node.clone());
            }
            Self::Unbind { path } => {
                nodes.remove(path);
            }
            Self::Rename { from, to, node } => {
                nodes.remove(from);
                nodes.insert(to.clone(), node.clone());
            }
        }
    }
}

/// The directory that a path is in; the data directory is the empty path.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a path is right in this directory. Most are elsewhere, as their beginnings show.
fn is_in(path: &str, dir: &str) -> bool {
    path.starts_with(dir) && parent(path) == dir
}
