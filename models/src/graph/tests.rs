//! Tests. Graphs are written as `disk0.root>th th.file>mf`: a parent that is no node is a backend, or a job if it
//! begins with `job`; `!name` is a retired node. Ids are places in the list of names.

use super::*;

fn view(nodes: &[&str], edges: &str) -> GraphView {
    let name = |node: &str| String::from(node.trim_start_matches('!'));
    let id = |wanted: &str| nodes.iter().position(|node| name(node) == wanted);
    let parse = |edge: &str| {
        let (from, to) = edge.split_once('>').expect("an edge has >");
        let (parent, child_name) = from.split_once('.').expect("an edge has a name");
        let parent = match id(parent) {
            Some(id) => ParentView::Node(id as u64),
            None if parent.starts_with("job") => ParentView::Job(1, parent.into()),
            None => ParentView::Backend(0, parent.into()),
        };
        let child = id(to).map_or(99, |id| id as u64);
        EdgeView { parent, name: child_name.into(), child, required: 1, shared: 0xff }
    };
    let node = |(id, node): (usize, &&str)| NodeView {
        id: id as u64,
        name: name(node),
        retired: node.starts_with('!'),
        read_only: false,
    };
    GraphView {
        nodes: nodes.iter().enumerate().map(node).collect(),
        edges: edges.split_whitespace().map(parse).collect(),
    }
}

fn check(model: &mut GraphValidity, view: &GraphView, expected: Option<&str>) {
    let message = model.observe(view).err().map(|violation| violation.message);
    assert_eq!(message.as_deref(), expected);
}

#[test]
fn structure_is_judged() {
    for (nodes, edges, expected) in [
        (&["a", "b", "c"][..], "disk0.root>a a.file>b a.backing>c c.file>b job0.src>a", None),
        (&[], "", None),
        (&["a"], "a.file>a", Some("the graph has a cycle: a.file -> a.file -> a")),
        (
            &["a", "b"],
            "disk0.root>a a.file>b b.backing>a",
            Some("the graph has a cycle: disk0.root -> a.file -> b.backing -> a"),
        ),
        (&["a"], "a.file>x", Some("the edge a.file -> #99 dangles: there is no node #99")),
        (&["a", "a"], "", Some("two nodes have the name a")),
    ] {
        check(&mut GraphValidity::new(), &view(nodes, edges), expected);
    }
    let mut dangling = view(&["a"], "disk0.root>a");
    dangling.edges[0].parent = ParentView::Node(7);
    let expected = Some("the edge #7.root -> a dangles: there is no node #7");
    check(&mut GraphValidity::new(), &dangling, expected);
    let mut twins = view(&["a", "b"], "");
    twins.nodes[1].id = 0;
    check(&mut GraphValidity::new(), &twins, Some("the nodes a and b have one id"));
}

#[test]
fn permissions_are_judged_pair_by_pair() {
    let mut graph = view(&["a", "b"], "disk0.root>a disk1.root>a disk2.root>b");
    graph.edges[0].required = 1 | WRITE;
    graph.edges[2].shared = 0;
    check(&mut GraphValidity::new(), &graph, None);
    graph.edges[1].shared = 1;
    let expected =
        "permissions disagree on a: disk0.root requires 0x2, which disk1.root does not share";
    check(&mut GraphValidity::new(), &graph, Some(expected));
    graph.edges[1].shared = 0xff;
    graph.nodes[0].read_only = true;
    let expected = "disk0.root may write to the read-only node a";
    check(&mut GraphValidity::new(), &graph, Some(expected));
}

#[test]
fn a_retired_node_never_comes_back() {
    let mut model = GraphValidity::new();
    let names = ["src", "mf", "th"];
    check(&mut model, &view(&names, "disk0.root>mf mf.file>src"), None);
    check(
        &mut model,
        &view(&["src", "!mf", "th"], "disk0.root>src mf.file>src job0.main>mf"),
        None,
    );
    // Nobody calls it retired any more: the model remembers.
    let resurrected = view(&names, "job0.main>mf disk0.root>th th.file>mf mf.file>src");
    let expected = "the retired node mf is reachable again: disk0.root -> th.file -> mf";
    check(&mut model, &resurrected, Some(expected));
}
