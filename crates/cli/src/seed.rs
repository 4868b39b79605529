//! Seed files: a failure, with everything that it takes to run it again.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use blockyard_models::Property;
use blockyard_qmp::{Dict, Value, parse_json};
use blockyard_scenario::Parameters;
use blockyard_sim::{
    Budgets, Family, Finding, Granularity, SeedFile, Setup, Shrunk, TapeLine, Time,
};
use blockyard_units::{Design, decisions};
use clap::ValueEnum;

use crate::args::Strategy;
use crate::failure::Failure;
use crate::spec::{BudgetWords, Spec, is_path, pairs, read_file, read_text, set_mutant};

/// What is kept beside the scenario's own facts.
pub(crate) struct Found<'a> {
    pub finding: &'a Finding,
    pub tape: Vec<TapeLine>,
    pub hash: u64,
    pub strategy: &'a str,
    pub seed: u64,
}

/// Writes a seed file into `out`; its path.
pub(crate) fn write(spec: &Spec, found: Found<'_>, out: &Path) -> Result<PathBuf, Failure> {
    let mut file = SeedFile::default();
    for (key, value) in heads(spec) {
        file.push_head(key, if key == "scenario" { named_from(&value, out) } else { value });
    }
    file.push_head("strategy", found.strategy);
    file.push_head("seed", found.seed);
    file.push_head("property", &found.finding.property);
    file.push_head("message", &found.finding.message);
    file.push_head("steps", found.tape.len());
    file.push_head("hash", format!("{:016x}", found.hash));
    file.tape = found.tape;
    let mutant = spec.design.mutant().map_or(String::new(), |mutant| format!("-{mutant}"));
    let name = format!("{}{mutant}-{:08x}.seed", spec.script.name, found.hash as u32);
    let path = out.join(name);
    put(&path, &file.to_string())?;
    Ok(path)
}

/// Writes a file whole, or leaves what was there.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error| Failure::file(path, error);
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(path, text).map_err(failed);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is wrong is told already.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}

/// What decides which executions there are.
pub(crate) fn heads(spec: &Spec) -> Vec<(&'static str, String)> {
    let design = decisions();
    let design = design.iter().map(|d| (d.key, spec.design.get(d.key).unwrap_or_default()));
    let mutant = spec.design.mutant().map_or("none", |mutant| mutant.word());
    let Budgets { faults, families, crashes } = spec.budgets;
    vec![
        ("scenario", spec.named.clone()),
        ("scenario-hash", spec.text_hash()),
        ("parameters", words(spec.script.parameters.iter())),
        ("blockdev", nodes(&spec.blockdevs)),
        ("design", words(design)),
        ("mutant", mutant.into()),
        ("budgets", format!("faults={faults} families={families} crashes={crashes}")),
        ("granularity", spec.granularity.word().into()),
        ("time", spec.time.word().into()),
    ]
}

/// Nodes as a list in JSON, whose strings are converted as a scenario's are.
fn nodes(nodes: &[Dict]) -> String {
    Value::List(nodes.iter().cloned().map(Value::Dict).collect()).to_string()
}

/// A scenario's name for a seed file in the folder `out`: a file in there is named from there, another by its whole
/// path.
fn named_from(named: &str, out: &Path) -> String {
    let (true, Ok(path)) = (is_path(named), Path::new(named).canonicalize()) else {
        return named.into();
    };
    let below = out.canonicalize().ok().and_then(|out| path.strip_prefix(out).ok());
    let text = below.unwrap_or(&path).display().to_string();
    if is_path(&text) { text } else { format!("./{text}") }
}

