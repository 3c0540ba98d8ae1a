//! What tests need of their machine: skipped where it is missing, failed where it must be there.
//!
//! A test harness hides what a passing test prints, so a test that returns early looks as green as one that ran. A test
//! that cannot run calls [`skip`], which fails it if `RELIEVO_REQUIRE` names the requirement:
//!
//! ```no_run
//! use relievo_require::{Requirement, skip};
//!
//! fn validator_accepts_the_mesh() {
//!     if !std::process::Command::new("gltf-validator").arg("--version").status().is_ok() {
//!         return skip(Requirement::Meshes, "gltf-validator is not installed");
//!     }
//!     // ...
//! }
//! # validator_accepts_the_mesh();
//! ```

/// The environment variable that names, separated by commas, the requirements that must be met.
const VARIABLE: &str = "RELIEVO_REQUIRE";

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A GPU, real or emulated: `gpu`.
    Gpu,
    /// The emulator of a GPU: `emulator`.
    Emulator,
    /// NVIDIA's compiler of kernels: `nvrtc`.
    Nvrtc,
    /// Other people's readers of meshes: `meshes`.
    Meshes,
    /// The right to mount a small file system: `disks`.
    Disks,
    /// The reference tensors: `golden`.
    Golden,
    /// Shards of real images in `RELIEVO_DATA`: `data`.
    Data,
}

impl Requirement {
    const ALL: [Self; 7] =
        [Self::Gpu, Self::Emulator, Self::Nvrtc, Self::Meshes, Self::Disks, Self::Golden, Self::Data];

    /// The name in `RELIEVO_REQUIRE`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Emulator => "emulator",
            Self::Nvrtc => "nvrtc",
            Self::Meshes => "meshes",
            Self::Disks => "disks",
            Self::Golden => "golden",
            Self::Data => "data",
        }
    }
}

/// Notes that the calling test cannot run for want of `requirement`; the test is to return.
///
/// # Panics
/// If `RELIEVO_REQUIRE` names the requirement, or names one that does not exist.
pub fn skip(requirement: Requirement, reason: &str) {
    let required = required().unwrap_or_else(|error| panic!("{error}"));
    assert!(!required.contains(&requirement), "{VARIABLE} has {}, but {reason}", requirement.name());
    println!("skipped ({}): {reason}", requirement.name());
}

/// The requirements that `RELIEVO_REQUIRE` names: none if it is not set.
///
/// # Errors
/// If it names one that does not exist.
pub fn required() -> Result<Vec<Requirement>, String> {
    parse(&std::env::var(VARIABLE).unwrap_or_default())
}

fn parse(list: &str) -> Result<Vec<Requirement>, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            Requirement::ALL.into_iter().find(|requirement| requirement.name() == name).ok_or_else(|| {
                let known = Requirement::ALL.map(Requirement::name).join(", ");
                format!("{VARIABLE} names {name:?}; known are {known}")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("gpu, meshes,").unwrap(), [Requirement::Gpu, Requirement::Meshes]);
        let error = parse("gpu,nvcc").unwrap_err();
        assert!(error.contains("\"nvcc\"") && error.contains("emulator, nvrtc"), "{error}");
    }

    /// Tests that run do not ask for the list: this one catches a wrong name where all of them run.
    #[test]
    fn the_environment_names_requirements_that_exist() {
        required().unwrap();
    }
}
