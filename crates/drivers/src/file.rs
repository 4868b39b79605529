//! `file`: a disk that the world provides.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{
    BlockDriver, BlockError, Change, Extent, Io, Limits, ReadFlags, Write, WriteKind,
};
use blockyard_graph::{Graph, NodeAttributes};
use blockyard_runtime::{Access, BoxFuture, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};

/// A disk that the world provides.
pub struct FileDriver {
    node: String,
    /// Replaced by the same disk, so nobody sees it change; a request that began goes on with the old opening.
    storage: Quiet<Arc<dyn Storage>>,
    /// What it is open for.
    access: Quiet<Access>,
    /// The same disk, reopened for changes that are not published yet, and what for. There may be several, of which
    /// one will be.
    prepared: Quiet<Vec<(Arc<dyn Storage>, Access)>>,
}

impl FileDriver {
    /// The disk `storage`, which is open for `access`; `node` is the node-name, which errors name.
    pub fn new(node: impl Into<String>, storage: Arc<dyn Storage>, access: Access) -> Self {
        let (storage, access) = (Quiet::new(storage), Quiet::new(access));
        Self { node: node.into(), storage, access, prepared: Quiet::default() }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.with(|storage| storage.clone())
    }

    /// What the graph wants of the disk, and whether it can do with what it has.
    fn wanted(&self, graph: &Graph) -> Option<(Access, bool)> {
        let id = graph.node_by_name(&self.node)?;
        let node = graph.node(id)?;
        let idle = node.options.auto_read_only && !graph.is_modified(id);
        let access = match node {
            NodeAttributes { active: false, .. } => Access::Inactive,
            NodeAttributes { read_only: true, .. } => Access::Read,
            _ if idle => Access::Read,
            _ => Access::Write,
        };
        Some((access, idle))
    }

    /// The opening of the disk that `after` wants, if it is another one.
    async fn reopened(
        &self,
        after: &Graph,
    ) -> Result<Option<(Arc<dyn Storage>, Access)>, BlockError> {
        let now = self.access.with(|access| *access);
        let Some((access, idle)) = self.wanted(after) else { return Ok(None) };
        if access == now {
            return Ok(None);
        }
        match self.reopen(access).await {
            Ok(storage) => Ok(Some((storage, access))),
            // It may stay open for writing though nobody needs that.
            Err(_) if idle && now == Access::Write => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was prepared for `change`, if anything was: one opening is as good as another for the same access.
    fn take_prepared(&self, change: Change<'_>) -> Option<(Arc<dyn Storage>, Access)> {
        let (wanted, _) = self.wanted(change.after)?;
        self.prepared.with(|prepared| {
            let index = prepared.iter().position(|(_, access)| *access == wanted)?;
            Some(prepared.remove(index))
        })
    }

    async fn reopen(&self, access: Access) -> Result<Arc<dyn Storage>, BlockError> {
        let said = |error| BlockError::Invalid(format!("node {}: {error}", self.node));
        let reopened = self.storage().reopen(access).map_err(said)?;
        // Of what is opened anew nobody knows what was written before.
        self.flush_storage().await?;
        Ok(reopened)
    }

    async fn flush_storage(&self) -> Result<(), BlockError> {
        let everything = ByteRange::new(0, self.storage().len().0);
        self.storage().flush().await.map_err(|kind| self.error(kind, everything))
    }

    fn error(&self, kind: IoErrorKind, range: ByteRange) -> BlockError {
        BlockError::Io { kind, node: self.node.clone(), range }
    }
}

impl BlockDriver for FileDriver {
    fn limits(&self) -> Limits {
        // Facts about a disk, which pass no door.
        let request_alignment = self.storage.with(|storage| storage.alignment());
        Limits { request_alignment, fua_zeroes: false, ..Limits::NONE }
    }

    fn len(&self, _io: &Io) -> ByteLen {
        self.storage().len()
    }

    fn grows(&self, _io: &Io) -> bool {
        self.storage.with(|storage| storage.grows())
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let data = self.storage().read(range).await.map_err(|kind| self.error(kind, range))?;
            assert_eq!(data.len() as u64, range.len().0, "data-fills-its-range");
            Ok(data)
        })
    }

    fn write<'a>(&'a self, _io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let (range, flags) = (write.range, write.flags);
            let done = match &write.kind {
                WriteKind::Data(_) | WriteKind::Copy(_) => {
                    let data = write.bytes().await?;
                    self.storage().write(range.start(), data, flags.fua).await
                }
                WriteKind::Zeroes => self.storage().write_zeroes(range, flags.may_unmap).await,
                WriteKind::Discard => self.storage().discard(range).await,
                WriteKind::Compressed(_) => Err(IoErrorKind::Unsupported),
                WriteKind::Truncate(truncate) => truncate.on(&*self.storage()).await,
            };
            done.map_err(|kind| self.error(kind, range))
        })
    }

    fn prepare<'a>(&'a self, change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let reopened = self.reopened(change.after).await?;
            self.prepared.with(|prepared| prepared.extend(reopened));
            Ok(())
        })
    }

    fn commit(&self, change: Change<'_>) {
        if let Some((reopened, access)) = self.take_prepared(change) {
            self.access.with(|old| *old = access);
            let old = self.storage.with(|storage| core::mem::replace(storage, reopened));
            drop(old);
        }
    }

    fn abort(&self, change: Change<'_>) {
        drop(self.take_prepared(change));
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.flush_storage())
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let asked = self.storage().allocated(range).await;
            let (allocated, len) = asked.map_err(|kind| self.error(kind, range))?;
            let whole = if allocated {
                Extent::data(range)
            } else {
                Extent { offset: Some(range.start()), ..Extent::zeroes(range) }
            };
            Ok(Extent { len, ..whole })
        })
    }

    fn keeps_data(&self) -> bool {
        true
    }
}
