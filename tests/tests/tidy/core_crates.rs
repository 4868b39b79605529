//! What holds for the crates that meet the world only through the door and the runtime.

use crate::arrows::{Manifest, is_ours};
use crate::text::{code_lines, contains_word};
use crate::tree::{File, is_test};

/// The packages that are `no_std`. The door is none of them: it alone sees std.
const CORE: &[&str] = &[
    "blockyard-units",
    "blockyard-runtime",
    "blockyard-graph",
    "blockyard-bitmap",
    "blockyard-block",
    "blockyard-crypto",
    "blockyard-drivers",
    "blockyard-jobs",
    "blockyard-qmp",
    "blockyard-sim",
    "blockyard-models",
];

const ATTRIBUTES: &[&str] = &["#![no_std]", "#![forbid(unsafe_code)]"];

fn members(manifests: &[Manifest]) -> impl Iterator<Item = &Manifest> {
    manifests.iter().filter(|manifest| CORE.contains(&manifest.name()))
}

/// The folders of the core crates.
pub fn roots(manifests: &[Manifest]) -> Vec<String> {
    members(manifests).map(|manifest| manifest.folder().to_owned()).collect()
}

/// What the core crates are built with that is not ours.
pub fn outside_dependencies(manifests: &[Manifest]) -> Vec<&str> {
    let all = members(manifests).flat_map(|manifest| &manifest.dependencies);
    let mut outside: Vec<_> = all.map(String::as_str).filter(|package| !is_ours(package)).collect();
    outside.sort_unstable();
    outside.dedup();
    outside
}

/// The attributes that a crate's `lib.rs` lacks; an attribute behind `cfg_attr` does not count.
pub fn missing_attributes(root: &str, lib: Option<&str>) -> Vec<String> {
    let lib = lib.unwrap_or_default();
    let missing = ATTRIBUTES.iter().filter(|wanted| !lib.lines().any(|line| line == **wanted));
    missing.map(|wanted| format!("{root}/src/lib.rs: no `{wanted}`")).collect()
}

/// Where a file that is no test names std. Comments may.
pub fn std_mentions(file: &File) -> Vec<String> {
    if is_test(&file.path) {
        return Vec::new();
    }
    let lines = code_lines(&file.text).filter(|(_, code)| contains_word(code, "std::"));
    lines.map(|(number, code)| format!("{}:{number}: {}", file.path, code.trim())).collect()
}
