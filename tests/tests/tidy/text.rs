//! What holds for lines, whatever they mean.

use crate::tree::{File, is_test};

const MAX_LINES: usize = 600;
const MAX_COLUMNS: usize = 120;

/// The rules' own files: they quote what they forbid.
const RULES: &str = "tests/tests/tidy";

/// Text that no source file holds, and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "write it, or refuse by name"),
    ("unimplemented!(", "write it, or refuse by name"),
    ("#[ignore", "repair the test, or remove it with its reason"),
    ("dbg!(", "remove it"),
    ("thread::sleep", "sleep through the runtime"),
    (":p}", "an address differs from run to run; print an id"),
    (":#p}", "an address differs from run to run; print an id"),
    ("select!", "`select_biased!`: the order of the arms decides, not chance"),
    ("FuturesUnordered", "it wakes behind the door's back; spawn tasks and await them"),
];

/// The lines without their comments, each with its number. A `//` behind a colon, as in an address,
/// begins none.
pub fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| {
        let mut slashes = line.match_indices("//").map(|(at, _)| at);
        let comment = slashes.find(|at| !line[..*at].ends_with(':'));
        (index + 1, &line[..comment.unwrap_or(line.len())])
    })
}

/// Whether `word` occurs where no name is under way.
pub fn contains_word(code: &str, word: &str) -> bool {
    let names = word.starts_with(|first: char| first.is_alphanumeric());
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !names || !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

/// A file under `src` that does not open with `//!`.
pub fn without_head(file: &File) -> Option<String> {
    let in_src = file.path.split('/').any(|folder| folder == "src");
    (in_src && !file.text.starts_with("//!")).then(|| file.path.clone())
}

/// A file with too many lines.
pub fn too_long(file: &File) -> Option<String> {
    let count = file.text.lines().count();
    (count > MAX_LINES).then(|| format!("{}: {count} lines, at most {MAX_LINES}", file.path))
}

/// Lines with too many columns.
pub fn too_wide(file: &File) -> Vec<String> {
    let columns = file.text.lines().map(|line| line.chars().count());
    let wide = columns.enumerate().filter(|(_, columns)| *columns > MAX_COLUMNS);
    let path = &file.path;
    let say =
        |(at, columns)| format!("{path}:{}: {columns} columns, at most {MAX_COLUMNS}", at + 1);
    wide.map(say).collect()
}

/// Tabs, blanks at line ends, and what is wrong with the end of the file.
pub fn unclean(file: &File) -> Vec<String> {
    let File { path, text } = file;
    let mut places = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let mut say = |what: &str| places.push(format!("{path}:{}: {what}", index + 1));
        if line.contains('\t') {
            say("a tab");
        }
        if line.ends_with(char::is_whitespace) {
            say("blank at the end of the line");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        places.push(format!("{path}: no newline at the end"));
    }
    if text.ends_with("\n\n") {
        places.push(format!("{path}: empty lines at the end"));
    }
    places
}

/// Forbidden text outside comments; `.unwrap()` only where it is no test.
pub fn forbidden(file: &File) -> Vec<String> {
    let File { path, text } = file;
    if path.starts_with(RULES) {
        return Vec::new();
    }
    let unwrap = (".unwrap()", "`expect` that names the invariant, or an error");
    let also = if is_test(path) { None } else { Some(unwrap) };
    let rules = || FORBIDDEN.iter().copied().chain(also);
    let places = code_lines(text).flat_map(|(number, code)| {
        let broken = rules().filter(move |(word, _)| contains_word(code, word));
        broken.map(move |(word, instead)| format!("{path}:{number}: {word} ({instead})"))
    });
    places.collect()
}
