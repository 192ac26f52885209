//! The dashboard over a real socket: routes, escaping, who may come in, paths, paging, refusals, revisions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mnemoscope_store::{Begun, RunWriter};
use serde_json::{Value, json};

use super::*;

/// A name that would be markup, is longer than a line, and turns the direction of writing.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}\"'&";

/// A laboratory that knows one model: it answers 0 everywhere, and looks at the first place.
struct Fixed;

impl Lab for Fixed {
    fn see(&mut self, run: &RunReader, asked: &Asked) -> Result<Arc<Seen>, Refusal> {
        let mut tokens = vec![0, 3, 2, 4, 1, 3];
        for &(pos, token) in &asked.edits {
            let Some(place) = tokens.get_mut(pos) else {
                return Err(Refusal::new(RefusalKind::Asked, format!("place {pos} is edited")));
            };
            *place = token;
        }
        let shares = (0..25).map(|idx| f32::from(u8::from(idx % 5 == 0))).collect();
        Ok(Arc::new(Seen {
            step: asked.step.unwrap_or(8),
            checkpoint: run.id().to_owned(),
            tokens,
            n_fed: 5,
            vocab: ["w", "r", "i", "0", HOSTILE].map(str::to_owned).to_vec(),
            kinds: vec![0, 0, 0, 1, 1],
            logits: [1.5, -0.25, 0.0, 0.0, 0.1].repeat(5),
            questions: vec![Question { query_pos: 4, expected: 3, write_pos: 0 }],
            patterns: vec![Pattern { layer: 0, head: 0, shares }],
        }))
    }

    fn judge(&mut self, spec: &str, _: &[RunReader]) -> Result<Judged, Refusal> {
        match spec {
            "bad" => Err(Refusal::new(RefusalKind::Asked, "the spec is bad")),
            _ => Ok(Judged {
                question: Some(HOSTILE.to_owned()),
                plans: vec!["run0".to_owned(), "run1".to_owned(), "run9".to_owned()],
                ..Judged::default()
            }),
        }
    }
}

