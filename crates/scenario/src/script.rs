//! A scenario with its parameters put in, checked whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use blockyard_block::Limits;
use blockyard_qmp::{Dict, Mode, Value, parse_json, take, visit};
use blockyard_units::decisions;

use crate::bitmaps::{Bitmaps, actions_of};
use crate::latency::LatencyOptions;
use crate::steps::{
    BudgetOptions, DedupOptions, DiskOptions, DiskSpec, Fill, ImageOptions, LoadOptions,
    LuksOptions, Step, check_length, member, parse_steps,
};

/// Parameter values by name.
pub type Parameters = BTreeMap<String, String>;

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(pub String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScriptError {}

impl From<String> for ScriptError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

/// A scenario, ready to run.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Every parameter, as it was put in.
    pub parameters: Parameters,
    /// The design decisions that it is about.
    pub designs: Vec<String>,
    /// The disks, by name.
    pub disks: BTreeMap<String, DiskSpec>,
    /// Requests that may fail.
    pub faults: u32,
    /// Power losses.
    pub crashes: u32,
    /// What an exhaustive exploration must reach.
    pub marks: Vec<String>,
    pub(crate) setup: Vec<Step>,
    pub(crate) actors: Vec<(String, Vec<Step>)>,
    pub(crate) load: Option<LoadOptions>,
}

/// Fill tags are above those of guest writes.
const FIRST_FILL_TAG: u64 = 0xF000_0000;

impl Script {
    /// Reads a scenario and puts `set` in the place of its parameters' own values.
    ///
    /// # Errors
    /// Says which key or step is wrong.
    pub fn compile(text: &str, set: &Parameters) -> Result<Self, ScriptError> {
        let value = parse_json(text).map_err(|error| ScriptError(error.to_string()))?;
        let Value::Dict(mut top) = value else {
            return Err(ScriptError("a scenario is an object".into()));
        };
        let name: String = required(&mut top, "scenario")?;
        // Findings are kept in files of that name.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) || name.is_empty()
        {
            return Err(ScriptError(format!("scenario: '{name}' is no name for a scenario")));
        }
        if required::<u64>(&mut top, "version")? != 1 {
            return Err(ScriptError("version: only version 1 is known".into()));
        }
        let parameters = parameters(&mut top, set)?;
        let mut top = match substitute(Value::Dict(top), &parameters)? {
            Value::Dict(top) => top,
            _ => unreachable!("substitution keeps the shape"),
        };
        let about = required(&mut top, "about")?;
        let designs = check_designs(member(&mut top, "designs")?.unwrap_or_default())?;
        let budgets: BudgetOptions = member(&mut top, "budgets")?.unwrap_or_default();
        let script = Self {
            name,
            about,
            parameters,
            designs,
            disks: disks(required(&mut top, "disks")?)?,
            faults: budgets.faults.unwrap_or(0),
            crashes: budgets.crashes.unwrap_or(0),
            marks: member(&mut top, "marks")?.unwrap_or_default(),
            setup: steps(&mut top, "setup")?,
            actors: actors(required(&mut top, "actors")?)?,
            load: member(&mut top, "load")?,
        };
        match top.iter().next() {
            Some((key, _)) => Err(ScriptError(format!("{key}: unexpected"))),
            None => script.check(),
        }
    }

    /// The same, with these nodes added before its own setup; what is a string is converted, as in the scenario.
    ///
    /// # Errors
    /// Says which node is wrong, and its key.
    pub fn with_nodes(mut self, nodes: &[Dict]) -> Result<Self, ScriptError> {
        let step = |node: &Dict| {
            let step = Step::execute("blockdev-add", node.clone(), None);
            step.map_err(|error| ScriptError(format!("{node}: {error}")))
        };
        let steps: Vec<Step> = nodes.iter().map(step).collect::<Result<_, _>>()?;
        self.setup.splice(0..0, steps);
        Ok(self)
    }

    /// Every device that a step names is made by the setup, or by the actor before.
    fn check(self) -> Result<Self, ScriptError> {
        let mut devices = Vec::new();
        for step in &self.setup {
            step.visit_all(&mut |step| {
                if let Step::Device { id, .. } = step {
                    devices.push(id.clone());
                }
            });
        }
        if let Some(load) = &self.load {
            if !devices.contains(&load.device) {
                let device = &load.device;
                return Err(ScriptError(format!(
                    "load.device: the setup does not make the device '{device}'"
                )));
            }
            if load.length.0 == 0 {
                return Err(ScriptError("load.length: at least one byte is needed".into()));
            }
            check_length(load.length.0).map_err(|error| format!("load.length: {error}"))?;
        }
        let mut always = 0;
        self.each_step(&mut |step| always += usize::from(matches!(step, Step::Always { .. })));
        if always > self.keepers().len() {
            let message = "always: it is the last step of an actor, and he does nothing after it";
            return Err(ScriptError(message.into()));
        }
        for steps in self.actors.iter().map(|(_, steps)| steps).chain([&self.setup]) {
            let (mut known, mut unknown) = (devices.clone(), None);
            steps.iter().for_each(|step| {
                step.visit_all(&mut |step| match step {
                    Step::Device { id, .. } => known.push(id.clone()),
                    Step::Request { device, .. }
                    | Step::Flush { device }
                    | Step::CheckPath { device, .. }
                        if !known.contains(device) =>
                    {
                        unknown = Some(device.clone());
                    }
                    _ => {}
                });
            });
            if let Some(device) = unknown {
                let message = format!("the setup does not make the device '{device}'");
                return Err(ScriptError(message));
            }
        }
        Ok(self)
    }

