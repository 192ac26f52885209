//! What is left when the disk ends: the whole life of a run, stopped at every point of its writing,
//! once as if the process had been killed there and once as a full disk.

use std::path::Path;

use serde_json::{Value, json};

use crate::files::fault::{self, Fault};
use crate::{Begun, Error, ErrorKind, RunWriter, Status, Store};

const ID: &str = "3f9c";
const LAST_STEP: u64 = 3;

/// What a run was told is safe.
#[derive(Debug, Default)]
struct Told {
    n_curves: u64,
    step: Option<u64>,
    sealed: bool,
}

fn plan() -> Value {
    json!({"n_steps": LAST_STEP})
}

fn state(step: u64) -> Vec<u8> {
    format!("state after step {step}").repeat(3).into_bytes()
}

/// Runs the plan to its end from wherever the record says it stands.
fn live(store: &Store, told: &mut Told) -> Result<(), Error> {
    let mut run = match store.begin(ID, &plan(), &json!({"created_secs": 5}))? {
        Begun::New(run) => run,
        Begun::Resumed(run) => run,
        Begun::Sealed(_) => return Ok(()),
    };
    let mut step = 0;
    if let Some((checkpoint, bytes)) = run.last_good_checkpoint()? {
        assert_eq!(bytes, state(checkpoint.step));
        step = checkpoint.step;
    }
    assert!(told.step <= Some(step).filter(|&step| step > 0), "{told:?} but resumed at {step}");
    go_on(&mut run, step, told)?;
    run.write_file("spec.toml", b"n_steps = 3\n")?;
    run.write_json("eval/val.json", &json!({"n_errors": 0}))?;
    run.seal(&json!({"error_rate": 0.0}))?;
    told.sealed = true;
    Ok(())
}

fn go_on(run: &mut RunWriter, mut step: u64, told: &mut Told) -> Result<(), Error> {
    told.n_curves = step;
    while step < LAST_STEP {
        step += 1;
        run.append("curve", &json!({"step": step}))?;
        told.n_curves = step;
        run.save_checkpoint(step, &state(step))?;
        told.step = Some(step);
        run.keep_last(2)?;
    }
    Ok(())
}

/// The record holds what the run was told is safe, and its plan can be run to the end.
fn check_left(root: &Path, told: &mut Told) {
    let store = Store::open(root).unwrap();
    for listed in store.runs().unwrap() {
        if let Some(problem) = &listed.problem {
            assert_eq!(problem, "its beginning was cut off; running its plan again begins anew");
            assert_eq!((told.n_curves, told.step), (0, None), "{told:?}");
        }
        if told.sealed {
            assert_eq!(listed.status, Some(Status::Sealed));
        }
    }
    if let Ok(reader) = store.find(ID) {
        let steps: Vec<_> =
            reader.events().of_kind("curve").map(|event| event.data["step"].clone()).collect();
        let n_curves = steps.len() as u64;
        assert!(told.n_curves <= n_curves, "{told:?} but {steps:?}");
        assert_eq!(json!(steps), json!((1..=n_curves).collect::<Vec<_>>()));
        assert_eq!(reader.verify().unwrap(), [""; 0]);
    }
    live(&store, told).unwrap();
    let reader = store.find(ID).unwrap();
    assert_eq!(reader.status(), Status::Sealed);
    assert_eq!(reader.events().of_kind("curve").count() as u64, LAST_STEP);
    assert_eq!(reader.last_checkpoint().unwrap().unwrap().1, state(LAST_STEP));
    assert_eq!(reader.verify().unwrap(), [""; 0]);
}

/// A memory file system if there is one: what is tested is the order of the writes, not fsync.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Stops the life of a run at every `stride`-th unit of its writing.
fn stop_everywhere(fault: Fault, stride: usize, mut check: impl FnMut(&Path, &mut Told, &Error)) {
    let whole = scratch();
    let cost = fault::cost(|| {
        live(&Store::open(whole.path()).unwrap(), &mut Told::default()).unwrap();
    });
    assert!(cost > 3_000, "the life of a run takes {cost} units");
    let mut n_stopped = 0;
    for budget in (0..cost).step_by(stride) {
        let dir = scratch();
        let store = Store::open(dir.path()).unwrap();
        let mut told = Told::default();
        let ended = fault::with(budget, fault, || live(&store, &mut told));
        if let Err(why) = ended {
            n_stopped += 1;
            check(dir.path(), &mut told, &why);
        }
    }
    assert!(n_stopped > 100, "only {n_stopped} stops");
}

#[test]
fn killed_at_any_point_the_record_opens_with_all_that_was_acknowledged() {
    stop_everywhere(Fault::Dead, 7, |root, told, _| check_left(root, told));
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    stop_everywhere(Fault::Full, 11, |root, told, why| {
        assert_eq!(why.kind(), ErrorKind::Full, "{why}");
        // Nothing half-written fills the disk further.
        let left = crate::read::walk(&root.join(ID)).unwrap_or_default();
        assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
        check_left(root, told);
    });
}

#[test]
fn a_disk_that_refuses_once_is_said_and_loses_nothing() {
    stop_everywhere(Fault::Refused, 11, |root, told, why| {
        assert_eq!(why.kind(), ErrorKind::Io, "{why}");
        check_left(root, told);
    });
}

#[test]
fn a_writer_goes_on_after_the_disk_was_full() {
    let dir = scratch();
    let store = Store::open(dir.path()).unwrap();
    let Begun::New(mut run) = store.begin(ID, &plan(), &json!({})).unwrap() else { panic!() };
    run.save_checkpoint(1, &state(1)).unwrap();
    fault::with(30, Fault::Full, || {
        assert_eq!(run.append("curve", &json!({"step": 2})).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(run.save_checkpoint(2, &state(2)).unwrap_err().kind(), ErrorKind::Full);
        let failure = run.write_json("eval/val.json", &json!({})).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Full);
    });
    run.append("curve", &json!({"step": 2})).unwrap();
    run.save_checkpoint(2, &state(2)).unwrap();
    let reader = run.seal(&json!({})).unwrap();
    assert_eq!(reader.events().of_kind("curve").count(), 1);
    assert_eq!(reader.verify().unwrap(), [""; 0]);
}
