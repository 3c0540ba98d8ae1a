//! What an image shows decides which weights it goes to, and categories of one's own.

use super::images::photograph;
use super::*;

/// A checkerboard of a dark and a bright colour of its own.
fn board(number: u8) -> RgbImage {
    let random = relievo_tensor::Random::new(number.into(), 9);
    let colours =
        [0, 1].map(|of| [0, 1, 2].map(|channel| (180 * of + random.bits(3 * of + channel) % 70) as u8));
    RgbImage::from_fn(96, 96, |u, v| Rgb(colours[((u / 12 + v / 12) % 2) as usize]))
}

#[test]
fn without_a_model_human_faces_go_where_they_went_and_what_is_unknown_is_refused() {
    let place = TestFolder::new();
    let own = place.at("none.json");
    let heads = encode(photograph(400, 300, &[[20, 60, 90], [200, 80, 160]]), ImageFormat::Png);
    let heads = place.write("heads.png", &heads);
    let reconstruct = |more: &[&str], out: &str| {
        let out = place.at(out);
        let all = ["reconstruct", &heads, "--refine=0", "--format=all", "--faces=all", "-o", &out];
        succeed(&[&all[..], more].concat());
        files(&out)
            .into_iter()
            .map(|name| (name.clone(), fs::read(format!("{out}/{name}")).unwrap()))
            .collect::<Vec<_>>()
    };
    let named = reconstruct(&["-m", "faces"], "named");
    assert!(named.iter().any(|(name, _)| name == "heads.face-2.json"));
    assert!(named == reconstruct(&["--categories", &own], "routed"), "the results differ");

    let grey = place.write("grey.png", &encode(photograph(300, 200, &[]), ImageFormat::Png));
    let ended = fail(&["reconstruct", &grey, "--categories", &own, "-o", &place.at("out")]);
    assert!(ended.err.contains("grey.png: nothing that these weights know"), "{}", ended.err);
    assert!(ended.err.contains("--model names weights for it"), "{}", ended.err);
}

#[test]
fn a_category_of_ones_own_is_added_used_and_removed() {
    let place = TestFolder::new();
    let (model, kept) = (place.model(), place.at("config/categories.json"));
    for number in 0..20 {
        place.write(&format!("boards/{number}.png"), &encode(board(number), ImageFormat::Png));
    }
    let boards = place.at("boards");
    let own = ["--categories", &kept];
    let add = ["category", "add", "boards", "--model", &model, "--images", &boards];
    let ended = succeed(&[&add[..], &own].concat());
    assert!(ended.out.contains("of 20 images are known by the others"), "{}", ended.out);
    let listed = succeed(&[&["category", "list"][..], &own].concat()).out;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["human-face", "cat-face", "boards"]);
    assert!(fail(&[&add[..], &own].concat()).err.contains("there is a category boards already"));

    let seen = place.write("seen.png", &encode(board(99), ImageFormat::Png));
    let reconstruct = ["reconstruct", &seen, "--format=json", "--refine=0", "-o", &place.at("out")];
    succeed(&[&reconstruct[..], &own].concat());
    let record = json(&place.at("out/seen.json"));
    assert_eq!(record["route"]["category"], "boards");
    assert!(record["route"]["weights"].as_str().unwrap().ends_with("weights.safetensors"), "{record}");
    assert!(record["route"]["certainty"].as_f64().unwrap() > 0.5, "{record}");
    // Another model is not asked.
    succeed(&[&reconstruct[..], &["-m", &model, "--framed"]].concat());
    assert!(json(&place.at("out/seen.json"))["route"].is_null());

    succeed(&[&["category", "remove", "boards"][..], &own].concat());
    let ended = fail(&[&reconstruct[..], &own].concat());
    assert!(ended.err.contains("nothing that these weights know"), "{}", ended.err);
    assert!(fail(&[&["category", "remove", "boards"][..], &own].concat()).err.contains("no category boards"));
    assert!(
        fail(&[&["category", "remove", "cat-face"][..], &own].concat()).err.contains("the program's own")
    );
}

#[test]
fn categories_that_cannot_be_kept_or_read_are_named() {
    let place = TestFolder::new();
    let (model, kept) = (place.model(), place.write("categories.json", b"[]"));
    let ended = fail(&["category", "list", "--categories", &kept]);
    assert!(ended.err.contains("categories.json holds no categories"), "{}", ended.err);
    place.write("categories.json", br#"{"router": 1, "categories": []}"#);
    let ended = fail(&["category", "list", "--categories", &kept]);
    assert!(ended.err.contains("another version of the router"), "{}", ended.err);
    let new = place.at("new.json");
    place.write("few/0.png", &encode(board(0), ImageFormat::Png));
    let add = |name: &str| {
        let images = place.at("few");
        fail(&["category", "add", name, "-m", &model, "--images", &images, "--categories", &new]).err
    };
    assert!(add("my boards").contains("is no name of a category"), "{}", add("my boards"));
    assert!(add("boards").contains("1 images do not make a category; it takes 5"), "{}", add("boards"));
    assert!(!Path::new(&new).exists());
}

/// Cats' faces, pasted in a photograph: found, and reconstructed by the weights for cats.
#[test]
fn a_cat_in_a_photograph_goes_to_the_weights_of_cats() {
    let archive = std::env::var("RELIEVO_DATA").map(|folder| Path::new(&folder).join("cats-64px.tar"));
    let Some(archive) = archive.ok().filter(|path| path.exists()) else {
        let reason = "RELIEVO_DATA names no folder with cats-64px.tar";
        return relievo_require::skip(relievo_require::Requirement::Data, reason);
    };
    let place = TestFolder::new();
    let cat = relievo_data::Images::open(&[archive]).unwrap().sample(7, 120).unwrap().image;
    let mut scene = photograph(400, 300, &[]);
    let cat = RgbImage::from_raw(120, 120, cat.pixels).unwrap();
    image::imageops::replace(&mut scene, &cat, 180, 90);
    let scene = place.write("scene.png", &encode(scene, ImageFormat::Png));
    let out = place.at("out");
    succeed(&[
        "reconstruct",
        &scene,
        "--format=json",
        "--refine=0",
        "--categories",
        &place.at("none"),
        "-o",
        &out,
    ]);
    let route = &json(&format!("{out}/scene.json"))["route"];
    assert_eq!([&route["category"], &route["weights"]], ["cat-face", "cats (in the program)"]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&route["crop"]["centre"][0]) - 240.0).abs() < 15.0, "{route}");
    assert!((number(&route["crop"]["side"]) - 120.0).abs() < 30.0, "{route}");
}
