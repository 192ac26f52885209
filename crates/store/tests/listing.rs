//! Listing, selecting and locking: many runs, and more than one process.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use mnemoscope_store::{Begun, ErrorKind, Filter, Listed, RunWriter, Selection, Status, Store};
use serde_json::{Value, json};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("runs")).unwrap();
    (dir, store)
}

fn begin(store: &Store, id: &str, created_secs: f64, plan: &Value) -> RunWriter {
    match store.begin(id, plan, &json!({"created_secs": created_secs})).unwrap() {
        Begun::New(run) | Begun::Resumed(run) => run,
        Begun::Sealed(_) => panic!("it is sealed"),
    }
}

fn ids(runs: &[Listed]) -> Vec<&str> {
    runs.iter().map(|run| run.id.as_str()).collect()
}

/// Four runs: sealed, failed, interrupted, sealed.
fn four() -> (tempfile::TempDir, Store) {
    let (dir, store) = store();
    let plan = |n_layers: u64| json!({"model": {"n_layers": n_layers, "name": "gpt"}});
    begin(&store, "ab01", 10.0, &plan(1)).seal(&json!({"n_errors": 0})).unwrap();
    begin(&store, "ab02", 30.0, &plan(2)).fail("not finite").unwrap();
    drop(begin(&store, "cd03", 20.0, &plan(4)));
    let lstm = json!({"model": {"name": "lstm", "widths": [8, 9], "tied": true}});
    begin(&store, "ef04", 20.5, &lstm).seal(&json!({"n_errors": 7, "rate": 0.5})).unwrap();
    (dir, store)
}

#[test]
fn runs_are_listed_oldest_first_with_their_content() {
    let (_dir, store) = four();
    for _ in 0..2 {
        let runs = store.runs().unwrap();
        assert_eq!(ids(&runs), ["ab01", "cd03", "ef04", "ab02"]);
        let statuses: Vec<_> = runs.iter().map(|run| run.status.unwrap()).collect();
        use Status::{Failed, Interrupted, Sealed};
        assert_eq!(statuses, [Sealed, Interrupted, Sealed, Failed]);
        assert_eq!(runs[2].result["n_errors"], 7);
        assert_eq!(runs[1].result, Value::Null);
        assert_eq!(runs[0].plan["model"]["n_layers"], 1);
        assert_eq!((runs[3].created_secs, runs[3].problem.as_deref()), (Some(30.0), None));
        assert_eq!(runs[0].path, store.root().join("ab01"));
    }
}

#[track_caller]
fn check_filter(store: &Store, filters: &[&str], expected: &[&str]) {
    let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(ids(&store.runs_where(&filters).unwrap()), expected, "{filters:?}");
}

#[test]
fn filters_select_by_path_and_comparison() {
    let (_dir, store) = four();
    let check = |filters: &[&str], expected: &[&str]| check_filter(&store, filters, expected);
    check(&[], &["ab01", "cd03", "ef04", "ab02"]);
    check(&["status=sealed"], &["ab01", "ef04"]);
    check(&["status!=sealed"], &["cd03", "ab02"]);
    check(&["plan.model.n_layers>=2"], &["cd03", "ab02"]);
    check(&["plan.model.n_layers > 1", "plan.model.n_layers<4"], &["ab02"]);
    check(&["plan.model.n_layers!=2"], &["ab01", "cd03", "ef04"]);
    check(&["plan.model.name=gpt", "result.n_errors=0"], &["ab01"]);
    check(&["result.n_errors>0"], &["ef04"]);
    check(&["result.rate=0.5"], &["ef04"]);
    check(&["plan.model.widths.1=9"], &["ef04"]);
    check(&["plan.model.tied=true"], &["ef04"]);
    check(&["plan.model.tied=1"], &[]);
    check(&["result=null"], &["cd03", "ab02"]);
    check(&["result!=null"], &["ab01", "ef04"]);
    check(&["created_secs<=20"], &["ab01", "cd03"]);
    check(&["id>=cd"], &["cd03", "ef04"]);
    // Numbers and text are never compared with each other.
    check(&["plan.model.name>3"], &[]);
    check(&["plan.model.n_layers=\"1\""], &[]);
    check(&["plan.nowhere=1"], &[]);
}

