//! `x-blockdev-replace-child`: redirects an edge, named by both of its ends.
//!
//! `new` is a node's name, or a filter's definition without `file`: the filter is then put between the parent and
//! what the edge leads to. With `expected`, the edge must lead there, or the command fails or starts over, as
//! `on-mismatch` says; starting over takes what the edge leads to by then.
//!
//! The decision `replace` says how: `naive` ignores what is expected, once the filter has been created over it;
//! `compare` and `parents` create the filter, then compare and redirect; `transaction` does all of it in one edit.

use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockError, Drained, OnLost, Owner, Plan};
use blockyard_graph::{Edit, Graph, Parent, Refused, RefusedKind};
use blockyard_sync::{note, sometimes};
use blockyard_units::{Mutant, NodeId, Replace};
use serde::Deserialize;

use crate::blockdev::Blockdev;
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{Definition, define};
use crate::value::{Dict, Reference};
use crate::visitor::Mode;

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnMismatch {
    #[default]
    Fail,
    Retry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ReplaceChild {
    parent: String,
    child: String,
    expected: Option<String>,
    new: Reference,
    on_mismatch: Option<OnMismatch>,
}

impl ReplaceChild {
    /// Checks a definition in place.
    pub fn check(&self, mode: Mode) -> Result<(), QmpError> {
        match &self.new {
            Reference::Name(_) => Ok(()),
            Reference::Definition(options) => parse_new(options, mode).map(drop),
        }
    }
}

/// The filter, as `new` defines it.
fn parse_new(options: &Dict, mode: Mode) -> Result<Blockdev, QmpError> {
    let filter = Blockdev::parse_filter(options.clone(), mode);
    Ok(filter.map_err(|error| error.within("new"))?)
}

/// An edge by its holder and its name.
struct Place {
    parent: Parent,
    child: String,
}

impl Place {
    fn leads_to(&self, graph: &Graph) -> Result<NodeId, BlockError> {
        let holder = graph.parent_name(self.parent).unwrap_or("a holder that is gone");
        let missing = || BlockError::NotFound(format!("{holder} has no child '{}'", self.child));
        graph.child(self.parent, &self.child).ok_or_else(missing)
    }

    fn redirect(&self, expected: Option<NodeId>, new: NodeId) -> Edit {
        Edit::ReplaceChild { parent: self.parent, name: self.child.clone(), expected, new }
    }
}

impl Monitor {
    pub(crate) async fn replace_child(
        &self,
        arguments: ReplaceChild,
        mode: Mode,
    ) -> Result<(), QmpError> {
        let place = self.place(&arguments)?;
        let on_mismatch = arguments.on_mismatch.unwrap_or_default();
        // Resolved once, to an id: a namesake that comes later is not what was expected.
        let mut expected = self.expected(&arguments, &place)?;
        loop {
            let result = self.replace_once(&place, expected, &arguments.new, mode).await;
            match result {
                Err(error) if error.mismatch => {
                    sometimes!(true, "a mismatch seen");
                    note!("mismatch: {error}");
                    if on_mismatch == OnMismatch::Fail {
                        sometimes!(true, "on-mismatch fail taken");
                        return Err(error);
                    }
                    sometimes!(true, "on-mismatch retry taken");
                    expected = place.leads_to(&self.layer().graph())?;
                }
                result => return result,
            }
        }
    }

    fn place(&self, arguments: &ReplaceChild) -> Result<Place, QmpError> {
        let graph = self.layer().graph();
        let name = &arguments.parent;
        let backend = graph.backend_by_name(name).map(Parent::Backend);
        let parent = backend.or_else(|| graph.node_by_name(name).map(Parent::Node));
        let missing = || BlockError::NotFound(format!("there is no device or node '{name}'"));
        Ok(Place { parent: parent.ok_or_else(missing)?, child: arguments.child.clone() })
    }

    fn expected(&self, arguments: &ReplaceChild, place: &Place) -> Result<NodeId, QmpError> {
        let graph = self.layer().graph();
        let now = place.leads_to(&graph)?;
        let Some(name) = &arguments.expected else { return Ok(now) };
        if let Some(id) = graph.node_by_name(name) {
            return Ok(id);
        }
        sometimes!(true, "what was expected is gone before the command begins");
        if arguments.on_mismatch == Some(OnMismatch::Retry) {
            sometimes!(true, "on-mismatch retry taken");
            return Ok(now);
        }
        Err(BlockError::NotFound(format!("there is no node '{name}'")).into())
    }

    async fn replace_once(
        &self,
        place: &Place,
        expected: NodeId,
        new: &Reference,
        mode: Mode,
    ) -> Result<(), QmpError> {
        match new {
            Reference::Name(name) => {
                let new = self.layer().node(name)?.id();
                self.redirect(place, expected, new).await
            }
            Reference::Definition(options) => {
                let options = parse_new(options, mode)?;
                let filter = define(self.layer(), self.files(), options, Some(expected))?;
                self.insert(place, expected, &filter).await
            }
        }
    }

    async fn insert(
        &self,
        place: &Place,
        expected: NodeId,
        filter: &Definition,
    ) -> Result<(), QmpError> {
        if self.layer().design().replace == Replace::Transaction {
            self.layer().observer().milestone("filter created");
            return self.insert_at_once(place, expected, filter).await;
        }
        let derive = |graph: &Graph| {
            require(graph, expected)?;
            filter.plan(graph)
        };
        self.layer().publish("create filter", OnLost::StartOver, derive).await?;
        self.layer().observer().milestone("filter created");
        let result = self.redirect(place, expected, filter.top()).await;
        if result.is_err() {
            let removal = filter.removal();
            let derive = |_: &Graph| Ok(Plan { edits: removal.clone(), ..Plan::default() });
            self.layer().publish("remove filter again", OnLost::StartOver, derive).await?;
        }
        result
    }

    async fn insert_at_once(
        &self,
        place: &Place,
        expected: NodeId,
        filter: &Definition,
    ) -> Result<(), QmpError> {
        let section = self.drain_edge(place).await?;
        let derive = |graph: &Graph| {
            require(graph, expected)?;
            let mut plan = filter.plan(graph)?;
            plan.edits.push(place.redirect(Some(expected), filter.top()));
            Ok(plan)
        };
        let result = self.layer().publish("insert filter", OnLost::StartOver, derive).await;
        section.end();
        Ok(result?)
    }

    async fn redirect(&self, place: &Place, expected: NodeId, new: NodeId) -> Result<(), QmpError> {
        let naive = self.layer().design().replace == Replace::Naive;
        let expected = if naive { None } else { Some(expected) };
        let mut section = Some(self.drain_edge(place).await?);
        if self.layer().design().is_mutant(Mutant::ReplaceNodeWithRequestsInside) {
            if let Some(section) = section.take() {
                section.end();
            }
        }
        let derive = |_: &Graph| {
            let edits = [place.redirect(expected, new)].into();
            Ok(Plan { edits, ..Plan::default() })
        };
        let result = self.layer().publish("replace child", OnLost::StartOver, derive).await;
        if let Some(section) = section {
            section.end();
        }
        Ok(result?)
    }

    /// Drains what the edge leads to, whatever that is once the section holds.
    async fn drain_edge(&self, place: &Place) -> Result<Drained, BlockError> {
        let owner = Owner::command();
        loop {
            let child = place.leads_to(&self.layer().graph())?;
            let section = self.layer().drain(owner, &[child]).await;
            if place.leads_to(&self.layer().graph())? == child {
                return Ok(section);
            }
            section.end();
        }
    }
}

/// A mismatch, if the node is gone.
fn require(graph: &Graph, expected: NodeId) -> Result<(), BlockError> {
    if graph.node(expected).is_some() {
        return Ok(());
    }
    let message = String::from("the node that was expected is gone");
    Err(Refused { kind: RefusedKind::Mismatch, message }.into())
}
