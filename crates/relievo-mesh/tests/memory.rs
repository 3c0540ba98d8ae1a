//! Memory with more than a million faces, counted by the allocator of this program: a test of its own, since everything in
//! the process counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use relievo_mesh::{Appearance, Camera, Faces, Object, Outputs, Renderer, Scene, shapes};
use relievo_tensor::{Tape, Tensor};

/// The system's allocator, with a count of the bytes in use and of the most that ever were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: f64 = (1 << 20) as f64;

/// MiB beyond what was there before, at most, while `work` runs.
fn peak(work: impl FnOnce()) -> f64 {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    (PEAK.load(Relaxed) - before) as f64 / MIB
}

/// The limits are those of docs/performance.md. They are for any number of threads.
#[test]
fn a_million_faces_need_no_more_memory_than_documented() {
    let sphere = shapes::icosphere(8);
    assert_eq!(sphere.faces.len(), 1_310_720);
    let vertices = Tensor::new(sphere.vertices.as_flattened(), [sphere.vertices.len(), 3]).unwrap();
    let object = Object { vertices, faces: Faces::new(sphere.faces), appearance: Appearance::White };
    let renderer = Renderer::new(256, 256);
    let render = |outputs: Outputs, backward: bool| {
        let tape = Tape::new();
        let mut object = object.clone();
        if backward {
            object.vertices = tape.watch(&object.vertices);
        }
        let scene = Scene::new(object, Camera::default());
        let rendered = renderer.render(&[scene], outputs).unwrap();
        if backward {
            let image = rendered.alpha.or(rendered.colour).unwrap();
            tape.backward(&image).unwrap();
        }
    };
    // Buffers of tensors are kept for the next of their size, so the least comes first.
    let tasks = [
        ("silhouette, forward", Outputs::SILHOUETTE, false, 35.0),
        ("silhouette, forward and backward", Outputs::SILHOUETTE, true, 50.0),
        ("colour, forward", Outputs::COLOUR, false, 80.0),
        ("colour, forward and backward", Outputs::COLOUR, true, 125.0),
    ];
    let start = IN_USE.load(Relaxed);
    for (what, outputs, backward, limit) in tasks {
        let kept = (IN_USE.load(Relaxed) - start) as f64 / MIB;
        let needed = kept + peak(|| render(outputs, backward));
        println!("{what}: {needed:.1} MiB beside the mesh");
        assert!(needed <= limit, "{what}: {needed:.1} MiB, {limit} are documented");
    }
}
