//! Reverse-mode differentiation: operations are recorded as they run, and the tape is played backwards.
//!
//! A tensor knows its place on a tape (its node), so the same code runs with and without a tape. Values are numbered; a
//! record holds the numbers of an operation's inputs and outputs and the tensors that the operation saved. Playing
//! backwards consumes the records from the last to the first, so saved tensors are freed as soon as they were used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cuda::{Cost, ForkedStreams, Pass, cost_of, current_stream, marked};
use crate::ops::add_into;
use crate::{Device, Error, Result, Tensor};

/// An operation with a derivative. Its fields are its parameters; forward and backward share them.
pub trait Operation: Send + 'static {
    /// The name used in error messages.
    fn name(&self) -> &'static str;

    /// Computes the outputs, and saves in `context` the tensors that [`Operation::backward`] needs.
    ///
    /// # Errors
    /// If the inputs' shapes do not fit.
    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>>;

    /// The gradients of the inputs, in their order, given those of the outputs; `None` where none is wanted.
    ///
    /// # Errors
    /// As [`Operation::forward`].
    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>>;

    /// Floating-point operations of [`Operation::forward`], two for each multiply-add; 0 if it is bound by memory.
    fn flops(&self, _: &[&Tensor]) -> f64 {
        0.0
    }

    /// [`Operation::forward`] for inputs on a GPU, with the same checks.
    ///
    /// # Errors
    /// As [`Operation::forward`]; if the operation is not implemented for GPUs; if the GPU fails.
    fn forward_cuda(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Err(not_implemented(inputs[0].device(), self.name()))
    }

    /// [`Operation::backward`] for gradients on a GPU.
    ///
    /// # Errors
    /// As [`Operation::forward_cuda`].
    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let gradient = backward.gradients.iter().flatten().next();
        Err(not_implemented(gradient.map_or(Device::Cpu, Tensor::device), self.name()))
    }
}

fn not_implemented(device: Device, operation: &'static str) -> Error {
    Error::Device { device, detail: format!("{operation} is not implemented for this device") }
}

/// Tensors that an operation keeps between forward and backward.
pub struct Context {
    is_recording: bool,
    saved: Vec<Tensor>,
}

impl Context {
    /// Whether a backward pass may follow. If not, nothing needs to be saved.
    pub fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Keeps a tensor for the backward pass: the next of [`Backward::saved`].
    pub fn save(&mut self, tensor: &Tensor) {
        if self.is_recording {
            // Off the tape: the tape owns the record, and a record that owned the tape would never be freed.
            self.saved.push(tensor.detach());
        }
    }
}

/// The inputs of [`Operation::backward`].
pub struct Backward<'a> {
    /// The tensors that forward saved, in order.
    pub saved: &'a [Tensor],
    /// The gradient of each output; `None` where the loss does not depend on it.
    pub gradients: &'a [Option<Tensor>],
    wanted: &'a [bool],
}

impl Backward<'_> {
    /// Whether the gradient of input `index` is needed.
    pub fn wants(&self, index: usize) -> bool {
        self.wanted[index]
    }

    /// The gradient of the only output. It always exists: an operation is skipped if the loss depends on none of its
    /// outputs.
    ///
    /// # Panics
    /// If the operation has several outputs and the loss does not depend on the first.
    pub fn gradient(&self) -> &Tensor {
        self.gradients[0].as_ref().expect("a single-output operation is played only with its gradient")
    }
}

/// A place on a tape.
#[derive(Clone)]
pub(crate) struct Node {
    tape: Tape,
    id: usize,
}

/// A recording of operations. Clones share it.
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Recording>>);

#[derive(Default)]
struct Recording {
    records: Vec<Record>,
    /// How many values have been numbered.
    values: usize,
    /// The values whose gradients are kept: those watched, and those of [`Tape::retain`].
    retained: Vec<usize>,
}

struct Record {
    operation: Box<dyn Operation>,
    saved: Vec<Tensor>,
    inputs: Vec<Option<usize>>,
    first_output: usize,
    outputs: usize,
    /// The forked stream of the GPU that it ran on, or 0.
    stream: usize,
    /// [`Operation::flops`] of its forward pass.
    flops: f64,
}

