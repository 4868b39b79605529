//! Passphrases that come and go while an image is in use.
//!
//! Source: QEMU's documented key slot management (QCryptoBlockAmendOptionsLUKS).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::header::Header;
use super::slots::check_slot;
use super::{MasterKey, Random, SlotUpdate};
use crate::error::CryptoError;
use crate::pieces::Pause;
use crate::secret::Secret;

/// How the slots are to change.
#[derive(Clone, Debug)]
pub enum SlotChange {
    /// One more passphrase.
    Add {
        /// Where; the first that is free, if nobody says. One that is in use is overwritten only by force.
        slot: Option<usize>,
        /// The passphrase.
        new: Arc<Secret>,
        /// One that opens the image already.
        opens: Arc<Secret>,
        /// Rounds.
        iterations: u32,
        /// What is in use may go.
        force: bool,
    },
    /// One or more less.
    Erase {
        /// Which; all that `old` opens, if nobody says.
        slot: Option<usize>,
        /// The passphrase that goes.
        old: Option<Arc<Secret>>,
        /// The last one may go, and the data with it.
        force: bool,
    },
}

impl Header {
    /// What is to be written, one after another. `materials`: the key material of each slot.
    ///
    /// # Errors
    /// A passphrase is none of the image's, or the change is not allowed.
    ///
    /// # Yields
    /// `pause`, between pieces.
    pub async fn amend(
        &self,
        change: &SlotChange,
        materials: &[Vec<u8>],
        random: Random<'_>,
        pause: Pause,
    ) -> Result<Vec<SlotUpdate>, CryptoError> {
        match change {
            SlotChange::Add { slot, new, opens, iterations, force } => {
                let mut header = self.clone();
                if let Some(slot) = slot.filter(|_| *force) {
                    header.slots[check_slot(slot)?].enabled = false;
                }
                let (_, key) = self.opened_by(opens, materials, pause).await?.swap_remove(0);
                let (passphrase, rounds) = (new.bytes(), *iterations);
                let added =
                    header.add_slot_in_pieces(*slot, &key, passphrase, rounds, random, pause);
                Ok([added.await?].into())
            }
            SlotChange::Erase { slot, old, force } => {
                let opened = match old {
                    Some(old) => Some(self.opened_by(old, materials, pause).await?),
                    None => None,
                };
                let matching: Option<Vec<usize>> =
                    opened.map(|opened| opened.into_iter().map(|(slot, _)| slot).collect());
                let gone = match (slot, matching) {
                    (Some(slot), Some(matching)) if !matching.contains(slot) => {
                        return refuse(format!("slot {slot} is not the old passphrase's"));
                    }
                    (Some(slot), _) => [*slot].into(),
                    (None, Some(matching)) => matching,
                    (None, None) => {
                        return refuse(
                            "give the slot that is to be erased, or its passphrase".into(),
                        );
                    }
                };
                if !force && self.enabled_slots().all(|slot| gone.contains(&slot)) {
                    let lost = "without the slots that are to be erased the data are lost; add another first";
                    return refuse(lost.into());
                }
                let mut updates: Vec<SlotUpdate> = Vec::new();
                for slot in gone {
                    let header = updates.last().map_or(self, |update| &update.header);
                    updates.push(header.erase_slot(slot, *force, random)?);
                }
                Ok(updates)
            }
        }
    }

    /// The slots that a passphrase opens, one at least.
    async fn opened_by(
        &self,
        passphrase: &Secret,
        materials: &[Vec<u8>],
        pause: Pause,
    ) -> Result<Vec<(usize, MasterKey)>, CryptoError> {
        let mut found = Vec::new();
        for slot in self.enabled_slots() {
            let material = &materials[slot];
            let key = self.unlock_in_pieces(slot, passphrase.bytes(), material, pause).await?;
            found.extend(key.map(|key| (slot, key)));
        }
        if found.is_empty() {
            return refuse("the passphrase opens none of the key slots".into());
        }
        Ok(found)
    }
}

fn refuse<T>(what: String) -> Result<T, CryptoError> {
    Err(CryptoError::Refused(what))
}
