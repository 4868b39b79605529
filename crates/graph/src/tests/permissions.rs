//! What each policy makes of what is asked above.

use super::*;

const RESIZE: Permissions = Permissions::RESIZE;
const UNCHANGED: Permissions = Permissions::WRITE_UNCHANGED;

/// What the edge of a node with these attributes to its child requires and shares, below a backend
/// with `above`.
fn check(
    node_above: NodeAttributes,
    above: Option<(Permissions, Permissions)>,
    (roles, policy): (&[Role], EdgePolicy),
    expected: (Permissions, Permissions),
) {
    let edge = Edge {
        parent: node(0),
        name: "file".into(),
        child: n(1),
        roles: Roles::of(roles),
        policy,
        frozen: None,
    };
    let mut edits = Vec::from([
        Edit::AddNode { id: n(0), attributes: node_above },
        add_node(1, "below"),
        Edit::AddEdge(edge),
    ]);
    if let Some((required, shared)) = above {
        edits.push(add_backend(0, "disk0"));
        edits.push(add_edge(backend(0), "root", 0, explicit(required, shared)));
    }
    let graph = graph(&edits);
    assert_eq!(graph.permissions(node(0), "file"), Some(expected), "{graph:?}");
}

fn plain() -> NodeAttributes {
    attributes("above")
}

fn read_only() -> NodeAttributes {
    NodeAttributes { read_only: true, ..plain() }
}

fn inactive() -> NodeAttributes {
    NodeAttributes { active: false, ..plain() }
}

#[test]
fn words_of_sets() {
    assert_eq!(READ_WRITE.to_string(), "consistent-read, write");
    assert_eq!(Permissions::NONE.to_string(), "nothing");
    assert_eq!(Permissions::ALL.difference(READ_WRITE).to_string(), "write-unchanged, resize");
    assert_eq!(Roles::of(&[Role::Primary, Role::Data]).to_string(), "data, primary");
    assert!(Roles::from(Role::Cow).contains(Role::Cow));
    assert!(!Roles::from(Role::Cow).contains(Role::Primary));
}

#[test]
fn passthrough_hands_on_what_parents_ask_and_nothing_without_parents() {
    let policy: (&[Role], _) = (&[Role::Filtered], EdgePolicy::Passthrough);
    check(plain(), None, policy, (Permissions::NONE, Permissions::ALL));
    check(plain(), Some((READ_WRITE, READ)), policy, (READ_WRITE, READ));
}

#[test]
fn passthrough_adds_up_all_parents_over_a_diamond() {
    let graph = graph(&[
        add_node(0, "bottom"),
        add_node(1, "filter"),
        add_backend(0, "a"),
        add_backend(1, "b"),
        add_edge(backend(0), "root", 1, explicit(READ, ALL_BUT_WRITE.difference(RESIZE))),
        add_edge(backend(1), "root", 1, explicit(UNCHANGED, READ.union(UNCHANGED))),
        add_edge(node(1), "file", 0, EdgePolicy::Passthrough),
    ]);
    let expected = (READ.union(UNCHANGED), READ.union(UNCHANGED));
    assert_eq!(graph.permissions(node(1), "file"), Some(expected));
}

#[test]
fn copying_on_read_writes_unchanged_for_itself_while_it_may() {
    let policy: (&[Role], _) = (&[Role::Filtered], EdgePolicy::CopyOnRead);
    check(plain(), None, policy, (UNCHANGED, Permissions::ALL));
    check(plain(), Some((READ, READ)), policy, (READ.union(UNCHANGED), READ.union(UNCHANGED)));
    for node in [read_only(), inactive()] {
        check(node, Some((READ, READ)), policy, (READ, READ.union(UNCHANGED)));
    }
}

#[test]
fn storage_of_plain_data_is_written_only_for_a_parent() {
    let policy: (&[Role], _) = (&[Role::Data], EdgePolicy::Storage);
    let unshared = Permissions::ALL.difference(WRITE).difference(RESIZE);
    let modify = READ_WRITE.union(RESIZE);
    check(plain(), None, policy, (READ, unshared));
    check(plain(), Some((READ, Permissions::ALL)), policy, (READ, unshared));
    for required in [WRITE, UNCHANGED, RESIZE, READ_WRITE] {
        check(plain(), Some((required, Permissions::ALL)), policy, (modify, unshared));
    }
    check(read_only(), Some((READ, Permissions::ALL)), policy, (READ, unshared));
}

#[test]
fn storage_of_metadata_is_written_while_the_node_is_writable() {
    let policy: (&[Role], _) = (&[Role::Data, Role::Metadata], EdgePolicy::Storage);
    let unshared = Permissions::ALL.difference(WRITE).difference(RESIZE);
    check(plain(), None, policy, (READ_WRITE.union(RESIZE), unshared));
    check(read_only(), None, policy, (READ, unshared));
    check(inactive(), None, policy, (READ, Permissions::ALL));
}

#[test]
fn backing_is_read_for_a_parent_and_shares_writes_only_if_all_parents_do() {
    let policy: (&[Role], _) = (&[Role::Cow], EdgePolicy::Backing);
    let stable = READ.union(UNCHANGED);
    check(plain(), None, policy, (Permissions::NONE, Permissions::ALL));
    check(plain(), Some((READ_WRITE, Permissions::ALL)), policy, (READ, Permissions::ALL));
    check(plain(), Some((READ_WRITE, ALL_BUT_WRITE)), policy, (READ, stable));
    check(plain(), Some((WRITE, Permissions::NONE)), policy, (Permissions::NONE, stable));
    check(inactive(), Some((READ, READ)), policy, (READ, Permissions::ALL));
}

#[test]
fn backing_of_what_is_committed_shares_writes_whatever_its_parents_do() {
    let policy: (&[Role], _) = (&[Role::Cow], EdgePolicy::Committed);
    check(plain(), Some((READ_WRITE, ALL_BUT_WRITE)), policy, (READ, Permissions::ALL));
    check(plain(), Some((WRITE, Permissions::NONE)), policy, (Permissions::NONE, Permissions::ALL));
}

#[test]
fn the_parents_of_a_node_that_is_shared_by_force_share_everything() {
    let mut shared = read_only();
    shared.options.force_share = true;
    let graph = graph(&[
        Edit::AddNode { id: n(0), attributes: shared },
        add_node(1, "filter"),
        add_backend(0, "a"),
        add_backend(1, "b"),
        add_edge(backend(0), "root", 1, explicit(READ, READ)),
        add_edge(backend(1), "root", 0, explicit(READ, READ)),
        add_edge(node(1), "file", 0, EdgePolicy::Passthrough),
    ]);
    assert_eq!(graph.permissions(node(1), "file"), Some((READ, Permissions::ALL)));
    // A backend says itself what it shares.
    assert_eq!(graph.permissions(backend(1), "root"), Some((READ, READ)));
}
