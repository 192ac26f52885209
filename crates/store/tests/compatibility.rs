//! Whole records of each past format still open, and records of the future are met with manners.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

#[expect(dead_code, reason = "an example has a main, which is not called here")]
#[path = "../examples/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fixture::{SEALED, TORN};
use mnemoscope_store::{
    Begun, ErrorKind, FORMAT, FormatVersion, RunReader, Status, Store, canonical, event,
};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn formats_page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md")).unwrap()
}

/// Every file below `dir`, by its name from there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A copy of the fixtures of one format as a store that may be written.
fn copy(format: &str) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&fixtures().join(format)) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn a_whole_record_of_format_1_0_still_opens() {
    let run = RunReader::open(&fixtures().join("1.0").join(SEALED)).unwrap();
    assert_eq!(run.format(), FormatVersion { major: 1, minor: 0 });
    assert_eq!((run.id(), run.status()), (SEALED, Status::Sealed));
    assert_eq!(run.created_secs(), Some(1_790_000_000.25));
    assert_eq!(run.meta()["version"], "0.1.0");
    assert_eq!(run.plan()["train"]["lr"], 3e-4);
    assert_eq!(run.result().unwrap()["eval"]["val"]["n_errors"], 1);
    let curve = |key| run.events().of_kind("curve").map(|it| it.data[key].clone()).collect();
    let (steps, losses): (Vec<Value>, Vec<Value>) = (curve("step"), curve("loss_nats"));
    assert_eq!(steps, [100, 200, 300]);
    assert_eq!(losses, [json!(0.625_125), json!(2.5e-7), json!(1e-9)]);
    assert_eq!(run.checkpoint(200).unwrap().1, b"the state after step 200");
    assert_eq!(run.last_checkpoint().unwrap().unwrap().0.step, 300);
    assert_eq!(run.json("eval/val.json").unwrap()["n_trials"], 26_508);
    assert_eq!(run.names("glitches").unwrap(), ["glitches/val-17-4.json"]);
    assert_eq!(run.file("spec.toml").unwrap(), b"[model]\nname = \"lstm\"\n");
    assert_eq!(run.verify().unwrap(), [""; 0]);
}

#[test]
fn an_interrupted_record_of_format_1_0_can_still_be_gone_on_with() {
    let (_dir, store) = copy("1.0");
    let run = store.find("7a").unwrap();
    assert_eq!(run.status(), Status::Interrupted);
    assert_eq!(run.events().torn.unwrap().n_bytes, 30);
    let begun = store.begin(TORN, &run.plan().clone(), &json!({})).unwrap();
    let Begun::Resumed(mut run) = begun else { panic!("{begun:?}") };
    assert_eq!(run.last_good_checkpoint().unwrap().unwrap().1, b"the state after step 100");
    assert_eq!(run.seal(&json!({})).unwrap().verify().unwrap(), [""; 0]);
}

/// If this fails, the format has changed: a new version, a new folder of fixtures, `docs/formats.md`.
#[test]
fn this_release_writes_the_bytes_of_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path()).unwrap();
    let (written, kept) = (files(dir.path()), files(&fixtures().join(FORMAT.to_string())));
    assert_eq!(written.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, bytes) in kept {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&written[&name]), text(&bytes), "{name}");
    }
}

/// Gives a JSON file of the record another version and perhaps more content, with a checksum that
/// fits.
fn rewrite(path: &Path, format: FormatVersion, change: impl FnOnce(&mut Value)) {
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut file["body"]);
    let FormatVersion { major, minor } = format;
    let body = canonical::to_canonical(&file["body"]);
    let rest = format!("\"format\":{{\"major\":{major},\"minor\":{minor}}},\"body\":{body}}}\n");
    let sum = canonical::hash_bytes(rest.as_bytes());
    fs::write(path, format!("{{\"blake3\":\"{sum}\",{rest}")).unwrap();
}

#[test]
fn a_newer_major_is_refused_with_both_numbers() {
    let (_dir, store) = copy("1.0");
    let path = store.root().join(SEALED).join("record.json");
    rewrite(&path, FormatVersion { major: 2, minor: 0 }, |_| {});
    let expected =
        format!("{} has format 2.0, this release reads 1.0; see docs/formats.md", path.display());
    let error = store.find(SEALED).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Incompatible, expected.clone()));
    let error = store.begin(SEALED, &json!({}), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    let listed = store.runs().unwrap().into_iter().find(|run| run.id == SEALED).unwrap();
    assert_eq!((listed.status, listed.problem), (None, Some(expected)));
}

#[test]
fn a_newer_minor_is_accepted_with_what_it_added() {
    let (_dir, store) = copy("1.0");
    let newer = FormatVersion { major: 1, minor: 7 };
    let dir = store.root().join(SEALED);
    rewrite(&dir.join("plan.json"), newer, |_| {});
    rewrite(&dir.join("result.json"), newer, |_| {});
    rewrite(&dir.join("record.json"), newer, |_| {});
    rewrite(&dir.join("eval/val.json"), newer, |body| body["added"] = json!(true));
    let run = store.find(SEALED).unwrap();
    assert_eq!((run.format(), run.status()), (newer, Status::Sealed));
    assert_eq!(run.json("eval/val.json").unwrap()["added"], true);
}

#[test]
fn the_page_about_the_format_is_about_this_format() {
    let page = formats_page();
    assert!(page.contains(&format!("# Format {FORMAT}")), "docs/formats.md names another format");
    for kind in event::kind::ALL {
        assert!(page.contains(&format!("| `{kind}` |")), "docs/formats.md does not name `{kind}`");
    }
    // The lines it shows are lines of the fixture.
    let dir = fixtures().join("1.0").join(SEALED);
    let events = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let record = fs::read_to_string(dir.join("record.json")).unwrap();
    let covered = record.find("\"format\"").unwrap();
    assert!(page.contains(&format!("`tail -c +{} plan.json | b3sum`", covered + 1)));
    assert!(page.contains(&format!("is byte {covered}, counting from 0")));
    for line in [record.as_str(), events.lines().next().unwrap(), events.lines().nth(2).unwrap()] {
        assert!(page.contains(line.trim_end()), "docs/formats.md does not show {line}");
    }
}
