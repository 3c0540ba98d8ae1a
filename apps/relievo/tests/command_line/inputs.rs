//! What is read: inputs of users that were handled badly once.

use std::io::Write;

use relievo_pytorch::testing::{CheckpointWriter, Numbers};

use super::*;

/// A photograph with synthetic heads in it: left, top and side of each.
fn photograph(width: u32, height: u32, heads: &[[i64; 3]]) -> RgbImage {
    let mut photograph = photo(width, height);
    for pixel in photograph.pixels_mut() {
        *pixel = Rgb(pixel.0.map(|value| 90 + value / 8));
    }
    for (number, &[left, top, side]) in heads.iter().enumerate() {
        let head = Heads::range(11, 0, 100).sample(number as u64, side as u32).unwrap().image;
        let head = RgbImage::from_raw(side as u32, side as u32, head.pixels).unwrap();
        image::imageops::replace(&mut photograph, &head, left, top);
    }
    photograph
}

fn jpeg(width: u32, height: u32, heads: &[[i64; 3]]) -> Vec<u8> {
    encode(photograph(width, height, heads), ImageFormat::Jpeg)
}

#[test]
fn crop_tries_again_what_it_could_not_read_and_makes_lost_shards_again() {
    let place = TestFolder::new();
    for number in 0..3 {
        let photograph = jpeg(260, 220, &[[10 + number, 20, 100 + 9 * number]]);
        place.write(&format!("in/{number}.jpg"), &photograph);
    }
    let good = jpeg(300, 240, &[[40, 30, 150]]);
    place.write("in/1-late.jpg", &good[..good.len() / 2]);
    let (set, inputs) = (place.at("set"), place.at("in"));
    let crop = |out: &str| relievo(&["crop", &inputs, "-o", out]);
    let ended = crop(&set);
    assert!(ended.code == 1 && ended.err.contains("1-late.jpg: the JPEG file is cut short"), "{}", ended.err);
    place.write("in/1-late.jpg", &good);
    let ended = crop(&set);
    assert!(ended.code == 0 && ended.err.contains("finished already"), "{}", ended.err);
    // As if it had been good at once.
    let fresh = place.at("fresh");
    assert_eq!(crop(&fresh).code, 0);
    let assert_same = |what: &str| {
        assert_eq!(files(&set), files(&fresh), "{what}");
        for file in files(&fresh) {
            let read = |folder: &str| fs::read(format!("{folder}/{file}")).unwrap();
            assert!(read(&set) == read(&fresh), "{file} {what}");
        }
    };
    assert_same("after a second try");
    let shard = format!("{set}/faces-00000.tar");
    fs::remove_file(&shard).unwrap();
    let ended = crop(&set);
    assert!(ended.code == 0 && ended.err.contains("faces-00000.tar is gone or damaged"), "{}", ended.err);
    assert_same("after its shard was removed");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(crop(&set).code, 0);
    assert_same("after its shard was cut");
}

#[test]
fn results_of_one_run_are_not_photographs_of_the_next() {
    let place = TestFolder::new();
    for name in ["in/a.jpg", "in/b.jpg", "in/c.jpg", "in/d.jpg"] {
        place.write(name, &jpeg(260, 220, &[[30, 20, 150]]));
    }
    let (model, inputs) = (place.model(), place.at("in"));
    succeed(&["reconstruct", &inputs, "-m", &model, "-o", &place.at("in/results")]);
    let ended = succeed(&["crop", &inputs, "-o", &place.at("set")]);
    assert!(ended.err.contains("that relievo made"), "{}", ended.err);
    let report = json(&place.at("set/report.json"));
    assert_eq!(report["summary"]["inputs"], 4, "{report}");
    assert_eq!(report["left-out"][0]["reason"], "result", "{report}");
    // Beside the photographs themselves, in the folder of a run, and in the set.
    succeed(&["reconstruct", &place.at("in/a.jpg"), "-m", &model, "-o", &inputs]);
    let run = place.at("in/run");
    succeed(&[&["train", &inputs], &TINY[3..], &[&run]].concat());
    let page = succeed(&["info", &run]).out;
    assert!(page.contains(" steps on 4 images, "), "{page}");
}

