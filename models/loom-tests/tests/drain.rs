//! A request that starts against a drained section that begins: each looks for the other after it has
//! shown itself, so one of them waits. The planted bugs are to look first, and not to drain.

use std::sync::Arc;

use blockyard_block::{Backend, BlockLayer, Drained, OnLost, Owner, Plan, Write};
use blockyard_graph::{Edge, EdgePolicy, Edit, Parent, Permissions, Role, Roles};
use blockyard_loom_tests::{Null, block_on, empty_layer, explore, explore_finds, join, new_node};
use blockyard_sync::Shared;
use blockyard_units::{ByteRange, NodeId};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// A backend on a node.
#[derive(Clone)]
struct Guest {
    layer: BlockLayer,
    backend: Backend,
    disk: NodeId,
    inside: Arc<AtomicUsize>,
}

impl Guest {
    fn new() -> Self {
        let layer = empty_layer();
        let backend = layer.add_backend("guest").expect("the-name-is-free");
        let inside = Arc::new(AtomicUsize::new(0));
        let (node, edit) = new_node(&layer, "disk", Null { inside: inside.clone() });
        let disk = node.id();
        let root = Edit::AddEdge(Edge {
            parent: Parent::Backend(backend.id()),
            name: "root".into(),
            child: disk,
            roles: Roles::of(&[Role::Data, Role::Primary]),
            policy: EdgePolicy::Explicit {
                required: Permissions::CONSISTENT_READ.union(Permissions::WRITE),
                shared: Permissions::ALL,
            },
            frozen: None,
        });
        let plan = || Plan {
            edits: vec![edit.clone(), root.clone()],
            nodes: vec![node.clone()],
            ..Plan::default()
        };
        block_on(layer.publish("setup", OnLost::Fail, |_| Ok(plan())))
            .expect("nobody-else-publishes");
        Self { layer, backend, disk, inside }
    }

    fn write(&self) {
        block_on(self.backend.write(Write::zeroes(ByteRange::new(0, 512))))
            .expect("the-driver-takes-it");
    }

    fn drain(&self) -> Drained {
        block_on(self.layer.drain(Owner::command(), &[self.disk]))
    }

    fn assert_quiet(&self) {
        assert_eq!(self.inside.load(Ordering::SeqCst), 0, "drained-means-quiet");
    }

    fn assert_at_rest(&self) {
        self.assert_quiet();
        assert_eq!(self.layer.in_flight(), []);
        assert_eq!(self.layer.backend_requests(), 0);
        assert_eq!(self.layer.open_sections(), Vec::<String>::new());
    }
}

/// A request in a thread of its own, beside `section`.
fn beside_a_request(section: fn(&Guest)) {
    let guest = Guest::new();
    let request = thread::spawn({
        let guest = guest.clone();
        move || guest.write()
    });
    section(&guest);
    join(request);
    guest.assert_at_rest();
}

#[test]
fn no_request_is_inside_while_a_drained_section_holds() {
    explore(|| {
        beside_a_request(|guest| {
            let drained = guest.drain();
            guest.assert_quiet();
            drained.end();
        });
    });
}

#[test]
fn a_request_completes_beside_two_drained_sections_in_a_row() {
    explore(|| {
        beside_a_request(|guest| {
            guest.drain().end();
            guest.drain().end();
        });
    });
}

#[test]
fn planted_section_that_is_not_drained_sees_a_request() {
    explore_finds("drained-means-quiet", || beside_a_request(Guest::assert_quiet));
}

#[test]
fn sections_of_two_owners_over_one_node_hold_one_after_the_other() {
    explore(|| {
        let guest = Guest::new();
        let run = {
            let guest = guest.clone();
            move || {
                let drained = guest.drain();
                assert_eq!(guest.inside.fetch_add(1, Ordering::SeqCst), 0, "one-section-holds");
                guest.inside.fetch_sub(1, Ordering::SeqCst);
                drained.end();
            }
        };
        let other = thread::spawn(run.clone());
        run();
        join(other);
        guest.assert_at_rest();
    });
}

/// A count of requests and a flag for a section, entered as a backend does it or, with `looks_first`, the
/// wrong way round.
fn counted_request_beside_a_section(looks_first: bool) {
    let state = Arc::new((Shared::new(0), Shared::new(false), AtomicUsize::new(0)));
    let request = thread::spawn({
        let state = state.clone();
        move || {
            let (in_flight, section, inside) = &*state;
            let quiesced = || section.read(|holds| *holds);
            let count = || in_flight.add(|count| *count += 1);
            let enters = match looks_first {
                true => {
                    let enters = !quiesced();
                    count();
                    enters
                }
                false => {
                    count();
                    !quiesced()
                }
            };
            // One that must not enter is turned away; waiting for the end is not what this is about.
            if enters {
                inside.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
            }
            in_flight.add(|count| *count -= 1);
        }
    });
    let (in_flight, section, inside) = &*state;
    section.write(|holds| *holds = true);
    block_on(in_flight.wait_until(|count| *count == 0));
    assert_eq!(inside.load(Ordering::SeqCst), 0, "drained-means-quiet");
    section.write(|holds| *holds = false);
    join(request);
}

#[test]
fn a_request_that_is_counted_before_it_looks_does_not_slip_in() {
    explore(|| counted_request_beside_a_section(false));
}

#[test]
fn planted_request_that_looks_before_it_is_counted_slips_in() {
    explore_finds("drained-means-quiet", || counted_request_beside_a_section(true));
}