    /// Bytes of the longest request that an actor makes.
    pub fn longest_request(&self) -> u64 {
        let mut longest = 0;
        self.each_step(&mut |step| {
            if let Step::Request { asked, .. } = step {
                longest = longest.max(asked.range.len().0);
            }
        });
        longest
    }

    /// The nodes and devices that may have a dirty bitmap: a command may be about it, or it may follow the data there.
    pub(crate) fn bitmap_owners(&self) -> BTreeSet<String> {
        let (mut owners, mut places) = (BTreeSet::new(), BTreeSet::new());
        self.each_step(&mut |step| {
            if let Step::Execute { command, arguments, .. } = step {
                owners.extend(Bitmaps::owners_in(command, arguments));
                places.extend(Bitmaps::places_in(command, arguments));
            }
        });
        if !owners.is_empty() {
            owners.extend(places);
        }
        owners
    }

    /// The names of the persistent bitmaps that are there from the beginning, and have recorded everything since.
    pub(crate) fn recording_bitmaps(&self) -> BTreeSet<String> {
        let mut recording = BTreeSet::new();
        let name =
            |arguments: &Dict| arguments.get("name").and_then(Value::as_str).map(String::from);
        for step in &self.setup {
            let Step::Execute { command, arguments, .. } = step else { continue };
            let is = |key| {
                let said = take::<Option<bool>>(&mut arguments.clone(), key, Mode::Strings);
                said.is_ok_and(|said| said == Some(true))
            };
            if command == "block-dirty-bitmap-add" && is("persistent") && !is("disabled") {
                recording.extend(name(arguments));
            }
        }
        self.each_step(&mut |step| {
            let Step::Execute { command, arguments, .. } = step else { return };
            for (kind, data) in
                actions_of(command, arguments).chain([(command.clone(), arguments.clone())])
            {
                let forgets =
                    ["-clear", "-disable", "-remove"].map(|end| format!("block-dirty-bitmap{end}"));
                if let Some(name) = name(&data).filter(|_| forgets.contains(&kind)) {
                    recording.remove(&name);
                }
            }
        });
        recording
    }

    pub(crate) fn each_step(&self, see: &mut dyn FnMut(&Step)) {
        let actors = self.actors.iter().flat_map(|(_, steps)| steps);
        self.setup.iter().chain(actors).for_each(|step| step.visit_all(see));
    }

    /// The names of the actors whose end nobody waits for.
    pub(crate) fn keepers(&self) -> Vec<&str> {
        let keeps = |steps: &[Step]| matches!(steps.last(), Some(Step::Always { .. }));
        let keepers = self.actors.iter().filter(|(_, steps)| keeps(steps));
        keepers.map(|(name, _)| name.as_str()).collect()
    }

