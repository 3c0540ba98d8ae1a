//! The library as its users call it, with a small model that knows nothing.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use relievo_data::Source;
use relievo_model::{Model, ModelSettings};
use relievo_synth::Heads;

use super::*;

fn model() -> Model {
    let settings = ModelSettings { initial_depth_scale: 0.02, dome: 0.5, ..ModelSettings::tiny() };
    Model::new(settings, 3).unwrap()
}

fn builder(model: &Model) -> Builder {
    let bytes = model.to_safetensors().unwrap().into();
    Reconstructor::builder().weights(Weights::Bytes { bytes, origin: "test".into() })
}

fn framed() -> Reconstructor {
    builder(&model()).framing(Framing::Whole).refine(0).batch_size(2).build().unwrap()
}

fn image(shade: u8) -> Image {
    let pixels = (0..96 * 80).flat_map(|at| [(at % 96) as u8 * 2, (at / 96) as u8 * 2, shade]).collect();
    Image::from_rgb(96, 80, pixels).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn all() -> OutputOptions {
    OutputOptions { formats: OutputFormat::ALL.to_vec(), ..OutputOptions::default() }
}

#[test]
fn everything_may_be_shared_among_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Reconstructor>();
    shared::<Reconstruction>();
    shared::<Mesh>();
    shared::<Error>();
}

#[test]
fn every_image_of_a_batch_gives_its_own_results_or_its_own_error() {
    let reconstructor = framed();
    let images = || [90, 20, 200].map(image);
    let broken = Image { width: 3, height: 3, pixels: vec![0; 5] };
    let mut inputs: Vec<ImageInput<'_>> = images().into_iter().map(ImageInput::from).collect();
    inputs.insert(1, broken.into());
    inputs.insert(2, "no/such.jpg".into());
    let mut reports = Vec::new();
    let batch = reconstructor.reconstruct_batch(inputs).on_progress(|done| reports.push(done));
    let results: Vec<_> = batch.collect();
    assert_eq!(reports, [2, 4, 5]);
    let errors: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(ToString::to_string)).collect();
    assert!(errors[1].as_ref().unwrap().starts_with("the image: 3 x 3 pixels"), "{errors:?}");
    assert!(errors[2].as_ref().unwrap().starts_with("no/such.jpg: cannot be read"), "{errors:?}");
    let good: Vec<_> = results.into_iter().flatten().flatten().collect();
    assert_eq!(good.len(), 3);
    for (face, image) in good.iter().zip(images()) {
        let alone = &reconstructor.reconstruct(&image).unwrap()[0];
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near(face.depth().values(), alone.depth().values()));
        assert!(near(face.albedo().values().as_flattened(), alone.albedo().values().as_flattened()));
        assert_eq!(face.crop(), alone.crop());
    }
}

#[test]
fn a_batch_ends_after_the_images_at_hand_when_it_is_cancelled() {
    let (reconstructor, stop) = (framed(), AtomicBool::new(false));
    let images: Vec<Image> = (0..6).map(|number| image(10 * number)).collect();
    let mut batch = reconstructor.reconstruct_batch(&images).cancelled_by(&stop);
    assert!(batch.next().unwrap().is_ok());
    stop.store(true, Ordering::Relaxed);
    assert_eq!(batch.count(), 1, "the other one of the two that went together");
}

#[test]
fn views_show_the_models_own_memory() {
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let depth = face.depth();
    assert_eq!((depth.size(), depth.values().len()), (64, 64 * 64));
    assert_eq!(depth.values().as_ptr(), face.prediction.depth.data().as_ptr());
    let length = |n: &[f32; 3]| n.iter().map(|x| x * x).sum::<f32>();
    assert!(face.normals().values().iter().all(|normal| (length(normal) - 1.0).abs() < 1e-2));
    let direction = face.light().direction;
    assert!((length(&direction) - 1.0).abs() < 1e-5);
    assert_eq!((face.crop().width, face.crop().height), (80, 80));
    assert!(face.location().is_none() && face.refined() == 0);
}

