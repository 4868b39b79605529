//! The witness of a job that switches: a byte, first on a node of its own, by which management learns after a power
//! loss whether the switch took place.
//!
//! In the drained section in which nothing is left to be done: what the job was to make durable is; the byte is
//! written and flushed; the switch is published; guests go on. Set, it means that what the job switches to has every
//! write that was acknowledged, and unset that what it switches from does.
//!
//! Invariant `unknown-outcome-resumes-nowhere`: from when the byte begins to be written the job either switches, or
//! every device above what it holds loses its medium. Whether the byte is durable is then for management to find out.
//!
//! Source: "job-based mirroring implementation" (qemu-devel, April 2012): drive-reopen with a witness. Differs: there
//! the byte went to a descriptor that came with the command; here a node may be anywhere, and the job's hold on it
//! keeps others from writing to it.

use alloc::format;
use alloc::vec::Vec;

use blockyard_block::{BlockError, Io, OnError, OnLost, Plan, ReadFlags, Write};
use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, Parent, Permissions, ROOT, Roles};
use blockyard_runtime::IoBuffer;
use blockyard_sync::sometimes;
use blockyard_units::{ByteRange, Mutant, NodeId};

use crate::job::Job;

/// The name of the job's edge to its witness.
const WITNESS: &str = "witness";

/// The first byte, once it is set.
const SET: u8 = 1;

/// How far a job's witness is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Witness {
    /// It has none.
    #[default]
    None,
    /// It is to be written.
    Asked,
    /// It may have been written.
    Begun,
}

impl Job {
    /// Tells it to finish, and to set the first byte of `witness` before it changes the graph.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); if it was told so already; or if the node cannot be written to, or others write
    /// to it.
    ///
    /// # Yields
    /// Always; whoever completes the job meanwhile comes first.
    pub async fn complete_with_witness(&self, witness: NodeId) -> Result<(), BlockError> {
        // Whoever is to be refused leaves no edge behind.
        self.ask_to_complete(Witness::Asked, false)?;
        let edge = Edge {
            parent: Parent::Job(self.id()),
            name: WITNESS.into(),
            child: witness,
            roles: Roles::NONE,
            policy: EdgePolicy::Explicit {
                required: Permissions::CONSISTENT_READ.union(Permissions::WRITE),
                shared: Permissions::CONSISTENT_READ,
            },
            frozen: None,
        };
        let derive = |graph: &Graph| {
            let ended = || BlockError::NotFound(format!("job {} has ended", self.name()));
            graph.job_name(self.id()).ok_or_else(ended)?;
            Ok(Plan { edits: [Edit::AddEdge(edge.clone())].into(), ..Plan::default() })
        };
        self.layer().publish("hold witness", OnLost::StartOver, derive).await?;
        // One that is refused now is about to end, and its edges go with it.
        self.ask_to_complete(Witness::Asked, true)
    }

    fn witness(&self) -> Witness {
        self.control.read(|control| control.witness)
    }

    /// Whether it is to set one.
    pub(crate) fn has_witness(&self) -> bool {
        self.witness() != Witness::None
    }

    /// Whether it cannot end any more as if nothing had been tried.
    pub(crate) fn has_begun_witness(&self) -> bool {
        self.witness() == Witness::Begun
    }

    fn witness_io(&self) -> Io {
        Io::of_job(self.layer(), self.id(), self.name())
    }

    /// Its witness, if it has one, is not set.
    ///
    /// # Errors
    /// If it is, or that cannot be found out.
    pub(crate) async fn look_at_witness(&self) -> Result<(), BlockError> {
        if !self.has_witness() {
            return Ok(());
        }
        let range = ByteRange::new(0, 1);
        let byte = self.witness_io().read(WITNESS, range, ReadFlags::default()).await?;
        if byte.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let name = self.name();
        Err(BlockError::Invalid(format!(
            "refused: the witness of job {name} is set already: set its first byte to zero first"
        )))
    }

    /// Sets its witness, if it has one, and makes that durable.
    ///
    /// # Errors
    /// A disk's: then nobody knows what will be found there.
    pub(crate) async fn set_witness(&self) -> Result<(), BlockError> {
        if !self.has_witness() {
            return Ok(());
        }
        self.control.write(|control| control.witness = Witness::Begun);
        let (design, io) = (self.layer().design(), self.witness_io());
        let byte = Write::data(0, IoBuffer::from([SET].to_vec()));
        self.judge_witness(io.write(WITNESS, byte).await)?;
        if design.is_mutant(Mutant::WitnessNotSynced) {
            return Ok(());
        }
        if design.is_mutant(Mutant::GuestAdmittedBeforeWitness) {
            let sync = async move { io.flush(WITNESS).await };
            drop(self.layer().runtime().spawn("sync", sync));
            return Ok(());
        }
        self.judge_witness(io.flush(WITNESS).await)
    }

    fn judge_witness(&self, done: Result<(), BlockError>) -> Result<(), BlockError> {
        sometimes!(done.is_err(), "nobody knows whether a witness is set");
        done.or_else(|error| self.met(error, OnError::Report, false))
    }

    /// In its error, whatever it failed with.
    pub(crate) fn say_that_outcome_is_unknown(&self) {
        let name = self.name();
        self.control.write(|control| {
            let error = control.error.take().unwrap_or_default();
            control.error = Some(format!(
                "the witness of job {name} may be set, and no device is led anywhere: read it, then give them \
                 their medium: {error}"
            ));
        });
    }

    /// The edits that let its witness go.
    pub(crate) fn without_witness(&self, graph: &Graph) -> Vec<Edit> {
        let parent = Parent::Job(self.id());
        let remove = |expected| Edit::RemoveEdge { parent, name: WITNESS.into(), expected };
        graph.child(parent, WITNESS).map(|node| remove(Some(node))).into_iter().collect()
    }

    /// The edits after which no device is above what it works on.
    pub(crate) fn cut_off(&self, graph: &Graph) -> Vec<Edit> {
        let held = graph.children(Parent::Job(self.id())).filter(|edge| edge.name != WITNESS);
        let held: Vec<NodeId> = held.map(|edge| edge.child).collect();
        let devices = graph.backends().map(|(id, _)| Parent::Backend(id));
        let above = devices.filter(|device| held.iter().any(|node| graph.reaches(*device, *node)));
        let remove = |parent| Edit::RemoveEdge { parent, name: ROOT.into(), expected: None };
        above.map(remove).collect()
    }
}
