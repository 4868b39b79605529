//! Which write surely was the last one at its place, for whoever looks at the disks afterwards.

use blockyard_sync::door::world::Quiet;
use blockyard_units::ByteRange;

/// A guest write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestWrite {
    /// The device it was made to.
    pub device: String,
    /// What was written.
    pub range: ByteRange,
    /// Whose data: see `blockyard_models::data`.
    pub tag: u64,
}

impl GuestWrite {
    fn overlaps(&self, other: &Self) -> bool {
        self.device == other.device && self.range.overlaps(&other.range)
    }
}

/// The writes under way, and the last one that was wanted and that no other write disputes.
#[derive(Default)]
pub(crate) struct Writes(Quiet<State>);

#[derive(Default)]
struct State {
    in_flight: Vec<InFlight>,
    last: Option<GuestWrite>,
}

struct InFlight {
    write: GuestWrite,
    /// It is to be remembered.
    wanted: bool,
    /// Another write overlapped it while it was under way: which came last is open.
    disputed: bool,
}

impl Writes {
    /// A write begins; `wanted`: it is to be remembered once it is acknowledged.
    pub fn begin(&self, write: GuestWrite, wanted: bool) {
        self.0.with(|state| {
            let mut disputed = false;
            for other in state.in_flight.iter_mut().filter(|other| other.write.overlaps(&write)) {
                other.disputed = true;
                disputed = true;
            }
            state.last.take_if(|last| last.overlaps(&write));
            state.in_flight.push(InFlight { write, wanted, disputed });
        });
    }

    /// The write with this tag has ended; `acknowledged`: it is done.
    pub fn end(&self, tag: u64, acknowledged: bool) {
        self.0.with(|state| {
            let index = state.in_flight.iter().position(|other| other.write.tag == tag);
            let ended = state.in_flight.remove(index.expect("a-write-that-ends-has-begun"));
            if acknowledged && ended.wanted && !ended.disputed {
                state.last = Some(ended.write);
            }
        });
    }

    /// The last write that was wanted, acknowledged, and overlapped by no other since it began.
    pub fn last(&self) -> Option<GuestWrite> {
        self.0.with(|state| state.last.clone())
    }
}