#[test]
fn the_largest_face_that_is_whole_is_cropped() {
    let place = TestFolder::new();
    // The larger head is cut by the left border.
    place.write("in/two.jpg", &jpeg(420, 300, &[[-105, 40, 240], [220, 90, 150]]));
    place.write("in/IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    let ended = succeed(&["crop", &place.at("in"), "-o", &place.at("set")]);
    assert!(ended.err.contains("1 HEIC image, which is not read (IMG_1.HEIC): convert it"), "{}", ended.err);
    let report = json(&place.at("set/report.json"));
    let faces = report["inputs"][0]["faces"].as_array().unwrap();
    let kept: Vec<&Value> = faces.iter().filter(|face| face["file"].is_string()).collect();
    assert_eq!(kept.len(), 1, "{report}");
    assert!((kept[0]["crop"]["centre"][0].as_f64().unwrap() - 295.0).abs() < 20.0, "{report}");
    assert_eq!(report["left-out"][0]["count"], 1, "{report}");
}

#[test]
fn standard_input_is_an_image_or_an_archive() {
    let place = TestFolder::new();
    let model = place.model();
    let mut archive = tar::Builder::new(Vec::new());
    let png = encode(photo(64, 64), ImageFormat::Png);
    let mut header = tar::Header::new_gnu();
    header.set_size(png.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "a/b.png", png.as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    for (number, (bytes, stem)) in [(&png, "stdin"), (&archive, "stdin/a/b")].into_iter().enumerate() {
        let out = place.at(&format!("out-{number}"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_relievo"))
            .args(["reconstruct", "-", "--framed", "-m", &model, "-o", &out])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        assert!(Path::new(&format!("{out}/{stem}.json")).exists(), "{:?}", files(&out));
    }
}

#[test]
fn checkpoints_of_pytorch_are_imported() {
    let place = TestFolder::new();
    let mut checkpoint = CheckpointWriter::of_model(&tiny_model(), Numbers::F32);
    checkpoint.entry("epoch", |writer| writer.int(30));
    let file = place.write("checkpoint030.pth", &checkpoint.archive(false));
    let face = place.write("face.png", &encode(photo(64, 64), ImageFormat::Png));
    // As weights, it is named with what to do.
    let ended = fail(&["reconstruct", &face, "-m", &file]);
    assert!(
        ended.err.contains("a PyTorch checkpoint") && ended.err.contains("relievo import"),
        "{}",
        ended.err
    );
    let weights = place.at("weights.safetensors");
    let ended = succeed(&["import", &file, "-o", &weights]);
    assert_eq!(ended.out, format!("{weights}: the weights of unsup3d after 30 epochs\n"));
    assert!(ended.err.contains("preset face") && ended.err.contains("--preset"), "{}", ended.err);
    // The same results as with the model itself.
    let json_of = |model: &str, out: &str| {
        succeed(&[
            "reconstruct",
            &face,
            "--framed",
            "-m",
            model,
            "--format",
            "json,maps",
            "-o",
            &place.at(out),
        ]);
        fs::read(place.at(&format!("{out}/face.depth.png"))).unwrap()
    };
    assert!(json_of(&weights, "imported") == json_of(&place.model(), "own"));
    // Older files are streams of pickles.
    let old = place.write("old.pth", &checkpoint.stream());
    let cats = place.at("cats.safetensors");
    succeed(&["import", &old, "-o", &cats, "--preset", "cat", "--rotation-range", "50"]);
    let page = succeed(&["info", &cats]).out;
    for row in ["preset              cat", "z-translation-range 0.1", "rotation-range      50"] {
        assert!(page.contains(row), "{page}");
    }
    // Nothing is run, nothing written over.
    let mut hostile = CheckpointWriter::new();
    hostile.entry("netD", |writer| writer.raw(b"cposix\nsystem\nX\x02\0\0\0id\x85R"));
    let hostile = place.write("hostile.pth", &hostile.archive(false));
    let ended = fail(&["import", &hostile, "-o", &weights]);
    assert!(ended.err.contains("hostile.pth: it names the Python object posix.system"), "{}", ended.err);
    let ended = fail(&["import", &file, "-o", &file]);
    assert!(ended.err.contains("is the checkpoint itself"), "{}", ended.err);
}

#[test]
fn crops_below_an_input_are_left_out_and_named() {
    let place = TestFolder::new();
    place.write("in/a.jpg", &jpeg(260, 220, &[[30, 20, 150]]));
    let (inputs, set) = (place.at("in"), place.at("in/set"));
    succeed(&["crop", &inputs, "-o", &set]);
    let out = place.at("out");
    let ended = succeed(&["reconstruct", &inputs, "-m", &place.model(), "--format", "json", "-o", &out]);
    assert!(ended.err.contains("1 training set that `relievo crop` made (set)"), "{}", ended.err);
    assert_eq!(files(&out), ["a.json"]);
    // Given itself, it is read.
    let ended = succeed(&["eval", &set, "-m", &place.model()]);
    assert!(ended.out.starts_with("1 image: "), "{}", ended.out);
}

#[test]
fn results_go_to_no_file_and_names_are_harmless() {
    let place = TestFolder::new();
    let (model, png) = (place.model(), encode(photo(64, 64), ImageFormat::Png));
    let image = place.write("in/p.png", &png);
    for out in [image.clone(), place.at("in/p.png/below")] {
        let ended = fail(&["reconstruct", &image, "--framed", "-m", &model, "-o", &out]);
        assert!(ended.err.contains("p.png is a file, not a folder"), "{}", ended.err);
    }
    assert!(fs::read(&image).unwrap() == png);
    if cfg!(unix) {
        let strange = place.write("strange/new\nline\x1b[31m.png", &png);
        let out = place.at("out");
        succeed(&["reconstruct", &strange, "--framed", "-m", &model, "--format", "json", "-o", &out]);
        assert_eq!(files(&out), ["new-line-[31m.json"]);
    }
}

#[test]
fn a_photograph_that_takes_more_than_it_may_is_decoded_smaller() {
    let place = TestFolder::new();
    let photograph = place.write("large.jpg", &jpeg(1200, 900, &[[300, 200, 500]]));
    let out = place.at("out");
    let ended = succeed(&[
        "reconstruct",
        &photograph,
        "-m",
        &place.model(),
        "--max-memory",
        "1MiB",
        "--format",
        "json",
        "-o",
        &out,
    ]);
    assert!(
        ended.err.contains("it has 1200 x 900 pixels and was decoded at a reduced size"),
        "{}",
        ended.err
    );
    assert_eq!(files(&out), ["large.json"]);
    let whole = place.at("whole");
    let ended =
        succeed(&["reconstruct", &photograph, "-m", &place.model(), "--format", "json", "-o", &whole]);
    assert!(!ended.err.contains("reduced"), "{}", ended.err);
}

/// Large photographs under a limit of memory: each is done, at a size that there is memory for.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_no_abort() {
    let place = TestFolder::new();
    // 48 megapixels, a face in the middle.
    let mut large = RgbImage::from_pixel(8000, 6000, Rgb([120, 110, 100]));
    let head = Heads::range(11, 0, 1).sample(0, 2400).unwrap().image;
    let head = RgbImage::from_raw(2400, 2400, head.pixels).unwrap();
    image::imageops::replace(&mut large, &head, 2800, 1700);
    place.write("in/large.jpg", &encode(large, ImageFormat::Jpeg));
    place.write("in/small.jpg", &jpeg(260, 220, &[[30, 20, 150]]));
    let (model, inputs) = (place.model(), place.at("in"));
    for mebibytes in [900, 600, 450] {
        let out = place.at(&format!("out-{mebibytes}"));
        let command = format!("ulimit -v {}; exec \"$@\"", mebibytes * 1024);
        let ended = Command::new("sh")
            .args(["-c", &command, "sh", env!("CARGO_BIN_EXE_relievo"), "reconstruct", &inputs])
            .args(["-m", &model, "--format", "json", "--threads", "2", "-o", &out])
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.code().is_some_and(|code| code < 2),
            "{mebibytes} MiB: {:?}: {err}",
            ended.status
        );
        let is_done = ended.status.success();
        assert!(is_done || err.contains("too little memory"), "{mebibytes} MiB: {err}");
        assert!(is_done || mebibytes < 900, "{mebibytes} MiB: {err}");
    }
}