#[test]
fn unless_asked_otherwise_the_answer_is_refined_and_the_mesh_wears_the_photograph() {
    let reconstructor = builder(&model()).framing(Framing::Whole).build().unwrap();
    let face = &reconstructor.reconstruct(&image(90)).unwrap()[0];
    assert_eq!(face.refined(), 20);
    let own = &framed().reconstruct(&image(90)).unwrap()[0];
    let error = |face: &Reconstruction| -> f32 {
        let seen = face.crop().square(64).signed().collect::<Vec<_>>();
        let found = face.reconstruction().values().as_flattened();
        let inside = |at: usize| face.mask().values()[at / 3] > 0.5;
        (0..found.len()).filter(|at| inside(*at)).map(|at| (found[at] - seen[at]).abs()).sum()
    };
    assert!(error(face) < 0.5 * error(own), "{} {}", error(face), error(own));
    let texture = |texture: Texture| face.mesh(texture).unwrap().texture().bytes().to_vec();
    assert!(texture(Texture::default()) == texture(Texture::Photograph));
    assert!(texture(Texture::Photograph) != texture(Texture::Albedo));
}

#[test]
fn a_mesh_has_about_as_many_triangles_as_asked_for_on_the_same_surface() {
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let plain = face.mesh(Texture::Albedo).unwrap();
    let extent = |mesh: &Mesh, axis: usize| {
        let values = || mesh.positions().iter().map(move |position| position[axis]);
        [values().fold(f32::MAX, f32::min), values().fold(f32::MIN, f32::max)]
    };
    for wanted in [600, 40_000] {
        let options = MeshOptions { texture: Texture::Albedo, triangles: Some(wanted) };
        let mesh = face.mesh(options).unwrap();
        let share = mesh.triangles().len() as f32 / wanted as f32;
        assert!((share - 1.0).abs() < 0.15, "{} of {wanted}", mesh.triangles().len());
        assert_eq!(mesh.texture_coordinates().count(), mesh.positions().len());
        for axis in 0..3 {
            let ends = extent(&mesh, axis).into_iter().zip(extent(&plain, axis));
            assert!(
                ends.clone().all(|(a, b)| (a - b).abs() < 0.005),
                "{axis}: {:?}",
                ends.collect::<Vec<_>>()
            );
        }
        // A vertex shows the texel behind it: places are linear in the slopes of the rays.
        let of_slope = |mesh: &Mesh| {
            let pairs = mesh.positions().iter().zip(mesh.texture_coordinates());
            pairs
                .flat_map(|([x, y, z], [u, v])| {
                    [x / (1.0 - z) - SLOPE * (u - 0.5), y / (1.0 - z) + SLOPE * (v - 0.5)]
                })
                .fold(0.0, |most: f32, off| most.max(off.abs()))
        };
        // The tangent of half the field of view, between pixel centres, on a texture of 64 pixels.
        const SLOPE: f32 = 2.0 * 0.087_489 * 64.0 / 63.0;
        assert!(
            of_slope(&plain) < 1e-4 && of_slope(&mesh) < 1e-4,
            "{} {}",
            of_slope(&plain),
            of_slope(&mesh)
        );
    }
}

#[test]
fn meshes_for_other_programs_have_colours_and_millimetres() {
    let root = tempfile::tempdir().unwrap();
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let mesh = face.mesh(Texture::Albedo).unwrap();
    mesh.write_ply(root.path().join("a.ply")).unwrap();
    mesh.write_stl(root.path().join("a.stl")).unwrap();
    let ply = relievo_mesh::Mesh::open(root.path().join("a.ply")).unwrap();
    assert_eq!((&*ply.vertices, &*ply.faces), (mesh.positions(), mesh.triangles()));
    // Vertices of this mesh that lie on pixels of the map have its colours.
    let (albedo, size) = (face.albedo(), face.size() as f32);
    let mut compared = 0;
    for (colour, [u, v]) in ply.vertex_colours.unwrap().iter().zip(mesh.texture_coordinates()) {
        let [x, y] = [u * size - 0.5, v * size - 0.5];
        if [x, y].iter().all(|place| (place - place.round()).abs() < 1e-3) {
            let right = albedo.values()[y.round() as usize * face.size() + x.round() as usize];
            let off = colour.iter().zip(right).map(|(a, b)| (a - (b + 1.0) / 2.0).abs()).fold(0.0, f32::max);
            assert!(off < 0.03, "{colour:?} {right:?}");
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
    let stl = relievo_mesh::Mesh::open(root.path().join("a.stl")).unwrap();
    let height = |mesh: &[[f32; 3]]| {
        let values = || mesh.iter().map(|position| position[1]);
        values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min)
    };
    assert!((height(&stl.vertices) - 1e3 * height(mesh.positions())).abs() < 0.01);
    assert_eq!(stl.faces.len(), mesh.triangles().len());
}

#[test]
fn a_relief_has_the_measures_that_were_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let options =
        ReliefOptions { width: 60.0, depth: 3.0, base: 1.5, resolution: 0.5, ..ReliefOptions::default() };
    let relief = face.relief(&options).unwrap();
    assert!(((relief.columns() - 1) as f32 * relief.pitch() - 60.0).abs() < 1e-3);
    let most = relief.heights().iter().copied().fold(0.0, f32::max);
    assert!((most - 4.5).abs() < 1e-3, "{most}");
    assert!(relief.heights().iter().all(|height| *height >= 0.75));
    assert_eq!(relief.heights()[0], 1.5, "the plate around the object is flat");
    relief.write_stl(root.path().join("a.stl")).unwrap();
    let stl = relievo_mesh::Mesh::open(root.path().join("a.stl")).unwrap();
    let [low, high] = stl.bounds().unwrap();
    assert!(low == [0.0; 3] && (high[0] - 60.0).abs() < 1e-3 && (high[2] - 4.5).abs() < 1e-3, "{high:?}");
    let scale = relief.write_height_map(root.path().join("a.png")).unwrap();
    assert!(scale.max == most && scale.min <= 1.5, "{scale:?}");
    for wrong in [
        ReliefOptions { width: 0.0, ..options },
        ReliefOptions { depth: f32::NAN, ..options },
        ReliefOptions { compression: -1.0, ..options },
    ] {
        let error = face.relief(&wrong).unwrap_err().to_string();
        assert!(error.contains("is impossible"), "{error}");
    }
}

