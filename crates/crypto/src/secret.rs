//! Bytes that nobody is to see.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// A passphrase. Its memory is overwritten when it is given back.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a key to be derived from.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The key of an image's payload.
pub struct MasterKey(pub(crate) Zeroizing<Vec<u8>>);

impl MasterKey {
    /// The bytes, for somebody else to decrypt with.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