fn words(pairs: impl Iterator<Item = (impl std::fmt::Display, impl std::fmt::Display)>) -> String {
    pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// A seed file, and the spec that it was made from.
pub(crate) struct Kept {
    pub file: SeedFile,
    pub spec: Spec,
    /// What was broken.
    pub property: String,
    pub hash: u64,
    seed: u64,
    /// The scenario's text is not what it was.
    pub changed: bool,
}

impl Kept {
    /// The world that it was found in.
    pub fn setup(&self) -> Setup {
        self.spec.setup(self.seed)
    }

    /// The tape without its notes.
    pub fn events(&self) -> Vec<String> {
        self.file.tape.iter().map(|line| line.event.clone()).collect()
    }
}

/// Writes what became of a kept failure to `path`; heads that say nothing of the tape stay as they are.
pub(crate) fn write_again(kept: &Kept, shrunk: &Shrunk, path: &Path) -> Result<(), Failure> {
    let mut file = SeedFile::default();
    let scenario = named_from(&kept.spec.named, folder_of(path));
    for (key, value) in &kept.file.heads {
        match key.as_str() {
            "scenario" => file.push_head(key, &scenario),
            "scenario-hash" => file.push_head(key, kept.spec.text_hash()),
            "message" => file.push_head(key, &shrunk.finding.message),
            "steps" => file.push_head(key, shrunk.tape.len()),
            "hash" => file.push_head(key, format!("{:016x}", shrunk.hash)),
            _ => file.push_head(key, value),
        }
    }
    file.tape = shrunk.tape.clone();
    put(path, &file.to_string())
}

/// The folder that `path` is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a seed file; the scenario is read anew, from where the file says or from `scenario`.
pub(crate) fn read(path: &Path, scenario: Option<&str>) -> Result<Kept, Failure> {
    let text = read_file(path)?;
    let file = SeedFile::parse(&text).map_err(|error| Failure::file(path, error))?;
    let heads = Heads { path, text: &text, file: &file };
    heads.check()?;
    let named = heads.read("scenario", |named| Ok::<_, Failure>(located(named, path)))?;
    let mut design = heads.read("design", read_design)?;
    heads.read("mutant", |word| match word {
        "none" => Ok(()),
        word => set_mutant(&mut design, word),
    })?;
    let parameters = heads.read("parameters", read_words)?;
    // Files are older than these nodes.
    let blockdevs = match file.head("blockdev") {
        Ok(_) => heads.read("blockdev", read_nodes)?,
        Err(_) => Vec::new(),
    };
    let budgets = heads.read("budgets", read_budgets)?;
    // Files are older than late EIO being a family of its own.
    let is_late = |line: &TapeLine| line.event.starts_with("fail-late ");
    let budgets = match file.tape.iter().any(is_late) {
        true => BudgetWords { families: budgets.families.with(Family::EioLate), ..budgets },
        false => budgets,
    };
    let granularity = heads.read("granularity", Granularity::from_str)?;
    let time = heads.read("time", Time::from_str)?;
    let seed = heads.read("seed", u64::from_str)?;
    let property = heads.read("property", read_property)?;
    let hash = heads.read("hash", read_hash)?;
    let text_hash = heads.read("scenario-hash", read_hash)?;
    heads.check_length()?;
    let (named, found) = match scenario {
        Some(named) => (named.to_string(), read_text(named)),
        None => {
            let found = read_text(&named);
            let about = |why| Failure::file(path, format!("its scenario (or --scenario): {why}"));
            (named, found.map_err(about))
        }
    };
    let mut spec = Spec::compile(&named, found?, parameters, design, budgets, blockdevs)?.fits()?;
    (spec.granularity, spec.time) = (granularity, time);
    let changed = read_hash(&spec.text_hash()) != Ok(text_hash);
    Ok(Kept { spec, changed, property, hash, seed, file })
}

fn read_nodes(text: &str) -> Result<Vec<Dict>, String> {
    let value = parse_json(text).map_err(|error| error.to_string())?;
    let wrong = || "a list of objects is needed".to_string();
    let Value::List(nodes) = value else { return Err(wrong()) };
    nodes.into_iter().map(|node| node.into_dict().ok_or_else(wrong)).collect()
}

/// Where the scenario is that a seed file at `path` names.
fn located(named: &str, path: &Path) -> String {
    // An absolute path stays what it is.
    if is_path(named) { folder_of(path).join(named).display().to_string() } else { named.into() }
}

/// The heads of a file, for reading.
struct Heads<'a> {
    path: &'a Path,
    text: &'a str,
    file: &'a SeedFile,
}

