//! Copy on read, both ways: in the path of a node, and by the filter.

use std::sync::Arc;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{
    Backend, BlockDriver, BlockError, Extent, Io, NewNode, OnLost, Owner, Plan, ReadFlags,
    Requester, Write, WriteFlags,
};
use blockyard_drivers::{CopyOnRead, Memory, child_edges};
use blockyard_graph::{
    Edge, EdgePolicy, Edit, NodeAttributes, NodeKind, Parent, Permissions, Role, Roles,
};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::{Shared, door, sometimes};
use blockyard_units::{ByteLen, ByteRange, JobId, NodeId};

use crate::bench::{Bench, LEN, Link, Test, bytes, file};
use crate::overlaying::{CLUSTER, all, check, overlay, read};

/// Whether by the filter.
const WAYS: [bool; 2] = [false, true];

/// A backend that copies on read what the disk shows through an overlay, and the overlay.
async fn copying(bench: &Bench, by_filter: bool, required: Permissions) -> (Backend, NodeId) {
    let mut links: Vec<Link> = vec![overlay(None), file(bench)];
    if by_filter {
        links.insert(0, ("copy-on-read", Box::new(CopyOnRead::new(None))));
    }
    let (backend, ids) = bench.chain_for(required, links).await.expect("the chain is fine");
    if !by_filter {
        bench.layer.node("overlay").expect("it is there").set_copy_on_read(true);
    }
    (backend, ids[usize::from(by_filter)])
}

const GUEST: Permissions = Permissions::CONSISTENT_READ.union(Permissions::WRITE);

/// How many layers down the byte at `offset` is.
async fn depth(bench: &Bench, backend: &Backend, overlay: NodeId, offset: u64) -> u32 {
    let requester = Requester::Backend(backend.id());
    let range = ByteRange::new(offset, 1);
    let above = bench.layer.status_above(requester, overlay, None, range).await;
    above.expect("no fault is budgeted").depth
}

fn bitmap(bench: &Bench, node: &str) -> Arc<SharedBitmap> {
    let bitmap = DirtyBitmap::new(ByteLen(LEN), ByteLen(512)).expect("a power of two");
    let bitmap = Arc::new(SharedBitmap::new(bitmap));
    let job = JobId(door::new_object());
    bench.layer.node(node).expect("it is there").add_bitmap(job, bitmap.clone());
    bitmap
}

#[test]
fn what_is_read_is_copied_up_by_clusters_and_marks_nothing() {
    for by_filter in WAYS {
        let test = Test::new(move |bench| async move {
            let (backend, overlay) = copying(&bench, by_filter, GUEST).await;
            let bitmap = bitmap(&bench, "overlay");
            assert_eq!(depth(&bench, &backend, overlay, 0).await, 2);
            assert_eq!(read(&backend, 1000, 100).await, bytes(1, LEN).slice(1000..1100));
            for (offset, layer) in [(0, 1), (2 * CLUSTER - 1, 1), (2 * CLUSTER, 2)] {
                assert_eq!(depth(&bench, &backend, overlay, offset).await, layer, "at {offset}");
            }
            assert_eq!(bitmap.count(), 0, "nobody sees a change");
            all(&bench, &backend, vec![Write::data(0, bytes(9, 512))]).await;
            assert_eq!(bitmap.count(), 1, "a guest's write is one");
            assert_eq!(read(&backend, 512, 512).await, bytes(1, LEN).slice(512..1024));
        });
        check(&test, &[]);
    }
}

#[test]
fn a_copy_never_undoes_a_write() {
    for by_filter in WAYS {
        let test = Test::new(move |bench| async move {
            let (backend, _) = copying(&bench, by_filter, GUEST).await;
            let reader = backend.clone();
            let seen = bench.runtime.spawn("reader", async move { read(&reader, 100, 50).await });
            all(&bench, &backend, vec![Write::data(120, bytes(77, 60))]).await;
            let seen = seen.join().await;
            sometimes!(seen[20] == 77, "read after the write");
            sometimes!(seen[20] == bytes(1, LEN)[120], "read before the write");
            let mut model = bytes(1, LEN).to_vec();
            model[120..180].copy_from_slice(&bytes(77, 60));
            assert!(*read(&backend, 0, LEN).await == *model, "new data stays");
        });
        check(&test, &["read after the write", "read before the write"]);
    }
}

#[test]
fn who_may_not_write_reads_and_copies_nothing() {
    let test = Test::new(|bench| async move {
        let (backend, overlay) = copying(&bench, false, Permissions::CONSISTENT_READ).await;
        assert_eq!(read(&backend, 0, 100).await, bytes(1, 100));
        assert_eq!(depth(&bench, &backend, overlay, 0).await, 2);
    });
    check(&test, &[]);
    // The filter holds the permission itself.
    let test = Test::new(|bench| async move {
        let (backend, overlay) = copying(&bench, true, Permissions::CONSISTENT_READ).await;
        assert_eq!(read(&backend, 0, 100).await, bytes(1, 100));
        assert_eq!(depth(&bench, &backend, overlay, 0).await, 1);
    });
    check(&test, &[]);
}

