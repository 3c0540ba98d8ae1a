//! Adam on a GPU: a launch takes up to 64 tensors, a block 16384 elements of one of them.

use super::{AdamStep, Scalars, check_tensors};
use crate::cuda::{self, DevicePointer, Kernels, Launch, Memory, Pass, cost_of, kernel_int, marked};
use crate::transfer::UploadQueue;
use crate::{DataType, Device, Error, Result, Tensor};

/// `kernel.cu`, compiled.
pub(crate) static KERNELS: Kernels = Kernels { name: "adam", source: include_str!("kernel.cu") };

/// Tensors in a launch.
const TENSORS: usize = 64;

/// Elements of a block, and its threads; the kernels count on both.
const CHUNK: usize = 16_384;
const THREADS: usize = 256;

/// The number of `Scalars`.
const SCALARS: usize = size_of::<Scalars>() / size_of::<f32>();

/// What `State` of the kernels takes, in f32.
const STATE: usize = 8;

/// Some of the tensors. As in the kernels; pointers that a kernel does not use are null.
#[repr(C)]
#[derive(Clone, Copy)]
struct Group {
    parameters: [u64; TENSORS],
    gradients: [u64; TENSORS],
    first: [u64; TENSORS],
    second: [u64; TENSORS],
    copies: [u64; TENSORS],
    lengths: [i32; TENSORS],
    /// The block that each begins at.
    starts: [i32; TENSORS],
    /// Bit i says that gradient i is bf16.
    halves: u64,
    count: i32,
    blocks: i32,
}

/// The most a gradient may be long. As in the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Clip {
    norm: f64,
}

impl Group {
    const EMPTY: Self = Self {
        parameters: [0; TENSORS],
        gradients: [0; TENSORS],
        first: [0; TENSORS],
        second: [0; TENSORS],
        copies: [0; TENSORS],
        lengths: [0; TENSORS],
        starts: [0; TENSORS],
        halves: 0,
        count: 0,
        blocks: 0,
    };
}

/// A group, and the memory that it points to.
struct Members {
    group: Group,
    memory: Vec<Memory>,
}

impl Members {
    fn new() -> Self {
        Self { group: Group::EMPTY, memory: Vec::new() }
    }

    /// Where a tensor's memory begins; it becomes a member.
    fn pointer(&mut self, memory: Option<&Memory>) -> u64 {
        self.memory.extend(memory.cloned());
        memory.map_or(0, Memory::pointer)
    }

    /// Adds a tensor of which only the gradient is there.
    fn push(&mut self, gradient: &Tensor) -> Result<()> {
        let pointer = self.pointer(gradient.memory());
        let group = &mut self.group;
        let index = group.count as usize;
        group.gradients[index] = pointer;
        group.lengths[index] = kernel_int(gradient.numel(), "adam")?;
        group.starts[index] = group.blocks;
        if gradient.data_type() == DataType::Bf16 {
            group.halves |= 1 << index;
        }
        group.count += 1;
        group.blocks += kernel_int(blocks_of(gradient), "adam")?;
        Ok(())
    }

    /// A launch of a kernel that works on the group.
    fn launch(&self, device: Device, kernel: &'static str) -> Result<Launch> {
        let launch = cuda::launch(device, &KERNELS, kernel, DataType::F32)?;
        Ok(self.memory.iter().fold(launch, Launch::uses))
    }

    /// A block for every chunk of the group.
    fn blocks(&self) -> [usize; 3] {
        [self.group.blocks as usize, 1, 1]
    }
}

/// Blocks that a tensor is shared among.
fn blocks_of(tensor: &Tensor) -> usize {
    tensor.numel().div_ceil(CHUNK)
}

/// Groups of gradients, each with the number of blocks before it, and the number of all.
fn gradient_groups(gradients: &[Tensor]) -> Result<(Vec<(usize, Members)>, usize)> {
    let (mut groups, mut before) = (Vec::new(), 0);
    for gradients in gradients.chunks(TENSORS) {
        let mut members = Members::new();
        for gradient in gradients {
            members.push(gradient)?;
        }
        let blocks = members.group.blocks as usize;
        groups.push((before, members));
        before += blocks;
    }
    Ok((groups, before))
}

