//! Offences that each rule must find, beside what it must leave alone.

use std::path::Path;

use crate::arrows::{self, ARROWS, Aliases, Manifest};
use crate::tree::{self, File};
use crate::{core_crates, documents, text};

const ALIASES: &str = r#"
[workspace.dependencies]
b = { package = "blockyard-block", path = "crates/block" }
"#;

fn manifest(name: &str, rest: &str) -> Manifest {
    let text = format!("[package]\nname = \"{name}\"\n{rest}");
    Manifest::read("crates/x/Cargo.toml", &text, &Aliases::read(ALIASES))
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// Each place ends as told, and there are no others.
#[track_caller]
fn check(places: impl IntoIterator<Item = String>, ends: &[&str]) {
    let places: Vec<_> = places.into_iter().collect();
    let agree = places.len() == ends.len()
        && places.iter().zip(ends).all(|(place, end)| place.ends_with(end));
    assert!(agree, "found {places:#?}, planted {ends:#?}");
}

#[test]
fn an_arrow_upwards_is_found_however_it_is_written() {
    let depends = |rest: &str| arrows::unlisted(&manifest("blockyard-graph", rest));
    check(depends("[dependencies]\nblockyard-units.workspace = true\nserde = '1'"), &[]);
    check(depends("[dev-dependencies]\nblockyard-sim.workspace = true"), &[]);
    let found = &["blockyard-graph may not depend on blockyard-block"];
    check(depends("[dependencies]\nblockyard-block.workspace = true"), found);
    check(depends("[build-dependencies]\nblockyard-block = { path = '../block' }"), found);
    check(depends("[dependencies.lower]\npackage = 'blockyard-block'\npath = '../block'"), found);
    check(depends("[dependencies]\nb.workspace = true"), found);
    check(depends("[target.'cfg(unix)'.dependencies]\nblockyard-block.workspace = true"), found);
}

#[test]
fn a_package_without_a_row_is_found() {
    check(arrows::unlisted(&manifest("blockyard-cellar", "")), &["blockyard-cellar has no row"]);
}

#[test]
fn rows_name_everything_below_and_nothing_twice() {
    for (at, (package, allowed)) in ARROWS.iter().enumerate() {
        assert!(ARROWS[..at].iter().all(|(other, _)| other != package), "{package} has two rows");
        assert!(!allowed.contains(package), "arrows-point-down: {package} names itself");
        for lower in *allowed {
            let row = ARROWS.iter().find(|(other, _)| other == lower);
            let (_, below) =
                row.unwrap_or_else(|| panic!("{package} names {lower}, without a row"));
            let left_out = below.iter().find(|below| !allowed.contains(below));
            assert_eq!(left_out, None, "arrows-point-down: {package} names {lower}");
        }
    }
}

#[test]
fn loom_packages_use_loom_and_ours_and_are_used_by_no_other() {
    let originals = [manifest("blockyard-bitmap", "[dependencies]\nthiserror = '2'")];
    let offences = |name: &str, used: &str| {
        let dependencies = format!("[dependencies]\n{used}.workspace = true");
        arrows::loom_offences(&manifest(name, &dependencies), &originals)
    };
    check(offences("blockyard-loom-sync", "loom"), &[]);
    check(offences("blockyard-loom-sync", "blockyard-units"), &[]);
    check(offences("blockyard-loom-bitmap", "blockyard-loom-sync"), &[]);
    check(offences("blockyard-loom-sync", "tokio"), &["may not depend on tokio"]);
    check(offences("blockyard-loom-bitmap", "thiserror"), &[]);
    check(offences("blockyard-loom-block", "thiserror"), &["may not depend on thiserror"]);
    check(offences("blockyard-loom-bitmap", "tokio"), &["may not depend on tokio"]);
    check(offences("blockyard-jobs", "blockyard-loom-sync"), &["depend on blockyard-loom-sync"]);
}

#[test]
fn a_manifest_that_speaks_for_itself_is_found() {
    let inherited = "edition.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true";
    check(arrows::not_inherited(&manifest("a", inherited)), &[]);
    let own = "edition = '2021'\nlicense = 'MIT'\n[lints.rust]\nunsafe_code = 'allow'";
    check(arrows::not_inherited(&manifest("a", own)), &["lints", "edition", "license"]);
}

#[test]
fn a_core_crate_without_its_attributes_is_found() {
    let missing = |lib| core_crates::missing_attributes("crates/graph", lib);
    check(missing(Some("//! Head.\n#![no_std]\n#![forbid(unsafe_code)]\n")), &[]);
    let both = &["no `#![no_std]`", "no `#![forbid(unsafe_code)]`"];
    check(missing(Some("#![cfg_attr(not(test), no_std)]\n// #![forbid(unsafe_code)]\n")), both);
    check(missing(None), both);
}

#[test]
fn the_roots_and_outside_dependencies_are_those_of_core_crates() {
    let wanting = |name| manifest(name, "[dependencies]\nblockyard-units = '1'\nbytes = '1'");
    assert_eq!(core_crates::roots(&[wanting("blockyard-sync")]), [""; 0]);
    assert_eq!(core_crates::roots(&[wanting("blockyard-graph")]), ["crates/x"]);
    assert_eq!(core_crates::outside_dependencies(&[wanting("blockyard-host")]), [""; 0]);
    assert_eq!(core_crates::outside_dependencies(&[wanting("blockyard-graph")]), ["bytes"]);
}

#[test]
fn std_is_found_in_code_and_not_in_tests_or_comments() {
    let text =
        "use std::mem;\n// std::mem\nlet a = not_std::b;\nlet c = ::std::mem::take(&mut d); // e\n";
    let found = &["lib.rs:1: use std::mem;", "lib.rs:4: let c = ::std::mem::take(&mut d);"];
    check(core_crates::std_mentions(&file("crates/graph/src/lib.rs", text)), found);
    check(core_crates::std_mentions(&file("crates/graph/src/tests.rs", text)), &[]);
    check(core_crates::std_mentions(&file("crates/graph/src/tests/laws.rs", text)), &[]);
}

#[test]
fn a_source_file_without_head_is_found() {
    check(text::without_head(&file("sim/src/a.rs", "//! A.\n")), &[]);
    check(text::without_head(&file("sim/src/a.rs", "use b;\n//! A.\n")), &["sim/src/a.rs"]);
    check(text::without_head(&file("sim/src/a/b.rs", "")), &["sim/src/a/b.rs"]);
    check(text::without_head(&file("sim/build.rs", "")), &[]);
}

#[test]
fn a_long_file_is_found() {
    check(text::too_long(&file("a.rs", &"\n".repeat(600))), &[]);
    check(text::too_long(&file("a.rs", &"\n".repeat(601))), &["a.rs: 601 lines, at most 600"]);
}

#[test]
fn a_wide_line_is_found() {
    let wide =
        |columns: usize| text::too_wide(&file("a.rs", &("\n".to_owned() + &"ü".repeat(columns))));
    check(wide(120), &[]);
    check(wide(121), &["a.rs:2: 121 columns, at most 120"]);
}

#[test]
fn unclean_text_is_found() {
    let unclean = |path: &str, text: &str| text::unclean(&file(path, text));
    check(unclean("a.md", "\n\ta\n"), &["a.md:2: a tab"]);
    check(
        unclean("a.md", "a \nb\r\n"),
        &[":1: blank at the end of the line", ":2: blank at the end of the line"],
    );
    check(unclean("a.md", "a"), &["no newline at the end"]);
    check(unclean("a.md", "a\n\n"), &["empty lines at the end"]);
    check(unclean("a.md", ""), &[]);
}

#[test]
fn forbidden_text_is_found() {
    let words = |path: &str, text: &str| {
        let places = text::forbidden(&file(path, text)).into_iter();
        places.map(|place| place.split(" (").next().unwrap_or_default().to_owned())
    };
    let rs = "sim/src/a.rs";
    check(
        words(rs, "todo!();\nunimplemented!();\n"),
        &["a.rs:1: todo!(", "a.rs:2: unimplemented!("],
    );
    check(
        words(rs, "#[ignore]\n#[ignore = \"slow\"]\n"),
        &["a.rs:1: #[ignore", "a.rs:2: #[ignore"],
    );
    check(words(rs, "std::dbg!(a);\nstd::thread::sleep(a);\n"), &["1: dbg!(", "2: thread::sleep"]);
    check(words(rs, "format!(\"{:p}\", a);\nformat!(\"{a:#p}\");\n"), &["1: :p}", "2: :#p}"]);
    check(words(rs, "select! { a }\nselect_biased! { a }\n"), &["1: select!"]);
    check(words(rs, "FuturesUnordered::new()\n"), &["1: FuturesUnordered"]);
    check(
        words(rs, "a.unwrap();\nb.unwrap_or(c);\nd(\"e://f\").unwrap();\n"),
        &["1: .unwrap()", "3: .unwrap()"],
    );
    check(words(rs, "// todo!() select! a.unwrap()\n"), &[]);
    check(words("sim/src/a/tests.rs", "a.unwrap();\n"), &[]);
    check(words("sim/src/a/tests.rs", "dbg!(a);\n"), &["1: dbg!("]);
    check(words("tests/tests/tidy/a.rs", "dbg!(a);\n"), &[]);
}

#[test]
fn a_lost_path_is_found() {
    let exists = |path: &str| ["crates/graph", "sim/src/lib.rs"].contains(&path);
    let lost = |text: &str| documents::lost_paths("crates/README.md", text, exists);
    check(lost("`crates/graph/` and `../sim/src/lib.rs` and `sim/src/lib.rs`\n"), &[]);
    check(
        lost("a\n`crates/grahp` `../../crates/graph`\n"),
        &["2: crates/grahp", "2: ../../crates/graph"],
    );
    check(lost("`a / b` `crates/<room>` `crates/*` `$A/b` `https://a/b` `/dev/null`\n"), &[]);
    check(lost("`cargo test\n--all` `a/b` c/d `e/f`\n"), &["2: a/b", "2: e/f"]);
    check(lost("an open `quotation\n\nends: a/b `c/d`\n"), &["3: c/d"]);
    check(lost("```\n`crates/gone`\n```\ncrates/gone\n`target/debug/blockyard`\n"), &[]);
}

#[test]
fn test_commands_that_differ_are_found() {
    let told = |document: &str, script: &str| documents::test_command_offences(document, script);
    check(told("```\ncargo test --a\n```\n", "set -e\ncargo test --a --locked\n"), &[]);
    check(told("cargo test\n", ""), &["the script does not run `cargo test`"]);
    check(told("cargo test\n", "cargo test\ncargo test b\n"), &["not tell of `cargo test b`"]);
    check(told("", ""), &["the document has no test command"]);
    let all = "cargo test --all-targets\n";
    check(told(all, all), &["`cargo test --all-targets` runs the twins' tests"]);
}

#[test]
fn a_name_missing_from_the_map_is_found() {
    let map = "`blockyard-graph` and blockyard-sim and `blockyard-sync-more`\n";
    check(documents::missing_from_map(map, ["blockyard-graph"]), &[]);
    check(documents::missing_from_map(map, ["blockyard-sim"]), &["`blockyard-sim` is not there"]);
    check(documents::missing_from_map(map, ["blockyard-sync"]), &["`blockyard-sync` is not there"]);
}

#[test]
fn a_misnamed_scenario_is_found() {
    let told = |path: &str, text: &str| documents::misnamed_scenario(&file(path, text));
    check(told("tests/scenarios/a.json", r#"{"scenario": "a"}"#), &[]);
    check(told("tests/scenarios/a.json", r#"{"scenario": "b"}"#), &["its scenario is 'b'"]);
    check(told("tests/scenarios/a.json", r#"{"version": 1}"#), &["no name under 'scenario'"]);
    check(told("tests/scenarios/a.json", "{"), &["line 1 column 1"]);
    check(told("tests/corpus/a.json", "{"), &[]);
}

#[test]
fn tests_are_known_by_their_place() {
    let tests = [
        "sim/src/a/tests.rs",
        "sim/src/tests/a.rs",
        "tests/src/lib.rs",
        "sim/benches/a.rs",
        "sim/examples/a.rs",
    ];
    assert!(tests.iter().all(|path| tree::is_test(path)));
    assert!(!["sim/src/a.rs", "sim/src/latests.rs"].iter().any(|path| tree::is_test(path)));
}

#[test]
fn the_walk_sees_itself_and_no_build() {
    let tree = tree::Tree::read();
    assert!(tree.text("tests/tests/tidy/planted.rs").is_some());
    assert!(tree.texts().is_sorted_by(|a, b| Path::new(&a.path) < Path::new(&b.path)));
    assert!(!tree.texts().any(|file| file.path.starts_with("target/") || file.path.contains("/.")));
    let names: Vec<_> = tree.manifests().iter().map(|member| member.name().to_owned()).collect();
    assert!(names.iter().any(|name| name == "blockyard-tests"), "{names:?}");
}
