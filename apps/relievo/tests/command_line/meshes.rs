//! Commands on meshes.

use super::*;

/// A flag on a pole in the plane z = 0, its cloth at +x and +y: not the same as its mirror image. The cloth is green.
const FLAG: &str = "\
v 0 -1 0 1 0 0\nv 0.1 -1 0 1 0 0\nv 0.1 1 0 1 0 0\nv 0 1 0 1 0 0
v 0.9 0.7 0 0 1 0\nv 0.1 0.4 0 0 1 0\nv 0.1 1 0 0 1 0
f 1 2 3\nf 1 3 4\nf 6 5 7\n";

fn open(path: &str) -> DynamicImage {
    image::open(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_mesh_is_rendered_in_every_way() {
    let place = TestFolder::new();
    let mesh = place.write("flag.obj", FLAG.as_bytes());
    let front = ["--azimuth=0", "--elevation=0", "--size=60x40"];
    let all = "--output=colour,rgba,silhouette,depth,normals,face-index";
    let ended = succeed(&[&["render", &mesh, all], &front[..]].concat());
    assert!(ended.err.contains("1 image in"), "{}", ended.err);
    // Beside the mesh, in a folder that is marked as one of results.
    let out = place.at("flag.relievo");
    let expected = ["colour", "depth", "face-index", "normals", "rgba", "silhouette"];
    let expected = expected.map(|kind| format!("flag.{kind}.png"));
    let found = files(&out);
    assert!(
        expected.iter().all(|name| found.contains(name)) && found.contains(&"flag.json".into()),
        "{found:?}"
    );
    let image = |kind: &str| open(&format!("{out}/flag.{kind}.png"));
    let colour = image("colour").into_rgb8();
    assert_eq!(colour.dimensions(), (60, 40));
    // Not mirrored: the green cloth is at the right and above.
    let green: Vec<(u32, u32)> = colour
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel[1] > 120 && pixel[0] < 60 && pixel[2] < 60)
        .map(|(x, y, _)| (x, y))
        .collect();
    assert!(green.len() > 20 && green.iter().all(|(x, y)| *x >= 24 && *y < 20), "{green:?}");
    assert_eq!(image("rgba").into_rgba8()[(0, 0)], Rgba([0; 4]));
    let silhouette = image("silhouette").into_luma8();
    assert_eq!((silhouette[(0, 0)], silhouette[green[0]]), (Luma([0]), silhouette[green[0]]));
    // The record's camera projects a vertex to its pixel, and its range reads the depth there.
    let record = &json(&format!("{out}/flag.json"))["cameras"][0];
    let number = |value: &Value| value.as_f64().unwrap();
    let row = |matrix: &Value, row: usize, at: [f64; 3]| -> f64 {
        (0..3).map(|column| number(&matrix[row][column]) * at[column]).sum()
    };
    let inner = [0.4, 0.7, 0.0];
    let seen = [0, 1, 2].map(|i| row(&record["R"], i, inner) + number(&record["t"][i]));
    let [u, v] =
        [0, 1].map(|i| row(&record["K"], i, [seen[0] / seen[2], seen[1] / seen[2], 1.0]).round() as u32);
    let face = image("face-index").into_rgb8()[(u, v)];
    assert_eq!(face, Rgb([0, 0, 3]));
    let depth = image("depth").into_luma16()[(u, v)][0];
    let (min, max) = (number(&record["depth"]["min"]), number(&record["depth"]["max"]));
    let depth = min + f64::from(depth - 1) / 65534.0 * (max - min);
    assert!((depth - seen[2]).abs() < 1e-4, "{depth} {seen:?}");
    // A surface that faces the camera is blue.
    let [r, g, b] = image("normals").into_rgb8()[(u, v)].0;
    assert!(r.abs_diff(128) < 3 && g.abs_diff(128) < 3 && b > 250);
    // Its own cameras give the same image.
    let again = place.at("again.png");
    let cameras = format!("{out}/flag.json");
    succeed(&["render", &mesh, "-o", &again, "--cameras", &cameras]);
    let again = open(&again).into_rgb8();
    let far = again.as_raw().iter().zip(colour.as_raw()).filter(|(a, b)| a.abs_diff(**b) > 8).count();
    assert!(far < 30, "{far}");
}

#[test]
fn turntables_are_gif_webp_or_frames() {
    let place = TestFolder::new();
    let out = place.at("out");
    let small = ["--size=32", "--samples=2", "--turntable=5"];
    succeed(
        &[&["render", "teapot", "-o", &out, "--format=gif,webp,frames", "--output=colour,depth"], &small[..]]
            .concat(),
    );
    let found = files(&out);
    for kind in ["colour", "depth"] {
        for ending in [".gif", ".webp", "-0.png", "-4.png"] {
            assert!(found.contains(&format!("teapot.{kind}{ending}")), "{found:?}");
        }
    }
    assert_eq!(json(&format!("{out}/teapot.json"))["cameras"].as_array().unwrap().len(), 5);
    let single = place.at("single.webp");
    succeed(&[&["render", "teapot", "-o", &single], &small[..]].concat());
    assert!(fs::read(&single).unwrap().windows(4).filter(|chunk| chunk == b"ANMF").count() == 5);
    let message = |out: &str, more: &[&str]| fail(&[&["render", "teapot", "-o", out], more].concat()).err;
    assert!(message(&place.at("a.png"), &small).contains("give a folder for several"));
    assert!(message(&place.at("a.gif"), &[]).contains("turntables are .gif, .webp or .apng files"));
    assert!(
        message(&place.at("a.gif"), &[&small[..], &["--output=rgba"]].concat()).contains("not transparent")
    );
}

#[test]
fn meshes_that_cannot_be_rendered_are_named() {
    let place = TestFolder::new();
    let out = place.at("out");
    let message = |mesh: &str, more: &[&str]| fail(&[&["render", mesh, "-o", &out], more].concat()).err;
    assert!(message(&place.at("nothing.obj"), &[]).contains("nothing.obj"));
    let empty = place.write("empty.obj", b"v 0 0 0\nv 1 0 0\n");
    assert!(message(&empty, &[]).contains("2 vertices and no faces"), "{}", message(&empty, &[]));
    let broken = place.write("broken.obj", b"v 0 0 0\nf 1 2 3\n");
    assert!(message(&broken, &[]).contains("broken.obj, line 2"));
    let unknown = place.write("unknown.fbx", b"Kaydara");
    assert!(message(&unknown, &[]).contains("not a mesh of a known kind"));
    let nan = place.write("nan.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n");
    let error = message(&nan, &[]);
    assert!(error.contains("nan"), "{error}");
    assert!(message("teapot", &["--distance=0"]).contains("distance of the camera must be above 0"));
    assert!(message("teapot", &["--field-of-view=200"]).contains("field of view"));
    let cameras = place.write("cameras.json", b"[{\"K\": 1}]");
    assert!(message("teapot", &["--cameras", &cameras]).contains("camera 0, counted from 0: K must be"));
    assert!(!Path::new(&out).exists());
    // Inside the pot, and past it: images.
    let ended = succeed(&["render", "teapot", "-o", &out, "--size=16", "--distance=0.5"]);
    assert!(!ended.err.contains("not in the image"), "{}", ended.err);
    let ended = succeed(&["render", "teapot", "-o", &out, "--size=16", "--look-at=0,90,0", "--distance=1"]);
    assert!(ended.err.contains("the mesh is not in the image"), "{}", ended.err);
}

#[test]
fn meshes_give_their_exact_depth() {
    let place = TestFolder::new();
    let mesh = place.write("flag.obj", FLAG.as_bytes());
    let out = place.at("truth");
    succeed(&["depth", &mesh, "teapot", "-o", &out, "--size=24", "--count=3", "--npy", "--seed=4"]);
    let found = files(&out);
    for name in ["flag-0", "flag-2", "teapot-1"] {
        for folder in ["depth", "images", "mask", "normals"] {
            assert!(found.contains(&format!("{folder}/{name}.png")), "{found:?}");
        }
        assert!(found.contains(&format!("npy/{name}.depth.npy")));
    }
    let text = fs::read_to_string(format!("{out}/truth.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        let number = |value: &Value| value.as_f64().unwrap();
        // The models' field of view: 10 degrees between the centres of the outermost pixels.
        let focal = 11.5 / 5f64.to_radians().tan();
        assert!(
            (number(&line["camera"]["K"][0][0]) - focal).abs() < 1e-6 && line["camera"]["K"][0][2] == 11.5
        );
        // The middle of the mesh is at depth 1.
        let (min, max) = (number(&line["depth"]["min"]), number(&line["depth"]["max"]));
        assert!(0.8 < min && min < max && max < 1.2, "{min} {max}");
        assert!((number(&line["camera"]["t"][2])).is_finite() && number(&line["unit"]) > 1.0);
        let image = open(&format!("{out}/{}", line["depth"]["file"].as_str().unwrap()));
        assert_eq!((image.color(), image.width()), (image::ColorType::L16, 24));
        let (depth, mask) = (image.into_luma16(), open(&format!("{out}/{}", line["mask"].as_str().unwrap())));
        assert!(depth.pixels().zip(mask.into_luma8().pixels()).all(|(d, m)| (d[0] > 0) == (m[0] > 0)));
    }
    // The same viewpoints again, and others with another seed.
    let again = |name: &str, seed: &str| {
        let out = place.at(name);
        succeed(&["depth", &mesh, "teapot", "-o", &out, "--size=24", "--count=3", seed]);
        fs::read(format!("{out}/depth/flag-1.png")).unwrap()
    };
    let first = fs::read(format!("{out}/depth/flag-1.png")).unwrap();
    assert!(again("same", "--seed=4") == first && again("other", "--seed=5") != first);
    assert!(fail(&["depth", &mesh, "-o", &out]).err.contains("already holds ground truth"));
    assert!(fail(&["depth", &place.at("none.obj"), "-o", &place.at("x")]).err.contains("is no file"));
    // One that cannot be read does not stop the others.
    let bad = place.write("bad.obj", b"f 1 2 3\n");
    let ended = fail(&["depth", &bad, &mesh, "-o", &place.at("rest"), "--size=8"]);
    assert!(
        ended.err.contains("bad.obj, line 1") && ended.err.contains("the others are done"),
        "{}",
        ended.err
    );
    assert!(files(&place.at("rest")).contains(&"depth/flag.png".into()));
}

#[test]
fn shapes_textures_and_cameras_are_fitted() {
    let place = TestFolder::new();
    for task in ["vertices", "shape", "texture", "camera"] {
        let out = place.at(task);
        let more: &[&str] = if task == "shape" { &["--subdivisions=2"] } else { &[] };
        let ended = succeed(&[&["fit", task, "--steps=3", "-o", &out], more].concat());
        assert!(ended.out.contains("3 steps in") && ended.out.contains("progress.gif"), "{}", ended.out);
        let found = files(&out);
        let result = match task {
            "texture" => "mesh.glb",
            "camera" => "camera.json",
            _ => "mesh.obj",
        };
        for name in ["curve.png", "fit.json", "progress.gif", result] {
            assert!(found.contains(&name.into()), "{task}: {found:?}");
        }
        assert_eq!(json(&format!("{out}/fit.json"))["errors"].as_array().unwrap().len(), 3);
    }
    // On files: the teapot's own images, by its own cameras.
    let views = place.at("views");
    let small = ["--size=48", "--turntable=5", "--format=frames", "--elevation=15"];
    succeed(&[&["render", "teapot", "-o", &views, "--output=silhouette"], &small[..]].concat());
    let cameras = format!("{views}/teapot.json");
    let out = place.at("own-shape");
    succeed(&[
        "fit",
        "shape",
        "--silhouettes",
        &views,
        "--cameras",
        &cameras,
        "--steps=40",
        "--subdivisions=2",
        "-o",
        &out,
    ]);
    let record = json(&format!("{out}/fit.json"));
    assert!(record["iou"].as_f64().unwrap() > 0.8, "{}", record["iou"]);
    // In the units of the cameras: the teapot's.
    let obj = fs::read_to_string(format!("{out}/mesh.obj")).unwrap();
    let heights: Vec<f64> =
        obj.lines().filter_map(|line| line.strip_prefix("v ")?.split(' ').nth(1)?.parse().ok()).collect();
    let (low, high) =
        (heights.iter().copied().fold(f64::MAX, f64::min), heights.iter().copied().fold(f64::MIN, f64::max));
    assert!((-0.6..0.6).contains(&low) && (2.4..3.8).contains(&high), "{low} {high}");
    let message = |more: &[&str]| fail(&[&["fit", "shape", "-o", &out], more].concat()).err;
    let one = place.write("one.json", b"[{\"K\":[[1,0,0],[0,1,0],[0,0,1]],\"R\":[[1,0,0],[0,1,0],[0,0,1]],\"t\":[0,0,5],\"width\":48,\"height\":48}]");
    assert!(message(&["--silhouettes", &views, "--cameras", &one]).contains("5 images for 1 cameras"));
    let silhouette = format!("{views}/teapot.silhouette-1.png");
    let out = place.at("own-camera");
    succeed(&["fit", "camera", "--silhouette", &silhouette, "--field-of-view=30", "-o", &out]);
    assert!(json(&format!("{out}/fit.json"))["iou"].as_f64().unwrap() > 0.9);
    succeed(&["render", "teapot", "--cameras", &format!("{out}/camera.json"), "-o", &place.at("seen.png")]);
    let black = place.write("black.png", &encode(GrayImage::new(20, 20), ImageFormat::Png));
    assert!(fail(&["fit", "camera", "--silhouette", &black, "-o", &out]).err.contains("is all dark"));
}
