//! Events, and who waits for which.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{
    ChildVote, Corrupted, ErrorAction, GuestError, LayerEvents, QuorumOperation,
};
use blockyard_jobs::{EventSink, Job, JobEvent, Position};
use blockyard_sync::Shared;
use blockyard_units::ByteRange;

use crate::value::{Dict, Value};

/// A QMP event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// Its data.
    pub data: Dict,
}

impl Event {
    /// Whether it has this name, and data that contain `matching`.
    pub fn is(&self, name: &str, matching: &Dict) -> bool {
        let matches = |(key, value)| self.data.get(key) == Some(value);
        self.name == name && matching.iter().all(matches)
    }
}

/// Somebody who waits for events of some names; others do not reach him.
pub struct Subscriber {
    names: Vec<String>,
    mailbox: Shared<VecDeque<Event>>,
}

/// Where events go.
pub struct EventHub {
    subscribers: Shared<Vec<Arc<Subscriber>>>,
    watcher: Arc<dyn EventSink>,
}

fn operation(reads: bool) -> Value {
    Value::from(if reads { "read" } else { "write" })
}

fn action_word(action: ErrorAction) -> Value {
    Value::from(match action {
        ErrorAction::Report => "report",
        ErrorAction::Ignore => "ignore",
        ErrorAction::Stop => "stop",
    })
}

