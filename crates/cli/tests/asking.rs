//! Asking a store from outside: conditions, groups, files, and what may be removed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::fs;

use door::{Door, TINY};
use serde_json::{Value, json};

/// A store of two arms with three seeds each.
fn six() -> Door {
    let door = Door::new();
    let spec = format!("{TINY}\n[sweep]\nseed = {{ count = 3 }}\nmodel.d_model = [16, 32]\n");
    door.write("tiny.toml", &spec);
    door.run(&["sweep", "tiny.toml", "--quiet", "--checkpoint-every", "4"]).code(0);
    door
}

fn n_of(door: &Door, condition: &str) -> usize {
    let said = door.run(&["runs", "--where", condition, "--json"]).code(0).json();
    let n = said["runs"].as_array().unwrap().len();
    assert_eq!(said["n_fit"], n, "{condition}");
    n
}

#[test]
fn conditions_ask_for_any_field_of_plan_and_result() {
    let door = six();
    for (condition, expected) in [
        ("model.d_model=16", 3),
        ("model.d_model>=16 and val_sparse.error_rate>=0", 6),
        ("model.d_model = 32 and (seed=0 or seed=2)", 2),
        ("not arm = d_model=16", 3),
        ("status!=sealed", 0),
        ("result.train.n_steps=8 and study=tiny", 6),
        ("val.n_errors>100000", 0),
    ] {
        assert_eq!(n_of(&door, condition), expected, "{condition}");
    }
    let both = ["runs", "--where", "seed=1", "--where", "model.d_model=16", "--quiet"];
    assert_eq!(door.run(&both).code(0).stdout().lines().count(), 1);
    // A slip of the pen is no empty answer.
    for wrong in ["modle.d_model=16", "model.d_modle=16"] {
        let said = door.run(&["runs", "--where", wrong]).code(2);
        assert!(said.words().contains("no run has a field"), "{wrong}: {}", said.stderr());
    }
    let said = door.run(&["runs", "--where", "seed=1 and"]).code(2);
    assert!(said.words().contains("compares nothing"), "{}", said.stderr());
}

#[test]
fn groups_have_mean_median_and_interval_of_their_runs() {
    let door = six();
    let said = door.run(&["runs", "--by", "arm", "--json"]).code(0).json();
    assert_eq!(said["by"], json!(["meta.arm"]));
    let groups = said["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    let field = "result.eval.val_sparse.error_rate";
    let at = said["fields"].as_array().unwrap().iter().position(|it| it == field).unwrap();
    let ids = ["runs", "--where", "model.d_model=16", "--show", "val_sparse.error_rate", "--json"];
    let rows = door.run(&ids).code(0).json();
    let rates: Vec<f64> =
        rows["runs"].as_array().unwrap().iter().map(|run| run[field].as_f64().unwrap()).collect();
    assert_eq!(rates.len(), 3);
    let group = groups.iter().find(|group| group["by"] == json!(["d_model=16"])).unwrap();
    let spread = &group["fields"][at];
    let mean = rates.iter().sum::<f64>() / 3.0;
    assert!((spread["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let low = spread["interval"][0].as_f64().unwrap();
    assert!(low <= mean, "{low} {mean}");
    let page = door.run(&["runs", "--by", "arm"]).code(0).stdout();
    assert!(page.contains("val_sparse.error_rate") && page.contains("2 groups"), "{page}");
}

#[test]
fn runs_are_sorted_cut_and_shown_by_field() {
    let door = six();
    let arguments = ["runs", "--sort", "seed", "--reverse", "--limit", "2", "--show", "seed"];
    let page = door.run(&arguments).code(0).stdout();
    assert!(page.contains("the first 2 of 6 runs"), "{page}");
    let said = door.run(&[&arguments[..], &["--json"]].concat()).code(0).json();
    let seeds: Vec<&Value> =
        said["runs"].as_array().unwrap().iter().map(|run| &run["plan.seeds.data"]).collect();
    assert_eq!(seeds, [&json!(2), &json!(2)]);
    assert_eq!(said["n_fit"], 6);
}

#[test]
fn everything_goes_into_a_file_that_other_programs_read() {
    let door = six();
    for name in ["runs.csv", "runs.jsonl", "runs.parquet"] {
        let said = door.run(&["runs", "-o", name, "--json"]).code(0).json();
        assert_eq!(said["n_runs"], 6);
        assert!(said["n_fields"].as_u64().unwrap() > 60);
    }
    let csv = fs::read_to_string(door.path("runs.csv")).unwrap();
    assert_eq!(csv.lines().count(), 7);
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    for field in ["id", "plan.model.d_model", "result.eval.val.error_rate", "meta.arm"] {
        assert!(header.contains(&field), "{field}: {header:?}");
    }
    let lines = fs::read_to_string(door.path("runs.jsonl")).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(first["result.eval.val.error_rate"].is_number());
    assert_eq!(&fs::read(door.path("runs.parquet")).unwrap()[..4], b"PAR1");
    let refused = door.run(&["runs", "-o", "runs.xlsx"]).code(2);
    assert!(refused.words().contains("use .csv, .parquet or .jsonl"), "{}", refused.stderr());
}

#[test]
fn tensorboard_gets_a_folder_for_each_run() {
    let door = six();
    let said = door.run(&["runs", "--tensorboard", "board", "--json"]).code(0).json();
    assert_eq!(said["n_runs"], 6);
    // Of each: the loss of the last step, two points of three curves, and a rate with its interval of three sets.
    assert_eq!(said["n_numbers"], 6 * (1 + 4 + 9));
    let arms = fs::read_dir(door.path("board/tiny")).unwrap();
    let folders: Vec<String> =
        arms.map(|arm| arm.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders.iter().filter(|name| name.starts_with("d_model=16-")).count(), 3);
}

#[test]
fn what_a_policy_removes_is_shown_first_and_never_a_record() {
    let door = six();
    let checkpoints = || {
        let ids = door.run(&["runs", "--quiet"]).code(0).stdout();
        let of = |id: &str| {
            fs::read_dir(door.path("runs").join(id).join("checkpoints")).unwrap().count()
        };
        ids.lines().map(of).sum::<usize>()
    };
    assert_eq!(checkpoints(), 12);
    let shown = door.run(&["prune", "--json"]).code(0).json();
    assert_eq!((&shown["removed"], shown["runs"].as_array().unwrap().len()), (&json!(false), 6));
    assert_eq!(checkpoints(), 12);
    let some =
        door.run(&["prune", "--where", "model.d_model=16", "--yes", "--json"]).code(0).json();
    assert_eq!(some["runs"].as_array().unwrap().len(), 3);
    assert_eq!(checkpoints(), 9);
    door.run(&["prune", "--yes"]).code(0);
    assert_eq!(checkpoints(), 6);
    let page = door.run(&["prune"]).code(0).stdout();
    assert!(page.starts_with("Nothing in "), "{page}");
    // Everything that looks at a run still does.
    let ids = door.run(&["runs", "--quiet"]).code(0).stdout();
    for id in ids.lines() {
        door.run(&["show", id, "--verify"]).code(0);
    }
    door.run(&["eval", "latest"]).code(0);
    door.run(&["sweep", "tiny.toml", "--quiet"]).code(0);
    assert_eq!(checkpoints(), 6);
}
