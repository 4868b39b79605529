//! Points of the path that a driver for tests may stop at.
//!
//! Source: QEMU's documented blkdebug events, of which those are told that every node's path comes by; the other words
//! are those of formats. Differs: a node is told `read_aio`, `write_aio`, `flush_to_os` and `flush_to_disk` of each
//! request that enters it, whoever its parent is; nobody is told `cor_write`, as what copies on read has its own bytes.

use alloc::string::String;

use blockyard_runtime::BoxFuture;

/// A point of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugEvent(&'static str);

const WORDS: &[&str] = &[
    "l1_update",
    "l1_grow_alloc_table",
    "l1_grow_write_table",
    "l1_grow_activate_table",
    "l2_load",
    "l2_update",
    "l2_update_compressed",
    "l2_alloc_cow_read",
    "l2_alloc_write",
    "read_aio",
    "read_backing_aio",
    "read_compressed",
    "write_aio",
    "write_compressed",
    "vmstate_load",
    "vmstate_save",
    "cow_read",
    "cow_write",
    "reftable_load",
    "reftable_grow",
    "reftable_update",
    "refblock_load",
    "refblock_update",
    "refblock_update_part",
    "refblock_alloc",
    "refblock_alloc_hookup",
    "refblock_alloc_write",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "cluster_alloc",
    "cluster_alloc_bytes",
    "cluster_free",
    "flush_to_os",
    "flush_to_disk",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "empty_image_prepare",
    "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters",
    "cor_write",
    "cluster_alloc_space",
    "none",
];

impl DebugEvent {
    /// When the node is made.
    pub const NONE: Self = Self("none");
    /// Before data are read.
    pub const READ_AIO: Self = Self("read_aio");
    /// Before data are written, whatever must be read for that.
    pub const WRITE_AIO: Self = Self("write_aio");
    /// Before an aligned write of data.
    pub const PWRITEV: Self = Self("pwritev");
    /// Before an aligned write of zeroes.
    pub const PWRITEV_ZERO: Self = Self("pwritev_zero");
    /// After either, however it went.
    pub const PWRITEV_DONE: Self = Self("pwritev_done");
    /// Before the rest of a first block is read.
    pub const PWRITEV_RMW_HEAD: Self = Self("pwritev_rmw_head");
    /// After that.
    pub const PWRITEV_RMW_AFTER_HEAD: Self = Self("pwritev_rmw_after_head");
    /// Before the rest of a last block is read.
    pub const PWRITEV_RMW_TAIL: Self = Self("pwritev_rmw_tail");
    /// After that.
    pub const PWRITEV_RMW_AFTER_TAIL: Self = Self("pwritev_rmw_after_tail");
    /// When a flush begins.
    pub const FLUSH_TO_OS: Self = Self("flush_to_os");
    /// Before the driver flushes.
    pub const FLUSH_TO_DISK: Self = Self("flush_to_disk");

    /// The point that is called `word`, if one is.
    pub fn named(word: &str) -> Option<Self> {
        WORDS.iter().copied().find(|known| *known == word).map(Self)
    }

    /// What it is called.
    pub fn word(self) -> &'static str {
        self.0
    }
}

/// What a driver for tests does with them.
pub trait Debugger: Send + Sync {
    /// A request has come to `event`.
    ///
    /// # Yields
    /// While it is to stop there.
    fn event(&self, event: DebugEvent) -> BoxFuture<'_, ()>;

    /// The next request that comes to `event` stops there, as `tag`.
    fn set_breakpoint(&self, event: DebugEvent, tag: String);

    /// A request that has stopped as `tag` goes on; whether there is one.
    fn resume(&self, tag: &str) -> bool;

    /// Waits until a request has stopped as `tag`.
    ///
    /// # Yields
    /// Always.
    fn wait_stopped(&self, tag: String) -> BoxFuture<'_, ()>;
}
