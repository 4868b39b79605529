//! `quorum`: keeps the same bytes in each of its children, and believes what enough of them say.
//!
//! A read asks all children and returns the bytes that most have, if they are at least as many as the threshold; with
//! the pattern `fifo` it returns what the first child says that does not fail and has missed no write there. A write
//! goes to all children, and has succeeded if it has in as many as the threshold; a flush as well. Children that failed
//! or differ are told of.
//!
//! Invariants:
//! - `children-agree-beside-reads`: writes serialise, so that a read never sees some children before and others after
//!   a write;
//! - `a-flush-keeps-promises`: a flush has succeeded if of each write before it as many children as the threshold have
//!   both done and flushed it; so where one child fails a write, and another the flush, it does not;
//! - `all-children-do-the-same`: what each child might do in its own way is not passed on: discards, after which a
//!   child reads as it likes, and zeroes that only some children can make without writing them.
//!
//! Source: QEMU's documented options of quorum, and its events `QUORUM_REPORT_BAD` and `QUORUM_FAILURE`.
//! Differs: with `blkverify` a difference is an error like any other, and the program goes on. Discards are left
//! undone. Nothing is rewritten by a node that nobody writes through. Flushes look at who did the writes. What a child
//! that is added holds is believed to be what the others hold.

mod behind;
mod promises;
#[cfg(test)]
mod tests;
mod votes;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

use blockyard_block::{
    BlockDriver, BlockError, Change, ChildVote, Io, QuorumOperation, ReadFlags, Write, WriteKind,
};
use blockyard_graph::{Graph, Parent};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteRange, Mutant};

use self::behind::Behind;
use self::promises::{Children, Promises};
use self::votes::Answers;
use crate::describe::may_write;

/// How children are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPattern {
    /// All of them, and they vote.
    #[default]
    Quorum,
    /// One after the other until one does not fail.
    Fifo,
}

/// What a quorum is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumOptions {
    /// So many children have to agree; at least 1.
    pub vote_threshold: usize,
    /// Children whose bytes lost a vote get those that won.
    pub rewrite_corrupted: bool,
    /// How they are read.
    pub read_pattern: ReadPattern,
}

/// Keeps the same bytes more than once.
pub struct Quorum {
    name: String,
    /// Changed only in a drained section over the node, so nobody sees it change.
    children: Quiet<Vec<&'static str>>,
    options: QuorumOptions,
    promises: Promises,
    behind: Behind,
}

impl Quorum {
    /// The names of the children that there can be.
    pub const CHILDREN: [&'static str; 32] = [
        "children.0",
        "children.1",
        "children.2",
        "children.3",
        "children.4",
        "children.5",
        "children.6",
        "children.7",
        "children.8",
        "children.9",
        "children.10",
        "children.11",
        "children.12",
        "children.13",
        "children.14",
        "children.15",
        "children.16",
        "children.17",
        "children.18",
        "children.19",
        "children.20",
        "children.21",
        "children.22",
        "children.23",
        "children.24",
        "children.25",
        "children.26",
        "children.27",
        "children.28",
        "children.29",
        "children.30",
        "children.31",
    ];

    /// A quorum of whatever children its node has in the graph; `name` is its node's.
    pub fn new(name: impl Into<String>, options: QuorumOptions) -> Self {
        let children = Quiet::new(Vec::new());
        let (promises, behind) = (Promises::default(), Behind::default());
        Self { name: name.into(), children, options, promises, behind }
    }

