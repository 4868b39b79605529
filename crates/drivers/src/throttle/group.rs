//! Throttles that share their limits.
//!
//! Reads queue apart from writes (with which zeroes and discards go): each member has a queue for
//! either, and of those that are not drained one has the turn. Its first request waits for the
//! buckets, is accounted whole, passes, and hands the turn on to the next member that has somebody
//! waiting. Whoever waits does so by himself, so nobody's timer is lost with another's.
//!
//! Invariants:
//! - `somebody-has-the-turn`: as long as a member that is not drained has a request waiting, one of
//!   these members has the turn;
//! - `drained-waits-for-nobody`: a drained member's requests pass in their order without a turn.
//!   They are accounted all the same, so the rate is made up for afterwards.

use alloc::collections::{BTreeMap, VecDeque};

use blockyard_runtime::Runtime;
use blockyard_sync::{Shared, first_of, note, sometimes};
use blockyard_units::{Design, Mutant};

use super::bucket::Bucket;
use super::limits::ThrottleLimits;

/// A member of a group.
pub(super) type Member = u64;

/// What a request is accounted as.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub is_write: bool,
    pub len: u64,
}

/// See the file head.
pub struct ThrottleGroup(Shared<State>);

struct State {
    limits: ThrottleLimits,
    /// Bytes and requests: of all, of reads, of writes.
    buckets: [[Bucket; 2]; 3],
    /// Those that have been here with a request or a drained section.
    members: BTreeMap<Member, Place>,
    joined: Member,
    tickets: u64,
    /// Of reads, of writes.
    turns: [Option<Member>; 2],
    /// How often the limits were changed.
    changes: u64,
    design: Design,
}

#[derive(Default)]
struct Place {
    /// Drained sections that cover the node.
    sections: u64,
    /// Reads, writes.
    waiting: [VecDeque<u64>; 2],
}

/// How a request goes on.
enum Step {
    Pass,
    /// When it may try again.
    Queue,
    /// When so many nanoseconds are over, or the limits have changed more often than so.
    Leak {
        wait_ns: u64,
        changes: u64,
    },
}

impl ThrottleGroup {
    /// A group without members.
    pub fn new(limits: ThrottleLimits, design: Design) -> Self {
        Self(Shared::new(State {
            limits,
            buckets: buckets(&limits, 0),
            members: BTreeMap::new(),
            joined: 0,
            tickets: 0,
            turns: [None; 2],
            changes: 0,
            design,
        }))
    }

    /// What it holds.
    pub fn limits(&self) -> ThrottleLimits {
        self.0.read(|state| state.limits)
    }

    /// From here on it holds these, with empty buckets; who waits looks again.
    pub fn set_limits(&self, limits: ThrottleLimits, runtime: &Runtime) {
        let now_ns = runtime.now_ns();
        self.0.write(|state| {
            state.buckets = buckets(&limits, now_ns);
            state.limits = limits;
            state.changes += 1;
        });
    }

    /// A new member, which `sections` drained sections cover.
    pub(super) fn join(&self, sections: u64) -> Member {
        self.0.write(|state| {
            state.joined += 1;
            state.change_sections(state.joined, |count| count + sections);
            state.joined
        })
    }

    /// Nothing of `member` waits: it is drained.
    pub(super) fn leave(&self, member: Member) {
        self.0.write(|state| {
            state.members.remove(&member);
        });
    }

    pub(super) fn drain_begin(&self, member: Member) {
        self.0.write(|state| state.change_sections(member, |sections| sections + 1));
    }

    pub(super) fn drain_end(&self, member: Member) {
        let ended = |sections: u64| sections.checked_sub(1).expect("sections-end-once");
        self.0.write(|state| state.change_sections(member, ended));
    }

    /// Waits for the turn of a request of `member`, then for the buckets, and accounts it.
    ///
    /// # Yields
    /// If it has to wait.
    pub(super) async fn admit(&self, runtime: &Runtime, member: Member, request: Request) {
        let now_ns = runtime.now_ns();
        let (ticket, mut step) = self.0.write(|state| state.enter(member, request, now_ns));
        loop {
            match step {
                Step::Pass => return,
                Step::Queue => {
                    self.0.wait_until(move |state| state.may_try(member, request, ticket)).await;
                }
                Step::Leak { wait_ns, changes } => {
                    note!("request throttled for {wait_ns} ns");
                    let changed = self.0.wait_until(move |state| {
                        state.changes != changes || state.is_drained(member)
                    });
                    let leaked = first_of(runtime.sleep(wait_ns), changed).await;
                    sometimes!(!leaked, "a throttled request goes on before its time");
                }
            }
            let now_ns = runtime.now_ns();
            step = self.0.write(|state| state.go_on(member, request, ticket, now_ns));
        }
    }
}

