//! The life of a run, from its beginning to its seal, and what damage does to it.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::fs;
use std::path::Path;

use mnemoscope_store::{Begun, ErrorKind, RunReader, RunWriter, Status, Store, read_json};
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "3f9c0a1b2c3d4e5f";

fn plan() -> Value {
    json!({"model": {"name": "lstm"}, "train": {"n_steps": 3}})
}

fn begin(store: &Store) -> RunWriter {
    match store.begin(ID, &plan(), &json!({"created_secs": 7})).unwrap() {
        Begun::New(run) | Begun::Resumed(run) => run,
        Begun::Sealed(_) => panic!("it is sealed"),
    }
}

/// A store with one run, which has three steps with a checkpoint each.
fn three_steps() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("runs")).unwrap();
    let mut run = begin(&store);
    for step in 1..=3 {
        run.append("curve", &json!({"step": step})).unwrap();
        run.save_checkpoint(step, format!("state {step}").as_bytes()).unwrap();
    }
    drop(run);
    (dir, store)
}

fn sealed() -> (tempfile::TempDir, Store) {
    let (dir, store) = three_steps();
    let mut run = begin(&store);
    run.write_file("spec.toml", b"n_steps = 3\n").unwrap();
    run.write_json("eval/val.json", &json!({"n_errors": 0})).unwrap();
    run.write_json("glitches/val-7-12.json", &json!({"tokens": [0, 3, 1, 4]})).unwrap();
    run.seal(&json!({"error_rate": 0.0})).unwrap();
    (dir, store)
}

fn flip(path: &Path, at: usize, by: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= by;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_run_is_new_then_resumed_then_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let meta = json!({"created_secs": 7.5, "host": "a"});
    let Begun::New(run) = store.begin(ID, &plan(), &meta).unwrap() else { panic!("not new") };
    assert_eq!(store.find(ID).unwrap().status(), Status::Running);
    drop(run);
    assert_eq!(store.find(ID).unwrap().status(), Status::Interrupted);

    let again = json!({"created_secs": 9.5, "host": "b"});
    let Begun::Resumed(mut run) = store.begin(ID, &plan(), &again).unwrap() else { panic!() };
    assert_eq!(run.last_good_checkpoint().unwrap(), None);
    assert!(run.warnings().is_empty());
    let reader = run.seal(&json!({"error_rate": 0.5})).unwrap();
    assert_eq!((reader.status(), reader.id()), (Status::Sealed, ID));
    assert_eq!((reader.plan(), reader.meta()), (&plan(), &meta));
    assert_eq!(reader.created_secs(), Some(7.5));
    assert_eq!(reader.result(), Some(&json!({"error_rate": 0.5})));
    let resumed = reader.events().of_kind("resumed").next().unwrap();
    assert_eq!(resumed.data["meta"], again);

    let Begun::Sealed(reader) = store.begin(ID, &plan(), &meta).unwrap() else { panic!() };
    assert_eq!(reader.verify().unwrap(), [""; 0]);
}

#[test]
fn how_a_run_ended_is_read_back_and_each_unsealed_end_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    begin(&store).fail("loss is not finite at step 40").unwrap();
    let run = store.find(ID).unwrap();
    assert_eq!(run.status(), Status::Failed);
    assert_eq!(run.message(), Some("loss is not finite at step 40"));
    begin(&store).crash("index out of bounds").unwrap();
    let run = store.find(ID).unwrap();
    assert_eq!((run.status(), run.message()), (Status::Crashed, Some("index out of bounds")));
    begin(&store).interrupt().unwrap();
    let run = store.find(ID).unwrap();
    assert_eq!((run.status(), run.message()), (Status::Interrupted, None));
    begin(&store).seal(&json!({})).unwrap();
    assert_eq!(store.find(ID).unwrap().status(), Status::Sealed);
}

