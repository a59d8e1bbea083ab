//! Writing the payload, as `docs/wire.md` draws it.
//!
//! Owns: the order in which the parts of the archive lie, its pointers and its
//! root. The bytes are those that rkyv makes of [`super::columns::Columns`] (a
//! test holds them against it), which would have to copy the values to where
//! they lie already. Never: collects anything.

/// Items in an archive: where the first is, in bytes from the batch's first,
/// and how many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ItemsAt {
    pub(super) at: usize,
    pub(super) count: usize,
}

/// Where ends are.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndsAt {
    pub(super) is_wide: bool,
    pub(super) items: ItemsAt,
}

/// Where byte strings are.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlobsAt {
    pub(super) ends: EndsAt,
    pub(super) nulls: ItemsAt,
    pub(super) bytes: ItemsAt,
}

/// Where the timestamps are, by the width that they need.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeltasAt {
    Zero,
    Narrow(ItemsAt),
    Wide(ItemsAt),
}

/// What the root points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) values: BlobsAt,
    /// Where the keys' blobs are, if there are keys.
    pub(super) keys: Option<usize>,
    pub(super) timestamps: DeltasAt,
    pub(super) offsets: ItemsAt,
    /// Where the header columns are, if there are headers.
    pub(super) headers: Option<usize>,
}

/// What fixed parts and pointers are aligned to.
const ALIGNMENT: usize = 4;

/// Appends the parts of an archive to a batch.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    memory: &'a mut Vec<u8>,
    /// Index of the batch's first byte.
    begin: usize,
}

impl<'a> Archive<'a> {
    /// Goes on at the end of `memory`, with the batch that begins at `begin`.
    pub(super) fn new(memory: &'a mut Vec<u8>, begin: usize) -> Self {
        Self { memory, begin }
    }

    /// Where the next byte goes, from the batch's first.
    fn at(&self) -> usize {
        self.memory.len() - self.begin
    }

    fn align(&mut self, alignment: usize) {
        let aligned = self.at().next_multiple_of(alignment);
        self.memory.resize(self.begin + aligned, 0);
    }

    /// Appends items, aligned as wide as they are.
    pub(super) fn items<const N: usize>(
        &mut self,
        items: impl ExactSizeIterator<Item = [u8; N]>,
    ) -> ItemsAt {
        self.align(N);
        let (at, count) = (self.at(), items.len());
        let start = self.memory.len();
        self.memory.resize(start + count * N, 0);
        put_items(&mut self.memory[start..], items);
        ItemsAt { at, count }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> ItemsAt {
        let (at, count) = (self.at(), bytes.len());
        self.memory.extend_from_slice(bytes);
        ItemsAt { at, count }
    }

    /// Appends the blobs that the keys are; the result is where they are.
    pub(super) fn keys(&mut self, keys: BlobsAt) -> usize {
        self.align(ALIGNMENT);
        let at = self.at();
        self.blobs(keys);
        at
    }

    /// Appends header columns; the result is where they are.
    pub(super) fn headers(&mut self, record_ends: EndsAt, keys: BlobsAt, values: BlobsAt) -> usize {
        self.align(ALIGNMENT);
        let at = self.at();
        self.ends(record_ends);
        self.blobs(keys);
        self.blobs(values);
        at
    }

    /// Appends the root, which ends the archive.
    pub(super) fn root(&mut self, root: Root) {
        self.align(ALIGNMENT);
        self.blobs(root.values);
        self.optional_box(root.keys);
        let (tag, items) = match root.timestamps {
            DeltasAt::Zero => (0, None),
            DeltasAt::Narrow(items) => (1, Some(items)),
            DeltasAt::Wide(items) => (2, Some(items)),
        };
        self.tag(tag);
        match items {
            None => self.memory.extend_from_slice(&[0; 8]),
            Some(items) => self.vec(items),
        }
        self.vec(root.offsets);
        self.optional_box(root.headers);
    }

    fn blobs(&mut self, blobs: BlobsAt) {
        self.ends(blobs.ends);
        self.vec(blobs.nulls);
        self.vec(blobs.bytes);
    }

    fn ends(&mut self, ends: EndsAt) {
        self.tag(u8::from(ends.is_wide));
        self.vec(ends.items);
    }

    fn optional_box(&mut self, target: Option<usize>) {
        self.tag(u8::from(target.is_some()));
        match target {
            None => self.memory.extend_from_slice(&[0; 4]),
            Some(at) => self.pointer(at),
        }
    }

    fn tag(&mut self, tag: u8) {
        self.memory.extend_from_slice(&[tag, 0, 0, 0]);
    }

    fn vec(&mut self, items: ItemsAt) {
        self.pointer(items.at);
        let count = u32::try_from(items.count).expect("a batch's length is a u32");
        self.memory.extend_from_slice(&count.to_le_bytes());
    }

    /// The distance from the pointer itself.
    fn pointer(&mut self, target: usize) {
        let distance = i64::try_from(self.at() - target).expect("memory is smaller");
        let distance = i32::try_from(-distance).expect("a payload is shorter than 2 GiB");
        self.memory.extend_from_slice(&distance.to_le_bytes());
    }
}

/// Writes items into the bytes that are theirs.
pub(super) fn put_items<const N: usize>(bytes: &mut [u8], items: impl Iterator<Item = [u8; N]>) {
    for (place, item) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(items) {
        *place = item;
    }
}
