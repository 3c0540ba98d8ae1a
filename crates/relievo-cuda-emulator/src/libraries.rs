//! The C++ libraries: written out, compiled, loaded.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Sources and headers; `device.h` and `abi.h` are also what kernels are compiled with.
const FILES: [(&str, &str); 10] = [
    ("abi.h", include_str!("../emulator/abi.h")),
    ("device.h", include_str!("../emulator/device.h")),
    ("driver.h", include_str!("../emulator/driver.h")),
    ("machine.h", include_str!("../emulator/machine.h")),
    ("memory.h", include_str!("../emulator/memory.h")),
    ("machine.cpp", include_str!("../emulator/machine.cpp")),
    ("memory.cpp", include_str!("../emulator/memory.cpp")),
    ("driver.cpp", include_str!("../emulator/driver.cpp")),
    ("nvrtc.cpp", include_str!("../emulator/nvrtc.cpp")),
    ("cudnn.cpp", include_str!("../emulator/cudnn.cpp")),
];

/// Each library and its sources, in the order of loading: the later ones find the driver's symbols.
const LIBRARIES: [(&str, &[&str]); 3] = [
    ("libcuda.so", &["machine.cpp", "memory.cpp", "driver.cpp"]),
    ("libnvrtc.so", &["nvrtc.cpp"]),
    ("libcudnn.so", &["cudnn.cpp"]),
];

const FLAGS: [&str; 9] = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
    "-pthread",
    "-Wl,-z,nodelete",
    "-w",
];

/// Compiles what is not there yet and loads it all, once a process.
pub fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<Vec<Library>, String>> = OnceLock::new();
    LOADED.get_or_init(load_all).as_ref().map(|_| ()).map_err(Clone::clone)
}

fn load_all() -> Result<Vec<Library>, String> {
    let compiler = compiler();
    let build = build(&version(&compiler)?);
    let folder = folder(build);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    // Test programs run side by side: one of them compiles, the others wait.
    let lock = File::create(folder.join("lock"))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock {}: {error}", folder.display()))?;
    for (name, text) in FILES {
        write_new(&folder.join(name), |path| fs::write(path, text))?;
    }
    for (library, sources) in LIBRARIES {
        write_new(&folder.join(library), |path| {
            compile(&compiler, build, &folder, library, sources, path).map_err(io::Error::other)
        })?;
    }
    let folder = folder.canonicalize().unwrap_or(folder);
    drop(lock);
    LIBRARIES
        .iter()
        .map(|(library, _)| {
            let path = folder.join(library);
            // SAFETY: our own libraries; loading them runs no code that relies on anything of the process.
            unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
                .map_err(|error| format!("cannot load {}: {error}", path.display()))
        })
        .collect()
}

fn compiler() -> String {
    std::env::var("CXX").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "c++".into())
}

/// What the compiler says of itself; an error if there is none.
fn version(compiler: &str) -> Result<String, String> {
    let output = Command::new(compiler)
        .arg("--version")
        .output()
        .map_err(|error| format!("the CUDA emulator needs a C++ compiler: {compiler} (CXX): {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A number for these sources and flags, this compiler and this processor.
fn build(version: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    (FILES, FLAGS, version).hash(&mut hash);
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processor.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).hash(&mut hash);
    hash.finish()
}

fn folder(build: u64) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cuda-emulator");
    std::path::absolute(&target).unwrap_or(target).join(format!("{build:016x}"))
}

/// Makes a file, whole or not at all, unless it exists.
fn write_new(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    relievo_files::write_by(path, make).map_err(|error| error.to_string())
}

fn compile(
    compiler: &str,
    build: u64,
    folder: &Path,
    library: &str,
    sources: &[&str],
    output: &Path,
) -> Result<(), String> {
    let result = Command::new(compiler)
        .current_dir(folder)
        .args(FLAGS)
        .arg(format!("-Wl,-soname,{library}"))
        .arg(format!("-DEMULATOR_BUILD={}", build % 1_000_000_007))
        .args(sources)
        .args(["-ldl", "-o"])
        .arg(output)
        .output()
        .map_err(|error| format!("cannot run {compiler}: {error}"))?;
    if result.status.success() {
        return Ok(());
    }
    Err(format!("{compiler} cannot compile {library}:\n{}", String::from_utf8_lossy(&result.stderr)))
}
