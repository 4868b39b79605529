//! What is to be run: a scenario with its parameters, under a design, within budgets.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use blockyard_qmp::{Dict, Options, check_command};
use blockyard_scenario::{BUILTIN, Parameters, Script, builtin};
use blockyard_sim::{Budgets, Families, Granularity, Limits, Setup, Time};
use blockyard_units::{Design, DesignError, Mutant, decisions};
use serde_json::Value;

use crate::args::ScenarioArgs;
use crate::failure::Failure;
use crate::simulated::{ScenarioProgram, setup_of};

/// Bytes that the disks of a simulated world may have together.
const SIMULATED: u128 = 1 << 28;

/// Steps of a timed run.
const TIMED_STEPS: u32 = 2_000_000;

/// A scenario as asked for.
#[derive(Clone)]
pub struct Spec {
    /// As it was named: a built-in's name, or a path.
    pub named: String,
    /// The text that it was read from.
    pub text: String,
    /// The scenario, with its parameters put in.
    pub script: Arc<Script>,
    /// Nodes that are added before its own setup.
    pub blockdevs: Vec<Dict>,
    /// The decisions.
    pub design: Design,
    /// What may go wrong.
    pub budgets: Budgets,
    /// What a task's step is.
    pub granularity: Granularity,
    /// Whether requests take time, and there is the guest load.
    pub time: Time,
}

/// What may go wrong, as far as somebody said.
#[derive(Clone, Copy, Default)]
pub(crate) struct BudgetWords {
    pub faults: Option<u32>,
    pub families: Families,
    pub crashes: Option<u32>,
}

impl Spec {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// One line that names the scenario and what is wrong with it.
    pub(crate) fn read(named: &str, change: &ScenarioArgs) -> Result<Self, Failure> {
        let spec = Self::of_text(named, read_text(named)?, change)?;
        change.check_families(spec.budgets.faults)?;
        Ok(spec)
    }

    /// Checks a scenario that was read already.
    ///
    /// # Errors
    /// As [`Spec::read`].
    pub(crate) fn of_text(
        named: &str,
        text: String,
        change: &ScenarioArgs,
    ) -> Result<Self, Failure> {
        let sets = pairs(&change.sets).map_err(|why| Failure::usage(format!("--set {why}")))?;
        let designs = pairs(&change.designs);
        let mut design = Design::default();
        for (key, value) in designs.map_err(|why| Failure::usage(format!("--design {why}")))? {
            design.set(&key, &value).map_err(|error| Failure::usage(error.to_string()))?;
        }
        if let Some(mutant) = &change.mutant {
            set_mutant(&mut design, mutant)
                .map_err(|error| Failure::usage(format!("mutant: {error}")))?;
        }
        let families = match &change.families {
            Some(words) => {
                words.parse().map_err(|error| Failure::usage(format!("--families: {error}")))?
            }
            None => Families::default(),
        };
        let blockdevs = change.blockdevs.iter().map(|text| read_blockdev(text));
        let blockdevs = blockdevs.collect::<Result<_, _>>()?;
        let ScenarioArgs { faults, crashes, .. } = *change;
        let budgets = BudgetWords { faults, families, crashes };
        Self::compile(named, text, sets, design, budgets, blockdevs)
    }

    /// Reads and checks a scenario for the simulated world, whose disks are in memory.
    ///
    /// # Errors
    /// As [`Spec::read`]; or the disks are too large.
    pub(crate) fn read_simulated(named: &str, change: &ScenarioArgs) -> Result<Self, Failure> {
        Self::read(named, change)?.fits()
    }

