//! What the tests of the host share: a directory of their own.
#![allow(clippy::disallowed_methods)] // the process id keeps runs apart; nothing here is explored

use std::fs;
use std::path::{Path, PathBuf};

/// A directory that is removed at the end of the test.
pub struct Directory(PathBuf);

impl Directory {
    /// `name` is one test's own.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blockyard-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory for temporary files is writable");
        Self(path)
    }

    /// Where a file named `name` would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory itself.
    pub fn itself(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
