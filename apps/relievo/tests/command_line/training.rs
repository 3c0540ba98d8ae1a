//! Training, measuring, the tables of the paper, and what the weights in the program can do.

use super::*;

/// Refinement as docs/notebook.md tells of it, on fewer heads.
#[test]
#[cfg(feature = "weights")]
fn refined_images_are_nearer_to_the_image_and_shapes_no_worse() {
    let place = TestFolder::new();
    let measure = |steps: &str| {
        let file = place.at(&format!("{steps}.json"));
        let arguments =
            ["eval", "-m", "faces-synthetic", "--count", "64", "--refine", steps, "--json", &file];
        let ended = succeed(&arguments);
        assert!(ended.out.contains("reconstruction: mean error"), "{}", ended.out);
        let found = json(&file);
        let errors = ["visible", "whole"].map(|pixels| {
            ["depth-error", "normal-error"]
                .map(|error| found[pixels]["model"][error]["mean"].as_f64().unwrap())
        });
        (found["reconstruction"].as_f64().unwrap(), errors)
    };
    let (networks, refined) = (measure("0"), measure("20"));
    assert!(refined.0 < 0.6 * networks.0, "{networks:?} {refined:?}");
    for (refined, networks) in refined.1.as_flattened().iter().zip(networks.1.as_flattened()) {
        assert!(refined < networks, "{refined} for {networks}");
    }

    let (heads, out) = (place.at("heads"), place.at("out"));
    let images = format!("{heads}/images");
    succeed(&["synth", "--count", "1", "-o", &heads]);
    succeed(&["reconstruct", &images, "--framed", "--refine", "3", "-o", &out]);
    let records = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let records: Vec<_> = records.filter(|path| path.extension() == Some("json".as_ref())).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(json(records[0].to_str().unwrap())["refined"], 3);
}

