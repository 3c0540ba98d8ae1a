//! Reference tensors: where they are, how they are read, how ours are compared with them.
//!
//! A golden set is one safetensors file, plain or packed (`assets/golden/README.md` tells the format and what the
//! names mean). [`golden_sets`] finds the sets of a kind in the folder that `RELIEVO_GOLDEN` names, or in the
//! repository's own. Their layouts are PyTorch's, channels first; [`GoldenTensor::channels_last`] brings them to
//! ours. [`Checks`] gathers comparisons, so that a test tells of everything that is off at once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use half::f16;
use relievo_nets::VGG16_WEIGHTS;
use relievo_tensor::Tensor;
use relievo_tensor::safetensors::{Dtype, ReadError, SafetensorsFile};
use safetensors::tensor::TensorView;

/// The repository's copies, where it was built.
const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets");

/// The folder that `RELIEVO_ASSETS` names, for machines without the repository, else the repository's.
pub fn assets() -> PathBuf {
    std::env::var_os("RELIEVO_ASSETS").map_or_else(|| ASSETS.into(), PathBuf::from)
}

/// Why a golden set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A file or folder that cannot be read.
    #[error("{path}: {source}; RELIEVO_GOLDEN must name a folder of golden files or be unset")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without any golden file.
    #[error("{0}: no file named ops*, step_*, nmr* or lemul_* with the ending .safetensors or .planes.gz")]
    Empty(PathBuf),
    /// A file that is not what it should be.
    #[error("{path}: {detail}")]
    Format {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// A tensor as the file has it: channels first.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenTensor {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, row-major.
    pub values: Vec<f32>,
}

impl GoldenTensor {
    /// Numbers in a shape they fill.
    ///
    /// # Panics
    /// If they do not.
    pub fn new(values: Vec<f32>, shape: &[usize]) -> Self {
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "numbers and shape {shape:?} differ in size"
        );
        Self { shape: shape.to_vec(), values }
    }

    /// The tensor with its axes as they are.
    ///
    /// # Panics
    /// If it has more axes than a tensor can have.
    pub fn tensor(&self) -> Tensor {
        Tensor::new(&self.values, self.shape.as_slice()).expect("values fill the shape")
    }

    /// The tensor in our layout. Four axes: the second goes last, which is right for images (`[B,C,H,W]` to
    /// `[B,H,W,C]`), weights (`[out,in,k,k]` to `[out,k,k,in]`) and weights of transposed convolutions (`[in,out,k,k]`
    /// to `[in,k,k,out]`). Anything else stays as it is.
    pub fn channels_last(&self) -> Tensor {
        let &[outer, channels, height, width] = self.shape.as_slice() else { return self.tensor() };
        let mut last = Tensor::empty([outer, height, width, channels]);
        let pixels = height * width;
        let blocks = last.data_mut().chunks_exact_mut((channels * pixels).max(1));
        for (last, first) in blocks.zip(self.values.chunks_exact((channels * pixels).max(1))) {
            for pixel in 0..pixels {
                for channel in 0..channels {
                    last[pixel * channels + channel] = first[channel * pixels + pixel];
                }
            }
        }
        last
    }

    /// The way back: a tensor of ours in PyTorch's layout.
    pub fn channels_first(tensor: &Tensor) -> Self {
        let Some([outer, height, width, channels]) = tensor.shape().dims() else {
            return Self { shape: tensor.shape().to_vec(), values: tensor.data().to_vec() };
        };
        let mut values = Vec::with_capacity(tensor.numel());
        for block in tensor.data().chunks_exact((height * width * channels).max(1)) {
            for channel in 0..channels {
                values.extend(block[channel..].iter().step_by(channels));
            }
        }
        Self { shape: vec![outer, channels, height, width], values }
    }
}

/// The tensors and metadata of one file.
#[derive(Debug)]
pub struct GoldenSet {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, GoldenTensor>,
}

impl GoldenSet {
    /// Reads a set, plain (`.safetensors`) or packed (`.planes.gz`).
    ///
    /// # Errors
    /// If the file cannot be read or does not hold f32 tensors.
    pub fn read(path: &Path) -> Result<Self, GoldenError> {
        let bytes = read_file(path)?;
        let format = |detail: String| GoldenError::Format { path: path.into(), detail };
        let file = SafetensorsFile::open(&bytes).map_err(|error| format(error.to_string()))?;
        let planes = match file.metadata("byte_planes") {
            None => false,
            Some("4") => true,
            Some(other) => return Err(format(format!("byte_planes is {other}, not 4"))),
        };
        let mut tensors = BTreeMap::new();
        for name in file.names() {
            // Other files of this format may carry tensors of integers; no test here needs one.
            let (data, shape) = file.raw(name, Dtype::F32).map_err(|error| format(error.to_string()))?;
            let values = if planes {
                let count = data.len() / 4;
                let byte = |i: usize, plane: usize| data[plane * count + i];
                (0..count).map(|i| f32::from_le_bytes(std::array::from_fn(|plane| byte(i, plane)))).collect()
            } else {
                data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            };
            tensors.insert(name.to_owned(), GoldenTensor { shape, values });
        }
        Ok(Self { path: path.into(), metadata: file.into_metadata(), tensors })
    }

