//! Seed files: a failure, with everything that it takes to run it again.

use std::path::{Path, PathBuf};

use blockyard_qmp::{Dict, Value, parse_json};
use blockyard_scenario::Parameters;
use blockyard_sim::{
    Budgets, Families, Family, Finding, Granularity, SeedFile, Setup, Shrunk, TapeLine,
};
use blockyard_units::{Design, decisions};

use crate::failure::Failure;
use crate::spec::{BudgetWords, Spec, pairs, read_families, set_mutant};

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
        file.push_head(key, value);
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
    std::fs::write(&path, file.to_string()).map_err(|error| Failure::file(&path, error))?;
    Ok(path)
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
        ("time", "untimed".into()),
    ]
}

/// Nodes as a list in JSON, whose strings are converted as a scenario's are.
fn nodes(nodes: &[Dict]) -> String {
    Value::List(nodes.iter().cloned().map(Value::Dict).collect()).to_string()
}

fn words(pairs: impl Iterator<Item = (impl std::fmt::Display, impl std::fmt::Display)>) -> String {
    pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// A seed file, and the spec that it was made from.
pub(crate) struct Kept {
    pub file: SeedFile,
    pub spec: Spec,
    /// The scenario's text is not what it was.
    pub changed: bool,
}

impl Kept {
    /// The world that it was found in.
    pub fn setup(&self) -> Setup {
        let seed = self.file.head("seed").ok().and_then(|seed| seed.parse().ok());
        self.spec.setup(seed.unwrap_or(0))
    }

    /// The tape without its notes.
    pub fn events(&self) -> Vec<String> {
        self.file.tape.iter().map(|line| line.event.clone()).collect()
    }
}

/// Writes what became of a kept failure to `path`; heads that say nothing of the tape stay as they are.
pub(crate) fn write_again(kept: &Kept, shrunk: &Shrunk, path: &Path) -> Result<(), Failure> {
    let mut file = SeedFile::default();
    for (key, value) in &kept.file.heads {
        match key.as_str() {
            "scenario" => file.push_head(key, &kept.spec.named),
            "scenario-hash" => file.push_head(key, kept.spec.text_hash()),
            "message" => file.push_head(key, &shrunk.finding.message),
            "steps" => file.push_head(key, shrunk.tape.len()),
            "hash" => file.push_head(key, format!("{:016x}", shrunk.hash)),
            _ => file.push_head(key, value),
        }
    }
    file.tape = shrunk.tape.clone();
    std::fs::write(path, file.to_string()).map_err(|error| Failure::file(path, error))
}

/// Reads a seed file; the scenario is read anew, from where the file says or from `scenario`.
pub(crate) fn read(path: &Path, scenario: Option<&str>) -> Result<Kept, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error))?;
    let file = SeedFile::parse(&text).map_err(|error| Failure::file(path, error))?;
    let head = |key: &str| file.head(key).map_err(|error| Failure::file(path, error));
    let named = scenario.unwrap_or(head("scenario")?).to_string();
    let design = read_design(head("design")?, head("mutant")?)?;
    let parameters = read_words(head("parameters")?)?;
    // Files are older than these nodes.
    let blockdevs = match file.head("blockdev") {
        Ok(text) => read_nodes(text).map_err(|error| Failure::file(path, error))?,
        Err(_) => Vec::new(),
    };
    let budgets = read_words(head("budgets")?)?;
    let number = |key: &str| budgets.get(key).and_then(|count| count.parse().ok());
    let (faults, crashes) = (number("faults"), number("crashes"));
    // Files are older than the families, and than late EIO being one of its own.
    let families = match budgets.get("families") {
        Some(words) => read_families("budgets", words)?,
        None => Families::default(),
    };
    let is_late = |line: &TapeLine| line.event.starts_with("fail-late ");
    let families = match file.tape.iter().any(is_late) {
        true => families.with(Family::EioLate),
        false => families,
    };
    let granularity: Option<Granularity> = head("granularity")?.parse().ok();
    let known = faults.is_some()
        && crashes.is_some()
        && granularity.is_some()
        && head("time")? == "untimed";
    if !known {
        let said = "budgets, granularity or time are not what this program can replay";
        return Err(Failure::file(path, said));
    }
    if head("steps")? != file.tape.len().to_string() {
        let lines = file.tape.len();
        return Err(Failure::file(path, format!("{lines} lines of tape, but not so many steps")));
    }
    let text = crate::spec::read_text(&named)?;
    let said = BudgetWords { faults, families, crashes };
    let mut spec = Spec::compile(&named, text, parameters, design, said, blockdevs)?.fits()?;
    spec.granularity = granularity.unwrap_or_default();
    let changed = head("scenario-hash")? != spec.text_hash();
    Ok(Kept { spec, changed, file })
}

fn read_nodes(text: &str) -> Result<Vec<Dict>, String> {
    let value = parse_json(text).map_err(|error| format!("blockdev: {error}"))?;
    let wrong = || "blockdev: a list of objects is needed".to_string();
    let Value::List(nodes) = value else { return Err(wrong()) };
    nodes.into_iter().map(|node| node.into_dict().ok_or_else(wrong)).collect()
}

fn read_words(words: &str) -> Result<Parameters, Failure> {
    let words: Vec<String> = words.split_whitespace().map(String::from).collect();
    Ok(pairs("seed file:", &words)?.into_iter().collect())
}

fn read_design(words: &str, mutant: &str) -> Result<Design, Failure> {
    let mut design = Design::default();
    for (key, value) in read_words(words)? {
        design.set(&key, &value).map_err(|error| Failure::usage(error.to_string()))?;
    }
    if mutant != "none" {
        set_mutant(&mut design, mutant)?;
    }
    Ok(design)
}
