//! Backends: where a guest device, or another user, holds the graph.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::future::Future;

use blockyard_graph::{Parent, ROOT};
use blockyard_runtime::IoBuffer;
use blockyard_sync::door::Kind;
use blockyard_sync::{Shared, Unstoppable, note, sometimes};
use blockyard_units::{BackendId, ByteLen, ByteRange, Mutant};

use crate::drain::Owner;
use crate::driver::Amended;
use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;
use crate::policy::ErrorPolicies;
use crate::recording::Bitmaps;
use crate::request::{ReadFlags, Requester, Write, WriteFlags};
use crate::state::{END, OfBackend, SECTIONS, State};
use crate::status::Above;

/// A source of requests. Clones are the same backend.
///
/// A request may be given up at any time by dropping its future: while it is parked it then never happens; later it
/// goes on by itself to its end, so that its range stays tracked and is marked.
#[derive(Clone)]
pub struct Backend {
    layer: BlockLayer,
    id: BackendId,
    name: Arc<str>,
    holder: u64,
    in_flight: Arc<Shared<u64>>,
    bitmaps: Arc<Bitmaps>,
    policies: ErrorPolicies,
    /// It stands still when guests do.
    is_guest: bool,
}

impl Backend {
    pub(crate) fn new(
        layer: BlockLayer,
        id: BackendId,
        name: String,
        holder: u64,
        OfBackend { in_flight, bitmaps }: OfBackend,
    ) -> Self {
        let policies = ErrorPolicies::default();
        let name = name.into();
        Self { layer, id, name, holder, in_flight, bitmaps, policies, is_guest: true }
    }

    /// The same backend; through this handle requests are made while guests stand still, too.
    #[must_use]
    pub fn of_no_guest(self) -> Self {
        Self { is_guest: false, ..self }
    }

    /// The same backend, whose requests through this handle are treated so when they fail.
    #[must_use]
    pub fn with_policies(self, policies: ErrorPolicies) -> Self {
        Self { policies, ..self }
    }

    /// What is done about requests of this handle that fail.
    pub fn policies(&self) -> ErrorPolicies {
        self.policies
    }

    pub(crate) fn layer(&self) -> &BlockLayer {
        &self.layer
    }

    /// Its id.
    pub fn id(&self) -> BackendId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of what its root shows.
    ///
    /// # Errors
    /// If it has no root.
    pub fn len(&self) -> Result<ByteLen, BlockError> {
        self.io().len(ROOT)
    }

    fn io(&self) -> Io {
        let requester = Requester::Backend(self.id);
        let io = Io::new(self.layer.clone(), Parent::Backend(self.id), self.holder, requester);
        io.of_device(self.bitmaps.clone())
    }

    /// Reads.
    ///
    /// # Errors
    /// What a driver met.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the drivers do.
    pub async fn read(&self, range: ByteRange) -> Result<IoBuffer, BlockError> {
        let read = move |io: Io| async move {
            check(&io, range)?;
            io.read(ROOT, range, ReadFlags::default()).await
        };
        let zeroes = || IoBuffer::zeroes(range.len().as_usize());
        self.by_policy(true, || self.run(read), zeroes).await
    }

    /// Writes, of every kind.
    ///
    /// # Errors
    /// What a driver met: the range may or may not have changed.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the drivers do.
    pub async fn write(&self, write: Write) -> Result<(), BlockError> {
        if self.layer.design().is_mutant(Mutant::WriteAcknowledgedEarly) {
            let this = self.clone();
            let request = async move { this.write_as_often_as_it_takes(write).await };
            drop(self.layer.runtime().spawn("early", request));
            return Ok(());
        }
        self.write_as_often_as_it_takes(write).await
    }

    async fn write_as_often_as_it_takes(&self, write: Write) -> Result<(), BlockError> {
        let attempt = || {
            let write = write.clone();
            self.run(move |io: Io| async move {
                check(&io, write.range)?;
                io.write(ROOT, write).await
            })
        };
        self.by_policy(false, attempt, || ()).await
    }

    /// Writes, in a drained section over what it reaches that its [owner](Self::owner) holds: neither parked nor held
    /// up while guests stand still.
    ///
    /// # Errors
    /// What a driver met: the range may or may not have changed.
    ///
    /// # Yields
    /// As the drivers do.
    pub async fn write_drained(&self, write: Write) -> Result<(), BlockError> {
        self.io().write(ROOT, write).await
    }

