//! A `qemu-storage-daemon` as a side: commands go to its monitor, each device is an NBD export.
//!
//! What is ours and has a counterpart is put into its words:
//! - a file is named by the scenario's disk;
//! - a device is a writable NBD export, a device without medium is none, and where a command takes a device's name for
//!   its node, the node is named;
//! - a throttle has its limits in an object of its own;
//! - an export keeps its length, and its node from being resized, so it is taken away while that is done;
//! - a copy is a read and a write.

use std::collections::BTreeMap;
use std::time::Duration;

use blockyard_peer::{Ask, Daemon, Nbd, Op, PeerError};
use blockyard_qmp::{Dict, Value, parse_json};
use blockyard_scenario::turns::{Broken, Deed, Reply, Side, Told};
use blockyard_scenario::{Asked, Request};
use blockyard_units::ByteRange;
use serde_json::{Value as Json, json};

use super::schema::Schema;
use crate::files::Images;
use crate::progress::Interrupt;

pub(super) struct Theirs {
    daemon: Daemon,
    schema: Schema,
    images: Images,
    /// All that there will be.
    ids: Vec<String>,
    /// With the clients of those that have a medium.
    devices: BTreeMap<String, Option<Nbd>>,
    events: Vec<Told>,
}

/// How differences call it.
const NAME: &str = "qemu";

fn broken(error: PeerError) -> Broken {
    match error {
        PeerError::Stopped => Broken::Interrupted,
        error => Broken::Failed(NAME, error.to_string()),
    }
}

fn ours(json: &Json) -> Result<Value, Broken> {
    parse_json(&json.to_string())
        .map_err(|error| Broken::Failed(NAME, format!("it said what nobody understands: {error}")))
}

fn theirs(value: &Value) -> Json {
    serde_json::from_str(&value.to_string()).unwrap_or(Json::Null)
}

fn refused(error: &Json) -> Reply {
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_string();
    Reply::Refused { class: text("class"), desc: text("desc") }
}

fn done() -> Reply {
    Reply::Done(Value::Dict(Dict::new()))
}

/// NBD's errors, by their numbers.
fn failed(number: u32) -> Reply {
    let name = match number {
        1 => "EPERM",
        5 => "EIO",
        12 => "ENOMEM",
        22 => "EINVAL",
        28 => "ENOSPC",
        75 => "EOVERFLOW",
        95 => "ENOTSUP",
        108 => "ESHUTDOWN",
        _ => "an error without a name",
    };
    Reply::Failed(name.into())
}

impl Theirs {
    pub fn start(
        images: Images,
        ids: Vec<String>,
        interrupt: Interrupt,
    ) -> Result<Self, PeerError> {
        let mut daemon = Daemon::start(move || interrupt.is_set())?;
        let schema = daemon.done("query-qmp-schema", &json!({}))?;
        let schema = ours(&schema).map_err(|_| PeerError::Failed("qemu: no schema".into()))?;
        let (devices, events) = (BTreeMap::new(), Vec::new());
        Ok(Self { daemon, schema: Schema::new(&schema), images, ids, devices, events })
    }

    pub fn version(&self) -> &str {
        self.daemon.version()
    }

    fn command(&mut self, command: &str, arguments: &Json) -> Result<Reply, Broken> {
        match self.daemon.execute(command, arguments).map_err(broken)? {
            Ok(value) => ours(&value).map(Reply::Done),
            Err(error) => Ok(refused(&error)),
        }
    }

    fn execute(&mut self, command: &str, arguments: &Dict) -> Result<Reply, Broken> {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
        match command {
            "blockdev-remove-medium" => return self.remove(text("id")),
            "blockdev-insert-medium" => return self.insert(text("id"), text("node-name")),
            _ => {}
        }
        let mut arguments = Value::Dict(arguments.clone());
        let mut limits = Vec::new();
        self.in_their_words(&mut arguments, &mut limits);
        self.name_nodes(&mut arguments)?;
        let arguments = arguments.into_dict().unwrap_or_default();
        for (id, limits) in limits {
            let group = json!({ "qom-type": "throttle-group", "id": id, "limits": limits });
            self.command("object-add", &group)?;
        }
        let typed = self.schema.typed(command, &arguments);
        let typed = typed.map_err(|why| Broken::Failed(NAME, why))?;
        if command == "block_resize" {
            return self.resize(&theirs(&typed));
        }
        self.command(command, &theirs(&typed))
    }

