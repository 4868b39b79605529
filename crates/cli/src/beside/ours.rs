//! Our own block layer on real files, as a side: commands go to its monitor, guests to its backends.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use blockyard_block::{Backend, BlockError, BlockLayer, NoObserver, Write, WriteKind};
use blockyard_graph::{Parent, ROOT};
use blockyard_host::Host;
use blockyard_qmp::{Dict, Mode, Monitor, NoWatcher, Subscriber, Value};
use blockyard_runtime::{IoBuffer, Runtime};
use blockyard_scenario::turns::{Broken, Deed, Reply, Side, Told};
use blockyard_scenario::{Asked, Request};
use blockyard_sync::first_of;
use blockyard_units::Design;

use crate::files::Images;
use crate::progress::Interrupt;

/// How long one thing may take.
const PATIENCE_NS: u64 = 30_000_000_000;
const MOMENT_NS: u64 = 1_000_000;

/// How differences call it.
const NAME: &str = "files";

/// Every event.
const EVENTS: &[&str] = &[
    "BLOCK_IMAGE_CORRUPTED",
    "BLOCK_IO_ERROR",
    "BLOCK_JOB_CANCELLED",
    "BLOCK_JOB_COMPLETED",
    "BLOCK_JOB_ERROR",
    "BLOCK_JOB_PENDING",
    "BLOCK_JOB_READY",
    "BLOCK_WRITE_THRESHOLD",
    "JOB_STATUS_CHANGE",
    "QUORUM_FAILURE",
    "QUORUM_REPORT_BAD",
];

pub(super) struct Ours<'a> {
    host: &'a Host,
    runtime: Runtime,
    monitor: Monitor,
    events: Arc<Subscriber>,
    devices: BTreeMap<String, Backend>,
    interrupt: &'a Interrupt,
}

impl<'a> Ours<'a> {
    pub fn new(host: &'a Host, design: Design, images: Images, interrupt: &'a Interrupt) -> Self {
        let runtime = host.runtime();
        let layer = BlockLayer::new(runtime.clone(), design, Arc::new(NoObserver));
        let monitor = Monitor::new(layer, Arc::new(images), Arc::new(NoWatcher));
        let events = EVENTS.iter().map(|name| (*name).into()).collect();
        let events = monitor.events().subscribe(events);
        Self { host, runtime, monitor, events, devices: BTreeMap::new(), interrupt }
    }

    /// Waits for something, but not for ever.
    fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, Broken> {
        let mut answer = None;
        let done = async { answer = Some(future.await) };
        let late = async {
            for _ in 0..PATIENCE_NS / (50 * MOMENT_NS) {
                self.runtime.sleep(50 * MOMENT_NS).await;
                if self.interrupt.is_set() {
                    return;
                }
            }
        };
        self.host.block_on(async {
            first_of(done, late).await;
        });
        match (answer, self.interrupt.is_set()) {
            (Some(answer), _) => Ok(answer),
            (None, true) => Err(Broken::Interrupted),
            (None, false) => {
                let seconds = PATIENCE_NS / 1_000_000_000;
                Err(Broken::Failed(NAME, format!("{what}: not done after {seconds} s")))
            }
        }
    }

    fn request(&self, device: &str, asked: Asked, data: &[u8]) -> Result<Reply, Broken> {
        let Some(backend) = self.devices.get(device) else {
            return Ok(Reply::Failed("no device".into()));
        };
        let Asked { kind, range, from, flags, .. } = asked;
        let bytes = || IoBuffer::from(data.to_vec());
        let done = async {
            let kind = match kind {
                Request::Read => {
                    return backend.read(range).await.map(|data| Reply::Data(data.to_vec()));
                }
                Request::Copy => {
                    return backend.copy_range(from, range, flags).await.map(|()| done());
                }
                Request::Status => return backend.block_status(range).await.map(|_| done()),
                Request::Write => WriteKind::Data(bytes()),
                Request::Compressed => WriteKind::Compressed(bytes()),
                Request::Zeroes => WriteKind::Zeroes,
                Request::Discard => WriteKind::Discard,
            };
            backend.write(Write { kind, range, flags }).await.map(|()| done())
        };
        let reply = self.wait(&format!("{} {device} {range}", kind.word()), done)?;
        Ok(reply.unwrap_or_else(failed))
    }

    fn attach(&mut self, id: &str, node: &str, resizes: bool) -> Result<Reply, Broken> {
        let attached = self.wait("device", self.monitor.attach_device(id, node, resizes))?;
        Ok(match attached {
            Ok(backend) => {
                self.devices.insert(id.into(), backend);
                done()
            }
            Err(error) => Reply::Refused { class: error.class.word().into(), desc: error.desc },
        })
    }
}

fn done() -> Reply {
    Reply::Done(Value::Dict(Dict::new()))
}

fn failed(error: BlockError) -> Reply {
    let name = error.io_kind().map_or("refused", |kind| kind.errno_name());
    Reply::Failed(name.into())
}

impl Side for Ours<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn refuses(&self, _deed: &Deed<'_>) -> Option<String> {
        // A script is made for it.
        None
    }

    fn play(&mut self, deed: &Deed<'_>) -> Result<Reply, Broken> {
        match deed {
            Deed::Execute { command, arguments } => {
                let executed = self.monitor.execute(command, (*arguments).clone(), Mode::Strings);
                Ok(match self.wait(command, executed)? {
                    Ok(value) => Reply::Done(value),
                    Err(error) => {
                        Reply::Refused { class: error.class.word().into(), desc: error.desc }
                    }
                })
            }
            Deed::Attach { id, node, resizes, .. } => self.attach(id, node, *resizes),
            Deed::Request { device, asked, data } => self.request(device, *asked, data),
            Deed::Flush { device } => match self.devices.get(*device) {
                Some(backend) => {
                    let flushed = self.wait("flush", backend.flush())?;
                    Ok(flushed.map_or_else(failed, |()| done()))
                }
                None => Ok(Reply::Failed("no device".into())),
            },
        }
    }

    fn events(&mut self) -> Vec<Told> {
        let events = self.events.take().into_iter();
        events.map(|event| (event.name.to_string(), event.data)).collect()
    }

    fn pause(&mut self) -> Result<(), Broken> {
        self.wait("a moment", self.runtime.sleep(MOMENT_NS))
    }

    fn devices(&mut self) -> Result<BTreeMap<String, (String, u64)>, Broken> {
        let graph = self.monitor.layer().graph();
        let root = |(id, backend): (&String, &Backend)| {
            let root = graph.node(graph.child(Parent::Backend(backend.id()), ROOT)?)?;
            Some((id.clone(), (root.name.clone(), backend.len().map_or(0, |len| len.0))))
        };
        Ok(self.devices.iter().filter_map(root).collect())
    }

    fn close(&mut self) -> Result<(), Broken> {
        let closed = self.wait("closing", self.monitor.close_all())?;
        self.monitor.jobs().let_go();
        closed.map_err(|error| Broken::Failed(NAME, format!("cannot close the images: {error}")))
    }
}
