//! Bitmaps that are stored with their node's data, and follow them to another node that takes its place.
//!
//! A bitmap moves in the step in which the graph changes, inside the drained section of that edit: no write is under
//! way, so none is marked in neither node. Before that, and durably, the old image vouches for its bitmaps no more, and
//! the new one says that it has them and that they are in use. So whenever power is lost, no image vouches for a bitmap
//! that lacks a write: what is not stored by closing a node is lost, and says so.
//!
//! What is not to be had moves as far as it can: a node that cannot store a bitmap keeps it in memory, *unplaced*,
//! until it moves on, or the node can; one that is closed with its node is lost, and that is told. A bitmap stays where
//! it is if somebody holds it, if it is read-only (what is stored cannot be disowned), or inconsistent; or if its name
//! is taken where it goes by one that must not change. Another of its name has what is dirty in it as well, rounded
//! outward, and records if one of them did: what each promised holds; one that is inconsistent makes room, as it says
//! nothing.
//!
//! Differs: with QEMU bitmaps stay with their node, which is the design `bitmaps=stay`.
//!
//! Not for: which nodes take each other's place, which the edit says ([`Plan::moves`](crate::Plan)).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteRange, Mutant, NodeId, StoredBitmaps};

use crate::bitmaps::{BitmapOwner, NamedBitmap};
use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;
use crate::node::Node;
use crate::recording::Bitmaps;
use crate::request::Requester;
use crate::stored::StoredBitmap;

/// A node whose bitmaps move, and the one they come to.
pub type Move = (NodeId, NodeId);

impl NamedBitmap {
    /// Whether it goes with its data.
    fn follows(&self) -> bool {
        let state = self.state();
        state.persistent && !state.read_only && !state.inconsistent && self.holder().is_none()
    }

    /// Whether one of its name may come to where it is.
    fn lets_in(&self) -> bool {
        !self.state().read_only && self.holder().is_none()
    }

    /// It comes to `owner`, of `len` bytes; those that it had no bits for are dirty, as they are news.
    fn comes_to(&mut self, owner: &BitmapOwner, len: ByteLen) {
        self.set_owner(owner.clone());
        self.set_placed(false);
        self.each_bits(|bits| {
            let old = bits.disk_len();
            bits.resize(len);
            if old < len {
                bits.mark(ByteRange::between(old.0, len.0));
            }
        });
    }
}

impl Bitmaps {
    /// Those that go with the data to a node that has `others`.
    fn that_follow(&self, others: &Self) -> Vec<NamedBitmap> {
        let mut all = Vec::new();
        self.each(|bitmap| all.extend(bitmap.follows().then(|| bitmap.clone())));
        all.retain(|bitmap| {
            others.look_at(bitmap.name(), |other| Ok(other.lets_in())).unwrap_or(true)
        });
        all
    }

    /// Those that are stored nowhere, and were to be: each name, and bytes of its granularity.
    pub(crate) fn unplaced(&self) -> Vec<(String, ByteLen)> {
        let mut all = Vec::new();
        self.each(|bitmap| {
            if bitmap.state().unplaced {
                all.push((bitmap.name().into(), bitmap.bits().granularity()));
            }
        });
        all
    }

    /// One more has come, which may be stored nowhere yet.
    fn receive(&self, mut bitmap: NamedBitmap, len: ByteLen) -> Result<(), BlockError> {
        bitmap.comes_to(self.owner(), len);
        let says_nothing =
            self.look_at(bitmap.name(), |other| Ok(other.state().inconsistent)).unwrap_or(false);
        if says_nothing {
            self.remove(bitmap.name())?;
        }
        let absorbed = self.change(bitmap.name(), |other| {
            other.absorb(&bitmap);
            Ok(())
        });
        // There is none.
        absorbed.or_else(|_| self.put_back(bitmap))
    }
}

