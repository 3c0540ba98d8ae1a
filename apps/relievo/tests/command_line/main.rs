//! The program as a person meets it: run as a process, judged by its exit code, its words and its files.

mod categories;
#[cfg(target_os = "linux")]
mod disks;
mod images;
mod inputs;
mod meshes;
mod training;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use relievo_data::Source;
use relievo_model::{Model, ModelSettings};
use relievo_synth::Heads;
use serde_json::Value;
use tempfile::TempDir;

/// How a call ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn relievo(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_relievo")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn succeed(arguments: &[&str]) -> Ended {
    let ended = relievo(arguments);
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
    ended
}

/// Fails with code 1, and says why in one last line that begins with `error:`, but for a hint, and without a panic.
#[track_caller]
fn fail(arguments: &[&str]) -> Ended {
    let ended = relievo(arguments);
    assert_eq!(ended.code, 1, "{arguments:?}: {}{}", ended.out, ended.err);
    let last = ended.err.lines().rfind(|line| !line.starts_with("hint: "));
    assert!(last.is_some_and(|line| line.starts_with("error: ")), "{}", ended.err);
    assert!(!ended.err.contains("panicked") && !ended.err.contains("defect"), "{}", ended.err);
    ended
}

/// A folder that goes away, and paths in it as text.
struct TestFolder(TempDir);

impl TestFolder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.at(name)
    }

    /// A model that knows nothing and is small.
    fn model(&self) -> String {
        self.write("weights.safetensors", &tiny_model().to_safetensors().unwrap())
    }
}

fn tiny_model() -> Model {
    Model::new(ModelSettings::tiny(), 5).unwrap()
}

/// Options that make `train` small.
const TINY: [&str; 15] = [
    "train",
    "synthetic",
    "--synthetic-count=40",
    "--batch-size=4",
    "--width=8",
    "--code=16",
    "--encoder-width=8",
    "--perceptual-weight=0",
    "--validation=0",
    "--preview-images=0",
    "--checkpoint-minutes=0",
    "--checkpoint-steps=1",
    "--steps=2",
    "--quiet",
    "-o",
];

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |u, v| Rgb([(3 * u) as u8, (2 * v) as u8, (u * v / 40) as u8]))
}

/// Relative paths of all files below a folder, sorted.
fn files(folder: &str) -> Vec<String> {
    fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    collect(Path::new(folder), Path::new(folder), &mut found);
    found.sort();
    found
}

fn json(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

const COMMANDS: [&str; 27] = [
    "demo",
    "train",
    "reconstruct",
    "turn",
    "relight",
    "category",
    "category list",
    "category add",
    "category remove",
    "crop",
    "eval",
    "reproduce",
    "synth",
    "render",
    "renderer",
    "renderer train",
    "renderer resume",
    "renderer eval",
    "depth",
    "fit",
    "fit vertices",
    "fit shape",
    "fit texture",
    "fit camera",
    "bench",
    "import",
    "info",
];

/// The help pages are what `tests/help.txt` says (RELIEVO_UPDATE=1 rewrites it; read the difference), but for the
/// settings of `train` and `renderer train`, which are documented where they are defined; `reproduce` has them too.
#[test]
fn help_pages_are_as_agreed_and_fit_into_80_columns() {
    let mut pages = succeed(&["--help"]).out;
    let listed = pages.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(name == "help" || COMMANDS.contains(&name), "{name} has no page here");
    }
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let page = succeed(&words).out;
        let settings = match command {
            "train" | "renderer train" => "Options:",
            "reproduce" => "      --preset",
            _ => "there are none",
        };
        let page = page.split(settings).next().unwrap();
        pages = format!("{pages}\n==== relievo {command} --help\n\n{page}");
    }
    let settings = [&["train"][..], &["reproduce"], &["renderer", "train"]]
        .map(|words| succeed(&[words, &["--help"]].concat()).out);
    for line in pages.lines().chain(settings.iter().flat_map(|page| page.lines())) {
        assert!(line.chars().count() <= 80, "longer than 80 columns: {line}");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("RELIEVO_UPDATE").is_some() {
        fs::write(&path, &pages).unwrap();
    }
    let agreed = fs::read_to_string(&path).unwrap();
    for (now, then) in pages.lines().zip(agreed.lines()) {
        assert_eq!(now, then, "the help changed; if that is meant, run with RELIEVO_UPDATE=1");
    }
    assert_eq!(pages.lines().count(), agreed.lines().count());
}

