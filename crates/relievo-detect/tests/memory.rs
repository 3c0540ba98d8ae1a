//! The memory of a search, in a process of its own: tensors are counted for all threads.

use relievo_data::Image;
use relievo_detect::Detector;
use relievo_tensor::pool_statistics;

#[test]
fn a_search_needs_what_it_asks_the_system_for() {
    let detector = Detector::new().unwrap();
    let before = pool_statistics().bytes_held;
    let (width, height) = (2048, 2048);
    let pixels = vec![120; (width * height * 3) as usize];
    detector.faces(&Image { width, height, pixels }).unwrap();
    let needed = pool_statistics().bytes_held - before;
    // 136 bytes for each pixel of the largest part, as `BYTES_PER_PIXEL` says, and not much less.
    let asked = 136 * 1152 * 1152;
    assert!(needed <= asked && 2 * needed > asked, "{needed} bytes, asked for {asked}");
}
