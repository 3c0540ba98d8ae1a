//! Every kernel compiles for the GPUs that can run it. Skipped where NVRTC is not installed.

use relievo_tensor::DataType;
use relievo_tensor::cuda::compile_check;

#[test]
fn every_kernel_compiles() {
    for kernels in relievo_render::kernels() {
        for capability in [(8, 0), (9, 0)] {
            match compile_check(kernels, DataType::F32, capability) {
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
