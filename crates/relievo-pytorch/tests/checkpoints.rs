//! Checkpoints that are what PyTorch writes, ones that are not, and damaged ones.

use relievo_model::{Model, ModelSettings, Preset};
use relievo_pytorch::testing::{CheckpointWriter, Numbers};
use relievo_pytorch::{Import, ImportSettings, Origin};
use relievo_tensor::Tensor;

fn small(confidence: bool) -> Model {
    let settings =
        ModelSettings { width: 8, code: 4, encoder_width: 4, confidence, ..ModelSettings::default() };
    Model::new(settings, 5).unwrap()
}

fn import(bytes: &[u8]) -> Import {
    Import::read(bytes, &ImportSettings::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    Import::read(bytes, &ImportSettings::default()).err().expect("it is refused").to_string()
}

/// The same settings and parameters, to the bit.
#[track_caller]
fn assert_same(imported: &Model, model: &Model) {
    assert_eq!(imported.settings(), model.settings());
    for ((a, b), info) in imported.parameters().iter().zip(model.parameters()).zip(model.parameter_infos()) {
        assert_eq!((a.shape(), a.data()), (b.shape(), b.data()), "{}", info.name);
    }
}

#[test]
fn both_formats_give_the_model_that_was_saved() {
    let model = small(true);
    let mut writer = CheckpointWriter::of_model(&model, Numbers::F32);
    writer.entry("epoch", |writer| writer.int(30));
    // The list of metrics, as unsup3d keeps it.
    writer.entry("metrics_trace", |writer| {
        writer.raw(b"cunsup3d.meters\nMetricsTrace\n)\x81}");
        writer.entry("data", |writer| writer.raw(b"}X\x05\0\0\0train]}X\x04\0\0\0lossG?\xf0\0\0\0\0\0\0sas"));
        writer.raw(b"b");
    });
    for bytes in [writer.archive(false), writer.archive(true), writer.stream()] {
        let import = import(&bytes);
        assert_eq!((import.preset, import.origin, import.epoch), (Preset::Face, Origin::Unsup3d, Some(30)));
        assert_same(&import.model, &model);
        // What is written is read wherever weights are, and says what it is of.
        let weights = import.to_safetensors().unwrap();
        let again = Model::from_safetensors(&weights, "imported").unwrap();
        assert_eq!(Preset::in_weights(&weights), Some(Preset::Face));
        let images = Tensor::full([1, 64, 64, 3], 0.25);
        let [ours, theirs] = [&again, &model].map(|model| model.predict(&images).unwrap());
        assert_eq!(ours.depth.data(), theirs.depth.data());
        assert_eq!(ours.image.data(), theirs.image.data());
    }
}

#[test]
fn numbers_of_other_types_are_read() {
    let model = small(false);
    for (numbers, digits) in
        [(Numbers::F64, 1e-9), (Numbers::F16, 1.0 / 2048.0), (Numbers::Bf16, 1.0 / 256.0)]
    {
        let writer = CheckpointWriter::of_model(&model, numbers);
        for bytes in [writer.archive(false), writer.stream()] {
            let import = import(&bytes);
            let pairs = import.model.parameters().iter().zip(model.parameters());
            for (got, right) in pairs.flat_map(|(a, b)| a.data().iter().zip(b.data())) {
                assert!(
                    (got - right).abs() <= digits * right.abs() + 1e-7,
                    "{numbers:?}: {got}, not {right}"
                );
            }
        }
    }
}

#[test]
fn what_a_checkpoint_does_not_say_comes_from_the_preset_and_the_options() {
    let bytes = CheckpointWriter::of_model(&small(false), Numbers::F32).archive(false);
    let of = |settings: ImportSettings| {
        let import = Import::read(&bytes[..], &settings).unwrap();
        (import.preset, import.model.settings().clone())
    };
    // No confidence network: the recipe for cars.
    let (preset, settings) = of(ImportSettings::default());
    assert_eq!((preset, settings.border_depth, settings.min_diffuse), (Preset::Car, 1.08, 0.5));
    let cat = ImportSettings { preset: Some(Preset::Cat), ..ImportSettings::default() };
    let (preset, settings) = of(cat.clone());
    assert_eq!((preset, settings.z_translation_range, settings.confidence), (Preset::Cat, 0.1, false));
    let (_, settings) = of(ImportSettings {
        rotation_range: Some(90.0),
        border_depth: Some(1.0),
        z_translation_range: Some(0.0),
        ..cat
    });
    assert_eq!(
        (settings.rotation_range, settings.border_depth, settings.z_translation_range),
        (90.0, 1.0, 0.0)
    );
    let nonsense = ImportSettings { border_depth: Some(2.0), ..ImportSettings::default() };
    let error = Import::read(&bytes[..], &nonsense).err().unwrap().to_string();
    assert!(error.contains("border-depth is 2"), "{error}");
}

#[test]
fn models_of_pairs_are_known_by_their_confidence_networks() {
    let sizes = ModelSettings { width: 8, code: 4, encoder_width: 4, ..Preset::LemulCasia.model() };
    let model = Model::new(sizes.clone(), 5).unwrap();
    let bytes = CheckpointWriter::of_model(&model, Numbers::F32).archive(false);
    let casia = ImportSettings { preset: Some(Preset::LemulCasia), ..ImportSettings::default() };
    let import = Import::read(&bytes[..], &casia).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((import.origin, import.preset), (Origin::LeMul, Preset::LemulCasia));
    assert_same(&import.model, &model);

    // One of the two confidence networks alone is of no use. Its single channel tells it from that of unsup3d.
    let model = Model::new(ModelSettings { confidence: false, ..sizes }, 5).unwrap();
    let mut writer = CheckpointWriter::of_model(&model, Numbers::F32);
    let head = [("out_net1.0.weight".to_owned(), vec![1, 5, 5, 8], vec![0.5; 200])];
    writer.network("netC", &head, Numbers::F32);
    let import = Import::read(&writer.archive(false)[..], &casia).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(import.origin, Origin::LeMul);
    assert_same(&import.model, &model);
}

#[test]
fn larger_images_and_other_channels_follow_from_the_parameters() {
    let settings = ModelSettings {
        image_size: 128,
        width: 4,
        code: 4,
        albedo_width: Some(8),
        albedo_code: Some(6),
        encoder_width: 4,
        ..ModelSettings::default()
    };
    let model = Model::new(settings, 1).unwrap();
    let import = import(&CheckpointWriter::of_model(&model, Numbers::F32).stream());
    assert_same(&import.model, &model);
    assert!(import.has_assumed_groups());
}

#[test]
fn tensors_may_lie_in_their_numbers_in_any_order() {
    let model = small(false);
    // The view network once more, which counts, with another last parameter.
    let written = |last: &dyn Fn(&mut CheckpointWriter, &[f32])| {
        let mut writer = CheckpointWriter::of_model(&model, Numbers::F32);
        let view = model.parameter_infos().iter().zip(model.parameters());
        let view: Vec<_> = view.filter(|(info, _)| info.name.starts_with("view")).collect();
        writer.entry("netV", |writer| {
            writer.raw(b"}(");
            for (layer, (_, tensor)) in view.iter().enumerate() {
                writer.text(&format!("network.{layer}.weight"));
                match layer + 1 == view.len() {
                    true => last(writer, tensor.data()),
                    false => writer.parameter(&tensor.shape(), tensor.data(), Numbers::F32),
                }
            }
            writer.raw(b"u");
        });
        writer
    };
    // [6,32,1,1], transposed and behind three other numbers.
    let transposed = written(&|writer, elements| {
        let mut stored = vec![9.0; 3];
        stored.extend((0..32).flat_map(|input| (0..6).map(move |output| elements[output * 32 + input])));
        writer.view(3, &[6, 32, 1, 1], &[1, 6, 1, 1], &stored, Numbers::F32);
    });
    for bytes in [transposed.archive(false), transposed.stream()] {
        let import = import(&bytes);
        let pairs = import.model.parameters().iter().zip(model.parameters());
        assert!(pairs.clone().count() > 20 && pairs.into_iter().all(|(a, b)| a.data() == b.data()));
    }
    let outside =
        written(&|writer, elements| writer.view(1, &[6, 32, 1, 1], &[32, 1, 1, 1], elements, Numbers::F32));
    assert!(
        refusal(&outside.archive(false)).contains("network.5.weight: a tensor reaches beyond its numbers")
    );
    assert!(refusal(&outside.stream()).contains("network.5.weight: a tensor reaches beyond its numbers"));
    let repeated = written(&|writer, _| writer.view(0, &[6, 32, 1, 1], &[0, 0, 0, 0], &[0.5], Numbers::F32));
    assert!(refusal(&repeated.archive(false)).contains("a tensor reaches beyond its numbers"));
    let nan = written(&|writer, _| writer.tensor(&[6, 32, 1, 1], &[f32::NAN; 192], Numbers::F32));
    assert_eq!(refusal(&nan.archive(false)), "netV: network.5.weight: NaN at place 0");
    let wrong = written(&|writer, _| writer.tensor(&[6, 31, 1, 1], &[0.5; 186], Numbers::F32));
    assert!(
        refusal(&wrong.stream())
            .contains("network.5.weight: has the shape [6, 31, 1, 1], not the network's [6, 32, 1, 1]")
    );
}

/// A checkpoint whose only entry is `value`.
fn only(value: &[u8]) -> [Vec<u8>; 2] {
    let mut writer = CheckpointWriter::new();
    writer.entry("netD", |writer| writer.raw(value));
    [writer.archive(false), writer.stream()]
}

#[test]
fn names_that_are_neither_tensors_nor_data_are_refused() {
    let calls: [(&[u8], &str); 6] = [
        (b"cposix\nsystem\nX\x02\0\0\0id\x85R", "posix.system"),
        (b"X\x08\0\0\0builtinsX\x04\0\0\0eval\x93X\x01\0\0\0x\x85R", "builtins.eval"),
        (b"cunsup3d.networks\nEDDeconv\n)\x81", "unsup3d.networks.EDDeconv"),
        (b"ctorch\nload\n", "torch.load"),
        (b"ctorch._utils\n_rebuild_qtensor\n", "torch._utils._rebuild_qtensor"),
        // What is known may not be called in another way than PyTorch does.
        (b"cunsup3d.meters\nMetricsTrace\n)R", "a call has other arguments"),
    ];
    for (call, name) in calls {
        for bytes in only(call) {
            assert!(refusal(&bytes).contains(name), "{}", refusal(&bytes));
        }
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    assert!(refusal(b"").starts_with("it is no checkpoint of PyTorch"));
    assert!(refusal(b"\x89PNG").starts_with("it is no checkpoint of PyTorch"));
    assert!(refusal(b"\x80\x02}.").starts_with("it is no checkpoint of PyTorch"));
    let archive = relievo_zip::testing::archive(&[("photo.jpg", b"", false, false)], 0);
    assert!(refusal(&archive).starts_with("it is no checkpoint of PyTorch"));
    let empty = CheckpointWriter::new();
    for bytes in [empty.archive(false), empty.stream()] {
        assert_eq!(refusal(&bytes), "it has no network netD, as checkpoints of unsup3d and LeMul do");
    }
    let big = relievo_zip::testing::archive(
        &[("a/data.pkl", b"\x80\x02}.", false, false), ("a/byteorder", b"big", false, false)],
        0,
    );
    assert!(refusal(&big).contains("highest byte"));
    let missing = Import::open("no/such.pth".as_ref(), &ImportSettings::default()).err().unwrap().to_string();
    assert!(missing.starts_with("cannot read the checkpoint no/such.pth: "), "{missing}");
}

#[test]
fn networks_that_are_not_the_papers_are_refused() {
    let model = small(false);
    let mut writer = CheckpointWriter::of_model(&model, Numbers::F32);
    let more = [("network.0.weight".to_owned(), vec![4, 4, 4, 3], vec![0.5; 192])];
    writer.network("netL", &more, Numbers::F32);
    assert!(
        refusal(&writer.stream()).starts_with("netL: it has fewer parameters"),
        "{}",
        refusal(&writer.stream())
    );
    writer.network("netL", &[("fc.weight".to_owned(), vec![4], vec![0.5; 4])], Numbers::F32);
    assert!(refusal(&writer.stream()).contains("netL: fc.weight: is a name"));
    writer.entry("netL", |writer| writer.int(3));
    assert_eq!(refusal(&writer.stream()), "netL: it is no list of parameters");
}

#[test]
fn hostile_pickles_end_in_an_error() {
    let deep = [b")".to_vec(), vec![b'\x85'; 300_000]].concat();
    let many = vec![b'N'; 600_000];
    let marks = vec![b'('; 600_000];
    let long_text = b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f";
    let long_number = b"\x8b\xff\xff\xff\xff";
    // A list of ten thousand pairs that becomes a dictionary a thousand times.
    let pairs = [
        &b"]("[..],
        &b"NN\x86".repeat(10_000),
        b"eq\0",
        &b"ccollections\nOrderedDict\nh\0\x85R0".repeat(1_000),
    ]
    .concat();
    let huge = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aNJ\xff\xff\xff\x7ftQK\0(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftK\x01K\x01\x86tR";
    let cases: [(&[u8], &str); 13] = [
        (&deep, "netD: it is no list of parameters"),
        (&many, "its list of objects is too long"),
        (&marks, "its list of objects is too long"),
        (long_text, "the checkpoint cannot be read"),
        (long_number, "the checkpoint cannot be read"),
        (&pairs, "its list of objects is too long"),
        (huge, "netD: it is no list of parameters"),
        // Instructions without what they work on: the dictionary and the key are below them.
        (b"000", "it is damaged: an instruction lacks its arguments"),
        (b"R", "it is damaged: it calls what is no function"),
        (b"0b", "it is damaged: an instruction lacks its arguments"),
        (b"K\x01Nb", "it is damaged: it gives attributes"),
        (b"h\x07", "it is damaged: it refers to an object that is not there"),
        (b"\xff", "it is damaged: it has an unknown instruction"),
    ];
    for (case, right) in cases {
        for bytes in only(case) {
            let refusal = refusal(&bytes);
            assert!(refusal.starts_with(right), "{refusal}, not {right}");
        }
    }
    let too_large = relievo_zip::testing::archive(&[("data.pkl", &vec![b'N'; 20 << 20], true, false)], 0);
    assert_eq!(refusal(&too_large), "its list of objects is too long");
}