#[test]
fn a_filter_that_makes_no_sense_says_why() {
    for (text, why) in [
        ("plan.model", "compares nothing"),
        ("plan.model~3", "compares nothing"),
        ("plan.model!3", "has no comparison among = != < <= > >="),
        (
            "modle.n_layers=2",
            "does not begin with id, status, created_secs, problem, plan, meta or result",
        ),
        ("plan..n=2", "has a path that is not words with points between them"),
        ("plan.\"n=2", "has a path that is not words with points between them"),
        ("plan.n=", "compares with nothing"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let expected =
            format!("the filter `{text}` {why}; write for example `plan.model.n_layers=2`");
        assert_eq!(error.to_string(), expected);
    }
    for text in ["plan.n=2", "meta.host=\"7\"", "status!=sealed", "id=12"] {
        let filter: Filter = text.parse().unwrap();
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter, "{text}");
    }
}

#[test]
fn selectors_are_latest_an_id_or_the_beginning_of_one() {
    let (_dir, store) = four();
    let found = |selector| store.find(selector).map(|run| run.id().to_owned());
    assert_eq!(found("latest").unwrap(), "ab02");
    assert_eq!(found("ab01").unwrap(), "ab01");
    assert_eq!(found("c").unwrap(), "cd03");
    for (selector, kind, message) in [
        ("ab", ErrorKind::Ambiguous, "`ab` matches 2 runs; type more of the id"),
        ("", ErrorKind::NotFound, "no run matches ``; `mnemoscope runs` lists them"),
        (
            "../runs/ab01",
            ErrorKind::NotFound,
            "no run matches `../runs/ab01`; `mnemoscope runs` lists them",
        ),
    ] {
        let error = found(selector).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }
    // An id that is the beginning of another is still an id.
    drop(begin(&store, "ab0", 1.0, &json!({})));
    assert_eq!(found("ab0").unwrap(), "ab0");
}

