//! What is to be run: a scenario with its parameters, under a design, within budgets.

use std::path::PathBuf;
use std::sync::Arc;

use blockyard_qmp::{Dict, Options, check_command};
use blockyard_scenario::{BUILTIN, Parameters, Script, builtin};
use blockyard_sim::{Budgets, Families, Granularity, Setup};
use blockyard_units::{Design, Mutant};

use crate::args::ScenarioArgs;
use crate::failure::Failure;
use crate::simulated::{ScenarioProgram, setup_of};

/// Bytes that the disks of a simulated world may have together.
const SIMULATED: u128 = 1 << 28;

/// A scenario as asked for.
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
        Self::of_text(named, read_text(named)?, change)
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
        let sets = pairs("--set", &change.sets)?;
        let mut design = Design::default();
        for (key, value) in pairs("--design", &change.designs)? {
            design.set(&key, &value).map_err(|error| Failure::usage(error.to_string()))?;
        }
        if let Some(mutant) = &change.mutant {
            set_mutant(&mut design, mutant)?;
        }
        let families = match &change.families {
            Some(words) => read_families("--families", words)?,
            None => Families::default(),
        };
        let blockdevs = change.blockdevs.iter().map(|text| read_blockdev(text));
        let blockdevs = blockdevs.collect::<Result<_, _>>()?;
        let ScenarioArgs { faults, crashes, .. } = *change;
        let budgets = BudgetWords { faults, families, crashes };
        Self::compile(named, text, sets.into_iter().collect(), design, budgets, blockdevs)
    }

    /// Reads and checks a scenario for the simulated world, whose disks are in memory.
    ///
    /// # Errors
    /// As [`Spec::read`]; or the disks are too large.
    pub(crate) fn read_simulated(named: &str, change: &ScenarioArgs) -> Result<Self, Failure> {
        Self::read(named, change)?.fits()
    }

    /// Whether its disks fit the simulated world.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn fits(self) -> Result<Self, Failure> {
        let sizes = self.script.disks.values().map(|disk| u128::from(disk.size));
        let total: u128 = sizes.sum();
        if total <= SIMULATED {
            return Ok(self);
        }
        let named = &self.named;
        Err(Failure::usage(format!(
            "scenario {named}: disks of {total} bytes do not fit the simulated world (at most {SIMULATED})"
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
        let granularity = Granularity::default();
        Ok(Self { named: named.into(), text, script, blockdevs, design, budgets, granularity })
    }

    /// As a program of the simulated world.
    pub fn program(&self) -> ScenarioProgram {
        ScenarioProgram { script: self.script.clone(), design: self.design }
    }

    /// The simulated world for it.
    pub fn setup(&self, seed: u64) -> Setup {
        let Self { budgets, granularity, .. } = *self;
        Setup { budgets, granularity, ..setup_of(&self.script, seed) }
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

pub(crate) fn read_families(what: &str, words: &str) -> Result<Families, Failure> {
    words.parse().map_err(|error| Failure::usage(format!("{what}: {error}")))
}

pub(crate) fn set_mutant(design: &mut Design, word: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::usage(format!("mutant: {error}"));
    let mutant: Mutant = word.parse().map_err(wrong)?;
    design.set_mutant(mutant).map_err(wrong)
}

pub(crate) fn read_text(named: &str) -> Result<String, Failure> {
    if named.contains('/') || named.ends_with(".json") {
        let path = PathBuf::from(named);
        return std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, error));
    }
    builtin(named).map(String::from).ok_or_else(|| {
        let known: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!("there is no scenario '{named}'; there are {}", known.join(", ")))
    })
}

pub(crate) fn pairs(what: &str, words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(Failure::usage(format!("{what} {word}: K=V is needed"))),
    };
    words.iter().map(pair).collect()
}
