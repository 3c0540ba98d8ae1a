//! Every kernel compiles for the GPUs that can run it. Skipped where NVRTC is not installed.

use relievo_tensor::DataType;
use relievo_tensor::testing::assert_kernels_compile;

#[test]
fn every_kernel_compiles() {
    assert_kernels_compile(&relievo_fit::kernels(), &[DataType::F32]);
}