#[test]
fn an_empty_or_absent_store_says_so() {
    let (dir, store) = store();
    assert!(store.runs().unwrap().is_empty());
    let error = store.find("latest").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("holds no runs yet; `mnemoscope run FILE` makes one"));
    let error = Store::open_existing(&dir.path().join("no")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A path that nobody can make a directory of, not even the administrator.
#[test]
fn an_unwritable_store_says_so() {
    let (dir, _store) = store();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let root = file.join("runs");
    let error = Store::open(&root).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let expected = format!(
        "the store {} cannot be written; choose another with `--store DIR`",
        root.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_damaged_run_is_listed_with_its_problem_and_hides_no_other() {
    let (_dir, store) = four();
    store.runs().unwrap();
    let root = store.root();
    fs::write(root.join("ab01/plan.json"), "{}").unwrap();
    fs::remove_file(root.join("cd03/record.json")).unwrap();
    fs::remove_file(root.join("ef04/record.json")).unwrap();
    fs::create_dir(root.join("figures")).unwrap();
    fs::rename(root.join("ab02"), root.join("renamed")).unwrap();
    let runs = store.runs().unwrap();
    let problems: Vec<(&str, &str)> =
        runs.iter().map(|run| (run.id.as_str(), run.problem.as_deref().unwrap())).collect();
    let expected = [
        ("ab01", "plan.json is damaged: it does not begin with a checksum"),
        ("cd03", "its beginning was cut off; running its plan again begins anew"),
        ("ef04", "record.json is damaged: the file is missing"),
        ("renamed", "it is the record of run `ab02` under another name"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for ((id, problem), (expected_id, part)) in problems.into_iter().zip(expected) {
        assert!(id == expected_id && problem.contains(part), "{id}: {problem}");
    }
    assert_eq!(store.find("latest").unwrap_err().kind(), ErrorKind::Corrupt);
}

/// The listing of a store whose index was never there.
fn without_index(store: &Store) -> Vec<Listed> {
    fs::remove_file(store.root().join("index.sqlite")).ok();
    store.runs().unwrap()
}

#[test]
fn the_index_never_disagrees_with_the_directories() {
    let (_dir, store) = four();
    let root = store.root().to_owned();
    let changes: [&dyn Fn(); 7] = [
        &|| drop(begin(&store, "new", 40.0, &json!({"n": 1}))),
        &|| fs::remove_dir_all(root.join("ab01")).unwrap(),
        &|| drop(begin(&store, "new", 41.0, &json!({"n": 1})).seal(&json!({"x": 1})).unwrap()),
        &|| fs::rename(root.join("ab02"), root.join("ab01")).unwrap(),
        &|| {
            // The same size, and the same time as far as its owner can set it.
            let path = root.join("ef04/result.json");
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes[80] ^= 1;
            fs::write(&path, bytes).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        },
        &|| fs::write(root.join("index.sqlite"), "not a database, but as long as one").unwrap(),
        &|| fs::write(root.join("index.sqlite"), "").unwrap(),
    ];
    for (round, change) in changes.into_iter().enumerate() {
        store.runs().unwrap();
        change();
        let listed = store.runs().unwrap();
        assert_eq!(listed, without_index(&store), "change {round}");
    }
    store.rebuild_index().unwrap();
    assert!(root.join("index.sqlite").exists());
}

/// Of a large store, sealed runs are packed and not looked at again; what is new, gone or not sealed is seen all the same.
#[test]
fn a_large_store_is_listed_as_it_is() {
    const N: usize = 2_100;
    // A memory file system if there is one: this is about the listing and not about fsync.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::open(&dir.path().join("runs")).unwrap();
    let id = |idx: usize| format!("{:08x}", idx.wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
    for idx in 0..N {
        let plan = json!({"model": {"n_layers": idx % 7}});
        let run = begin(&store, &id(idx), idx as f64, &plan);
        if idx % 500 == 499 {
            run.interrupt().unwrap();
        } else {
            run.seal(&json!({"n_errors": idx})).unwrap();
        }
    }
    check_filter(&store, &["plan.model.n_layers=3", "result.n_errors>=2092"], &[&id(2_096)]);
    let root = store.root().to_owned();
    let changes: [&dyn Fn(); 4] = [
        &|| fs::remove_dir_all(root.join(id(3))).unwrap(),
        &|| drop(begin(&store, "new", 0.5, &json!({"n": 1})).seal(&json!({"x": 1})).unwrap()),
        &|| {
            drop(
                begin(&store, &id(499), 499.0, &json!({"model": {"n_layers": 2}}))
                    .seal(&json!({"x": 2}))
                    .unwrap(),
            )
        },
        &|| fs::rename(root.join(id(7)), root.join(id(3))).unwrap(),
    ];
    for (round, change) in changes.into_iter().enumerate() {
        store.runs().unwrap();
        change();
        let listed = store.runs().unwrap();
        assert_eq!(listed, without_index(&store), "change {round}");
        assert_eq!(listed.len(), if round == 0 { N - 1 } else { N });
    }
    let last = Selection { descending: true, most: Some(2), ..Selection::default() };
    let last = store.select(&last).unwrap();
    assert_eq!((last.n_fit, ids(&last.runs)), (N, vec![id(2_099).as_str(), id(2_098).as_str()]));
    // The pages of a listing, one after the other, are the listing.
    let whole = ids_of(&store.select(&Selection::default()).unwrap().runs);
    for n in [1, 700, N] {
        let page = |skip: usize| {
            let page = Selection { skip, most: Some(n), ..Selection::default() };
            let selected = store.select(&page).unwrap();
            assert_eq!(selected.n_fit, N);
            let values = store.values(&page, &["id".to_owned()]).unwrap();
            let ids = ids_of(&selected.runs);
            assert_eq!(values.concat(), ids.iter().map(|id| json!(id)).collect::<Vec<_>>());
            ids
        };
        let pages = (0..=N).step_by(n).take(4).flat_map(page);
        assert_eq!(pages.collect::<Vec<_>>(), whole[..whole.len().min(4 * n)]);
    }
    assert!(store.fields().unwrap().contains(&"result.n_errors".to_owned()));
}

fn ids_of(runs: &[Listed]) -> Vec<String> {
    runs.iter().map(|run| run.id.clone()).collect()
}

#[test]
fn an_index_in_use_or_of_another_layout_is_no_obstacle() {
    let (_dir, store) = four();
    let path = store.root().join("index.sqlite");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE run (x); PRAGMA user_version = 99;").unwrap();
    assert_eq!(store.runs().unwrap().len(), 4);
    fs::remove_dir_all(store.root().join("ab01")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(ids(&store.runs().unwrap()), ["cd03", "ef04", "ab02"]);
}

#[test]
fn a_run_has_one_writer_and_a_lock_ends_with_it() {
    let (_dir, store) = store();
    let run = begin(&store, "ab01", 1.0, &json!({}));
    let error = store.begin("ab01", &json!({}), &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let expected =
        format!("run `ab01` is in use by process {}; wait until it ends", std::process::id());
    assert_eq!(error.to_string(), expected);
    assert_eq!(store.runs().unwrap()[0].status, Some(Status::Running));
    drop(run);
    // What a crash leaves: the file, with a number in it, and no lock.
    let lock = store.root().join("ab01/lock");
    assert!(fs::read_to_string(&lock).unwrap().contains(&std::process::id().to_string()));
    assert_eq!(store.runs().unwrap()[0].status, Some(Status::Interrupted));
    begin(&store, "ab01", 1.0, &json!({})).seal(&json!({})).unwrap();
    assert_eq!(store.runs().unwrap()[0].status, Some(Status::Sealed));
}

#[test]
fn of_many_that_begin_at_once_exactly_one_writes() {
    let (_dir, store) = store();
    for round in 0..20 {
        let id = format!("run-{round}");
        let held = AtomicUsize::new(0);
        let barrier = std::sync::Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let begun = store.begin(&id, &json!({}), &json!({}));
                    let won = begun.is_ok();
                    held.fetch_add(usize::from(won), Ordering::SeqCst);
                    if let Err(error) = &begun {
                        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
                    }
                    // Whoever won holds the run until all have tried.
                    barrier.wait();
                });
            }
        });
        assert_eq!(held.into_inner(), 1);
    }
}

/// Asking whether a run is being written takes a lock for an instant; a writer never meets it.
#[test]
fn readers_never_keep_a_writer_out() {
    let (_dir, store) = store();
    drop(begin(&store, "ab01", 1.0, &json!({})));
    let done = AtomicBool::new(false);
    let n_asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let status = store.find("ab01").unwrap().status();
                assert!([Status::Running, Status::Interrupted].contains(&status));
                n_asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        // A writer that is refused panics; the reader must then end as well, not go on for ever.
        let written = catch_unwind(AssertUnwindSafe(|| {
            (0..60).for_each(|_| drop(begin(&store, "ab01", 1.0, &json!({}))));
        }));
        done.store(true, Ordering::SeqCst);
        written.unwrap_or_else(|refused| resume_unwind(refused));
    });
    assert!(n_asked.into_inner() > 20);
}

/// While a run is written and sealed, a reader sees one of its moments and never damage.
#[test]
fn a_run_that_is_being_written_is_never_seen_damaged() {
    let (_dir, store) = store();
    for round in 0..10 {
        let id = format!("run-{round}");
        let mut run = begin(&store, &id, 1.0, &json!({}));
        let started = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let reader = store.find(&id).unwrap();
                    started.store(true, Ordering::SeqCst);
                    assert_eq!(reader.events().torn, None);
                    match reader.status() {
                        Status::Running => {}
                        Status::Sealed => break,
                        other => panic!("{other}"),
                    }
                }
            });
            while !started.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            for step in 0..10 {
                run.append("curve", &json!({"step": step})).unwrap();
            }
            run.seal(&json!({})).unwrap();
        });
    }
}

#[test]
fn a_store_that_may_only_be_read_is_listed_without_its_index() {
    let (_dir, store) = four();
    let expected = store.runs().unwrap();
    // A directory in its place: the index can be neither opened nor removed.
    fs::remove_file(store.root().join("index.sqlite")).unwrap();
    fs::create_dir(store.root().join("index.sqlite")).unwrap();
    let reading = Store::open_existing(store.root()).unwrap();
    assert_eq!(reading.runs().unwrap(), expected);
    assert!(Path::new(&store.root().join("index.sqlite")).is_dir());
}
