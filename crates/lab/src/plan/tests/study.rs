//! Arms, sweeps, scales, claims and sets.

use std::path::Path;

use super::*;

#[test]
fn arms_are_laid_over_the_spec_and_swept_in_order() {
    let spec = "\
question = 'which?'
[train]
n_steps = 100
[[arm]]
name = 'lstm'
model.preset = 'lstm'
[[arm]]
name = 'small'
train.n_steps = 50
model = { n_layers = 2, d_model = 64, n_heads = 4 }
[sweep]
seed = { count = 3, from = 5 }
train.lr = [1e-4, 3e-4]
";
    let all = study(spec, &[]);
    assert_eq!(
        names(&all),
        [
            ("lstm lr=0.0001", 3),
            ("lstm lr=0.0003", 3),
            ("small lr=0.0001", 3),
            ("small lr=0.0003", 3)
        ]
    );
    let seeds: Vec<u64> = all.arms[0].plans.iter().map(|plan| plan.seeds.data).collect();
    assert_eq!(seeds, [5, 6, 7]);
    assert_eq!(all.arms[2].plans[0].train.n_steps, 50);
    assert_eq!(all.question.as_deref(), Some("which?"));
    // A path that `--set` decides is no longer swept, and an arm can be addressed alone.
    let one = study(spec, &["seed=1", "train.lr=1e-3", "arm.small.train.n_steps=9"]);
    assert_eq!(names(&one), [("lstm", 1), ("small", 1)]);
    assert_eq!(one.arms[0].plans[0].train.n_steps, 100);
    assert_eq!(one.arms[1].plans[0].train.n_steps, 9);
    assert_eq!(one.arms[1].plans[0].seeds, Seeds { data: 1, model: 1, eval: 0 });
    let fewer = study(spec, &["sweep.seed.count=1"]);
    assert_eq!(fewer.plans().count(), 4);
}

#[test]
fn seeds_split_and_the_evaluation_stays_where_it_is() {
    let seeds = |spec: &str| plan(spec, &[]).seeds;
    assert_eq!(seeds("seed = 3"), Seeds { data: 3, model: 3, eval: 0 });
    assert_eq!(seeds("seed = 3\ndata_seed = 4"), Seeds { data: 4, model: 3, eval: 0 });
    assert_eq!(seeds("model_seed = 5\neval_seed = 6"), Seeds { data: 0, model: 5, eval: 6 });
    let crossed = study("sweep = { data_seed = [0, 1, 2], model_seed = { count = 2 } }", &[]);
    assert_eq!(names(&crossed), [("transformer", 6)]);
}

#[test]
fn ranges_include_both_ends() {
    let values = |range: &str| -> Vec<f64> {
        let spec = format!("sweep.train.lr = {range}");
        study(&spec, &[]).plans().map(|(_, plan)| lr(plan)).collect()
    };
    assert_eq!(values("{ from = 0.1, to = 0.3, step = 0.1 }"), [0.1, 0.2, 0.3]);
    assert_eq!(values("{ from = 3, to = 1, step = -1 }"), [3.0, 2.0, 1.0]);
    let by_label = study("sweep.model.n_layers = { from = 1, to = 5, step = 2 }", &[]);
    assert_eq!(names(&by_label), [("n_layers=1", 1), ("n_layers=3", 1), ("n_layers=5", 1)]);
}