#[test]
fn a_senseless_command_line_ends_with_2() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["synth"],
        &["synth", "-o", "x", "--count", "0"],
        &["synth", "-o", "x", "--size", "5"],
        &["synth", "-o", "x", "--start", "18446744073709551615"],
        &["reconstruct", "-o", "x"],
        &["reconstruct", "a.jpg", "--format", "fbx"],
        &["reconstruct", "a.jpg", "--max-memory", "much"],
        &["import", "a.pth"],
        &["render"],
        &["render", "a.obj", "--size", "20000"],
        &["render", "a.obj", "--background", "mauve"],
        &["render", "a.obj", "--look-at", "1,2"],
        &["render", "a.obj", "--output", "fog"],
        &["render", "a.obj", "--format", "gif"],
        &["demo", "--minutes", "3"],
        &["info", "--threads", "0"],
        &["reproduce"],
        &["reproduce", "comparison", "faces/"],
        &["reproduce", "comparison", "--seed", "1"],
        &["reproduce", "comparison", "--supervision", "depth"],
        &["reproduce", "multi", "--method", "lemul"],
        &["reproduce", "multi", "--asymmetry", "4"],
    ] {
        let ended = relievo(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn heads_are_the_same_however_they_are_made() {
    let place = TestFolder::new();
    let make = |name: &str, more: &[&str]| {
        let folder = place.at(name);
        succeed(&[&["synth", "--size=32", "--seed=3", "-o", &folder], more].concat());
        folder
    };
    let all = make("all", &["--count=9", "--threads=1", "--sheet"]);
    let some = make("some", &["--count=4", "--start=5", "--threads=3"]);
    assert_eq!(files(&all).len(), 9 * 5 + 2);
    let heads: Vec<String> = files(&some).into_iter().filter(|file| file.ends_with(".png")).collect();
    assert_eq!(heads.len(), 4 * 5);
    for file in heads {
        let read = |folder: &str| fs::read(Path::new(folder).join(&file)).unwrap();
        assert!(read(&all) == read(&some), "{file} differs");
    }
    let lines = |folder: &str| fs::read_to_string(format!("{folder}/truth.jsonl")).unwrap();
    let (of_all, of_some) = (lines(&all), lines(&some));
    assert_eq!(of_all.lines().skip(5).collect::<Vec<_>>(), of_some.lines().collect::<Vec<_>>());
    let head: Value = serde_json::from_str(of_some.lines().next().unwrap()).unwrap();
    assert_eq!((&head["number"], &head["seed"]), (&5.into(), &3.into()));
    let depth = image::open(Path::new(&some).join(head["depth"]["file"].as_str().unwrap())).unwrap();
    let mask = image::open(Path::new(&some).join(head["mask"].as_str().unwrap())).unwrap().into_luma8();
    let pairs = depth.into_luma16().into_raw().into_iter().zip(mask.into_raw());
    assert!(pairs.into_iter().all(|(depth, mask)| (depth > 0) == (mask > 0)), "depth is where the head is");

    let taken = fail(&["synth", "-o", &all]);
    assert!(taken.err.contains("already holds heads"), "{}", taken.err);
    let other = place.at("other");
    succeed(&["synth", "--size=32", "--seed=4", "--count=1", "-o", &other]);
    let image = |folder: &str| fs::read(format!("{folder}/images/000000.png")).unwrap();
    assert!(image(&all) != image(&other), "another seed has other heads");
}

#[test]
fn quiet_is_quiet_and_a_closed_pipe_is_no_error() {
    let place = TestFolder::new();
    let quiet = succeed(&["synth", "-q", "--count=2", "--size=16", "-o", &place.at("heads")]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let mut child = Command::new(env!("CARGO_BIN_EXE_relievo"))
        .args(["eval", "--count=4", "-m", &place.model()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && err.is_empty(), "{err}");
}

#[test]
fn a_benchmark_says_the_same_in_a_table_and_in_numbers() {
    let table = succeed(&["bench", "--seconds=0", "--quiet"]).out;
    let numbers = succeed(&["bench", "--seconds=0", "--json", "--threads=1", "--quiet"]).out;
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.starts_with(&format!("relievo {} on ", env!("CARGO_PKG_VERSION"))), "{table}");
    assert_eq!((&numbers["threads"], &numbers["parameters"]), (&1.into(), &37_119_744.into()));
    // The keys are those that bench/pytorch compares.
    for (key, images, name) in [
        ("forward-1", 1, "1 image: depth, albedo, light, view"),
        ("step-16", 16, "16 images: 5 networks, step"),
        ("training-16", 16, "16 images: full training step"),
        ("training-pairs-8", 16, "8 pairs: full step of LeMul"),
        ("predict-32", 32, "32 images: reconstruction"),
        ("synth-64", 64, "64 synthetic heads of 64x64"),
        ("faces-1280x800", 1, "1 image of 1280x800: its faces"),
        ("faces-4000x3000", 1, "1 image of 4000x3000: its faces"),
        ("detector-384x256", 1, "1 image of 384x256: the detector"),
        ("detector-2048x1536", 1, "1 image of 2048x1536: the detector"),
    ] {
        let row = &numbers[key];
        assert_eq!((&row["images"], &row["repetitions"]), (&images.into(), &1.into()), "{key}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0, "{key}");
        let words = table.lines().find_map(|line| line.strip_prefix(name));
        let words: Vec<&str> =
            words.unwrap_or_else(|| panic!("{name}: {table}")).split_whitespace().collect();
        let [median, "ms", quartiles, rate] = words[..] else { panic!("{words:?}") };
        // One repetition is the median and both quartiles.
        assert_eq!(quartiles, format!("{median}-{median}"));
        let (median, rate): (f64, f64) = (median.parse().unwrap(), rate.parse().unwrap());
        assert!((median * rate / 1e3 / f64::from(images) - 1.0).abs() < 0.1, "{words:?}");
    }
    for key in ["feed-rendered-64", "feed-cached-64"] {
        assert_eq!(numbers[key]["images"], 64, "{key}");
    }
    assert!(numbers["pool-peak-bytes"].as_u64().unwrap() > 100 << 20);
    assert!(table.contains("most memory: tensors "), "{table}");
    // The narrow networks of the program's weights, which have no confidence.
    let numbers = succeed(&["bench", "--seconds=0", "--json", "--quiet", "-m", "faces"]).out;
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert!(numbers["parameters"].as_u64().unwrap() < 3_000_000, "{numbers}");
    // A part alone; the keys are those that bench/meshes compares.
    let numbers = succeed(&["bench", "--seconds=0", "--only=meshes", "--json", "--quiet"]).out;
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    for key in ["mesh-forward", "mesh-fit", "mesh-dense", "mesh-colour"] {
        assert!(numbers[key]["seconds"].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(numbers["forward-1"].is_null() && numbers["synth-64"].is_null());
}