impl Record {
    /// The gradients of the inputs. Frees the saved tensors.
    fn play(self, gradients: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        let wanted: Vec<bool> = self.inputs.iter().map(Option::is_some).collect();
        let backward = Backward { saved: &self.saved, gradients: &gradients, wanted: &wanted };
        let device = gradients.iter().flatten().map(Tensor::device).find(|device| *device != Device::Cpu);
        let found = match device {
            None => self.operation.backward(&backward)?,
            Some(device) => {
                let run = || self.operation.backward_cuda(&backward);
                // As much again for the gradient of each factor.
                let flops = self.flops * wanted.iter().take(2).filter(|wanted| **wanted).count() as f64;
                marked(device.ordinal(), self.operation.name(), Pass::Backward, run, |found| {
                    let found = found.iter().flatten();
                    let given = cost_of(self.saved.iter().chain(gradients.iter().flatten()));
                    Cost { flops, bytes: given.bytes + cost_of(found).bytes }
                })?
            }
        };
        debug_assert_eq!(found.len(), self.inputs.len(), "{}", self.operation.name());
        Ok(found)
    }
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same tensor as a variable of this tape: operations on it are recorded, and [`Tape::backward`] computes its
    /// gradient.
    pub fn watch(&self, tensor: &Tensor) -> Tensor {
        let mut recording = self.recording();
        let id = recording.values;
        recording.values += 1;
        recording.retained.push(id);
        drop(recording);
        let mut variable = tensor.detach();
        variable.node = Some(Node { tape: self.clone(), id });
        variable
    }

    /// Keeps the gradient of an intermediate value, too.
    pub fn retain(&self, tensor: &Tensor) {
        if let Some(node) = &tensor.node {
            self.recording().retained.push(node.id);
        }
    }

    /// Plays the tape backwards from `loss` (gradient one for each of its elements) and empties it.
    ///
    /// # Errors
    /// If `loss` was not computed from a value of this tape.
    pub fn backward(&self, loss: &Tensor) -> Result<Gradients> {
        let seed = Tensor::full_on(loss.device(), loss.shape(), 1.0)?;
        self.backward_from(&[(loss, seed)])
    }

    /// Plays the tape backwards from several values with the given gradients, and empties it.
    ///
    /// # Errors
    /// If a value was not computed from one of this tape, or its gradient has another shape.
    pub fn backward_from(&self, seeds: &[(&Tensor, Tensor)]) -> Result<Gradients> {
        let Recording { mut records, values, retained } = std::mem::take(&mut *self.recording());
        // Numbers continue, so that a tensor recorded before cannot be mistaken for one recorded later.
        self.recording().values = values;
        let mut live = Gradients { by_id: HashMap::new() };
        for (value, gradient) in seeds {
            let node =
                value.node.as_ref().filter(|node| Arc::ptr_eq(&node.tape.0, &self.0)).ok_or_else(|| {
                    Error::Tape(
                        "backward from a tensor that was not computed from a value of this tape".into(),
                    )
                })?;
            live.accumulate(node.id, gradient.detach(), value)?;
        }
        let mut kept = Gradients { by_id: HashMap::new() };
        let mut streams = ForkedStreams::on(seeds.first().and_then(|(value, _)| value.device().ordinal()))?;
        // The stream that wrote a gradient, for those written since streams were forked.
        let mut writers: HashMap<usize, usize> = HashMap::new();
        while let Some(record) = records.pop() {
            let stream = record.stream;
            let ids = record.first_output..record.first_output + record.outputs;
            if stream == 0 {
                streams.join()?;
                writers.clear();
            }
            let gradients: Vec<_> = ids.clone().map(|id| live.by_id.remove(&id)).collect();
            for (id, gradient) in ids.zip(&gradients) {
                if let Some(gradient) = gradient.as_ref().filter(|_| retained.contains(&id)) {
                    kept.by_id.insert(id, gradient.clone());
                }
            }
            if gradients.iter().all(Option::is_none) {
                continue;
            }
            let inputs = record.inputs.clone();
            let found = streams.run(stream, || record.play(gradients))?;
            for (id, gradient) in inputs.into_iter().zip(found) {
                let (Some(id), Some(gradient)) = (id, gradient) else { continue };
                // A sum that another stream began is continued after all streams have joined.
                if stream != 0 && live.by_id.contains_key(&id) && writers.get(&id) != Some(&stream) {
                    streams.join()?;
                    writers.clear();
                    live.add(id, gradient)?;
                } else {
                    streams.run(stream, || live.add(id, gradient))?;
                    writers.insert(id, stream);
                }
            }
        }
        streams.join()?;
        // The rest belongs to values that no operation computed: the watched ones.
        kept.by_id.extend(live.by_id);
        Ok(kept)
    }
}

/// The gradients of a tape's tensors.
pub struct Gradients {
    by_id: HashMap<usize, Tensor>,
}

impl Gradients {
    /// The gradient of a watched or retained tensor; `None` where the loss does not depend on it.
    pub fn get(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.by_id.get(&tensor.node.as_ref()?.id)
    }

    /// Takes the gradient out, so that it can be written to without a copy.
    pub fn take(&mut self, tensor: &Tensor) -> Option<Tensor> {
        self.by_id.remove(&tensor.node.as_ref()?.id)
    }

    fn accumulate(&mut self, id: usize, gradient: Tensor, value: &Tensor) -> Result<()> {
        if gradient.shape() != value.shape() {
            let detail =
                format!("a gradient of shape {} for a value of shape {}", gradient.shape(), value.shape());
            return Err(Error::shape("backward", detail));
        }
        self.add(id, gradient)
    }

