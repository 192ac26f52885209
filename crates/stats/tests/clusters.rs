//! Cluster intervals: simulated coverage, edges, and resampling against its plain definition.

use mnemoscope_stats::rate::{Interval, clopper_pearson};
use mnemoscope_stats::resample::{ClusterCounts, ClusterMethod, cluster_bootstrap, korn_graubard};
use mnemoscope_stats::stream::Stream;
use proptest::prelude::*;
use world::Kind;

#[path = "../examples/coverage/world.rs"]
mod world;

fn counts(clusters: impl IntoIterator<Item = (u64, u64)>) -> ClusterCounts {
    let mut counts = ClusterCounts::default();
    for (n_errors, n_trials) in clusters {
        counts.add(n_errors, n_trials);
    }
    counts
}

fn bootstrap_stream() -> Stream {
    Stream::root(0).derive("cluster tests")
}

/// Coverage in 200 simulated evaluations of each kind. An interval that covered in just 95 % of
/// them would fall below 87.3 % (5 standard deviations) with probability below 10^-4. The naive
/// interval, which this one exists to replace, covers half of the time at best wherever errors
/// come in bursts.
#[test]
fn the_interval_covers_where_the_naive_one_does_not() {
    const N_EVALUATIONS: u32 = 200;
    let cases = [
        (Kind::Independent, 3.0, true),
        (Kind::Half, 1.0, false),
        (Kind::Half, 10.0, false),
        (Kind::AnyShare, 10.0, false),
        (Kind::Longer, 100.0, false),
    ];
    for (case, (kind, n_bad, naive_covers)) in (0..).zip(cases) {
        let stream = bootstrap_stream().derive("coverage").child(case);
        let truth = kind.error_rate(n_bad);
        let (mut n_covered, mut n_covered_naively) = (0.0, 0.0);
        for index in 0..u64::from(N_EVALUATIONS) {
            let counts = kind.evaluation(&stream, index, n_bad);
            let resamples = stream.derive("resamples").child(index);
            let returned = cluster_bootstrap(&counts, 0.95, 199, &resamples).interval;
            let naive = clopper_pearson(counts.n_errors(), counts.n_trials(), 0.95);
            n_covered += f64::from(u8::from(returned.contains(truth)));
            n_covered_naively += f64::from(u8::from(naive.contains(truth)));
        }
        let (covered, naively) =
            (n_covered / f64::from(N_EVALUATIONS), n_covered_naively / f64::from(N_EVALUATIONS));
        assert!(covered >= 0.873, "{kind:?}, {n_bad} expected: {covered}");
        assert_eq!(naively > 0.7, naive_covers, "{kind:?}, {n_bad} expected: {naively}");
    }
}

/// What the documentation owns up to: bursts that did not occur cannot be allowed for.
#[test]
fn unseen_bursts_defeat_the_interval() {
    let (kind, n_bad) = (Kind::Mixed, 3.0);
    let stream = bootstrap_stream().derive("unseen");
    let n_covered = (0..200)
        .map(|index| kind.evaluation(&stream, index, n_bad))
        .filter(|counts| {
            let returned = cluster_bootstrap(counts, 0.95, 199, &stream).interval;
            returned.contains(kind.error_rate(n_bad))
        })
        .count();
    assert!(n_covered < 150, "{n_covered} of 200");
}