#[test]
fn a_resume_goes_on_from_the_newest_checkpoint_and_drops_what_came_after() {
    let (_dir, store) = three_steps();
    let mut run = begin(&store);
    run.append("curve", &json!({"step": 4})).unwrap();
    drop(run);
    let mut run = begin(&store);
    let (checkpoint, bytes) = run.last_good_checkpoint().unwrap().unwrap();
    assert_eq!((checkpoint.step, bytes.as_slice()), (3, &b"state 3"[..]));
    run.append("curve", &json!({"step": 4})).unwrap();
    let reader = run.reader().unwrap();
    let live = reader.events().of_kind("curve").map(|event| event.data["step"].clone());
    assert_eq!(live.collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(reader.events().items.iter().filter(|event| event.kind == "curve").count(), 5);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said() {
    let (_dir, store) = three_steps();
    let path = store.root().join(ID).join("checkpoints/0000000003.safetensors");
    flip(&path, 2, 1);
    let strict = store.find(ID).unwrap().last_checkpoint().unwrap_err();
    assert_eq!(strict.kind(), ErrorKind::Corrupt);

    let mut run = begin(&store);
    let expected = format!(
        "the checkpoint of step 3 was passed over: {} is damaged: its checksum does not fit its \
         content; restore it from a copy, or move the run away and run it again",
        path.display()
    );
    assert_eq!(run.warnings(), std::slice::from_ref(&expected));
    assert_eq!(run.last_good_checkpoint().unwrap().unwrap().0.step, 2);
    run.keep_last(2).unwrap();
    let reader = run.reader().unwrap();
    let steps: Vec<u64> = reader.checkpoints().iter().map(|it| it.step).collect();
    assert_eq!(steps, [1, 2], "the damaged one counts for nothing");
    assert_eq!(reader.events().items.last().unwrap().data["damaged"], json!([expected]));
    assert_eq!(reader.events().of_kind("curve").count(), 2);
    run.save_checkpoint(3, b"state 3").unwrap();
    assert_eq!(run.seal(&json!({})).unwrap().verify().unwrap(), [""; 0]);
}

#[test]
fn with_no_good_checkpoint_a_run_starts_at_its_beginning() {
    let (_dir, store) = three_steps();
    let folder = store.root().join(ID).join("checkpoints");
    fs::write(folder.join("0000000003.safetensors"), b"").unwrap();
    fs::write(folder.join("0000000002.safetensors"), b"state 2 and more").unwrap();
    fs::remove_file(folder.join("0000000001.safetensors")).unwrap();
    let mut run = begin(&store);
    let whys = ["it has 0 bytes and 7 were", "it has 16 bytes and 7 were", "the file is missing"];
    assert_eq!(run.warnings().len(), 3);
    for (warning, why) in run.warnings().iter().zip(whys) {
        assert!(warning.contains(why), "{warning}");
    }
    assert_eq!(run.last_good_checkpoint().unwrap(), None);
    assert_eq!(run.reader().unwrap().events().of_kind("curve").count(), 0);
}

#[test]
fn only_the_newest_checkpoints_are_kept() {
    let (_dir, store) = three_steps();
    let mut run = begin(&store);
    run.keep_last(2).unwrap();
    run.keep_last(2).unwrap();
    let reader = run.reader().unwrap();
    let steps: Vec<u64> = reader.checkpoints().iter().map(|it| it.step).collect();
    assert_eq!(steps, [2, 3]);
    let gone = reader.checkpoint(1).unwrap_err();
    assert_eq!(gone.to_string(), format!("run `{ID}` has no checkpoint of step 1; it has 2, 3"));
    assert!(!store.root().join(ID).join("checkpoints/0000000001.safetensors").exists());
    assert_eq!(reader.checkpoint(2).unwrap().1, b"state 2");
    run.keep_last(0).unwrap();
    assert_eq!(run.reader().unwrap().checkpoints().len(), 1);
    assert_eq!(run.seal(&json!({})).unwrap().verify().unwrap(), [""; 0]);
}

#[test]
fn a_torn_event_is_reported_and_then_gone() {
    let (_dir, store) = three_steps();
    let path = store.root().join(ID).join("events.jsonl");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [whole.as_slice(), br#"{"blake3":"0f"#].concat()).unwrap();
    let torn = store.find(ID).unwrap().events().torn.unwrap();
    assert_eq!((torn.event_idx, torn.n_bytes), (7, 13));
    let mut run = begin(&store);
    assert_eq!(
        run.warnings(),
        ["the writing of event 7 was cut off after 13 bytes; the events before it are intact"]
    );
    run.append("curve", &json!({"step": 4})).unwrap();
    let reader = run.reader().unwrap();
    assert_eq!(reader.events().torn, None);
    assert_eq!(reader.events().of_kind("curve").count(), 4);
    let resumed = reader.events().of_kind("resumed").next().unwrap();
    assert_eq!(resumed.data["torn"], json!({"event_idx": 7, "n_bytes": 13}));
}

#[test]
fn a_damaged_event_stops_everything_and_is_left_as_it_is() {
    let (_dir, store) = three_steps();
    let path = store.root().join(ID).join("events.jsonl");
    let len = fs::read(&path).unwrap().len();
    flip(&path, len / 2, 1);
    let before = fs::read(&path).unwrap();
    let error = store.begin(ID, &plan(), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("events.jsonl is damaged at event 3:"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    let runs = store.runs().unwrap();
    assert_eq!((runs[0].status, runs[0].problem.as_ref()), (None, Some(&error.to_string())));
}

#[test]
fn a_sealed_run_is_never_altered() {
    let (_dir, store) = sealed();
    let dir = store.root().join(ID);
    let snapshot = || -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
        let mut files: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| {
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                (path.display().to_string(), fs::read(&path).unwrap(), modified)
            })
            .collect();
        files.sort();
        files
    };
    let before = snapshot();
    for _ in 0..2 {
        assert!(matches!(store.begin(ID, &plan(), &json!({"x": 1})).unwrap(), Begun::Sealed(_)));
        store.runs().unwrap();
        store.rebuild_index().unwrap();
        store.find("latest").unwrap().verify().unwrap();
    }
    assert_eq!(snapshot(), before);
}

/// Cutting the events of a sealed run must not make it look interrupted: a resume would alter it.
#[test]
fn a_sealed_run_that_lost_events_is_damaged_and_not_interrupted() {
    let (_dir, store) = sealed();
    let path = store.root().join(ID).join("events.jsonl");
    let whole = fs::read(&path).unwrap();
    for n_bytes in [whole.len() - 1, whole.len() - 40, whole.len() / 2, 0] {
        fs::write(&path, &whole[..n_bytes]).unwrap();
        let error = store.begin(ID, &plan(), &json!({})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), n_bytes);
    }
}

#[test]
fn files_that_were_exchanged_are_seen() {
    let (_dir, store) = sealed();
    let other_dir = tempfile::tempdir().unwrap();
    let other = Store::open(other_dir.path()).unwrap();
    let plan = json!({"another": "plan"});
    let Begun::New(run) = other.begin(ID, &plan, &json!({})).unwrap() else { panic!() };
    run.seal(&json!({"error_rate": 0.9})).unwrap();
    for (name, why) in [
        ("plan.json", "it is not the plan that this run began with"),
        ("record.json", "it is not the record that this run began with"),
        ("result.json", "it is not the result that this run was sealed with"),
    ] {
        let path = store.root().join(ID).join(name);
        let own = fs::read(&path).unwrap();
        fs::copy(other.root().join(ID).join(name), &path).unwrap();
        let error = store.find(ID).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(why), "{error}");
        fs::write(&path, own).unwrap();
    }
    assert_eq!(store.find(ID).unwrap().verify().unwrap(), [""; 0]);
}

#[test]
fn a_missing_or_foreign_file_is_named() {
    let (_dir, store) = sealed();
    let dir = store.root().join(ID);
    let run = store.find(ID).unwrap();
    fs::remove_file(dir.join("eval/val.json")).unwrap();
    fs::write(dir.join("notes.txt"), "later").unwrap();
    let complaints = run.verify().unwrap();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("val.json is damaged: the file is missing"), "{complaints:?}");
    assert!(complaints[1].contains("notes.txt came after the run was sealed"), "{complaints:?}");
    fs::remove_file(dir.join("record.json")).unwrap();
    let error = store.begin(ID, &plan(), &json!({})).unwrap_err();
    assert!(error.to_string().contains("record.json is damaged: the file is missing"), "{error}");
}

