//! What can be seen of a side between two steps, in words that two sides can agree in: nodes, edges, bitmaps, jobs.
//!
//! Both are asked with the same commands. Names that a side made up are those of the places where the nodes hang.

use std::collections::BTreeMap;

use blockyard_qmp::{Dict, Value};

use super::side::{Broken, Deed, Reply, Side};

/// What is there, and what it is like.
pub(super) type Look = BTreeMap<String, String>;

/// Of a node.
const ATTRIBUTES: &[&str] = &["drv", "ro", "active", "detect_zeroes"];
/// Of a bitmap.
const BITMAP: &[&str] =
    &["count", "granularity", "recording", "busy", "persistent", "inconsistent"];
/// Of a job. Its progress is an estimate.
const JOB: &[&str] = &["type", "status", "error"];

/// The drivers of filters that belong to jobs.
const JOB_FILTERS: &[&str] = &["mirror_top", "commit_top"];

/// What a query returns.
pub(super) fn ask(side: &mut dyn Side, command: &str, arguments: &Dict) -> Result<Value, Broken> {
    match side.play(&Deed::Execute { command, arguments })? {
        Reply::Done(value) => Ok(value),
        reply => Err(Broken::Failed(side.name(), format!("{command}: {reply}"))),
    }
}

fn text<'a>(dict: &'a Dict, key: &str) -> &'a str {
    dict.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn dicts(value: &Value) -> Vec<&Dict> {
    value.as_list().unwrap_or_default().iter().filter_map(Value::as_dict).collect()
}

fn members(dict: &Dict, keys: &[&str]) -> String {
    let known = keys.iter().filter_map(|key| Some(format!("{key} {}", dict.get(key)?)));
    known.collect::<Vec<_>>().join(", ")
}

/// Parent, name and child of each edge between nodes, and from devices to nodes.
fn edges(
    graph: &Value,
    devices: &BTreeMap<String, (String, u64)>,
) -> Vec<(String, String, String)> {
    let none = Dict::new();
    let graph = graph.as_dict().unwrap_or(&none);
    let listed = |key| graph.get(key).map(dicts).unwrap_or_default();
    let nodes = listed("nodes");
    // A vertex is named, or known by its number.
    let vertex = |value: Option<&Value>| {
        let found = nodes.iter().find(|node| match value {
            Some(Value::Str(name)) => text(node, "name") == name,
            number => node.get("id").is_some() && node.get("id") == number,
        });
        found.filter(|node| text(node, "type") == "block-driver").map(|node| text(node, "name"))
    };
    let between = listed("edges").into_iter().filter_map(|edge| {
        let (parent, child) = (vertex(edge.get("parent"))?, vertex(edge.get("child"))?);
        Some((parent.to_string(), text(edge, "name").to_string(), child.to_string()))
    });
    let down = devices.iter().map(|(id, (node, _))| (id.clone(), "root".into(), node.clone()));
    between.chain(down).collect()
}

/// Names for the nodes that nobody has named, by where they hang.
fn places(edges: &[(String, String, String)]) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    loop {
        let place = |name: &String| match name.starts_with('#') {
            true => places.get(name).cloned(),
            false => Some(name.clone()),
        };
        let new = edges
            .iter()
            .filter(|(.., child)| child.starts_with('#') && !places.contains_key(child));
        let mut new = new.filter_map(|(parent, name, child)| {
            Some((child.clone(), format!("{}.{name}", place(parent)?)))
        });
        let Some((child, place)) = new.next() else { return places };
        places.insert(child, place);
    }
}

/// Everything that can be seen.
pub(super) fn look(side: &mut dyn Side) -> Result<Look, Broken> {
    let none = Dict::new();
    let devices = side.devices()?;
    let nodes = ask(side, "query-named-block-nodes", &none)?;
    let graph = ask(side, "x-debug-query-block-graph", &none)?;
    let jobs = ask(side, "query-jobs", &none)?;
    let edges = edges(&graph, &devices);
    let places = places(&edges);
    let place = |name: &str| places.get(name).cloned().unwrap_or_else(|| name.to_string());
    let mut look = Look::new();
    for (parent, name, child) in &edges {
        let of_job = dicts(&nodes).into_iter().any(|node| {
            text(node, "node-name") == parent && JOB_FILTERS.contains(&text(node, "drv"))
        });
        // Each has its own way to hold what its jobs work on. Where a filter leads is the same.
        if of_job && ["backing", "file"].contains(&name.as_str()) {
            look.insert(format!("filter {}", place(parent)), place(child));
        }
        let kind = if of_job { "edge of filter" } else { "edge" };
        look.insert(format!("{kind} {}.{name}", place(parent)), place(child));
    }
    for (id, (_, len)) in &devices {
        look.insert(format!("device {id}"), format!("{len} bytes"));
    }
    for job in dicts(&jobs) {
        look.insert(format!("job {}", text(job, "id")), members(job, JOB));
    }
    for node in dicts(&nodes) {
        let name = text(node, "node-name");
        look.insert(format!("node {}", place(name)), members(node, ATTRIBUTES));
        for bitmap in node.get("dirty-bitmaps").map(dicts).unwrap_or_default() {
            let of = text(bitmap, "name");
            // Jobs have some for themselves.
            if of.is_empty() {
                continue;
            }
            let mut seen = members(bitmap, BITMAP);
            // What is inconsistent has no bits.
            if bitmap.get("inconsistent") != Some(&Value::Bool(true)) {
                let which = Dict::from_iter([("node", name), ("name", of)]);
                let hash = ask(side, "x-debug-block-dirty-bitmap-sha256", &which)?;
                seen +=
                    &format!(", bits {}", hash.as_dict().map_or("", |hash| text(hash, "sha256")));
            }
            look.insert(format!("bitmap {}/{of}", place(name)), seen);
        }
    }
    Ok(look)
}