/// A format with storage: what is written there it has, the rest it has not; all of it or nothing.
#[derive(Default)]
struct Format(Shared<bool>);

impl BlockDriver for Format {
    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(LEN)
    }

    fn cluster_size(&self) -> ByteLen {
        ByteLen(LEN)
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        let child = if self.0.read(|has| *has) { "file" } else { "backing" };
        Box::pin(io.read(child, range, flags))
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            // What is unchanged for those above is new here.
            sometimes!(write.flags.unchanged, "a copy comes as unchanged");
            let flags = WriteFlags { unchanged: false, ..write.flags };
            io.write("file", Write { flags, ..write }).await?;
            self.0.write(|has| *has = true);
            Ok(())
        })
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        let has = self.0.read(|has| *has);
        let extent = if has { Extent::data(range) } else { Extent::unallocated(range) };
        Box::pin(async move { Ok(extent) })
    }
}

/// `disk0` on a node `format` that copies on read, itself or by a filter above it, and keeps what it has in `storage`;
/// and the id of the top of that.
pub async fn formatted(bench: &Bench, by_filter: bool, storage: Vec<Link>) -> (Backend, NodeId) {
    let (backend, ids) = bench.chain_for(GUEST, storage).await.expect("the chain is fine");
    let format = bench.layer.new_node("format", Box::new(Format::default()));
    let backing = bench.layer.new_node("below", Box::new(Memory::new(LEN, Some(bytes(1, LEN)))));
    let node = |id, name: &str, kind| {
        let attributes = NodeAttributes::new(name, kind, "test");
        Edit::AddNode { id, attributes }
    };
    let edge = |parent, name: &str, child, roles: &[Role], policy| {
        let roles = Roles::of(roles);
        Edit::AddEdge(Edge { parent, name: name.into(), child, roles, policy, frozen: None })
    };
    let (parent, root) = (Parent::Node(format.id()), Parent::Backend(backend.id()));
    let guest = EdgePolicy::Explicit { required: GUEST, shared: Permissions::ALL };
    let publish = async |edits: Vec<Edit>, nodes: Vec<NewNode>| {
        let plan = || Plan { edits: edits.clone(), nodes: nodes.clone(), ..Plan::default() };
        let published = bench.layer.publish("format", OnLost::StartOver, |_| Ok(plan())).await;
        published.expect("nothing forbids it");
    };
    let remove = Edit::RemoveEdge { parent: root, name: "root".into(), expected: None };
    publish(vec![remove], Vec::new()).await;
    let edits = vec![
        node(format.id(), "format", NodeKind::Format),
        node(backing.id(), "below", NodeKind::Protocol),
        edge(parent, "file", ids[0], &[Role::Data, Role::Primary], EdgePolicy::Storage),
        edge(parent, "backing", backing.id(), &[Role::Cow], EdgePolicy::Backing),
        edge(root, "root", format.id(), &[Role::Primary], guest),
    ];
    publish(edits, vec![format.clone(), backing]).await;
    format.node().set_copy_on_read(!by_filter);
    if by_filter {
        let filter = bench.layer.new_node("copy-on-read", Box::new(CopyOnRead::new(None)));
        let edge = child_edges(filter.id(), "copy-on-read", &[("file", format.id())]).remove(0);
        let section = bench.layer.drain(Owner::command(), &[format.id()]).await;
        let new = filter.id();
        let redirect =
            Edit::ReplaceChild { parent: root, name: "root".into(), expected: None, new };
        let edits =
            vec![node(new, "copy-on-read", NodeKind::Filter), Edit::AddEdge(edge), redirect];
        publish(edits, vec![filter]).await;
        section.end();
    }
    (backend, ids[0])
}

/// Why a backup cannot be told by who wrote: below a format a copy and a guest's write are the same. The flag tells,
/// where the view is unchanged.
#[test]
fn below_a_format_copies_and_guest_writes_come_from_the_same_parent() {
    for by_filter in WAYS {
        let test = Test::new(move |bench| async move {
            let storage: Link = ("memory", Box::new(Memory::new(LEN, None)));
            let (backend, file) = formatted(&bench, by_filter, vec![storage]).await;
            let (above, below) = (bitmap(&bench, "format"), bitmap(&bench, "memory"));
            read(&backend, 0, 512).await;
            let copied = bench.requests.of(file);
            let counts = (above.count(), below.count());
            assert_eq!(counts, (0, LEN / 512), "a copy is a change below only");
            all(&bench, &backend, vec![Write::data(0, bytes(7, LEN))]).await;
            assert_eq!(above.count(), LEN / 512, "a guest's write is a change");
            let both = bench.requests.of(file);
            assert_eq!(copied, [Requester::Backend(backend.id())]);
            assert_eq!(both[1..], copied, "nothing of the two requests differs");
        });
        check(&test, &["a copy comes as unchanged"]);
    }
}