impl BlockLayer {
    /// Those of these nodes that there are, if bitmaps follow data.
    fn followed(&self, moves: &[Move]) -> Vec<(Arc<Node>, Arc<Node>)> {
        let follow = self.design().bitmaps == StoredBitmaps::Follow;
        let moves = moves.iter().filter(|_| follow);
        moves
            .filter_map(|(from, to)| Some((self.node_by_id(*from)?, self.node_by_id(*to)?)))
            .collect()
    }

    /// What is stored says, durably, that these bitmaps are in use, at both ends. In the drained section in which they
    /// are to move, whose owner makes the requests. It may be done again, and need not be followed by the move.
    ///
    /// # Errors
    /// A child failed: nothing must move.
    ///
    /// # Yields
    /// As the children do, if there is something to move.
    pub async fn get_ready_to_move(
        &self,
        moves: &[Move],
        requester: Requester,
    ) -> Result<(), BlockError> {
        for (from, to) in self.followed(moves) {
            let bitmaps = from.bitmaps().that_follow(to.bitmaps());
            if bitmaps.is_empty() {
                continue;
            }
            if !self.design().is_mutant(Mutant::FollowOldVouched) {
                self.disown_bitmaps(&from, &Io::of_node(self, &from, requester)).await?;
            }
            self.announce_bitmaps(&to, &Io::of_node(self, &to, requester), bitmaps).await?;
        }
        Ok(())
    }

    /// Has the node's image say that it has these as well, and that all that it has are in use.
    async fn announce_bitmaps(
        &self,
        to: &Node,
        io: &Io,
        mut bitmaps: Vec<NamedBitmap>,
    ) -> Result<(), BlockError> {
        let Some(store) = to.driver().bitmap_store() else { return Ok(()) };
        store.disown(io).await?;
        let len = to.len(io);
        bitmaps.retain(|bitmap| {
            let place = to.check_storing(bitmap.name(), len, bitmap.bits().granularity());
            !to.stores_bitmap(bitmap.name()) && place.is_ok()
        });
        if bitmaps.is_empty() {
            return Ok(());
        }
        to.bitmaps().each(|bitmap| bitmaps.extend(bitmap.is_stored().then(|| bitmap.clone())));
        let in_use = |bitmap: NamedBitmap| {
            let mut bits = bitmap.bits().clone();
            bits.resize(len);
            bits.clear();
            StoredBitmap { name: bitmap.name().into(), bits, inconsistent: true }
        };
        store.store(io, bitmaps.into_iter().map(in_use).collect()).await
    }

    /// They move. In the step in which the graph has changed.
    pub(crate) fn move_bitmaps(&self, moves: &[Move]) {
        for (from, to) in self.followed(moves) {
            let len = to.len(&Io::of_node(self, &to, Requester::Node(to.id())));
            for bitmap in from.bitmaps().that_follow(to.bitmaps()) {
                sometimes!(true, "a stored bitmap followed its data");
                let moved = from.bitmaps().remove(bitmap.name());
                let received = moved.and_then(|bitmap| to.bitmaps().receive(bitmap, len));
                assert!(received.is_ok(), "bitmaps-that-follow-may-move: {received:?}");
            }
            self.find_places(&to);
        }
    }

    /// Bitmaps that could not be stored with their node are from now on, if they can be.
    pub(crate) fn find_places(&self, node: &Node) {
        let granted = self.design().is_mutant(Mutant::FollowTakesPlaceForGranted);
        for (name, granularity) in node.bitmaps().unplaced() {
            let len = node.len(&Io::of_node(self, node, Requester::Node(node.id())));
            if granted || node.check_storing(&name, len, granularity).is_ok() {
                let placed = node.bitmaps().change(&name, |bitmap| {
                    bitmap.set_placed(true);
                    Ok(())
                });
                assert!(placed.is_ok(), "bitmaps-are-where-they-were: {placed:?}");
            }
        }
    }
}
