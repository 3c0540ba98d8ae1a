//! What the emulator says when a kernel or its host is wrong. Each mistake is made in a process of its own.

mod cuda;
use cuda::{Buffer, Module, start};
use cudarc::driver::{result, sys};
use std::process::Command;

/// Makes one mistake; returns how the next waiting call ended.
type Mistake = fn() -> Result<(), sys::CUresult>;

/// Launches `k(float* p, int n)` with 64 floats, one block of 64 threads unless said otherwise, and waits.
fn launch(body: &str, blocks: u32, threads: u32, shared: u32) -> Result<(), sys::CUresult> {
    let module = Module::new(&format!(
        "extern \"C\" __global__ void k(float* p, int n) {{ int t = threadIdx.x; {body} }}"
    ));
    let p = Buffer::from(&[0f32; 64]);
    module.function("k").launch_on(
        std::ptr::null_mut(),
        (blocks, 1, 1),
        (threads, 1, 1),
        shared,
        &[&p.pointer, &64i32],
    )?;
    result::ctx::synchronize().map_err(|e| e.0)
}

/// Name, mistake, part of the message, and the error if the process lives to see one.
const MISTAKES: [(&str, Mistake, &str, Option<sys::CUresult>); 18] = [
    (
        "writes behind",
        || {
            let module = Module::new("extern \"C\" __global__ void k(char* p) { p[100] = 1; }");
            let p = Buffer::from(&[0u8; 100]);
            module.function("k").launch(1, 1, &[&p.pointer])?;
            result::ctx::synchronize().map_err(|e| e.0)
        },
        "k left its memory: a device allocation of 100 bytes was written 0 bytes past its end",
        Some(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
    ),
    (
        "writes before",
        || launch("p[t - 1] = 1;", 1, 1, 0),
        "was written 1 bytes before its start",
        Some(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
    ),
    (
        "reads far behind",
        || launch("p[0] = p[n + t];", 1, 64, 0),
        "kernel k, block (0, 0, 0), thread (0, 0, 0) touches memory that is not its own: 0 bytes past the end of a device \
         allocation of 256 bytes",
        None,
    ),
    (
        "uses what was freed",
        || {
            let module = Module::new("extern \"C\" __global__ void k(float* p) { p[3] = 1; }");
            let p = Buffer::from(&[0f32; 64]);
            let pointer = p.pointer;
            drop(p);
            module.function("k").launch(1, 1, &[&pointer])?;
            result::ctx::synchronize().map_err(|e| e.0)
        },
        "byte 12 of a device allocation of 256 bytes that has been freed",
        None,
    ),
    (
        "leaves a shared array",
        || launch("__shared__ float s[8][9]; s[t / 9][t % 10] = 1; p[t] = s[0][0];", 1, 64, 0),
        "thread (9, 0, 0) leaves an array",
        None,
    ),
    (
        "leaves dynamic shared memory",
        || launch("extern __shared__ float s[]; s[t] = 1; __syncthreads(); p[t] = s[0];", 1, 64, 252),
        "wrote past the end of its dynamic shared memory of 252 bytes",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ),
    (
        "divides by zero",
        || launch("p[t] = n / t;", 1, 64, 0),
        "thread (0, 0, 0) divides an integer by zero",
        None,
    ),
    (
        "misaligns",
        || {
            launch("*(float4*)(p + t) = make_float4(1, 2, 3, 4);", 1, 1, 0)
                .and_then(|()| launch("*(float4*)(p + t + 2) = make_float4(1, 2, 3, 4);", 1, 1, 0))
        },
        "an address that is not aligned to its type",
        None,
    ),
    ("shifts too far", || launch("p[t] = 1u << (n / 2);", 1, 1, 0), "shifts by too much", None),
    (
        "waits for lanes that do not come",
        || launch("if (t < 8) p[t] = __shfl_sync(0xffffu, p[t], 0); else __syncthreads();", 1, 64, 0),
        "can never end",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ),
    (
        "names other lanes",
        || launch("p[t] = __ballot_sync(0xff00u, 1);", 1, 64, 0),
        "lane 0 calls a warp primitive with mask 0000ff00, which does not name it",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ),
    (
        "traps",
        || launch("if (t == 7) __trap(); p[t] = 0;", 1, 64, 0),
        "kernel k, block (0, 0, 0), thread (7, 0, 0): __trap",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ),
    (
        "asserts",
        || launch("assert(t < 5);", 1, 64, 0),
        "thread (5, 0, 0): assertion `t < 5` failed",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED),
    ),
    (
        "has too many threads",
        || launch("", 1, 1025, 0),
        "cannot launch a grid of (1, 1, 1) blocks of (1025, 1, 1) threads",
        Some(sys::CUresult::CUDA_ERROR_INVALID_VALUE),
    ),
    (
        "wants too much shared memory",
        || launch("", 1, 1, 60_000),
        "with 60000 bytes of dynamic shared memory (49152 allowed)",
        Some(sys::CUresult::CUDA_ERROR_INVALID_VALUE),
    ),
    (
        "breaks its bounds",
        || {
            let module = Module::new("extern \"C\" __global__ void __launch_bounds__(2 * 32, 4) k() {}");
            module.function("k").launch(1, 65, &[])
        },
        "65 threads, but its __launch_bounds__ say 64",
        Some(sys::CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES),
    ),
    (
        "copies too much",
        || {
            let p = Buffer::<u8>::new(10);
            // SAFETY: refused.
            unsafe { result::memcpy_htod_sync(p.pointer + 4, &[0u8; 7]) }.map_err(|e| e.0)
        },
        "cuMemcpyHtoD: 7 bytes at byte 4 of an allocation of 10 bytes",
        Some(sys::CUresult::CUDA_ERROR_INVALID_VALUE),
    ),
    (
        "runs out of memory",
        // SAFETY: refused.
        || unsafe { result::malloc_sync(2 << 20) }.map(|_| ()).map_err(|e| e.0),
        "cuMemAlloc: 2097152 bytes wanted",
        Some(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY),
    ),
];

const VARIABLE: &str = "RELIEVO_EMULATOR_MISTAKE";

#[test]
fn mistakes_are_named() {
    if start().is_none() {
        return;
    }
    for (name, _, message, error) in MISTAKES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "makes_the_mistake", "--nocapture", "--ignored"])
            .env(VARIABLE, name)
            .env("RELIEVO_EMULATOR_MEMORY", (1 << 20).to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(message), "{name}: {said}");
        assert_eq!(output.status.success(), error.is_some(), "{name}: {said}");
    }
}

