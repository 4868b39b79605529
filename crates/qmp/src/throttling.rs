//! What a throttle is held to, as people spell it.
//!
//! Source: QEMU's documented `ThrottleLimits`, and its object type `throttle-group`. Differs: a node may have limits of
//! its own, in the place of a group.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use blockyard_drivers::{ThrottleGroup, ThrottleLimits, Throttling};
use serde::Deserialize;
use serde::de::Error as _;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::objects::Object;
use crate::reopen::DriverOptions;
use crate::value::{Dict, Value};
use crate::visitor::{Problem, Size, VisitError};

/// What a node's options say.
pub(crate) enum Held {
    Own(ThrottleLimits),
    Group(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    bps_total: Option<Size>,
    bps_total_max: Option<Size>,
    bps_total_max_length: Option<u64>,
    bps_read: Option<Size>,
    bps_read_max: Option<Size>,
    bps_read_max_length: Option<u64>,
    bps_write: Option<Size>,
    bps_write_max: Option<Size>,
    bps_write_max_length: Option<u64>,
    iops_total: Option<u64>,
    iops_total_max: Option<u64>,
    iops_total_max_length: Option<u64>,
    iops_read: Option<u64>,
    iops_read_max: Option<u64>,
    iops_read_max_length: Option<u64>,
    iops_write: Option<u64>,
    iops_write_max: Option<u64>,
    iops_write_max_length: Option<u64>,
    iops_size: Option<Size>,
}

/// The keys of `limits`, with what they stand for.
fn keys(limits: &mut ThrottleLimits) -> [(&'static str, &mut u64); 19] {
    let ThrottleLimits { bps, iops, iops_size } = limits;
    [
        ("bps-total", &mut bps.total.average),
        ("bps-total-max", &mut bps.total.max),
        ("bps-total-max-length", &mut bps.total.length),
        ("bps-read", &mut bps.read.average),
        ("bps-read-max", &mut bps.read.max),
        ("bps-read-max-length", &mut bps.read.length),
        ("bps-write", &mut bps.write.average),
        ("bps-write-max", &mut bps.write.max),
        ("bps-write-max-length", &mut bps.write.length),
        ("iops-total", &mut iops.total.average),
        ("iops-total-max", &mut iops.total.max),
        ("iops-total-max-length", &mut iops.total.length),
        ("iops-read", &mut iops.read.average),
        ("iops-read-max", &mut iops.read.max),
        ("iops-read-max-length", &mut iops.read.length),
        ("iops-write", &mut iops.write.average),
        ("iops-write-max", &mut iops.write.max),
        ("iops-write-max-length", &mut iops.write.length),
        ("iops-size", iops_size),
    ]
}

/// All of them, as they are shown.
pub(crate) fn shown(mut limits: ThrottleLimits) -> Value {
    let mut dict = Dict::new();
    for (key, number) in keys(&mut limits) {
        dict.insert(key, Value::from(*number));
    }
    Value::Dict(dict)
}

impl Limits {
    /// `limits` with those that are said here.
    pub fn over(&self, mut limits: ThrottleLimits) -> Result<ThrottleLimits, VisitError> {
        let size = |size: &Option<Size>| size.as_ref().map(|size| size.0);
        // In the order of `keys`.
        let said = [
            size(&self.bps_total),
            size(&self.bps_total_max),
            self.bps_total_max_length,
            size(&self.bps_read),
            size(&self.bps_read_max),
            self.bps_read_max_length,
            size(&self.bps_write),
            size(&self.bps_write_max),
            self.bps_write_max_length,
            self.iops_total,
            self.iops_total_max,
            self.iops_total_max_length,
            self.iops_read,
            self.iops_read_max,
            self.iops_read_max_length,
            self.iops_write,
            self.iops_write_max,
            self.iops_write_max_length,
            size(&self.iops_size),
        ];
        for ((_, number), said) in keys(&mut limits).into_iter().zip(said) {
            *number = said.unwrap_or(*number);
        }
        let wrong = |said| VisitError::from(Problem::Invalid(said)).within("limits");
        limits.check().map(|()| limits).map_err(wrong)
    }
}

impl Held {
    pub fn parse(limits: Option<Limits>, group: Option<String>) -> Result<Self, VisitError> {
        match (limits, group) {
            (Some(_), Some(_)) => {
                Err(VisitError::custom("not beside 'limits': the group has them")
                    .within("throttle-group"))
            }
            (limits, None) => {
                Ok(Self::Own(limits.unwrap_or_default().over(ThrottleLimits::default())?))
            }
            (None, Some(group)) => Ok(Self::Group(group)),
        }
    }

    /// As options of a node's driver.
    pub fn driver_options(&self) -> DriverOptions {
        match self {
            Self::Group(group) => [(GROUP, group.clone())].into(),
            Self::Own(limits) => {
                let mut limits = *limits;
                let number = |(key, number): (&'static str, &mut u64)| (key, number.to_string());
                let mut options: DriverOptions = keys(&mut limits).map(number).into();
                options.insert(GROUP, String::new());
                options
            }
        }
    }
}

/// The option that names the group.
const GROUP: &str = "throttle-group";

/// Whether a throttle's option may change when its node is reopened.
pub(crate) fn changes(option: &str) -> bool {
    option == GROUP || keys(&mut ThrottleLimits::default()).iter().any(|(key, _)| *key == option)
}

/// The group that a node's driver was made with, if it is in one.
pub(crate) fn group_in(options: &DriverOptions) -> Option<&str> {
    options.get(GROUP).map(String::as_str).filter(|group| !group.is_empty())
}

impl Monitor {
    /// What a driver is held to.
    pub(crate) fn throttling(&self, held: &Held) -> Result<Throttling, QmpError> {
        Ok(match held {
            Held::Own(limits) => Throttling::Own(*limits),
            Held::Group(id) => Throttling::Group(self.throttle_group(id)?),
        })
    }

    fn throttle_group(&self, id: &str) -> Result<Arc<ThrottleGroup>, QmpError> {
        match self.object(id) {
            Some(Object::ThrottleGroup(group)) => Ok(group),
            _ => Err(QmpError::generic(format!("{GROUP}: there is no throttle group '{id}'"))),
        }
    }
}