#[test]
fn a_page_is_one_small_file_that_no_name_breaks() {
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let mesh = face.mesh(Texture::Photograph).unwrap();
    let name = "</script><b>&__RELIEVO_DATA__.jpg";
    let page = face.page(&mesh, name, "a").unwrap();
    assert!(page.len() < 1_000_000, "{}", page.len());
    assert!(page.contains("<title>&lt;/script>&lt;b>&amp;__RELIEVO_DATA__.jpg"));
    let data = page.split_once(r#"id="data">"#).unwrap().1.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((&data["name"], &data["stem"]), (&name.into(), &"a".into()));
    let bytes = |key: &str| {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.decode(data[key].as_str().unwrap()).unwrap()
    };
    let vertices = mesh.positions().len();
    assert_eq!((bytes("positions").len(), bytes("coordinates").len()), (12 * vertices, 8 * vertices));
    assert_eq!(bytes("indices").len(), 12 * mesh.triangles().len());
    assert_eq!(data["maps"].as_array().unwrap().len(), 6);
    // A light twice as strong on a texture that has it would be too bright.
    let shaded = face.page(&face.mesh(Texture::Shaded).unwrap(), "a.jpg", "a").unwrap();
    assert!(shaded.contains(r#""light":{"ambient":1.0,"diffuse":0.0"#));
}

#[test]
fn frames_together_are_those_one_by_one() {
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let light = |azimuth: f32| Lighting::from(Light::from_angles(azimuth, 10.0));
    let cameras: Vec<_> =
        CameraPath::FigureEight.cameras(40.0, 5).map(|camera| (camera, light(20.0))).collect();
    let lights: Vec<_> = [-40.0, 0.0, 40.0].map(|azimuth| (Camera::yaw(20.0), light(azimuth))).to_vec();
    let both: Vec<_> = cameras.iter().zip(&lights).map(|(a, b)| (a.0.on([0, 0, 9]), b.1.clone())).collect();
    for frames in [cameras, lights, both] {
        let together = face.render_frames(&frames, 48).unwrap();
        assert_eq!(together.len(), frames.len());
        for (frame, (camera, lighting)) in together.iter().zip(frames) {
            assert!(frame.bytes() == face.render(&camera, lighting, 48).unwrap().pixels);
        }
    }
    assert!(face.render_frames(&[], 48).unwrap().is_empty());
}

#[test]
fn light_from_the_right_brightens_what_faces_right() {
    let heads = Heads::range(5, 0, 1);
    let head = heads.sample(0, 128).unwrap().image;
    let reconstructor =
        Reconstructor::builder().weights(Weights::FacesSynthetic).framing(Framing::Whole).build().unwrap();
    let face = &reconstructor.reconstruct(&head).unwrap()[0];
    let size = 96;
    let share_right = |azimuth: f32| {
        let shown = face.render(&Camera::front(), Light::from_angles(azimuth, 0.0), size).unwrap();
        let brightness = |columns: std::ops::Range<usize>| -> f64 {
            let at = |row: usize, column: usize| f64::from(shown.pixels[3 * (row * size + column)]);
            (30..70)
                .flat_map(|row| columns.clone().map(move |column| (row, column)))
                .map(|(r, c)| at(r, c))
                .sum()
        };
        brightness(50..70) / brightness(26..46)
    };
    assert!(share_right(60.0) > 1.1 * share_right(0.0) && share_right(-60.0) < 0.9 * share_right(0.0));
    let background = [0, 255, 0];
    let side = face.render(&Camera::yaw(-40.0).on(background), Light::from_angles(0.0, 0.0), size).unwrap();
    assert_eq!(&side.pixels[..3], &background);
    assert!(face.render(&Camera::front(), face.light(), 0).is_err());
}

#[test]
fn all_formats_write_their_files_and_a_record_that_names_them() {
    let root = tempfile::tempdir().unwrap();
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    let first = face.write(root.path(), "b", "b.png", &all()).unwrap().unwrap();
    assert_eq!(first, root.path().join("b.html"));
    let mut expected: Vec<String> = OutputFormat::ALL
        .iter()
        .flat_map(|format| format.endings())
        .map(|ending| format!("b.{ending}"))
        .collect();
    expected.sort();
    assert_eq!(names(root.path()), expected);
    let record = fs::read_to_string(root.path().join("b.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["image"], &record["mesh"]["gltf"]), (&"b.png".into(), &"b.glb".into()));
    // Fewer formats: what the first call left under that name goes, and what is not of it stays.
    fs::write(root.path().join("b.txt"), "").unwrap();
    let lean = OutputOptions::default();
    let first = face.write(root.path(), "b", "b.png", &lean).unwrap().unwrap();
    assert_eq!(first, root.path().join("b.html"));
    assert_eq!(names(root.path()), ["b.glb", "b.html", "b.json", "b.panel.png", "b.txt"]);
    // Without a record nothing is ours.
    fs::write(root.path().join("c.obj"), "somebody's").unwrap();
    face.write(root.path(), "c", "c.png", &lean).unwrap();
    assert!(root.path().join("c.obj").exists());
}

/// What users' programs read: every key and every text of a record, numbers by their kind. RELIEVO_UPDATE=1 rewrites the
/// agreed file; read the difference.
#[test]
fn a_record_is_as_agreed() {
    fn by_kind(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Number(number) => {
                *value = if number.is_f64() { "a number" } else { "a whole number" }.into();
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(by_kind),
            serde_json::Value::Object(values) => values.values_mut().for_each(by_kind),
            _ => {}
        }
    }
    let root = tempfile::tempdir().unwrap();
    let head = Heads::range(1, 0, 1).sample(0, 200).unwrap().image;
    let mut canvas = Canvas::new(320, 320, [128; 3]);
    canvas.paste(&Canvas::from_rgb8(&head.pixels, 200), 60, 60);
    let photograph = Image::from_rgb(320, 320, canvas.bytes().to_vec()).unwrap();
    let reconstructor = Reconstructor::builder().weights(Weights::FacesSynthetic).refine(1).build().unwrap();
    let face = &reconstructor.reconstruct(&photograph).unwrap()[0];
    face.write(root.path(), "photo", "photo.jpg", &all()).unwrap();
    let record = fs::read_to_string(root.path().join("photo.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    by_kind(&mut record);
    assert_eq!(record[relievo_files::mark::JSON_KEY], env!("CARGO_PKG_VERSION"));
    record[relievo_files::mark::JSON_KEY] = "a version".into();
    let record = serde_json::to_string_pretty(&record).unwrap() + "\n";
    let agreed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record.json");
    if std::env::var_os("RELIEVO_UPDATE").is_some() {
        fs::write(&agreed, &record).unwrap();
    }
    assert_eq!(record, fs::read_to_string(&agreed).unwrap());
}

#[test]
fn results_of_faces_that_are_gone_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let face = &framed().reconstruct(&image(90)).unwrap()[0];
    for stem in ["a", "a.face-2", "a.face-3", "a.face-4"] {
        face.write(root.path(), stem, "a.png", &OutputOptions::default()).unwrap();
    }
    fs::write(root.path().join("a.face-5.glb"), "somebody's").unwrap();
    let mut given = ResultNames::new();
    // Another image has the name of the third face.
    given.unused("a.face-3");
    ResultsFolder::new(root.path()).remove_further_faces("a", 1, &given);
    let left = names(root.path());
    let of = |stem: &str| left.iter().filter(|name| name.starts_with(&format!("{stem}."))).count();
    assert_eq!([of("a.face-2"), of("a.face-3"), of("a.face-4"), of("a.face-5")], [0, 4, 0, 1], "{left:?}");
    assert!(left.contains(&"a.glb".to_owned()));
}

#[test]
fn what_is_not_finite_is_not_given_out() {
    let mut model = model();
    model.parameters_mut().iter_mut().for_each(|p| p.data_mut().iter_mut().for_each(|x| *x *= 1e20));
    let reconstructor = builder(&model).framing(Framing::Whole).build().unwrap();
    let error = reconstructor.reconstruct(&image(90)).unwrap_err();
    assert!(matches!(error, Error::NotFinite), "{error}");
}

#[test]
fn faces_are_found_the_largest_first_and_none_is_an_error() {
    let mut photograph = Image::from_rgb(400, 300, vec![120; 400 * 300 * 3]).unwrap();
    for (number, (left, top, side)) in [(20, 60, 90), (200, 80, 160)].into_iter().enumerate() {
        let head = Heads::range(11, 0, 9).sample(number as u64, side as u32).unwrap().image;
        for row in 0..side {
            let to = 3 * ((top + row) * 400 + left);
            photograph.pixels[to..to + 3 * side].copy_from_slice(&head.pixels[3 * row * side..][..3 * side]);
        }
    }
    let reconstructor = builder(&model()).build().unwrap();
    assert!(reconstructor.looks_for_faces());
    let faces = reconstructor.reconstruct(&photograph).unwrap();
    let sides: Vec<f32> = faces.iter().map(|face| face.location().unwrap().crop.side).collect();
    assert!(sides.len() == 2 && sides[0] > sides[1], "{sides:?}");
    assert!(faces[0].quality().detector_score.is_some_and(|score| score > 0.5));
    let largest = builder(&model()).faces(FaceSelection::Largest).build().unwrap();
    assert_eq!(largest.reconstruct(&photograph).unwrap().len(), 1);
    let nothing = Image::from_rgb(300, 200, vec![90; 300 * 200 * 3]).unwrap();
    assert!(matches!(reconstructor.reconstruct(&nothing), Err(Error::NoFace)));
}

#[test]
fn one_photograph_of_an_object_is_what_it_shows_alone() {
    let reconstructor = builder(&model()).framing(Framing::Whole).refine(3).build().unwrap();
    let alone = &reconstructor.reconstruct(&image(90)).unwrap()[0];
    let found = reconstructor.reconstruct_together([&image(90)]).unwrap();
    assert_eq!(found.object.depth().values(), alone.depth().values());
    assert_eq!((found.photographs.len(), found.skipped.len()), (1, 0));
    assert_eq!(found.photographs[0].error, found.photographs[0].single_error);
    let texture = |face: &Reconstruction| face.photograph_on_grid(100).unwrap().even();
    assert_eq!(texture(&found.object), texture(alone));
    assert_eq!(found.panel().unwrap().bytes(), alone.panel().unwrap().bytes());
}

#[test]
fn several_photographs_make_one_object_and_a_record_of_each() {
    let reconstructor = builder(&model()).framing(Framing::Whole).refine(3).build().unwrap();
    let (first, second) = (image(90), image(200));
    let inputs = || [ImageInput::from(&first), "no/such.jpg".into(), ImageInput::from(&second)];
    let found = reconstructor.reconstruct_together(inputs()).unwrap();
    let numbers: Vec<usize> = found.photographs.iter().map(|photograph| photograph.number).collect();
    assert_eq!(numbers, [0, 2]);
    assert!(found.skipped[0].0 == 1 && found.skipped[0].1.to_string().starts_with("no/such.jpg"));
    let [a, b] = [0, 1].map(|number| &found.photographs[number].reconstruction);
    assert_eq!(a.canonical_depth().values(), b.canonical_depth().values());
    assert_eq!(a.albedo().values(), b.albedo().values());
    assert_ne!(a.light(), b.light());

    let folder = tempfile::tempdir().unwrap();
    let given = ["a.jpg", "no/such.jpg", "b.jpg"].map(str::to_owned);
    found.write(folder.path(), "both", &given, &all()).unwrap();
    let record = fs::read(folder.path().join("both.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let photographs = record["together"].as_array().unwrap();
    assert_eq!(photographs.len(), 2);
    assert_eq!([&photographs[0]["image"], &photographs[1]["image"]], ["a.jpg", "b.jpg"]);
    for key in ["light", "view", "error", "single-error", "quality"] {
        assert!(photographs[1].get(key).is_some(), "{key}");
    }
    assert!(folder.path().join("both.glb").exists());
    let none = reconstructor.reconstruct_together(["no/such.jpg", "nor/this.jpg"]).unwrap_err();
    assert!(none.to_string().starts_with("no/such.jpg"), "{none}");
    assert!(reconstructor.reconstruct_together(Vec::<Image>::new()).is_err());
}