    /// Those that the node has in `graph`, in order; none if it is not there.
    fn children_in(&self, graph: &Graph) -> Option<Vec<&'static str>> {
        let node = Parent::Node(graph.node_by_name(&self.name)?);
        let is_there = |name: &&'static str| graph.child(node, name).is_some();
        Some(Self::CHILDREN.into_iter().filter(is_there).collect())
    }

    fn children(&self) -> Vec<&'static str> {
        self.children.with(|children| children.clone())
    }

    /// How many children have to agree.
    fn threshold(&self, io: &Io) -> usize {
        match io.layer().design().is_mutant(Mutant::QuorumAnyChildIsEnough) {
            true => 1,
            false => self.options.vote_threshold,
        }
    }

    /// Has all children do the same side by side.
    ///
    /// # Yields
    /// Always.
    async fn ask<T: Send + 'static, F: Future<Output = Result<T, BlockError>> + Send + 'static>(
        &self,
        io: &Io,
        ask: impl Fn(Io, &'static str) -> F,
    ) -> Answers<T> {
        let runtime = io.layer().runtime();
        let spawn = |child: &'static str| {
            let task = format!("{} {child}", self.name);
            (child, runtime.spawn(task, ask(io.clone(), child)))
        };
        let tasks: Vec<_> = self.children().into_iter().map(spawn).collect();
        let mut answers = Vec::new();
        for (child, task) in tasks {
            answers.push((child, task.join().await));
        }
        answers
    }

    /// Tells that a child failed, or, without an error, that it differs.
    fn report_bad(
        &self,
        io: &Io,
        operation: QuorumOperation,
        (child, error): (&str, Option<&BlockError>),
        range: ByteRange,
    ) {
        let graph = io.layer().graph();
        let id = graph.child(Parent::Node(io.node_id()), child);
        let node = id.and_then(|id| graph.node(id)).map_or("", |node| node.name.as_str());
        io.layer().child_is_bad(&ChildVote { node, operation, range, error });
    }

    fn report_failed<T>(
        &self,
        io: &Io,
        operation: QuorumOperation,
        answers: &Answers<T>,
        range: ByteRange,
    ) {
        for (child, answer) in answers {
            if let Err(error) = answer {
                self.report_bad(io, operation, (child, Some(error)), range);
            }
        }
    }

    fn no_quorum(&self, io: &Io, kind: IoErrorKind, range: ByteRange) -> BlockError {
        sometimes!(true, "too few children of a quorum agreed");
        io.layer().quorum_failed(io.node_id(), range);
        BlockError::Io { kind, node: self.name.clone(), range }
    }

    /// What becomes of an operation that enough children have to do; `done`: whether they have.
    fn judge(
        &self,
        io: &Io,
        operation: QuorumOperation,
        (answers, done): (&Answers<()>, bool),
        range: ByteRange,
    ) -> Result<(), BlockError> {
        self.report_failed(io, operation, answers, range);
        if done { Ok(()) } else { Err(self.no_quorum(io, votes::error(answers), range)) }
    }

    async fn read_by_vote(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let answers =
            self.ask(io, |io, child| async move { io.read(child, range, flags).await }).await;
        self.report_failed(io, QuorumOperation::Read, &answers, range);
        let threshold = self.threshold(io);
        if votes::succeeded(&answers) < threshold {
            return Err(self.no_quorum(io, votes::error(&answers), range));
        }
        let Some((data, _)) = votes::winner(&answers).filter(|(_, votes)| *votes >= threshold)
        else {
            return Err(self.no_quorum(io, IoErrorKind::Io, range));
        };
        for (child, answer) in &answers {
            if answer.as_ref().is_ok_and(|other| other[..] != data[..]) {
                self.report_bad(io, QuorumOperation::Read, (child, None), range);
                // What reads on behalf of a write under way does not wait for other writes, and could undo them.
                if self.options.rewrite_corrupted && !flags.by_hook && may_write(io, child) {
                    sometimes!(true, "a child of a quorum was rewritten");
                    // The reader has what it asked for, whatever becomes of this.
                    let _ = io.write(child, Write::data(range.start(), data.clone())).await;
                }
            }
        }
        Ok(data.clone())
    }

    async fn read_first(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let mut answers = Vec::new();
        let believes_any = io.layer().design().is_mutant(Mutant::QuorumReadsWhoMissedWrite);
        for child in self.children() {
            if self.behind.is(child, range) && !believes_any {
                sometimes!(true, "a child of a quorum was not asked for what it had missed");
                continue;
            }
            match io.read(child, range, flags).await {
                Ok(data) => return Ok(data),
                Err(error) => {
                    self.report_bad(io, QuorumOperation::Read, (child, Some(&error)), range);
                    answers.push((child, Err::<(), _>(error)));
                }
            }
        }
        Err(self.no_quorum(io, votes::error(&answers), range))
    }
}

