//! Secrets, and the images that they open.

use blockyard_block::Write;
use blockyard_crypto::{CipherSpec, Hash, Header, Iterations};
use blockyard_qmp::{Dict, Value, parse_json, without_secrets};
use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Test, check_alone, check_with};

const PASSPHRASE: &str = "hunter2";
const LEN: u64 = 4096;

/// Bytes of an image that `hunter2` opens.
fn image() -> IoBuffer {
    let cipher = CipherSpec::from_options(Some("aes-128"), Some("cbc"), Some("essiv"), None);
    let few = Iterations { slot: 2, digest: 2 };
    let mut random = |bytes: &mut [u8]| bytes.fill(0xA5);
    let cipher = cipher.expect("it is known");
    let made = Header::create(cipher, Hash::Sha1, PASSPHRASE.as_bytes(), few, &mut random);
    let update = made.expect("the arguments are fine").update;
    let mut image = vec![0; (update.header.payload_offset() + LEN) as usize];
    image[..Header::LEN].copy_from_slice(&update.header.to_bytes());
    image[update.offset as usize..][..update.material.len()].copy_from_slice(&update.material);
    image.into()
}

fn secret(rest: &str) -> String {
    format!(r#"{{"qom-type":"secret","id":"sec0",{rest}}}"#)
}

fn luks(secret: &str) -> String {
    let file = r#"{"driver":"file","node-name":"below","filename":"d"}"#;
    format!(r#"{{"driver":"luks","node-name":"top","key-secret":"{secret}","file":{file}}}"#)
}

async fn add_secret(bench: &Bench) {
    bench.done("object-add", &secret(r#""data":"aHVudGVyMg==","format":"base64""#)).await;
}

#[test]
fn a_secret_is_refused_by_what_is_wrong_with_it_and_never_shown() {
    let test = Test::new(|bench| async move {
        let refused = |rest: &'static str, said: &'static str| {
            let bench = bench.clone();
            async move {
                let reply = bench.execute("object-add", &secret(rest)).await;
                let text = reply.expect_err("it is refused").desc;
                assert!(text.contains(said), "{text}, not: {said}");
                assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
            }
        };
        refused(r#""data":4711"#, "data: a string is needed").await;
        refused(r#""data":["hunter2"]"#, "data: a string is needed").await;
        refused(r#""data":"hunter2!","format":"base64""#, "data: is not base64").await;
        refused(r#""data":"hunter2","format":"hex""#, "format").await;
        refused(r#""data":"hunter2","length":4"#, "length").await;
        refused(r#""format":"raw""#, "data").await;
        refused(r#""file":"secret.txt""#, "file: not implemented; give the secret as 'data'").await;
        refused(r#""data":"hunter2","keyid":"k""#, "keyid: not implemented").await;
        bench.done("object-add", &secret(r#""data":"hunter2""#)).await;
        refused(r#""data":"hunter2""#, "there is an object 'sec0' already").await;
        bench.done("object-del", r#"{"id":"sec0"}"#).await;
        bench.refused("object-del", r#"{"id":"sec0"}"#, &["no object 'sec0'"]).await;
        let other = r#"{"qom-type":"iothread","id":"i","data":"hunter2"}"#;
        bench.refused("object-add", other, &["qom-type"]).await;
        let digit = r#"{"qom-type":"secret","id":"0","data":"hunter2"}"#;
        bench.refused("object-add", digit, &["id: an identifier is needed"]).await;
    });
    check_alone("secrets", &test);
    let Ok(Value::Dict(arguments)) = parse_json(&secret(r#""data":"hunter2""#)) else {
        panic!("it is an object")
    };
    let shown = Value::Dict(without_secrets("object-add", &arguments)).to_string();
    assert!(shown.contains("sec0") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(without_secrets("blockdev-add", &Dict::new()), Dict::new());
}

#[test]
fn an_image_is_opened_by_its_secret_or_nothing_is_left_of_it() {
    let test = Test::new(|bench| async move {
        bench
            .refused("blockdev-add", &luks("sec0"), &["key-secret: there is no secret 'sec0'"])
            .await;
        bench.done("object-add", &secret(r#""data":"hunter3""#)).await;
        let said = ["the passphrase opens none of the key slots"];
        bench.refused("blockdev-add", &luks("sec0"), &said).await;
        bench.done("object-del", r#"{"id":"sec0"}"#).await;
        add_secret(&bench).await;
        let no_image = luks("sec0").replace(r#""filename":"d""#, r#""filename":"a""#);
        bench.refused("blockdev-add", &no_image, &["corrupt: luks header, magic"]).await;
        let missing = r#"{"driver":"luks","node-name":"top","file":"below"}"#;
        bench.refused("blockdev-add", missing, &["key-secret"]).await;
        bench.done("blockdev-add", &luks("sec0")).await;
        assert_eq!(bench.child("top", "file").as_deref(), Some("below"));
        // It is not needed any more.
        bench.done("object-del", r#"{"id":"sec0"}"#).await;
        let disk = bench.device("disk0", "top").await;
        assert_eq!(disk.len().expect("there is a root").0, LEN);
        disk.write(Write::data(700, vec![9; 600].into())).await.expect("no fault is budgeted");
        let read = disk.read(ByteRange::new(700, 600)).await.expect("no fault is budgeted");
        assert!(read.iter().all(|byte| *byte == 9));
    });
    check_with("open", &test, ("d", image()), FAULTLESS, &[]);
}

#[test]
fn an_image_is_opened_below_others_and_above_a_node_that_is_there() {
    let test = Test::new(|bench| async move {
        add_secret(&bench).await;
        let file = r#"{"driver":"file","node-name":"below","filename":"d"}"#;
        bench.done("blockdev-add", file).await;
        let luks = r#"{"driver":"luks","key-secret":"sec0","file":"below"}"#;
        let top = format!(r#"{{"driver":"raw","node-name":"top","file":{luks}}}"#);
        bench.done("blockdev-add", &top).await;
        assert_eq!(bench.device("disk0", "top").await.len().expect("it has a root").0, LEN);
        let again = format!(r#"{{"driver":"raw","node-name":"two","file":{luks}}}"#);
        bench.refused("blockdev-add", &again, &["refused"]).await;
    });
    check_with("below", &test, ("d", image()), FAULTLESS, &[]);
}

#[test]
fn a_mirror_to_an_encrypted_image_ends_equal_whatever_the_order() {
    let test = Test::new(|bench| async move {
        add_secret(&bench).await;
        bench.done("blockdev-add", &luks("sec0")).await;
        bench.add_files(&["a"]).await;
        let disk = bench.device("disk0", "a").await;
        let mirror = r#"{"job-id":"m","device":"a","target":"top","sync":"full"}"#;
        let ready = bench
            .monitor
            .events()
            .subscribe(vec!["BLOCK_JOB_READY".into(), "BLOCK_JOB_COMPLETED".into()]);
        bench.done("blockdev-mirror", mirror).await;
        let guest = disk.clone();
        let write = async move { guest.write(Write::data(1024, vec![7; 512].into())).await };
        let written = bench.runtime.spawn("guest", write);
        ready.wait(vec![("BLOCK_JOB_READY".into(), Dict::new())]).await;
        bench.done("job-complete", r#"{"id":"m"}"#).await;
        written.join().await.expect("no fault is budgeted");
        ready.wait(vec![("BLOCK_JOB_COMPLETED".into(), Dict::new())]).await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("top"));
        let mut expected = vec![1; 4096];
        expected[1024..1536].fill(7);
        let read = disk.read(ByteRange::new(0, 4096)).await.expect("no fault is budgeted");
        assert!(*read == expected[..], "the copy differs");
    });
    check_with("mirror", &test, ("d", image()), FAULTLESS, &[]);
}

#[test]
fn what_a_fault_interrupts_leaves_nothing_behind() {
    let test = Test::new(|bench| async move {
        add_secret(&bench).await;
        let before = bench.trace().await;
        if bench.execute("blockdev-add", &luks("sec0")).await.is_err() {
            blockyard_sync::sometimes!(true, "a fault kept an image from being opened");
            assert_eq!(bench.trace().await, before);
        }
    });
    let marks = ["a fault kept an image from being opened"];
    check_with("fault", &test, ("d", image()), ONE_FAULT, &marks);
}