/// Empty ones.
fn buckets(limits: &ThrottleLimits, now_ns: u64) -> [[Bucket; 2]; 3] {
    limits
        .rates()
        .map(|(bytes, requests)| [Bucket::new(bytes, now_ns), Bucket::new(requests, now_ns)])
}

impl Request {
    fn queue(self) -> usize {
        usize::from(self.is_write)
    }

    /// Those of [`State::buckets`] that it goes through.
    fn buckets(self) -> [usize; 2] {
        [0, 1 + usize::from(self.is_write)]
    }
}

impl State {
    fn is_drained(&self, member: Member) -> bool {
        self.members.get(&member).is_some_and(|place| place.sections > 0)
    }

    /// Whether a request that is first in its queue needs no turn.
    fn needs_no_turn(&self, member: Member) -> bool {
        self.is_drained(member)
            && !self.design.is_mutant(Mutant::ThrottleDrainedMemberWaitsForOthers)
    }

    fn may_try(&self, member: Member, request: Request, ticket: u64) -> bool {
        let queue = request.queue();
        let first = self.members.get(&member).and_then(|place| place.waiting[queue].front());
        first == Some(&ticket) && (self.needs_no_turn(member) || self.turns[queue] == Some(member))
    }

    /// A request comes.
    fn enter(&mut self, member: Member, request: Request, now_ns: u64) -> (u64, Step) {
        let queue = request.queue();
        self.tickets += 1;
        let ticket = self.tickets;
        self.members.entry(member).or_default().waiting[queue].push_back(ticket);
        if self.turns[queue].is_none() && !self.needs_no_turn(member) {
            self.turns[queue] = Some(member);
        }
        (ticket, self.go_on(member, request, ticket, now_ns))
    }

    /// The request passes if it may.
    fn go_on(&mut self, member: Member, request: Request, ticket: u64, now_ns: u64) -> Step {
        if !self.may_try(member, request, ticket) {
            return Step::Queue;
        }
        let through = request.buckets();
        if !self.is_drained(member) {
            let waits = through.map(|index| {
                let [bytes, requests] = &mut self.buckets[index];
                bytes.wait_ns(now_ns).max(requests.wait_ns(now_ns))
            });
            let wait_ns = waits[0].max(waits[1]);
            if wait_ns > 0 {
                return Step::Leak { wait_ns, changes: self.changes };
            }
        }
        for index in through {
            let [bytes, requests] = &mut self.buckets[index];
            bytes.fill(now_ns, request.len);
            requests.fill(now_ns, self.limits.requests(request.len));
        }
        let queue = request.queue();
        if let Some(place) = self.members.get_mut(&member) {
            place.waiting[queue].pop_front();
        }
        if self.turns[queue] == Some(member) {
            self.hand_on(queue, member);
        }
        self.forget_if_idle(member);
        Step::Pass
    }

    /// Gives the turn to the next member after `last` that may have it.
    fn hand_on(&mut self, queue: usize, last: Member) {
        let waits = |(member, place): (&Member, &Place)| {
            let waits = !place.waiting[queue].is_empty() && !self.needs_no_turn(*member);
            waits.then_some(*member)
        };
        let after = self.members.range(last + 1..).find_map(waits);
        self.turns[queue] = after.or_else(|| self.members.range(..=last).find_map(waits));
    }

    fn change_sections(&mut self, member: Member, change: impl FnOnce(u64) -> u64) {
        let place = self.members.entry(member).or_default();
        place.sections = change(place.sections);
        let is_drained = place.sections > 0;
        for queue in 0..2 {
            if is_drained && self.turns[queue] == Some(member) {
                if self.design.is_mutant(Mutant::ThrottleMemberLeavesWithTimer) {
                    self.turns[queue] = None;
                } else {
                    self.hand_on(queue, member);
                }
            } else if !is_drained && self.turns[queue].is_none() {
                self.hand_on(queue, member);
            }
        }
        self.forget_if_idle(member);
    }

    /// A member's node may be gone for good.
    fn forget_if_idle(&mut self, member: Member) {
        let is_idle =
            |place: &Place| place.sections == 0 && place.waiting.iter().all(VecDeque::is_empty);
        if self.members.get(&member).is_some_and(is_idle) {
            self.members.remove(&member);
        }
    }
}
