//! The tree follows its own rules: which package may know which, what no source file may say, and
//! that the documents speak of things that exist.
//!
//! Each rule is a fact with a test; its failure lists every offending place and what to do. What
//! decides is a function of text alone, proven on planted offences in `planted`. A rule that no
//! longer serves is changed here, in the open. Not for: what the compiler, clippy or rustfmt
//! already see.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/core_crates.rs"]
mod core_crates;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{Tree, hold};

const README: &str = "README.md";
const MAP: &str = "crates/README.md";

#[test]
fn every_arrow_between_packages_is_in_the_table() {
    let tree = Tree::read();
    hold(
        "a new arrow needs its row in tests/tests/tidy/arrows.rs and its reason in crates/README.md",
        tree.manifests().iter().flat_map(arrows::unlisted),
    );
}

#[test]
fn only_loom_packages_use_loom_packages() {
    let tree = Tree::read();
    let all = tree.manifests();
    hold(
        "a loom package is a leaf: it uses what its original uses, and nobody builds on it",
        all.iter().flat_map(|manifest| arrows::loom_offences(manifest, &all)),
    );
}

#[test]
fn every_member_inherits_lints_edition_and_licence() {
    let tree = Tree::read();
    hold(
        "write `edition.workspace = true`, `license.workspace = true` and `[lints] workspace = true`",
        tree.manifests().iter().flat_map(arrows::not_inherited),
    );
}

#[test]
fn core_crates_are_no_std_and_forbid_unsafe() {
    let tree = Tree::read();
    hold(
        "begin the crate with `#![no_std]` and `#![forbid(unsafe_code)]`, after its `//!` head",
        core_crates::roots(&tree.manifests()).iter().flat_map(|root| {
            core_crates::missing_attributes(root, tree.text(&format!("{root}/src/lib.rs")))
        }),
    );
}

#[test]
fn core_crates_do_not_name_std() {
    let tree = Tree::read();
    let roots = core_crates::roots(&tree.manifests());
    let inside = |path: &str| roots.iter().any(|root| path.starts_with(&format!("{root}/")));
    hold(
        "name `core::` or `alloc::`; what only std has belongs to the host or behind the door",
        tree.sources().filter(|file| inside(&file.path)).flat_map(core_crates::std_mentions),
    );
}

#[test]
fn every_source_file_says_what_it_is() {
    let tree = Tree::read();
    hold(
        "open the file with `//!`: what it is and is not for",
        tree.sources().filter_map(text::without_head),
    );
}

#[test]
fn files_stay_short() {
    let tree = Tree::read();
    hold(
        "look for the second room in it: leaves move out, branches stay",
        tree.texts().filter_map(text::too_long),
    );
}

#[test]
fn source_lines_stay_narrow() {
    let tree = Tree::read();
    hold(
        "break the line; `rustfmt` leaves comments alone",
        tree.sources().flat_map(text::too_wide),
    );
}

#[test]
fn text_is_clean() {
    let tree = Tree::read();
    hold("use spaces, strip line ends, end with one newline", tree.texts().flat_map(text::unclean));
}

#[test]
fn no_source_file_holds_forbidden_text() {
    let tree = Tree::read();
    hold("do what is written behind each place", tree.sources().flat_map(text::forbidden));
}

#[test]
fn documents_name_paths_that_exist() {
    let tree = Tree::read();
    hold(
        "correct the path, or write the document it stands for",
        [README, MAP].into_iter().flat_map(|document| match tree.text(document) {
            Some(text) => documents::lost_paths(document, text, |path| tree.exists(path)),
            None => vec![format!("{document}: does not exist")],
        }),
    );
}

#[test]
fn the_readme_and_the_checks_run_the_same_tests() {
    let tree = Tree::read();
    let readme = tree.text(README).unwrap_or_default();
    let script = tree.unlisted_text(".ci/run").unwrap_or_default();
    hold(
        "write the same test command in README.md and .ci/run, without --all-targets",
        documents::test_command_offences(readme, &script),
    );
}

#[test]
fn the_code_map_names_every_member() {
    let tree = Tree::read();
    let map = tree.text(MAP).unwrap_or_default();
    hold(
        "write a paragraph in crates/README.md: what the crate does, and what it does not know",
        documents::missing_from_map(map, tree.manifests().iter().map(|member| member.name())),
    );
}

#[test]
fn the_code_map_gives_a_reason_for_every_outside_dependency_of_a_core_crate() {
    let tree = Tree::read();
    let map = tree.text(MAP).unwrap_or_default();
    let manifests = tree.manifests();
    hold(
        "write a row in crates/README.md, or do without the dependency",
        documents::missing_from_map(map, core_crates::outside_dependencies(&manifests)),
    );
}

#[test]
fn scenarios_are_json_and_named_as_their_files() {
    let tree = Tree::read();
    hold(
        "correct the file or its `scenario`",
        tree.texts().filter_map(documents::misnamed_scenario),
    );
}
