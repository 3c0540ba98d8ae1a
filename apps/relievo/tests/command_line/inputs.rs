//! What is read: inputs of users that were handled badly once.

use std::io::Write;

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
