//! Every kernel compiles, for every type and for the GPUs that can run it. Skipped where NVRTC is not installed.

use relievo_tensor::DataType;
use relievo_tensor::cuda::compile_check;
use relievo_tensor::ops::kernels;

#[test]
fn every_kernel_compiles() {
    for kernels in kernels() {
        for data_type in [DataType::F32, DataType::Bf16] {
            for capability in [(8, 0), (9, 0)] {
                match compile_check(kernels, data_type, capability) {
                    Some(Ok(size)) => assert!(size > 1000, "{}: only {size} bytes", kernels.name),
                    Some(Err(message)) => panic!("{message}"),
                    None => {
                        println!("skipped: NVRTC is not installed (pip install nvidia-cuda-nvrtc)");
                        return;
                    }
                }
            }
        }
    }
}
