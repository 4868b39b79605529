//! `blockdev-insert-medium`, `blockdev-remove-medium`: gives a device a node, and takes it away. And how a device holds
//! its node.
//!
//! Differs: there are no trays, so none has to be open; a node may be the medium of several devices.

use alloc::format;
use alloc::string::String;

use blockyard_block::{Backend, BlockError, BlockLayer, OnLost, Plan};
use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, Parent, Permissions, ROOT, Role, Roles};
use blockyard_units::{BackendId, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{node_named, refuse_held_by_job};
use crate::transaction::Action;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct InsertMedium {
    id: String,
    node_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RemoveMedium {
    id: String,
}

pub(crate) struct Insertion {
    device: BackendId,
    node: NodeId,
}

pub(crate) struct Removal {
    layer: BlockLayer,
    device: BackendId,
}

/// What a guest device does with its node.
const DEVICE: Permissions = Permissions::CONSISTENT_READ.union(Permissions::WRITE);

pub(crate) fn device_named(graph: &Graph, id: &str) -> Result<BackendId, BlockError> {
    let missing = || BlockError::NotFound(format!("there is no device '{id}'"));
    graph.backend_by_name(id).ok_or_else(missing)
}

impl InsertMedium {
    pub fn resolve(&self, graph: &Graph) -> Result<Insertion, QmpError> {
        let device = device_named(graph, &self.id)?;
        Ok(Insertion { device, node: node_named(graph, &self.node_name)? })
    }
}

impl RemoveMedium {
    pub fn resolve(&self, layer: &BlockLayer) -> Result<Removal, QmpError> {
        Ok(Removal { layer: layer.clone(), device: device_named(&layer.graph(), &self.id)? })
    }
}

/// A backend's hold on its node: it does what is `required`, and others what is `shared`.
fn root(device: BackendId, child: NodeId, required: Permissions, shared: Permissions) -> Edge {
    Edge {
        parent: Parent::Backend(device),
        name: ROOT.into(),
        child,
        roles: Roles::of(&[Role::Primary]),
        policy: EdgePolicy::Explicit { required, shared },
        frozen: None,
    }
}

impl Action for Insertion {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let parent = Parent::Backend(self.device);
        if let Some(medium) = graph.child(parent, ROOT).and_then(|root| graph.node(root)) {
            let (device, medium) = (graph.parent_name(parent).unwrap_or_default(), &medium.name);
            let message = format!("refused: device '{device}' has a medium already: {medium}");
            return Err(BlockError::Invalid(message));
        }
        let edits = [Edit::AddEdge(root(self.device, self.node, DEVICE, Permissions::ALL))].into();
        Ok(Plan { edits, ..Plan::default() })
    }
}

impl Action for Removal {
    /// Nothing, of a device without one.
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let parent = Parent::Backend(self.device);
        let Some(medium) = graph.child(parent, ROOT) else { return Ok(Plan::default()) };
        refuse_held_by_job(&self.layer, graph, medium)?;
        let remove = Edit::RemoveEdge { parent, name: ROOT.into(), expected: Some(medium) };
        Ok(Plan { edits: [remove].into(), ..Plan::default() })
    }
}

impl Monitor {
    /// A guest device `id` on a node; `resizes`: which writes behind its end make longer, if its driver does that.
    ///
    /// # Errors
    /// If the name is taken, or the node does not allow it.
    ///
    /// # Yields
    /// Always.
    pub async fn attach_device(
        &self,
        id: &str,
        node: &str,
        resizes: bool,
    ) -> Result<Backend, QmpError> {
        let resize = if resizes { Permissions::RESIZE } else { Permissions::NONE };
        self.attach(id, node, DEVICE.union(resize)).await
    }

    /// A backend `id` on a node, that may do there what is `required`.
    async fn attach(
        &self,
        id: &str,
        node: &str,
        required: Permissions,
    ) -> Result<Backend, QmpError> {
        let child = self.layer().node(node)?.id();
        let backend = self.layer().add_backend(id)?;
        // Nobody can make requests of it before it is returned, so it needs no drained section.
        let attached = self.give_root(&backend, child, required, Permissions::ALL).await;
        if attached.is_err() {
            self.layer().remove_backend(&backend);
        }
        attached?;
        Ok(backend)
    }

    pub(crate) async fn give_root(
        &self,
        backend: &Backend,
        child: NodeId,
        required: Permissions,
        shared: Permissions,
    ) -> Result<(), BlockError> {
        let edit = Edit::AddEdge(root(backend.id(), child, required, shared));
        let derive = |_: &Graph| Ok(Plan { edits: [edit.clone()].into(), ..Plan::default() });
        self.layer().publish("attach device", OnLost::StartOver, derive).await
    }

    pub(crate) async fn take_root(&self, backend: &Backend) -> Result<(), BlockError> {
        let parent = Parent::Backend(backend.id());
        let derive = |_: &Graph| {
            let edit = Edit::RemoveEdge { parent, name: ROOT.into(), expected: None };
            Ok(Plan { edits: [edit].into(), ..Plan::default() })
        };
        self.layer().publish("detach device", OnLost::StartOver, derive).await
    }
}
