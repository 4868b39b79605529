//! What documents and scenarios promise.

use std::collections::BTreeSet;

use crate::tree::File;

const SCENARIOS: &str = "tests/scenarios/";

/// What is quoted in backticks, outside fenced blocks, each with the number of its line. A
/// quotation over a line's end names nothing; a blank line ends one that was never closed.
fn quoted(text: &str) -> Vec<(usize, &str)> {
    let (mut fenced, mut open) = (false, false);
    let mut spans = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.trim().is_empty() {
            open = false;
            continue;
        }
        let parts: Vec<_> = line.trim_start_matches("```").split('`').collect();
        let inner = parts.iter().enumerate().take(parts.len() - 1).skip(1);
        let whole = inner.filter(|(at, _)| open == (at % 2 == 0));
        spans.extend(whole.map(|(_, span)| (index + 1, *span)));
        open ^= parts.len() % 2 == 0;
    }
    spans
}

/// Whether it looks like a path below the root. Addresses, absolute paths and what a build makes do
/// not.
fn is_path(span: &str) -> bool {
    let odd = |letter: char| letter.is_whitespace() || "<>*$…={}()|\"'".contains(letter);
    let elsewhere = ["/", "~", "target/"].iter().any(|start| span.starts_with(start));
    span.contains('/') && !span.contains(odd) && !span.contains("://") && !elsewhere
}

/// `path` as seen from `folder`, without `.` and `..`; none if it leaves the root.
fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => (),
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Paths in backticks that are there neither from the root nor from the document's own folder.
pub fn lost_paths(document: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let own = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let there = |path: &str| {
        let mut seen = ["", own].into_iter().filter_map(|folder| resolve(folder, path));
        seen.any(|path| exists(&path))
    };
    let paths = quoted(text).into_iter().filter(|(_, span)| is_path(span));
    let lost = paths.filter(|(_, path)| !there(path));
    lost.map(|(line, path)| format!("{document}:{line}: {path}")).collect()
}

/// Names that the code map does not hold in backticks.
pub fn missing_from_map<'a>(map: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let spans = quoted(map);
    let told = |name: &str| spans.iter().any(|(_, span)| *span == name);
    let missing = names.into_iter().filter(|name| !told(name));
    missing.map(|name| format!("crates/README.md: `{name}` is not there")).collect()
}

/// The lines that run the tests, without what keeps the lock file as it is.
fn test_commands(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("cargo test"));
    lines.map(|line| line.replace(" --locked", "")).collect()
}

/// Where the test commands of the document and of the script differ, and why one may not be as it is.
pub fn test_command_offences(document: &str, script: &str) -> Vec<String> {
    let (told, run) = (test_commands(document), test_commands(script));
    let one_sided = told.symmetric_difference(&run).map(|line| match told.contains(line) {
        true => format!("the script does not run `{line}`"),
        false => format!("the document does not tell of `{line}`"),
    });
    let everywhere = told.union(&run).filter(|line| line.contains("--all-targets"));
    // The twins beside `models` have no tests of their own: they would run those of their originals without a world.
    let everywhere = everywhere.map(|line| format!("`{line}` runs the twins' tests"));
    let none = told.is_empty().then(|| "the document has no test command".to_owned());
    one_sided.chain(everywhere).chain(none).collect()
}

/// Why a scenario is none: no JSON, or another name than its file's.
pub fn misnamed_scenario(file: &File) -> Option<String> {
    let File { path, text } = file;
    let stem = path.strip_prefix(SCENARIOS)?.strip_suffix(".json")?;
    let scenario = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(scenario) => scenario,
        Err(error) => return Some(format!("{path}: {error}")),
    };
    match scenario.get("scenario").and_then(serde_json::Value::as_str) {
        Some(name) if name == stem => None,
        Some(name) => Some(format!("{path}: its scenario is '{name}'")),
        None => Some(format!("{path}: no name under 'scenario'")),
    }
}
