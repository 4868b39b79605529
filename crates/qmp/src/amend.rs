//! `x-blockdev-amend`: changes the key slots of an encrypted image while it is in use, as a job of the type `amend`.
//!
//! Source: QEMU's QMP reference, BlockdevAmendOptions and QCryptoBlockAmendOptionsLUKS. Differs: all of what is wrong
//! with options that are asked for together fails the job.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::BlockError;
use blockyard_crypto::{Hash, Secret, SlotChange};
use blockyard_graph::Permissions;
use blockyard_jobs::{JobOptions, check_job_id, run_once};
use serde::Deserialize;

use crate::create::Luks;
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, VisitError, take, visit};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevAmend {
    job_id: String,
    node_name: String,
    options: Dict,
    force: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Qcow2Options {
    encrypt: Option<Dict>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SlotOptions {
    state: State,
    new_secret: Option<String>,
    old_secret: Option<String>,
    keyslot: Option<usize>,
    iter_time: Option<u64>,
    secret: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Active,
    Inactive,
}

/// What is to be done to which node.
struct Wanted {
    node: String,
    driver: &'static str,
    /// The option of the node's driver that names its secret.
    key_secret: &'static str,
    slots: Option<SlotOptions>,
    force: bool,
}

impl BlockdevAmend {
    pub fn check(self, mode: Mode) -> Result<(), QmpError> {
        check_job_id(&self.job_id)?;
        self.wanted(mode).map(drop)
    }

    fn wanted(self, mode: Mode) -> Result<Wanted, QmpError> {
        let within = |error: VisitError| error.within("options");
        let mut options = self.options;
        let driver = take::<String>(&mut options, "driver", mode).map_err(within)?;
        let slots = |options: Dict| visit::<SlotOptions>(&Value::Dict(options), mode);
        let (node, force) = (self.node_name, self.force.unwrap_or(false));
        Ok(match driver.as_str() {
            "luks" => {
                let slots = Some(slots(options).map_err(within)?);
                Wanted { node, driver: "luks", key_secret: "key-secret", slots, force }
            }
            "qcow2" => {
                let options: Qcow2Options = visit(&Value::Dict(options), mode).map_err(within)?;
                let encrypt = |mut options: Dict| {
                    take::<Luks>(&mut options, "format", mode)?;
                    slots(options)
                };
                let slots = options.encrypt.map(encrypt).transpose();
                let slots = slots.map_err(|error| within(error.within("encrypt")))?;
                Wanted { node, driver: "qcow2", key_secret: "encrypt.key-secret", slots, force }
            }
            other => {
                let said =
                    format!("options.driver: '{other}' has nothing to amend; luks and qcow2 do");
                return Err(QmpError::generic(said));
            }
        })
    }
}

impl Monitor {
    pub(crate) fn blockdev_amend(
        &self,
        arguments: BlockdevAmend,
        mode: Mode,
    ) -> Result<(), QmpError> {
        let name = arguments.job_id.clone();
        let wanted = arguments.wanted(mode)?;
        let node = self.layer().node(&wanted.node)?.id();
        let driver = self.layer().graph().node(node).map_or("", |node| node.driver);
        if driver != wanted.driver {
            let said = format!("options.driver: node '{}' has the driver {driver}", wanted.node);
            return Err(QmpError::generic(said));
        }
        let (monitor, job) = (self.clone(), name.clone());
        let work = Box::pin(async move {
            let amended = monitor.amend(&job, &wanted).await;
            amended.map_err(|error| BlockError::Invalid(error.desc))
        });
        let options = JobOptions { name, auto_finalize: true, auto_dismiss: false, speed: 0 };
        Ok(run_once(self.layer(), self.jobs(), options, "amend", work)?)
    }

    async fn amend(&self, job: &str, wanted: &Wanted) -> Result<(), QmpError> {
        let Some(slots) = &wanted.slots else { return Ok(()) };
        let change = self.slot_change(wanted, slots).await?;
        let child = self.layer().node(&wanted.node)?.id();
        let backend = self.layer().add_backend(&format!("{job}.node"))?;
        let required = Permissions::CONSISTENT_READ.union(Permissions::WRITE);
        let given = self.give_root(&backend, child, required, Permissions::ALL).await;
        let amended = match given {
            Ok(()) => {
                let amended = backend.clone().of_no_guest().amend(Arc::new(change)).await.map(drop);
                amended.and(self.take_root(&backend).await)
            }
            refused => refused,
        };
        self.layer().remove_backend(&backend);
        Ok(amended?)
    }

    async fn slot_change(
        &self,
        wanted: &Wanted,
        slots: &SlotOptions,
    ) -> Result<SlotChange, QmpError> {
        let named = |option: &str, id: &Option<String>| -> Result<Option<Arc<Secret>>, QmpError> {
            let secret = id.as_ref().map(|id| self.secret(id)).transpose();
            secret.map_err(|error| error.within(option))
        };
        let refuse = |said: &str| Err(QmpError::generic(said));
        let (new, old) =
            (named("new-secret", &slots.new_secret)?, named("old-secret", &slots.old_secret)?);
        let force = wanted.force;
        if slots.state == State::Inactive {
            if new.is_some() || slots.iter_time.is_some() {
                return refuse("new-secret and iter-time are for slots that become active");
            }
            return Ok(SlotChange::Erase { slot: slots.keyslot, old, force });
        }
        if old.is_some() {
            return refuse("old-secret is for slots that become inactive");
        }
        let Some(new) = new else {
            return refuse("new-secret is needed for a slot to become active");
        };
        let own = || {
            let node = self.layer().node(&wanted.node).ok()?.id();
            let id = self.driver_options(node)?.get(wanted.key_secret).cloned()?;
            Some(id).filter(|id| !id.is_empty())
        };
        let Some(id) = slots.secret.clone().or_else(own) else {
            return refuse("secret: a passphrase is needed that opens the image already");
        };
        let opens = self.secret(&id)?;
        let wanted_ms = slots.iter_time.unwrap_or(2000);
        let iterations = self.iterations(Hash::Sha256, &new, wanted_ms).await;
        Ok(SlotChange::Add { slot: slots.keyslot, new, opens, iterations, force })
    }
}
