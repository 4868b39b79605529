//! Structs, lists and enums: what is named in an error.

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Throttle {
    bps_total: Option<u64>,
    #[serde(default)]
    iops_total: u64,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Discard {
    Ignore,
    Unmap,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    driver: String,
    filename: String,
    node_name: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    file: File,
    size: Option<Size>,
    read_only: Option<bool>,
    discard: Option<Discard>,
    #[serde(default)]
    throttle: Throttle,
    #[serde(default)]
    children: Vec<File>,
    pair: Option<(u8, u8)>,
    extra: Option<Value>,
    backing: Option<ReferenceOrNull>,
}

const FULL_JSON: &str = r#"{
    "file": {"driver": "file", "filename": "a,b", "node-name": "f"},
    "size": 1610612736, "read-only": true, "discard": "unmap",
    "throttle": {"bps-total": 255, "iops-total": 8},
    "children": [{"driver": "file", "filename": "1"}, {"driver": "nbd", "filename": "2"}],
    "pair": [1, 2], "backing": "base"
}"#;

const FULL_KEYVAL: &str = "file.driver=file,file.filename=a,,b,file.node-name=f,size=1.5G,\
    read-only=on,discard=unmap,throttle.bps-total=0xff,throttle.iops-total=010,\
    children.1.filename=2,children.1.driver=nbd,children.0.driver=file,children.0.filename=1,\
    pair.0=1,pair.1=2,backing=base";

fn check_node_error(text: &str, expected: &str) {
    let options = parse_options(text).expect(text);
    let error = options.visit::<Node>().expect_err(text);
    assert_eq!(error.to_string(), expected, "for {text}");
}

#[test]
fn json_and_dotted_keys_give_the_same_typed_value() {
    let (json, keyval) = (parse_options(FULL_JSON), parse_options(FULL_KEYVAL));
    let (json, keyval) = (json.expect(FULL_JSON), keyval.expect(FULL_KEYVAL));
    assert_eq!((json.mode, keyval.mode), (Mode::Strict, Mode::Strings));
    let node: Node = json.visit().expect(FULL_JSON);
    assert_eq!(keyval.visit(), Ok(node));
}

#[test]
fn options_take_an_implied_key_and_find_json_by_its_brace() {
    let options = Options::parse("file,filename=x", Some("driver")).expect("a driver");
    let file = File { driver: "file".into(), filename: "x".into(), node_name: None };
    assert_eq!(options.visit(), Ok(file));
    let error = parse_options("[]").expect_err("no object");
    assert_eq!(error.to_string(), "[]: expected '=' and a value");
    let error = parse_options("{").expect_err("no JSON");
    assert_eq!(error.to_string(), "line 1, column 1: EOF while parsing an object");
}

