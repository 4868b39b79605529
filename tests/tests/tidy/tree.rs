//! The tree below the workspace root, read once, in the order of paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::arrows::{Aliases, Manifest};

/// A text file: its path from the root, with `/`, and what is in it.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Everything but `target`, folders that begin with a dot, and what symbolic links lead to.
pub struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

/// The kinds of file that people write here.
const TEXTS: &[&str] = &["rs", "toml", "md", "json"];

impl Tree {
    pub fn read() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().expect("the-tests-package-is-below-the-root").to_owned();
        let mut paths = BTreeSet::new();
        walk(&root, &mut paths);
        let files = paths.iter().filter_map(|path| {
            let shown = path.strip_prefix(&root).expect("the-walk-stays-below-the-root");
            let shown = shown.to_string_lossy().replace('\\', "/");
            // A file that someone removed since the walk is no offence.
            let bytes = fs::read(path).ok()?;
            Some(File { path: shown, text: String::from_utf8_lossy(&bytes).into_owned() })
        });
        let files = files.collect();
        Self { root, files }
    }

    /// Files that people write.
    pub fn texts(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// Rust files.
    pub fn sources(&self) -> impl Iterator<Item = &File> {
        self.texts().filter(|file| file.path.ends_with(".rs"))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// What is in a file that the walk does not see, such as one in a dot folder.
    pub fn unlisted_text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// Whether a path from the root is there, be it a file or a folder, dot folders included.
    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The manifest of each package. A package that the workspace does not list is read all the
    /// same.
    pub fn manifests(&self) -> Vec<Manifest> {
        let root = self.text("Cargo.toml").expect("the-workspace-has-a-manifest");
        let aliases = Aliases::read(root);
        self.texts()
            .filter(|file| file.path.ends_with("/Cargo.toml"))
            .map(|file| Manifest::read(&file.path, &file.text, &aliases))
            .collect()
    }
}

fn walk(folder: &Path, paths: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && name != "target" && !name.starts_with('.') => {
                walk(&path, paths);
            }
            Ok(kind) if kind.is_file() && is_text(&name) => {
                paths.insert(path);
            }
            _ => (),
        }
    }
}

fn is_text(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, kind)| TEXTS.contains(&kind))
}

/// Whether a file is there for tests only.
pub fn is_test(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    name == "tests.rs"
        || folders.split('/').any(|folder| matches!(folder, "tests" | "benches" | "examples"))
}

/// Fails with all places of a broken rule, and what to do about them.
pub fn hold(advice: &str, places: impl IntoIterator<Item = String>) {
    let places: Vec<_> = places.into_iter().collect();
    let list = places.join("\n  ");
    assert!(places.is_empty(), "{} places:\n  {list}\n{advice}", places.len());
}