    /// The file's name, for messages.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A tensor, if the file has it.
    pub fn get(&self, name: &str) -> Option<&GoldenTensor> {
        self.tensors.get(name)
    }

    /// A tensor.
    ///
    /// # Errors
    /// If the file lacks it.
    pub fn tensor(&self, name: &str) -> Result<&GoldenTensor, GoldenError> {
        self.get(name).ok_or_else(|| self.lacks(format!("no tensor {name}")))
    }

    /// The names of all tensors in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A metadata entry.
    ///
    /// # Errors
    /// If the file lacks it.
    pub fn metadata(&self, key: &str) -> Result<&str, GoldenError> {
        self.metadata.get(key).map(String::as_str).ok_or_else(|| self.lacks(format!("no metadata {key}")))
    }

    fn lacks(&self, detail: String) -> GoldenError {
        GoldenError::Format { path: self.path.clone(), detail }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, GoldenError> {
    let io = |source| GoldenError::Io { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).map_err(io)?;
    Ok(unpacked)
}

/// How the names of golden sets begin.
const KINDS: [&str; 4] = ["ops", "step_", "nmr", "lemul_"];

/// The sets whose file names begin with `kind` (`ops`, `step_`, `nmr`), in the order of their names: those of the folder
/// `RELIEVO_GOLDEN` names, else the repository's. None if the folder has only sets of other kinds.
///
/// # Errors
/// If the folder or a file cannot be read, or the folder has no golden set at all.
pub fn golden_sets(kind: &str) -> Result<Vec<GoldenSet>, GoldenError> {
    let folder = std::env::var_os("RELIEVO_GOLDEN").map_or_else(|| assets().join("golden"), PathBuf::from);
    sets_in(&folder, kind)
}

fn sets_in(folder: &Path, kind: &str) -> Result<Vec<GoldenSet>, GoldenError> {
    let io = |source| GoldenError::Io { path: folder.into(), source };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if [".safetensors", ".planes.gz"].iter().any(|ending| name.ends_with(ending))
            && KINDS.iter().any(|kind| name.starts_with(kind))
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(GoldenError::Empty(folder.into()));
    }
    files.sort();
    let of_kind = |path: &&PathBuf| path.file_name().unwrap_or_default().to_string_lossy().starts_with(kind);
    files.iter().filter(of_kind).map(|path| GoldenSet::read(path)).collect()
}

/// VGG16 as the reference tensors were computed with it, up to 1e-6: the embedded half-precision numbers and the
/// eight bits below them, as an f32 safetensors file with the names and layout of [`VGG16_WEIGHTS`].
///
/// # Errors
/// If the files cannot be read or do not fit each other.
pub fn vgg_weights() -> Result<Vec<u8>, GoldenError> {
    // What messages call the embedded weights.
    let path = Path::new("VGG16_WEIGHTS");
    let low_path = assets().join("golden/vgg_low_bits.safetensors");
    let (bytes, low_bytes) = (VGG16_WEIGHTS, read_file(&low_path)?);
    let format = |path: &Path, detail: String| GoldenError::Format { path: path.into(), detail };
    let broken = |path: &Path, error: ReadError| format(path, error.to_string());
    let half = SafetensorsFile::open(bytes).map_err(|error| broken(path, error))?;
    let low = SafetensorsFile::open(&low_bytes).map_err(|error| broken(&low_path, error))?;
    let mut weights = Vec::new();
    for name in half.names() {
        let (half, shape) = half.raw(name, Dtype::F16).map_err(|error| broken(path, error))?;
        let (low, low_shape) = low.raw(name, Dtype::I8).map_err(|error| broken(&low_path, error))?;
        if shape != low_shape {
            return Err(format(&low_path, format!("{name} does not fit that of {}", path.display())));
        }
        let halves = half.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes));
        let values = halves.zip(low).flat_map(|(half, low)| {
            let low = f32::from(low.cast_signed()) / 256.0;
            (f32::from(half) + low * unit_in_the_last_place(half)).to_le_bytes()
        });
        weights.push((name, shape, values.collect::<Vec<u8>>()));
    }
    let views = weights.iter().map(|(name, shape, values)| {
        TensorView::new(Dtype::F32, shape.clone(), values).map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| format(path, error.to_string()))?;
    safetensors::serialize(views, None).map_err(|error| format(path, error.to_string()))
}