    /// Puts file names and throttles into its words; the groups that it needs.
    fn in_their_words(&self, value: &mut Value, limits: &mut Vec<(String, Json)>) {
        match value {
            Value::List(items) => {
                items.iter_mut().for_each(|item| self.in_their_words(item, limits));
            }
            Value::Dict(dict) => {
                if dict.get("driver") == Some(&"throttle".into())
                    && !dict.contains_key("throttle-group")
                {
                    let name = dict.get("node-name").and_then(Value::as_str).unwrap_or_default();
                    let id = format!("group-{name}");
                    dict.insert("throttle-group", id.as_str());
                    let of = dict.remove("limits").unwrap_or_else(|| Value::Dict(Dict::new()));
                    limits.push((id, numbers(&of)));
                }
                let keys: Vec<String> = dict.iter().map(|(key, _)| key.to_string()).collect();
                for key in keys {
                    let Some(value) = dict.get_mut(&key) else { continue };
                    let path = value.as_str().and_then(|name| self.images.path(name));
                    match path.filter(|_| key == "filename") {
                        Some(path) => *value = path.to_string_lossy().as_ref().into(),
                        None => self.in_their_words(value, limits),
                    }
                }
            }
            _ => {}
        }
    }

    /// The device whose own bitmaps a command, or an action of it, is about.
    fn bitmaps_of<'a>(&self, command: &str, arguments: &'a Value) -> Option<&'a str> {
        let dict = arguments.as_dict()?;
        let list = |key| dict.get(key).and_then(Value::as_list).unwrap_or_default().iter();
        if command == "transaction" {
            return list("actions").filter_map(Value::as_dict).find_map(|action| {
                self.bitmaps_of(action.get("type")?.as_str()?, action.get("data")?)
            });
        }
        if !command.starts_with("block-dirty-bitmap-") {
            return None;
        }
        let node = dict.get("node").and_then(Value::as_str);
        let device = node.filter(|node| self.ids.iter().any(|id| id == node));
        device.or_else(|| list("bitmaps").find_map(|bitmap| self.bitmaps_of(command, bitmap)))
    }

    /// Names the nodes of devices where a device's name stands for its node.
    fn name_nodes(&mut self, value: &mut Value) -> Result<(), Broken> {
        let devices = self.devices()?;
        name_nodes(value, &devices);
        Ok(())
    }

    fn insert(&mut self, id: &str, node: &str) -> Result<Reply, Broken> {
        let Some(device) = self.devices.get(id) else { return Ok(unknown(id)) };
        if device.is_some() {
            let desc = format!("device '{id}' has a medium");
            return Ok(Reply::Refused { class: "GenericError".into(), desc });
        }
        match self.daemon.export(id, node, true).map_err(broken)? {
            Ok(nbd) => {
                self.devices.insert(id.into(), Some(nbd));
                Ok(done())
            }
            Err(error) => Ok(refused(&error)),
        }
    }

    fn remove(&mut self, id: &str) -> Result<Reply, Broken> {
        let Some(device) = self.devices.get_mut(id) else { return Ok(unknown(id)) };
        if device.take().is_none() {
            return Ok(done());
        }
        let reply = self.command("block-export-del", &json!({ "id": id, "mode": "hard" }))?;
        loop {
            let exports = self.daemon.done("query-block-exports", &json!({})).map_err(broken)?;
            let mut exports = exports.as_array().into_iter().flatten();
            if !exports.any(|export| export["id"] == id) {
                return Ok(reply);
            }
            self.pause()?;
        }
    }

    /// Of an export whose node no one may resize, and which keeps its length.
    fn resize(&mut self, arguments: &Json) -> Result<Reply, Broken> {
        let devices = self.devices()?;
        for id in devices.keys() {
            self.remove(id)?;
        }
        let reply = self.command("block_resize", arguments)?;
        for (id, (node, _)) in devices {
            self.insert(&id, &node)?;
        }
        Ok(reply)
    }

    fn request(&mut self, device: &str, asked: Asked, data: &[u8]) -> Result<Reply, Broken> {
        let op = match asked.kind {
            Request::Read => Op::Read,
            Request::Write => Op::Write,
            Request::Zeroes => Op::Zeroes { unmap: asked.flags.may_unmap },
            Request::Discard => Op::Trim,
            Request::Copy => {
                let from = ByteRange::new(asked.from, asked.range.len().0);
                let read = self.request(device, Asked::plain(Request::Read, from), &[])?;
                let Reply::Data(data) = read else { return Ok(read) };
                return self.request(device, Asked { kind: Request::Write, ..asked }, &data);
            }
            Request::Compressed | Request::Status => {
                let word = asked.kind.word();
                return Err(Broken::Failed(NAME, format!("{word}: not over NBD")));
            }
        };
        let len = u32::try_from(asked.range.len().0).unwrap_or(u32::MAX);
        self.ask(device, Ask { op, offset: asked.range.start(), len, data, fua: asked.flags.fua })
    }

    fn ask(&mut self, device: &str, ask: Ask<'_>) -> Result<Reply, Broken> {
        let Some(Some(nbd)) = self.devices.get_mut(device) else {
            return Ok(Reply::Failed("refused".into()));
        };
        Ok(match nbd.ask(&ask).map_err(broken)? {
            Ok(data) if ask.op == Op::Read => Reply::Data(data),
            Ok(_) => done(),
            Err(number) => failed(number),
        })
    }
}

fn unknown(id: &str) -> Reply {
    Reply::Refused { class: "DeviceNotFound".into(), desc: format!("there is no device '{id}'") }
}

