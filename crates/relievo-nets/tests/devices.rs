//! The networks on a GPU against the same on the CPU: outputs and gradients, in f32 and bf16. On the GPU named by
//! RELIEVO_DEVICE if there is one, else on the emulator.

use relievo_nets::{ConfidenceNetwork, Layer, Network, ParameterInfo, Vgg, autoencoder, encoder, kernels};
use relievo_tensor::ops::{Activation, cast};
use relievo_tensor::testing::{assert_kernels_compile, distance, random_tensor};
use relievo_tensor::{ConvPolicy, DataType, Device, Result, Tape, Tensor};

/// Outputs and gradients of all inputs, fetched.
type Found = (Vec<Tensor>, Vec<Tensor>);

fn fetch(tensor: &Tensor) -> Tensor {
    tensor.to_device(Device::Cpu).unwrap()
}

/// Runs and differentiates on a device. The function is given the inputs as variables of a tape.
fn run(device: Device, inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>) -> Found {
    let tape = Tape::new();
    let variables: Vec<Tensor> =
        inputs.iter().map(|input| tape.watch(&input.to_device(device).unwrap())).collect();
    let outputs = function(&variables).unwrap_or_else(|error| panic!("{error}"));
    let seeds: Vec<(&Tensor, Tensor)> = (outputs.iter().zip(90..))
        .map(|(output, seed)| {
            let shape: [usize; 4] = output.shape().dims().unwrap();
            let seed = random_tensor(seed, shape).to_device(device).unwrap();
            (output, cast(&seed, output.data_type()).unwrap())
        })
        .collect();
    let mut gradients = tape.backward_from(&seeds).unwrap_or_else(|error| panic!("{error}"));
    let gradients = variables.iter().map(|variable| fetch(&gradients.take(variable).unwrap())).collect();
    (outputs.iter().map(fetch).collect(), gradients)
}

/// How far tensors are from those they should be, all taken together.
fn off(found: &[Tensor], right: &[Tensor]) -> f64 {
    assert_eq!(found.len(), right.len());
    let found: Vec<f32> = found.iter().flat_map(Tensor::data).copied().collect();
    let right: Vec<f64> = right.iter().flat_map(Tensor::data).map(|x| f64::from(*x)).collect();
    distance(&found, &right)
}

/// How far outputs and gradients may be from the CPU's.
type Tolerances = [(DataType, [f64; 2]); 2];

/// Of networks with ReLUs. In bf16 some of the values before one lie on the other side of its kink, where the slope is
/// another: a few in a thousand in every layer, each as wrong as can be, and the gradient has come through all layers.
const WITH_KINKS: Tolerances = [(DataType::F32, [2e-5, 1e-3]), (DataType::Bf16, [2e-2, 0.35])];

/// Of networks without.
const SMOOTH: Tolerances = [(DataType::F32, [5e-6, 5e-6]), (DataType::Bf16, [2e-2, 2e-2])];

/// Asserts that outputs, the gradient of the first input, and those of the others agree with the CPU's.
fn assert_agree(
    what: &str,
    inputs: &[Tensor],
    tolerances: Tolerances,
    function: impl Fn(&[Tensor], Device, DataType) -> Result<Vec<Tensor>>,
) {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let right = run(Device::Cpu, inputs, |inputs| function(inputs, Device::Cpu, DataType::F32));
    for (data_type, tolerance) in tolerances {
        let device = Device::Cuda(ordinal);
        let found = run(device, inputs, |inputs| function(inputs, device, data_type));
        let output = off(&found.0, &right.0);
        let first = off(&found.1[..1], &right.1[..1]);
        let others = if inputs.len() > 1 { off(&found.1[1..], &right.1[1..]) } else { 0.0 };
        let errors = format!("{what} in {data_type:?}: off by {output:.1e}, {first:.1e}, {others:.1e}");
        println!("{errors}");
        // Written so that NaN fails.
        let [of_outputs, of_gradients] = tolerance;
        assert!(output <= of_outputs && first <= of_gradients && others <= of_gradients, "{errors}");
    }
}

