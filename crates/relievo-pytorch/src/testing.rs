//! A writer of checkpoints for tests, as `torch.save` of PyTorch 1.4 (a stream) and 1.6 (an archive) writes them.

use half::{bf16, f16};
use relievo_model::Model;

/// The type of the numbers in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// `torch.float32`.
    F32,
    /// `torch.float16`.
    F16,
    /// `torch.bfloat16`.
    Bf16,
    /// `torch.float64`.
    F64,
}

impl Numbers {
    fn storage(self) -> &'static str {
        match self {
            Self::F32 => "FloatStorage",
            Self::F16 => "HalfStorage",
            Self::Bf16 => "BFloat16Storage",
            Self::F64 => "DoubleStorage",
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Self::F64 => values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect(),
        }
    }
}

/// A checkpoint that is being written: its pickle, and the numbers of its storages.
pub struct CheckpointWriter {
    pickle: Vec<u8>,
    /// Type, how many numbers, their bytes.
    storages: Vec<(Numbers, usize, Vec<u8>)>,
}

impl Default for CheckpointWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckpointWriter {
    /// A dictionary without entries.
    pub fn new() -> Self {
        Self { pickle: b"\x80\x02}".to_vec(), storages: Vec::new() }
    }

    /// The networks of a model, by the names that unsup3d has for them.
    pub fn of_model(model: &Model, numbers: Numbers) -> Self {
        let mut writer = Self::new();
        let mut rest = model.parameter_infos().iter().zip(model.parameters()).peekable();
        for (theirs, ours) in crate::import::NAMES {
            let (mut tensors, mut layer, mut part) = (Vec::new(), 0, "network");
            while let Some((info, tensor)) = rest.next_if(|(info, _)| info.name.starts_with(ours)) {
                let part_of = |name, theirs| info.name.contains(name).then_some(theirs);
                let now = part_of(".pixels.", "out_net1").or(part_of(".features.", "out_net2"));
                if now.is_some_and(|now| now != part) {
                    (part, layer) = (now.unwrap_or_default(), 0);
                }
                let name = match info.name.ends_with(".bias") {
                    true => format!("{part}.{}.bias", layer - 1),
                    false => format!("{part}.{layer}.weight"),
                };
                layer += usize::from(!info.name.ends_with(".bias"));
                tensors.push((name, tensor.shape().to_vec(), tensor.data().to_vec()));
            }
            if !tensors.is_empty() {
                writer.network(theirs, &tensors, numbers);
            }
        }
        writer
    }

    /// Adds an entry whose value is written by `value`.
    pub fn entry(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        self.text(key);
        value(self);
        self.raw(b"s");
    }

    /// Adds bytes to the pickle.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.pickle.extend(bytes);
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.raw(b"X");
        self.raw(&(text.len() as u32).to_le_bytes());
        self.raw(text.as_bytes());
    }

    /// Adds a whole number.
    pub fn int(&mut self, number: i32) {
        self.raw(b"J");
        self.raw(&number.to_le_bytes());
    }

    /// Adds the state of a network: names, shapes and elements in the model's layout, channels last.
    pub fn network(&mut self, name: &str, tensors: &[(String, Vec<usize>, Vec<f32>)], numbers: Numbers) {
        self.entry(name, |writer| {
            writer.raw(b"ccollections\nOrderedDict\n)R(");
            for (name, shape, elements) in tensors {
                writer.text(name);
                writer.parameter(shape, elements, numbers);
            }
            // As state_dict() has it: an attribute beside the entries.
            writer.raw(b"u}X\x09\0\0\0_metadataccollections\nOrderedDict\n)Rsb");
        });
    }

    /// Adds a parameter in the model's layout, channels last.
    pub fn parameter(&mut self, shape: &[usize], elements: &[f32], numbers: Numbers) {
        let &[a, height, width, b] = shape else { return self.tensor(shape, elements, numbers) };
        let mut moved = Vec::with_capacity(elements.len());
        for block in elements.chunks_exact(height * width * b) {
            moved.extend((0..b).flat_map(|channel| block.iter().skip(channel).step_by(b)));
        }
        self.tensor(&[a, b, height, width], &moved, numbers);
    }

    /// Adds a tensor whose elements lie one behind the other in a storage of its own.
    pub fn tensor(&mut self, shape: &[usize], elements: &[f32], numbers: Numbers) {
        let strides: Vec<usize> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        self.view(0, shape, &strides, elements, numbers);
    }

    /// Adds a tensor that lies in a storage of its own in the way that is given.
    pub fn view(
        &mut self,
        offset: i32,
        shape: &[usize],
        strides: &[usize],
        stored: &[f32],
        numbers: Numbers,
    ) {
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.raw(format!("ctorch\n{}\n", numbers.storage()).as_bytes());
        self.text(&self.storages.len().to_string());
        self.text("cuda:0");
        self.int(stored.len() as i32);
        self.raw(b"tQ");
        self.int(offset);
        for extents in [shape, strides] {
            self.raw(b"(");
            extents.iter().for_each(|extent| self.int(*extent as i32));
            self.raw(b"t");
        }
        self.raw(b"\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push((numbers, stored.len(), numbers.encode(stored)));
    }

    /// The checkpoint as an archive.
    pub fn archive(&self, deflated: bool) -> Vec<u8> {
        let pickle = [&*self.pickle, b"."].concat();
        let names: Vec<String> =
            (0..self.storages.len()).map(|key| format!("checkpoint030/data/{key}")).collect();
        let mut members = vec![
            ("checkpoint030/data.pkl", &*pickle, deflated, false),
            ("checkpoint030/version", b"3\n", false, false),
        ];
        members.extend(
            names
                .iter()
                .zip(&self.storages)
                .map(|(name, (.., bytes))| (name.as_str(), &**bytes, deflated, false)),
        );
        relievo_zip::testing::archive(&members, 0)
    }

    /// The checkpoint as a stream of pickles.
    pub fn stream(&self) -> Vec<u8> {
        let mut bytes = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
        bytes.extend(b"\x80\x02}X\x0d\0\0\0little_endian\x88s.");
        bytes.extend(&self.pickle);
        let mut keys = Self { pickle: b".\x80\x02](".to_vec(), storages: Vec::new() };
        (0..self.storages.len()).for_each(|key| keys.text(&key.to_string()));
        keys.raw(b"e.");
        bytes.extend(keys.pickle);
        for (_, count, numbers) in &self.storages {
            bytes.extend((*count as u64).to_le_bytes());
            bytes.extend(numbers);
        }
        bytes
    }
}