/// Groups of everything, to be written to; without copies if there are none. `owned`: a tensor that shares its buffer
/// is refused, not copied.
fn groups(
    parameters: &mut [Tensor],
    gradients: &[Tensor],
    [first, second]: [&mut [Tensor]; 2],
    copies: &mut [Option<Tensor>],
    owned: bool,
) -> Result<Vec<Members>> {
    let (groups, _) = gradient_groups(gradients)?;
    let mut groups: Vec<Members> = groups.into_iter().map(|(_, group)| group).collect();
    let moments = first.iter_mut().zip(second);
    let copies = copies.iter_mut().map(Option::as_mut).chain(std::iter::repeat_with(|| None));
    let parameters = parameters.iter_mut().zip(moments).zip(copies);
    for (index, ((parameter, (first, second)), copy)) in parameters.enumerate() {
        let (members, place) = (&mut groups[index / TENSORS], index % TENSORS);
        let mut pointer = |tensor: &mut Tensor| -> Result<u64> {
            if owned {
                check_owned(tensor, "adam", || format!("parameter {index}, a moment or a copy of it"))?;
            }
            Ok(members.pointer(tensor.memory_mut()?))
        };
        let [parameter, first, second] = [pointer(parameter)?, pointer(first)?, pointer(second)?];
        let copy = copy.map(pointer).transpose()?.unwrap_or(0);
        let group = &mut members.group;
        group.parameters[place] = parameter;
        group.first[place] = first;
        group.second[place] = second;
        group.copies[place] = copy;
    }
    Ok(groups)
}

/// Refuses a tensor that shares its memory with another one.
fn check_owned(tensor: &Tensor, operation: &'static str, what: impl FnOnce() -> String) -> Result<()> {
    if tensor.is_shared() {
        return Err(Error::shape(operation, format!("{} shares its memory with another tensor", what())));
    }
    Ok(())
}

/// The scalars of a step as a tensor in main memory.
fn scalars(rule: &AdamStep) -> Result<Tensor> {
    let Scalars {
        weight_decay,
        one_minus_beta1,
        beta2,
        one_minus_beta2,
        epsilon,
        minus_step_size,
        root_of_correction2,
    } = Scalars::new(rule);
    let all = [
        weight_decay,
        one_minus_beta1,
        beta2,
        one_minus_beta2,
        epsilon,
        minus_step_size,
        root_of_correction2,
    ];
    Tensor::new(&all, [SCALARS])
}

/// Whether copies are there for none or for all parameters, and of their shapes.
fn check_copies(device: Device, parameters: &[Tensor], copies: &[Option<Tensor>]) -> Result<()> {
    if !copies.is_empty() && copies.len() != parameters.len() {
        let detail = format!("{} copies of {} parameters", copies.len(), parameters.len());
        return Err(Error::shape("adam", detail));
    }
    for (index, (parameter, copy)) in parameters.iter().zip(copies).enumerate() {
        let fits = |copy: &Tensor| {
            copy.shape() == parameter.shape() && copy.data_type() == DataType::Bf16 && copy.device() == device
        };
        if let Some(copy) = copy.as_ref().filter(|copy| !fits(copy)) {
            let (shape, data_type, of) = (copy.shape(), copy.data_type(), copy.device());
            let detail = format!(
                "the copy of parameter {index} has the shape {shape} in {data_type:?} on {of}; it must be {} in \
                 Bf16 on {device}",
                parameter.shape()
            );
            return Err(Error::shape("adam", detail));
        }
    }
    Ok(())
}

/// A state in which nothing has happened.
fn fresh_state(device: Device) -> Result<Tensor> {
    let mut state = Tensor::empty_on(device, DataType::F32, [STATE])?;
    state.clear()?;
    Ok(state)
}

/// Moves the parameters, unless a state says that they must stay.
fn update(device: Device, groups: &[Members], scalars: &Tensor, state: Option<&Tensor>) -> Result<()> {
    for members in groups {
        members
            .launch(device, "update")?
            .structure(members.group)
            .input(scalars)
            .optional_input(state)
            .blocks(members.blocks(), THREADS)?;
    }
    Ok(())
}

/// Finds the norm and whether all is finite, and says so in the state.
fn judge(
    device: Device,
    gradients: &[Tensor],
    loss: Option<&Tensor>,
    clip_norm: f64,
    state: &mut Tensor,
) -> Result<()> {
    let (groups, blocks) = gradient_groups(gradients)?;
    // Each part is an f64.
    let mut parts = Tensor::empty_on(device, DataType::F32, [blocks, 2])?;
    for (before, members) in groups {
        members
            .launch(device, "sums_of_squares")?
            .output(&mut parts)
            .structure(members.group)
            .int(before)
            .blocks(members.blocks(), THREADS)?;
    }
    cuda::launch(device, &KERNELS, "judge", DataType::F32)?
        .output(state)
        .input(&parts)
        .int(blocks)
        .optional_input(loss)
        .structure(Clip { norm: clip_norm })
        .blocks([1, 1, 1], THREADS)?;
    Ok(())
}

