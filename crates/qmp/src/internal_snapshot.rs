//! `blockdev-snapshot-internal-sync` and `blockdev-snapshot-delete-internal-sync`: snapshots within an image.
//!
//! Each is taken in a drained section over the image, so that a write is in the snapshot, or is not.
//!
//! Source: QEMU's QMP reference, BlockdevSnapshotInternal and SnapshotInfo. Differs: they are no part of transactions.

use alloc::format;
use alloc::string::String;

use blockyard_block::{Amended, Backend, BlockError};
use blockyard_graph::Permissions;
use blockyard_qcow2::{NewSnapshot, Snapshot, SnapshotChange};
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{node_or_root, refuse_held_by_job};
use crate::value::{Dict, Value};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Take {
    device: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Delete {
    device: String,
    id: Option<String>,
    name: Option<String>,
}

impl Take {
    pub fn check(&self) -> Result<(), QmpError> {
        if self.name.is_empty() { Err(QmpError::generic("name: it is empty")) } else { Ok(()) }
    }
}

impl Delete {
    pub fn check(&self) -> Result<(), QmpError> {
        if self.id.is_none() && self.name.is_none() {
            return Err(QmpError::generic("id or name: one of them is needed"));
        }
        Ok(())
    }
}

impl Monitor {
    pub(crate) async fn take_internal_snapshot(&self, take: Take) -> Result<(), QmpError> {
        take.check()?;
        let date_ns = self.layer().runtime().date_ns();
        let seconds = u32::try_from(date_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let date = (seconds, (date_ns % 1_000_000_000) as u32);
        let new = NewSnapshot { name: take.name, date, ..NewSnapshot::default() };
        self.change_snapshots(&take.device, SnapshotChange::Take(new)).await.map(drop)
    }

    pub(crate) async fn delete_internal_snapshot(&self, delete: Delete) -> Result<Value, QmpError> {
        delete.check()?;
        let Delete { device, id, name } = delete;
        let gone = self.change_snapshots(&device, SnapshotChange::Delete { id, name }).await?;
        Ok(Value::Dict(info(gone)))
    }

    async fn change_snapshots(
        &self,
        device: &str,
        change: SnapshotChange,
    ) -> Result<Snapshot, QmpError> {
        let graph = self.layer().graph();
        let node = node_or_root(&graph, device)?;
        let driver = graph.node(node).map_or("", |node| node.driver);
        if driver != "qcow2" {
            return Err(QmpError::generic(format!(
                "{device}: driver '{driver}' has no internal snapshots; qcow2 has them"
            )));
        }
        refuse_held_by_job(self.layer(), &graph, node)?;
        let backend =
            self.layer().add_backend(&format!("{}-snapshot", self.layer().generate_name()))?;
        let section = self.layer().drain(backend.owner(), &[node]).await;
        let changed = self.change_drained(&backend, node, &change).await;
        self.layer().remove_backend(&backend);
        section.end();
        let changed = changed?.downcast::<Snapshot>();
        Ok(*changed.map_err(|_| QmpError::generic(format!("{device} was replaced meanwhile")))?)
    }

    async fn change_drained(
        &self,
        backend: &Backend,
        node: NodeId,
        change: &SnapshotChange,
    ) -> Result<Amended, BlockError> {
        self.give_root(backend, node, Permissions::WRITE, Permissions::ALL).await?;
        let changed = backend.amend_drained(change).await;
        self.take_root(backend).await?;
        changed
    }
}

/// SnapshotInfo.
fn info(snapshot: Snapshot) -> Dict {
    let mut members = Dict::new();
    members.insert("id", snapshot.id);
    members.insert("name", snapshot.name);
    members.insert("vm-state-size", snapshot.vm_state_size);
    members.insert("date-sec", u64::from(snapshot.date.0));
    members.insert("date-nsec", u64::from(snapshot.date.1));
    members.insert("vm-clock-sec", snapshot.vm_clock_ns / 1_000_000_000);
    members.insert("vm-clock-nsec", snapshot.vm_clock_ns % 1_000_000_000);
    if snapshot.icount != u64::MAX {
        members.insert("icount", snapshot.icount);
    }
    members
}