    /// This backend as the owner of drained sections.
    pub fn owner(&self) -> Owner {
        Owner::Command(self.id.0)
    }

    /// Copies `range.len()` bytes from `offset` to `range`.
    ///
    /// # Errors
    /// What a driver met: the range may or may not have changed.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the drivers do.
    pub async fn copy_range(
        &self,
        offset: u64,
        range: ByteRange,
        flags: WriteFlags,
    ) -> Result<(), BlockError> {
        let copy = move |io: Io| async move {
            check(&io, ByteRange::new(offset, range.len().0))?;
            check(&io, range)?;
            io.copy_range((ROOT, offset), (ROOT, range), flags).await
        };
        self.by_policy(false, || self.run(copy), || ()).await
    }

    /// What the beginning of `range` is in the root, backing children included if nothing above has it.
    ///
    /// # Errors
    /// What a driver met.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the drivers do.
    pub async fn block_status(&self, range: ByteRange) -> Result<Above, BlockError> {
        let (layer, id, name) = (self.layer.clone(), self.id, self.name.clone());
        let status = move |_: Io| async move {
            let none = || BlockError::NoMedium(name.as_ref().into());
            let root = layer.graph().child(Parent::Backend(id), ROOT).ok_or_else(none)?;
            layer.status_above(Requester::Backend(id), root, None, range).await
        };
        self.run(status).await
    }

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// What a driver met: nothing is known to be durable.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the drivers do.
    pub async fn flush(&self) -> Result<(), BlockError> {
        let flush = || self.run(|io| async move { io.flush(ROOT).await });
        self.by_policy(false, flush, || ()).await
    }

    /// Has what its root has opened changed; what that can be, the root's driver and the caller know.
    ///
    /// # Errors
    /// What the driver met or refused.
    ///
    /// # Yields
    /// While a drained section covers what it reaches, and as the driver does.
    pub async fn amend(&self, change: Arc<dyn Any + Send + Sync>) -> Result<Amended, BlockError> {
        self.run(move |io| async move { io.amend(ROOT, &*change).await }).await
    }

    /// The same, in a drained section over what it reaches that its [owner](Self::owner) holds.
    ///
    /// # Errors
    /// What the driver met or refused.
    ///
    /// # Yields
    /// As the driver does.
    pub async fn amend_drained(
        &self,
        change: &(dyn Any + Send + Sync),
    ) -> Result<Amended, BlockError> {
        self.io().amend(ROOT, change).await
    }

    async fn run<T, F, R>(&self, request: R) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send,
        R: FnOnce(Io) -> F + Send + 'static,
    {
        self.enter().await;
        let (io, in_flight) = (self.io(), self.in_flight.clone());
        let whole = async move {
            let result = request(io).await;
            in_flight.add(|count| *count -= 1);
            result
        };
        Unstoppable::new(whole).await
    }

    /// Counts a request as in flight, once nobody has drained what it reaches. It is counted before the sections are
    /// looked at, and a section is listed before the counts are: so one of the two sees the other.
    async fn enter(&self) {
        let parent = Parent::Backend(self.id);
        loop {
            let design = self.layer.design();
            let goes_on = design.is_mutant(Mutant::StoppedGuestsGoOn);
            if self.is_guest && !goes_on && !self.layer.is_running() {
                self.layer.stopped().wait_until(|stopped| !*stopped).await;
            }
            self.in_flight.add(|count| *count += 1);
            let submits = design.is_mutant(Mutant::BackendSubmitsDuringDrain);
            if submits || !self.layer.quiesced_now(parent, None) {
                return;
            }
            if !design.is_mutant(Mutant::QueuedRequestCountsAsInFlight) {
                self.in_flight.add(|count| *count -= 1);
            }
            note!("{} is drained: parked", self.name);
            sometimes!(true, "guest request parked by a drained section");
            let free = move |state: &State| !state.quiesced(parent, None);
            let state = self.layer.state();
            state.trusted_wait(Kind::Read, SECTIONS, END, free, |_: &mut State| ()).await;
        }
    }
}

/// Refused at once: filters on the way only see requests that are inside.
fn check(io: &Io, range: ByteRange) -> Result<(), BlockError> {
    let len = io.len(ROOT)?;
    if range.end() <= len.0 || io.grows(ROOT) {
        return Ok(());
    }
    let message = format!("range {range} is not inside the device of {len} bytes");
    Err(BlockError::Invalid(message))
}