/// The sectors that a range touches: the first, and how many.
fn sectors(range: ByteRange) -> [(&'static str, Value); 2] {
    let first = range.start() / 512;
    let count = range.end().div_ceil(512) - first;
    [("sector-num", Value::from(first)), ("sectors-count", Value::from(count))]
}

/// Watches nothing.
pub struct NoWatcher;

impl EventSink for NoWatcher {
    fn job_event(&self, _job: &Job, _event: &JobEvent) {}
}

impl EventHub {
    /// No subscribers yet; `watcher` sees every event before them.
    pub fn new(watcher: Arc<dyn EventSink>) -> Self {
        Self { subscribers: Shared::default(), watcher }
    }

    /// From now on events of these names are kept for the subscriber.
    pub fn subscribe(&self, names: Vec<String>) -> Arc<Subscriber> {
        let mailbox = Shared::remembered(VecDeque::new(), VecDeque::clone);
        let subscriber = Arc::new(Subscriber { names, mailbox });
        self.subscribers.write(|subscribers| subscribers.push(subscriber.clone()));
        subscriber
    }

    fn publish(&self, name: &'static str, data: impl Fn() -> Dict) {
        let subscribers = self.subscribers.read(Clone::clone);
        for subscriber in subscribers.iter().filter(|s| s.names.iter().any(|wanted| wanted == name))
        {
            let event = Event { name, data: data() };
            subscriber.mailbox.write(|mailbox| mailbox.push_back(event));
        }
    }
}

impl Subscriber {
    /// Those that have come since somebody took or waited last.
    pub fn take(&self) -> Vec<Event> {
        self.mailbox.write(|mailbox| mailbox.drain(..).collect())
    }

    /// Waits for one of the `wanted` events, each a name and what its data contain; earlier events are dropped with it.
    ///
    /// # Yields
    /// Always.
    pub async fn wait(&self, wanted: Vec<(String, Dict)>) -> Event {
        let fits =
            move |event: &Event| wanted.iter().any(|(name, matching)| event.is(name, matching));
        let guard = fits.clone();
        self.mailbox
            .wait_for(
                move |mailbox| mailbox.iter().any(&guard),
                |mailbox| {
                    while let Some(event) = mailbox.pop_front() {
                        if fits(&event) {
                            return event;
                        }
                    }
                    unreachable!("guard-holds")
                },
            )
            .await
    }
}

impl EventSink for EventHub {
    fn job_event(&self, job: &Job, event: &JobEvent) {
        self.watcher.job_event(job, event);
        let id = || ("id", Value::from(job.name()));
        let kind = || ("type", Value::from(job.kind()));
        // Where it is comes last: the closure runs when somebody listens.
        let far = || {
            let Position { offset, len, speed } = job.position();
            let device = ("device", Value::from(job.name()));
            let far = [("offset", offset.into()), ("len", len.into()), ("speed", speed.into())];
            Dict::from_iter([kind(), device].into_iter().chain(far))
        };
        match event {
            JobEvent::StatusChange(status) => self.publish("JOB_STATUS_CHANGE", || {
                Dict::from_iter([id(), ("status", Value::from(status.word()))])
            }),
            _ if !job.is_block_job() => {}
            JobEvent::Ready => self.publish("BLOCK_JOB_READY", far),
            JobEvent::Pending => {
                self.publish("BLOCK_JOB_PENDING", || Dict::from_iter([kind(), id()]));
            }
            JobEvent::Error { reads, action } => self.publish("BLOCK_JOB_ERROR", || {
                Dict::from_iter([
                    ("device", Value::from(job.name())),
                    ("operation", operation(*reads)),
                    ("action", action_word(*action)),
                ])
            }),
            JobEvent::Cancelled => self.publish("BLOCK_JOB_CANCELLED", far),
            JobEvent::Completed(error) => self.publish("BLOCK_JOB_COMPLETED", || {
                let mut data = far();
                if let Some(error) = error {
                    data.insert("error", error.as_str());
                }
                data
            }),
        }
    }
}

impl LayerEvents for EventHub {
    fn write_threshold(&self, node: &str, exceeded: u64, threshold: u64) {
        self.publish("BLOCK_WRITE_THRESHOLD", || {
            Dict::from_iter([
                ("node-name", Value::from(node)),
                ("amount-exceeded", Value::from(exceeded)),
                ("write-threshold", Value::from(threshold)),
            ])
        });
    }

    fn guest_error(&self, met: &GuestError<'_>) {
        self.publish("BLOCK_IO_ERROR", || {
            Dict::from_iter([
                ("device", Value::from(met.device)),
                ("operation", operation(met.reads)),
                ("action", action_word(met.action)),
                ("nospace", Value::Bool(met.no_space)),
                ("reason", Value::from(format!("{}", met.error).as_str())),
            ])
        });
    }

    fn image_corrupted(&self, met: &Corrupted<'_>) {
        self.publish("BLOCK_IMAGE_CORRUPTED", || {
            Dict::from_iter([
                ("device", Value::from(met.device.unwrap_or_default())),
                ("node-name", Value::from(met.node)),
                ("msg", Value::from(met.message)),
                ("offset", Value::from(met.range.start())),
                ("size", Value::from(met.range.len().0)),
                ("fatal", Value::Bool(true)),
            ])
        });
    }

    fn quorum_report_bad(&self, vote: &ChildVote<'_>) {
        self.publish("QUORUM_REPORT_BAD", || {
            let word = match vote.operation {
                QuorumOperation::Read => "read",
                QuorumOperation::Write => "write",
                QuorumOperation::Flush => "flush",
            };
            let who = [("type", Value::from(word)), ("node-name", Value::from(vote.node))];
            let mut data = Dict::from_iter(who.into_iter().chain(sectors(vote.range)));
            if let Some(error) = vote.error {
                data.insert("error", format!("{error}").as_str());
            }
            data
        });
    }

    fn blkverify_mismatch(&self, node: &str, range: ByteRange) {
        self.publish("X_BLKVERIFY_MISMATCH", || {
            let place = [("offset", range.start().into()), ("length", range.len().0.into())];
            Dict::from_iter([("node-name", Value::from(node))].into_iter().chain(place))
        });
    }

    fn quorum_failure(&self, reference: &str, range: ByteRange) {
        self.publish("QUORUM_FAILURE", || {
            let reference = [("reference", Value::from(reference))];
            Dict::from_iter(reference.into_iter().chain(sectors(range)))
        });
    }

    fn bitmap_lost(&self, node: &str, bitmap: &str) {
        self.publish("X_BITMAP_LOST", || {
            Dict::from_iter([("node", Value::from(node)), ("name", Value::from(bitmap))])
        });
    }

    fn running(&self, running: bool) {
        self.publish(if running { "RESUME" } else { "STOP" }, Dict::new);
    }
}