/// [`AdamStep::apply`] of lists that fit.
pub(super) fn apply(
    rule: &AdamStep,
    device: Device,
    parameters: &mut [Tensor],
    gradients: &[Tensor],
    moments: [&mut [Tensor]; 2],
) -> Result<()> {
    let groups = groups(parameters, gradients, moments, &mut [], false)?;
    update(device, &groups, &scalars(rule)?.to_device(device)?, None)
}

pub(super) fn squared_norm(device: Device, tensors: &[Tensor]) -> Result<f64> {
    let mut state = fresh_state(device)?;
    judge(device, tensors, None, 0.0, &mut state)?;
    Ok(RawState::read(&state)?.squared_norm)
}

pub(super) fn scale_all(device: Device, tensors: &mut [Tensor], factor: f32) -> Result<()> {
    for tensors in tensors.chunks_mut(TENSORS) {
        let mut members = Members::new();
        for tensor in tensors {
            tensor.memory_mut()?;
            members.push(tensor)?;
        }
        members
            .launch(device, "scale")?
            .structure(members.group)
            .float(factor)
            .blocks(members.blocks(), THREADS)?;
    }
    Ok(())
}

/// [`ema_update`](super::ema_update) of lists that fit.
pub(super) fn ema_update(
    device: Device,
    tensors: &mut [Tensor],
    targets: &[Tensor],
    share: f32,
) -> Result<()> {
    let (groups, _) = gradient_groups(targets)?;
    let mut groups: Vec<Members> = groups.into_iter().map(|(_, group)| group).collect();
    for (index, tensor) in tensors.iter_mut().enumerate() {
        check_owned(tensor, "ema_update", || format!("tensor {index}"))?;
        let members = &mut groups[index / TENSORS];
        let pointer = members.pointer(tensor.memory_mut()?);
        members.group.parameters[index % TENSORS] = pointer;
    }
    let run = || -> Result<()> {
        for members in &groups {
            members
                .launch(device, "lerp")?
                .structure(members.group)
                .float(share)
                .blocks(members.blocks(), THREADS)?;
        }
        Ok(())
    };
    // The tensors are read and written, the targets read.
    marked(device.ordinal(), "ema_update", Pass::Update, run, |()| {
        cost_of(tensors.iter().chain(targets).chain(tensors.iter()))
    })
}

/// `State` of the kernels.
struct RawState {
    squared_norm: f64,
    stopped: u32,
    culprit: u32,
    taken: u32,
}

impl RawState {
    fn read(state: &Tensor) -> Result<Self> {
        let state = state.to_device(Device::Cpu)?;
        let bits = |index: usize| state.data()[index].to_bits();
        let squared_norm = f64::from_bits(u64::from(bits(0)) | u64::from(bits(1)) << 32);
        Ok(Self { squared_norm, stopped: bits(3), culprit: bits(4), taken: bits(5) })
    }
}

/// Steps of Adam that a GPU takes by itself: it clips the gradient, and stops for good at the first number that is not
/// finite. Nothing waits for the host, so [`DeviceAdam::step`] can be captured in a graph and replayed.
///
/// For every step, [`DeviceAdam::prepare`] with its rule and then [`DeviceAdam::step`], or the replay of a graph that
/// has captured it. Every now and then, [`DeviceAdam::state`].
pub struct DeviceAdam {
    device: Device,
    clip_norm: f64,
    /// The way of the scalars to the GPU, which never makes the host wait for the last step.
    upload: UploadQueue,
    /// [`Scalars`], written by the host before each step. Never shared: its address is in the graph.
    scalars: Tensor,
    /// Whether the scalars were ever written.
    prepared: bool,
    /// [`RawState`], written by the GPU.
    state: Tensor,
    /// How many blocks the gradients up to and with each have.
    ends: Vec<usize>,
}

/// What is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonFinite {
    /// The loss.
    Loss,
    /// The gradient of the parameter of this index, the first of those.
    Gradient(usize),
}

/// What a [`DeviceAdam`] has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceAdamState {
    /// Steps taken since it was made, that is, changes of the parameters.
    pub taken: u64,
    /// The norm of the last step's gradient before clipping; that at which it stopped.
    pub gradient_norm: f64,
    /// Why it stopped. Parameters and moments are as the steps before left them, however many came after.
    pub stopped: Option<NonFinite>,
}

