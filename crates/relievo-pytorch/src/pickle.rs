//! Python's pickles (the module `pickletools` of CPython lists the opcodes), as PyTorch writes them.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine calls nothing. It knows
//! plain data, the few names that stand for tensors, and one class of the original programs whose content it drops;
//! every other name is an error. What it makes lies in one list and refers by number, so that no nesting, however deep,
//! is walked or dropped by recursion. One file holds the whole machine: it is to be read in one piece by whoever checks that
//! nothing is run.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// A pickle has at most so many bytes. That of a checkpoint with Adam's state and the metrics of 200 epochs has less
/// than one million; numbers of tensors lie elsewhere.
const MOST_BYTES: u64 = 16 << 20;

/// Objects on the stack, in the memo and in all.
const MOST_OBJECTS: usize = 1 << 19;

/// The number of an object in [`Objects`].
pub(crate) type Id = u32;

/// The type of the numbers in a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberType {
    F16,
    Bf16,
    F32,
    F64,
    /// Whole numbers and truth values, of so many bytes each.
    Whole(u8),
}

impl NumberType {
    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Whole(bytes) => bytes.into(),
        }
    }
}

/// Numbers that lie elsewhere in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Storage {
    pub key: Id,
    pub number_type: NumberType,
    /// How many numbers it has.
    pub count: u64,
    /// Where it begins in the storage of that key, in numbers: old files have views of storages.
    pub offset: u64,
}

/// A tensor: how its elements lie in a storage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorLayout {
    pub storage: Id,
    /// The first element.
    pub offset: u64,
    pub size: Vec<u64>,
    /// Numbers from one element to the next along each axis.
    pub strides: Vec<u64>,
}

/// A name of Python's that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(NumberType),
    /// The original programs' list of metrics, which is of no use here.
    MetricsTrace,
}

impl Global {
    fn from_name(module: &str, name: &str) -> Option<Self> {
        use NumberType::{Bf16, F16, F32, F64, Whole};
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "HalfStorage") => Self::Storage(F16),
            ("torch", "BFloat16Storage") => Self::Storage(Bf16),
            ("torch", "FloatStorage") => Self::Storage(F32),
            ("torch", "DoubleStorage") => Self::Storage(F64),
            ("torch", "BoolStorage" | "ByteStorage" | "CharStorage") => Self::Storage(Whole(1)),
            ("torch", "ShortStorage") => Self::Storage(Whole(2)),
            ("torch", "IntStorage") => Self::Storage(Whole(4)),
            ("torch", "LongStorage") => Self::Storage(Whole(8)),
            ("unsup3d.meters" | "meters", "MetricsTrace") => Self::MetricsTrace,
            _ => return None,
        })
    }
}

/// An object of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Text(Box<str>),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<TensorLayout>),
    /// An instance of [`Global::MetricsTrace`].
    Dropped,
}

/// Why a pickle cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PickleError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it names {0}, which is neither a tensor nor plain data")]
    Refused(String),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("its list of objects has more than {MOST_OBJECTS} entries or {} MiB", MOST_BYTES >> 20)]
    TooLarge,
}

use PickleError::Damaged;

/// What a pickle holds.
#[derive(Debug)]
pub(crate) struct Objects {
    all: Vec<Object>,
    pub root: Id,
}

impl Objects {
    pub fn get(&self, id: Id) -> &Object {
        &self.all[id as usize]
    }

    /// The value of a text key in a dictionary; the last one if there are several, as in Python.
    pub fn entry(&self, dict: &Object, key: &str) -> Option<&Object> {
        let Object::Dict(entries) = dict else { return None };
        let (_, value) = entries
            .iter()
            .rev()
            .find(|(id, _)| matches!(self.get(*id), Object::Text(text) if **text == *key))?;
        Some(self.get(*value))
    }

    /// The types of all storages, by their keys.
    pub fn storage_types(&self) -> HashMap<&str, NumberType> {
        let types = self.all.iter().filter_map(|object| {
            let Object::Storage(storage) = object else { return None };
            let Object::Text(key) = self.get(storage.key) else { return None };
            Some((&**key, storage.number_type))
        });
        types.collect()
    }

