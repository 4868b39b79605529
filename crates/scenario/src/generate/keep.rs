//! Who sees to it that nobody stands still for ever: guests that an error has stopped, and requests at breakpoints.

use blockyard_block::{ErrorPolicies, OnError};
use serde_json::{Value, json};

use super::render::{Device, attempt};
use super::{DebugRule, Filter};
use crate::told::word;

fn may_stop(policy: OnError) -> bool {
    matches!(policy, OnError::Stop | OnError::Enospc)
}

impl Device<'_> {
    /// Whether a guest stands still, and tries again, because of a write that failed; then none may fail for ever.
    pub fn repeats_writes(&self) -> bool {
        may_stop(self.plan.policies.write)
    }

    /// The filter, as it may be where somebody would wait for ever. Where requests are repeated none always fails; nor
    /// where nobody learns of it, so that it stays known what may be read. And mirrors of two devices wait for each
    /// other's events.
    pub fn harmless(&self, filter: Filter) -> Filter {
        let reports = self.plan.policies == ErrorPolicies::default();
        match filter {
            Filter::Blkdebug(DebugRule::Break(_)) => filter,
            Filter::Blkdebug(_) if !self.alone => Filter::Blkdebug(DebugRule::Nothing),
            Filter::Blkdebug(DebugRule::Always(event)) if !reports => {
                Filter::Blkdebug(DebugRule::Once(event))
            }
            _ => filter,
        }
    }

    /// A guest device on a node.
    pub fn attach(&self, id: &str, node: &str) -> Value {
        let mut device = json!({ "id": id, "node": node });
        let ErrorPolicies { read, write } = self.plan.policies;
        for (key, policy) in [("rerror", read), ("werror", write)] {
            if policy != OnError::Report {
                device[key] = json!(word(policy));
            }
        }
        device
    }

    /// The actors that let others go on.
    pub fn keepers(&self) -> Vec<(String, Vec<Value>)> {
        let mut keepers = Vec::new();
        let ErrorPolicies { read, write } = self.plan.policies;
        if may_stop(read) || may_stop(write) {
            let steps = [json!({ "wait": "STOP" }), json!({ "execute": "cont" })];
            keepers.push((format!("keeper{}", self.number), vec![json!({ "always": steps })]));
        }
        for (index, (filter, node)) in
            self.plan.filters.iter().zip(self.nodes().iter().skip(1)).enumerate()
        {
            let Filter::Blkdebug(DebugRule::Break(event)) = *filter else { continue };
            let stopped = json!({ "node": node, "tag": node });
            let mut point = json!({ "node": node, "tag": node });
            point["event"] = json!(super::render::event(event));
            let mut steps = [
                attempt("x-blkdebug-break", point),
                attempt("x-blkdebug-wait", stopped.clone()),
                attempt("x-blkdebug-resume", stopped),
            ];
            // If the node is gone, so is the breakpoint.
            for step in &mut steps[..2] {
                step["expect"] = json!("or-end");
            }
            let name = format!("keeper{}-{index}", self.number);
            keepers.push((name, vec![json!({ "always": steps })]));
        }
        keepers
    }
}
