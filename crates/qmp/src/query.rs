//! Queries.
//!
//! Source: QEMU's QMP reference. Differs: a device has bitmaps of its own beside those of what is inserted; there are
//! no trays.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_graph::{Edge, Graph, NodeAttributes, Parent, Permissions, ROOT};
use blockyard_units::{BackendId, NodeId};

use crate::bitmaps;
use crate::monitor::Monitor;
use crate::value::Value;

pub(crate) fn dict<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Dict(members.into_iter().map(|(key, value)| (String::from(key), value)).collect())
}

fn child_name(graph: &Graph, edge: &Edge) -> Value {
    Value::from(graph.node(edge.child).map_or("", |node| node.name.as_str()))
}

impl Monitor {
    pub(crate) fn query_named_block_nodes(&self) -> Value {
        let graph = self.layer().graph();
        Value::List(graph.nodes().map(|(id, node)| self.node_info(&graph, id, node)).collect())
    }

    /// The devices, what they have for a medium, and the bitmaps of both.
    pub(crate) fn query_block(&self) -> Value {
        let graph = self.layer().graph();
        let device = |(id, name): (BackendId, &str)| {
            let root = graph.child(Parent::Backend(id), ROOT);
            let inserted = root.and_then(|id| Some(self.node_info(&graph, id, graph.node(id)?)));
            let bitmaps = self.layer().device_bitmaps(id);
            let bitmaps = bitmaps.and_then(|bitmaps| bitmaps::query(&bitmaps));
            let mut members = Vec::from([
                ("device", Value::from(name)),
                ("type", Value::from("unknown")),
                ("removable", Value::Bool(true)),
                ("locked", Value::Bool(false)),
            ]);
            members.extend(inserted.map(|inserted| ("inserted", inserted)));
            members.extend(bitmaps.map(|bitmaps| ("dirty-bitmaps", bitmaps)));
            dict(members)
        };
        Value::List(graph.backends().map(device).collect())
    }

    fn node_info(&self, graph: &Graph, id: NodeId, node: &NodeAttributes) -> Value {
        let children = graph.children(Parent::Node(id)).map(|edge| {
            let child = ("child", Value::from(edge.name.as_str()));
            dict([child, ("node-name", child_name(graph, edge))])
        });
        let node_in_layer = self.layer().node_by_id(id);
        let bitmaps = node_in_layer.and_then(|node| bitmaps::query(node.bitmaps()));
        let mut members = Vec::from([
            ("node-name", Value::from(node.name.as_str())),
            ("drv", Value::from(node.driver)),
            ("ro", Value::Bool(node.read_only)),
            ("active", Value::Bool(node.active)),
            ("detect_zeroes", Value::from(node.options.detect_zeroes.word())),
            ("children", Value::List(children.collect())),
        ]);
        members.extend(bitmaps.map(|bitmaps| ("dirty-bitmaps", bitmaps)));
        dict(members)
    }

    pub(crate) fn query_block_graph(&self) -> Value {
        let graph = self.layer().graph();
        let mut vertices: Vec<Value> = Vec::new();
        let mut vertex = |kind: &str, name: &str| {
            vertices.push(dict([("type", Value::from(kind)), ("name", Value::from(name))]));
        };
        graph.backends().for_each(|(_, name)| vertex("block-backend", name));
        graph.jobs().for_each(|(_, name)| vertex("block-job", name));
        graph.nodes().for_each(|(_, node)| vertex("block-driver", &node.name));
        let edges = graph.edges().map(|edge| {
            let (required, shared) = graph.permissions(edge.parent, &edge.name).unwrap_or_default();
            dict([
                ("parent", Value::from(graph.parent_name(edge.parent).unwrap_or_default())),
                ("name", Value::from(edge.name.as_str())),
                ("child", child_name(&graph, edge)),
                ("perm", words(required)),
                ("shared-perm", words(shared)),
            ])
        });
        let edges = Value::List(edges.collect());
        dict([("nodes", Value::List(vertices)), ("edges", edges)])
    }
}

fn words(permissions: Permissions) -> Value {
    let words = [
        (Permissions::CONSISTENT_READ, "consistent-read"),
        (Permissions::WRITE, "write"),
        (Permissions::WRITE_UNCHANGED, "write-unchanged"),
        (Permissions::RESIZE, "resize"),
    ];
    let held = words.into_iter().filter(|(permission, _)| permissions.contains(*permission));
    Value::List(held.map(|(_, word)| Value::from(word)).collect())
}
