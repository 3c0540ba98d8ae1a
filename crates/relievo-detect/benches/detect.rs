//! Times a photograph's way to its faces by stage: `cargo bench -p relievo-detect`.
//!
//! Each row is the best and the median of repeated runs on all threads of the pool (RAYON_NUM_THREADS), and the
//! processor time of a run (Linux), which a busy machine disturbs less.

use std::hint::black_box;
use std::io::Cursor;
use std::time::{Duration, Instant};

use image::{ImageFormat, RgbImage};
use relievo_data::{Image, Rectangle, Source};
use relievo_detect::Detector;
use relievo_detect::router::Router;
use relievo_synth::Heads;
use relievo_tensor::Random;

/// Processor seconds that all threads of this process have used.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in brackets: user and system time are fields 12 and 13, in hundredths of a second.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}

fn row(what: &str, mut run: impl FnMut()) {
    run();
    let mut times = Vec::new();
    let (began, used) = (Instant::now(), processor_seconds());
    while times.len() < 5 || began.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64());
    }
    let used = processor_seconds().zip(used).map(|(after, before)| (after - before) / times.len() as f64);
    times.sort_by(f64::total_cmp);
    let [best, median] = [times[0], times[times.len() / 2]].map(|seconds| seconds * 1e3);
    let processor = used.map_or_else(|| "?".to_owned(), |seconds| format!("{:.0}", seconds * 1e3));
    println!("{what:<48} best {best:>6.0} ms, median {median:>6.0} ms, processor {processor:>6} ms");
}

/// A photograph of `width` x `height` with a head of half its height.
fn photograph(width: u32, height: u32) -> Image {
    let side = height / 2;
    let rendered = Heads::range(11, 0, 1).sample(0, 512).expect("a synthetic head").image;
    let all = Rectangle { left: 0.0, top: 0.0, width: 512.0, height: 512.0 };
    let head = rendered.resampled(all, side, side);
    // A grain of 31 shades, which makes the JPEG file as large as those of photographs.
    let random = Random::new(0, 0);
    let shade =
        |at: u32| 60.0 + 80.0 * (at / 3 % width) as f32 / width as f32 + 31.0 * random.uniform(u64::from(at));
    let mut pixels: Vec<u8> = (0..width * height * 3).map(|at| shade(at) as u8).collect();
    for (row, line) in head.pixels.chunks_exact(side as usize * 3).enumerate() {
        let at = (row + height as usize / 4) * width as usize * 3 + width as usize;
        pixels[at..at + line.len()].copy_from_slice(line);
    }
    Image { width, height, pixels }
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    let detector = Detector::new().expect("the embedded weights");
    let router = Router::from_safetensors(&relievo_weights_research::ROUTER).expect("the embedded router");
    let image = photograph(640, 480);
    row("640x480: what the router sees", || {
        black_box(router.look(&image)).expect("an image with pixels");
    });
    row("640x480: faces, shrinking included", || {
        black_box(detector.faces(&image)).expect("an image with pixels");
    });
    for (what, width, height) in
        [("12 megapixels", 4000, 3000), ("1 megapixel", 1152, 864), ("200x200", 200, 200)]
    {
        let image = photograph(width, height);
        let rgb = RgbImage::from_raw(width, height, image.pixels.clone()).expect("as many bytes as pixels");
        let mut jpeg = Cursor::new(Vec::new());
        rgb.write_to(&mut jpeg, ImageFormat::Jpeg).expect("a JPEG file in memory");
        let jpeg = jpeg.into_inner();
        let faces = detector.faces(&image).expect("an image with pixels");
        assert_eq!(faces.len(), 1, "{faces:?}");
        row(&format!("{what}: decoding {:.1} MB of JPEG", jpeg.len() as f64 / 1e6), || {
            black_box(Image::decode(&jpeg)).expect("a JPEG file");
        });
        row(&format!("{what}: shrinking to a long side of 2048"), || {
            let [right, bottom] = [width, height].map(f64::from);
            let all = Rectangle { left: 0.0, top: 0.0, width: right, height: bottom };
            let long = width.min(2048);
            black_box(image.resampled(all, long, long * height / width));
        });
        row(&format!("{what}: faces, shrinking included"), || {
            black_box(detector.faces(&image)).expect("an image with pixels");
        });
        row(&format!("{what}: one crop of 80x80"), || {
            black_box(faces[0].frame().cut(&image, 80));
        });
    }
}
