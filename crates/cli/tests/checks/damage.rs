//! Damage: flipped bits and cut ends in every file of a record, a disk that is full, a disk that refuses to read.
//!
//! What is damaged is named with exit code 3, or is not used and what comes out is the same to the bit. A full disk is
//! exit code 4, and after room was made the run ends as one that never met it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::door::{Door, TINY};
use crate::record;

/// Places of each file in which a bit is flipped.
const FLIPS_A_FILE: usize = 6;
const STEPS: [&str; 4] = ["--set", "train.n_steps=60", "--checkpoint-every", "4"];

/// The check.
pub(crate) fn check() -> Outcome {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    run(&door, "whole", 0);
    let expected = record::all(&door.path("whole"));
    let id = expected.keys().next().unwrap().clone();
    let (n_files, n_flips) = sealed(&door, &id);
    let n_unsealed = unsealed(&door, &id, &expected);
    let full = full_disk(&door, &expected);
    Outcome::Holds(format!(
        "{n_flips} flipped bits and {n_files} cut ends in the {n_files} files of a sealed record were named; \
         {n_unsealed} in an interrupted one were named or gone behind, to the same bits; {full}"
    ))
}

fn run(door: &Door, store: &str, code: i32) -> String {
    let arguments = [&["run", "tiny.toml", "--store", store, "--json"], &STEPS[..]].concat();
    door.run(&arguments).code(code).all()
}

/// `n` places of a file, spread by its name.
fn places(name: &str, n_bytes: usize, n: usize) -> Vec<(usize, u8)> {
    let place = |idx: usize| {
        let hash = blake3::hash(format!("{name} {idx}").as_bytes());
        let bytes: [u8; 4] = hash.as_bytes()[..4].try_into().unwrap();
        (u32::from_le_bytes(bytes) as usize % n_bytes, 1 << (hash.as_bytes()[4] % 8))
    };
    (0..n).map(place).collect()
}

/// Damages every file of a sealed record in turn.
fn sealed(door: &Door, id: &str) -> (usize, usize) {
    let folder = door.path("whole").join(id);
    let (mut n_files, mut n_flips) = (0, 0);
    for name in record::files(&folder) {
        // The lock's bytes mean nothing: whoever holds it is known by the operating system.
        if name == "lock" {
            continue;
        }
        let path = folder.join(&name);
        let whole = fs::read(&path).unwrap();
        let verify = |what: &str| {
            let said =
                door.run(&["show", id, "--verify", "--store", "whole", "--json"]).code(3).all();
            let said = said.split_whitespace().collect::<String>();
            assert!(
                said.contains(&name.replace('/', "/")),
                "{what} of {name} is not named: {said}"
            );
        };
        for (at, bit) in places(&name, whole.len(), FLIPS_A_FILE) {
            let mut damaged = whole.clone();
            damaged[at] ^= bit;
            fs::write(&path, damaged).unwrap();
            verify(&format!("bit {bit} of byte {at}"));
            n_flips += 1;
        }
        fs::write(&path, &whole[..whole.len() - 1 - whole.len() / 3]).unwrap();
        verify("the cut end");
        fs::write(&path, &whole).unwrap();
        n_files += 1;
    }
    door.run(&["show", id, "--verify", "--store", "whole"]).code(0);
    (n_files, n_flips)
}

/// Damages every file of a run that was killed, and goes on with it.
fn unsealed(
    door: &Door,
    id: &str,
    expected: &std::collections::BTreeMap<String, serde_json::Value>,
) -> usize {
    let begun = door.path("begun");
    let root = begun.display().to_string();
    let arguments = [&["run", "tiny.toml", "--store", &root, "--quiet"], &STEPS[..]].concat();
    let mut child = door.command(&arguments).spawn().unwrap();
    let folder = begun.join(id);
    while fs::read_dir(folder.join("checkpoints")).map_or(0, Iterator::count) < 2 {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.join("result.json").exists(), "the run was over before it could be killed");
    let mut n = 0;
    for name in
        record::files(&folder).into_iter().filter(|name| name != "lock" && !name.ends_with(".tmp"))
    {
        let n_bytes = usize::try_from(fs::metadata(folder.join(&name)).unwrap().len()).unwrap();
        for (idx, (at, bit)) in places(&name, n_bytes, FLIPS_A_FILE / 2).into_iter().enumerate() {
            let store = format!("hurt-{n}");
            copy(&begun, &door.path(&store));
            let path = door.path(&store).join(id).join(&name);
            let mut damaged = fs::read(&path).unwrap();
            damaged[at] ^= bit;
            if idx == 0 {
                damaged.truncate(n_bytes / 2);
            }
            fs::write(&path, damaged).unwrap();
            let arguments =
                [&["run", "tiny.toml", "--store", &store, "--json"], &STEPS[..]].concat();
            let output = door.command(&arguments).output().unwrap();
            let all =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => {
                    assert_eq!(&record::all(&door.path(&store)), expected, "{name} byte {at}")
                }
                Some(3) => {
                    assert!(all.contains(name.as_str()), "byte {at} of {name} is not named: {all}")
                }
                code => panic!("byte {at} of {name} ended with {code:?}: {all}"),
            }
            fs::remove_dir_all(door.path(&store)).unwrap();
            n += 1;
        }
    }
    n
}

fn copy(from: &Path, to: &Path) {
    for name in record::files(from) {
        let target = to.join(&name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&name), target).unwrap();
    }
}

/// A disk of memory, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, kib: u32) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let options = format!("size={kib}k");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path);
        mount.output().is_ok_and(|said| said.status.success()).then(|| Self(path))
    }

    fn grow(&self, kib: u32) {
        let options = format!("remount,size={kib}k");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// A run on disks of every size that is too small for it, each made larger afterwards.
fn full_disk(
    door: &Door,
    expected: &std::collections::BTreeMap<String, serde_json::Value>,
) -> String {
    let mut n_full = 0;
    for idx in 0..40 {
        let path = door.path(&format!("disk-{idx}"));
        let Some(disk) = Disk::mount(path.clone(), 16 + 12 * idx) else {
            return "left out: a full disk needs the right to mount one".to_owned();
        };
        let store = path.join("runs").display().to_string();
        let arguments = [&["run", "tiny.toml", "--store", &store, "--json"], &STEPS[..]].concat();
        let output = door.command(&arguments).output().unwrap();
        let code = output.status.code();
        if code != Some(0) {
            let all =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert_eq!(code, Some(4), "{all}");
            assert!(all.contains("full") || all.contains("No space"), "{all}");
            n_full += 1;
            disk.grow(8_000);
            run(door, &store, 0);
        }
        record::assert_same(&record::all(Path::new(&store)), expected, "after a full disk");
    }
    assert!(n_full >= 10, "only {n_full} disks were too small");
    format!("{n_full} full disks were said and, with room made, ended as if never full")
}
