//! What is in the images in the end, as a `qemu-storage-daemon` reads both sides' of them: guest-visible bytes, where
//! the longer of two has zeroes behind the other's end, and the bitmaps that are stored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use blockyard_peer::{Ask, Daemon, Nbd, Op, PeerError};
use blockyard_scenario::Script;
use blockyard_scenario::turns::{self, Broken, Difference};
use serde_json::{Value as Json, json};

use crate::files::Images;
use crate::progress::Interrupt;

const PIECE: u64 = 1 << 20;
const MAGIC: &[u8] = b"QFI\xfb";
/// The longest name of a backing file.
const NAME_MAX: u32 = 1023;

fn broken(error: PeerError) -> Broken {
    match error {
        PeerError::Stopped => Broken::Interrupted,
        error => Broken::Failed("qemu", error.to_string()),
    }
}

/// Where two sides' images differ.
pub(super) fn compare(
    script: &Script,
    ours: &Images,
    theirs: &Images,
    interrupt: Interrupt,
) -> Result<Vec<Difference>, Broken> {
    let mut daemon = Daemon::start(move || interrupt.is_set()).map_err(broken)?;
    let chains = turns::chains(script);
    let mut differences = Vec::new();
    for disk in script.disks.keys() {
        let said = match (there(ours, disk), there(theirs, disk)) {
            (None, None) => None,
            (Some(_), Some(_)) => compare_disk(&mut daemon, &chains, disk, [ours, theirs])?,
            (ours, _) => {
                let is = |there: bool| String::from(if there { "there" } else { "not there" });
                Some([is(ours.is_some()), is(ours.is_none())])
            }
        };
        differences.extend(said.map(|[ours, theirs]| Difference {
            step: "in the end".into(),
            what: format!("image {disk}"),
            said: vec![("files".into(), ours), ("qemu".into(), theirs)],
            expected: None,
        }));
    }
    daemon.quit().map_err(broken)?;
    Ok(differences)
}

fn there<'a>(images: &'a Images, disk: &str) -> Option<&'a Path> {
    images.path(disk).filter(|path| path.exists())
}

/// The name of its backing file, of a qcow2 image; nothing of another.
///
/// Source: QEMU's docs/interop/qcow2.txt, header.
fn backing(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut header = [0; 20];
    if file.read_exact(&mut header).is_err() || !header.starts_with(MAGIC) {
        return Ok(None);
    }
    let [.., a, b, c, d, e, f, g, h, w, x, y, z] = header;
    let at = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let len = u32::from_be_bytes([w, x, y, z]);
    let mut name = vec![0; len.min(NAME_MAX) as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut name)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

/// Nobody else is kept from it.
fn node(driver: &str, path: &Path) -> Json {
    json!({
        "driver": driver, "read-only": true, "force-share": true,
        "file": { "driver": "file", "filename": path },
    })
}

/// The options of a node that shows an image's disk, over what it names as its backing file, or was used over.
fn options(images: &Images, chains: &BTreeMap<String, String>, disk: &str) -> io::Result<Json> {
    let path = there(images, disk).ok_or(io::ErrorKind::NotFound)?;
    let Some(backing) = backing(path)? else {
        return Ok(node("raw", path));
    };
    let mut options = node("qcow2", path);
    let mut named = [Some(&backing), chains.get(disk)].into_iter().flatten();
    if let Some(backing) = named.find(|disk| there(images, disk).is_some()) {
        options["backing"] = self::options(images, chains, backing)?;
    }
    Ok(options)
}

/// What each has, if that is not the same.
fn compare_disk(
    daemon: &mut Daemon,
    chains: &BTreeMap<String, String>,
    disk: &str,
    sides: [&Images; 2],
) -> Result<Option<[String; 2]>, Broken> {
    let mut opened = Vec::new();
    let mut said = Vec::new();
    for (index, images) in sides.into_iter().enumerate() {
        let name = format!("{disk}-{index}");
        let cannot = |error: io::Error| Broken::Failed("qemu", format!("{disk}: {error}"));
        let mut options = options(images, chains, disk).map_err(cannot)?;
        options["node-name"] = json!(name);
        let added = daemon.execute("blockdev-add", &options).map_err(broken)?;
        match added {
            Ok(_) => {
                let bitmaps = bitmaps(daemon, &name)?;
                let export = daemon.export(&name, &name, false).map_err(broken)?;
                let refused = |error| Broken::Failed("qemu", format!("{disk}: {error}"));
                opened.push((name, export.map_err(refused)?));
                said.push(bitmaps);
            }
            Err(error) => said.push(format!("it cannot be opened: {}", error["desc"])),
        }
    }
    let bytes = match &mut opened[..] {
        [(_, ours), (_, theirs)] => first_difference(ours, theirs)?,
        _ => None,
    };
    for (name, nbd) in opened {
        drop(nbd);
        let arguments = json!({ "id": name, "mode": "hard" });
        daemon.done("block-export-del", &arguments).map_err(broken)?;
    }
    let said = <[String; 2]>::try_from(said).unwrap_or_default();
    Ok(bytes.or_else(|| (said[0] != said[1]).then_some(said)))
}

/// The bitmaps of a node, with the hashes of their bits.
fn bitmaps(daemon: &mut Daemon, node: &str) -> Result<String, Broken> {
    let nodes = daemon.done("query-named-block-nodes", &json!({})).map_err(broken)?;
    let nodes = nodes.as_array().into_iter().flatten();
    let bitmaps = nodes
        .filter(|of| of["node-name"] == node)
        .flat_map(|of| of["dirty-bitmaps"].as_array().cloned().unwrap_or_default());
    let mut bitmaps: Vec<Json> = bitmaps.collect();
    bitmaps.sort_by_key(|bitmap| bitmap["name"].to_string());
    for bitmap in &mut bitmaps {
        let which = json!({ "node": node, "name": bitmap["name"] });
        let hash = daemon.execute("x-debug-block-dirty-bitmap-sha256", &which).map_err(broken)?;
        bitmap["bits"] = hash.map_or(Json::Null, |hash| hash["sha256"].clone());
    }
    Ok(format!("bitmaps {}", Json::Array(bitmaps)))
}

fn read(nbd: &mut Nbd, at: u64, len: u64) -> Result<Vec<u8>, Broken> {
    let len = u32::try_from(len.min(nbd.size().saturating_sub(at))).unwrap_or(u32::MAX);
    if len == 0 {
        return Ok(Vec::new());
    }
    let read = nbd.ask(&Ask { op: Op::Read, offset: at, len, data: &[], fua: false });
    let failed = |number| Broken::Failed("qemu", format!("an image cannot be read: {number}"));
    read.map_err(broken)?.map_err(failed)
}

fn first_difference(ours: &mut Nbd, theirs: &mut Nbd) -> Result<Option<[String; 2]>, Broken> {
    let mut at = 0;
    while at < ours.size().max(theirs.size()) {
        let (mut one, mut other) = (read(ours, at, PIECE)?, read(theirs, at, PIECE)?);
        let len = one.len().max(other.len());
        one.resize(len, 0);
        other.resize(len, 0);
        if let Some(index) = one.iter().zip(&other).position(|(one, other)| one != other) {
            let byte =
                |bytes: &[u8]| format!("byte {} is {:#04x}", at + index as u64, bytes[index]);
            return Ok(Some([byte(&one), byte(&other)]));
        }
        at += PIECE;
    }
    Ok(None)
}