#[test]
fn missing_members_are_named() {
    check_node_error("size=1", "file: missing");
    check_node_error("file.driver=file", "file.filename: missing");
    check_node_error(r#"{"file":{"filename":"x"}}"#, "file.driver: missing");
    let file = "file.driver=file,file.filename=x";
    check_node_error(
        &alloc::format!("{file},children.0.driver=a,children.0.filename=b,children.1.driver=c"),
        "children.1.filename: missing",
    );
}

#[test]
fn unexpected_members_are_named_with_the_known_ones() {
    check_node_error(
        "file.driver=file,file.filename=x,file.foo=1",
        "file.foo: unexpected; known keys are driver, filename, node-name",
    );
    check_node_error(
        r#"{"file":{"driver":"file","filename":"x"},"throttle":{"bps":1}}"#,
        "throttle.bps: unexpected; known keys are bps-total, iops-total",
    );
    let one = parse_options("v=1,w=2").expect("two members");
    let error = one.visit::<One<u8>>().expect_err("one is known");
    assert_eq!(error.to_string(), "w: unexpected; the known key is v");
    #[derive(Debug, Deserialize)]
    struct Nothing {}
    let error = one.visit::<Nothing>().expect_err("none is known");
    assert_eq!(error.to_string(), "v: unexpected; no keys are known");
    assert_eq!(error.path(), "v");
}

#[test]
fn wrong_kinds_are_named_by_their_whole_key() {
    let file = "file.driver=file,file.filename=x";
    for (option, expected) in [
        ("throttle.bps-total=abc", "throttle.bps-total: expected a number, found 'abc'"),
        ("throttle=abc", "throttle: expected an object, found 'abc'"),
        ("discard=maybe", "discard: expected one of ignore, unmap, found 'maybe'"),
        ("discard.0=unmap", "discard: expected one of ignore, unmap, found a list"),
        ("children=abc", "children: expected a list, found 'abc'"),
        ("children.0=abc", "children.0: expected an object, found 'abc'"),
        ("children.x=abc", "children: expected a list, found an object"),
        ("pair.0=1,pair.1=300", "pair.1: expected a number from 0 to 255, found '300'"),
        ("pair.0=1", "pair: expected 2 elements, found 1"),
        ("pair.0=1,pair.1=2,pair.2=3", "pair: expected 2 elements, found 3"),
    ] {
        check_node_error(&alloc::format!("{file},{option}"), expected);
    }
    check_node_error(
        r#"{"file":{"driver":"file","filename":7}}"#,
        "file.filename: expected a string, found 7",
    );
}

#[test]
fn absent_is_not_null() {
    let check = |json: &str, expected: Result<Option<u64>, &str>| {
        let options = parse_options(json).expect(json);
        let result = options.visit::<Throttle>().map(|throttle| throttle.bps_total);
        assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(String::from));
    };
    check("{}", Ok(None));
    check(r#"{"bps-total":1}"#, Ok(Some(1)));
    check(r#"{"bps-total":null}"#, Err("bps-total: expected a number, found null"));
    super::check(r#"{"v":null}"#, Some(ReferenceOrNull::Null));
}

#[test]
fn variants_may_hold_members() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Target {
        Nothing,
        Speed(u64),
        Pair(u8, u8),
        File { filename: String },
    }
    check("v=nothing", Target::Nothing);
    check("v.speed=5", Target::Speed(5));
    check(r#"{"v":{"pair":[1,2]}}"#, Target::Pair(1, 2));
    check("v.file.filename=x", Target::File { filename: "x".into() });
    let words = "one of nothing, speed, pair, file";
    check_error::<Target>("v.x=5", &alloc::format!("v: expected {words}, found 'x'"));
    check_error::<Target>("v.speed=x", "v.speed: expected a number, found 'x'");
    check_error::<Target>("v.file.x=1", "v.file.x: unexpected; the known key is filename");
    check_error::<Target>("v.nothing=1", "v.nothing: expected 'nothing' alone, found '1'");
    check_error::<Target>(
        "v.speed=1,v.nothing=1",
        &alloc::format!("v: expected {words}, found an object"),
    );
}

#[test]
fn tag_is_taken_first_and_the_rest_is_converted() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Raw {
        offset: Size,
    }
    let holder: Dict = read("v.driver=raw,v.offset=1K").expect("an object");
    let mut members = holder.clone();
    assert_eq!(take::<String>(&mut members, "driver", Mode::Strings), Ok("raw".into()));
    assert_eq!(visit(&members.into(), Mode::Strings), Ok(Raw { offset: Size(1024) }));

    let error = |key| take::<u8>(&mut holder.clone(), key, Mode::Strings).expect_err(key);
    assert_eq!(
        error("driver").within("file").to_string(),
        "file.driver: expected a number, found 'raw'"
    );
    assert_eq!(error("node-name").within(0).to_string(), "0.node-name: missing");
    let absent = take::<Option<u8>>(&mut holder.clone(), "node-name", Mode::Strings);
    assert_eq!(absent, Ok(None));
}
