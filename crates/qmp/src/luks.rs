//! Opening images that have to be read before their node is there.
//!
//! A child that is defined in place becomes a node first; a backend of the command's own reads the image through it,
//! as any guest does, so that drained sections hold it up too; then the node above is made of what was found. If
//! anything fails, the nodes that came first are taken away again.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::replace;

use blockyard_block::{BlockError, OnLost, Plan};
use blockyard_crypto::Secret;
use blockyard_drivers::Luks;
use blockyard_graph::{Graph, Permissions};
use blockyard_runtime::BoxFuture;
use blockyard_units::NodeId;

use crate::blockdev::{Blockdev, Child, Kind};
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{Definition, define, node_named};

/// An image that was opened, and the node that it was read from.
pub(crate) struct Opened {
    pub driver: Luks,
    pub file: NodeId,
}

impl Monitor {
    /// Adds what `options` define, all of it or nothing.
    pub(crate) async fn add_nodes(&self, options: Blockdev) -> Result<(), QmpError> {
        let mut added = Vec::new();
        let result = match self.open_images(options, &mut added).await {
            Ok(options) => self.add_definition(options).await.map(drop),
            Err(error) => Err(error),
        };
        if result.is_err() {
            for definition in added.into_iter().rev() {
                // Whom somebody else has taken hold of meanwhile stays.
                let _ = self.take_back(&definition).await;
            }
        }
        result
    }

    async fn add_definition(&self, options: Blockdev) -> Result<Definition, QmpError> {
        let definition = define(self.layer(), self.files(), options, None)?;
        let derive = |graph: &Graph| definition.plan(graph);
        self.layer().publish("blockdev-add", OnLost::StartOver, derive).await?;
        self.note_added(&definition);
        Ok(definition)
    }

    async fn take_back(&self, definition: &Definition) -> Result<(), BlockError> {
        let derive = |_: &Graph| Ok(Plan { edits: definition.removal(), ..Plan::default() });
        self.layer().publish("remove nodes again", OnLost::StartOver, derive).await?;
        let nodes: Vec<NodeId> = definition.fixed().map(|(id, _)| id).collect();
        self.note_removed(&nodes);
        Ok(())
    }

    /// Opens every image among `options`, the lowest first. What had to be added for it is in `added`.
    fn open_images<'a>(
        &'a self,
        mut options: Blockdev,
        added: &'a mut Vec<Definition>,
    ) -> BoxFuture<'a, Result<Blockdev, QmpError>> {
        Box::pin(async move {
            if let Some(child) = options.kind.child_mut() {
                *child = match replace(child, Child::LeftOut) {
                    Child::Defined(inner) => {
                        Child::Defined(Box::new(self.open_images(*inner, added).await?))
                    }
                    other => other,
                };
            }
            if let Kind::Luks { file, key_secret, opened } = &mut options.kind {
                let secret = self.secret(key_secret)?;
                let file = match replace(file, Child::LeftOut) {
                    Child::Named(name) => node_named(&self.layer().graph(), &name)?,
                    Child::Defined(inner) => {
                        let definition = self.add_definition(*inner).await?;
                        let file = definition.top();
                        added.push(definition);
                        file
                    }
                    Child::LeftOut => return Err(QmpError::generic("file: missing")),
                };
                let driver = self.open_luks(file, &secret).await?;
                *opened = Some(Box::new(Opened { driver, file }));
            }
            Ok(options)
        })
    }

    async fn open_luks(&self, file: NodeId, secret: &Secret) -> Result<Luks, QmpError> {
        let layer = self.layer();
        let reader = layer.add_backend(&layer.generate_name())?;
        let result = match self.give_root(&reader, file, Permissions::CONSISTENT_READ).await {
            Ok(()) => {
                let opened = Luks::open(&reader, secret.bytes()).await;
                self.take_root(&reader).await.and(opened)
            }
            Err(error) => Err(error),
        };
        layer.remove_backend(&reader);
        Ok(result?)
    }
}
