//! A source of images of its own: shaded ellipses on grey.

use relievo_data::{Image, Sample, SampleError, Source};

/// `count` images, each another ellipse, brighter in the middle.
pub struct Ellipses {
    pub count: u64,
}

impl Source for Ellipses {
    fn describe(&self) -> String {
        format!("{} ellipses", self.count)
    }

    fn len(&self) -> u64 {
        self.count
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        // Image number N is always the same one.
        let vary = |of: u64| ((index + 1) * of % 97) as f32 / 97.0;
        let radii = [0.25 + 0.15 * vary(31), 0.25 + 0.15 * vary(57)];
        let colour = [vary(11), vary(23), vary(41)].map(|x| 120.0 + 120.0 * x);
        let pixel = |at: u32| {
            let [x, y] = [at % size, at / size].map(|place| (place as f32 + 0.5) / size as f32 - 0.5);
            let distance = (x / radii[0]).hypot(y / radii[1]);
            let light = 1.0 - 0.5 * distance * distance;
            if distance < 1.0 { colour.map(|value| (value * light) as u8) } else { [128; 3] }
        };
        let pixels = (0..size * size).flat_map(pixel).collect();
        let image = Image::from_rgb(size, size, pixels)?;
        Ok(Sample { name: self.name(index), image, truth: None, points: None })
    }
}