    fn add(&mut self, id: usize, gradient: Tensor) -> Result<()> {
        match self.by_id.entry(id) {
            std::collections::hash_map::Entry::Occupied(mut sum) => {
                let run = || add_into(sum.get_mut(), &gradient);
                // The sum is read and written.
                let cost = |(): &()| cost_of([&gradient; 3]);
                marked(gradient.device().ordinal(), "sum of gradients", Pass::Backward, run, cost)?;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(gradient);
            }
        }
        Ok(())
    }
}

/// Runs an operation, and records it if one of its inputs is on a tape.
///
/// # Errors
/// Those of the operation, or if the inputs are on different tapes.
pub fn apply(operation: impl Operation, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut tape: Option<&Tape> = None;
    for node in inputs.iter().filter_map(|input| input.node.as_ref()) {
        if tape.is_some_and(|tape| !Arc::ptr_eq(&tape.0, &node.tape.0)) {
            return Err(Error::Tape(format!("{}: the inputs are on different tapes", operation.name())));
        }
        tape = Some(&node.tape);
    }
    let mut context = Context { is_recording: tape.is_some(), saved: Vec::new() };
    let device = inputs.first().map_or(Device::Cpu, |input| input.device());
    if let Some(other) = inputs.iter().map(|input| input.device()).find(|other| *other != device) {
        let detail = format!("{}: inputs on {device} and on {other}", operation.name());
        return Err(Error::Device { device, detail });
    }
    let flops = operation.flops(inputs);
    let mut outputs = match device {
        Device::Cpu => operation.forward(inputs, &mut context)?,
        Device::Cuda(_) => {
            let run = || operation.forward_cuda(inputs, &mut context);
            marked(device.ordinal(), operation.name(), Pass::Forward, run, |outputs| Cost {
                flops,
                ..cost_of(inputs.iter().copied().chain(outputs))
            })?
        }
    };
    if let Some(tape) = tape {
        let mut recording = tape.recording();
        let first_output = recording.values;
        recording.values += outputs.len();
        recording.records.push(Record {
            operation: Box::new(operation),
            saved: context.saved,
            inputs: inputs.iter().map(|input| input.node.as_ref().map(|node| node.id)).collect(),
            first_output,
            outputs: outputs.len(),
            stream: current_stream(device.ordinal()),
            flops,
        });
        drop(recording);
        for (index, output) in outputs.iter_mut().enumerate() {
            output.node = Some(Node { tape: tape.clone(), id: first_output + index });
        }
    }
    Ok(outputs)
}

/// [`apply`] for operations with one output.
///
/// # Errors
/// As [`apply`].
pub fn apply_one(operation: impl Operation, inputs: &[&Tensor]) -> Result<Tensor> {
    let mut outputs = apply(operation, inputs)?;
    debug_assert_eq!(outputs.len(), 1);
    Ok(outputs.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = x^2.
    struct Square;
    impl Operation for Square {
        fn name(&self) -> &'static str {
            "square"
        }
        fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
            context.save(inputs[0]);
            let squares: Vec<f32> = inputs[0].data().iter().map(|x| x * x).collect();
            Ok(vec![Tensor::new(&squares, inputs[0].shape())?])
        }
        fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
            let pairs = backward.saved[0].data().iter().zip(backward.gradient().data());
            let gradient: Vec<f32> = pairs.map(|(x, g)| 2.0 * x * g).collect();
            Ok(vec![Some(Tensor::new(&gradient, backward.saved[0].shape())?)])
        }
    }

    #[test]
    fn gradients_of_shared_values_add_up() {
        let tape = Tape::new();
        let x = tape.watch(&Tensor::new(&[3.0, -1.0], [2]).unwrap());
        let square = apply_one(Square, &[&x]).unwrap();
        tape.retain(&square);
        let fourth = apply_one(Square, &[&square]).unwrap();
        let ones = || Tensor::full([2], 1.0);
        // d(x^4 + x^2)/dx = 4 x^3 + 2 x
        let gradients = tape.backward_from(&[(&fourth, ones()), (&square, ones())]).unwrap();
        assert_eq!(gradients.get(&x).unwrap().data(), [114.0, -6.0]);
        assert_eq!(gradients.get(&square).unwrap().data(), [19.0, 3.0]);
    }

    #[test]
    fn without_a_tape_nothing_is_recorded() {
        let square = apply_one(Square, &[&Tensor::scalar(2.0)]).unwrap();
        assert!(!square.is_recorded());
        assert!(Tape::new().backward(&square).is_err());
    }

    #[test]
    fn tapes_do_not_mix() {
        let (a, b) = (Tape::new(), Tape::new());
        let x = apply_one(Square, &[&a.watch(&Tensor::scalar(2.0))]).unwrap();
        assert!(b.backward(&x).is_err());
    }
}