/// Images, then the parameters as they begin, but normalisations that do something.
fn inputs(parameters: &[ParameterInfo]) -> Vec<Tensor> {
    let begin = |info: &ParameterInfo| {
        let mut tensor = info.initialise(1);
        if info.name.contains(".norm.") {
            let noise = random_tensor(7, [tensor.numel()]);
            tensor.data_mut().iter_mut().zip(noise.data()).for_each(|(x, noise)| *x += 0.3 * noise);
        }
        tensor
    };
    std::iter::once(random_tensor(1, [2, 64, 64, 3])).chain(parameters.iter().map(begin)).collect()
}

/// Convolution weights as the type of activations, as the model does.
fn stored(parameters: &[Tensor], data_type: DataType) -> Result<Vec<Tensor>> {
    let weights = |x: &Tensor| if x.shape().len() == 4 { cast(x, data_type) } else { Ok(x.clone()) };
    parameters.iter().map(weights).collect()
}

fn assert_network_agrees(network: &Network, tolerances: Tolerances) {
    let inputs = inputs(&network.parameters());
    assert_agree("the network", &inputs, tolerances, |inputs, _, data_type| {
        let output = network.forward(&inputs[0], &stored(&inputs[1..], data_type)?, ConvPolicy::default())?;
        assert_eq!(output.data_type(), DataType::F32);
        Ok(vec![output])
    });
}

#[test]
fn autoencoders() {
    let network = autoencoder("depth", 8, 16, 1, 64, Activation::Tanh);
    assert_network_agrees(&network, WITH_KINKS);
}

#[test]
fn encoders() {
    let network = encoder("view", 8, 6, 64);
    assert_network_agrees(&network, WITH_KINKS);
}

#[test]
fn layers_without_kinks() {
    let layers = vec![
        Layer::conv(3, 8, [4, 2, 1]).norm(2).then(Activation::Tanh),
        Layer::conv(8, 16, [4, 2, 1]).norm(4).then(Activation::Tanh),
        Layer::conv(16, 32, [4, 2, 1]).then(Activation::Tanh),
        Layer::conv(32, 32, [4, 2, 1]).then(Activation::Tanh),
        Layer::conv(32, 16, [4, 1, 0]).then(Activation::Softplus),
        Layer::deconv(16, 32, [4, 1, 0]).then(Activation::Tanh),
        Layer::deconv(32, 16, [4, 2, 1]).norm(4).then(Activation::Tanh),
        Layer::conv(16, 16, [3, 1, 1]).norm(4).then(Activation::Softplus),
        Layer::UpsampleNearest,
        Layer::conv(16, 8, [3, 1, 1]).norm(2).then(Activation::Tanh),
        Layer::conv(8, 2, [5, 1, 2]),
    ];
    assert_network_agrees(&Network::new("smooth", layers), SMOOTH);
}

#[test]
fn confidence_networks() {
    let network = ConfidenceNetwork::new("confidence", [3, 2], 8, 8, 64);
    let inputs = inputs(&network.parameters());
    assert_agree("the confidence network", &inputs, WITH_KINKS, |inputs, _, data_type| {
        let (pixels, features) =
            network.forward(&inputs[0], &stored(&inputs[1..], data_type)?, ConvPolicy::default())?;
        Ok(vec![pixels, features])
    });
}

#[test]
fn features() {
    let vgg = Vgg::new().unwrap();
    let images = [random_tensor(1, [2, 16, 16, 3])];
    assert_agree("VGG", &images, WITH_KINKS, |inputs, device, data_type| {
        let features = vgg.to_device(device, data_type)?.features(&inputs[0])?;
        assert_eq!(features.data_type(), data_type);
        Ok(vec![features])
    });
    assert!(vgg.to_device(Device::Cpu, DataType::Bf16).is_err());
    let error = vgg.features(&random_tensor(1, [1, 8, 8, 4])).unwrap_err().to_string();
    assert_eq!(error, "vgg_input: needs images [B,H,W,3] of F32, got [1, 8, 8, 4] of F32");
}

#[test]
fn every_kernel_compiles() {
    assert_kernels_compile(&kernels(), &[DataType::F32, DataType::Bf16]);
}
