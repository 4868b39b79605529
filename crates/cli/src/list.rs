//! `blockyard list`.

use std::fmt::Write;

use blockyard_models::Property;
use blockyard_qmp::{COMMANDS, DRIVERS};
use blockyard_scenario::{BUILTIN, Parameters, Script};
use blockyard_sim::{Families, Family};
use blockyard_units::{MUTANTS, Mutant, decisions};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::report::{Output, Status};

pub(crate) fn list(output: &Output) -> Result<Status, Failure> {
    let mut scenarios = Vec::new();
    for (name, text) in BUILTIN {
        let script = Script::compile(text, &Parameters::new())
            .map_err(|error| Failure::usage(format!("scenario {name}: {error}")))?;
        scenarios.push(script);
    }
    output.print(|| as_text(&scenarios), || as_json(&scenarios));
    Ok(Status::Clean)
}

fn mutants() -> &'static [Mutant] {
    if MUTANTS { Mutant::ALL } else { &[] }
}

fn as_text(scenarios: &[Script]) -> String {
    let mut text = String::new();
    let mut line = |word: &str, about: &str| {
        // A String takes everything.
        let _ = writeln!(text, "{word:<36} {about}");
    };
    line("Scenarios:", "");
    for script in scenarios {
        line(&format!("  {}", script.name), &script.about);
        let parameters: Vec<String> =
            script.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line("", &format!("--set {}", parameters.join(" ")));
        line("", &format!("--design {}", script.designs.join(", ")));
    }
    line("Designs (the default first):", "");
    for decision in decisions() {
        for (word, about) in &decision.values {
            line(&format!("  {}={word}", decision.key), about);
        }
    }
    line("Mutants:", "");
    mutants().iter().for_each(|mutant| line(&format!("  {mutant}"), mutant.about()));
    line("Properties:", "");
    Property::ALL
        .iter()
        .for_each(|property| line(&format!("  {}", property.word()), property.about()));
    line("Families of faults:", &Families::ALL.to_string().replace(',', ", "));
    line("Commands:", "");
    COMMANDS.iter().for_each(|(name, about)| line(&format!("  {name}"), about));
    line("Drivers:", &DRIVERS.join(", "));
    line("Seed files:", "`blockyard replay` runs one again, `blockyard shrink` makes it simpler");
    text
}

fn as_json(scenarios: &[Script]) -> Map<String, Value> {
    let scenario = |script: &Script| {
        json!({ "name": script.name, "about": script.about, "parameters": script.parameters,
                "designs": script.designs })
    };
    let decision = |decision: &blockyard_units::Decision| {
        let words: Vec<&str> = decision.values.iter().map(|(word, _)| *word).collect();
        json!({ "key": decision.key, "values": words })
    };
    let mutants: Vec<&str> = mutants().iter().map(|mutant| mutant.word()).collect();
    let properties: Vec<&str> = Property::ALL.iter().map(|property| property.word()).collect();
    let members = [
        ("scenarios", Value::from_iter(scenarios.iter().map(scenario))),
        ("designs", Value::from_iter(decisions().iter().map(decision))),
        ("mutants", json!(mutants)),
        ("properties", json!(properties)),
        ("families", Value::from_iter(Families::ALL.iter().map(Family::word))),
    ];
    members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}
