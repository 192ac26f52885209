//! The environment, read once: it can move the store or limit threads, and change no number.

use std::ffi::OsString;
use std::path::PathBuf;

use mnemoscope_lab::engine::device::Device;

use crate::failure::Failure;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `MNEMOSCOPE_STORE`: where records lie.
    pub(crate) store: Option<PathBuf>,
    /// `MNEMOSCOPE_THREADS`: threads to work with.
    threads: Option<OsString>,
    /// `CUDA_PATH`: where CUDA is installed.
    cuda: Option<PathBuf>,
}

impl Environment {
    /// Reads it. A variable that is set and empty counts as unset.
    pub(crate) fn read() -> Self {
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            store: read("MNEMOSCOPE_STORE").map(PathBuf::from),
            threads: read("MNEMOSCOPE_THREADS"),
            cuda: read("CUDA_PATH").map(PathBuf::from),
        }
    }

    /// Refuses CUDA where there is none, or its headers are not found: kernels are compiled against them when they are
    /// first used, and Burn panics in the midst of that.
    pub(crate) fn check(&self, device: Device) -> Result<(), Failure> {
        if !matches!(device, Device::Cuda(_)) {
            return Ok(());
        }
        device.check().map_err(|why| Failure::machine(why.to_string()))?;
        self.check_headers()
    }

    fn check_headers(&self) -> Result<(), Failure> {
        let usual = ["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from);
        let places = self.cuda.as_ref().map_or(usual.as_slice(), std::slice::from_ref);
        if places.iter().any(|place| place.join("include/cuda_runtime.h").exists()) {
            return Ok(());
        }
        let names: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Err(Failure::machine(format!("no CUDA headers in {}", names.join(", ")))
            .help("install CUDA's runtime headers and set CUDA_PATH to the folder that has include/cuda_runtime.h"))
    }

    /// The threads it asks for, else one for each core.
    pub(crate) fn n_threads(&self) -> Result<usize, Failure> {
        let Some(asked) = &self.threads else {
            // A system that does not say how many cores there are gets one thread.
            return Ok(std::thread::available_parallelism().map_or(1, usize::from));
        };
        let number = asked.to_str().and_then(|asked| asked.parse::<u16>().ok()).filter(|&n| n > 0);
        number.map(usize::from).ok_or_else(|| {
            Failure::usage(format!(
                "MNEMOSCOPE_THREADS is {asked:?}; use a whole number from 1 to 65535"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_without_its_headers_is_refused_with_the_places() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = Environment { cuda: Some(folder.path().into()), ..Environment::default() };
        assert!(nowhere.check(Device::Cpu).is_ok());
        let refused = nowhere.check_headers().unwrap_err();
        assert!(refused.message.contains(&folder.path().display().to_string()));
        std::fs::create_dir(folder.path().join("include")).unwrap();
        std::fs::write(folder.path().join("include/cuda_runtime.h"), "").unwrap();
        assert!(nowhere.check_headers().is_ok());
    }

    #[test]
    fn threads_are_a_positive_number_or_a_complaint() {
        let asking =
            |threads: &str| Environment { threads: Some(threads.into()), ..Environment::default() };
        assert_eq!(asking("3").n_threads().unwrap(), 3);
        assert!(Environment::default().n_threads().unwrap() >= 1);
        for wrong in ["0", "-1", "two", "1.5", "99999"] {
            let failure = asking(wrong).n_threads().unwrap_err();
            assert_eq!(
                failure.message,
                format!("MNEMOSCOPE_THREADS is {wrong:?}; use a whole number from 1 to 65535")
            );
        }
    }
}
