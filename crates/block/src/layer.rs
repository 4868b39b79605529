//! The layer: what is published, and the handle that everybody holds.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_graph::{Edit, Graph, Parent};
use blockyard_runtime::Runtime;
use blockyard_sync::Shared;
use blockyard_sync::door::{self, Kind};
use blockyard_units::{BackendId, Design, JobId, Mutant, NodeId};

use crate::backend::Backend;
use crate::bitmaps::BitmapOwner;
use crate::driver::{BackingFile, BlockDriver};
use crate::error::BlockError;
use crate::io::Io;
use crate::node::Node;
use crate::observer::Observer;
use crate::policy::LayerEvents;
use crate::publish::NewNode;
use crate::recording::Bitmaps;
use crate::request::Requester;
use crate::state::{
    Activity, END, JOBS, OPENING, OfBackend, SECTIONS, State, VERSION, holder_key, key,
};

/// A block layer. Clones are the same layer.
#[derive(Clone)]
pub struct BlockLayer(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    design: Design,
    observer: Arc<dyn Observer>,
    state: Shared<State>,
    events: Shared<Option<Arc<dyn LayerEvents>>>,
    /// Guests stand still.
    stopped: Shared<bool>,
    /// Counts generated names.
    names: Shared<u64>,
}

impl BlockLayer {
    /// An empty graph in a world.
    pub fn new(runtime: Runtime, design: Design, observer: Arc<dyn Observer>) -> Self {
        let state = Shared::remembered(State::default(), State::seen_by_waits);
        let stopped = Shared::remembered(false, bool::clone);
        let (events, names) = (Shared::default(), Shared::default());
        Self(Arc::new(Inner { runtime, design, observer, state, events, stopped, names }))
    }

    /// The world.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// The decisions it runs under.
    pub fn design(&self) -> Design {
        self.0.design
    }

    /// Who watches.
    pub fn observer(&self) -> &dyn Observer {
        &*self.0.observer
    }

    /// From now on `events` learns of what management is to be told.
    pub fn set_events(&self, events: Arc<dyn LayerEvents>) {
        self.0.events.write(|old| *old = Some(events));
    }

    pub(crate) fn tell(&self, what: impl FnOnce(&dyn LayerEvents)) {
        if let Some(events) = self.0.events.read(Clone::clone) {
            what(&*events);
        }
    }

    pub(crate) fn stopped(&self) -> &Shared<bool> {
        &self.0.stopped
    }

    pub(crate) fn state(&self) -> &Shared<State> {
        &self.0.state
    }

    /// The graph as it is now. Not to be kept across an await.
    pub fn graph(&self) -> Graph {
        self.state().trusted([key(Kind::Read, VERSION)], |state| state.graph.clone())
    }

