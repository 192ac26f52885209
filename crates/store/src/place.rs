//! Where the index lies: a database is not to be shared by machines through a file system.

use std::path::{Path, PathBuf};

use crate::format::INDEX;

/// Kinds of file systems that several machines see.
const SHARED: [&str; 14] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "orangefs",
    "panfs",
    "smb3",
    "smbfs",
];

/// The index of the store in `root`: on a file system that other machines see, one for each machine.
pub(crate) fn index_path(root: &Path) -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let whole = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    if !is_shared(&mounts, &whole) {
        return root.join(INDEX);
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    root.join(name_for(host.trim()))
}

/// Whether the longest mount above `path` is of a kind that several machines see.
fn is_shared(mounts: &str, path: &Path) -> bool {
    let mount = |line: &str| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        // Spaces are written as their octal numbers.
        let at = PathBuf::from(at.replace("\\040", " "));
        path.starts_with(&at).then(|| (at.components().count(), kind.to_owned()))
    };
    let nearest = mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth);
    nearest.is_some_and(|(_, kind)| {
        // `nfs4`, `fuse.sshfs`
        let base = kind.split('.').next().unwrap_or_default().trim_end_matches(char::is_numeric);
        SHARED.contains(&base) || SHARED.contains(&kind.as_str())
    })
}

fn name_for(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let host: String = host.chars().map(plain).collect();
    match host.as_str() {
        "" => INDEX.to_owned(),
        host => format!("index.{host}.sqlite"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_other_machines_see_has_an_index_for_each() {
        let mounts = "/dev/vda / ext4 rw 0 0\nhome:/x /home nfs4 rw 0 0\n\
                      /dev/vdb /home/me/fast\\040disk xfs rw 0 0\nbig /scratch lustre rw 0 0\n\
                      me@far: /far fuse.sshfs rw 0 0\n";
        for (path, expected) in [
            ("/tmp/runs", false),
            ("/home/me/runs", true),
            ("/home/me/fast disk/runs", false),
            ("/scratch/runs", true),
            ("/scratchers", false),
            ("/far/runs", true),
        ] {
            assert_eq!(is_shared(mounts, Path::new(path)), expected, "{path}");
        }
        assert_eq!(name_for("node-7.cluster"), "index.node-7_cluster.sqlite");
        assert_eq!(name_for(""), INDEX);
        assert!(!is_shared("", Path::new("/home")));
    }
}
