//! `x-blockdev-replace-child`: redirects an edge, named by both of its ends.
//!
//! `new` is a node's name, or a filter's definition without `file`: the filter is then put between the parent and
//! what the edge leads to. With `expected`, the edge must lead there, or the command fails or starts over, as
//! `on-mismatch` says; starting over takes what the edge leads to by then.
//!
//! The decision `replace` says how: `naive` ignores what is expected, once the filter has been created over it;
//! `compare` and `parents` create the filter, then compare and redirect; `transaction` does all of it in one edit.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, OnLost, Plan};
use blockyard_graph::{Edit, Graph, Parent, Refused, RefusedKind};
use blockyard_jobs::Job;
use blockyard_sync::{note, sometimes};
use blockyard_units::{NodeId, Replace};
use serde::Deserialize;

use crate::blockdev::Blockdev;
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{Definition, define, no_node, node_named};
use crate::transaction::Action;
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

    fn place(&self, graph: &Graph) -> Result<Place, QmpError> {
        let name = &self.parent;
        let backend = graph.backend_by_name(name).map(Parent::Backend);
        let parent = backend.or_else(|| graph.node_by_name(name).map(Parent::Node));
        let missing = || BlockError::NotFound(format!("there is no device or node '{name}'"));
        Ok(Place { parent: parent.ok_or_else(missing)?, child: self.child.clone() })
    }

    fn expected(&self, graph: &Graph, place: &Place) -> Result<NodeId, QmpError> {
        let now = place.leads_to(graph)?;
        let Some(name) = &self.expected else { return Ok(now) };
        if let Some(id) = graph.node_by_name(name) {
            return Ok(id);
        }
        sometimes!(true, "what was expected is gone before the command begins");
        if self.on_mismatch == Some(OnMismatch::Retry) {
            sometimes!(true, "on-mismatch retry taken");
            return Ok(now);
        }
        Err(no_node(name).into())
    }
}

/// A replacement that may take place.
pub(crate) struct Replacement {
    place: Place,
    expected: NodeId,
    with: With,
    on_mismatch: OnMismatch,
}

enum With {
    Node(NodeId),
    Filter(Definition),
}

/// The filter, as `new` defines it.
fn parse_new(options: &Dict, mode: Mode) -> Result<Blockdev, QmpError> {
    let filter = Blockdev::parse_filter(options.clone(), mode);
    Ok(filter.map_err(|error| error.within("new"))?)
}

/// An edge by its holder and its name.
#[derive(Clone)]
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
        let graph = self.layer().graph();
        let place = arguments.place(&graph)?;
        let on_mismatch = arguments.on_mismatch.unwrap_or_default();
        // Resolved once, to an id: a namesake that comes later is not what was expected.
        let mut expected = arguments.expected(&graph, &place)?;
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

    /// The same as an action, whose definition in place is opened here; `graph` as the actions before it leave it.
    pub(crate) fn replacement(
        &self,
        arguments: &ReplaceChild,
        graph: &Graph,
        mode: Mode,
    ) -> Result<Replacement, QmpError> {
        let place = arguments.place(graph)?;
        let expected = arguments.expected(graph, &place)?;
        let with = match &arguments.new {
            Reference::Name(name) => With::Node(node_named(graph, name)?),
            Reference::Definition(options) => With::Filter(self.filter(options.clone(), mode)?),
        };
        let on_mismatch = arguments.on_mismatch.unwrap_or_default();
        Ok(Replacement { place, expected, with, on_mismatch })
    }

    fn filter(&self, options: Dict, mode: Mode) -> Result<Definition, QmpError> {
        define(self, parse_new(&options, mode)?)?.refuse_images()
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
                let filter = self.filter(options.clone(), mode)?;
                self.insert(place, expected, filter).await
            }
        }
    }

    async fn insert(
        &self,
        place: &Place,
        expected: NodeId,
        filter: Definition,
    ) -> Result<(), QmpError> {
        if self.layer().design().replace == Replace::Transaction {
            self.layer().observer().milestone("filter created");
            let (place, with) = (place.clone(), With::Filter(filter));
            let on_mismatch = OnMismatch::Fail;
            let insertion = Replacement { place, expected, with, on_mismatch };
            return self.take_place("insert filter", insertion).await;
        }
        let derive = |graph: &Graph| {
            require(graph, expected)?;
            filter.plan(graph, Some(expected))
        };
        self.layer().publish("create filter", OnLost::StartOver, derive).await?;
        self.note_added(&filter);
        self.layer().observer().milestone("filter created");
        let result = self.redirect(place, expected, filter.top()).await;
        if result.is_err() {
            let removal = filter.removal();
            let derive = |_: &Graph| Ok(Plan { edits: removal.clone(), ..Plan::default() });
            self.layer().publish("remove filter again", OnLost::StartOver, derive).await?;
            let nodes: Vec<NodeId> = filter.driver_options().map(|(id, _)| id).collect();
            self.note_removed(&nodes);
        }
        result
    }

    async fn redirect(&self, place: &Place, expected: NodeId, new: NodeId) -> Result<(), QmpError> {
        let naive = self.layer().design().replace == Replace::Naive;
        let expected = if naive { None } else { Some(expected) };
        let derive = |_: &Graph| {
            let edits = [place.redirect(expected, new)].into();
            Ok(Plan { edits, ..Plan::default() })
        };
        Ok(self.layer().reconfigure("replace child", derive).await?)
    }
}

impl Replacement {
    /// Where the edge must lead in `graph`, as the actions before this one leave it.
    fn expected(&self, graph: &Graph) -> Result<NodeId, BlockError> {
        if self.on_mismatch == OnMismatch::Fail {
            return Ok(self.expected);
        }
        let now = self.place.leads_to(graph)?;
        sometimes!(now != self.expected, "on-mismatch retry taken");
        Ok(now)
    }
}

impl Action for Replacement {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let expected = self.expected(graph)?;
        let (mut plan, new) = match &self.with {
            With::Node(node) => (Plan::default(), *node),
            With::Filter(filter) => {
                require(graph, expected)?;
                (filter.plan(graph, Some(expected))?, filter.top())
            }
        };
        plan.edits.push(self.place.redirect(Some(expected), new));
        Ok(plan)
    }

    fn commit(self: Box<Self>, monitor: &Monitor) -> Option<Arc<Job>> {
        if let With::Filter(filter) = &self.with {
            monitor.note_added(filter);
        }
        None
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
