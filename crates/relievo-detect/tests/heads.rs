//! Synthetic heads on canvases: found at any size, turned upright first, and nothing found where there is none.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use relievo_data::{Image, Rectangle, Source};
use relievo_detect::{Detector, Face, FaceSelection, MOST_OUTSIDE};
use relievo_synth::Heads;

/// A photograph without faces: a slope of colour with a fine grain.
fn canvas(width: u32, height: u32) -> Image {
    let shade = |at: u32| {
        let (c, u, v) = (at % 3, at / 3 % width, at / 3 / width);
        let grain = (u.wrapping_mul(73) ^ v.wrapping_mul(151) ^ c.wrapping_mul(37)) % 17;
        (70 + 60 * u / width + 40 * v / height + 15 * c + grain) as u8
    };
    Image { width, height, pixels: (0..width * height * 3).map(shade).collect() }
}

/// The whole of an image at another size.
fn resized(image: &Image, width: u32, height: u32) -> Image {
    let [right, bottom] = [image.width, image.height].map(f64::from);
    image.resampled(Rectangle { left: 0.0, top: 0.0, width: right, height: bottom }, width, height)
}

fn paste(onto: &mut Image, image: &Image, left: u32, top: u32) {
    for (row, line) in image.pixels.chunks_exact(image.width as usize * 3).enumerate() {
        let at = ((top as usize + row) * onto.width as usize + left as usize) * 3;
        onto.pixels[at..at + line.len()].copy_from_slice(line);
    }
}

/// Head `number` in a frame of `side` pixels.
fn head(number: u64, side: u32) -> Image {
    let rendered = Heads::range(11, 0, 1000).sample(number, side.min(512)).unwrap().image;
    if side == rendered.width { rendered } else { resized(&rendered, side, side) }
}

/// Whether the face's frame is that of a head pasted there: synthetic heads are framed by the same rule, up to jitter.
fn frames(face: &Face, left: u32, top: u32, side: u32) -> bool {
    let frame = face.frame();
    let [x, y] = [left, top].map(|low| low as f32 + side as f32 / 2.0);
    let side = side as f32;
    let [dx, dy] = [frame.centre[0] - x, frame.centre[1] - y].map(|d| d.abs() / side);
    dx < 0.12 && dy < 0.12 && (0.7..1.4).contains(&(frame.side / side))
}

/// That the largest face alone is the largest of all.
fn assert_largest_alone(detector: &Detector, photograph: &Image) {
    let places = |which| detector.places(photograph, which, Face::level_frame).unwrap();
    let all = places(FaceSelection::All);
    let usable = all.iter().position(|place| place.refusal().is_none()).unwrap();
    assert_eq!(places(FaceSelection::Largest).last(), Some(&all[usable]));
}

#[test]
fn heads_of_all_sizes_are_found_in_one_photograph() {
    let detector = Detector::new().unwrap();
    // Left, top and side of each: 40 to 1,400 pixels in 12 megapixels.
    let places = [
        [60, 60, 40],
        [60, 2900, 40],
        [400, 100, 60],
        [200, 400, 100],
        [200, 800, 160],
        [100, 1300, 300],
        [700, 100, 500],
        [900, 900, 800],
        [2300, 700, 1400],
    ];
    let mut photograph = canvas(4000, 3000);
    for (number, [left, top, side]) in places.into_iter().enumerate() {
        paste(&mut photograph, &head(20 + number as u64, side), left, top);
    }
    let faces = detector.faces(&photograph).unwrap();
    for [left, top, side] in places {
        let found = faces.iter().filter(|face| frames(face, left, top, side)).count();
        assert_eq!(found, 1, "the head of {side} pixels at {left}, {top}: {faces:?}");
    }
    // Painted backgrounds look a little like faces here and there.
    let certain = faces.iter().filter(|face| face.score > 0.5).count();
    assert!(certain == places.len() && faces.len() <= places.len() + 2, "{faces:?}");
    assert!(faces.is_sorted_by(|a, b| a.area.pixels() >= b.area.pixels()));
    assert_largest_alone(&detector, &photograph);
}

#[test]
fn a_head_is_found_at_any_size_on_its_own() {
    let detector = Detector::new().unwrap();
    for (number, side) in [40, 47, 64, 101, 200, 333, 1000, 2000, 4000].into_iter().enumerate() {
        let mut photograph = canvas(side + side / 5, side + side / 10);
        paste(&mut photograph, &head(number as u64, side), side / 10, side / 20);
        let faces = detector.faces(&photograph).unwrap();
        assert!(frames(&faces[0], side / 10, side / 20, side), "{side}: {faces:?}");
        assert!(faces[0].frame().outside(photograph.width, photograph.height) < MOST_OUTSIDE);
        assert_eq!(faces.len(), 1, "{side}: {faces:?}");
        assert_largest_alone(&detector, &photograph);
    }
}