impl DeviceAdam {
    /// Gradients longer than `clip_norm` are shortened to it, if that is above 0.
    ///
    /// # Errors
    /// If the device is no GPU or out of memory.
    pub fn new(device: Device, clip_norm: f64) -> Result<Self> {
        let Device::Cuda(ordinal) = device else {
            let detail = "an optimiser for GPUs was asked for".to_owned();
            return Err(Error::Device { device, detail });
        };
        let upload = UploadQueue::new(ordinal, [SCALARS])?;
        let scalars = Tensor::empty_on(device, DataType::F32, [SCALARS])?;
        let state = fresh_state(device)?;
        Ok(Self { device, clip_norm, upload, scalars, prepared: false, state, ends: Vec::new() })
    }

    /// Tells the GPU the numbers of the next step. They differ from step to step, so this is not part of a graph.
    ///
    /// # Errors
    /// If the step is zero or the GPU fails.
    pub fn prepare(&mut self, rule: &AdamStep) -> Result<()> {
        if rule.step == 0 {
            return Err(Error::shape("adam", "steps are counted from 1"));
        }
        self.upload.put(&scalars(rule)?)?;
        self.upload.take(&mut self.scalars)?;
        self.prepared = true;
        Ok(())
    }

    /// Queues a step as [`AdamStep::apply`] defines it, of the gradients shortened to the norm they may have. If `loss`
    /// (one f32) or a gradient is not finite, neither this step nor a later one changes anything.
    ///
    /// `copies`, an empty list or one for each parameter, are copies in bf16 that are kept like the parameters: the
    /// step writes them, too, to the same bits as [`cast`](crate::ops::cast()).
    ///
    /// # Errors
    /// If the lists or the loss do not fit, or nothing was ever prepared; if a parameter, moment or copy shares its
    /// memory with another tensor (a variable of a tape, say, that is still there): a graph would change a copy.
    pub fn step(
        &mut self,
        parameters: &mut [Tensor],
        gradients: &[Tensor],
        first: &mut [Tensor],
        second: &mut [Tensor],
        copies: &mut [Option<Tensor>],
        loss: &Tensor,
    ) -> Result<()> {
        if !self.prepared {
            return Err(Error::shape("adam", "a step that was not prepared"));
        }
        let lengths = [parameters.len(), gradients.len(), first.len(), second.len()];
        if lengths.iter().any(|length| *length != parameters.len()) {
            return Err(Error::shape("adam", format!("lists of {lengths:?} tensors")));
        }
        let device = check_tensors(parameters, gradients, [first, second])?;
        if device != self.device || loss.device() != device {
            let detail = format!("parameters on {device}, the loss on {}", loss.device());
            return Err(Error::Device { device: self.device, detail });
        }
        if loss.numel() != 1 || loss.data_type() != DataType::F32 {
            let detail = format!("a loss of shape {} and type {:?}", loss.shape(), loss.data_type());
            return Err(Error::shape("adam", detail));
        }
        check_copies(device, parameters, copies)?;
        let groups = groups(parameters, gradients, [first, second], copies, true)?;
        self.ends.clear();
        self.ends.extend(gradients.iter().scan(0, |end, gradient| {
            *end += blocks_of(gradient);
            Some(*end)
        }));
        let Self { clip_norm, scalars, state, .. } = self;
        let run = || {
            judge(device, gradients, Some(loss), *clip_norm, state)?;
            update(device, &groups, scalars, Some(state))
        };
        // Parameters and moments are read and written, copies written, gradients read for the norm and for the step.
        let twice = || parameters.iter().chain(gradients).chain(first.iter()).chain(second.iter());
        marked(device.ordinal(), "adam", Pass::Update, run, |()| {
            cost_of(twice().chain(twice()).chain(copies.iter().flatten()))
        })
    }

    /// What it has come to. Waits for the GPU.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn state(&self) -> Result<DeviceAdamState> {
        let RawState { squared_norm, stopped, culprit, taken } = RawState::read(&self.state)?;
        let stopped = match stopped {
            0 => None,
            1 => Some(NonFinite::Loss),
            _ => Some(NonFinite::Gradient(self.ends.partition_point(|end| *end <= culprit as usize))),
        };
        Ok(DeviceAdamState { taken: u64::from(taken), gradient_norm: squared_norm.sqrt(), stopped })
    }
}
