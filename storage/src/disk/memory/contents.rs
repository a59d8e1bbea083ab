//! The bytes of one file: whole blocks, of which only those ever written take memory of their own.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::disk::BLOCK_BYTES;

/// One block's bytes, shared by every version of the file that holds it.
pub(super) type Block = Arc<BlockBytes>;

/// The bytes of a block, where they are copied fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct BlockBytes([u8; BLOCK_BYTES]);

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file's length and blocks. A block that is absent reads as zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) len: u64,
    /// By their place, the last one being there. Shared until one of several versions of the file is changed.
    blocks: Arc<Vec<Option<Block>>>,
}

impl Contents {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let block = |part: &[u8]| {
            let mut block = BlockBytes::zeroed();
            block[..part.len()].copy_from_slice(part);
            Some(Arc::new(block))
        };
        Self {
            len: bytes.len() as u64,
            blocks: Arc::new(bytes.chunks(BLOCK_BYTES).map(block).collect()),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Fills `buf` from `position`, a multiple of the block, as far as the file reaches.
    pub(super) fn read(&self, position: u64, buf: &mut [u8]) -> usize {
        let available = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = available.min(buf.len());
        for (index, part) in (position / BLOCK..).zip(buf[..count].chunks_mut(BLOCK_BYTES)) {
            match self.written(index) {
                Some(block) => part.copy_from_slice(&block[..part.len()]),
                None => part.fill(0),
            }
        }
        count
    }

    fn written(&self, index: u64) -> Option<&Block> {
        self.blocks.get(index as usize)?.as_ref()
    }

    pub(super) fn block(&self, index: u64) -> Block {
        self.written(index).cloned().unwrap_or_else(zero_block)
    }

    pub(super) fn set_block(&mut self, index: u64, block: Block) {
        let (blocks, index) = (Arc::make_mut(&mut self.blocks), index as usize);
        if index >= blocks.len() {
            blocks.resize(index + 1, None);
        }
        blocks[index] = Some(block);
    }

    /// The blocks from one on that were ever written.
    pub(super) fn written_from(&self, first: u64) -> Vec<u64> {
        let blocks = (0..).zip(self.blocks.iter()).skip(first as usize);
        blocks
            .filter(|(_, block)| block.is_some())
            .map(|(index, _)| index)
            .collect()
    }

    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Sets the length; what is beyond it reads as zero if the file grows again.
    pub(super) fn truncate(&mut self, len: u64) {
        self.len = len;
        let kept = len.div_ceil(BLOCK) as usize;
        if self.blocks.len() > kept {
            let blocks = Arc::make_mut(&mut self.blocks);
            blocks.truncate(kept);
            while blocks.pop_if(|last| last.is_none()).is_some() {}
        }
        let (last, kept_of_last) = (len / BLOCK, (len % BLOCK) as usize);
        if kept_of_last > 0
            && let Some(block) = self.written(last)
        {
            let mut bytes = BlockBytes::clone(block);
            bytes[kept_of_last..].fill(0);
            self.set_block(last, Arc::new(bytes));
        }
    }

    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) {
        let block = self.block(byte / BLOCK);
        self.set_block(byte / BLOCK, flipped(&block, (byte % BLOCK) as usize, bit));
    }
}

impl BlockBytes {
    pub(super) fn zeroed() -> Self {
        Self([0; BLOCK_BYTES])
    }
}

impl Deref for BlockBytes {
    type Target = [u8; BLOCK_BYTES];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for BlockBytes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

pub(super) fn zero_block() -> Block {
    thread_local! {
        static ZEROS: Block = Arc::new(BlockBytes::zeroed());
    }
    ZEROS.with(Arc::clone)
}

/// A block of these bytes, as many as a block has. Those that hold zeros only, as files that are made ready do, share
/// their memory.
pub(super) fn block_of(bytes: &[u8]) -> Block {
    let bytes: &[u8; BLOCK_BYTES] = bytes.try_into().expect("writes are whole blocks");
    let zeros = zero_block();
    if **zeros == *bytes {
        zeros
    } else {
        Arc::new(BlockBytes(*bytes))
    }
}

pub(super) fn flipped(block: &Block, byte: usize, bit: u8) -> Block {
    let mut bytes = BlockBytes::clone(block);
    bytes[byte] ^= 1 << bit;
    Arc::new(bytes)
}