#[test]
fn of_many_heads_most_are_found_and_their_yaw_is_about_right() {
    let detector = Detector::new().unwrap();
    let (mut found, mut off) = (0, Vec::new());
    for number in 0..40 {
        let sample = Heads::range(5, 0, 40).sample(number, 64).unwrap();
        let mut photograph = canvas(100, 90);
        paste(&mut photograph, &sample.image, 18, 13);
        let faces = detector.faces(&photograph).unwrap();
        let Some(face) = faces.first().filter(|face| frames(face, 18, 13, 64)) else { continue };
        found += 1;
        off.push((face.landmarks.yaw() - sample.truth.unwrap().view[1].to_degrees()).abs());
    }
    off.sort_by(f32::total_cmp);
    assert!(found >= 38, "{found} of 40");
    assert!(off[off.len() / 2] < 6.0, "median error {} degrees", off[off.len() / 2]);
}

#[test]
fn heads_that_lean_are_framed_upright() {
    let detector = Detector::new().unwrap();
    for (number, lean) in [-60.0f32, -35.0, -20.0, 25.0, 40.0, 60.0].into_iter().enumerate() {
        let mut upright = canvas(400, 400);
        paste(&mut upright, &head(number as u64, 200), 100, 100);
        // Heads lean a little by themselves.
        let own = detector.faces(&upright).unwrap()[0].landmarks.roll();
        // Turned the other way, so that the head leans this way.
        let photograph = upright.turned_square([200.0; 2], 400.0, -lean.to_radians(), 400);
        let faces = detector.faces(&photograph).unwrap();
        let frame = faces[0].level_frame();
        assert!((frame.turned_degrees - lean - own).abs() < 5.0, "{lean}: {frame:?}");
        assert!(frame.centre.iter().all(|middle| (middle - 200.0).abs() < 20.0), "{lean}: {frame:?}");
        let cut = frame.cut(&photograph, 128);
        let mut again = canvas(300, 300);
        paste(&mut again, &cut, 86, 86);
        let faces = detector.faces(&again).unwrap();
        assert!(faces[0].landmarks.roll().abs() < 5.0, "{lean}: {}", faces[0].landmarks.roll());
    }
}

/// A JPEG file whose EXIF block holds nothing but the orientation.
fn jpeg(image: &Image, orientation: u8) -> Vec<u8> {
    let rgb = RgbImage::from_raw(image.width, image.height, image.pixels.clone()).unwrap();
    let mut plain = Cursor::new(Vec::new());
    rgb.write_to(&mut plain, ImageFormat::Jpeg).unwrap();
    let plain = plain.into_inner();
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat()
}

#[test]
fn photographs_that_lie_on_their_side_are_turned_first() {
    let mut upright = canvas(300, 200);
    paste(&mut upright, &head(3, 120), 140, 40);
    // Stored so that turning by 90 degrees to the right gives the upright one: its rows are our columns from below.
    let mut stored = Image { width: 200, height: 300, pixels: Vec::new() };
    for column in (0..300).rev() {
        for row in 0..200 {
            let at = (row * 300 + column) * 3;
            stored.pixels.extend_from_slice(&upright.pixels[at..at + 3]);
        }
    }
    let detector = Detector::new().unwrap();
    let faces = |bytes: &[u8]| detector.faces(&Image::decode(bytes).unwrap()).unwrap();
    let (plain, turned) = (faces(&jpeg(&upright, 1)), faces(&jpeg(&stored, 6)));
    assert_eq!((plain.len(), turned.len()), (1, 1));
    assert!(frames(&turned[0], 140, 40, 120), "{turned:?}");
    assert!(plain[0].area.overlap(&turned[0].area) > 0.95, "{plain:?} {turned:?}");
}

#[test]
fn where_there_is_no_face_none_is_found() {
    let detector = Detector::new().unwrap();
    let noise = |width: u32, height: u32| {
        let pixels = (0..width * height * 3).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Image { width, height, pixels }
    };
    let stripes = Image {
        width: 400,
        height: 300,
        pixels: (0..400 * 300 * 3).map(|at| (at / 30 % 2 * 255) as u8).collect(),
    };
    for (width, height) in [(1, 1), (2, 700), (900, 3), (31, 33), (200, 200), (1000, 700)] {
        for image in [canvas(width, height), noise(width, height)] {
            assert_eq!(detector.faces(&image).unwrap(), [], "{width} x {height}");
        }
    }
    assert_eq!(detector.faces(&stripes).unwrap(), []);
    let nothing = Image { width: 0, height: 5, pixels: Vec::new() };
    let error = detector.faces(&nothing).unwrap_err().to_string();
    assert_eq!(error, "an image of 0 x 5 pixels has no faces");
}

#[test]
fn threads_make_no_difference() {
    let mut photograph = canvas(700, 500);
    paste(&mut photograph, &head(3, 200), 100, 150);
    paste(&mut photograph, &head(4, 50), 500, 150);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Detector::new().unwrap().faces(&photograph).unwrap())
    };
    let faces = on(1);
    assert_eq!(faces.len(), 2, "{faces:?}");
    assert_eq!(faces, on(3));
}
