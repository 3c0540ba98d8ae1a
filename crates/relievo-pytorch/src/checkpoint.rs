//! The two formats of `torch.save`: a zip archive, since version 1.6, and a stream of pickles before that.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use half::{bf16, f16};
use relievo_zip::{Packed, ReadAt, ReaderAt};

use crate::error::CheckpointError;
use crate::pickle::{Id, NumberType, Object, Objects, PickleError, Storage, TensorLayout};

/// The first number of a stream.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The second.
const PROTOCOL: i128 = 1001;

/// A checkpoint has at most so many times as many bytes of numbers as its file has bytes, and [`ROOM`] more: members of
/// zip archives may be compressed, and tensors may share their numbers.
const MOST_GROWTH: u64 = 20;
/// See [`MOST_GROWTH`].
const ROOM: u64 = 1 << 20;

/// An open checkpoint: its objects, and where the numbers of its tensors lie.
pub(crate) struct Checkpoint<'a, F: ?Sized> {
    file: &'a F,
    pub objects: Objects,
    numbers: Numbers,
    /// Bytes of numbers that may still be read.
    allowance: u64,
}

/// Where the numbers of storages lie, by the storages' keys.
enum Numbers {
    Zip(HashMap<String, Packed>),
    /// Where they begin and how many there are.
    Stream(HashMap<String, (u64, u64)>),
}

impl<'a, F: ReadAt + ?Sized> Checkpoint<'a, F> {
    /// Reads the objects of a checkpoint.
    ///
    /// # Errors
    /// If it cannot be read, is no checkpoint, or names anything but tensors and plain data.
    pub fn open(file: &'a F) -> Result<Self, CheckpointError> {
        let mut head = Vec::new();
        ReaderAt::new(file, 0).take(4).read_to_end(&mut head)?;
        let (objects, numbers) = match head.as_slice() {
            b"PK\x03\x04" => open_zip(file)?,
            [0x80, ..] => open_stream(file)?,
            _ => return Err(CheckpointError::OtherKind),
        };
        let allowance = file.bytes()?.saturating_mul(MOST_GROWTH).saturating_add(ROOM);
        Ok(Self { file, objects, numbers, allowance })
    }

    /// The text of an object.
    fn text(&self, id: Id) -> &str {
        match self.objects.get(id) {
            Object::Text(text) => text,
            _ => "",
        }
    }

    /// The elements of a tensor, in row-major order.
    ///
    /// # Errors
    /// Without the tensor's name: if its numbers are not there, not finite or of a type that weights do not have.
    pub fn elements(&mut self, tensor: &TensorLayout) -> Result<Vec<f32>, CheckpointError> {
        const OUTSIDE: CheckpointError = CheckpointError::Damaged("a tensor reaches beyond its numbers");
        let Object::Storage(storage) = self.objects.get(tensor.storage) else { return Err(OUTSIDE) };
        let storage = **storage;
        if matches!(storage.number_type, NumberType::Whole(_)) {
            return Err(CheckpointError::Damaged("a tensor has whole numbers"));
        }
        let count = tensor.size.iter().try_fold(1_u64, |count, extent| count.checked_mul(*extent));
        let count = count.filter(|count| *count <= storage.count).ok_or(OUTSIDE)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let steps = tensor.size.iter().zip(&tensor.strides);
        let last = steps.clone().try_fold(0_u64, |at, (extent, stride)| {
            extent.checked_sub(1)?.checked_mul(*stride)?.checked_add(at)
        });
        let end = last.and_then(|last| last.checked_add(1)?.checked_add(tensor.offset));
        let end = end.filter(|end| *end <= storage.count).ok_or(OUTSIDE)?;
        let read = self.numbers(&storage, tensor.offset, end - tensor.offset)?;
        let is_dense = is_dense(&tensor.size, &tensor.strides);
        let elements = if is_dense { read } else { gather(&read, tensor, count) };
        match elements.iter().position(|number| !number.is_finite()) {
            Some(index) => Err(CheckpointError::NonFinite { value: elements[index], index }),
            None => Ok(elements),
        }
    }