    /// Whether its disks and requests fit the simulated world.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn fits(self) -> Result<Self, Failure> {
        let sizes = self.script.disks.values().map(|disk| u128::from(disk.size));
        let total: u128 = sizes.sum();
        let longest = self.script.longest_request();
        let what = if total > SIMULATED {
            format!("disks of {total} bytes do")
        } else if u128::from(longest) > SIMULATED {
            format!("a request of {longest} bytes does")
        } else {
            return Ok(self);
        };
        let named = &self.named;
        Err(Failure::usage(format!(
            "scenario {named}: {what} not fit the simulated world (at most {SIMULATED})"
        )))
    }

    /// From parts that were kept in a seed file.
    pub(crate) fn compile(
        named: &str,
        text: String,
        sets: Parameters,
        design: Design,
        said: BudgetWords,
        blockdevs: Vec<Dict>,
    ) -> Result<Self, Failure> {
        let script = Script::compile(&text, &sets)
            .and_then(|script| script.with_nodes(&blockdevs))
            .map_err(|error| Failure::usage(format!("scenario {named}: {error}")))?;
        let budgets = Budgets {
            faults: said.faults.unwrap_or(script.faults),
            families: said.families,
            crashes: said.crashes.unwrap_or(script.crashes),
        };
        if budgets.crashes > 1 {
            return Err(Failure::usage(format!(
                "scenario {named}: crashes: at most 1, after which nothing runs that a second one could end"
            )));
        }
        let script = Arc::new(script);
        let (granularity, time) = (Granularity::default(), Time::default());
        let named = named.into();
        Ok(Self { named, text, script, blockdevs, design, budgets, granularity, time })
    }

    /// As a program of the simulated world.
    pub fn program(&self) -> ScenarioProgram {
        ScenarioProgram { script: self.script.clone(), design: self.design }
    }

    /// The simulated world for it.
    pub fn setup(&self, seed: u64) -> Setup {
        let Self { budgets, granularity, time, .. } = *self;
        Setup { budgets, granularity, time, ..setup_of(&self.script, seed) }
    }

    /// When one of its runs is too long: those with a load are longer.
    pub fn limits(&self) -> Limits {
        let limits = Limits::default();
        match self.time {
            Time::Untimed => limits,
            Time::Timed => Limits { steps: TIMED_STEPS, ..limits },
        }
    }

    /// Tells versions of the scenario's text apart.
    pub(crate) fn text_hash(&self) -> String {
        blake3::hash(self.text.as_bytes()).to_hex()[..16].into()
    }
}

/// Reads a node's options; what is given as JSON is strictly typed.
fn read_blockdev(text: &str) -> Result<Dict, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::usage(format!("--blockdev {text}: {error}"));
    let Options { value, mode } = Options::parse(text, Some("driver")).map_err(|e| wrong(&e))?;
    let node = value.into_dict().expect("the-root-is-an-object");
    check_command("blockdev-add", &node, mode).map_err(|e| wrong(&e))?;
    Ok(node)
}

impl ScenarioArgs {
    /// Ways in which requests go wrong mean nothing if none does.
    pub fn check_families(&self, faults: u32) -> Result<(), Failure> {
        if self.families.is_some() && faults == 0 {
            let why = "--families: no request may go wrong; --faults N says how many may";
            return Err(Failure::usage(why));
        }
        Ok(())
    }
}

/// Every decision of a design, and the word that it stands at.
pub(crate) fn design_words(design: &Design) -> Vec<(String, Value)> {
    let word = |key: &str| Value::from(design.get(key).unwrap_or_default());
    decisions().iter().map(|decision| (decision.key.into(), word(decision.key))).collect()
}

pub(crate) fn set_mutant(design: &mut Design, word: &str) -> Result<(), DesignError> {
    let mutant: Mutant = word.parse()?;
    design.set_mutant(mutant)
}

/// Whether a scenario is named by its path.
pub(crate) fn is_path(named: &str) -> bool {
    named.contains('/') || named.ends_with(".json")
}

/// Bytes that a file may have that people write, or a seed file.
const TEXT_MAX: u64 = 1 << 26;

/// Reads a file that may be a device which never ends.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    let about = |error: std::io::Error| Failure::file(path, error);
    let mut text = Vec::new();
    let file = File::open(path).map_err(about)?;
    file.take(TEXT_MAX + 1).read_to_end(&mut text).map_err(about)?;
    if text.len() as u64 > TEXT_MAX {
        return Err(Failure::file(path, format!("longer than {TEXT_MAX} bytes")));
    }
    String::from_utf8(text).map_err(|error| Failure::file(path, format!("not text: {error}")))
}

pub(crate) fn read_text(named: &str) -> Result<String, Failure> {
    if is_path(named) {
        return read_file(Path::new(named));
    }
    builtin(named).map(String::from).ok_or_else(|| {
        let known: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!("there is no scenario '{named}'; there are {}", known.join(", ")))
    })
}

/// Words K=V with no key twice, or what is wrong with them.
pub(crate) fn pairs<'a>(
    words: impl IntoIterator<Item = &'a (impl AsRef<str> + 'a + ?Sized)>,
) -> Result<Parameters, String> {
    let mut pairs = Parameters::new();
    for word in words {
        let word = word.as_ref();
        let pair = word.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| format!("{word}: K=V is needed"))?;
        if pairs.insert(key.into(), value.into()).is_some() {
            return Err(format!("{word}: '{key}' is given twice"));
        }
    }
    Ok(pairs)
}
