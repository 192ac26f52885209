//! A sweep on a real Slurm: two nodes on this machine, killed tasks, a killed daemon, the other engine.
//!
//! Everything that is started here listens on loopback, lives in a folder of its own and is ended by its id.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;
use crate::door::{Door, TINY};
use crate::record;

/// Ten runs of some seconds.
const SWEEP: &str = "\n[sweep]\nseed = { count = 5 }\nmodel.d_model = [16, 32]\n";
/// Looks, a quarter of a second apart, before something that should come is given up.
const MOST_LOOKS: u32 = 1_200;

/// A process of ours, ended when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A cluster of two nodes.
struct Cluster {
    folder: PathBuf,
    nodes: Vec<Option<Daemon>>,
    _controller: Daemon,
    _munge: Daemon,
}

/// Waits until `look` finds something.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..MOST_LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("waited in vain: {what}");
}

impl Cluster {
    fn start(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let key: Vec<u8> =
            (0..1_024_u32).map(|idx| blake3::hash(&idx.to_le_bytes()).as_bytes()[0]).collect();
        fs::write(folder.join("munge.key"), key).unwrap();
        assert!(
            Command::new("chmod").args(["400", &path("munge.key")]).status().unwrap().success()
        );
        let munge = spawn(
            folder,
            "munged",
            &[
                "--foreground",
                "--force",
                &format!("--key-file={}", path("munge.key")),
                &format!("--socket={}", path("munge.sock")),
                &format!("--pid-file={}", path("munge.pid")),
                &format!("--log-file={}", path("munge.log")),
                &format!("--seed-file={}", path("munge.seed")),
            ],
        );
        wait_for("munge's socket", || folder.join("munge.sock").exists().then_some(()));
        fs::write(folder.join("slurm.conf"), configuration(folder)).unwrap();
        for name in ["state", "spool.n1", "spool.n2"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let controller = spawn(folder, "slurmctld", &["-D", "-f", &path("slurm.conf")]);
        let mut cluster = Self {
            folder: folder.to_owned(),
            nodes: vec![None, None],
            _controller: controller,
            _munge: munge,
        };
        cluster.start_node(0);
        cluster.start_node(1);
        wait_for("two idle nodes", || {
            (cluster.said("sinfo", &["--noheader", "--format=%D %t"]).trim() == "2 idle")
                .then_some(())
        });
        cluster
    }

    fn start_node(&mut self, idx: usize) {
        let (name, conf) = (format!("n{}", idx + 1), self.folder.join("slurm.conf"));
        let arguments = ["-D", "-N", &name, "-f", &conf.display().to_string()];
        self.nodes[idx] = Some(spawn(&self.folder, "slurmd", &arguments));
    }

    /// What a command of Slurm prints.
    fn said(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.folder.join("slurm.conf"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// Waits until nothing is in the queue.
    fn wait_until_empty(&self) {
        wait_for("an empty queue", || {
            self.said("squeue", &["--noheader"]).is_empty().then_some(())
        });
    }
}

fn spawn(folder: &Path, program: &str, arguments: &[&str]) -> Daemon {
    let log =
        fs::File::options().create(true).append(true).open(folder.join("daemons.log")).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env("SLURM_CONF", folder.join("slurm.conf"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Daemon(command.spawn().unwrap())
}

/// Ports that nobody listens on at the moment.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Two nodes with two cores each on one machine; a requeued task need not wait long.
fn configuration(folder: &Path) -> String {
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let (folder, user) = (folder.display(), user.trim());
    let [controller, first, second] = free_ports();
    let node = |name: &str, port: u16| {
        format!(
            "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 State=UNKNOWN\n"
        )
    };
    format!(
        "ClusterName=check\nSlurmctldHost=localhost\nSlurmctldPort={controller}\nSlurmUser={user}\nSlurmdUser={user}\n\
         AuthType=auth/munge\nAuthInfo=socket={folder}/munge.sock,cred_expire=5\nStateSaveLocation={folder}/state\n\
         SlurmdSpoolDir={folder}/spool.%n\nSlurmctldPidFile={folder}/ctld.pid\nSlurmdPidFile={folder}/slurmd.%n.pid\n\
         SlurmctldLogFile={folder}/ctld.log\nSlurmdLogFile={folder}/slurmd.%n.log\n\
         ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nReturnToService=2\nSchedulerType=sched/backfill\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nMpiDefault=none\n\
         JobAcctGatherType=jobacct_gather/none\nSlurmdTimeout=10\nKillWait=5\n{}{}\
         PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP\n",
        node("n1", first),
        node("n2", second),
    )
}

/// One sweep of the check: a folder, its spec, and what is given each time.
struct Swept<'a> {
    door: &'a Door,
    cluster: &'a Cluster,
    n_steps: String,
}

impl Swept<'_> {
    fn verb(&self, arguments: &[&str], code: i32) -> Value {
        let conf = self.cluster.folder.join("slurm.conf").display().to_string();
        let set = format!("train.n_steps={}", self.n_steps);
        let all = [arguments, &["--set", &set, "--json"]].concat();
        self.door.with_env(&all, &[("SLURM_CONF", &conf)]).code(code).json()
    }

    fn submit(&self) -> Value {
        self.verb(
            &[
                "sweep",
                "study.toml",
                "--on",
                "slurm",
                "--pack",
                "2",
                "--time",
                "30",
                "--checkpoint-every",
                "10",
            ],
            0,
        )
    }

    fn status(&self) -> Value {
        self.verb(&["sweep", "status", "study.toml"], 0)
    }

    /// Waits until some tasks run on both nodes, and returns their numbers with their nodes.
    fn running(&self) -> Vec<(u64, String)> {
        wait_for("tasks on both nodes", || {
            let status = self.status();
            let queue = status["queue"].as_array().unwrap();
            let running = queue.iter().filter(|task| task["state"] == "RUNNING");
            let tasks: Vec<(u64, String)> = running
                .map(|it| (it["task"].as_u64().unwrap(), it["node"].as_str().unwrap().to_owned()))
                .collect();
            let on = |node: &str| tasks.iter().any(|(_, its)| its == node);
            (on("n1") && on("n2") && n_of(&status, "running") >= 2).then_some(tasks)
        })
    }
}

fn n_of(status: &Value, state: &str) -> u64 {
    status["runs"][state].as_u64().unwrap_or(0)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The check.
pub(crate) fn check() -> Outcome {
    for program in ["munged", "slurmctld", "slurmd", "sbatch"] {
        if !is_installed(program) {
            return Outcome::LeftOut(format!(
                "`{program}` is not installed; on Debian `apt-get install slurm-wlm munge` brings it"
            ));
        }
    }
    let door = Door::new();
    door.write("study.toml", &format!("{TINY}{SWEEP}"));
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let local = door.run(&[
        "sweep",
        "study.toml",
        "--set",
        "train.n_steps=2000",
        "--store",
        "local",
        "--json",
    ]);
    local.code(0);
    let expected = record::all(&door.path("local"));
    assert_eq!(expected.len(), 10);
    let n_resumed = disturbed(&door, &mut cluster);
    record::assert_same(&record::all(&door.path("runs")), &expected, "Slurm beside local");
    other_engine(&door, &cluster);
    record::assert_same(&record::all(&door.path("runs")), &expected, "local, then Slurm");
    and_back(&door, &cluster);
    record::assert_same(&record::all(&door.path("runs")), &expected, "Slurm, then local");
    Outcome::Holds(format!(
        "10 runs in 5 tasks on 2 nodes after a killed task, a requeued one and a killed daemon, {n_resumed} runs resumed: the records of a local sweep, each sealed once; and the same half here and half there, both ways"
    ))
}

/// Kills a task and a daemon, sends the signal of the time limit, submits again.
fn disturbed(door: &Door, cluster: &mut Cluster) -> usize {
    let swept = Swept { door, cluster, n_steps: "2000".to_owned() };
    let said = swept.submit();
    assert_eq!((said["n_tasks"].as_u64(), said["n_open"].as_u64()), (Some(5), Some(10)));
    let slurm_id = said["slurm_id"].as_str().unwrap().to_owned();
    let tasks = swept.running();
    println!("slurm: {slurm_id} runs as {tasks:?}");
    // A second submission finds the first in the queue.
    let refused = swept.verb(&["sweep", "study.toml", "--on", "slurm", "--pack", "2"], 4);
    assert!(refused["error"]["message"].as_str().unwrap().contains("in the queue already"));
    let of = |task: u64| format!("{slurm_id}_{task}");
    // The signal that comes before the time limit: it saves, and goes back into the queue.
    let near_limit = tasks[0].0;
    swept.cluster.said("scancel", &["--signal=USR1", "--batch", &of(near_limit)]);
    // A task dies without a word.
    let killed = tasks[1].0;
    swept.cluster.said("scancel", &["--signal=KILL", "--full", &of(killed)]);
    let log = door.path("runs").join(".sweeps").join(said["sweep"].as_str().unwrap());
    let log = log.join(format!("task-{near_limit}.log"));
    wait_for("a task that saved its state", || {
        fs::read_to_string(&log).unwrap().contains("stopping: saving the state").then_some(())
    });
    wait_for("a task that went back into the queue", || {
        let shown = swept.cluster.said("scontrol", &["show", "job", &of(near_limit)]);
        shown.contains("Restarts=1").then_some(())
    });
    // The daemon of a node dies; its tasks are started again elsewhere or later, and meet the locks of those that live.
    cluster.nodes[1] = None;
    wait_for("a node that is down", || {
        cluster
            .said("sinfo", &["--noheader", "--node", "--format=%N %t", "--nodes=n2"])
            .contains("down")
            .then_some(())
    });
    let swept = Swept { door, cluster, n_steps: "2000".to_owned() };
    let cancelled = swept.verb(&["sweep", "cancel", "study.toml"], 0);
    assert_eq!(cancelled["queue"], serde_json::json!([]));
    cluster.start_node(1);
    cluster.wait_until_empty();
    let swept = Swept { door, cluster, n_steps: "2000".to_owned() };
    let left = swept.status();
    println!("slurm: after the disturbances {}", left["runs"]);
    assert!(n_of(&left, "sealed") < 10, "everything was done before it could be disturbed: {left}");
    again(door, &swept);
    let store = mnemoscope_store::Store::open_existing(&door.path("runs")).unwrap();
    let ids = store.runs().unwrap();
    let resumed = ids
        .iter()
        .filter(|run| store.find(&run.id).unwrap().events().of_kind("resumed").count() > 0);
    let n_resumed = resumed.count();
    assert!(n_resumed > 0, "no run was interrupted");
    n_resumed
}

/// Submits what is left and waits for it.
fn again(door: &Door, swept: &Swept<'_>) {
    let said = swept.submit();
    assert!(said["n_open"].as_u64().unwrap() < 11);
    swept.cluster.wait_until_empty();
    let status = swept.status();
    assert_eq!(n_of(&status, "sealed"), 10, "{status}\n{}", logs(door));
    // And once more: there is nothing to submit.
    assert_eq!(swept.submit()["submitted"], false);
}

fn logs(door: &Door) -> String {
    let sweeps = door.path("runs").join(".sweeps");
    let names = record::files(&sweeps);
    let logs = names.iter().filter(|name| name.ends_with(".log"));
    logs.map(|name| format!("{name}\n{}\n", fs::read_to_string(sweeps.join(name)).unwrap()))
        .collect()
}

/// A sweep begun on the cluster and cancelled, then finished here.
fn and_back(door: &Door, cluster: &Cluster) {
    fs::rename(door.path("runs"), door.path("second")).unwrap();
    let swept = Swept { door, cluster, n_steps: "2000".to_owned() };
    swept.submit();
    wait_for("a run that is sealed there", || (n_of(&swept.status(), "sealed") > 0).then_some(()));
    swept.verb(&["sweep", "cancel", "study.toml"], 0);
    cluster.wait_until_empty();
    let n_sealed = n_of(&swept.status(), "sealed");
    assert!(n_sealed < 10, "everything was done before it could be cancelled");
    let here = swept.verb(&["sweep", "study.toml"], 0);
    assert_eq!(here["sweep"]["n_sealed_before"].as_u64(), Some(n_sealed));
}

/// A sweep begun here and stopped, then finished on the cluster.
fn other_engine(door: &Door, cluster: &Cluster) {
    fs::rename(door.path("runs"), door.path("first")).unwrap();
    let mut child = door
        .command(&["sweep", "study.toml", "--set", "train.n_steps=2000", "--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let store = door.path("runs");
    wait_for("a run that is sealed here", || {
        let there = store.exists().then(|| record::files(&store))?;
        there.iter().any(|name| name.ends_with("result.json")).then_some(())
    });
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let swept = Swept { door, cluster, n_steps: "2000".to_owned() };
    again(door, &swept);
}
