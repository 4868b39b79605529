//! Objects: `object-add`, `object-del`, `qom-get` and `qom-set`, and where nodes find them.
//!
//! Source: QEMU's documented commands of these names. Differs: of the types there are `secret` and `throttle-group`;
//! the one property that is told and changed is a group's `limits`, where what is left out stays as it is.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_crypto::Secret;
use blockyard_drivers::{ThrottleGroup, ThrottleLimits};
use blockyard_sync::Shared;
use serde::Deserialize;
use serde::de::Error as _;

use crate::blockdev::is_identifier;
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::secrets::parse_secret;
use crate::throttling::{Limits, group_in, shown};
use crate::value::{Dict, Value};
use crate::visitor::{Mode, VisitError, take, visit};

/// By id.
pub(crate) type Objects = Shared<BTreeMap<String, Object>>;

#[derive(Clone)]
pub(crate) enum Object {
    Secret(Arc<Secret>),
    ThrottleGroup(Arc<ThrottleGroup>),
}

/// An object that may be added.
pub(crate) struct ObjectAdd {
    id: String,
    new: New,
}

enum New {
    Secret(Secret),
    ThrottleGroup(ThrottleLimits),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum QomType {
    Secret,
    ThrottleGroup,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupOptions {
    limits: Option<Limits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ObjectDel {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QomGet {
    path: String,
    property: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QomSet {
    path: String,
    property: String,
    value: Dict,
}

impl ObjectAdd {
    pub fn parse(mut options: Dict, mode: Mode) -> Result<Self, VisitError> {
        let qom_type = take(&mut options, "qom-type", mode)?;
        let id: String = take(&mut options, "id", mode)?;
        if !is_identifier(&id) {
            let said = "an identifier is needed: a letter, then letters, digits, '-', '.' and '_'";
            return Err(VisitError::custom(said).within("id"));
        }
        let new = match qom_type {
            QomType::Secret => New::Secret(parse_secret(options, mode)?),
            QomType::ThrottleGroup => {
                let GroupOptions { limits } = visit(&Value::Dict(options), mode)?;
                let limits = limits.unwrap_or_default().over(ThrottleLimits::default())?;
                New::ThrottleGroup(limits)
            }
        };
        Ok(Self { id, new })
    }
}

impl Monitor {
    pub(crate) fn object(&self, id: &str) -> Option<Object> {
        self.objects().read(|objects| objects.get(id).cloned())
    }

    pub(crate) fn object_add(&self, ObjectAdd { id, new }: ObjectAdd) -> Result<(), QmpError> {
        let object = match new {
            New::Secret(secret) => Object::Secret(Arc::new(secret)),
            New::ThrottleGroup(limits) => {
                Object::ThrottleGroup(Arc::new(ThrottleGroup::new(limits, self.layer().design())))
            }
        };
        let taken = || QmpError::generic(format!("id: there is an object '{id}' already"));
        let added = self.objects().write(|objects| {
            let free = !objects.contains_key(&id);
            if free {
                objects.insert(id.clone(), object);
            }
            free
        });
        added.then_some(()).ok_or_else(taken)
    }

    pub(crate) fn object_del(&self, ObjectDel { id }: &ObjectDel) -> Result<(), QmpError> {
        if let Some(Object::ThrottleGroup(_)) = self.object(id)
            && let Some(node) = self.any_node_with(|options| group_in(options) == Some(id))
        {
            return Err(QmpError::generic(format!("id: node '{node}' is in the group '{id}'")));
        }
        let removed = self.objects().write(|objects| objects.remove(id));
        let missing = || QmpError::generic(format!("id: there is no object '{id}'"));
        removed.map(drop).ok_or_else(missing)
    }

    pub(crate) fn qom_get(&self, QomGet { path, property }: &QomGet) -> Result<Value, QmpError> {
        Ok(shown(self.group_with(path, property)?.limits()))
    }

    pub(crate) fn qom_set(&self, set: &QomSet, mode: Mode) -> Result<(), QmpError> {
        let group = self.group_with(&set.path, &set.property)?;
        let said: Result<Limits, _> = visit(&Value::Dict(set.value.clone()), mode);
        let said = said.map_err(|error| error.within("value"))?;
        let limits = said.over(group.limits()).map_err(|error| error.within("value"))?;
        group.set_limits(limits, self.layer().runtime());
        Ok(())
    }

    /// The group at `path`, which has the property.
    fn group_with(&self, path: &str, property: &str) -> Result<Arc<ThrottleGroup>, QmpError> {
        let id = path.strip_prefix("/objects/").unwrap_or(path);
        match self.object(id) {
            None => Err(QmpError::generic(format!("path: there is no object '{path}'"))),
            Some(Object::ThrottleGroup(group)) if property == "limits" => Ok(group),
            Some(_) => {
                let said = format!("property: object '{id}' has no property '{property}'");
                Err(QmpError::generic(said))
            }
        }
    }
}
