//! The program as a person meets it: run as a process, judged by its exit code, its words and its files.

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

/// Fails with code 1, and says why in one last line that begins with `error:`, and without a panic.
#[track_caller]
fn fail(arguments: &[&str]) -> Ended {
    let ended = relievo(arguments);
    assert_eq!(ended.code, 1, "{arguments:?}: {}{}", ended.out, ended.err);
    assert!(ended.err.lines().last().is_some_and(|line| line.starts_with("error: ")), "{}", ended.err);
    assert!(!ended.err.contains("panicked") && !ended.err.contains("defect"), "{}", ended.err);
    ended
}

/// A folder that goes away, and paths in it as text.
struct Place(TempDir);

impl Place {
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
    let settings = ModelSettings {
        width: 8,
        code: 16,
        encoder_width: 8,
        perceptual_weight: 0.0,
        ..ModelSettings::default()
    };
    Model::new(settings, 5).unwrap()
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
    "--preview-pictures=0",
    "--checkpoint-minutes=0",
    "--checkpoint-steps=1",
    "--steps=2",
    "--quiet",
    "-o",
];

fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
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

const COMMANDS: [&str; 9] =
    ["demo", "train", "reconstruct", "crop", "eval", "reproduce", "synth", "bench", "info"];

/// The help pages are what `tests/help.txt` says (RELIEVO_UPDATE=1 rewrites it; read the difference), but for the
/// settings of `train`, which are documented where they are defined; `reproduce` has them too.
#[test]
fn help_pages_are_as_agreed_and_fit_into_80_columns() {
    let mut pages = succeed(&["--help"]).out;
    for command in COMMANDS {
        let page = succeed(&[command, "--help"]).out;
        let settings = match command {
            "train" => "Options:",
            "reproduce" => "      --preset",
            _ => "there are none",
        };
        let page = page.split(settings).next().unwrap();
        pages = format!("{pages}\n==== relievo {command} --help\n\n{page}");
    }
    let settings = ["train", "reproduce"].map(|command| succeed(&[command, "--help"]).out);
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
        &["demo", "--minutes", "3"],
        &["info", "--threads", "0"],
        &["reproduce"],
        &["reproduce", "comparison", "faces/"],
        &["reproduce", "comparison", "--seed", "1"],
        &["reproduce", "comparison", "--supervision", "depth"],
    ] {
        let ended = relievo(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(ended.out.is_empty());
    }
}