/// A dashboard on a thread, and the store it shows.
struct Served {
    root: tempfile::TempDir,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What came back.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn begin(store: &Store, id: &str, idx: u64) -> RunWriter {
    let plan = json!({
        "model": {"name": "transformer", "n_layers": 1 + idx % 2}, "train": {"n_steps": 8, "batch_size": 4},
        "task": {"name": "flipflop", "seq_len": 6}, "seeds": {"data": idx, "model": idx},
    });
    let study = if idx == 5 { "another" } else { "a study" };
    let meta = json!({"study": study, "arm": HOSTILE, "created_secs": 1_790_000_000 + idx});
    match store.begin(id, &plan, &meta).unwrap() {
        Begun::New(writer) => writer,
        _ => panic!("it is there already"),
    }
}

fn result(idx: u64) -> Value {
    let mut result =
        serde_json::to_value(crate::result::tests::result("run", HOSTILE, [0, idx, 12_345]))
            .unwrap();
    result["eval"]["val"]["error_rate"] = json!(0.000_123_456);
    result
}

/// Six runs: four sealed, one that is being written, one of another study.
fn store(root: &Path) -> (Store, RunWriter) {
    let store = Store::open(&root.join("runs")).unwrap();
    for idx in [0, 1, 2, 3, 5] {
        let mut run = begin(&store, &format!("run{idx}"), idx);
        run.append("loss", &json!({"step": 8, "loss_nats": 0.5})).unwrap();
        run.append("curve", &json!({"step": 8, "set": HOSTILE, "n_trials": 100, "n_errors": 7}))
            .unwrap();
        run.write_file("spec.toml", if idx == 5 { b"bad" } else { b"good" }).unwrap();
        let glitch = json!({
            "set": "val", "index": 12, "query_pos": 4, "checkpoint_blake3": format!("run{idx}"),
            "logits": [1.5, -0.25, 0.0, 0.0, 0.1_f32],
        });
        run.write_json("glitches/val-000000012-0004.json", &glitch).unwrap();
        run.save_checkpoint(8, b"all").unwrap();
        run.seal(&result(idx)).unwrap();
    }
    let writer = begin(&store, "run4", 4);
    (store, writer)
}

impl Served {
    fn over(root: tempfile::TempDir, token: Option<&str>) -> Self {
        let settings = Settings {
            store: Store::open(&root.path().join("runs")).unwrap(),
            name: HOSTILE.to_owned(),
            host: "127.0.0.1".to_owned(),
            token: token.map(str::to_owned),
        };
        let dashboard = Dashboard::bind("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        let (address, stop) = (dashboard.address(), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&stop);
        let serve = move || dashboard.serve(Box::new(Fixed), move || asked.load(Ordering::SeqCst));
        Self { root, address, stop, thread: Some(std::thread::spawn(serve)) }
    }

    /// A dashboard over six runs, and the writer of the one that is not done.
    fn six() -> (Self, RunWriter) {
        let root = tempfile::tempdir().unwrap();
        let (_, writer) = store(root.path());
        (Self::over(root, None), writer)
    }

    fn send(&self, request: &str) -> Got {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn get(&self, target: &str) -> Got {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    #[track_caller]
    fn page(&self, target: &str) -> String {
        let got = self.get(target);
        assert_eq!(got.status, 200, "{target}: {}", got.text());
        got.text()
    }

    fn root(&self) -> PathBuf {
        self.root.path().join("runs")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join().unwrap();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Every page there is, of the store of six.
const PAGES: [&str; 9] = [
    "/",
    "/?by=arm",
    "/?show=arm,val.error_rate&sort=seed&order=down",
    "/run/run1",
    "/run/run1/glitch/0",
    "/compare?run=run0&run=run1",
    "/studies",
    "/study?name=a%20study",
    "/study?name=another",
];

#[test]
fn no_word_of_a_record_becomes_markup_and_no_page_asks_for_anything_elsewhere() {
    let (served, _writer) = Served::six();
    let errors = [
        "/?where=%3Cimg%20src=x%20onerror=alert(1)%3E",
        "/run/%3Cimg%3E",
        "/study?name=%3Cimg%3E",
        "/%3Cimg%3E",
    ];
    for target in PAGES.iter().chain(&errors) {
        let got = served.get(target);
        let page = got.text();
        assert!(page.starts_with("<!doctype html>"), "{target}");
        for hostile in ["<img", "onerror=alert(1)>", "\u{202e}"] {
            assert!(!page.contains(hostile), "{target} has {hostile}");
        }
        assert!(
            page.contains("&lt;img src=x") || errors.contains(target) || target.contains("glitch"),
            "{target}"
        );
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for way in ["http://", "https://", "//cdn", "<style", "javascript:", " onclick"] {
            assert!(!elsewhere.contains(way), "{target} has {way}");
        }
        assert_eq!(page.matches("<script").count(), 1, "{target}");
        let policy = got.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && got.header("access-control-allow-origin").is_none());
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn only_those_who_call_us_by_a_name_of_ours_come_in() {
    let (served, _writer) = Served::six();
    let with = |head: &str| {
        served.send(&format!("GET /api/runs HTTP/1.1\r\n{head}Connection: close\r\n\r\n")).status
    };
    assert_eq!(with("Host: localhost:1\r\n"), 200);
    assert_eq!(with("Host: evil.example\r\n"), 403);
    assert_eq!(with(""), 400);
    assert_eq!(
        with("Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n"),
        403
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let got = served.send(&format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        assert_eq!((got.status, got.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head = served.send("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_token_opens_every_page_and_nothing_opens_without() {
    let root = tempfile::tempdir().unwrap();
    let (_, _writer) = store(root.path());
    let served = Served::over(root, Some("secret-token"));
    for target in PAGES.iter().chain(&["/style.css", "/app.js", "/api/runs", "/live/runs", "/nope"])
    {
        let got = served.get(target);
        assert_eq!(got.status, 401, "{target}");
        assert!(!got.text().contains("run1"));
    }
    let welcome = served.get("/run/run1?token=secret-token");
    assert_eq!((welcome.status, welcome.header("location")), (303, Some("/run/run1")));
    let cookie = welcome.header("set-cookie").unwrap().split(';').next().unwrap();
    let request = format!(
        "GET /run/run1 HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(served.send(&request).status, 200);
}

#[test]
fn an_address_that_others_reach_is_refused_without_a_token() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let settings = Settings { store, name: String::new(), host: String::new(), token: None };
    let refused = Dashboard::bind("0.0.0.0:0".parse().unwrap(), settings).unwrap_err();
    assert_eq!(refused.to_string(), "an address that other machines reach needs a token");
}

#[cfg(unix)]
#[test]
fn no_path_and_no_link_leads_out_of_the_store() {
    use std::os::unix::fs::symlink;
    let (served, _writer) = Served::six();
    let outside = served.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret.json"), "a secret").unwrap();
    std::fs::rename(served.root().join("run3"), outside.join("run3")).unwrap();
    symlink(outside.join("run3"), served.root().join("run3")).unwrap();
    symlink(
        outside.join("secret.json"),
        served.root().join("run1/glitches/val-000000099-0001.json"),
    )
    .unwrap();
    std::fs::rename(served.root().join("run2/glitches"), outside.join("glitches")).unwrap();
    symlink(outside.join("glitches"), served.root().join("run2/glitches")).unwrap();
    for target in [
        "/run/..",
        "/run/../outside",
        "/run/%2e%2e%2foutside",
        "/run/..%2f..%2fetc",
        "/run/.",
        "/run/run1/../run2",
        "//etc/passwd",
        "/run/run1%00",
        "/run/%ff",
        "/run/latest",
        "/run/run",
        "/run/run3",
        "/run/run2",
        "/live/run/run3",
        "/api/run/run3",
        "/api/run/run2/glitch/0",
        "/api/run/run1/glitch/1",
        "/run/run1/glitch/1",
        "/api/run/run1/glitch/-1",
        "/run/run1/glitch/x",
        "/compare?run=run3",
        "/compare?run=../outside/run3",
        "/live/compare?run=run2",
    ] {
        let got = served.get(target);
        assert!([400, 404].contains(&got.status), "{target}: {}", got.status);
        assert!(!got.text().contains("secret") && !got.text().contains("a study"), "{target}");
    }
    // The listing says that it is a link, and links to nothing.
    let page = served.page("/");
    assert!(page.contains(">link</span>") && !page.contains("href=\"/run/run3\""));
}

#[test]
fn the_list_is_filtered_sorted_and_paged_as_runs_does_it() {
    let (served, _writer) = Served::six();
    let ids = |target: &str| -> Vec<String> {
        let said = served.get(target).json();
        said["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["run"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("/api/runs"), ["run5", "run4", "run3", "run2", "run1", "run0"]);
    assert_eq!(ids("/api/runs?order=up&n=2&page=2"), ["run2", "run3"]);
    assert_eq!(ids("/api/runs?where=val_sparse.n_errors%3E1&sort=seed"), ["run2", "run3", "run5"]);
    assert_eq!(ids("/api/runs?where=status=sealed&where=seed%3C2"), ["run1", "run0"]);
    assert_eq!(served.get("/api/runs?n=2").json()["n_fit"], 6);
    let page = served.page("/?n=2&page=2&where=seed%3E=0");
    assert!(
        page.contains("Runs 3 to 4 of 6.")
            && page.contains("rel=\"prev\"")
            && page.contains("rel=\"next\"")
    );
    assert!(page.contains("page=3") && page.contains("where=seed%3E%3D0&amp;page=1"));
    assert!(served.page("/?page=9").contains("This page is behind the last of 6 runs."));
    // The same digits as in the terminal, and groups lead to their runs.
    assert!(page.contains("1.23e-4") && page.contains("12\u{2009}345"));
    let groups = served.page("/?by=model.n_layers&show=seed");
    assert!(groups.contains("where=plan.model.n_layers%3D2"), "{groups}");
    assert_eq!(ids("/api/runs?where=plan.model.n_layers%3D2&order=up"), ["run1", "run3", "run5"]);
    let words = "meta.arm=\"<img src=x onerror=alert(1)>\u{202e}\\\"'&\"";
    assert_eq!(ids(&format!("/api/runs?where={}", web::encoded(words))).len(), 6);
}

#[test]
fn what_makes_no_sense_is_one_sentence() {
    let (served, _writer) = Served::six();
    let cases = [
        (
            "where=status",
            "the filter `status` compares nothing; write for example `plan.model.n_layers=2`",
        ),
        (
            "sort=nothing.here",
            "no run has a field `result.eval.nothing.here`; `mnemoscope runs -o runs.csv` writes all there are",
        ),
        (
            "where=val.n_eror%3E0",
            "no run has a field `result.eval.val.n_eror`; `mnemoscope runs -o runs.csv` writes all there are",
        ),
        ("page=-1", "`page` is \"-1\" and should be a whole number"),
        ("order=sideways", "`order` is `up` or `down`"),
    ];
    for (query, sentence) in cases {
        let page = served.get(&format!("/?{query}"));
        assert_eq!(page.status, 400, "{query}");
        let said = crate::figure::escaped(sentence);
        assert!(
            page.text().contains(&format!("role=\"alert\">{said}</p>")),
            "{query}: {}",
            page.text()
        );
        // What was typed is still there to be mended.
        assert!(page.text().contains("<form class=\"ask\""));
        if !query.starts_with("where=val") {
            assert_eq!(served.get(&format!("/api/runs?{query}")).json()["error"], sentence);
        }
    }
    let deep = served.get(&format!("/?where={}", "(".repeat(1_900)));
    assert_eq!(deep.status, 400);
    let long = served.get(&format!("/api/runs?where={}", "x".repeat(2_001)));
    assert_eq!(long.json()["error"], "a condition has at most 2000 characters");
    let none = served.get("/compare?run=");
    assert!(none.text().contains("no run is chosen; tick some in the list of runs"));
}

#[test]
fn a_page_is_fetched_again_only_when_its_record_has_moved() {
    let (served, mut writer) = Served::six();
    for live in ["/live/run/run4", "/live/compare?run=run4", "/live/runs", "/live/studies"] {
        let first = served.get(live);
        let mark = if live.contains('?') { '&' } else { '?' };
        let revision = first.header("mnemoscope-revision").unwrap().to_owned();
        let again = served.get(&format!("{live}{mark}since={revision}"));
        assert_eq!((again.status, again.body.len()), (204, 0), "{live}");
        assert_eq!(again.header("mnemoscope-revision"), Some(revision.as_str()));
    }
    let [run, runs] = ["/live/run/run4", "/live/runs"]
        .map(|live| (live, served.get(live).header("mnemoscope-revision").unwrap().to_owned()));
    for step in [2, 4] {
        writer.append("loss", &json!({"step": step, "loss_nats": 0.5})).unwrap();
        for (live, revision) in [&run, &runs] {
            let moved = served.get(&format!("{live}?since={revision}"));
            assert_eq!(moved.status, 200);
            assert!(moved.text().contains(&format!("step {step} of 8")), "{live}");
        }
    }
    // A process that is gone has changed no file.
    let before = served.get(run.0).header("mnemoscope-revision").unwrap().to_owned();
    drop(writer);
    let after = served.get(&format!("{}?since={before}", run.0));
    assert_eq!(after.status, 200);
    assert!(after.text().contains("badge interrupted"));
}

#[test]
fn a_study_says_how_many_of_how_many_and_what_stands_in_its_way() {
    let (served, _writer) = Served::six();
    let studies = served.get("/api/studies").json()["studies"].clone();
    // run2, run3 and run4 are none of the plans of the spec, so nobody knows how many there are.
    let expected = json!({"study": "a study", "n_runs": 5, "n_plans": null, "n_sealed": 4, "n_running": 1, "n_failed": 0, "n_left": null});
    assert_eq!(studies[0], expected);
    let page = served.page("/study?name=a%20study");
    assert!(page.contains("1 plan has no run yet; claims are judged by what is there."));
    // A run in a table of the report can be followed.
    assert!(page.contains("<td><a id=\"run-run1\" href=\"/run/run1\">"));
    let other = served.page("/study?name=another");
    assert!(other.contains("Its claims are not judged here: the spec is bad."));
    assert_eq!(served.get("/study?name=none").status, 404);
}

#[test]
fn a_failing_sequence_is_answered_edited_and_looked_at() {
    let (served, _writer) = Served::six();
    let seen = served.get("/api/run/run1/glitch/0").json();
    assert_eq!(
        (&seen["step"], &seen["steps"], &seen["same_bits"]),
        (&json!(8), &json!([8]), &json!(true))
    );
    let place = json!({"pos": 4, "write_pos": 0, "expected": 3, "predicted": 0, "right": false});
    assert_eq!(seen["places"], json!([place]));
    assert_eq!(seen["logits"][4], json!([1.5, -0.25, 0.0, 0.0, 0.1]));
    // Words of the language go to the script as text.
    assert_eq!(seen["vocab"][4], HOSTILE);
    let edited = served.get("/api/run/run1/glitch/0?edit=1:4,3:3&step=8").json();
    assert_eq!(
        (&edited["tokens"], &edited["same_bits"]),
        (&json!([0, 4, 2, 3, 1, 3]), &Value::Null)
    );
    let packed = served.get("/api/run/run1/glitch/0/attention");
    assert_eq!(packed.header("content-type"), Some("application/octet-stream"));
    assert_eq!(packed.body.len(), 8 + 8 + 2 * 15);
    for (target, status, said) in [
        ("/api/run/run1/glitch/0?edit=99:1", 400, "place 99 is edited"),
        ("/api/run/run1/glitch/0?step=x", 400, "`step` is \"x\" and should be a whole number"),
        ("/api/run/run1/glitch/1", 404, "run run1 keeps 1 glitches, numbered from 0 to 0"),
        ("/api/run/run4/glitch/0", 404, "run run4 keeps no glitch"),
    ] {
        let got = served.get(target);
        assert_eq!((got.status, got.json()["error"].as_str()), (status, Some(said)), "{target}");
    }
}

/// The endpoints that the guide describes are the ones there are, with the fields it names.
#[test]
fn the_guide_describes_the_data_as_it_is() {
    let guide = include_str!("../../../../docs/guide/serve.md");
    let (served, _writer) = Served::six();
    let rows = guide.lines().filter(|line| line.starts_with("| `/"));
    let mut described = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let pattern = cells[1].trim_matches('`');
        described.push(pattern.to_owned());
        let target = pattern
            .replace("ID", "run1")
            .replace("/glitch/N", "/glitch/0")
            .replace("NAME", "a%20study");
        let got = served.get(&target);
        assert_eq!(got.status, 200, "{target}");
        if !pattern.starts_with("/api/") || pattern.ends_with("/attention") {
            continue;
        }
        let fields: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        let body = got.json();
        for field in &fields {
            let there =
                field.split('.').try_fold(&body, |value, word| match word.strip_suffix("[]") {
                    Some(word) => value.get(word)?.get(0),
                    None => value.get(word),
                });
            assert!(there.is_some(), "{target} has no {field}");
        }
        let top: Vec<&str> =
            fields.iter().map(|field| field.split(['.', '[']).next().unwrap()).collect();
        if !cells[3].contains("the other fields") {
            for key in body.as_object().unwrap().keys() {
                assert!(
                    top.contains(&key.as_str()),
                    "{target} has {key}, which the guide does not name"
                );
            }
        }
    }
    for route in include_str!("mod.rs").lines().filter_map(|line| line.trim().strip_prefix("[\"")) {
        let Some((parts, _)) = route.split_once("] =>") else { continue };
        let parts: Vec<&str> = parts.split(", ").map(|part| part.trim_matches('"')).collect();
        if parts == [""] {
            continue;
        }
        let path = format!("/{}", parts.join("/").replace("/id", "/ID").replace("/n", "/N"));
        let known = described.iter().any(|it| it.split('?').next() == Some(path.as_str()));
        assert!(known, "the guide does not describe {path}");
    }
}
