//! Every kernel compiles, for every type and for the GPUs that can run it. Skipped where NVRTC is not installed.

use relievo_tensor::DataType;
use relievo_tensor::ops::kernels;
use relievo_tensor::testing::assert_kernels_compile;

#[test]
fn every_kernel_compiles() {
    assert_kernels_compile(
        &[kernels(), relievo_tensor::cuda::kernels()].concat(),
        &[DataType::F32, DataType::Bf16],
    );
}
