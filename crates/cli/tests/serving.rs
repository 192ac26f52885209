//! The dashboard from outside: over real runs, through a socket, until Ctrl-C.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use door::{Door, TINY};
use serde_json::{Value, json};

/// A dashboard over the runs behind a door.
struct Served {
    child: Child,
    said: Value,
}

impl Served {
    fn by(door: &Door, more: &[&str]) -> Self {
        let arguments = [&["serve", "--address", "127.0.0.1:0", "--json"], more].concat();
        let mut child = door.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, said: serde_json::from_str(&line).unwrap() }
    }

    fn get(&self, target: &str) -> (u16, Vec<u8>) {
        let address = self.said["address"].as_str().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    #[track_caller]
    fn text(&self, target: &str) -> String {
        let (status, body) = self.get(target);
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    #[track_caller]
    fn json(&self, target: &str) -> Value {
        serde_json::from_str(&self.text(target)).unwrap()
    }

    /// Ends it as Ctrl-C does, and returns how it ended.
    fn end(mut self) -> Option<i32> {
        let kill =
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        self.child.wait().unwrap().code()
    }
}

/// Two arms that learn nothing, with the state they had on the way.
fn after_the_study() -> (Door, Vec<Value>) {
    let door = Door::new();
    let study = format!(
        "question = \"Does anything learn?\"\n{TINY}\n[[arm]]\nname = \"transformer\"\n\
         [[arm]]\nname = \"lstm\"\nmodel = {{ name = \"lstm\", d_model = 8 }}\n\
         [[claim]]\ntext = \"nothing is learned\"\nsource = \"here\"\narm = \"lstm\"\nset = \"val\"\n\
         measure = \"n_errors\"\nop = \">\"\nbound = 0\nruns = \"each\"\n"
    );
    door.write("study.toml", &study);
    let run = ["run", "study.toml", "--json", "--checkpoint-every", "2", "--keep-checkpoints", "3"];
    let said = door.run(&run).code(0).json();
    (door, said["runs"].as_array().unwrap().clone())
}

#[test]
fn a_number_reads_the_same_in_the_terminal_the_report_the_dashboard_and_as_data() {
    let (door, runs) = after_the_study();
    let served = Served::by(&door, &[]);
    door.run(&["report", "study.toml", "-o", "r.html"]).code(0);
    let report = std::fs::read_to_string(door.path("r.html")).unwrap();
    let (list, study) = (served.text("/"), served.text("/study?name=study"));
    for run in &runs {
        let id = run["run"].as_str().unwrap();
        let (shown, page) =
            (door.run(&["show", id]).code(0).stdout(), served.text(&format!("/run/{id}")));
        // What programs are given is the number itself, everywhere.
        let data = served.json(&format!("/api/run/{id}"));
        assert_eq!(data["eval"], run["eval"]);
        assert_eq!(data["eval"], door.run(&["show", id, "--json"]).code(0).json()["eval"]);
        for set in ["val", "val_sparse", "val_dense"] {
            let line = shown
                .lines()
                .find(|line| line.trim_start().starts_with(&format!("{set} ")))
                .unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let (rate, interval) =
                (words[4], &line[line.find('[').unwrap()..=line.rfind(']').unwrap()]);
            let field = format!("{set}.error_rate");
            let table = door
                .run(&["runs", "--where", &format!("id={id}"), "--show", &field])
                .code(0)
                .stdout();
            assert!(
                table.lines().any(|line| line.split_whitespace().any(|word| word == rate)),
                "{rate} in {table}"
            );
            for (name, html) in [("report", &report), ("study", &study), ("run", &page)] {
                assert!(
                    html.contains(&format!("<td class=\"number\">{rate}</td><td>{interval}</td>")),
                    "{name}: {rate} {interval}"
                );
            }
            assert!(
                list.contains(&format!("wrong\">{rate}</span> <small>{interval}</small>")),
                "{rate} {interval}"
            );
            let number = run["eval"][set]["error_rate"].as_f64().unwrap();
            assert_eq!(mnemoscope_view::number::rate(number), rate);
        }
    }
    assert_eq!(
        served.json("/api/runs?order=up")["runs"],
        door.run(&["runs", "--json"]).code(0).json()["runs"]
    );
    let figures = door.run(&["figure", runs[0]["run"].as_str().unwrap(), "--json"]).code(0).json();
    let address = format!("/api/run/{}/figures", runs[0]["run"].as_str().unwrap());
    assert_eq!(served.json(&address)["figures"], figures["figures"]);
    assert!(study.contains(">holds<") && study.contains("nothing is learned"));
    assert_eq!(served.end(), Some(0));
}

#[test]
fn a_glitch_is_answered_as_replay_answers_it_edited_and_at_each_checkpoint() {
    let (door, runs) = after_the_study();
    let served = Served::by(&door, &["--quiet"]);
    for (run, n_maps) in runs.iter().zip([4, 0]) {
        let id = run["run"].as_str().unwrap();
        let replay = door.run(&["replay", &format!("{id}:0"), "--json"]).code(0).json();
        let address = format!("/api/run/{id}/glitch/0");
        let seen = served.json(&address);
        assert_eq!((&seen["same_bits"], &seen["steps"]), (&json!(true), &json!([4, 6, 8])));
        let query = usize::try_from(seen["query_pos"].as_u64().unwrap()).unwrap();
        let single = |logits: &Value| -> Vec<u32> {
            let logits = logits.as_array().unwrap().iter();
            logits.map(|logit| (logit.as_f64().unwrap() as f32).to_bits()).collect()
        };
        assert_eq!(single(&seen["logits"][query]), single(&replay["logits"]));
        assert_eq!(seen["maps"].as_array().unwrap().len(), n_maps);
        let place = |seen: &Value| {
            let places = seen["places"].as_array().unwrap();
            places.iter().find(|place| place["pos"] == query).unwrap().clone()
        };
        assert_eq!(
            (&place(&seen)["predicted"], &place(&seen)["right"]),
            (&replay["glitch"]["predicted"], &json!(false))
        );
        // With the other symbol written, the other answer is right.
        let symbol = place(&seen)["write_pos"].as_u64().unwrap() + 1;
        let other = 7 - seen["tokens"][usize::try_from(symbol).unwrap()].as_u64().unwrap();
        let edited = served.json(&format!("{address}?edit={symbol}:{other}"));
        assert_eq!(
            (&place(&edited)["expected"], &edited["same_bits"]),
            (&json!(other), &Value::Null)
        );
        let before = served.json(&format!("{address}?step=4"));
        assert_eq!((&before["step"], &before["same_bits"]), (&json!(4), &Value::Null));
        assert_ne!(before["logits"], seen["logits"]);
        // Each row of each head sums to one, as far as sixteen bits tell.
        let (status, packed) = served.get(&format!("{address}/attention"));
        assert_eq!(status, 200);
        let n = usize::try_from(seen["n_fed"].as_u64().unwrap()).unwrap();
        assert_eq!(packed.len(), 8 + n_maps * (8 + n * (n + 1)));
        let mut shares = packed[8 + 8 * n_maps..]
            .chunks(2)
            .map(|it| u32::from(u16::from_le_bytes([it[0], it[1]])));
        for row in (0..n_maps).flat_map(|_| 1..=n) {
            let sum: u32 = shares.by_ref().take(row).sum();
            assert!(sum.abs_diff(65_535) <= 8, "{sum}");
        }
        let (status, body) = served.get(&format!("{address}?step=5"));
        assert_eq!(status, 404, "{}", String::from_utf8_lossy(&body));
    }
    assert_eq!(served.end(), Some(0));
}

#[test]
fn who_may_come_in_is_said_and_held() {
    let door = Door::new();
    door.run(&["serve"]).code(2);
    door.write("tiny.toml", TINY);
    door.run(&["run", "tiny.toml", "--quiet"]).code(0);
    for (arguments, words) in [
        (&["serve", "--address", "nowhere"][..], "is no address to listen on; write HOST:PORT"),
        (
            &["serve", "--token", "short"],
            "--token takes letters, digits, - and _, at least 8 of them",
        ),
    ] {
        let said = door.run(arguments).code(2);
        assert!(said.words().contains(words), "{}", said.words());
    }
    let open = Served::by(&door, &[]);
    assert_eq!(open.said["token"], Value::Null);
    let taken = door.run(&["serve", "--address", open.said["address"].as_str().unwrap()]).code(4);
    assert!(taken.words().contains("`--address 127.0.0.1:0` takes a port that is free"));
    let locked = Served::by(&door, &["--token", "a-secret-token"]);
    assert!(locked.said["url"].as_str().unwrap().ends_with("/?token=a-secret-token"));
    assert_eq!((locked.get("/").0, locked.get("/?token=a-secret-token").0), (401, 303));
    assert_eq!((open.end(), locked.end()), (Some(0), Some(0)));
}
