//! Tensors that a scene has elsewhere: cameras and lights are a few numbers, and may stay on the CPU.

use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply_one};

use super::tables::send_small;

/// The tensor on a device; its gradient goes back to where it was.
///
/// # Errors
/// If a device is missing, out of memory, or fails.
pub(crate) fn on_device(tensor: &Tensor, device: Device) -> Result<Tensor> {
    match tensor.device() == device {
        true => Ok(tensor.clone()),
        false => apply_one(OnDevice { from: tensor.device(), to: device }, &[tensor]),
    }
}

/// Applies an operation on a few numbers that have to be looked at on the host anyway, wherever they are. The result is
/// where the first input is.
///
/// # Errors
/// Those of the operation, or if a device fails.
pub(crate) fn on_host(operation: impl Operation, inputs: &[&Tensor]) -> Result<Tensor> {
    let here = inputs.iter().map(|input| on_device(input, Device::Cpu)).collect::<Result<Vec<_>>>()?;
    on_device(&apply_one(operation, &here.iter().collect::<Vec<_>>())?, inputs[0].device())
}

struct OnDevice {
    from: Device,
    to: Device,
}

fn copy(tensor: &Tensor, device: Device) -> Result<Tensor> {
    match (tensor.device(), device) {
        (Device::Cpu, Device::Cuda(_)) => send_small(tensor, device),
        _ => tensor.to_device(device),
    }
}

impl Operation for OnDevice {
    fn name(&self) -> &'static str {
        "on_device"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(vec![copy(inputs[0], self.to)?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(copy(backward.gradient(), self.from)?)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.forward(inputs, context)
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.backward(backward)
    }
}
