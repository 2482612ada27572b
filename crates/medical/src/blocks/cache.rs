//! Blocks that were read lately, up to a number of bytes.

use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A block: which file, and which block of it.
type Name = (u64, u64);

/// The least recently used blocks go first. Shared by any number of volumes and threads.
pub struct BlockCache {
    capacity: usize,
    inner: Mutex<Inner>,
    files: AtomicU64,
}

#[derive(Default)]
struct Inner {
    blocks: HashMap<Name, (Arc<[u8]>, u64)>,
    /// From the time of the last use to the block.
    uses: BTreeMap<u64, Name>,
    clock: u64,
    bytes: usize,
    reads: u64,
}

impl Inner {
    fn touch(&mut self, name: Name) -> Option<Arc<[u8]>> {
        let (block, used) = self.blocks.get_mut(&name)?;
        self.uses.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.uses.insert(self.clock, name);
        Some(block.clone())
    }
}

impl BlockCache {
    /// A cache of at most `capacity` bytes of blocks. A block that is larger is read and not kept.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(BlockCache { capacity, inner: Mutex::default(), files: AtomicU64::new(0) })
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// How often a block was read from the disk.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// A number for a file that is not another's.
    pub(super) fn register(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A thread that panicked while it held the lock left at worst a wrong order of uses.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block `name`, from here or from `read`, which runs without the lock.
    pub(super) fn get(&self, name: Name, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<[u8]>> {
        if let Some(block) = self.lock().touch(name) {
            return Ok(block);
        }
        let block: Arc<[u8]> = read()?.into();
        let mut inner = self.lock();
        inner.reads += 1;
        if let Some(other) = inner.touch(name) {
            // Another thread was first.
            return Ok(other);
        }
        if block.len() > self.capacity {
            return Ok(block);
        }
        while inner.bytes + block.len() > self.capacity {
            let Some((_, oldest)) = inner.uses.pop_first() else {
                return Err(Error::Other("the cache of blocks has lost count of its bytes".to_string()));
            };
            if let Some((gone, _)) = inner.blocks.remove(&oldest) {
                inner.bytes -= gone.len();
            }
        }
        inner.clock += 1;
        let now = inner.clock;
        inner.bytes += block.len();
        inner.uses.insert(now, name);
        inner.blocks.insert(name, (block.clone(), now));
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_goes_first() {
        let cache = BlockCache::new(20);
        let read = |n: u64| cache.get((0, n), || Ok(vec![n as u8; 10])).unwrap();
        read(1);
        read(2);
        assert_eq!((read(1)[0], cache.reads(), cache.bytes()), (1, 2, 20));
        read(3);
        read(1);
        assert_eq!(cache.reads(), 3);
        read(2);
        assert_eq!((cache.reads(), cache.bytes()), (4, 20));
        // Too large to keep, and an error is passed on.
        assert_eq!(cache.get((0, 9), || Ok(vec![0; 21])).unwrap().len(), 21);
        assert_eq!(cache.bytes(), 20);
        assert!(
            cache.get((0, 10), || Err(Error::input("f", "gone"))).unwrap_err().to_string().contains("gone")
        );
    }

    proptest! {
        #[test]
        fn never_more_than_its_size(capacity in 0usize..100, names in prop::collection::vec(0u64..12, 1..80)) {
            let cache = BlockCache::new(capacity);
            for n in names {
                let size = 1 + n as usize * 7 % 40;
                let block = cache.get((1, n), || Ok(vec![n as u8; size])).unwrap();
                prop_assert!(block.len() == size && block.iter().all(|b| *b == n as u8));
                prop_assert!(cache.bytes() <= capacity);
            }
        }
    }
}
