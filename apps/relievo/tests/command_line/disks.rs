//! Disks that are full.

use relievo_require::{Requirement, skip};

use super::*;

/// A file system of a given size in a folder. Only root may mount one; others skip the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, kibibytes: u32) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let size = format!("size={kibibytes}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder.to_owned()));
        }
        skip(Requirement::Disks, "no small file system can be mounted here; run as root to test full disks");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_no_half_file() {
    let place = TestFolder::new();
    let Some(disk) = SmallDisk::mount(Path::new(&place.at("disk")), 64) else { return };
    let out = place.at("disk/heads");
    let ended = fail(&["synth", "-o", &out, "--count=20"]);
    assert!(ended.err.contains("the disk is full"), "{}", ended.err);
    for file in files(&out) {
        assert!(!file.contains("partial"), "{file}");
        image::open(Path::new(&out).join(&file)).unwrap();
    }
    let image = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    let ended =
        fail(&["reconstruct", &image, "--framed", "-m", &place.model(), "-o", &place.at("disk/results")]);
    assert!(ended.err.contains("the disk is full"), "{}", ended.err);
    drop(disk);
}

#[test]
fn a_disk_that_fills_up_while_training_loses_nothing() {
    let place = TestFolder::new();
    // The first checkpoint (8 MiB) and the weights (3 MiB) fit, the second checkpoint does not.
    let Some(disk) = SmallDisk::mount(Path::new(&place.at("disk")), 14 << 10) else { return };
    let run = place.at("disk/run");
    let ended = fail(&[&TINY[..], &[&run]].concat());
    assert!(ended.err.contains("the disk is full"), "{}", ended.err);
    assert!(ended.err.contains("step-0000001.safetensors"), "names the last good one: {}", ended.err);
    assert!(files(&run).iter().all(|file| !file.contains("partial")), "{:?}", files(&run));
    succeed(&["info", &format!("{run}/checkpoints/step-0000001.safetensors")]);
    // With room again the run goes on from there.
    let moved = place.at("moved");
    assert!(Command::new("cp").args(["-r", &run, &moved]).status().unwrap().success());
    succeed(&["train", "--resume", &moved, "--quiet"]);
    assert!(Path::new(&moved).join("checkpoints/step-0000002.safetensors").exists());
    drop(disk);
}