    /// Reads one pickle; `input` then stands behind it.
    ///
    /// # Errors
    /// If it is damaged, too large, or names anything that is not known.
    pub fn read(input: &mut impl BufRead) -> Result<Self, PickleError> {
        let mut machine = Machine {
            input: input.take(MOST_BYTES),
            all: vec![Object::None],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        };
        let root = machine.run();
        // What ends at the limit is not cut short.
        match root {
            Err(PickleError::Io(_)) if machine.input.limit() == 0 => Err(PickleError::TooLarge),
            root => Ok(Self { root: root?, all: machine.all }),
        }
    }
}

/// The state of reading: all objects, the stack, the marks in it, and the objects that were given a number.
struct Machine<R> {
    input: io::Take<R>,
    all: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries of lists that became dictionaries.
    copied: usize,
}

impl<R: BufRead> Machine<R> {
    /// Runs to the end of the pickle; gives the object on top of the stack.
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            let [opcode] = self.exact()?;
            match opcode {
                b'.' => return self.pop(),
                b'\x80' => self.skip(1)?,
                b'\x95' => self.skip(8)?,
                b'(' => self.mark()?,
                b'0' => drop(self.pop_or_mark()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let top = *self.top()?;
                    self.push_id(top)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                b'\x93' => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.global(&module, &name)?;
                }
                b'R' => self.reduce()?,
                b'\x81' => self.new_object()?,
                b'b' => self.build()?,
                b'Q' => self.persistent()?,
                _ => self.data(opcode)?,
            }
        }
    }

    /// The opcodes of plain data.
    fn data(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'N' => self.push_id(0),
            b'\x88' => self.push(Object::Bool(true)),
            b'\x89' => self.push(Object::Bool(false)),
            b'J' => {
                let number = i32::from_le_bytes(self.exact()?);
                self.push(Object::Int(number.into()))
            }
            b'K' => {
                let [number] = self.exact()?;
                self.push(Object::Int(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.exact()?);
                self.push(Object::Int(number.into()))
            }
            b'I' | b'L' => self.decimal(),
            b'\x8a' => {
                let [length] = self.exact()?;
                self.long(length.into())
            }
            b'\x8b' => {
                let length = u32::from_le_bytes(self.exact()?);
                self.long(length.into())
            }
            b'F' => {
                self.line()?;
                self.push(Object::Float)
            }
            b'G' => {
                self.skip(8)?;
                self.push(Object::Float)
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.exact()?);
                self.text(length.into())
            }
            b'\x8c' | b'U' => {
                let [length] = self.exact()?;
                self.text(length.into())
            }
            b'\x8d' => {
                let length = u64::from_le_bytes(self.exact()?);
                self.text(length)
            }
            b'V' => {
                let line = self.line()?;
                self.push(Object::Text(line.into()))
            }
            b'C' => {
                let [length] = self.exact()?;
                self.skip(length.into())?;
                self.push(Object::Bytes)
            }
            b'B' => {
                let length = u32::from_le_bytes(self.exact()?);
                self.skip(length.into())?;
                self.push(Object::Bytes)
            }
            _ => self.container(opcode),
        }
    }

    /// The opcodes of tuples, lists, dictionaries and of the memo.
    fn container(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b')' => self.push(Object::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))
            }
            b'\x85'..=b'\x87' => {
                let first = self.stack.len().checked_sub(usize::from(opcode - b'\x84'));
                let items = self.stack.split_off(first.ok_or(UNDERFLOW)?);
                self.push(Object::Tuple(items))
            }
            b']' => self.push(Object::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Object::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
                Ok(())
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.list()?.extend(items);
                Ok(())
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(pairs(&items)?))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.push((key, value));
                Ok(())
            }
            b'u' => {
                let items = pairs(&self.pop_to_mark()?)?;
                self.dict()?.extend(items);
                Ok(())
            }
            b'q' => {
                let [number] = self.exact()?;
                self.put(number.into())
            }
            b'r' => {
                let number = u32::from_le_bytes(self.exact()?);
                self.put(number)
            }
            b'p' => {
                let number = self.number()?;
                self.put(number)
            }
            b'\x94' => self.put(u32::try_from(self.memo.len()).map_err(|_| PickleError::TooLarge)?),
            b'h' => {
                let [number] = self.exact()?;
                self.remember(number.into())
            }
            b'j' => {
                let number = u32::from_le_bytes(self.exact()?);
                self.remember(number)
            }
            b'g' => {
                let number = self.number()?;
                self.remember(number)
            }
            _ => Err(Damaged("it has an unknown instruction")),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let shown = || format!("{module}.{name}").chars().take(200).collect();
        let global = Global::from_name(module, name).ok_or_else(|| PickleError::Refused(shown()))?;
        self.push(Object::Global(global))
    }

    /// What would be a call.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Object::Tuple(arguments), &Object::Global(global)) =
            (self.object(arguments).clone(), self.object(function))
        else {
            return Err(Damaged("it calls what is no function"));
        };
        let result = match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => Object::Dict(Vec::new()),
            (Global::OrderedDict, [pairs]) => self.ordered(*pairs)?,
            (Global::Size, [sizes]) => return self.push_id(*sizes),
            (Global::RebuildParameter, [tensor, ..]) => return self.push_id(*tensor),
            (Global::RebuildTensor, [storage, offset, size, strides, ..]) => {
                let (Object::Storage(_), Object::Tuple(size), Object::Tuple(strides)) =
                    (self.object(*storage), self.object(*size), self.object(*strides))
                else {
                    return Err(NO_TENSOR);
                };
                if size.len() != strides.len() || size.len() > MOST_AXES {
                    return Err(NO_TENSOR);
                }
                let numbers = |ids: &[Id]| ids.iter().map(|id| self.extent(*id)).collect::<Result<_, _>>();
                let (size, strides) = (numbers(size)?, numbers(strides)?);
                let (storage, offset) = (*storage, self.extent(*offset)?);
                Object::Tensor(Box::new(TensorLayout { storage, offset, size, strides }))
            }
            _ => return Err(Damaged("a call has other arguments than PyTorch writes")),
        };
        self.push(result)
    }

    /// The argument of an ordered dictionary: a list of pairs.
    fn ordered(&mut self, pairs: Id) -> Result<Object, PickleError> {
        const NO_PAIRS: PickleError = Damaged("a dictionary is made of something else than pairs");
        let Object::List(pairs) = self.object(pairs) else { return Err(NO_PAIRS) };
        let pair = |pair: &Id| match self.object(*pair) {
            Object::List(pair) | Object::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(NO_PAIRS),
        };
        let dict = pairs.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        // One list could be copied many times.
        self.copied += dict.len();
        if self.copied > MOST_OBJECTS { Err(PickleError::TooLarge) } else { Ok(Object::Dict(dict)) }
    }

    /// What would be a new instance of a class.
    fn new_object(&mut self) -> Result<(), PickleError> {
        let (_arguments, class) = (self.pop()?, self.pop()?);
        let made = match self.object(class) {
            Object::Global(Global::MetricsTrace) => Object::Dropped,
            Object::Global(Global::OrderedDict) => Object::Dict(Vec::new()),
            _ => return Err(Damaged("it makes an object of what is no class")),
        };
        self.push(made)
    }

    /// Attributes of an object; nothing that is used here has any that matter.
    fn build(&mut self) -> Result<(), PickleError> {
        let (_state, object) = (self.pop()?, *self.top()?);
        match self.object(object) {
            Object::Dict(_) | Object::Dropped | Object::Tensor(_) => Ok(()),
            _ => Err(Damaged("it gives attributes to what has none")),
        }
    }

    /// A reference to numbers elsewhere in the file: ("storage", type, key, device, count, view).
    fn persistent(&mut self) -> Result<(), PickleError> {
        const NO_STORAGE: PickleError = Damaged("a reference to numbers is not as PyTorch writes it");
        let reference = self.pop()?;
        let Object::Tuple(parts) = self.object(reference) else { return Err(NO_STORAGE) };
        let &[kind, number_type, key, _device, count, ref view @ ..] = parts.as_slice() else {
            return Err(NO_STORAGE);
        };
        let (Object::Text(kind), &Object::Global(Global::Storage(number_type)), Object::Text(_)) =
            (self.object(kind), self.object(number_type), self.object(key))
        else {
            return Err(NO_STORAGE);
        };
        if **kind != *"storage" {
            return Err(NO_STORAGE);
        }
        let mut storage = Storage { key, number_type, count: self.extent(count)?, offset: 0 };
        // Old files name the view of a storage that a tensor has.
        if let Some(Object::Tuple(view)) = view.first().map(|view| self.object(*view)) {
            let &[_key, offset, count] = view.as_slice() else { return Err(NO_STORAGE) };
            (storage.offset, storage.count) = (self.extent(offset)?, self.extent(count)?);
        }
        self.push(Object::Storage(Box::new(storage)))
    }

    fn extent(&self, id: Id) -> Result<u64, PickleError> {
        match self.object(id) {
            Object::Int(number) => u64::try_from(*number).map_err(|_| NO_TENSOR),
            _ => Err(NO_TENSOR),
        }
    }

    /// A whole number as text; with an L behind it if it is long, and 00 or 01 for a truth value.
    fn decimal(&mut self) -> Result<(), PickleError> {
        let line = self.line()?;
        let number = line.trim_end_matches('L').parse().map_err(|_| Damaged("a number is none"))?;
        self.push(Object::Int(number))
    }

    /// A whole number in so many bytes.
    fn long(&mut self, length: u64) -> Result<(), PickleError> {
        let bytes = self.bytes(length)?;
        let sign = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
        let mut whole = [sign; size_of::<i128>()];
        whole.get_mut(..bytes.len()).ok_or(Damaged("a number is too long"))?.copy_from_slice(&bytes);
        self.push(Object::Int(i128::from_le_bytes(whole)))
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let bytes = self.bytes(length)?;
        let text = String::from_utf8(bytes).map_err(|_| Damaged("a text is not UTF-8"))?;
        self.push(Object::Text(text.into()))
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes; memory grows as they are read.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, PickleError> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> Result<(), PickleError> {
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if skipped < length { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }

    /// To the end of the line, without it.
    fn line(&mut self) -> Result<String, PickleError> {
        const MOST: u64 = 4096;
        let mut line = Vec::new();
        self.input.by_ref().take(MOST).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(Damaged("a line does not end"));
        }
        String::from_utf8(line).map_err(|_| Damaged("a text is not UTF-8"))
    }

    /// A line with the number of an object in the memo.
    fn number(&mut self) -> Result<u32, PickleError> {
        self.line()?.parse().map_err(|_| Damaged("a number is none"))
    }

    fn object(&self, id: Id) -> &Object {
        &self.all[id as usize]
    }

    fn push(&mut self, object: Object) -> Result<(), PickleError> {
        if self.all.len() >= MOST_OBJECTS {
            return Err(PickleError::TooLarge);
        }
        self.all.push(object);
        self.push_id(self.all.len() as Id - 1)
    }

    fn push_id(&mut self, id: Id) -> Result<(), PickleError> {
        if self.stack.len() >= MOST_OBJECTS {
            return Err(PickleError::TooLarge);
        }
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<&Id, PickleError> {
        self.stack.last().ok_or(UNDERFLOW)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        self.stack.pop().ok_or(UNDERFLOW)
    }

    fn pop_text(&mut self) -> Result<Box<str>, PickleError> {
        let id = self.pop()?;
        match self.object(id) {
            Object::Text(text) => Ok(text.clone()),
            _ => Err(Damaged("a name is no text")),
        }
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        if self.marks.len() >= MOST_OBJECTS {
            return Err(PickleError::TooLarge);
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// What was pushed since the last mark.
    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    /// The object on top, or a mark.
    fn pop_or_mark(&mut self) -> Result<(), PickleError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn list(&mut self) -> Result<&mut Vec<Id>, PickleError> {
        let id = *self.top()?;
        match &mut self.all[id as usize] {
            Object::List(list) => Ok(list),
            _ => Err(Damaged("it appends to what is no list")),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Id, Id)>, PickleError> {
        let id = *self.top()?;
        match &mut self.all[id as usize] {
            Object::Dict(dict) => Ok(dict),
            _ => Err(Damaged("it sets a key of what is no dictionary")),
        }
    }

    fn put(&mut self, number: u32) -> Result<(), PickleError> {
        if self.memo.len() >= MOST_OBJECTS {
            return Err(PickleError::TooLarge);
        }
        let top = *self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Result<(), PickleError> {
        let id =
            self.memo.get(&number).copied().ok_or(Damaged("it refers to an object that is not there"))?;
        self.push_id(id)
    }
}

const UNDERFLOW: PickleError = Damaged("an instruction lacks its arguments");
const NO_TENSOR: PickleError = Damaged("a tensor is not as PyTorch writes it");

/// Axes of a tensor.
const MOST_AXES: usize = 8;

/// Keys and values that follow each other.
fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err(UNDERFLOW)
    }
}
