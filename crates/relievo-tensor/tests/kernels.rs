//! Every kernel compiles, for every type and for the GPUs that can run it. Skipped where NVRTC is not installed.

use relievo_tensor::DataType;
use relievo_tensor::differences::assert_kernels_compile;
use relievo_tensor::ops::kernels;

#[test]
fn every_kernel_compiles() {
    assert_kernels_compile(&kernels(), &[DataType::F32, DataType::Bf16]);
}
