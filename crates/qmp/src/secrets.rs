//! Secrets: objects of the type `secret`, and where nodes find them.
//!
//! Invariant `secrets-are-not-shown`: what a secret holds is in no error and no reply; whoever writes commands down
//! shows [`without_secrets`] of them.
//!
//! Source: QEMU's documented object type `secret`. Differs: only `data` is read, `file` would need files that are no
//! disks; secrets that are encrypted themselves (`keyid`, `iv`) are not implemented.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use base64ct::{Base64, Encoding};
use blockyard_crypto::Secret;
use serde::Deserialize;
use serde::de::Error as _;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::objects::Object;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Problem, VisitError, visit};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SecretOptions {
    format: Option<Format>,
    loaded: Option<bool>,
    file: Option<String>,
    keyid: Option<String>,
    iv: Option<String>,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Raw,
    Base64,
}

/// What `object-add` says of a secret, but for its type and id.
pub(crate) fn parse_secret(mut options: Dict, mode: Mode) -> Result<Secret, VisitError> {
    // Taken out first, by hand: a visitor's error would tell what it did not like.
    let data = options.remove("data");
    let options: SecretOptions = visit(&Value::Dict(options), mode)?;
    let given = [
        ("file", options.file.is_some(), "give the secret as 'data'"),
        ("keyid", options.keyid.is_some(), "give the secret as it is"),
        ("iv", options.iv.is_some(), "give the secret as it is"),
        ("loaded", options.loaded == Some(false), "leave it out"),
    ];
    if let Some((key, _, instead)) = given.into_iter().find(|(_, given, _)| *given) {
        let said = format!("not implemented; {instead}");
        return Err(VisitError::from(Problem::Invalid(said)).within(key));
    }
    let data = match data {
        Some(Value::Str(data)) => Ok(data),
        Some(_) => Err(VisitError::custom("a string is needed").within("data")),
        None => Err(VisitError::missing_field("data")),
    }?;
    let bytes = match options.format {
        Some(Format::Base64) => Base64::decode_vec(&data)
            .map_err(|_| VisitError::custom("is not base64").within("data"))?,
        _ => data.into_bytes(),
    };
    Ok(Secret::new(bytes))
}

/// The arguments of a command as they may be shown and written down.
pub fn without_secrets(command: &str, arguments: &Dict) -> Dict {
    let mut shown = arguments.clone();
    if command == "object-add" && shown.remove("data").is_some() {
        shown.insert("data", Value::Str("(not shown)".into()));
    }
    shown
}

impl Monitor {
    /// The secret of that id.
    pub(crate) fn secret(&self, id: &str) -> Result<Arc<Secret>, QmpError> {
        match self.object(id) {
            Some(Object::Secret(secret)) => Ok(secret),
            _ => Err(QmpError::generic(format!("key-secret: there is no secret '{id}'"))),
        }
    }
}
