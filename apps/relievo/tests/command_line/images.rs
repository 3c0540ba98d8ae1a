//! What is made of images: reconstructions, meshes, faces found in photographs, crops.

use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;

use super::*;

#[test]
fn images_of_every_kind_are_reconstructed() {
    let place = TestFolder::new();
    let deep = ImageBuffer::from_fn(90, 70, |u, v| Luma([(u * v * 9) as u16]));
    place.write("in/photo.jpg", &encode(photo(120, 90), ImageFormat::Jpeg));
    place.write("in/photo.png", &encode(photo(90, 120), ImageFormat::Png));
    place.write("in/below/grey.png", &encode(GrayImage::new(70, 70), ImageFormat::Png));
    place.write("in/below/deep.png", &encode(DynamicImage::from(deep), ImageFormat::Png));
    place.write("in/below/one.png", &encode(photo(1, 1), ImageFormat::Png));
    let alpha = RgbaImage::from_fn(64, 64, |u, v| Rgba([9, 200, 30, (u + v) as u8]));
    let single = place.write("alpha.webp", &encode(alpha, ImageFormat::WebP));
    let (model, out) = (place.model(), place.at("in/results"));
    // The output folder lies inside the images' folder, and the second run must not take results for images.
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
            "--format=all",
            "--batch-size=2",
            "--threads",
            threads,
        ]);
        assert!(ended.err.contains("6 images reconstructed in"), "{}", ended.err);
        let stems = ["alpha", "below/deep", "below/grey", "below/one", "photo", "photo-2"];
        let endings = [
            "albedo.png",
            "canonical-depth.png",
            "depth.png",
            "glb",
            "html",
            "json",
            "mtl",
            "normals.png",
            "obj",
            "panel.png",
            "ply",
            "relief.png",
            "relief.stl",
            "stl",
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
    assert_eq!((&record["image"], &record["size"]), (&"photo.jpg".into(), &64.into()));
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
fn faces_are_turned_and_relit_as_animations() {
    let place = TestFolder::new();
    let (model, image) = (place.model(), place.write("a.b.png", &encode(photo(80, 80), ImageFormat::Png)));
    let run = |command: &str, more: &[&str]| {
        let out = place.at(&more.join(""));
        let line =
            [command, &image, "--framed", "-m", &model, "--frames=6", "--size=48", "--refine=0", "-o", &out];
        let ended = succeed(&[&line[..], more].concat());
        (out, ended.out)
    };
    let (out, said) = run("turn", &["--format=gif,webp,apng,frames", "--seconds=0.6"]);
    let frames = (0..6).map(|number| format!("a.b.turn-{number}.png"));
    let mut expected: Vec<_> = ["apng", "gif", "webp"].map(|ending| format!("a.b.turn.{ending}")).into();
    expected.splice(0..0, frames);
    assert_eq!(files(&out), expected);
    assert_eq!(said.trim_end(), format!("open {out}/a.b.turn.gif"));
    let gif = GifDecoder::new(Cursor::new(fs::read(format!("{out}/a.b.turn.gif")).unwrap())).unwrap();
    let gif = gif.into_frames().collect_frames().unwrap();
    assert_eq!((gif.len(), gif[0].delay().numer_denom_ms()), (6, (100, 1)));
    let frame = |out: &str, name: &str| image::open(format!("{out}/{name}")).unwrap().into_rgb8();
    let [first, second, fourth] = [0, 1, 3].map(|number| frame(&out, &format!("a.b.turn-{number}.png")));
    assert!(first.dimensions() == (48, 48) && first != second);
    // Half a turn on it passes the front again.
    assert!(first.pixels().zip(fourth.pixels()).all(|(a, b)| (0..3).all(|i| a.0[i].abs_diff(b.0[i]) < 3)));

    let (out, said) = run("relight", &["--format=webp"]);
    assert_eq!(
        (files(&out), said.trim_end()),
        (vec!["a.b.relit.webp".to_owned()], &*format!("open {out}/a.b.relit.webp"))
    );
    // A head, by weights that know heads.
    let shades = ["--light-azimuth=60", "--light-azimuth=-60"].map(|azimuth| {
        let head = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/000007.png");
        let out = place.at(azimuth);
        let line = ["relight", head, "--framed", "-m", "faces-synthetic", "--size=48", "-o", &out];
        succeed(&[&line[..], &[azimuth, "--light-elevation=5"]].concat());
        let still = frame(&out, "000007.relit.png");
        let half = |right: bool| -> u64 {
            let pixels = still.enumerate_pixels().filter(|(x, ..)| (*x >= 24) == right);
            pixels.map(|(.., pixel)| u64::from(pixel.0[1])).sum()
        };
        half(true) as f64 / half(false) as f64
    });
    assert!(shades[0] > 1.02 * shades[1], "{shades:?}");
    // A panorama that is bright above the horizon, in red.
    let sky = RgbImage::from_fn(64, 32, |_, y| if y < 16 { Rgb([255, 120, 120]) } else { Rgb([0; 3]) });
    let sky = place.write("sky.png", &encode(sky, ImageFormat::Png));
    let (out, _) = run("relight", &["--environment", &sky, "--environment-angle=30"]);
    assert_eq!(files(&out), ["a.b.relit.png"]);
    let square =
        ["relight", &image, "--framed", "-m", &model, "--environment", &image, "--environment-angle=0", "-o"];
    let ended = succeed(&[&square[..], &[&place.at("square")]].concat());
    assert!(ended.err.contains("80x80 pixels, and a panorama is twice as wide as high"), "{}", ended.err);
    let none = relievo(&["relight", &image, "--environment", &place.at("none.hdr"), "-o", &place.at("x")]);
    assert!(
        none.code == 1 && none.err.contains("cannot read") && none.err.contains("none.hdr"),
        "{}",
        none.err
    );
    let none = relievo(&["turn", &image, "--seconds=0", "-o", &place.at("x")]);
    assert!(none.code == 1 && none.err.contains("0.02 to 3600 seconds"), "{}", none.err);
}

#[test]
fn a_mesh_shows_the_albedo_with_or_without_light_or_the_image_itself() {
    let place = TestFolder::new();
    let (model, image) = (place.model(), place.write("a.png", &encode(photo(80, 80), ImageFormat::Png)));
    let textures = ["albedo", "shaded", "photograph"].map(|texture| {
        let out = place.at(texture);
        succeed(&[
            "reconstruct",
            &image,
            "-o",
            &out,
            "-m",
            &model,
            "--framed",
            "--sheet",
            "--format=all",
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
pub(super) fn photograph(width: u32, height: u32, heads: &[[u32; 3]]) -> RgbImage {
    let mut photograph = photo(width, height);
    for pixel in photograph.pixels_mut() {
        // Calmer than `photo`, whose pattern repeats.
        *pixel = Rgb(pixel.0.map(|value| 90 + value / 8));
    }
    for (number, &[left, top, side]) in heads.iter().enumerate() {
        let head = Heads::range(11, 0, 100).sample(number as u64, side).unwrap().image;
        let head = RgbImage::from_raw(side, side, head.pixels).unwrap();
        image::imageops::replace(&mut photograph, &head, left.into(), top.into());
    }
    photograph
}

#[test]
fn faces_are_found_in_photographs_and_their_place_is_told() {
    let place = TestFolder::new();
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
    for (image, reason) in [(none, "none.png: no face found"), (cut_off, "lie outside the photograph")] {
        let ended = fail(&["reconstruct", &image, "-m", &model, "-o", &out]);
        assert!(ended.err.contains(reason), "{}", ended.err);
        // A face that the border cuts is not mended by taking the image as it is.
        assert_eq!(ended.err.contains("--framed"), reason.ends_with("no face found"), "{}", ended.err);
    }
}

#[test]
fn without_a_folder_results_lie_beside_the_image_and_the_last_line_says_what_to_open() {
    let place = TestFolder::new();
    let model = place.model();
    let jpeg = encode(photo(80, 80), ImageFormat::Jpeg);
    let image = place.write("in/photo.jpg", &jpeg);
    let reconstruct = |images: &[&str], more: &[&str]| {
        relievo(&[&["reconstruct", "--framed", "-m", &model][..], images, more].concat())
    };
    let folder = place.at("in/photo.relievo");
    for _ in 0..2 {
        let ended = reconstruct(&[&image], &[]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert_eq!(ended.out.lines().last().unwrap(), format!("open {folder}/photo.html"));
        let expected = [".relievo-results", "photo.glb", "photo.html", "photo.json", "photo.panel.png"];
        assert_eq!(files(&folder), expected, "the second run takes the place of the first");
    }
    // Another image of that name, and a folder.
    let other = place.write("in/photo.png", &encode(photo(80, 80), ImageFormat::Png));
    assert_eq!(reconstruct(&[&other], &["--format=glb"]).code, 0);
    assert_eq!(files(&place.at("in/photo-2.relievo")), [".relievo-results", "photo.glb"]);
    fs::create_dir_all(place.at("set")).unwrap();
    place.write("set/a.jpg", &jpeg);
    let ended = reconstruct(&[&place.at("set")], &["--sheet", "--format=json"]);
    let of_set = place.at("set.relievo");
    assert_eq!(ended.out.lines().last().unwrap(), format!("open {of_set}/sheet.png"), "{}", ended.err);
    // A run that fails leaves nothing.
    let broken = place.write("in/broken.jpg", b"no image");
    for more in [&[][..], &["-o", &place.at("new")]] {
        let ended = reconstruct(&[&broken], more);
        assert!(ended.code == 1 && ended.err.contains("nothing was written"), "{}", ended.err);
        assert!(!ended.err.contains("0/0"), "{}", ended.err);
    }
    assert!(!Path::new(&place.at("in/broken.relievo")).exists() && !Path::new(&place.at("new")).exists());
}

#[test]
fn results_of_an_earlier_run_for_faces_that_are_gone_are_removed() {
    let place = TestFolder::new();
    let (model, out) = (place.model(), place.at("out"));
    let two = photograph(400, 300, &[[20, 60, 90], [200, 80, 160]]);
    let image = place.write("two.png", &encode(two, ImageFormat::Png));
    let all = ["reconstruct", &image, "-m", &model, "-o", &out, "--format=glb,json"];
    succeed(&[&all[..], &["--faces=all"]].concat());
    assert_eq!(files(&out), ["two.face-2.glb", "two.face-2.json", "two.glb", "two.json"]);
    succeed(&all);
    assert_eq!(files(&out), ["two.glb", "two.json"]);
}

#[test]
fn models_of_other_objects_take_images_as_they_are() {
    let place = TestFolder::new();
    let (run, out) = (place.at("run"), place.at("out"));
    succeed(&[&TINY[..], &[&run, "--preset=cat"]].concat());
    assert!(
        succeed(&["info", &run])
            .out
            .lines()
            .any(|line| line.starts_with("preset ") && line.ends_with(" cat"))
    );
    // A person's face beside the middle: whoever looks for faces would find it.
    let image = photograph(400, 200, &[[20, 20, 140]]);
    let image = place.write("image.png", &encode(image, ImageFormat::Png));
    let checkpoint = format!("{run}/checkpoints/step-0000002.safetensors");
    for model in [&run, &checkpoint] {
        let ended = succeed(&["reconstruct", &image, "-m", model, "-o", &out]);
        assert!(ended.err.contains("is a model of cats: the images are taken as they are"), "{}", ended.err);
        assert!(json(&format!("{out}/image.json"))["place"].is_null());
    }
    // Whoever says so already need not be told.
    let ended = succeed(&["reconstruct", &image, "-m", &run, "--framed", "-o", &out]);
    assert!(!ended.err.contains("taken as they are"), "{}", ended.err);
    for which in ["--faces=all", "--faces=largest"] {
        let ended = fail(&["reconstruct", &image, "-m", &run, which, "-o", &place.at("none")]);
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
        succeed(&["reconstruct", &image, "-m", model, "-o", &out]);
        assert!(json(&format!("{out}/image.json"))["place"].is_object());
    }
}

/// The weights for cats say what they are of.
#[test]
#[cfg(feature = "weights")]
fn cats_need_no_framed() {
    let place = TestFolder::new();
    let image = place.write("cat.png", &encode(photo(120, 90), ImageFormat::Png));
    let ended = succeed(&["reconstruct", &image, "-m", "cats", "-o", &place.at("out")]);
    assert!(ended.err.contains("cats (in the program) is a model of cats"), "{}", ended.err);
    assert!(Path::new(&place.at("out/cat.glb")).exists());
}

/// Fifteen photographs in `in/`, with 14 faces that are large enough, and a file that is broken.
fn write_photographs(place: &TestFolder) {
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
}

/// Kills `crop` when so many of its inputs are done.
fn interrupt_crop(inputs: &str, out: &str, enough: usize) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_relievo"))
        .args(["crop", inputs, "-o", out, "--faces=all", "--threads=1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let done = || {
        let files = fs::read_dir(format!("{out}/.unfinished/00000")).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "json")).count()
    };
    while done() < enough {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn crops_are_the_same_however_often_the_work_is_interrupted() {
    let place = TestFolder::new();
    write_photographs(&place);
    let [whole, parts] = [place.at("whole"), place.at("in/parts")];
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

    for enough in [1, 3, 8] {
        interrupt_crop(&place.at("in"), &parts, enough);
    }
    assert!(!Path::new(&parts).join("report.json").exists());
    crop(&parts, &[]);
    for file in files(&whole) {
        assert!(
            fs::read(format!("{whole}/{file}")).unwrap() == fs::read(format!("{parts}/{file}")).unwrap(),
            "{file}"
        );
    }
    let again = crop(&parts, &[]);
    // The same end as the first time.
    assert!(again.code == 1 && again.err.contains("finished already"), "{}", again.err);
    assert!(
        again.out == ended.out && again.err.contains("1 of the inputs could not be read"),
        "{}",
        again.err
    );
    let other = fail(&["crop", &place.at("in"), "-o", &parts, "--size=64"]);
    assert!(other.err.contains("made otherwise"), "{}", other.err);
}

#[test]
fn crops_are_learned_from() {
    let place = TestFolder::new();
    write_photographs(&place);
    let crops = place.at("crops");
    relievo(&["crop", &place.at("in"), "-o", &crops, "--faces=all"]);
    let run = place.at("run");
    succeed(&[&["train", &crops], &TINY[3..], &[&run]].concat());
    // The sheet and the histograms are no faces.
    let page = succeed(&["info", &run]).out;
    assert!(page.contains(" steps on 14 images, "), "{page}");
    // Nor does a folder of images stand before weights of its name.
    if cfg!(feature = "weights") {
        fs::create_dir(place.at("faces")).unwrap();
        place.write("faces/a.png", &encode(photo(64, 64), ImageFormat::Png));
        let narrow = ["--width=16", "--code=64", "--encoder-width=16", "--batch-size=2", "--steps=1"];
        let rest = ["--validation=0", "--perceptual-weight=0", "--preview-images=0", "--quiet"];
        let began = Command::new(env!("CARGO_BIN_EXE_relievo"))
            .args(["train", &crops, "--initial-weights=faces", "-o", "begun"])
            .args(narrow.iter().chain(&rest))
            .current_dir(place.at(""))
            .output()
            .unwrap();
        assert!(began.status.success(), "{}", String::from_utf8_lossy(&began.stderr));
    }
}

#[test]
fn a_folder_of_other_things_is_not_written_to() {
    let place = TestFolder::new();
    place.write("in/none.png", &encode(photograph(200, 200, &[]), ImageFormat::Png));
    place.write("full/notes.txt", b"mine");
    for command in [&["crop", &place.at("in")][..], &["synth", "--count=1"]] {
        let refused = fail(&[command, &["-o", &place.at("full")]].concat());
        assert!(refused.err.contains("is not empty (notes.txt is there)"), "{}", refused.err);
    }
}

#[test]
fn what_is_read_is_never_written_over() {
    let place = TestFolder::new();
    for name in ["a.png", "a.albedo.png", "sheet.png"] {
        place.write(&format!("in/{name}"), &encode(photo(64, 64), ImageFormat::Png));
    }
    let (model, inside) = (place.model(), place.at("in"));
    let read = |name: &str| fs::read(format!("{inside}/{name}")).unwrap();
    let albedo = read("a.albedo.png");
    let inputs = ["a.png", "a.albedo.png"].map(|name| format!("{inside}/{name}"));
    let refused = fail(&["reconstruct", &inputs[0], &inputs[1], "--framed", "-m", &model, "-o", &inside]);
    assert!(refused.err.contains("a.albedo.png is to be read"), "{}", refused.err);
    assert!(read("a.albedo.png") == albedo && files(&inside).len() == 3);
}

#[test]
fn bad_images_are_named_and_the_good_ones_done() {
    let place = TestFolder::new();
    let jpeg = encode(photo(80, 80), ImageFormat::Jpeg);
    place.write("in/good.jpg", &jpeg);
    place.write("in/cut.jpg", &jpeg[..jpeg.len() / 2]);
    place.write("in/words.png", b"not an image");
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
    assert!(ended.err.contains("1 image reconstructed"), "{}", ended.err);
    assert_eq!(files(&out), ["good.glb", "good.html", "good.json", "good.panel.png"]);
    let same = fail(&["reconstruct", &place.at("in"), "-o", &place.at("in"), "-m", &model]);
    assert!(same.err.contains("is the folder of the images"), "{}", same.err);
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let place = TestFolder::new();
    let image = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    let reconstruct = |model: &str| fail(&["reconstruct", &image, "-o", &place.at("out"), "-m", model]).err;
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

#[test]
fn several_photographs_of_one_object_make_one_mesh() {
    let place = TestFolder::new();
    let model = place.model();
    for (number, size) in [(0, 80), (1, 130)] {
        place.write(&format!("in/{number}.jpg"), &encode(photo(90 + number, size), ImageFormat::Jpeg));
    }
    let good = encode(photo(90, 80), ImageFormat::Jpeg);
    place.write("in/broken.jpg", &good[..good.len() / 3]);
    let together = ["reconstruct", "--together", "--framed", "--refine=2", "-m", &model];
    let ended = succeed(&[&together[..], &[&place.at("in")]].concat());
    assert!(ended.err.contains("one object from 2 images"), "{}", ended.err);
    assert!(ended.err.contains("broken.jpg: ") && ended.err.contains("1 left out"), "{}", ended.err);
    let record = fs::read_to_string(place.at("in.relievo/in.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["together"].as_array().unwrap().len(), 2);
    assert!(fs::exists(place.at("in.relievo/in.glb")).unwrap());
    // One that can be used, and none.
    let [one, broken] = ["in/0.jpg", "in/broken.jpg"].map(|name| place.at(name));
    let ended = succeed(&[&together[..], &[&one, &broken, "-o", &place.at("one")]].concat());
    assert!(ended.err.contains("only 0.jpg can be used"), "{}", ended.err);
    let ended = fail(&[&together[..], &[&broken, &broken, "-o", &place.at("none")]].concat());
    assert!(ended.err.contains("none of 2 images can be used"), "{}", ended.err);
}