/// The weights in the program do what MODEL_CARD.md says of them, on fewer heads.
#[test]
#[cfg(feature = "weights")]
fn the_demo_shows_what_the_weights_in_the_program_can_do() {
    let place = TestFolder::new();
    let out = place.at("demo");
    let ended = succeed(&["demo", "-o", &out]);
    assert!(ended.out.contains("100 % of the depths the right way round"), "{}", ended.out);
    let told = ended.out.lines().chain(ended.err.lines()).filter(|line| !line.contains(&out));
    assert!(told.into_iter().all(|line| line.chars().count() <= 80), "{}{}", ended.out, ended.err);
    let errors = json(&format!("{out}/errors.json"));
    let mean = |of: &str, error: &str| errors["visible"][of][error]["mean"].as_f64().unwrap();
    assert!(mean("model", "depth-error") < 0.0115, "{errors}");
    assert!(mean("model", "depth-error") < 0.7 * mean("mean-depth", "depth-error"), "{errors}");
    assert!(mean("model", "normal-error") < 17.0, "{errors}");
    for file in ["demo.png", "scene.png", "scene.panel.png", "scene.face-4.glb", "sample-8.depth.png"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    assert!(ended.err.contains("6 faces in 3 images"), "{}", ended.err);
    let side = |name: &str| json(&format!("{out}/{name}.json"))["place"]["crop"]["side"].as_f64().unwrap();
    // Where crates/relievo-synth/examples/paint_scene.rs put the heads, the largest first.
    for (name, wanted) in
        [("scene", 330.0), ("scene.face-2", 190.0), ("scene.face-3", 105.0), ("scene.face-4", 64.0)]
    {
        assert!((0.75..1.3).contains(&(side(name) / wanted)), "{name}: {}", side(name));
    }
    // The other sample images show one face each, and it fills them.
    assert!((200.0..320.0).contains(&side("sample-7")), "{}", side("sample-7"));
    assert!(succeed(&["info"]).out.contains("faces (in the program)"));
    assert!(succeed(&["info", "faces-synthetic"]).out.contains("faces-synthetic (in the program)"));
    assert!(succeed(&["info", "cats"]).out.contains("cats (in the program)"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (picture, bank) = (path("bank.png"), path("bank.toml"));
    let out = succeed(&["info", "--filters", "-o", &bank]).out;
    assert!(out.contains("27 filters of the program's filters"), "{out}");
    assert!(succeed(&["info", "--filters", &bank, "-o", &picture]).out.contains("27 filters of"));
    assert_eq!(image::open(&picture).unwrap().color().channel_count(), 3);
    std::fs::write(&bank, "[[filter]]\nname = \"a\"\nscale = 0.0\nterms = []\n").unwrap();
    let refusal = fail(&["info", "--filters", &bank]).err;
    assert!(refusal.contains("bank.toml") && refusal.contains("`a` has no terms"), "{refusal}");
    let stranger = fail(&["info", "cars"]).err;
    assert!(
        stranger.contains("cars") && stranger.contains("one of faces, faces-synthetic, cats"),
        "{stranger}"
    );
}

#[test]
fn an_evaluation_says_the_same_in_words_and_numbers() {
    let place = TestFolder::new();
    let (model, file) = (place.model(), place.at("errors.json"));
    let ended = succeed(&["eval", "-m", &model, "--count=20", "--json", &file, "--threads=1"]);
    let numbers = json(&file);
    assert_eq!(numbers["images"], 20);
    for place in ["visible", "whole"] {
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

    // Images whose depth nobody knows have losses and no errors.
    place.write("in/a.png", &encode(photo(64, 64), ImageFormat::Png));
    let losses = succeed(&["eval", &place.at("in"), "-m", &model]).out;
    assert!(losses.starts_with("1 image: ") && losses.contains("photometric"), "{losses}");
    assert!(!losses.contains("SIDE"), "{losses}");
}

#[test]
fn a_model_is_measured_on_what_its_run_held_out() {
    let place = TestFolder::new();
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
    assert!(named.out.starts_with("9 images: 9 of 28 images ("), "{}", named.out);
    assert!(
        named.out.contains("mean depth of heads") && named.out.contains("reconstruction"),
        "{}",
        named.out
    );
    assert_eq!(succeed(&["eval", "-m", &run, "--held-out"]).out, named.out, "not the sources of the run");
    let others = fail(&["eval", "-m", &run, "--held-out", &sources[0]]);
    assert!(others.err.contains("these are not the images of the run: it learned from 19"), "{}", others.err);
    let bare = fail(&["eval", "-m", &place.model(), "--held-out"]);
    assert!(bare.err.contains("does not say in which run it was trained"), "{}", bare.err);
}

#[test]
fn a_run_is_trained_gone_on_with_and_looked_at() {
    let place = TestFolder::new();
    let run = place.at("run");
    succeed(&[&TINY[..], &[&run]].concat());
    let again = fail(&[&TINY[..], &[&run]].concat());
    assert!(again.err.contains("--resume"), "{}", again.err);
    succeed(&["train", "--resume", &run, "--steps=3", "--quiet"]);
    assert!(Path::new(&run).join("checkpoints/step-0000003.safetensors").exists());
    for file in [run.clone(), format!("{run}/checkpoints/step-0000003.safetensors")] {
        let page = succeed(&["info", &file]).out;
        assert!(page.contains("width               8\n"), "{page}");
        assert!(page.contains("trained             3 steps on 40 images"), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
    let image = place.write("a.png", &encode(photo(64, 64), ImageFormat::Png));
    succeed(&["reconstruct", &image, "--framed", "-m", &run, "-o", &place.at("out")]);
}

#[test]
fn photographs_and_heads_are_learned_from_together_moved_and_turned() {
    let place = TestFolder::new();
    for number in 0..6 {
        place.write(&format!("in/{number}.png"), &encode(photo(70 + number, 64), ImageFormat::Png));
    }
    let (images, run) = (place.at("in"), place.at("run"));
    let settings = ["--jitter=0.1", "--roll=20", "--ema-decay=0.9", "--synthetic-count=6", "--validation=3"];
    let sources = ["train", &images, "synthetic", "-o", &run];
    let ended = succeed(&[&sources[..], &TINY[3..8], &settings[..], &["--steps=2"]].concat());
    assert!(ended.err.contains("learning from 9 of 12 images (6 images in "), "{}", ended.err);
    assert!(ended.err.contains(", synthetic heads 0 to 5 of seed 0); 3 held out"), "{}", ended.err);
    let info = succeed(&["info", &run]).out;
    assert!(info.contains("trained             2 steps on 9 images"), "{info}");
}

#[test]
fn a_table_is_measured_row_by_row_and_not_twice() {
    let place = TestFolder::new();
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
        "--preview-images=0",
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
    let side = 100.0 * of_constant["visible"]["depth-error"]["mean"].as_f64().unwrap();
    let mad = of_constant["visible"]["normal-error"]["mean"].as_f64().unwrap();
    let written = fs::read_to_string(format!("{out}/results.md")).unwrap();
    for text in [&whole.out, &written] {
        assert!(text.contains(&format!("{side:.3}")) && text.contains(&format!("{mad:.2}")), "{text}");
        assert!(text.contains("0.410/10.78"), "{text}");
    }
    // Each row and seed is an ordinary run.
    let run = format!("{out}/ours/seed-1");
    assert!(succeed(&["info", &run]).out.contains("trained             2 steps on 8 images"));
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

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_says_so_and_has_its_folder_for_itself() {
    let place = TestFolder::new();
    let run = place.at("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_relievo"))
        .args([&TINY[..12], &["--steps=1000000", "-o", &run]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while fs::read_dir(format!("{run}/checkpoints")).map_or(0, Iterator::count) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = fail(&["train", "--resume", &run]);
    assert!(second.err.contains("another relievo is writing to "), "{}", second.err);
    let refused = fail(&["train", "synthetic", "--overwrite", "-o", &run]);
    assert!(refused.err.contains("another relievo is writing to "), "{}", refused.err);
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}");
    assert!(out.starts_with("stopped after ") && out.contains("go on with --resume"), "{out}");
    succeed(&["train", "--resume", &run, "--steps=1"]);
}

#[test]
fn a_renderer_is_trained_and_measured() {
    let place = TestFolder::new();
    let [run, sheet, numbers] = ["run", "sheet.png", "numbers.json"].map(|name| place.at(name));
    let small = ["--width", "4", "--heads", "2", "--batch-size", "2", "--steps", "2"];
    let ended = succeed(&[&["renderer", "train", "-o", &run][..], &small].concat());
    assert_eq!(ended.out.trim(), format!("2 steps done: {run}/model.safetensors"));
    // All steps are taken: nothing is left to do.
    assert_eq!(succeed(&["renderer", "resume", &run]).out, ended.out);
    let occupied = fail(&["renderer", "train", "-o", &run]);
    assert!(occupied.err.contains("is not empty"), "{}", occupied.err);

    let eval = ["renderer", "eval", &run, "--count", "6", "--sheet", &sheet, "--json", &numbers];
    let ended = succeed(&eval);
    assert!(ended.out.contains("PSNR, dB") && ended.out.contains("with gradients"), "{}", ended.out);
    let psnr = json(&numbers)["within"]["psnr"].as_f64().unwrap();
    assert!(psnr > 0.0 && psnr < 20.0, "{psnr}");
    let drawn = image::open(&sheet).unwrap();
    assert!(drawn.width() > 4 * 128 && drawn.height() > 6 * 128);

    // A file of another kind, and none at all.
    let other = place.at("model.safetensors");
    fs::write(&other, Model::new(ModelSettings::default(), 0).unwrap().to_safetensors().unwrap()).unwrap();
    let refused = fail(&["renderer", "eval", &other]);
    assert!(refused.err.contains("holds no learned renderer"), "{}", refused.err);
    assert!(fail(&["renderer", "eval", &place.at("nowhere")]).err.contains("nowhere"));
}
