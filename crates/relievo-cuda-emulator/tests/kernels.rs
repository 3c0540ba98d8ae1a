//! Kernels of every sort, compiled and run.

mod cuda;
use cuda::{Buffer, Module, compile, start};

#[test]
fn adds_vectors() {
    let Some(()) = start() else { return };
    let add = Module::new(
        r#"extern "C" __global__ void __launch_bounds__(256)
        add(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) c[i] = a[i] + b[i];
        }"#,
    )
    .function("add");
    let n = 100_003;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
    let (a_device, b_device, c) = (Buffer::from(&a), Buffer::from(&b), Buffer::<f32>::new(n));
    assert!(c.read().iter().all(|v| v.is_nan()), "new memory is NaN");
    add.launch(n.div_ceil(256) as u32, 256, &[&a_device.pointer, &b_device.pointer, &c.pointer, &(n as i32)])
        .unwrap();
    for (i, v) in c.read().iter().enumerate() {
        assert_eq!(*v, 1.5 * i as f32);
    }
}

#[test]
fn kernels_may_have_names_of_the_c_library() {
    let Some(()) = start() else { return };
    let source = r#"extern "C" __global__ void write(int* to, int value) { *to = value; }"#;
    let to = Buffer::<i32>::new(1);
    Module::new(source).function("write").launch(1, 1, &[&to.pointer, &42i32]).unwrap();
    assert_eq!(to.read(), [42]);
}

#[test]
fn new_memory_is_nan_however_much() {
    let Some(()) = start() else { return };
    let n = 5_000_001;
    for _ in 0..2 {
        let mut buffer = Buffer::<f32>::new(n);
        assert!(buffer.read().iter().all(|v| v.is_nan()));
        buffer.length = 2000;
        // SAFETY: within the buffer.
        unsafe { cudarc::driver::result::memcpy_htod_sync(buffer.pointer, &vec![1f32; 2000]).unwrap() };
        assert_eq!(buffer.read(), [1.0; 2000]);
    }
}

#[test]
fn reduces_in_blocks_and_warps() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"
        __device__ __forceinline__ float warp_sum(float v) {
            #pragma unroll
            for (int d = 16; d; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
            return v;
        }
        // Threads past the end return early: the barrier must not wait for them.
        extern "C" __global__ void by_tree(const float* x, float* out, int n) {
            __shared__ float part[256];
            float v = 0;
            for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += x[i];
            part[threadIdx.x] = v;
            __syncthreads();
            for (int d = blockDim.x / 2; d > 0; d /= 2) {
                if (threadIdx.x < d) part[threadIdx.x] += part[threadIdx.x + d];
                __syncthreads();
            }
            if (threadIdx.x == 0) out[blockIdx.x] = part[0];
        }
        extern "C" __global__ void by_warps(const float* x, float* out, int n) {
            extern __shared__ float part[];
            float v = 0;
            for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += x[i];
            v = warp_sum(v);
            if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
            __syncthreads();
            if (threadIdx.x >= 32) return;
            v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
            v = warp_sum(v);
            if (threadIdx.x == 0) atomicAdd(out, v);
        }"#,
    );
    let n = 54_321;
    let x: Vec<f32> = (0..n).map(|i| (i % 17) as f32).collect();
    let sum: f32 = x.iter().sum();
    let x = Buffer::from(&x);
    let parts = Buffer::<f32>::new(13);
    let total = Buffer::from(&[0.0f32]);
    module.function("by_tree").launch(13, 256, &[&x.pointer, &parts.pointer, &n]).unwrap();
    assert_eq!(parts.read().iter().sum::<f32>(), sum);
    module
        .function("by_warps")
        .launch_on(std::ptr::null_mut(), (7, 1, 1), (192, 1, 1), 24, &[&x.pointer, &total.pointer, &n])
        .unwrap();
    assert_eq!(total.read()[0], sum);
}