#[test]
fn what_is_zipped_goes_together() {
    let spec = "\
[sweep]
seed = { count = 2 }
zip = [{ 'train.lr' = [1e-3, 1e-4], train.n_steps = { from = 10, to = 20, step = 10 } }]
";
    let both = study(spec, &[]);
    assert_eq!(names(&both), [("lr=0.001 n_steps=10", 2), ("lr=0.0001 n_steps=20", 2)]);
    assert_eq!(both.arms[1].plans[0].train.n_steps, 20);
    // Beside another axis it is crossed, and a path that is set leaves the rest of its table.
    let crossed = study(&format!("{spec}task.p_ignore = [0.5, 0.6]"), &["train.lr=0.5"]);
    let arms: Vec<&str> = crossed.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(
        arms,
        [
            "n_steps=10 p_ignore=0.5",
            "n_steps=10 p_ignore=0.6",
            "n_steps=20 p_ignore=0.5",
            "n_steps=20 p_ignore=0.6"
        ]
    );
    assert_snapshot!(
        refusal("[sweep]\ntrain.lr = [1.0]\nzip = [{ seed = [1], train.n_steps = [1, 2] }, { train.lr = [0.1], seed = 3 }]", &[]),
        @"
    3 things are wrong with study.toml:
      study.toml:3:8: sweep.zip[0]: seed has 1 and train.n_steps 2 values; what goes together has as many of each
      study.toml:3:56: sweep.train.lr: swept twice; join the two lists
      study.toml:3:75: sweep.zip[1].seed: found 3; allowed: a list of values, { count = 25 }, or { from = 1, to = 9, step = 2 }
    "
    );
}

