//! Ours: a block layer on the host, with commands, and a backend for requests.

use std::path::Path;
use std::sync::Arc;

use blockyard_block::{Backend, BlockLayer, NoObserver, OnLost, Plan};
use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, Parent, Permissions, Roles};
use blockyard_host::{Host, HostFile};
use blockyard_qmp::{Aio, Files, Monitor, NoWatcher, Opening, Options};
use blockyard_runtime::{IoBuffer, Storage};
use blockyard_units::{ByteRange, Design};

/// Bytes of a short request.
pub const REQUEST: u64 = 4096;

/// The files of the machine, by their paths.
struct Paths;

impl Files for Paths {
    fn open(&self, filename: &str, opening: Opening) -> Result<Arc<dyn Storage>, String> {
        let aio = opening.aio.map(|aio| match aio {
            Aio::Threads => blockyard_host::Aio::Threads,
            Aio::IoUring => blockyard_host::Aio::IoUring,
        });
        let Opening { direct, no_flush, .. } = opening;
        let usual = blockyard_host::Opening::new(opening.read_only);
        let opening = blockyard_host::Opening { direct, no_flush, aio, ..usual };
        let file = HostFile::open_with(Path::new(filename), opening);
        Ok(Arc::new(file.map_err(|error| error.to_string())?))
    }
}

/// On one thread, as QEMU's side has one.
pub struct Layer {
    pub host: Host,
    pub monitor: Monitor,
}

impl Layer {
    pub fn new() -> Self {
        let host = Host::new(1).expect("the machine has threads");
        let layer = BlockLayer::new(host.runtime(), Design::default(), Arc::new(NoObserver));
        let monitor = Monitor::new(layer, Arc::new(Paths), Arc::new(NoWatcher));
        Self { host, monitor }
    }

    /// Executes commands, each the text of its arguments.
    pub fn execute(&self, command: &str, arguments: impl IntoIterator<Item = String>) {
        let all = async {
            for text in arguments {
                let Options { value, mode } =
                    Options::parse(&text, None).expect("arguments are well-formed");
                let arguments = value.into_dict().expect("arguments are an object");
                let done = self.monitor.execute(command, arguments, mode).await;
                done.unwrap_or_else(|error| panic!("{command} {text}: {error}"));
            }
        };
        self.host.block_on(all);
    }

    /// A backend above the node of that name, which may write.
    pub fn backend(&self, node: &str) -> Backend {
        self.attached(node, Permissions::CONSISTENT_READ.union(Permissions::WRITE))
    }

    /// One that may only read.
    pub fn reader(&self, node: &str) -> Backend {
        self.attached(node, Permissions::CONSISTENT_READ)
    }

    fn attached(&self, node: &str, required: Permissions) -> Backend {
        let layer = self.monitor.layer();
        let backend = layer.add_backend(&format!("above-{node}")).expect("there is no other");
        let child = layer.node(node).expect("it is there").id();
        let root = Edge {
            parent: Parent::Backend(backend.id()),
            name: "root".into(),
            child,
            roles: Roles::NONE,
            policy: EdgePolicy::Explicit { required, shared: Permissions::ALL },
            frozen: None,
        };
        let edits = || vec![Edit::AddEdge(root.clone())];
        let plan = |_: &Graph| Ok(Plan { edits: edits(), ..Plan::default() });
        let attached = layer.publish("attach", OnLost::StartOver, plan);
        self.host.block_on(attached).expect("nobody else holds it");
        backend
    }

    /// `count` requests in all, `depth` of them at a time, at places that are `step` bytes apart, over again from the
    /// beginning of `len` bytes.
    pub fn requests(&self, backend: &Backend, load: Load) {
        let Load { depth, size, write, .. } = load;
        let data = IoBuffer::from(vec![0x5A; size as usize]);
        let guest = |first: u64| {
            let (backend, data) = (backend.clone(), data.clone());
            async move {
                for offset in load.places(first) {
                    let done = if write {
                        backend.write(blockyard_block::Write::data(offset, data.clone())).await
                    } else {
                        backend.read(ByteRange::new(offset, size)).await.map(drop)
                    };
                    done.expect("nothing fails here");
                }
            }
        };
        let runtime = self.host.runtime();
        self.host.block_on(async {
            let guests: Vec<_> = (0..depth).map(|n| runtime.spawn("guest", guest(n))).collect();
            for guest in guests {
                guest.join().await;
            }
        });
    }
}

/// What guests ask for.
#[derive(Clone, Copy)]
pub struct Load {
    pub count: u64,
    /// How many at a time.
    pub depth: u64,
    /// Bytes of each.
    pub size: u64,
    /// Bytes from one to the next.
    pub step: u64,
    /// Bytes of the disk.
    pub len: u64,
    pub write: bool,
}

impl Load {
    /// Where the guest's requests are that is the `first` of as many as there are at a time.
    pub fn places(self, first: u64) -> impl Iterator<Item = u64> {
        (first..self.count).step_by(self.depth as usize).map(move |index| {
            let place = index * self.step % (self.len - self.size);
            place - place % REQUEST
        })
    }
}