#[test]
fn pictures_of_every_kind_are_reconstructed() {
    let place = Place::new();
    let deep = ImageBuffer::from_fn(90, 70, |u, v| Luma([(u * v * 9) as u16]));
    place.write("in/photo.jpg", &encode(photo(120, 90), ImageFormat::Jpeg));
    place.write("in/photo.png", &encode(photo(90, 120), ImageFormat::Png));
    place.write("in/below/grey.png", &encode(GrayImage::new(70, 70), ImageFormat::Png));
    place.write("in/below/deep.png", &encode(DynamicImage::from(deep), ImageFormat::Png));
    place.write("in/below/one.png", &encode(photo(1, 1), ImageFormat::Png));
    let alpha = RgbaImage::from_fn(64, 64, |u, v| Rgba([9, 200, 30, (u + v) as u8]));
    let single = place.write("alpha.webp", &encode(alpha, ImageFormat::WebP));
    let (model, out) = (place.model(), place.at("in/results"));
    // The output folder lies inside the pictures' folder, and the second run must not take results for pictures.
    let mut runs = Vec::new();
    for threads in ["1", "3"] {
        let ended = succeed(&[
            "reconstruct",
            &place.at("in"),
            &single,
            "-o",
            &out,
            "-m",
            &model,
            "--framed",
            "--batch-size=2",
            "--threads",
            threads,
        ]);
        assert!(ended.err.contains("6 pictures reconstructed in"), "{}", ended.err);
        let stems = ["alpha", "below/deep", "below/grey", "below/one", "photo", "photo-2"];
        let endings = [
            "albedo.png",
            "canonical-depth.png",
            "depth.png",
            "glb",
            "json",
            "mtl",
            "normals.png",
            "obj",
            "panel.png",
            "texture.png",
        ];
        let expected: Vec<String> =
            stems.iter().flat_map(|stem| endings.map(|ending| format!("{stem}.{ending}"))).collect();
        let mut expected_sorted = expected;
        expected_sorted.sort();
        assert_eq!(files(&out), expected_sorted);
        runs.push(
            files(&out).iter().map(|file| fs::read(Path::new(&out).join(file)).unwrap()).collect::<Vec<_>>(),
        );
    }
    assert!(runs[0] == runs[1], "results depend on the number of threads");

    let record = json(&format!("{out}/photo.json"));
    assert_eq!((&record["picture"], &record["size"]), (&"photo.jpg".into(), &64.into()));
    let direction: f64 =
        record["light"]["direction"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((direction - 1.0).abs() < 1e-5);
    assert_eq!(record["view"]["rotation-radians"].as_array().unwrap().len(), 3);
    let depth = &record["canonical-depth"];
    let (min, max) = (depth["min"].as_f64().unwrap(), depth["max"].as_f64().unwrap());
    assert!(0.9 <= min && min < max && max <= 1.1, "{min} {max}");
    let numbers = image::open(format!("{out}/{}", depth["file"].as_str().unwrap())).unwrap();
    assert_eq!((numbers.color(), numbers.width()), (image::ColorType::L16, 64));
    let numbers = numbers.into_luma16().into_raw();
    assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&1), Some(&65535)));
    let panel = image::open(format!("{out}/photo.panel.png")).unwrap();
    assert!(panel.width() > 7 * 256 && panel.height() > 3 * 256);
    let mesh = &record["mesh"];
    assert_eq!((&mesh["gltf"], &mesh["obj"]), (&"photo.glb".into(), &"photo.obj".into()));
    let obj = fs::read_to_string(format!("{out}/photo.obj")).unwrap();
    let lines = |keyword: &str| obj.lines().filter(|line| line.starts_with(keyword)).count();
    assert_eq!(mesh["vertices"], lines("v "));
    assert_eq!(mesh["triangles"], lines("f "));
    let texture = image::open(format!("{out}/photo.texture.png")).unwrap();
    assert_eq!((texture.width(), texture.height()), (512, 512));
}

#[test]
fn a_mesh_shows_the_albedo_with_or_without_light_or_the_picture_itself() {
    let place = Place::new();
    let (model, picture) = (place.model(), place.write("a.png", &encode(photo(80, 80), ImageFormat::Png)));
    let textures = ["albedo", "shaded", "picture"].map(|texture| {
        let out = place.at(texture);
        succeed(&[
            "reconstruct",
            &picture,
            "-o",
            &out,
            "-m",
            &model,
            "--framed",
            "--sheet",
            "--texture",
            texture,
        ]);
        let sheet = image::open(format!("{out}/sheet.png")).unwrap();
        assert!(sheet.width() > 8 * 128 && (128..256).contains(&sheet.height()));
        assert_eq!(json(&format!("{out}/a.json"))["mesh"]["texture"], texture);
        fs::read(format!("{out}/a.texture.png")).unwrap()
    });
    assert!(textures[0] != textures[1] && textures[1] != textures[2] && textures[0] != textures[2]);
}

/// A photograph with synthetic heads in it: left, top and side of each.
fn photograph(width: u32, height: u32, heads: &[[u32; 3]]) -> RgbImage {
    let mut photograph = photo(width, height);
    for pixel in photograph.pixels_mut() {
        // Calmer than `photo`, whose pattern repeats.
        *pixel = Rgb(pixel.0.map(|value| 90 + value / 8));
    }
    for (number, &[left, top, side]) in heads.iter().enumerate() {
        let head = Heads::range(11, 0, 100).sample(number as u64, side).unwrap().picture;
        let head = RgbImage::from_raw(side, side, head.pixels).unwrap();
        image::imageops::replace(&mut photograph, &head, left.into(), top.into());
    }
    photograph
}