#[test]
fn mistakes_of_a_sweep_are_found() {
    let spec = "\
[sweep]
seed = 5
name = ['a']
train.lr = []
train.n_steps = { from = 10, to = 1 }
'model.n_layer' = [1, 2]
'model.d_model' = [64, 'wide']
data_seed = { count = 0 }
";
    assert_snapshot!(refusal(spec, &[]), @r#"
    7 things are wrong with study.toml:
      study.toml:2:8: sweep.seed: found 5; allowed: a list of values, { count = 25 }, or { from = 1, to = 9, step = 2 }
      study.toml:3:8: sweep.name: cannot be swept; swept are seeds and the values of task, model, train and eval
      study.toml:4:12: sweep.train.lr: found an empty list; give at least one value
      study.toml:5:7: sweep.train.n_steps: no step of 1 leads from 10 to 1; turn its sign
      study.toml:6:1: model.n_layer: unknown key; did you mean `n_layers`?
      study.toml:7:24: model.d_model: found "wide"; allowed: a whole number from 1
      study.toml:8:23: sweep.data_seed.count: found 0; allowed: a whole number from 1 to 100000
    "#);
    assert_snapshot!(refusal("[sweep]\nseed = [1, 2, 1]", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:2: sweep: 1 of the 3 plans of arm "transformer" are repeated; a swept value is listed twice, or the arm decides a swept value itself
    "#);
    assert_snapshot!(
        refusal("sweep = { seed = { count = 1000 }, 'train.n_steps' = { from = 1, to = 500 } }", &[]),
        @r"
    one thing is wrong with study.toml:
      study.toml:1:1: sweep: the sweep makes more than 100000 plans; shorten its lists
    "
    );
}

#[test]
fn mistakes_of_arms_and_claims_are_found() {
    let spec = "\
[train]
n_step = 3
[[arm]]
name = 'lstm'
model.preset = 'lstm'
[[arm]]
name = 'lstm'
question = 'why?'
[[arm]]
model.preset = 'fflm-base'
[[claim]]
text = 'no error'
source = 'R2'
arm = 'lstn'
set = 'val_spares'
measure = 'errors'
op = '='
bound = 0.5
[[claim]]
arm = 'lstm'
";
    assert_snapshot!(refusal(spec, &["arm.lsmt.seed=1"]), @r#"
    16 things are wrong with study.toml:
      study.toml:2:1: train.n_step: unknown key; did you mean `n_steps`?
      study.toml:7:8: arm[1].name: found "lstm" twice; give each arm a name of its own
      study.toml:8:1: arm[1].question: `question` stands at the top of a spec and not in an arm
      study.toml:9:1: arm[2].name: an arm needs a name, such as `name = "lstm"`
      study.toml:14:7: claim[0].arm: no arm is called "lstn"; did you mean "lstm"?
      study.toml:15:7: claim[0].set: no set is called "val_spares"; did you mean "val_sparse"?
      study.toml:16:11: claim[0].measure: found "errors"; allowed: "n_errors", "error_rate", "interval_low", "interval_high"; did you mean "n_errors"?
      study.toml:17:6: claim[0].op: found "="; allowed: "==", "<", "<=", ">", ">="; did you mean "=="?
      study.toml:18:9: claim[0].bound: found 0.5; allowed: a whole number from 0
      study.toml:19:1: claim[1].text: missing; say the claim in words
      study.toml:19:1: claim[1].source: missing; say who claims it, and where
      study.toml:19:1: claim[1].set: missing; say the name of an evaluation set, such as val_sparse
      study.toml:19:1: claim[1].measure: missing; a claim about a set says measure, op and bound, such as `measure = "n_errors"`, `op = "=="`, `bound = 0`
      study.toml:19:1: claim[1].op: missing; a claim says op and bound, such as `op = "=="`, `bound = 0`, or `within = [0.35, 0.55]`
      study.toml:19:1: claim[1].bound: missing; a claim says op and bound, such as `op = "=="`, `bound = 0`, or `within = [0.35, 0.55]`
      --set arm.lsmt: no arm is called "lsmt"; did you mean "lstm"?
    "#);
}

#[test]
fn a_claim_may_leave_out_what_is_the_only_one() {
    let spec = "\
model.preset = 'lstm'
[[arm]]
name = 'lstm'
[[claim]]
text = 'no error on sparse strings'
source = 'Liu et al. 2023, R2'
set = 'val_sparse'
measure = 'interval_high'
op = '<'
bound = 1e-4
";
    let study = study(spec, &["eval.val_sparse.n_examples=0"]);
    assert_eq!(study.claims[0].arm, "lstm");
    assert_eq!(
        study.claims[0].expectation(),
        "interval_high < 0.0001 in each run of lstm on val_sparse"
    );
}

#[test]
fn an_arm_may_be_held_against_another_and_not_against_itself() {
    let spec = |claim: &str| {
        format!(
            "[[arm]]\nname = 'lstm'\nmodel.preset = 'lstm'\n[[arm]]\nname = 'base'\n[[claim]]\n\
             text = 'it errs less'\nsource = 'a test'\narm = 'lstm'\nset = 'val'\n\
             measure = 'error_rate'\n{claim}"
        )
    };
    let expectation = |claim: &str| study(&spec(claim), &[]).claims[0].expectation();
    assert_eq!(
        expectation("than = 'base'\nop = '<'"),
        "error_rate < that of base in the runs of lstm on val"
    );
    assert_eq!(
        expectation("than = 'base'\nop = '>'\nfactor = 0.1"),
        "error_rate > 0.1 times that of base in the runs of lstm on val"
    );
    assert_snapshot!(refusal(&spec("than = 'lstm'\nop = '=='\nbound = 0.5\nruns = 'any'"), &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:12:8: claim[0].than: an arm cannot be compared with itself
      study.toml:13:6: claim[0].op: found "=="; allowed: "<", ">"
      study.toml:14:9: claim[0].bound: does not go with than; leave one out
      study.toml:15:8: claim[0].runs: does not go with than; leave one out
    "#);
    assert_snapshot!(refusal(&spec("than = 'bsae'\nfactor = 0"), &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:6:1: claim[0].op: missing; an arm is `op = "<"` or `op = ">"` than another
      study.toml:12:8: claim[0].than: no arm is called "bsae"; did you mean "base"?
      study.toml:13:10: claim[0].factor: found 0; allowed: a number above 0
    "#);
    assert_snapshot!(refusal(&spec("op = '<'\nbound = 0.5\nfactor = 2"), &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:14:10: claim[0].factor: does not go with bound; leave one out
    "#);
}

#[test]
fn distinct_examples_are_whole_numbers_of_batches() {
    let plan = plan("train.distinct_examples = 48", &[]);
    let first: Vec<u64> = (0..5).map(|step| plan.train.first_index(step)).collect();
    assert_eq!(first, [0, 16, 32, 0, 16]);
    assert_snapshot!(refusal("train.distinct_examples = 50", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:27: train.distinct_examples: 50 examples are no whole number of batches of 16; 64 would be
    ");
}

#[test]
fn of_many_arms_only_the_first_are_listed() {
    let spec = "[sweep]\n'model.n_layers' = { from = 1, to = 40 }\n[[claim]]\ntext = 'a'\nsource = 'b'\n\
                arm = 'transformer'\nset = 'val'\nmeasure = 'n_errors'\nop = '=='\nbound = 0";
    let message = resolve(spec, None, &[], None).unwrap_err().to_string();
    assert!(message.contains("`n_layers=12` and 28 more"), "{message}");
}

/// A study of two sizes, in which one arm has a size of its own in each.
const SCALED: &str = "\
train.n_steps = 10_000
[sweep]
seed = { count = 25 }
[scales.laptop]
train = { n_steps = 2_000 }
model = { n_layers = 2, d_model = 64, n_heads = 4 }
sweep.seed = { count = 5 }
arm.longer.train.n_steps = 6_000
[[arm]]
name = 'baseline'
[[arm]]
name = 'longer'
train.n_steps = 30_000
[[arm]]
name = 'lstm'
model = { preset = 'lstm' }
train.n_steps = 500
";

#[test]
fn a_scale_is_laid_over_the_spec_and_over_single_arms() {
    let sizes = |sets: &[&str]| -> Vec<(usize, u64, usize)> {
        let of_arm = |arm: &Arm| {
            let plan = &arm.plans[0];
            (arm.plans.len(), plan.train.n_steps, plan.model.d_model())
        };
        study(SCALED, sets).arms.iter().map(of_arm).collect()
    };
    assert_eq!(sizes(&[]), [(25, 10_000, 512), (25, 30_000, 512), (25, 500, 128)]);
    assert_eq!(sizes(&["scale=laptop"]), [(5, 2_000, 64), (5, 6_000, 64), (5, 500, 128)]);
    // What is set wins over the scale.
    let set = ["scale=laptop", "train.n_steps=7", "sweep.seed.count=1"];
    assert_eq!(sizes(&set), [(1, 7, 64), (1, 7, 64), (1, 7, 128)]);
    // An arm that is left out is gone, and what is claimed of it is still about an arm.
    let gone = SCALED.replace("arm.longer.train.n_steps = 6_000", "arm.longer = false");
    let claim = "[[claim]]\ntext = 'a'\nsource = 'b'\narm = 'longer'\nset = 'val'\n\
                 measure = 'n_errors'\nop = '=='\nbound = 0\nruns = 'each'\n";
    let left_out = format!("{gone}{claim}");
    let names = |text: &str, sets: &[&str]| -> Vec<String> {
        study(text, sets).arms.into_iter().map(|arm| arm.name).collect()
    };
    assert_eq!(names(&left_out, &["scale=laptop"]), ["baseline", "lstm"]);
    assert_eq!(names(&left_out, &[]), ["baseline", "longer", "lstm"]);
    assert_eq!(names(&gone, &["scale=laptop", "sweep.train.lr=[1e-3,1e-4]"]).len(), 4);
    let all = "arm = { baseline = false, longer = false, lstm = false }";
    let none = left_out.replace("arm.longer = false", all);
    assert!(refusal(&none, &["scale=laptop"]).contains("the scale leaves out every arm"));
    assert_snapshot!(refusal(SCALED, &["scale=labtop"]), @r#"
    one thing is wrong with study.toml:
      --set scale: no scale is called "labtop"; did you mean "laptop"?
    "#);
    let wrong = "scale = 'a'\n[scales]\nb = 3\n[scales.a]\nquestion = 'why?'\ntrain.n_step = 3\n\
                 arm.lsmt.train.n_steps = 3\n[[arm]]\nname = 'lstm'";
    assert_snapshot!(refusal(wrong, &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:3:5: scales.b: a scale is a table, such as `[scales.laptop]`
      study.toml:5:1: scales.a.question: `question` stands at the top of a spec and not in a scale
      study.toml:6:7: train.n_step: unknown key; did you mean `n_steps`?
      study.toml: arm.lsmt: no arm is called "lsmt"; did you mean "lstm"?
    "#);
}

#[test]
fn a_study_is_named_after_its_folder() {
    let name = |path: &str| resolve("", Some(Path::new(path)), &[], None).unwrap().name;
    assert_eq!(name("studies/fflm/baseline/study.toml"), "baseline");
    assert_eq!(name("my-spec.toml"), "my-spec");
    assert_eq!(name("study.toml"), "study");
    assert_eq!(study("name = 'n'", &[]).name, "n");
    assert_eq!(study("", &[]).name, "spec");
}

#[test]
fn sets_of_ones_own_are_possible() {
    let spec = "\
[eval.long]
seq_len = 1024
p_ignore = 0.9
n_examples = 10
[eval.mixed]
name = 'mixture'
parts = [{ p_ignore = 0.1 }, { p_ignore = 0.98, weight = 2 }]
n_examples = 20
curve_examples = 20
[eval.val_dense]
n_examples = 0
";
    let plan = plan(spec, &[]);
    let sets: Vec<&str> = plan.eval.sets.keys().map(String::as_str).collect();
    assert_eq!(sets, ["long", "mixed", "val", "val_sparse"]);
    assert_eq!(plan.model.n_ctx(), Some(1024));
    assert_eq!(plan.eval.sets["mixed"].task.seq_len(), 512);
    assert_snapshot!(refusal("[eval.'a/b']\np_ignore = 0.5\nn_examples = 3", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:7: eval.a/b: a set's name becomes a file's name; use a to z, 0 to 9, `_` and `-`, from a letter, at most 64 characters
    ");
}

#[test]
fn the_committed_studies_resolve() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies/fflm");
    for name in ["lstm-vs-transformer", "baseline"] {
        let path = studies.join(name).join("study.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let study = resolve(&text, Some(&path), &[], None).unwrap();
        assert_eq!(study.name, name);
        assert!(!study.claims.is_empty());
    }
}

/// A curve whose numbers stand in a picture alone has none, and only these words say so.
#[test]
fn a_published_curve_may_be_one_that_was_not_transcribed() {
    let spec = |said: &str| {
        format!(
            "task.name = 'automaton'\nmodel = {{ n_layers = 1 }}\nprobe.every = 5\n[[arm]]\nname = 'a'\n[[published]]\narm = 'a'\n\
             source = 'Fig. 15'\niterations = [0, 5]\nvalues = {{ 'reads.answers' = {said} }}"
        )
    };
    let values = |said: &str| study(&spec(said), &[]).published[0].values["reads.answers"].clone();
    assert!(values("'not transcribed'").is_empty());
    assert_eq!(values("[1, 2.5]"), [1.0, 2.5]);
    assert_snapshot!(refusal(&spec("'unknown'"), &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:10:30: published[0].values.reads.answers: found "unknown"; allowed: a list of numbers
      study.toml:10:30: published[0].values.reads.answers: there are 0 numbers for 2 iterations; write one each
    "#);
}

/// What a line of a spec may be replaced by.
const SCRAPS: [&str; 12] = [
    "",
    "[",
    "name = 3",
    "[task]",
    "n_layers = -1",
    "seq_len = 99999999999999999999999999999999999999999",
    "p_ignore = nan",
    "[[arm]]",
    "sweep = { seed = { count = 3 } }",
    "= 1",
    "parts = [1, {}]",
    "\"\" = { from = 1, to = 1e300 }",
];

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        line in 0_usize..200,
        scrap in 0..SCRAPS.len(),
        text in ".{0,40}",
        set in "[a-z.=\"\\[{ 0-9]{0,20}",
    ) {
        let mut lines: Vec<&str> = DEFAULT_SPEC.lines().collect();
        let n_lines = lines.len();
        lines[line % n_lines] = SCRAPS[scrap];
        for spec in [lines.join("\n"), text] {
            match resolve(&spec, None, std::slice::from_ref(&set), Some(u64::MAX)) {
                Ok(study) => proptest::prop_assert!(study.plans().count() > 0),
                Err(error) => proptest::prop_assert!(!error.complaints().is_empty()),
            }
        }
    }
}