#[test]
#[ignore = "makes one of the mistakes, in a process of its own"]
fn makes_the_mistake() {
    let Ok(wanted) = std::env::var(VARIABLE) else { return };
    let Some(()) = start() else { return };
    let (_, mistake, _, error) = MISTAKES.into_iter().find(|(name, ..)| *name == wanted).unwrap();
    assert_eq!(mistake().err(), error);
}

/// Races that hide when threads run in order: each reads what another one has not yet written.
#[test]
fn missing_barriers_show() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"extern "C" __global__ void up(int* p) {
            __shared__ int s[64];
            s[threadIdx.x] = threadIdx.x;
            p[threadIdx.x] = s[threadIdx.x ^ 1];
        }
        extern "C" __global__ void reuse(int* p) {
            __shared__ int s[64];
            s[threadIdx.x] = threadIdx.x;
            __syncthreads();
            int v = s[threadIdx.x ^ 1];
            s[threadIdx.x] = 1000;
            p[threadIdx.x] = v;
        }"#,
    );
    let expected: Vec<i32> = (0..64).map(|i| i ^ 1).collect();
    for name in ["up", "reuse"] {
        let p = Buffer::<i32>::new(64);
        let right = (0..4).filter(|_| {
            module.function(name).launch(1, 64, &[&p.pointer]).unwrap();
            p.read() == expected
        });
        assert_eq!(right.count(), 0, "{name}");
    }
}
