//! Passphrases that come and go while an image is in use.

use alloc::vec::Vec;

use super::header::Header;
use super::{SLOTS, SlotUpdate};
use crate::error::CryptoError;
use crate::pieces::Pause;
use crate::slots::{Opened, Random, SlotChange, Step, check_slot, gone};

impl Header {
    /// What is to be written, one after another. `opened`: the slots that the given passphrase opens.
    ///
    /// # Yields
    /// `pause`, between pieces.
    pub(crate) async fn amend(
        &self,
        change: &SlotChange,
        opened: &[Opened],
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Vec<Step>, CryptoError> {
        match change {
            SlotChange::Add { slot, new, iterations, force, .. } => {
                let mut header = self.clone();
                if let Some(slot) = slot.filter(|_| *force) {
                    header.slots[check_slot(slot, SLOTS)?].enabled = false;
                }
                let (_, key) = opened.first().expect("who-adds-has-opened");
                let (passphrase, rounds) = (new.bytes(), *iterations);
                let added =
                    header.add_slot_in_pieces(*slot, key, passphrase, rounds, random, pause);
                Ok(added.await?.steps().into())
            }
            SlotChange::Erase { slot, old, force } => {
                let opened = old.as_ref().map(|_| opened);
                let enabled: Vec<usize> = self.enabled_slots().collect();
                let mut updates: Vec<SlotUpdate> = Vec::new();
                for slot in gone(*slot, opened, &enabled, *force)? {
                    let header = updates.last().map_or(self, |update| &update.header);
                    updates.push(header.erase_slot(slot, *force, random)?);
                }
                Ok(updates.into_iter().flat_map(SlotUpdate::steps).collect())
            }
        }
    }
}