    /// The names of the actors.
    pub fn actor_names(&self) -> Vec<&str> {
        self.actors.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn required<T: serde::de::DeserializeOwned>(
    top: &mut Dict,
    key: &'static str,
) -> Result<T, ScriptError> {
    member(top, key)?.ok_or_else(|| ScriptError(format!("{key}: missing")))
}

fn parameters(top: &mut Dict, set: &Parameters) -> Result<Parameters, ScriptError> {
    let mut parameters: Parameters = member(top, "parameters")?.unwrap_or_default();
    for (name, value) in set {
        let known: Vec<String> = parameters.keys().cloned().collect();
        let place = parameters.get_mut(name).ok_or_else(|| {
            let known = known.join(", ");
            ScriptError(format!("the scenario has no parameter '{name}'; it has {known}"))
        })?;
        place.clone_from(value);
    }
    // They are kept as words K=V.
    let is_word = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let fine = |(name, value): &(&String, &String)| {
        is_word(name) && is_word(value) && !name.contains('=') && !name.is_empty()
    };
    match parameters.iter().find(|parameter| !fine(parameter)) {
        Some((name, value)) => Err(ScriptError(format!(
            "parameters.{name}: '{value}': words without spaces are needed"
        ))),
        None => Ok(parameters),
    }
}

/// Puts values in the place of strings that are `$` and a parameter's name.
fn substitute(value: Value, parameters: &Parameters) -> Result<Value, ScriptError> {
    Ok(match value {
        Value::Str(text) => match text.strip_prefix('$') {
            None => Value::Str(text),
            Some(name) => {
                let missing = || ScriptError(format!("'${name}': there is no such parameter"));
                Value::Str(parameters.get(name).ok_or_else(missing)?.clone())
            }
        },
        Value::List(items) => {
            let items = items.into_iter().map(|item| substitute(item, parameters));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Value::Dict(dict) => {
            let members =
                dict.into_iter().map(|(key, value)| Ok((key, substitute(value, parameters)?)));
            Value::Dict(members.collect::<Result<Dict, ScriptError>>()?)
        }
        other => other,
    })
}

fn check_designs(designs: Vec<String>) -> Result<Vec<String>, ScriptError> {
    let known: Vec<&str> = decisions().iter().map(|decision| decision.key).collect();
    match designs.iter().find(|design| !known.contains(&design.as_str())) {
        Some(design) => Err(ScriptError(format!("designs: there is no decision '{design}'"))),
        None => Ok(designs),
    }
}

fn disks(disks: Dict) -> Result<BTreeMap<String, DiskSpec>, ScriptError> {
    let mut tag = FIRST_FILL_TAG;
    let disk = |(name, value): (String, Value)| {
        let at = |error: blockyard_qmp::VisitError| error.within(&name).within("disks").to_string();
        let options: DiskOptions = visit(&value, Mode::Strings).map_err(at)?;
        let image = options.qcow2.map(ImageOptions::bytes).transpose();
        let wrong = |error| ScriptError(format!("disks.{name}.qcow2: {error}"));
        let qcow2 = image.map_err(wrong)?;
        let dedup = options.dedup.map(DedupOptions::bytes).transpose();
        let dedup = dedup.map_err(|error| ScriptError(format!("disks.{name}.dedup: {error}")))?;
        let luks = options.luks.map(LuksOptions::bytes).transpose();
        let luks = luks.map_err(|error| ScriptError(format!("disks.{name}.luks: {error}")))?;
        let (luks, luks_key) = luks.unzip();
        let mut images = [qcow2, dedup, luks].into_iter().flatten();
        let image = images.next().map(Arc::new);
        let is_one = images.next().is_none();
        let size = match (options.size, &image) {
            (Some(size), None) => size.0,
            (None, Some(image)) if is_one => image.len() as u64,
            _ => {
                let message = "either its size is needed, or the image that it begins with";
                return Err(ScriptError(format!("disks.{name}: {message}")));
            }
        };
        let capacity = options.capacity.map_or(size, |capacity| capacity.0);
        if capacity == 0 || !size.is_multiple_of(512) {
            return Err(ScriptError(format!(
                "disks.{name}.size: a multiple of 512 is needed; 0 only beside a capacity"
            )));
        }
        if capacity < size || !capacity.is_multiple_of(512) {
            return Err(ScriptError(format!(
                "disks.{name}.capacity: a multiple of 512, not less than its size of {size}, is needed"
            )));
        }
        let alignment = options.alignment.map_or(1, |alignment| alignment.0);
        if !alignment.is_power_of_two() || alignment > u64::from(Limits::MAX_ALIGNMENT) {
            return Err(ScriptError(format!(
                "disks.{name}.alignment: a power of two up to {} is needed",
                Limits::MAX_ALIGNMENT
            )));
        }
        let alignment = u32::try_from(alignment).expect("just-compared");
        let unique = options.fill == Some(Fill::Unique);
        tag += u64::from(unique);
        let fill_tag = if unique { tag } else { 0 };
        let latency = options.latency.map(LatencyOptions::latency).transpose();
        let wrong = |error| ScriptError(format!("disks.{name}.latency.{error}"));
        let latency = latency.map_err(wrong)?.unwrap_or_default();
        Ok((name, DiskSpec { size, capacity, alignment, fill_tag, image, luks_key, latency }))
    };
    disks.into_iter().map(disk).collect()
}

fn steps(top: &mut Dict, key: &'static str) -> Result<Vec<Step>, ScriptError> {
    let Some(value) = member::<Value>(top, key)? else { return Ok(Vec::new()) };
    parse_steps(&value).map_err(|error| ScriptError(format!("{key}: {error}")))
}

fn actors(actors: Dict) -> Result<Vec<(String, Vec<Step>)>, ScriptError> {
    let actor = |(name, value): (String, Value)| {
        let fine = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.is_empty();
        if !fine {
            return Err(ScriptError(format!("actors: '{name}' is no name for an actor")));
        }
        // On a tape tasks are known by their names.
        if ["setup", "load"].contains(&name.as_str()) {
            return Err(ScriptError(format!("actors: '{name}' is another task's name")));
        }
        let steps = parse_steps(&value);
        let steps = steps.map_err(|error| ScriptError(format!("actors.{name}: {error}")))?;
        Ok((name, steps))
    };
    actors.into_iter().map(actor).collect()
}