    /// `count` numbers of a storage from `begin` on.
    fn numbers(&mut self, storage: &Storage, begin: u64, count: u64) -> Result<Vec<f32>, CheckpointError> {
        const MISSING: CheckpointError = CheckpointError::Damaged("the numbers of a tensor are missing");
        let width = storage.number_type.bytes();
        let begin = storage.offset.checked_add(begin).ok_or(MISSING)?;
        let [skipped, wanted] = [begin, count].map(|count| count.checked_mul(width));
        let (skipped, wanted) = (skipped.ok_or(MISSING)?, wanted.ok_or(MISSING)?);
        let bytes = match &self.numbers {
            Numbers::Zip(members) => {
                let member = *members.get(self.text(storage.key)).ok_or(MISSING)?;
                let end = skipped.checked_add(wanted).filter(|end| *end <= member.bytes).ok_or(MISSING)?;
                self.allowance = self.allowance.checked_sub(end).ok_or(CheckpointError::Grows)?;
                let mut bytes = member.read(self.file, end)?;
                drop(bytes.drain(..skipped as usize));
                bytes
            }
            Numbers::Stream(storages) => {
                let &(at, stored) = storages.get(self.text(storage.key)).ok_or(MISSING)?;
                begin.checked_add(count).filter(|end| *end <= stored).ok_or(MISSING)?;
                let at = at.checked_add(skipped).ok_or(MISSING)?;
                at.checked_add(wanted)
                    .filter(|end| self.file.bytes().is_ok_and(|bytes| *end <= bytes))
                    .ok_or(MISSING)?;
                self.allowance = self.allowance.checked_sub(wanted).ok_or(CheckpointError::Grows)?;
                let mut bytes = vec![0; wanted as usize];
                self.file.read_at(&mut bytes, at)?;
                bytes
            }
        };
        Ok(match storage.number_type {
            NumberType::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            NumberType::Bf16 => {
                bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            NumberType::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            NumberType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            NumberType::Whole(_) => Vec::new(),
        })
    }
}

/// Whether the elements lie one behind the other, in row-major order.
fn is_dense(size: &[u64], strides: &[u64]) -> bool {
    let mut step = 1;
    size.iter().zip(strides).rev().all(|(extent, stride)| {
        let fits = *extent == 1 || *stride == step;
        step *= extent;
        fits
    })
}

/// The elements of a tensor that lies in another order, `count` of them.
fn gather(numbers: &[f32], tensor: &TensorLayout, count: u64) -> Vec<f32> {
    let element = |number: u64| {
        let mut rest = number;
        let mut at = 0;
        for (extent, stride) in tensor.size.iter().zip(&tensor.strides).rev() {
            at += rest % extent * stride;
            rest /= extent;
        }
        numbers[at as usize]
    };
    (0..count).map(element).collect()
}

fn open_zip<F: ReadAt + ?Sized>(file: &F) -> Result<(Objects, Numbers), CheckpointError> {
    const OBJECTS: &str = "data.pkl";
    let (entries, _) = relievo_zip::entries(file)?;
    let objects = entries.iter().find(|entry| {
        entry.path == OBJECTS || entry.path.strip_suffix(OBJECTS).is_some_and(|folder| folder.ends_with('/'))
    });
    let objects = objects.ok_or(CheckpointError::OtherKind)?;
    let folder = objects.path.strip_suffix(OBJECTS).unwrap_or_default().to_owned();
    let whole = |packed: &Packed| packed.read(file, packed.bytes.min(MOST_OBJECT_BYTES));
    let order = entries.iter().find(|entry| entry.path.strip_prefix(&folder) == Some("byteorder"));
    if let Some(order) = order
        && whole(&order.packed)? != b"little"
    {
        return Err(CheckpointError::BigEndian);
    }
    let objects = Objects::read(&mut whole(&objects.packed)?.as_slice())?;
    let data = format!("{folder}data/");
    let members = entries.into_iter().filter_map(|entry| {
        let key = entry.path.strip_prefix(&data)?.to_owned();
        Some((key, entry.packed))
    });
    Ok((objects, Numbers::Zip(members.collect())))
}

/// Bytes of the pickle in an archive; a longer one is read so far and then refused.
const MOST_OBJECT_BYTES: u64 = 17 << 20;

fn open_stream<F: ReadAt + ?Sized>(file: &F) -> Result<(Objects, Numbers), CheckpointError> {
    let mut input = BufReader::new(ReaderAt::new(file, 0));
    let magic = Objects::read(&mut input);
    if !magic.is_ok_and(|magic| *magic.get(magic.root) == Object::Int(MAGIC)) {
        return Err(CheckpointError::OtherKind);
    }
    let protocol = Objects::read(&mut input)?;
    if *protocol.get(protocol.root) != Object::Int(PROTOCOL) {
        return Err(CheckpointError::OtherKind);
    }
    let machine = Objects::read(&mut input)?;
    if machine.entry(machine.get(machine.root), "little_endian") == Some(&Object::Bool(false)) {
        return Err(CheckpointError::BigEndian);
    }
    let objects = Objects::read(&mut input)?;
    let keys = Objects::read(&mut input)?;
    let Object::List(ids) = keys.get(keys.root) else {
        return Err(CheckpointError::Damaged("the list of its numbers is missing"));
    };
    let types = objects.storage_types();
    let mut at = input.get_ref().position() - input.buffer().len() as u64;
    let mut storages = HashMap::new();
    for id in ids {
        let Object::Text(key) = keys.get(*id) else {
            return Err(CheckpointError::Damaged("a key in the list of its numbers is no text"));
        };
        let number_type = types.get(&**key).ok_or(CheckpointError::Damaged("it has numbers of no tensor"))?;
        let mut count = [0; 8];
        file.read_at(&mut count, at)?;
        let count = u64::from_le_bytes(count);
        at += 8;
        storages.insert(key.to_string(), (at, count));
        let end = count.checked_mul(number_type.bytes()).and_then(|bytes| at.checked_add(bytes));
        at = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    }
    Ok((objects, Numbers::Stream(storages)))
}

impl From<PickleError> for CheckpointError {
    fn from(error: PickleError) -> Self {
        match error {
            PickleError::Io(error) => error.into(),
            PickleError::Refused(name) => Self::Refused(name),
            PickleError::Damaged(what) => Self::Damaged(what),
            PickleError::TooLarge => Self::TooManyObjects,
        }
    }
}