/// The distance of a finite f16 to its neighbours, 2^(exponent - 10).
fn unit_in_the_last_place(half: f16) -> f32 {
    let exponent = i32::from(half.to_bits() >> 10 & 31).max(1) - 15;
    2f32.powi(exponent - 10)
}

/// `count` numbers in (-scale, scale) from the formula that stands in for weights (`assets/golden/README.md`):
/// those of parameter tensor `k`.
pub fn formula_values(k: u32, count: usize, scale: f64) -> Vec<f32> {
    let start = k.wrapping_mul(1_013_904_223).wrapping_add(12345);
    let value = |i: usize| {
        let mut x = (i as u32).wrapping_mul(1_664_525).wrapping_add(start);
        x = (x ^ (x >> 16)).wrapping_mul(0x45d9f3b);
        x ^= x >> 16;
        ((f64::from(x) / 2f64.powi(31) - 1.0) * scale) as f32
    };
    (0..count).map(value).collect()
}

/// What a parameter tensor is: it decides the formula's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A weight of four axes, transposed convolutions too.
    Convolution,
    /// A group norm's weight.
    NormWeight,
    /// A group norm's bias.
    NormBias,
}

/// Parameter tensor `k` by the formula; `shape` is PyTorch's.
///
/// # Panics
/// If a convolution's shape has not four axes.
pub fn formula_parameter(k: u32, shape: &[usize], kind: ParameterKind) -> GoldenTensor {
    let count = shape.iter().product();
    let values = match kind {
        ParameterKind::Convolution => {
            assert_eq!(shape.len(), 4, "a convolution's weight has four axes, not the shape {shape:?}");
            formula_values(k, count, (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt())
        }
        ParameterKind::NormWeight => formula_values(k, count, 1.0).iter().map(|x| 1.0 + 0.1 * x).collect(),
        ParameterKind::NormBias => formula_values(k, count, 1.0).iter().map(|x| 0.1 * x).collect(),
    };
    GoldenTensor::new(values, shape)
}

/// The numbers an operation's output is weighted with in the `ops` files: those of k = the sum of the name's bytes.
pub fn formula_weighting(name: &str, shape: &[usize]) -> GoldenTensor {
    let k = name.bytes().map(u32::from).sum();
    GoldenTensor::new(formula_values(k, shape.iter().product(), 1.0), shape)
}

/// 2-norm of `got - right` over that of `right`; absolute where that is zero; infinite for different lengths.
pub fn relative_error(got: &[f32], right: &[f32]) -> f64 {
    if got.len() != right.len() {
        return f64::INFINITY;
    }
    let off = norm(got.iter().zip(right).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let all = norm(right.iter().map(|b| f64::from(*b)));
    if all > 0.0 { off / all } else { off }
}

/// The share of values that are further than `tolerance` from theirs, or not numbers; all of them for different
/// lengths.
pub fn share_beyond(got: &[f32], right: &[f32], tolerance: f32) -> f64 {
    if got.len() != right.len() {
        return 1.0;
    }
    // Asked this way round, a NaN counts as beyond.
    let within = got.iter().zip(right).filter(|(a, b)| (*a - *b).abs() <= tolerance).count();
    1.0 - within as f64 / got.len().max(1) as f64
}

/// The cosine between two lists as vectors, and how far their norms' ratio is from one. Two lists of zeros are alike.
pub fn cosine_and_norm(got: &[f32], right: &[f32]) -> (f64, f64) {
    let (a, b) = (norm(got.iter().map(|x| f64::from(*x))), norm(right.iter().map(|x| f64::from(*x))));
    if got.len() != right.len() {
        return (-1.0, f64::INFINITY);
    }
    if a == 0.0 && b == 0.0 {
        return (1.0, 0.0);
    }
    let dot: f64 = got.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    (dot / (a * b), (a / b - 1.0).abs())
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Comparisons with golden values, each with its limit. [`Checks::finish`] tells of all that failed.
#[derive(Debug, Default)]
pub struct Checks {
    title: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    measure: &'static str,
    value: f64,
    limit: f64,
}

impl Line {
    fn passed(&self) -> bool {
        // A NaN has not passed.
        self.value <= self.limit
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok  " } else { "FAIL" };
        let Self { name, measure, value, limit, .. } = self;
        write!(f, "{verdict} {name:<44} {measure} {value:.2e} (limit {limit:.0e})")
    }
}

impl Checks {
    /// No comparisons yet; `title` says of what, for the message.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    /// A number that must not exceed its limit.
    pub fn at_most(&mut self, name: &str, measure: &'static str, value: f64, limit: f64) {
        self.lines.push(Line { name: name.into(), measure, value, limit });
    }

    /// A smooth stage: relative error in the 2-norm at most 5e-5.
    pub fn smooth(&mut self, name: &str, got: &[f32], right: &[f32]) {
        self.relative(name, got, right, 5e-5);
    }

    /// Relative error in the 2-norm at most `limit`.
    pub fn relative(&mut self, name: &str, got: &[f32], right: &[f32], limit: f64) {
        self.at_most(name, "relative error", relative_error(got, right), limit);
    }

    /// Behind the rasteriser, where a pixel at a silhouette may flip from rounding: at least 99.5 % of the values
    /// within 1e-4.
    pub fn behind_rasteriser(&mut self, name: &str, got: &[f32], right: &[f32]) {
        self.at_most(name, "share beyond 1e-4", share_beyond(got, right, 1e-4), 5e-3);
    }

    /// A gradient through the rasteriser: cosine above 0.999, norm within 1 %.
    pub fn gradient(&mut self, name: &str, got: &[f32], right: &[f32]) {
        let (cosine, norm) = cosine_and_norm(got, right);
        self.at_most(name, "1 - cosine", 1.0 - cosine, 1e-3);
        self.at_most(name, "norm off by", norm, 1e-2);
    }

    /// Every comparison, one a line.
    pub fn table(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// How many comparisons were made.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// `Ok` if everything is within its limit.
    ///
    /// # Errors
    /// The comparisons that are not, one a line.
    pub fn finish(&self) -> Result<(), String> {
        let failed: Vec<String> =
            self.lines.iter().filter(|line| !line.passed()).map(ToString::to_string).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let (failures, all) = (failed.len(), self.lines.len());
        Err(format!(
            "{}: {failures} of {all} comparisons out of tolerance\n{}",
            self.title,
            failed.join("\n")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_numbers_it_gave_elsewhere() {
        // Computed by the numpy form of the formula in bench/pytorch/check.py.
        assert_eq!(formula_values(0, 3, 1.0), [0.052337952, -0.94684815, 0.8260957]);
        assert_eq!(formula_values(1000, 3, 1.0), [-0.6541767, 0.15191917, 0.5388092]);
        // The product wraps around at 2^32.
        assert_eq!(formula_values(7, 1_000_001, 0.5)[1_000_000], -0.4481486);
    }

    #[test]
    fn the_formulas_parameters_are_those_adam_moved() {
        // After one step of Adam every parameter is its beginning plus or minus at most the learning rate, 1e-4.
        let sets = sets_in(&Path::new(ASSETS).join("golden"), "step_").unwrap();
        assert_eq!(sets.len(), 2);
        for set in &sets {
            let base: u32 = set.metadata("lcg_base").unwrap().parse().unwrap();
            let first = formula_parameter(base, &[64, 3, 4, 4], ParameterKind::Convolution);
            let norm_weight = formula_parameter(base + 1, &[64], ParameterKind::NormWeight);
            let norm_bias = formula_parameter(base + 2, &[64], ParameterKind::NormBias);
            let places = [("0.weight", first), ("1.weight", norm_weight), ("1.bias", norm_bias)];
            for (place, before) in places {
                let after = set.tensor(&format!("paramhead1.netD.network.{place}")).unwrap();
                let moved = after.values.iter().zip(&before.values).map(|(a, b)| (a - b).abs());
                assert!(moved.clone().all(|by| by < 1.001e-4), "{} {place}", set.name());
                assert!(moved.sum::<f32>() > 0.0, "{} {place} did not move", set.name());
            }
        }
    }

    #[test]
    fn layouts_go_there_and_back() {
        let first = GoldenTensor::new((0..24).map(|x| x as f32).collect(), &[2, 3, 2, 2]);
        let last = first.channels_last();
        assert_eq!(last.shape(), [2, 2, 2, 3].into());
        // Image 1, row 0, column 1: channels 0, 1, 2 at 12 + 1 + 4 * channel.
        assert_eq!(last.data()[15..18], [13.0, 17.0, 21.0]);
        assert_eq!(GoldenTensor::channels_first(&last), first);
        let flat = GoldenTensor::new(vec![1.0, 2.0], &[2]);
        assert_eq!(GoldenTensor::channels_first(&flat.channels_last()), flat);
    }

    #[test]
    fn a_packed_set_is_read_as_the_plain_one() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.5f32, -2.25e-7, 3e9, 0.1];
        let plain: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let planes: Vec<u8> = (0..4).flat_map(|plane| plain.iter().skip(plane).step_by(4).copied()).collect();
        let file = |data: &[u8], key: &str| {
            let view = TensorView::new(Dtype::F32, vec![2, 2], data).unwrap();
            let metadata = HashMap::from([(key.to_owned(), "4".to_owned())]);
            safetensors::serialize([("x", view)], Some(metadata)).unwrap()
        };
        std::fs::write(folder.path().join("step_a.safetensors"), file(&plain, "batch")).unwrap();
        let packed = std::fs::File::create(folder.path().join("step_b.planes.gz")).unwrap();
        let mut packer = flate2::write::GzEncoder::new(packed, flate2::Compression::best());
        std::io::Write::write_all(&mut packer, &file(&planes, "byte_planes")).unwrap();
        packer.finish().unwrap();

        let sets = sets_in(folder.path(), "step_").unwrap();
        assert_eq!(
            sets.iter().map(GoldenSet::name).collect::<Vec<_>>(),
            ["step_a.safetensors", "step_b.planes.gz"]
        );
        for set in &sets {
            assert_eq!(set.tensor("x").unwrap(), &GoldenTensor::new(values.to_vec(), &[2, 2]));
        }
        assert_eq!(sets[0].metadata("batch").unwrap(), "4");
        assert!(sets_in(folder.path(), "ops").unwrap().is_empty());
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(sets_in(&path.join("nowhere"), "ops").unwrap_err().to_string().contains("nowhere"));
        assert!(matches!(sets_in(path, "ops"), Err(GoldenError::Empty(_))));
        std::fs::write(path.join("ops.planes.gz"), b"not gzip").unwrap();
        assert!(sets_in(path, "ops").unwrap_err().to_string().contains("ops.planes.gz"));
        std::fs::write(path.join("ops.planes.gz"), b"").unwrap();
        std::fs::write(path.join("step_x.safetensors"), b"short").unwrap();
        assert!(sets_in(path, "step_").unwrap_err().to_string().contains("step_x.safetensors"));

        let set = &sets_in(&Path::new(ASSETS).join("golden"), "ops").unwrap()[0];
        assert!(set.tensor("nonsense").unwrap_err().to_string().contains("nonsense"));
        assert!(set.metadata("lcg_base").is_err());
    }

    #[test]
    fn half_and_low_bits_make_the_weights() {
        let bytes = vgg_weights().unwrap();
        let file = SafetensorsFile::open(&bytes).unwrap();
        assert_eq!(file.names().count(), 14);
        assert_eq!(file.numbers("conv3_3.weight").unwrap().1, [256, 256, 3, 3]);
        let (first, _) = file.numbers("conv1_1.weight").unwrap();
        let first: [f32; 4] = std::array::from_fn(|i| first[i]);
        // The first numbers of the original f32 file.
        let right = [0.42947057, 0.373467, -0.06136011, 0.27476987];
        assert!(relative_error(&first, &right) < 4e-6);
        assert!(right.iter().any(|&x| f32::from(f16::from_f32(x)) != x));
    }

    #[test]
    fn comparisons_see_what_is_off() {
        assert_eq!(relative_error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert!((relative_error(&[3.0, 4.5], &[3.0, 4.0]) - 0.1).abs() < 1e-9);
        assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
        assert_eq!(share_beyond(&[1.0, f32::NAN, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.1], 1e-4), 0.5);
        let (cosine, norm) = cosine_and_norm(&[2.0, 0.0], &[1.0, 0.0]);
        assert_eq!((cosine, norm), (1.0, 1.0));
        assert_eq!(cosine_and_norm(&[0.0, 0.0], &[0.0, 0.0]), (1.0, 0.0));

        let mut checks = Checks::new("two numbers");
        checks.smooth("same", &[1.0], &[1.0]);
        checks.finish().unwrap();
        checks.smooth("other", &[1.0], &[1.1]);
        checks.behind_rasteriser("not a number", &[f32::NAN], &[1.0]);
        checks.gradient("none", &[0.0], &[1.0]);
        checks.smooth("short", &[1.0], &[1.0, 2.0]);
        let message = checks.finish().unwrap_err();
        // A gradient of zero has no direction: its cosine is NaN, which must not pass.
        assert!(message.starts_with("two numbers: 5 of 6 comparisons"), "{message}");
        assert!(!message.contains("same") && message.contains("FAIL other"), "{message}");
    }
}