/// The bootstrap of classes against the bootstrap by its definition: clusters drawn one by one.
/// Mean and spread of the rates agree within 5 standard errors; the ends of the percentile
/// interval within what 20,000 resamples resolve.
#[test]
fn resampling_classes_is_resampling_clusters() {
    let clusters: Vec<(u64, u64)> = (0..60)
        .map(|idx| if idx % 7 == 0 { (idx % 5 + 1, 20 + idx % 3) } else { (0, 18 + idx % 4) })
        .collect();
    let counts = counts(clusters.iter().copied());
    let result = cluster_bootstrap(&counts, 0.9, 20_000, &bootstrap_stream());
    let got = result.bootstrap.unwrap();

    let mut draws = bootstrap_stream().derive("plain").at(0);
    let mut rates: Vec<f64> = (0..20_000)
        .map(|_| {
            let (mut n_errors, mut n_trials) = (0, 0);
            for _ in &clusters {
                let (errors, trials) = clusters[draws.below(60) as usize];
                n_errors += errors;
                n_trials += trials;
            }
            n_errors as f64 / n_trials as f64
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    // A rank of the 5 % quantile of 20,000 has standard deviation 31; both sides have one.
    for (got, rank) in [(got.low, 1_000), (got.high, 19_000)] {
        let (below, above) = (rates[rank - 220], rates[rank + 219]);
        assert!(below <= got && got <= above, "{got} is not in {below}..{above}");
    }
}

#[test]
fn without_errors_the_longest_clusters_bound_the_rate() {
    // Ten clusters leave 1 - 0.025^(1/10) of clusters, 3.08 of ten; the longest have 9, 8, 7 and
    // 0.08 of 6 trials of the 45.
    let flawless = counts((0..10).map(|n_trials| (0, n_trials)));
    assert_eq!(flawless.n_clusters(), 9, "the one without trials is not counted");
    let flawless = counts((1..=10).map(|n_trials| (0, n_trials)));
    let result = cluster_bootstrap(&flawless, 0.95, 1_999, &bootstrap_stream());
    let n_wrong = 10.0 * (1.0 - libm::pow(0.025, 0.1));
    let expected = (10.0 + 9.0 + 8.0 + (n_wrong - 3.0) * 7.0) / 55.0;
    assert_eq!(result.method, ClusterMethod::WorstCase);
    assert!((result.interval.high - expected).abs() < 1e-12);
    assert!(result.interval.low.to_bits() == 0);
    assert_eq!((result.bootstrap, result.korn_graubard), (None, None));

    // Errors only: the same, seen from the other side.
    let hopeless = counts((1..=10).map(|n_trials| (n_trials, n_trials)));
    let mirrored = cluster_bootstrap(&hopeless, 0.95, 1_999, &bootstrap_stream());
    assert_eq!(mirrored.method, ClusterMethod::WorstCase);
    assert!((mirrored.interval.low - (1.0 - expected)).abs() < 1e-12);
    assert!((mirrored.interval.high - 1.0).abs() < f64::EPSILON);
}

#[test]
fn too_little_data_excludes_nothing() {
    for clusters in [vec![], vec![(1, 4)]] {
        let result = cluster_bootstrap(&counts(clusters), 0.95, 99, &bootstrap_stream());
        assert_eq!(result.method, ClusterMethod::Uninformative);
        assert_eq!(result.interval, Interval::EVERYTHING);
    }
    assert_eq!(korn_graubard(&counts([(0, 5), (0, 6)]), 0.95), None);
}

#[test]
fn independent_trials_have_a_design_effect_of_one() {
    // Clusters of one trial each: nothing is clustered, and the exact interval is the usual one.
    let singles = counts((0..1_000).map(|idx| (u64::from(idx < 12), 1)));
    let exact = korn_graubard(&singles, 0.95).unwrap();
    let usual = clopper_pearson(12, 1_000, 0.95);
    assert!((exact.design_effect - 1.0).abs() < 0.002, "{exact:?}");
    assert!((exact.interval.low / usual.low - 1.0).abs() < 0.002, "{exact:?}");
    assert!((exact.interval.high / usual.high - 1.0).abs() < 0.002, "{exact:?}");
}

/// The same counts and the same stream give the same bits, and these are pinned: stored intervals
/// depend on them.
#[test]
fn the_interval_is_pinned() {
    let counts = counts((0..500).map(|idx| (if idx % 50 == 0 { idx / 50 } else { 0 }, 26)));
    let result = cluster_bootstrap(&counts, 0.95, 999, &bootstrap_stream());
    assert_eq!(result, cluster_bootstrap(&counts, 0.95, 999, &bootstrap_stream()));
    let bootstrap = result.bootstrap.unwrap();
    assert_eq!(
        serde_json::to_string(&bootstrap).unwrap(),
        "[0.0012307692307692308,0.006230769230769231]"
    );
    assert_eq!(result.method.to_string(), "bootstrap-korn-graubard");
    let json = serde_json::to_string(&result).unwrap();
    assert!(json.contains("\"method\":\"bootstrap-korn-graubard\""), "{json}");
    assert_eq!(
        serde_json::from_str::<mnemoscope_stats::resample::ClusterInterval>(&json).unwrap(),
        result
    );
}

#[test]
fn damaged_counts_are_refused() {
    let class = |n_errors, n_trials, n_clusters| {
        format!(r#"{{"n_errors":{n_errors},"n_trials":{n_trials},"n_clusters":{n_clusters}}}"#)
    };
    let cases = [
        (class(5, 4, 1), "1 clusters with 5 errors in 4 trials: there must be a cluster"),
        (class(0, 0, 1), "1 clusters with 0 errors in 0 trials: there must be a cluster"),
        (class(0, 4, 0), "0 clusters with 0 errors in 4 trials: there must be a cluster"),
        (
            class(0, 4, 1) + "," + &class(0, 4, 2),
            "clusters with 0 errors in 4 trials are listed twice",
        ),
    ];
    for (classes, expected) in cases {
        let failure = serde_json::from_str::<ClusterCounts>(&format!("[{classes}]")).unwrap_err();
        assert!(failure.to_string().starts_with(expected), "{failure}");
    }
}

fn any_counts() -> impl Strategy<Value = ClusterCounts> {
    let cluster = (0_u64..30, 0_u64..30).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop::collection::vec(cluster, 0..40).prop_map(counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Parts can be counted anywhere and merged in any order; records give counts back.
    #[test]
    fn counts_merge_and_come_back(a in any_counts(), b in any_counts()) {
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        prop_assert_eq!(&ab, &ba);
        prop_assert_eq!(ab.n_trials(), a.n_trials() + b.n_trials());
        prop_assert_eq!(ab.n_errors(), a.n_errors() + b.n_errors());
        prop_assert_eq!(ab.n_clusters(), a.n_clusters() + b.n_clusters());
        let json = serde_json::to_string(&ab).unwrap();
        prop_assert_eq!(serde_json::from_str::<ClusterCounts>(&json).unwrap(), ab);
    }

    /// Whatever the counts, the interval lies in [0, 1] and contains the observed rate and both of
    /// the intervals that it was made of.
    #[test]
    fn the_interval_contains_what_was_seen(counts in any_counts(), seed: u64) {
        let result = cluster_bootstrap(&counts, 0.95, 199, &Stream::root(seed));
        let interval = result.interval;
        prop_assert!(0.0 <= interval.low && interval.low <= interval.high && interval.high <= 1.0);
        if counts.n_trials() > 0 {
            prop_assert!(interval.contains(counts.n_errors() as f64 / counts.n_trials() as f64));
        }
        let parts = [result.bootstrap, result.korn_graubard.map(|exact| exact.interval)];
        for part in parts.into_iter().flatten() {
            prop_assert_eq!(part.hull(&interval), interval);
        }
        if let Some(exact) = result.korn_graubard {
            prop_assert!(exact.n_trials_effective <= counts.n_trials() as f64 * (1.0 + 1e-9));
        }
    }
}
