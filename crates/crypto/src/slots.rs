//! What both versions share: how key slots are to change, and what is written so that they do.
//!
//! Source: QEMU's documented key slot management (QCryptoBlockAmendOptionsLUKS).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::CryptoError;
use crate::secret::{MasterKey, Secret};

/// Fills bytes with random numbers.
pub type Random<'a> = &'a mut (dyn FnMut(&mut [u8]) + Send);

/// The key material of slots, by their numbers.
pub type Materials = BTreeMap<usize, Vec<u8>>;

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
        /// Rounds of PBKDF2. A slot of another kind costs what the one does that `opens` opens.
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

/// A piece of what is to be written. Each is durable before the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes from the start of the header.
    pub offset: u64,
    /// What is there afterwards.
    pub bytes: Vec<u8>,
}

/// A slot that a passphrase opens, and the key that is in it.
pub(crate) type Opened = (usize, MasterKey);

/// The slots that are to be erased. `opened`: those that the old passphrase opens, if one is given; `enabled`: all that
/// open the payload.
pub(crate) fn gone(
    slot: Option<usize>,
    opened: Option<&[Opened]>,
    enabled: &[usize],
    force: bool,
) -> Result<Vec<usize>, CryptoError> {
    let opened: Option<Vec<usize>> =
        opened.map(|opened| opened.iter().map(|(slot, _)| *slot).collect());
    let gone = match (slot, opened) {
        (Some(slot), Some(opened)) if !opened.contains(&slot) => {
            return refuse(format!("slot {slot} is not the old passphrase's"));
        }
        (Some(slot), _) => [slot].into(),
        (None, Some(opened)) => opened,
        (None, None) => {
            return refuse("give the slot that is to be erased, or its passphrase".into());
        }
    };
    if !force && enabled.iter().all(|slot| gone.contains(slot)) {
        let lost = "without the slots that are to be erased the data are lost; add another first";
        return refuse(lost.into());
    }
    Ok(gone)
}

/// Which slot a further passphrase gets, of `slots`: the one that is asked for, or the first of which `free` holds.
pub(crate) fn place(
    slot: Option<usize>,
    slots: usize,
    free: impl Fn(usize) -> bool,
) -> Result<usize, CryptoError> {
    let found = match slot {
        Some(slot) => Some(check_slot(slot, slots)?).filter(|slot| free(*slot)),
        None => (0..slots).find(|slot| free(*slot)),
    };
    let which = || slot.map_or_else(|| "every key slot".into(), |slot| format!("slot {slot}"));
    found.map_or_else(|| refuse(format!("{} is in use; erase a passphrase first", which())), Ok)
}

pub(crate) fn check_slot(slot: usize, slots: usize) -> Result<usize, CryptoError> {
    if slot < slots {
        return Ok(slot);
    }
    refuse(format!("there is no slot {slot}; there are slots 0 to {}", slots - 1))
}

pub(crate) fn refuse<T>(what: String) -> Result<T, CryptoError> {
    Err(CryptoError::Refused(what))
}
