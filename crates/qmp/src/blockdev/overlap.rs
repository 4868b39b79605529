//! The option `overlap-check` of a qcow2 node: a template, or an object with one and what differs from it.

use alloc::string::String;

use blockyard_qcow2::{OverlapChecks, Structure};
use serde::de::Error as _;

use crate::value::{Dict, Reference, Value};
use crate::visitor::{Mode, VisitError, take};

const TEMPLATES: &[&str] = &["none", "constant", "cached", "all"];

/// What is to be checked; QEMU's default where nothing is said.
pub fn parse(option: Option<Reference>, mode: Mode) -> Result<OverlapChecks, VisitError> {
    match option {
        None => Ok(OverlapChecks::default()),
        Some(Reference::Name(word)) => template(&word),
        Some(Reference::Definition(flags)) => parse_flags(flags, mode),
    }
}

fn template(word: &str) -> Result<OverlapChecks, VisitError> {
    OverlapChecks::template(word).ok_or_else(|| VisitError::unknown_variant(word, TEMPLATES))
}

fn parse_flags(mut flags: Dict, mode: Mode) -> Result<OverlapChecks, VisitError> {
    let word = take::<Option<String>>(&mut flags, "template", mode)?;
    let checks = word.map_or_else(|| Ok(OverlapChecks::default()), |word| template(&word));
    let mut checks = checks.map_err(|error| error.within("template"))?;
    for structure in Structure::ALL {
        if let Some(on) = take::<Option<bool>>(&mut flags, structure.word(), mode)? {
            checks = checks.with(structure, on);
        }
    }
    crate::visitor::visit::<Nothing>(&Value::Dict(flags), mode)?;
    Ok(checks)
}

/// Whatever is left is no flag.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}