#[test]
fn faces_are_found_in_photographs_and_their_place_is_told() {
    let place = Place::new();
    let (model, out) = (place.model(), place.at("out"));
    let two = photograph(400, 300, &[[20, 60, 90], [200, 80, 160]]);
    place.write("in/two.jpg", &encode(two, ImageFormat::Jpeg));
    let all = ["reconstruct", &place.at("in"), "-m", &model, "-o", &out];
    succeed(&all);
    let largest = json(&format!("{out}/two.json"));
    let number = |value: &Value| value.as_f64().unwrap();
    let crop = &largest["place"]["crop"];
    assert!((number(&crop["centre"][0]) - 280.0).abs() < 15.0, "{crop}");
    assert!((number(&crop["centre"][1]) - 160.0).abs() < 15.0, "{crop}");
    assert!((number(&crop["side"]) - 160.0).abs() < 40.0, "{crop}");
    assert_eq!(largest["place"]["photograph"], serde_json::json!([400, 300]));
    let eyes = [&largest["place"]["landmarks"]["right-eye"], &largest["place"]["landmarks"]["left-eye"]];
    assert!(number(&eyes[0][0]) < number(&eyes[1][0]));
    assert!(!Path::new(&out).join("two.face-2.json").exists());
    succeed(&[&all[..], &["--faces=all"]].concat());
    let second = json(&format!("{out}/two.face-2.json"));
    assert!((number(&second["place"]["crop"]["centre"][0]) - 65.0).abs() < 10.0, "{second}");
    // Taken as it is, it has no place.
    succeed(&[&all[..], &["--framed"]].concat());
    assert!(json(&format!("{out}/two.json"))["place"].is_null());

    let none = place.write("none.png", &encode(photograph(300, 200, &[]), ImageFormat::Png));
    let cut_off = photograph(300, 200, &[[60, 40, 120]]);
    let cut_off = image::imageops::crop_imm(&cut_off, 105, 0, 195, 200).to_image();
    let cut_off = place.write("cut-off.png", &encode(cut_off, ImageFormat::Png));
    for (picture, reason) in [(none, "none.png: no face found"), (cut_off, "lie outside the photograph")] {
        let ended = fail(&["reconstruct", &picture, "-m", &model, "-o", &out]);
        assert!(ended.err.contains(reason) && ended.err.contains("--framed"), "{}", ended.err);
    }
}

#[test]
fn models_of_other_objects_take_pictures_as_they_are() {
    let place = Place::new();
    let (run, out) = (place.at("run"), place.at("out"));
    succeed(&[&TINY[..], &[&run, "--preset=cat"]].concat());
    assert!(
        succeed(&["info", &run])
            .out
            .lines()
            .any(|line| line.starts_with("preset ") && line.ends_with(" cat"))
    );
    // A person's face beside the middle: whoever looks for faces would find it.
    let picture = photograph(400, 200, &[[20, 20, 140]]);
    let picture = place.write("picture.png", &encode(picture, ImageFormat::Png));
    let checkpoint = format!("{run}/checkpoints/step-0000002.safetensors");
    for model in [&run, &checkpoint] {
        let ended = succeed(&["reconstruct", &picture, "-m", model, "-o", &out]);
        assert!(
            ended.err.contains("is a model of cats: the pictures are taken as they are"),
            "{}",
            ended.err
        );
        assert!(json(&format!("{out}/picture.json"))["place"].is_null());
    }
    // Whoever says so already need not be told.
    let ended = succeed(&["reconstruct", &picture, "-m", &run, "--framed", "-o", &out]);
    assert!(!ended.err.contains("taken as they are"), "{}", ended.err);
    for which in ["--faces=all", "--faces=largest"] {
        let ended = fail(&["reconstruct", &picture, "-m", &run, which, "-o", &place.at("none")]);
        assert!(
            ended.err.contains("a model of cats") && ended.err.contains("leave out --faces"),
            "{}",
            ended.err
        );
    }
    assert!(!Path::new(&place.at("none")).exists());
    let ended = fail(&["demo", "-m", &run, "-o", &place.at("none")]);
    assert!(ended.err.contains("the demo shows human faces"), "{}", ended.err);

    // Runs of faces, and weights that say nothing.
    let faces = place.at("faces");
    succeed(&[&TINY[..], &[&faces, "--preset=synthetic-face"]].concat());
    for model in [&faces, &place.model()] {
        succeed(&["reconstruct", &picture, "-m", model, "-o", &out]);
        assert!(json(&format!("{out}/picture.json"))["place"].is_object());
    }
}