    /// A node by name, as the graph is now.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> Result<Arc<Node>, BlockError> {
        let found = self.state().trusted([key(Kind::Read, VERSION)], |state| {
            let id = state.graph.node_by_name(name)?;
            state.nodes.get(&id).cloned()
        });
        found.ok_or_else(|| BlockError::NotFound(format!("there is no node '{name}'")))
    }

    /// A node by id, if it is still there.
    pub fn node_by_id(&self, id: NodeId) -> Option<Arc<Node>> {
        self.state().trusted([key(Kind::Read, VERSION)], |state| state.nodes.get(&id).cloned())
    }

    /// A node that is not in the graph yet; a plan puts it there.
    pub fn new_node(&self, name: &str, driver: Box<dyn BlockDriver>) -> NewNode {
        let id = NodeId(door::new_object());
        NewNode(Arc::new(Node::new(id, name.into(), driver)))
    }

    /// Nodes that are about to come into the graph, and will be opened there: until [`BlockLayer::end_opening`] no edge
    /// may lead to one of them, unless from another.
    pub fn begin_opening(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.state().trusted([key(Kind::Write, OPENING)], |state| state.opening.extend(nodes));
    }

    /// They are open, or gone.
    pub fn end_opening(&self, nodes: &[NodeId]) {
        self.state().trusted([key(Kind::Write, OPENING)], |state| {
            nodes.iter().for_each(|node| {
                state.opening.remove(node);
            });
        });
    }

    /// Opens a node that is in the graph and that nobody uses yet, and brings in the bitmaps that are stored with it.
    ///
    /// # Errors
    /// What its driver found in its children, or met there.
    ///
    /// # Yields
    /// As its children do.
    pub async fn open_node(&self, node: &Node) -> Result<(), BlockError> {
        let io = Io::of_node(self, node, Requester::Node(node.id()));
        node.driver().open(&io).await?;
        self.load_bitmaps(node, &io).await
    }

    /// Closes a node that nobody uses any more, before it leaves the graph: its bitmaps are stored with it, or lost,
    /// which is told.
    ///
    /// # Errors
    /// What its driver met in its children: they lack what it kept.
    ///
    /// # Yields
    /// As its children do.
    pub async fn close_node(&self, node: &Node) -> Result<(), BlockError> {
        let io = Io::of_node(self, node, Requester::Node(node.id()));
        self.store_bitmaps(node, &io).await?;
        node.driver().close(&io).await?;
        for (name, _) in node.bitmaps().unplaced() {
            self.tell(|events| events.bitmap_lost(node.name(), &name));
        }
        Ok(())
    }

    /// Has the image that a node has opened name another backing file, durably.
    ///
    /// # Errors
    /// What its driver met or refused.
    ///
    /// # Yields
    /// As the driver does.
    pub async fn set_backing_file(
        &self,
        node: &Node,
        by: Requester,
        file: &BackingFile,
    ) -> Result<(), BlockError> {
        node.amend(&Io::of_node(self, node, by), file).await.map(drop)
    }

    /// A node-name that nobody gave; no user can give one like it.
    pub fn generate_name(&self) -> String {
        self.0.names.write(|names| {
            *names += 1;
            format!("#block{names}")
        })
    }

    /// A new backend, without a root.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn add_backend(&self, name: &str) -> Result<Backend, BlockError> {
        let id = BackendId(door::new_object());
        let in_flight = Arc::new(Shared::remembered(0, u64::clone));
        let bitmaps = Arc::new(Bitmaps::new(BitmapOwner::Device(name.into())));
        let of_backend = OfBackend { in_flight, bitmaps };
        let edit = Edit::AddBackend { id, name: name.into() };
        self.state().trusted([key(Kind::Write, VERSION)], |state| {
            state.graph = state.graph.apply(&[edit])?;
            state.version += 1;
            state.backends.insert(id, of_backend.clone());
            Ok::<_, BlockError>(())
        })?;
        let holder = holder_key(Parent::Backend(id), name);
        Ok(Backend::new(self.clone(), id, name.into(), holder, of_backend))
    }

    /// Takes away a backend that has no root.
    pub fn remove_backend(&self, backend: &Backend) {
        let id = backend.id();
        self.state().trusted([key(Kind::Write, VERSION)], |state| {
            if let Ok(graph) = state.graph.apply(&[Edit::RemoveBackend { id }]) {
                state.graph = graph;
                state.version += 1;
                state.backends.remove(&id);
            }
        });
    }

    /// The bitmaps of a backend, if it is still there.
    pub fn device_bitmaps(&self, id: BackendId) -> Option<Arc<Bitmaps>> {
        self.state().trusted([key(Kind::Read, VERSION)], |state| {
            state.backends.get(&id).map(|backend| backend.bitmaps.clone())
        })
    }

    /// The bitmaps of the backends that show what `node` does.
    pub(crate) fn bitmaps_above(&self, node: NodeId) -> Vec<Arc<Bitmaps>> {
        self.state().trusted([key(Kind::Read, VERSION)], |state| state.bitmaps_above(node))
    }

    /// Counts `job` among the sources of requests, running.
    pub fn register_job(&self, job: JobId) {
        self.set_activity(job, Some(Activity::Running));
    }

    /// The job makes no requests any more.
    pub fn unregister_job(&self, job: JobId) {
        self.set_activity(job, None);
    }

    /// The job makes no requests until it is [unparked](Self::unpark).
    pub fn park(&self, job: JobId) {
        self.set_activity(job, Some(Activity::Parked));
    }

    /// Whether the job may be making requests.
    pub fn is_active(&self, job: JobId) -> bool {
        let activity = |state: &mut State| state.jobs.get(&job).copied();
        self.state().trusted([key(Kind::Read, JOBS)], activity) == Some(Activity::Running)
    }

    fn set_activity(&self, job: JobId, activity: Option<Activity>) {
        self.state().trusted([key(Kind::Write, JOBS)], |state| match activity {
            Some(activity) => {
                state.jobs.insert(job, activity);
            }
            None => {
                state.jobs.remove(&job);
            }
        });
    }

    /// The job goes on as soon as nobody has drained what it reaches.
    ///
    /// # Yields
    /// Always.
    pub async fn unpark(&self, job: JobId) {
        let owner = crate::Owner::Job(job);
        let free = move |state: &State| !state.quiesced(Parent::Job(job), Some(owner));
        let run = move |state: &mut State| {
            state.jobs.insert(job, Activity::Running);
        };
        // The whole of it: the guard looks at sections and graph, the action changes the jobs.
        self.state().trusted_wait(Kind::Write, SECTIONS, END, free, run).await;
    }

    /// Whether somebody else has drained what the job reaches, so that it should park.
    pub fn is_quiesced(&self, job: JobId) -> bool {
        if self.design().is_mutant(Mutant::JobIgnoresDrainedNode) {
            return false;
        }
        self.quiesced_now(Parent::Job(job), Some(crate::Owner::Job(job)))
    }

    /// Whether `parent` must not begin requests now. Reads the graph only if there is a section at all.
    pub(crate) fn quiesced_now(&self, parent: Parent, owner: Option<crate::Owner>) -> bool {
        self.anything_drained()
            && self
                .state()
                .trusted([(Kind::Read, SECTIONS, END)], |state| state.quiesced(parent, owner))
    }

    /// Whether anybody has drained anything.
    pub(crate) fn anything_drained(&self) -> bool {
        self.state().trusted([key(Kind::Read, SECTIONS)], |state| !state.sections.is_empty())
    }

    /// Everything that is not at rest, for the end of a run: nodes with requests in flight, and how many.
    pub fn in_flight(&self) -> Vec<(String, usize)> {
        let nodes: Vec<_> = self.state().read(|state| state.nodes.values().cloned().collect());
        let busy =
            nodes.iter().map(|node: &Arc<Node>| (String::from(node.name()), node.in_flight()));
        busy.filter(|(_, count)| *count > 0).collect()
    }

    /// The owners of drained sections that have not ended, for the end of a run.
    pub fn open_sections(&self) -> Vec<String> {
        self.state().read(|state| {
            let owner = |section: &crate::state::Section| match section.owner {
                crate::Owner::Job(job) => {
                    format!("of job {}", state.graph.job_name(job).unwrap_or("that is gone"))
                }
                crate::Owner::Command(_) => String::from("of a command"),
            };
            state.sections.iter().map(owner).collect()
        })
    }

    /// Requests of backends in flight or parked, for the end of a run.
    pub fn backend_requests(&self) -> u64 {
        let counts: Vec<_> = self.state().read(|state| state.backends.values().cloned().collect());
        counts.iter().map(|backend: &OfBackend| backend.in_flight.read(|n| *n)).sum()
    }
}