/// Limits are numbers, perhaps in words.
fn numbers(limits: &Value) -> Json {
    let none = Dict::new();
    let members = limits.as_dict().unwrap_or(&none).iter();
    let number = |value: &Value| {
        let size = blockyard_qmp::visit::<blockyard_qmp::Size>(value, blockyard_qmp::Mode::Strings);
        size.map_or(Json::Null, |size| json!(size.0))
    };
    Json::Object(members.map(|(key, value)| (key.to_string(), number(value))).collect())
}

/// Where a command takes a node or a device.
const NODE_KEYS: &[&str] = &["node", "device", "node-name"];

fn name_nodes(value: &mut Value, devices: &BTreeMap<String, (String, u64)>) {
    match value {
        Value::List(items) => items.iter_mut().for_each(|item| name_nodes(item, devices)),
        Value::Dict(dict) => {
            let keys: Vec<String> = dict.iter().map(|(key, _)| key.to_string()).collect();
            for key in keys {
                let Some(value) = dict.get_mut(&key) else { continue };
                let node = value.as_str().and_then(|name| devices.get(name));
                match node.filter(|_| NODE_KEYS.contains(&key.as_str())) {
                    Some((node, _)) => *value = node.as_str().into(),
                    None => name_nodes(value, devices),
                }
            }
        }
        _ => {}
    }
}

impl Side for Theirs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn refuses(&self, deed: &Deed<'_>) -> Option<String> {
        match deed {
            Deed::Execute {
                command: "blockdev-remove-medium" | "blockdev-insert-medium", ..
            } => None,
            Deed::Execute { command, arguments } => {
                let mut arguments = Value::Dict((*arguments).clone());
                self.in_their_words(&mut arguments, &mut Vec::new());
                if let Some(id) = self.bitmaps_of(command, &arguments) {
                    let why = "QEMU has bitmaps of nodes, and none of devices";
                    return Some(format!("{command}: {id}: {why}"));
                }
                let arguments = arguments.into_dict().unwrap_or_default();
                self.schema.typed(command, &arguments).err()
            }
            Deed::Attach { id, reports: false, .. } => {
                Some(format!("device {id}: an NBD export has neither rerror nor werror"))
            }
            Deed::Attach { id, resizes: true, .. } => {
                Some(format!("device {id}: an NBD export does not grow with what is written"))
            }
            Deed::Request { asked, .. } => {
                let word = asked.kind.word();
                match asked.kind {
                    Request::Compressed | Request::Status => {
                        Some(format!("{word}: NBD has no such request"))
                    }
                    _ if asked.cancel_after.is_some() => {
                        Some(format!("{word}: an NBD request cannot be given up (cancel-after)"))
                    }
                    _ if asked.flags.serialising || asked.flags.no_fallback => {
                        Some(format!("{word}: NBD has no flag serialising or no-fallback"))
                    }
                    _ => None,
                }
            }
            Deed::Attach { .. } | Deed::Flush { .. } => None,
        }
    }

    fn play(&mut self, deed: &Deed<'_>) -> Result<Reply, Broken> {
        match deed {
            Deed::Execute { command, arguments } => self.execute(command, arguments),
            Deed::Attach { id, node, .. } => {
                self.devices.insert((*id).into(), None);
                self.insert(id, node)
            }
            Deed::Request { device, asked, data } => self.request(device, *asked, data),
            Deed::Flush { device } => {
                let ask = Ask { op: Op::Flush, offset: 0, len: 0, data: &[], fua: false };
                self.ask(device, ask)
            }
        }
    }

    fn events(&mut self) -> Vec<Told> {
        let told = self.daemon.events().into_iter().filter_map(|event| {
            let data = ours(&event["data"]).ok().and_then(Value::into_dict);
            Some((event["event"].as_str()?.to_string(), data.unwrap_or_default()))
        });
        // It is ours that there are exports.
        let told = told.filter(|(name, _)| name != "BLOCK_EXPORT_DELETED");
        self.events.extend(told);
        std::mem::take(&mut self.events)
    }

    fn pause(&mut self) -> Result<(), Broken> {
        self.daemon.wait_event(Duration::from_millis(1)).map_err(broken)
    }

    fn devices(&mut self) -> Result<BTreeMap<String, (String, u64)>, Broken> {
        let exports = self.daemon.done("query-block-exports", &json!({})).map_err(broken)?;
        let exports = exports.as_array().into_iter().flatten();
        let device = |export: &Json| {
            let id = export["id"].as_str()?;
            let nbd = self.devices.get(id)?.as_ref()?;
            Some((id.to_string(), (export["node-name"].as_str()?.to_string(), nbd.size())))
        };
        Ok(exports.filter_map(device).collect())
    }

    fn close(&mut self) -> Result<(), Broken> {
        let ids: Vec<String> = self.devices.keys().cloned().collect();
        for id in ids {
            self.remove(&id)?;
        }
        self.daemon.quit().map_err(broken)
    }
}