/// Those that a file has, and in the end those that people add.
const HEADS: &[&str] = &[
    "scenario",
    "scenario-hash",
    "parameters",
    "blockdev",
    "design",
    "mutant",
    "budgets",
    "granularity",
    "time",
    "strategy",
    "seed",
    "property",
    "message",
    "steps",
    "hash",
    "what",
    "found-by",
    "fixed-by",
];

impl Heads<'_> {
    fn wrong(&self, key: &str, why: impl Display) -> Failure {
        let is_head = |line: &str| line.split_once(':').is_some_and(|(word, _)| word.trim() == key);
        let line = self.text.lines().position(is_head).map_or(1, |index| index + 1);
        Failure::file(self.path, format!("line {line}: {key}: {why}"))
    }

    /// What `parse` makes of a head.
    fn read<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let value = self.file.head(key).map_err(|error| Failure::file(self.path, error))?;
        parse(value).map_err(|error| self.wrong(key, format!("'{value}': {error}")))
    }

    /// Checks what a replay makes no use of: none is unknown, and none says what cannot be.
    fn check(&self) -> Result<(), Failure> {
        let keys = self.file.heads.iter().map(|(key, _)| key.as_str());
        if let Some(key) = keys.into_iter().find(|key| !HEADS.contains(key)) {
            return Err(
                self.wrong(key, format!("there is no such head; there are {}", HEADS.join(", ")))
            );
        }
        self.read("strategy", |word| Strategy::from_str(word, false).map(drop))
    }

    fn check_length(&self) -> Result<(), Failure> {
        let lines = self.file.tape.len();
        self.read("steps", |steps| match steps.parse() == Ok(lines) {
            true => Ok(()),
            false => Err(format!("the tape has {lines} lines")),
        })
    }
}

fn read_words(words: &str) -> Result<Parameters, String> {
    pairs(words.split_whitespace())
}

fn read_design(words: &str) -> Result<Design, String> {
    let mut design = Design::default();
    for (key, value) in read_words(words)? {
        design.set(&key, &value).map_err(|error| error.to_string())?;
    }
    Ok(design)
}

fn read_budgets(words: &str) -> Result<BudgetWords, String> {
    let mut said = BudgetWords::default();
    for (key, value) in read_words(words)? {
        let number = || value.parse().map_err(|error| format!("{key}: {error}"));
        match key.as_str() {
            "faults" => said.faults = Some(number()?),
            "crashes" => said.crashes = Some(number()?),
            "families" => said.families = value.parse()?,
            _ => return Err(format!("{key}: there are faults, families and crashes")),
        }
    }
    // Files are older than the families.
    match (said.faults, said.crashes) {
        (Some(_), Some(_)) => Ok(said),
        _ => Err("faults and crashes are needed".into()),
    }
}

/// Properties of the run itself, which no model judges.
const OF_THE_RUN: [&str; 2] = ["no-panic", "script"];

fn read_property(word: &str) -> Result<String, String> {
    let known = Property::ALL.iter().map(|property| property.word()).chain(OF_THE_RUN);
    let known: Vec<&str> = known.collect();
    match known.contains(&word) {
        true => Ok(word.into()),
        false => Err(format!("there is no such property; there are {}", known.join(", "))),
    }
}

fn read_hash(word: &str) -> Result<u64, &'static str> {
    let digits = word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    let hash = u64::from_str_radix(word, 16).ok().filter(|_| digits);
    hash.ok_or("16 hexadecimal digits are needed")
}
