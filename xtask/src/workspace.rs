//! The workspace as the rules see it: rooms, their dependencies, their binaries, their files.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package, TargetKind};

use crate::Finding;
use crate::source::Source;

/// A crate of the workspace. Its name is its folder: `crates/stats` is `stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The name of the folder.
    pub name: String,
    /// The folder, relative to the root and with `/`: `crates/stats`.
    pub folder: String,
    /// Rooms this one depends on when it ships, by folder name.
    pub knows: Vec<String>,
    /// Third-party libraries this one depends on when it ships.
    pub libraries: Vec<Library>,
    /// The binaries it builds.
    pub binaries: Vec<String>,
    /// Whether a plain `cargo build` or `cargo test` includes it.
    pub default_member: bool,
}

/// A direct dependency on somebody else's crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    /// The name in the registry.
    pub name: String,
    /// The features the manifest asks for.
    pub features: Vec<String>,
}

/// The rooms of the workspace at `root`, as cargo reads its manifests.
///
/// # Panics
///
/// If cargo cannot read the workspace: then no rule can be checked.
#[must_use]
pub fn rooms(root: &Path) -> Vec<Room> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap_or_else(|failure| panic!("cargo metadata: {failure}"));
    let default_members: &[_] = &metadata.workspace_default_members;
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| room(root, package, default_members.contains(&package.id)))
        .collect()
}

fn room(root: &Path, package: &Package, default_member: bool) -> Room {
    let folder = package.manifest_path.parent().map_or("", |folder| folder.as_str());
    let ships = |kind| matches!(kind, DependencyKind::Normal | DependencyKind::Build);
    let mut room = Room {
        name: last_segment(folder),
        folder: relative(root, Path::new(folder)),
        default_member,
        ..Room::default()
    };
    for dependency in package.dependencies.iter().filter(|dependency| ships(dependency.kind)) {
        match &dependency.path {
            Some(path) => room.knows.push(last_segment(path.as_str())),
            None => room.libraries.push(Library {
                name: dependency.name.clone(),
                features: dependency.features.clone(),
            }),
        }
    }
    for target in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bin)) {
        room.binaries.push(target.name.clone());
    }
    room
}

fn last_segment(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}

/// `path` below `root`, with `/` between its parts.
#[must_use]
pub fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Every file of a room, or of the whole repository, whose name ends with `.{extension}`, sorted.
///
/// Build outputs and hidden folders are left out.
///
/// # Panics
///
/// If a folder cannot be read.
#[must_use]
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(&folder)
            .unwrap_or_else(|failure| panic!("{}: {failure}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name else { continue };
            if name.starts_with('.') || name == "target" || name == "runs" {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of a room, parsed. A file that does not parse is a finding of its own.
///
/// # Panics
///
/// If a file cannot be read.
#[must_use]
pub fn sources(root: &Path, room: &Room) -> (Vec<Source>, Vec<Finding>) {
    let (mut sources, mut findings) = (Vec::new(), Vec::new());
    for path in files(&root.join(&room.folder), "rs") {
        let place = relative(root, &path);
        let text = fs::read_to_string(&path).unwrap_or_else(|failure| panic!("{place}: {failure}"));
        match Source::parse(&place, &text) {
            Ok(source) => sources.push(source),
            Err(finding) => findings.push(finding),
        }
    }
    (sources, findings)
}