#[test]
fn warp_primitives_give_what_cuda_gives() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"extern "C" __global__ void all(unsigned* out) {
            unsigned lane = threadIdx.x & 31, full = 0xffffffffu;
            unsigned* mine = out + 16 * threadIdx.x;
            mine[0] = __shfl_sync(full, lane * 10, 5);
            mine[1] = __shfl_up_sync(full, lane, 3);
            mine[2] = __shfl_down_sync(full, lane, 3);
            mine[3] = __shfl_xor_sync(full, lane, 9);
            mine[4] = __shfl_sync(full, lane, 1, 8);
            mine[5] = __shfl_up_sync(full, lane, 1, 4);
            mine[6] = __shfl_down_sync(full, lane, 1, 4);
            mine[7] = __ballot_sync(full, lane % 3 == 0);
            mine[8] = __any_sync(full, lane == 31) + 2 * __all_sync(full, lane < 31) + 4 * __all_sync(full, 1);
            mine[9] = __reduce_max_sync(full, lane ^ 21);
            mine[10] = (unsigned)(__shfl_sync(full, (unsigned long long)lane << 40, 7) >> 40);
            mine[11] = (unsigned)__reduce_min_sync(full, -(int)lane);
            mine[12] = 0;
            if (lane < 8) mine[12] = __ballot_sync(0xffu, lane & 1);
            else if (lane < 16) mine[12] = __ballot_sync(0xff00u, 1);
            mine[13] = __syncthreads_count(lane == 2);
            mine[14] = __match_any_sync(full, lane / 4);
            mine[15] = __activemask() >> lane & 1;
        }"#,
    );
    let threads = 96;
    let out = Buffer::<u32>::new(16 * threads);
    module.function("all").launch(1, threads as u32, &[&out.pointer]).unwrap();
    for (thread, v) in out.read().chunks(16).enumerate() {
        let lane = thread as u32 % 32;
        let halves = match lane {
            0..8 => 0xAA,
            8..16 => 0xFF00,
            _ => 0,
        };
        let expected = [
            50,
            lane.checked_sub(3).unwrap_or(lane),
            if lane + 3 < 32 { lane + 3 } else { lane },
            lane ^ 9,
            lane / 8 * 8 + 1,
            if lane % 4 >= 1 { lane - 1 } else { lane },
            if lane % 4 < 3 { lane + 1 } else { lane },
            (0..32).filter(|l| l % 3 == 0).map(|l| 1 << l).sum(),
            1 + 4,
            (0..32).map(|l| l ^ 21).max().unwrap(),
            7,
            (-31i32) as u32,
            halves,
            3,
            0xF << (lane / 4 * 4),
            1,
        ];
        assert_eq!(v, expected, "thread {thread}");
    }
}

#[test]
fn arguments_constants_and_three_dimensions() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"
        struct Shape { int b, h, w; float scale; long long offset; };
        __constant__ float table[4] = {1.0f, 2.0f, 3.0f, 4.0f};
        extern "C" __global__ void fill(const Shape s, double extra, unsigned char tag, float4* out) {
            int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, z = blockIdx.z;
            if (x >= s.w || y >= s.h) return;
            out[(z * s.h + y) * s.w + x] =
                make_float4(x + 10 * y + 100 * z, s.scale * table[x & 3], (float)extra + (float)s.offset, tag);
        }"#,
    );
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Shape {
        b: i32,
        h: i32,
        w: i32,
        scale: f32,
        offset: i64,
    }
    let shape = Shape { b: 2, h: 5, w: 7, scale: 2.0, offset: 1 << 20 };
    let out = Buffer::<[f32; 4]>::new(2 * 5 * 7);
    let launch = || {
        module
            .function("fill")
            .launch_on(std::ptr::null_mut(), (2, 3, 2), (4, 2, 1), 0, &[&shape, &0.5f64, &7u8, &out.pointer])
            .unwrap()
    };
    launch();
    let check = |table: [f32; 4]| {
        for (i, v) in out.read().iter().enumerate() {
            let (x, y, z) = (i % 7, i / 7 % 5, i / 35);
            let expected = [(x + 10 * y + 100 * z) as f32, 2.0 * table[x & 3], 0.5 + (1 << 20) as f32, 7.0];
            assert_eq!(*v, expected);
        }
    };
    check([1.0, 2.0, 3.0, 4.0]);
    let (pointer, bytes) = module.global("table");
    assert_eq!(bytes, 16);
    // SAFETY: as long as the variable.
    unsafe { cudarc::driver::result::memcpy_htod_sync(pointer, &[9.0f32, 8.0, 7.0, 6.0]).unwrap() };
    launch();
    check([9.0, 8.0, 7.0, 6.0]);
}

