//! Rules and breakpoints as a plain value: what becomes of them at each event and at each request.
//!
//! Source: QEMU's documented options of blkdebug. Of rules that fit, the first one counts.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::DebugEvent;
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

/// A kind of request, for rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoType {
    /// Reads.
    Read,
    /// Writes of data.
    Write,
    /// Writes of zeroes.
    WriteZeroes,
    /// Discards.
    Discard,
    /// Flushes.
    Flush,
    /// Questions for the block status: only rules that name it are for them.
    BlockStatus,
}

/// From its event on requests fail, until the event of another such rule.
#[derive(Clone, Debug)]
pub struct InjectError {
    /// When it begins.
    pub event: DebugEvent,
    /// In which state; none: in any.
    pub state: Option<u64>,
    /// Of which kind the requests are; none: any but block status.
    pub io_type: Option<IoType>,
    /// How they fail; none: they do not, whatever other rules say.
    pub error: Option<IoErrorKind>,
    /// Bytes: they must touch this place, if there is one.
    pub offset: Option<u64>,
    /// It is for one request.
    pub once: bool,
    /// They fail in the step in which they come.
    pub immediately: bool,
}

/// At its event the state changes.
#[derive(Clone, Debug)]
pub struct SetState {
    /// When.
    pub event: DebugEvent,
    /// In which state; none: in any.
    pub state: Option<u64>,
    /// The state afterwards.
    pub new_state: u64,
}

/// The state of a blkdebug node.
pub(crate) struct Rules {
    state: u64,
    injections: Vec<(u64, InjectError)>,
    /// The numbers of those that have begun.
    active: Vec<u64>,
    set_states: Vec<SetState>,
    breakpoints: Vec<(DebugEvent, String)>,
    /// Requests that have stopped, and as what.
    stopped: Vec<(u64, String)>,
    requests: u64,
    /// Drained sections: nobody stops in one.
    sections: u64,
}

impl Rules {
    pub fn new(injections: Vec<InjectError>, set_states: Vec<SetState>) -> Self {
        let mut rules = Self {
            state: 1,
            injections: (0..).zip(injections).collect(),
            active: Vec::new(),
            set_states,
            breakpoints: Vec::new(),
            stopped: Vec::new(),
            requests: 0,
            sections: 0,
        };
        rules.meet(DebugEvent::NONE);
        rules
    }

    /// Whether anything may come of `event`.
    pub fn cares(&self, event: DebugEvent) -> bool {
        self.injections.iter().any(|(_, rule)| rule.event == event)
            || self.set_states.iter().any(|rule| rule.event == event)
            || self.breakpoints.iter().any(|(at, _)| *at == event)
    }

    /// A request has come to `event`; its number, if it is to stop.
    pub fn meet(&mut self, event: DebugEvent) -> Option<u64> {
        let state = self.state;
        let fits =
            |at, wanted: Option<u64>| at == event && wanted.is_none_or(|wanted| wanted == state);
        let begins = self.injections.iter().filter(|(_, rule)| fits(rule.event, rule.state));
        let begins: Vec<u64> = begins.map(|(number, _)| *number).collect();
        if !begins.is_empty() {
            self.active = begins;
        }
        if let Some(rule) = self.set_states.iter().find(|rule| fits(rule.event, rule.state)) {
            self.state = rule.new_state;
        }
        self.stop(event)
    }

    fn stop(&mut self, event: DebugEvent) -> Option<u64> {
        if self.sections > 0 || !self.breakpoints.iter().any(|(at, _)| *at == event) {
            return None;
        }
        self.requests += 1;
        let number = self.requests;
        let met = self.breakpoints.extract_if(.., |(at, _)| *at == event);
        self.stopped.extend(met.map(|(_, tag)| (number, tag)));
        Some(number)
    }

    /// Whether some requests fail now.
    pub fn injects(&self) -> bool {
        !self.active.is_empty()
    }

    /// The rule for a request.
    pub fn inject(&mut self, io_type: IoType, range: ByteRange) -> Option<InjectError> {
        let fits = |rule: &InjectError| {
            let place = |offset| ByteRange::new(offset, 1).overlaps(&range);
            rule.io_type.map_or(io_type != IoType::BlockStatus, |of| of == io_type)
                && rule.offset.is_none_or(place)
        };
        let active =
            |(number, rule): &(u64, InjectError)| self.active.contains(number) && fits(rule);
        let index = self.injections.iter().position(active)?;
        if !self.injections[index].1.once {
            return Some(self.injections[index].1.clone());
        }
        let (number, rule) = self.injections.remove(index);
        self.active.retain(|active| *active != number);
        Some(rule)
    }

    pub fn set_breakpoint(&mut self, event: DebugEvent, tag: String) {
        self.breakpoints.push((event, tag));
    }

    /// Whether there was one to go on.
    pub fn resume(&mut self, tag: &str) -> bool {
        let found =
            self.stopped.iter().find(|(_, stopped)| stopped == tag).map(|(number, _)| *number);
        // It may have met two breakpoints at once.
        self.stopped.retain(|(number, _)| Some(*number) != found);
        found.is_some()
    }

    pub fn is_stopped_as(&self, tag: &str) -> bool {
        self.stopped.iter().any(|(_, stopped)| stopped == tag)
    }

    pub fn is_stopped(&self, number: u64) -> bool {
        self.stopped.iter().any(|(stopped, _)| *stopped == number)
    }

    /// Everybody who has stopped goes on.
    pub fn begin_section(&mut self) {
        self.sections += 1;
        self.stopped.clear();
    }

    pub fn end_section(&mut self) {
        self.sections = self.sections.checked_sub(1).expect("sections-end-once");
    }
}