/// The weights for cats say what they are of.
#[test]
#[cfg(feature = "weights")]
fn cats_need_no_framed() {
    let place = Place::new();
    let picture = place.write("cat.png", &encode(photo(120, 90), ImageFormat::Png));
    let ended = succeed(&["reconstruct", &picture, "-m", "cats", "-o", &place.at("out")]);
    assert!(ended.err.contains("cats (in the program) is a model of cats"), "{}", ended.err);
    assert!(Path::new(&place.at("out/cat.glb")).exists());
}

#[test]
fn crops_are_the_same_however_often_the_work_is_interrupted() {
    let place = Place::new();
    for number in 0..12 {
        let side = 60 + 9 * number;
        let photograph = photograph(260, 220, &[[10 + number, 20, side]]);
        place.write(&format!("in/{number:02}.png"), &encode(photograph, ImageFormat::Png));
    }
    let two = photograph(400, 300, &[[20, 60, 90], [200, 80, 160]]);
    place.write("in/two.jpg", &encode(two, ImageFormat::Jpeg));
    place.write("in/small.png", &encode(photograph(90, 80, &[[20, 20, 36]]), ImageFormat::Png));
    place.write("in/none.png", &encode(photograph(200, 200, &[]), ImageFormat::Png));
    place.write("in/broken.jpg", b"\xff\xd8\xff\xe0 and no more");
    let whole = place.at("whole");
    let crop = |out: &str, more: &[&str]| {
        relievo(&[&["crop", &place.at("in"), "-o", out, "--faces=all"], more].concat())
    };
    let ended = crop(&whole, &["--threads=3"]);
    // The broken one is named, and all else done.
    assert!(ended.code == 1 && ended.err.contains("broken.jpg"), "{}", ended.err);
    let report = json(&format!("{whole}/report.json"));
    let summary = &report["summary"];
    assert_eq!(
        (&summary["inputs"], &summary["unreadable"], &summary["without-face"]),
        (&16.into(), &1.into(), &1.into())
    );
    assert_eq!((&summary["crops"], &summary["dropped-too-small"]), (&14.into(), &1.into()), "{}", ended.out);
    assert!(ended.out.lines().all(|line| line.chars().count() <= 80), "{}", ended.out);
    assert_eq!(files(&whole), ["crop.json", "faces-00000.tar", "histograms.png", "report.json", "sheet.png"]);

    let parts = place.at("in/parts");
    for milliseconds in [60, 90, 130, 180] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relievo"))
            .args(["crop", &place.at("in"), "-o", &parts, "--faces=all", "--threads=1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
    }
    // Done by now, or finished here.
    crop(&parts, &[]);
    for file in files(&whole) {
        assert!(
            fs::read(format!("{whole}/{file}")).unwrap() == fs::read(format!("{parts}/{file}")).unwrap(),
            "{file}"
        );
    }
    let again = crop(&parts, &[]);
    assert!(again.code == 0 && again.out.contains("finished already"), "{}", again.out);
    let other = fail(&["crop", &place.at("in"), "-o", &parts, "--size=64"]);
    assert!(other.err.contains("made otherwise"), "{}", other.err);
    // What it is for.
    let run = place.at("run");
    succeed(&[&["train", &whole], &TINY[3..], &[&run]].concat());
}

#[test]
fn bad_pictures_are_named_and_the_good_ones_done() {
    let place = Place::new();
    let jpeg = encode(photo(80, 80), ImageFormat::Jpeg);
    place.write("in/good.jpg", &jpeg);
    place.write("in/cut.jpg", &jpeg[..jpeg.len() / 2]);
    place.write("in/words.png", b"not a picture");
    place.write("in/empty.png", b"");
    fs::create_dir(place.at("nothing")).unwrap();
    let (model, out) = (place.model(), place.at("out"));
    let missing = place.at("missing");
    let ended = fail(&[
        "reconstruct",
        &place.at("in"),
        &place.at("nothing"),
        &missing,
        "-o",
        &out,
        "-m",
        &model,
        "--framed",
    ]);
    for name in ["cut.jpg", "words.png", "empty.png", "nothing", "missing"] {
        let named = ended.err.lines().filter(|line| line.starts_with("warning: ") && line.contains(name));
        assert_eq!(named.count(), 1, "{name}: {}", ended.err);
    }
    assert!(ended.err.contains("5 of the inputs could not be used"), "{}", ended.err);
    assert!(ended.err.contains("1 picture reconstructed"), "{}", ended.err);
    assert_eq!(files(&out).len(), 10);
    let same = fail(&["reconstruct", &place.at("in"), "-o", &place.at("in"), "-m", &model]);
    assert!(same.err.contains("is the folder of the pictures"), "{}", same.err);
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let place = Place::new();
    let picture = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    let reconstruct = |model: &str| fail(&["reconstruct", &picture, "-o", &place.at("out"), "-m", model]).err;
    let good = tiny_model().to_safetensors().unwrap();
    assert!(reconstruct(&place.at("none.safetensors")).contains("none.safetensors"));
    let cut = reconstruct(&place.write("cut.safetensors", &good[..good.len() / 3]));
    assert!(cut.contains("cut.safetensors: not a readable weights file"), "{cut}");
    // A byte of the settings changed: the shapes no longer fit.
    let at = good.windows(14).position(|bytes| bytes == br#""width\":8,\"c"#.as_slice());
    let at = at.expect("the settings stand in the header as JSON");
    let mut wider = good.clone();
    wider[at + 9] = b'4';
    let shape = reconstruct(&place.write("shape.safetensors", &wider));
    assert!(shape.contains("shape.safetensors: parameter depth.0.weight: has the shape"), "{shape}");
    assert!(!Path::new(&place.at("out")).exists());
}

/// Refinement as docs/experiments.md tells of it, on fewer heads.
#[test]
#[cfg(feature = "weights")]
fn refined_pictures_are_nearer_to_the_picture_and_shapes_no_worse() {
    let place = Place::new();
    let measure = |steps: &str| {
        let file = place.at(&format!("{steps}.json"));
        let arguments =
            ["eval", "-m", "faces-synthetic", "--count", "64", "--refine", steps, "--json", &file];
        let ended = succeed(&arguments);
        assert!(ended.out.contains("reconstruction: mean error"), "{}", ended.out);
        let found = json(&file);
        let mean = |error: &str| found["in-sight"]["model"][error]["mean"].as_f64().unwrap();
        (found["reconstruction"].as_f64().unwrap(), mean("depth-error"), mean("normal-error"))
    };
    let (networks, refined) = (measure("0"), measure("20"));
    assert!(refined.0 < 0.6 * networks.0, "{networks:?} {refined:?}");
    assert!(refined.1 < networks.1 && refined.2 < networks.2, "{networks:?} {refined:?}");

    let (heads, out) = (place.at("heads"), place.at("out"));
    let pictures = format!("{heads}/pictures");
    succeed(&["synth", "--count", "1", "-o", &heads]);
    succeed(&["reconstruct", &pictures, "--framed", "--refine", "3", "-o", &out]);
    let records = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let records: Vec<_> = records.filter(|path| path.extension() == Some("json".as_ref())).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(json(records[0].to_str().unwrap())["refined"], 3);
}

/// The weights in the program do what MODEL_CARD.md says of them, on fewer heads.
#[test]
#[cfg(feature = "weights")]
fn the_demo_shows_what_the_weights_in_the_program_can_do() {
    let place = Place::new();
    let out = place.at("demo");
    let ended = succeed(&["demo", "-o", &out]);
    assert!(ended.out.contains("100 % of the depths the right way round"), "{}", ended.out);
    let told = ended.out.lines().chain(ended.err.lines()).filter(|line| !line.contains(&out));
    assert!(told.into_iter().all(|line| line.chars().count() <= 80), "{}{}", ended.out, ended.err);
    let errors = json(&format!("{out}/errors.json"));
    let mean = |of: &str, error: &str| errors["in-sight"][of][error]["mean"].as_f64().unwrap();
    assert!(mean("model", "depth-error") < 0.0115, "{errors}");
    assert!(mean("model", "depth-error") < 0.7 * mean("mean-depth", "depth-error"), "{errors}");
    assert!(mean("model", "normal-error") < 17.0, "{errors}");
    for file in ["demo.png", "scene.png", "scene.panel.png", "scene.face-4.glb", "sample-8.depth.png"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    assert!(ended.err.contains("6 faces in 3 pictures"), "{}", ended.err);
    let side = |name: &str| json(&format!("{out}/{name}.json"))["place"]["crop"]["side"].as_f64().unwrap();
    // Where crates/relievo-synth/examples/paint_scene.rs put the heads, the largest first.
    for (name, wanted) in
        [("scene", 330.0), ("scene.face-2", 190.0), ("scene.face-3", 105.0), ("scene.face-4", 64.0)]
    {
        assert!((0.75..1.3).contains(&(side(name) / wanted)), "{name}: {}", side(name));
    }
    // The other sample pictures show one face each, and it fills them.
    assert!((200.0..320.0).contains(&side("sample-7")), "{}", side("sample-7"));
    assert!(succeed(&["info"]).out.contains("faces (in the program)"));
    assert!(succeed(&["info", "faces-synthetic"]).out.contains("faces-synthetic (in the program)"));
    assert!(succeed(&["info", "cats"]).out.contains("cats (in the program)"));
    let stranger = fail(&["info", "cars"]).err;
    assert!(
        stranger.contains("cars") && stranger.contains("one of faces, faces-synthetic, cats"),
        "{stranger}"
    );
}

#[test]
fn heads_are_the_same_however_they_are_made() {
    let place = Place::new();
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
    let picture = |folder: &str| fs::read(format!("{folder}/pictures/000000.png")).unwrap();
    assert!(picture(&all) != picture(&other), "another seed has other heads");
}

#[test]
fn an_evaluation_says_the_same_in_words_and_numbers() {
    let place = Place::new();
    let (model, file) = (place.model(), place.at("errors.json"));
    let ended = succeed(&["eval", "-m", &model, "--count=20", "--json", &file, "--threads=1"]);
    let numbers = json(&file);
    assert_eq!(numbers["pictures"], 20);
    for place in ["in-sight", "whole"] {
        for who in ["model", "constant-depth", "mean-depth"] {
            let scores = &numbers[place][who];
            let side = 100.0 * scores["depth-error"]["mean"].as_f64().unwrap();
            let mad = scores["normal-error"]["mean"].as_f64().unwrap();
            assert!(side > 0.1 && mad > 1.0, "{place} {who}: {side} {mad}");
            assert!(ended.out.contains(&format!(" {side:.2} ±")), "{side:.2} is not in {}", ended.out);
            assert!(ended.out.contains(&format!(" {mad:.1} ±")), "{mad:.1} is not in {}", ended.out);
        }
    }
    for turn in ["pitch", "yaw", "roll"] {
        let error = numbers["viewpoint"][turn]["error"].as_f64().unwrap();
        let line = ended.out.lines().find(|line| line.trim_start().starts_with(turn)).unwrap();
        assert!(line.contains(&format!(" {error:.1} ")), "{error:.1} is not in {line}");
    }
    assert!(ended.out.lines().all(|line| line.chars().count() <= 80), "{}", ended.out);
    let again = succeed(&["eval", "-m", &model, "--count=20", "--threads=2"]);
    assert_eq!(again.out, ended.out, "results depend on the number of threads");

    // Pictures whose depth nobody knows have losses and no errors.
    place.write("in/a.png", &encode(photo(64, 64), ImageFormat::Png));
    let losses = succeed(&["eval", &place.at("in"), "-m", &model]).out;
    assert!(losses.starts_with("1 picture: ") && losses.contains("photometric"), "{losses}");
    assert!(!losses.contains("SIDE"), "{losses}");
}

#[test]
fn a_model_is_measured_on_what_its_run_held_out() {
    let place = Place::new();
    let run = place.at("run");
    for index in 0..8 {
        place.write(&format!("in/{index}.png"), &encode(photo(64, 64 + index), ImageFormat::Png));
    }
    let sources = [place.at("in"), "synthetic".to_owned()];
    let others = ["train", "synthetic", "--validation=0", "--synthetic-count=40", "--steps=2", "-o"];
    let options: Vec<&str> = TINY.into_iter().filter(|option| !others.contains(option)).collect();
    let changed = ["--validation=9", "--synthetic-count=20", "--steps=1", "-o", &run];
    succeed(&[&["train", &sources[0], &sources[1]], &options[..], &changed].concat());
    let named = succeed(&["eval", "-m", &run, "--held-out", &sources[0], &sources[1]]);
    assert!(named.out.starts_with("9 pictures: 9 of 28 pictures ("), "{}", named.out);
    assert!(
        named.out.contains("mean depth of heads") && named.out.contains("reconstruction"),
        "{}",
        named.out
    );
    assert_eq!(succeed(&["eval", "-m", &run, "--held-out"]).out, named.out, "not the sources of the run");
    let others = fail(&["eval", "-m", &run, "--held-out", &sources[0]]);
    assert!(
        others.err.contains("these are not the pictures of the run: it learned from 19"),
        "{}",
        others.err
    );
    let bare = fail(&["eval", "-m", &place.model(), "--held-out"]);
    assert!(bare.err.contains("does not say in which run it was trained"), "{}", bare.err);
}

#[test]
fn a_run_is_trained_gone_on_with_and_looked_at() {
    let place = Place::new();
    let run = place.at("run");
    succeed(&[&TINY[..], &[&run]].concat());
    let again = fail(&[&TINY[..], &[&run]].concat());
    assert!(again.err.contains("--resume"), "{}", again.err);
    succeed(&["train", "--resume", &run, "--steps=3", "--quiet"]);
    assert!(Path::new(&run).join("checkpoints/step-0000003.safetensors").exists());
    for file in [run.clone(), format!("{run}/checkpoints/step-0000003.safetensors")] {
        let page = succeed(&["info", &file]).out;
        assert!(page.contains("width               8\n"), "{page}");
        assert!(page.contains("trained             3 steps on 40 pictures"), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
    let picture = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    succeed(&["reconstruct", &picture, "--framed", "-m", &run, "-o", &place.at("out")]);
}

#[test]
fn photographs_and_heads_are_learned_from_together_moved_and_turned() {
    let place = Place::new();
    for number in 0..6 {
        place.write(&format!("in/{number}.png"), &encode(photo(70 + number, 64), ImageFormat::Png));
    }
    let (pictures, run) = (place.at("in"), place.at("run"));
    let settings =
        ["--jitter=0.1", "--roll=20", "--average-decay=0.9", "--synthetic-count=6", "--validation=3"];
    let sources = ["train", &pictures, "synthetic", "-o", &run];
    let ended = succeed(&[&sources[..], &TINY[3..8], &settings[..], &["--steps=2"]].concat());
    assert!(ended.err.contains("learning from 9 of 12 pictures (6 pictures in "), "{}", ended.err);
    assert!(ended.err.contains(", synthetic heads 0 to 5 of seed 0); 3 held out"), "{}", ended.err);
    let info = succeed(&["info", &run]).out;
    assert!(info.contains("trained             2 steps on 9 pictures"), "{info}");
}

#[test]
fn a_table_is_measured_row_by_row_and_not_twice() {
    let place = Place::new();
    let out = place.at("tables");
    let tiny = [
        "--synthetic-count=10",
        "--validation=2",
        "--test-heads=3",
        "--batch-size=4",
        "--width=8",
        "--code=16",
        "--encoder-width=8",
        "--perceptual-weight=0",
        "--preview-pictures=0",
        "--workers=1",
        "--steps=2",
        "-o",
        &out,
    ];
    let with = |arguments: &[&'static str]| [&["reproduce"], arguments, &tiny[..]].concat();
    // One row first, then the table, which has that row already.
    let alone = succeed(&with(&["comparison", "--row=supervised", "--seeds=0"]));
    assert!(alone.out.contains("supervised") && !alone.out.contains("\nours"), "{}", alone.out);
    let whole = succeed(&with(&["comparison", "--seeds=0,1"]));
    assert!(whole.err.contains("of 6: supervised, seed 0 (done before)"), "{}", whole.err);
    let again = succeed(&with(&["comparison", "--seeds=0,1"]));
    assert_eq!(again.err.matches("(done before)").count(), 6, "{}", again.err);
    assert_eq!(again.out, whole.out);
    assert!(whole.out.lines().all(|line| line.chars().count() <= 80), "{}", whole.out);

    let results = json(&format!("{out}/results.json"));
    let results = results["results"].as_array().unwrap();
    assert_eq!(results.len(), 6);
    let of_constant = results.iter().find(|of| of["row"] == "constant-depth").unwrap();
    let side = 100.0 * of_constant["in-sight"]["depth-error"]["mean"].as_f64().unwrap();
    let mad = of_constant["in-sight"]["normal-error"]["mean"].as_f64().unwrap();
    let written = fs::read_to_string(format!("{out}/results.md")).unwrap();
    for text in [&whole.out, &written] {
        assert!(text.contains(&format!("{side:.3}")) && text.contains(&format!("{mad:.2}")), "{text}");
        assert!(text.contains("0.410/10.78"), "{text}");
    }
    // Each row and seed is an ordinary run.
    let run = format!("{out}/ours/seed-1");
    assert!(succeed(&["info", &run]).out.contains("trained             2 steps on 8 pictures"));
    succeed(&["eval", "--count=2", "-m", &format!("{out}/supervised/seed-0")]);

    let stranger = fail(&with(&["ablation", "--row=supervised"]));
    assert!(
        stranger.err.contains("the table ablation has no row supervised; it has ours"),
        "{}",
        stranger.err
    );
    let other = fail(&with(&["comparison", "--seeds=0", "--learning-rate=0.5"]));
    assert!(other.err.contains("begun with the learning-rate 0.0001 and now it is 0.5"), "{}", other.err);
}

#[test]
fn quiet_is_quiet_and_a_closed_pipe_is_no_error() {
    let place = Place::new();
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
    for (key, pictures, name) in [
        ("forward-1", 1, "1 picture: depth, albedo, light, view"),
        ("step-16", 16, "16 pictures: 5 networks, step"),
        ("training-16", 16, "16 pictures: full training step"),
        ("predict-32", 32, "32 pictures: reconstruction"),
        ("synth-64", 64, "64 synthetic heads of 64x64"),
        ("faces-1280x800", 1, "1 picture of 1280x800: its faces"),
        ("faces-4000x3000", 1, "1 picture of 4000x3000: its faces"),
    ] {
        let row = &numbers[key];
        assert_eq!((&row["pictures"], &row["repetitions"]), (&pictures.into(), &1.into()), "{key}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0, "{key}");
        let words = table.lines().find_map(|line| line.strip_prefix(name));
        let words: Vec<&str> =
            words.unwrap_or_else(|| panic!("{name}: {table}")).split_whitespace().collect();
        let [median, "ms", quartiles, rate] = words[..] else { panic!("{words:?}") };
        // One repetition is the median and both quartiles.
        assert_eq!(quartiles, format!("{median}-{median}"));
        let (median, rate): (f64, f64) = (median.parse().unwrap(), rate.parse().unwrap());
        assert!((median * rate / 1e3 / f64::from(pictures) - 1.0).abs() < 0.1, "{words:?}");
    }
    for key in ["feed-rendered-64", "feed-cached-64"] {
        assert_eq!(numbers[key]["pictures"], 64, "{key}");
    }
    assert!(numbers["pool-peak-bytes"].as_u64().unwrap() > 100 << 20);
    assert!(table.contains("most memory: tensors "), "{table}");
    // The narrow networks of the program's weights, which have no confidence.
    let numbers = succeed(&["bench", "--seconds=0", "--json", "--quiet", "-m", "faces"]).out;
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert!(numbers["parameters"].as_u64().unwrap() < 3_000_000, "{numbers}");
}

/// A file system of a given size in a folder. Only root may mount one; others skip the test.
#[cfg(target_os = "linux")]
struct SmallDisk(PathBuf);

#[cfg(target_os = "linux")]
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
        eprintln!("skipped: no small file system can be mounted here; run as root to test full disks");
        None
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_leaves_no_half_file() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(Path::new(&place.at("disk")), 64) else { return };
    let out = place.at("disk/heads");
    let ended = fail(&["synth", "-o", &out, "--count=20"]);
    assert!(ended.err.contains("the disk is full"), "{}", ended.err);
    for file in files(&out) {
        assert!(!file.contains("partial"), "{file}");
        image::open(Path::new(&out).join(&file)).unwrap();
    }
    let picture = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    let ended =
        fail(&["reconstruct", &picture, "--framed", "-m", &place.model(), "-o", &place.at("disk/results")]);
    assert!(ended.err.contains("the disk is full"), "{}", ended.err);
    drop(disk);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_while_training_loses_nothing() {
    let place = Place::new();
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