#[test]
fn a_run_whose_record_was_removed_is_not_written_over() {
    let (_dir, store) = three_steps();
    fs::remove_file(store.root().join(ID).join("record.json")).unwrap();
    let error = store.begin(ID, &plan(), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(store.root().join(ID).join("checkpoints/0000000003.safetensors").exists());
}

#[test]
fn another_plan_under_the_same_id_is_refused() {
    let (_dir, store) = three_steps();
    let error = store.begin(ID, &json!({"other": 1}), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    begin(&store).seal(&json!({})).unwrap();
    let error = store.begin(ID, &json!({"other": 1}), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn other_files_come_back_and_say_when_they_are_not_there() {
    let (_dir, store) = sealed();
    let run = store.find(ID).unwrap();
    assert_eq!(run.file("spec.toml").unwrap(), b"n_steps = 3\n");
    assert_eq!(run.json("eval/val.json").unwrap(), json!({"n_errors": 0}));
    assert_eq!(run.names("glitches").unwrap(), ["glitches/val-7-12.json"]);
    assert!(run.names("probes").unwrap().is_empty());
    let glitch = run.path().join("glitches/val-7-12.json");
    assert_eq!(read_json(&glitch).unwrap()["tokens"], json!([0, 3, 1, 4]));
    for error in [run.file("eval.toml").unwrap_err(), run.json("eval/no.json").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(RunReader::open(&store.root().join("no")).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Every file of a sealed record and its length.
fn files_of(dir: &Path) -> Vec<(String, usize)> {
    let names = [
        "record.json",
        "plan.json",
        "events.jsonl",
        "result.json",
        "spec.toml",
        "eval/val.json",
        "glitches/val-7-12.json",
        "checkpoints/0000000001.safetensors",
        "checkpoints/0000000003.safetensors",
    ];
    names.map(|name| (name.to_owned(), fs::read(dir.join(name)).unwrap().len())).into()
}

/// Whether opening the run and reading everything in it complains.
fn complains(dir: &Path) -> bool {
    RunReader::open(dir).map_or(true, |run| !run.verify().unwrap().is_empty())
}

#[test]
fn any_changed_byte_and_any_cut_of_any_file_of_a_sealed_record_is_detected() {
    let (_dir, store) = sealed();
    let dir = store.root().join(ID);
    assert!(!complains(&dir));
    let files = files_of(&dir);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() };
    proptest!(config, |(which in 0..files.len(), at: prop::sample::Index, by in 1..=255_u8, cut: bool)| {
        let (name, len) = &files[which];
        let path = dir.join(name);
        let own = fs::read(&path).unwrap();
        let at = at.index(*len);
        if cut {
            fs::write(&path, &own[..at]).unwrap();
        } else {
            flip(&path, at, by);
        }
        let detected = complains(&dir);
        fs::write(&path, own).unwrap();
        prop_assert!(detected, "{name} at {at} by {by}, cut: {cut}");
    });
    assert!(!complains(&dir));
}

#[test]
fn sealing_removes_checkpoints_that_no_event_keeps_and_refuses_what_was_damaged_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let begin = |id: &str| match store.begin(id, &json!({"n": 1}), &json!({})).unwrap() {
        Begun::New(run) | Begun::Resumed(run) => run,
        Begun::Sealed(_) => panic!("nobody sealed it"),
    };
    let mut run = begin("3f9c");
    run.save_checkpoint(2, b"state").unwrap();
    // As a process leaves it that was killed before the event, or after that of a removal.
    fs::write(run.path().join("checkpoints/0000000001.safetensors"), "old").unwrap();
    let sealed = run.seal(&json!({})).unwrap();
    assert_eq!(sealed.names("checkpoints").unwrap(), ["checkpoints/0000000002.safetensors"]);
    assert_eq!(sealed.verify().unwrap(), [""; 0]);
    for name in ["eval/val.json", "spec.toml"] {
        let id = format!("4a-{}", name.len());
        let mut run = begin(&id);
        run.write_json("eval/val.json", &json!({"n_errors": 0})).unwrap();
        run.write_file("spec.toml", b"n_steps = 3").unwrap();
        let path = run.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = run.seal(&json!({})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(name), "{error}");
        // Written again, it is whole, and the run can be sealed.
        let mut run = begin(&id);
        run.write_json("eval/val.json", &json!({"n_errors": 0})).unwrap();
        run.write_file("spec.toml", b"n_steps = 3").unwrap();
        assert_eq!(run.seal(&json!({})).unwrap().verify().unwrap(), [""; 0]);
    }
}