#[test]
fn atomics_count_every_thread() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"extern "C" __global__ void count(int* i, unsigned* u, unsigned long long* l, float* f) {
            atomicAdd(i, -1);
            atomicMax(u, blockIdx.x * blockDim.x + threadIdx.x);
            atomicMin(l, (unsigned long long)(blockIdx.x + 3) << 40 | threadIdx.x);
            atomicAdd(f, 0.25f);
            __shared__ unsigned last;
            if (threadIdx.x == 0) last = atomicInc(u + 1, gridDim.x - 1);
            __syncthreads();
            if (last == gridDim.x - 1 && threadIdx.x == 5) atomicExch(u + 2, 77u);
        }"#,
    );
    let (i, u, l, f) =
        (Buffer::from(&[0i32]), Buffer::from(&[0u32; 3]), Buffer::from(&[u64::MAX]), Buffer::from(&[0f32]));
    module.function("count").launch(100, 64, &[&i.pointer, &u.pointer, &l.pointer, &f.pointer]).unwrap();
    assert_eq!(
        (i.read(), u.read(), l.read(), f.read()),
        (vec![-6400], vec![6399, 0, 77], vec![3 << 40], vec![1600.0])
    );
}

#[test]
fn compilation_errors_come_back_with_the_line() {
    let Some(()) = start() else { return };
    let log = compile("\nextern \"C\" __global__ void k(int* p) {\n  p[0] = nothing;\n}", &[]).unwrap_err();
    assert!(log.contains("test.cu:3") && log.contains("nothing"), "{log}");
    let log = compile("#include <vector>\n", &[]).unwrap_err();
    assert!(log.contains("vector"), "{log}");
    let log = compile("\nfloat half(float x) { return 0.5f * x; }\n", &[]).unwrap_err();
    assert!(log.contains("test.cu:2") && log.contains("half"), "{log}");
    let log = compile("__device__ void f(int n) { int a[n]; a[0] = n; }", &[]).unwrap_err();
    assert!(log.contains("variable length"), "{log}");
    let log = compile("", &["--no-such-option"]).unwrap_err();
    assert!(log.contains("no-such-option"), "{log}");
    compile(
        "#if SIZE != 3\n#error\n#endif\nextern \"C\" __global__ void k() {}",
        &["-DSIZE=3", "--use_fast_math"],
    )
    .unwrap();
}

#[test]
fn intrinsics_round_as_they_say() {
    let Some(()) = start() else { return };
    let module = Module::new(
        r#"extern "C" __global__ void k(float a, float b, float* f, int* i) {
            f[0] = __fadd_rn(__fmul_rn(a, b), -1.0f);
            f[1] = fmaf(a, b, -1.0f);
            f[2] = fminf(a, __int_as_float(0x7fc00000));
            f[3] = rsqrtf(16.0f);
            i[0] = __float2int_rn(2.5f);
            i[1] = __float2int_rz(-3.7f);
            i[2] = __float2int_rd(-3.2f);
            i[3] = __float2int_rn(1e20f);
            i[4] = __clz(1) + 100 * __popc(0xff) + 10000 * __ffs(8);
            i[5] = (int)__double2ull_rn(4294967299.0);
        }"#,
    );
    let (f, i) = (Buffer::<f32>::new(4), Buffer::<i32>::new(6));
    let (a, b) = (1.0f32 + 2f32.powi(-12), 1.0f32 - 2f32.powi(-12));
    module.function("k").launch(1, 1, &[&a, &b, &f.pointer, &i.pointer]).unwrap();
    assert_eq!(f.read(), [a * b - 1.0, a.mul_add(b, -1.0), a, 0.25]);
    assert_eq!(i.read(), [2, -3, -4, i32::MAX, 40831, 3]);
}
