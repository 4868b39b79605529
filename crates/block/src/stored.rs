//! Bitmaps that are stored with their node's data.
//!
//! They come in when the node is opened, and go out when it is closed. In between what is stored is only vouched for as
//! long as nothing has changed: before the first write, and before a command changes one of them, it is *disowned*. So
//! after a crash a bitmap is what it was when its node was closed, and nothing was written since; or it says that it is
//! inconsistent.
//!
//! Source: QEMU's documentation of persistent bitmaps. Differs: QEMU disowns them when it opens an image to write it,
//! so that one that is only read loses them with a crash.
//!
//! Not for: where and how they are stored, which is a driver's business.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_runtime::BoxFuture;
use blockyard_units::{ByteLen, Design, StoredBitmaps};

use crate::bitmaps::{BitmapState, NamedBitmap};
use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;
use crate::node::Node;

/// A bitmap as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// What is dirty, and whether it records. Clean, if it is inconsistent.
    pub bits: DirtyBitmap,
    /// It was not stored well, or is in use.
    pub inconsistent: bool,
}

/// What a driver that stores its node's bitmaps can be asked for. `io`: the node's own view.
pub trait BitmapStore: Send + Sync {
    /// Whether another bitmap of these could be stored, for a disk of `len` bytes, beside `others`.
    ///
    /// # Errors
    /// Says why not.
    fn check(
        &self,
        name: &str,
        len: ByteLen,
        granularity: ByteLen,
        others: usize,
    ) -> Result<(), BlockError>;

    /// All that are stored.
    ///
    /// # Errors
    /// A child failed, or what is stored is wrong.
    fn load<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<Vec<StoredBitmap>, BlockError>>;

    /// What is stored is durably not vouched for any more.
    ///
    /// # Errors
    /// A child failed: it may still be, and nothing must change.
    fn disown<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>>;

    /// These are all that are stored, vouched for from here on but for inconsistent ones, which stay as they are, or
    /// come in use. What was not disowned since the last time is not stored again.
    ///
    /// # Errors
    /// A child failed: those of before are stored, disowned, or these.
    fn store<'a>(
        &'a self,
        io: &'a Io,
        bitmaps: Vec<StoredBitmap>,
    ) -> BoxFuture<'a, Result<(), BlockError>>;
}

impl Node {
    /// Whether a bitmap of this name is stored with its data.
    pub fn stores_bitmap(&self, name: &str) -> bool {
        self.bitmaps().look_at(name, |bitmap| Ok(bitmap.is_stored())).unwrap_or(false)
    }

    /// What a bitmap is that is to be added: one that could not be stored is refused, or, where bitmaps follow the
    /// data, waits for a node that can.
    pub(crate) fn state_to_add(
        &self,
        design: Design,
        name: &str,
        (len, granularity): (ByteLen, ByteLen),
        state: BitmapState,
    ) -> Result<BitmapState, BlockError> {
        let follows = design.bitmaps == StoredBitmaps::Follow;
        if state.persistent && follows && self.driver().bitmap_store().is_none() {
            return Ok(BitmapState { unplaced: true, ..state });
        }
        if state.persistent {
            self.check_storing(name, len, granularity)?;
        }
        Ok(state)
    }

    /// Whether another bitmap of these could be stored with its data.
    pub(crate) fn check_storing(
        &self,
        name: &str,
        len: ByteLen,
        granularity: ByteLen,
    ) -> Result<(), BlockError> {
        let Some(store) = self.driver().bitmap_store() else {
            return Err(BlockError::Invalid(format!(
                "bitmap '{name}' of node {} cannot be persistent: only qcow2 nodes store bitmaps",
                self.name()
            )));
        };
        let mut others = 0;
        self.bitmaps().each(|bitmap| others += usize::from(bitmap.is_stored()));
        store.check(name, len, granularity, others)
    }
}

impl BlockLayer {
    /// Brings in what is stored with a node that has just been opened, or has become writable: somebody else may have
    /// written it before.
    pub(crate) async fn load_bitmaps(&self, node: &Node, io: &Io) -> Result<(), BlockError> {
        let Some(store) = node.driver().bitmap_store() else { return Ok(()) };
        let bitmaps = store.load(io).await?;
        node.bitmaps().lose(NamedBitmap::is_stored);
        let read_only = self.graph().node(node.id()).is_some_and(|node| node.read_only);
        for StoredBitmap { name, bits, inconsistent } in bitmaps {
            let state = BitmapState { persistent: true, read_only, inconsistent, unplaced: false };
            let owner = node.bitmaps().owner().clone();
            node.bitmaps().put_back(NamedBitmap::new(owner, &name, state, bits))?;
        }
        self.find_places(node);
        Ok(())
    }

    /// Stores what is to be stored with a node that nobody writes any more.
    pub(crate) async fn store_bitmaps(&self, node: &Node, io: &Io) -> Result<(), BlockError> {
        let Some(store) = node.driver().bitmap_store() else { return Ok(()) };
        let mut bitmaps = Vec::new();
        node.bitmaps().each(|bitmap| {
            if bitmap.is_stored() {
                let (name, bits) = (bitmap.name().into(), bitmap.bits().clone());
                let inconsistent = bitmap.state().inconsistent;
                bitmaps.push(StoredBitmap { name, bits, inconsistent });
            }
        });
        store.store(io, bitmaps).await
    }

    /// What is stored of the bitmaps of a node is not vouched for any more: one of them is about to change.
    pub(crate) async fn disown_bitmaps(&self, node: &Node, io: &Io) -> Result<(), BlockError> {
        let Some(store) = node.driver().bitmap_store() else { return Ok(()) };
        store.disown(io).await
    }
}