impl BlockDriver for Quorum {
    /// As far as enough children reach: one that failed to become longer is not believed.
    fn len(&self, io: &Io) -> ByteLen {
        let len = |child: &&str| io.len(child).unwrap_or_default();
        let mut lens: Vec<ByteLen> = self.children().iter().map(len).collect();
        lens.sort_unstable();
        lens[lens.len() - self.options.vote_threshold]
    }

    fn grows(&self, io: &Io) -> bool {
        self.children().iter().all(|child| io.grows(child))
    }

    fn serialises_writes(&self) -> bool {
        true
    }

    /// # Errors
    /// The children are not of one length.
    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let children = self.children();
            let first = io.len(children[0])?;
            for child in children {
                let len = io.len(child)?;
                if len != first {
                    let message = format!(
                        "node '{}': children of {first} and {len} bytes; all must be as long",
                        self.name
                    );
                    return Err(BlockError::Invalid(message));
                }
            }
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        match self.options.read_pattern {
            ReadPattern::Quorum => Box::pin(self.read_by_vote(io, range, flags)),
            ReadPattern::Fifo => Box::pin(self.read_first(io, range, flags)),
        }
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            let own_ways = matches!(write.kind, WriteKind::Discard | WriteKind::Compressed(_));
            if own_ways || write.flags.no_fallback {
                return Err(io.unsupported(range));
            }
            let write = write.resolved().await?;
            let answers = self
                .ask(io, |io, child| {
                    let write = write.clone();
                    async move { io.write(child, write).await }
                })
                .await;
            if self.options.read_pattern == ReadPattern::Fifo {
                let truncates = matches!(write.kind, WriteKind::Truncate(_));
                // Who failed that has another length, and later perhaps old bytes where there should be none.
                let range = if truncates { ByteRange::between(0, u64::MAX) } else { range };
                self.behind.note_write(range, &answers);
            }
            let done = votes::succeeded(&answers) >= self.threshold(io);
            if done && votes::succeeded(&answers) < answers.len() {
                self.promises.write_was_done_by(Children::that_did(&answers));
            }
            self.judge(io, QuorumOperation::Write, (&answers, done), range)
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let promised = self.promises.as_of_now();
            let answers = self.ask(io, |io, child| async move { io.flush(child).await }).await;
            let all = ByteRange::new(0, self.len(io).0);
            let (design, threshold) = (io.layer().design(), self.threshold(io));
            let enough = votes::succeeded(&answers) >= threshold
                || design.is_mutant(Mutant::QuorumFlushVoteBypassed);
            let keeps = promised.are_kept_by(Children::that_did(&answers), threshold)
                || design.is_mutant(Mutant::QuorumFlushForgetsFailedWrites);
            sometimes!(enough && !keeps, "enough children flushed, and not of each write");
            if enough && keeps {
                self.promises.are_kept(&promised);
            }
            self.judge(io, QuorumOperation::Flush, (&answers, enough && keeps), all)
        })
    }

    /// # Errors
    /// There would be too few children for a vote.
    fn prepare<'a>(&'a self, change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let threshold = self.options.vote_threshold;
            let count = self.children_in(change.after).map(|children| children.len());
            match count.filter(|count| *count < threshold) {
                None => Ok(()),
                Some(count) => Err(BlockError::Invalid(format!(
                    "refused: node {} needs the votes of {threshold} children, and would have {count}",
                    self.name
                ))),
            }
        })
    }

    fn commit(&self, change: Change<'_>) {
        if let Some(children) = self.children_in(change.after) {
            self.behind.forget_all_but(&children);
            self.children.with(|old| *old = children);
        }
    }
}
