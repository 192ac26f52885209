//! The machine under the command: processor, memory, system.

use std::path::Path;

use serde_json::{Value, json};

/// What a record says about the machine, and `doctor` to people.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// `linux`, `macos`, ...
    pub(crate) os: &'static str,
    /// `x86_64`, `aarch64`, ...
    pub(crate) arch: &'static str,
    /// The processor's own name, where the system tells it.
    pub(crate) cpu: Option<String>,
    /// Cores that this process may use.
    pub(crate) n_cores: usize,
    /// Instruction sets that the kernels can use.
    pub(crate) features: Vec<&'static str>,
    /// Memory that this process may use, where the system tells it.
    pub(crate) memory_bytes: Option<u64>,
}

impl Machine {
    /// Looks at the machine.
    pub(crate) fn look() -> Self {
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpu: cpu_name(),
            n_cores: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            memory_bytes: memory_bytes(),
        }
    }

    /// The machine as records keep it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "os": self.os,
            "arch": self.arch,
            "cpu": self.cpu,
            "n_cores": self.n_cores,
            "features": self.features,
            "memory_bytes": self.memory_bytes,
            "commit": commit(),
        })
    }
}

/// The commit that the command was built from, where its build could tell.
pub(crate) fn commit() -> Option<&'static str> {
    Some(env!("MNEMOSCOPE_COMMIT")).filter(|commit| !commit.is_empty())
}

/// The machine's memory, or what the control group of this process leaves of it.
///
/// Both come from files of Linux; elsewhere the answer is unknown, and only sizes that no machine
/// has are refused.
pub(crate) fn memory_bytes() -> Option<u64> {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| cgroup_limit(&std::fs::read_to_string(path).ok()?));
    match (total, limit) {
        (Some(total), Some(limit)) => Some(total.min(limit)),
        (total, limit) => total.or(limit),
    }
}

/// What is free on the disk where `path` is or will be, for this user; unknown where the system does not tell it.
#[cfg(unix)]
pub(crate) fn free_disk_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|it| it.exists() || it.as_os_str().is_empty())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let disk = rustix::fs::statvfs(there).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
pub(crate) fn free_disk_bytes(_path: &Path) -> Option<u64> {
    None
}

/// `MemTotal` of `/proc/meminfo`, which counts in units of 1024 bytes.
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A control group's limit; `max` is none.
fn cgroup_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    use mnemoscope_lab::engine::device::{Device, Precision};
    let mut found = Vec::new();
    let detected = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512vl", std::is_x86_feature_detected!("avx512vl")),
        // Only where the system lets programs use it.
        ("amx_bf16", Device::Cpu.precisions().contains(&Precision::Bf16)),
    ];
    found.extend(detected.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    if cfg!(target_feature = "neon") { vec!["neon"] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_disk_of_a_store_that_is_not_there_yet_is_that_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let free = free_disk_bytes(folder.path()).unwrap();
        assert!(free > 0);
        assert!(free_disk_bytes(&folder.path().join("a/b/runs")).is_some());
        assert!(free_disk_bytes(Path::new("no-such-folder/runs")).is_some());
    }

    #[test]
    fn memory_is_read_in_its_own_unit() {
        let meminfo = "MemFree:  12 kB\nMemTotal:       24608340 kB\n";
        assert_eq!(mem_total(meminfo), Some(24_608_340 * 1024));
        assert_eq!(mem_total("MemTotal: many"), None);
        assert_eq!(cgroup_limit("max\n"), None);
        assert_eq!(cgroup_limit("1073741824\n"), Some(1 << 30));
    }
}
