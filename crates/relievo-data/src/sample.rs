//! Sources of images and their items: an image with its ground truth, or the reason for its absence.

/// An 8-bit RGB image (sRGB values, as files hold them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`, row-major, top row first; `width * height * 3` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// The pixels as the networks take them: in \[-1,1\], in the same order.
    pub fn signed(&self) -> impl Iterator<Item = f32> + '_ {
        self.pixels.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0)
    }
}

/// Light of the Lambertian model: shading = ambient + diffuse * max(0, normal . direction).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Light that reaches every surface alike, in \[0,1\].
    pub ambient: f32,
    /// Strength of the directional light, in \[0,1\].
    pub diffuse: f32,
    /// Unit vector in the canonical frame (that of the object seen from the front; x right, y down, z away from the
    /// camera) and with the sign of the normals: (0,0,1) lights a plane that faces the camera in full.
    pub direction: [f32; 3],
}

impl Light {
    /// Light from a direction, in degrees: `azimuth` from straight in front of the object (0) to the viewer's right
    /// (90) or left (-90), `elevation` upwards. Two fifths of it reach every surface alike, the rest comes from that
    /// direction, so a surface that faces it has its albedo's colour.
    pub fn from_angles(azimuth: f32, elevation: f32) -> Self {
        let ((right, front), (up, level)) =
            (azimuth.to_radians().sin_cos(), elevation.to_radians().sin_cos());
        // The normals point into the object, away from the light, with y down and z away from the viewer.
        Self { ambient: 0.4, diffuse: 0.6, direction: [-right * level, up, front * level] }
    }
}

/// Ground truth of a synthetic image; all maps are in the input view and of the sample's size `S`.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// `[S,S]` camera depth (the z coordinate) in units; meaningless but finite where `mask` is 0.
    pub depth: Vec<f32>,
    /// `[S,S,3]` unit normals of the visible surface, with the sign of `t_u x t_v` (+z for a plane that faces the
    /// camera).
    pub normals: Vec<f32>,
    /// `[S,S,3]` surface colour without light, in \[0,1\].
    pub albedo: Vec<f32>,
    /// `[S,S]`: 1 where the object is seen, 0 where the background is.
    pub mask: Vec<u8>,
    /// The light the image was made with.
    pub light: Light,
    /// Viewpoint: rotation about x, y, z in radians, then translation along x, y, z in units; R = Rz Ry Rx about
    /// (0,0,1).
    pub view: [f32; 6],
    /// Field of view of the camera in degrees, between the centres of the outermost pixels.
    pub field_of_view: f32,
}

/// Five points of a face in an image: right eye, left eye, tip of the nose, right and left corner of the mouth (right and
/// left are the person's). x and y of each, from -1, the centre of the first column or row, to 1, that of the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FacePoints(pub [[f32; 2]; 5]);

/// One image of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name: a path relative to the folder, a member of a shard, or a number of a generator.
    pub name: String,
    /// Square, of the size that was asked for.
    pub image: Image,
    /// Ground truth, which only synthetic images have.
    pub truth: Option<Truth>,
    /// Points of the face in it, if somebody looked for them and found them.
    pub points: Option<FacePoints>,
}

/// A source without its ground truth: enough for unsupervised training, and an eleventh of the memory with synthetic
/// heads.
pub struct WithoutTruth<S>(pub S);

impl<S: Source> Source for WithoutTruth<S> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn name(&self, index: u64) -> String {
        self.0.name(index)
    }

    fn object(&self, index: u64) -> Option<String> {
        self.0.object(index)
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        Ok(Sample { truth: None, ..self.0.sample(index, size)? })
    }
}

/// An image that cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct SampleError {
    /// The file (with its folder, or the shard it is in) or the number of the image.
    pub name: String,
    /// The reason, as a sentence.
    pub reason: String,
}

/// A numbered set of images: folder, shards, generator.
///
/// Image `index` is always the same one, which lets training resume bit for bit.
pub trait Source: Send + Sync {
    /// A description in one line, with the number of images.
    fn describe(&self) -> String;

    /// Warnings to show before the images are used, one line each: what was left out, and why.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Number of images.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of image `index < len()`, cheap (nothing is decoded). It decides on which side of a split the image
    /// falls, so it must not change when other images come or go.
    fn name(&self, index: u64) -> String {
        index.to_string()
    }

    /// The object that image `index < len()` shows: images with the same name of an object show the same one. `None` if
    /// nothing is known of other images of it.
    fn object(&self, index: u64) -> Option<String> {
        let _ = index;
        None
    }

    /// Image `index < len()` as a square of `size` x `size` pixels, with its truth if there is one.
    ///
    /// Called from several threads at once.
    ///
    /// # Errors
    /// If the image cannot be read or made. It concerns this image only: the loader takes another one in its place.
    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError>;
}
