//! Streams, events, graphs: what happens when, and what is refused.

mod cuda;
use cuda::{Buffer, Function, Module, start};
use cudarc::driver::{result, sys};
use std::sync::{Mutex, MutexGuard};

/// A capture in one thread forbids calls in the others: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn stream() -> sys::CUstream {
    result::stream::create(result::stream::StreamKind::NonBlocking).unwrap()
}

fn event() -> sys::CUevent {
    result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).unwrap()
}

const MODE: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
const FLAGS: sys::CUgraphInstantiate_flags =
    sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;

fn kernels() -> (Function, Function) {
    let module = Module::new(
        r#"extern "C" __global__ void add(int* p, int v, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) p[i] += v;
        }
        extern "C" __global__ void twice(const int* from, int* to, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) to[i] = 2 * from[i];
        }"#,
    );
    (module.function("add"), module.function("twice"))
}

#[test]
fn a_graph_runs_when_launched_and_not_before() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, twice) = kernels();
    let n = 1000i32;
    let (a, b) = (Buffer::from(&[1i32; 1000]), Buffer::from(&[5i32; 1000]));
    let stream = stream();
    // SAFETY: everything lives to the end of the test.
    unsafe {
        result::stream::begin_capture(stream, MODE).unwrap();
        result::memset_d8_async(a.pointer, 0, 4000, stream).unwrap();
        let grid = ((n as u32).div_ceil(128), 1, 1);
        let three = 3i32;
        add.launch_on(stream, grid, (128, 1, 1), 0, &[&a.pointer, &three, &n]).unwrap();
        twice.launch_on(stream, grid, (128, 1, 1), 0, &[&a.pointer, &b.pointer, &n]).unwrap();
        let graph = result::stream::end_capture(stream).unwrap();
        assert_eq!((a.read()[0], b.read()[999]), (1, 5));
        let graph = result::graph::instantiate(graph, FLAGS).unwrap();
        for _ in 0..3 {
            result::memset_d8_async(b.pointer, 0, 4000, stream).unwrap();
            result::graph::launch(graph, stream).unwrap();
            result::stream::synchronize(stream).unwrap();
            assert_eq!((a.read(), b.read()), (vec![3; 1000], vec![6; 1000]));
        }
    }
}

/// Two branches, joined or not. The second launch of a graph takes another order that the dependencies allow.
#[test]
fn a_graph_keeps_the_dependencies_of_its_streams() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, twice) = kernels();
    let (a, b) = (Buffer::from(&[1i32]), Buffer::from(&[0i32]));
    let (main, side) = (stream(), stream());
    let (one, n) = (1i32, 1i32);
    let shape = ((1, 1, 1), (1, 1, 1));
    // SAFETY: everything lives to the end of the test.
    unsafe {
        let capture = |fork_waits: bool, joins: bool| {
            result::stream::begin_capture(main, MODE).unwrap();
            let begin = event();
            result::event::record(begin, main).unwrap();
            add.launch_on(main, shape.0, shape.1, 0, &[&a.pointer, &one, &n]).unwrap();
            let added = event();
            result::event::record(added, main).unwrap();
            let wait = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(side, if fork_waits { added } else { begin }, wait).unwrap();
            twice.launch_on(side, shape.0, shape.1, 0, &[&a.pointer, &b.pointer, &n]).unwrap();
            if joins {
                let done = event();
                result::event::record(done, side).unwrap();
                result::stream::wait_event(main, done, wait).unwrap();
            }
            result::stream::end_capture(main)
        };
        let results = |graph| {
            let graph = result::graph::instantiate(graph, FLAGS).unwrap();
            let mut seen = vec![];
            for _ in 0..2 {
                a.write(&[1i32]);
                result::graph::launch(graph, main).unwrap();
                result::stream::synchronize(main).unwrap();
                seen.push(b.read()[0]);
            }
            seen
        };
        assert_eq!(results(capture(true, true).unwrap()), [4, 4]);
        assert_eq!(results(capture(false, true).unwrap()), [4, 2], "the missing dependency shows");
        assert_eq!(capture(true, false).unwrap_err().0, sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    }
}

#[test]
fn calls_that_synchronise_spoil_a_capture() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, _) = kernels();
    let a = Buffer::from(&[1i32]);
    let stream = stream();
    let (one, n) = (1i32, 1i32);
    let unsupported = sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    // SAFETY: everything lives to the end of the test.
    unsafe {
        let calls: [&dyn Fn() -> Result<(), result::DriverError>; 5] = [
            &|| result::stream::synchronize(stream),
            &|| result::ctx::synchronize(),
            &|| result::malloc_sync(16).map(|_| ()),
            &|| result::memcpy_dtoh_sync(&mut [0i32], a.pointer),
            &|| result::memcpy_htod_async(a.pointer, &[3i32], stream),
        ];
        for call in calls {
            result::stream::begin_capture(stream, MODE).unwrap();
            add.launch_on(stream, (1, 1, 1), (1, 1, 1), 0, &[&a.pointer, &one, &n]).unwrap();
            assert_eq!(call().unwrap_err().0, unsupported);
            assert_eq!(
                result::stream::end_capture(stream).unwrap_err().0,
                sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
            );
        }
    }
    assert_eq!(a.read(), [1]);
}

#[test]
fn work_happens_only_when_waited_for() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, _) = kernels();
    let a = Buffer::from(&[1i32]);
    let stream = stream();
    let (one, n) = (1i32, 1i32);
    // SAFETY: everything lives to the end of the test.
    unsafe {
        let pinned = result::malloc_host(4, 0).unwrap().cast::<i32>();
        add.launch_on(stream, (1, 1, 1), (1, 1, 1), 0, &[&a.pointer, &one, &n]).unwrap();
        result::memcpy_dtoh_async(std::slice::from_raw_parts_mut(pinned, 1), a.pointer, stream).unwrap();
        assert_eq!(*pinned, -1, "not yet: a host that does not wait reads what was there");
        let done = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
        result::event::record(done, stream).unwrap();
        assert_eq!(result::event::query(done).unwrap_err().0, sys::CUresult::CUDA_ERROR_NOT_READY);
        result::event::synchronize(done).unwrap();
        assert_eq!(*pinned, 2);
        result::free_host(pinned.cast()).unwrap();
    }
}

/// CUDA promises of an asynchronous copy from pageable memory that it *may* be synchronous, no more.
#[test]
fn an_asynchronous_copy_reads_pageable_memory_late_and_a_synchronous_one_arrives_late() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let a = Buffer::from(&[1i32]);
    let stream = stream();
    // SAFETY: everything lives to the end of the test.
    unsafe {
        let mut values = Box::new([7i32]);
        result::memcpy_htod_async(a.pointer, &*values, stream).unwrap();
        values[0] = 8;
        assert_eq!(a.read(), [1], "a copy on the legacy stream does not wait for a non-blocking one");
        result::stream::synchronize(stream).unwrap();
        assert_eq!(a.read(), [8], "the source was changed before it was read");
        let b = Buffer::from(&[0i32]);
        result::memcpy_htod_sync(a.pointer, &*values).unwrap();
        values[0] = 9;
        result::memcpy_htod_sync(a.pointer, &*values).unwrap();
        values[0] = 10;
        result::memcpy_dtod_async(b.pointer, a.pointer, 4, stream).unwrap();
        result::stream::synchronize(stream).unwrap();
        assert_eq!((b.read(), a.read()), (vec![8], vec![9]), "the other stream did not wait");
    }
}

#[test]
fn streams_wait_for_each_other_only_if_told_to() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, twice) = kernels();
    let (first, second) = (stream(), stream());
    let (one, n) = (1i32, 1i32);
    let shape = ((1, 1, 1), (1, 1, 1));
    // SAFETY: everything lives to the end of the test.
    unsafe {
        for (waits, expected) in [(true, 4), (false, 2)] {
            let (a, b) = (Buffer::from(&[1i32]), Buffer::from(&[0i32]));
            add.launch_on(first, shape.0, shape.1, 0, &[&a.pointer, &one, &n]).unwrap();
            if waits {
                let done = event();
                result::event::record(done, first).unwrap();
                let wait = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
                result::stream::wait_event(second, done, wait).unwrap();
            }
            twice.launch_on(second, shape.0, shape.1, 0, &[&a.pointer, &b.pointer, &n]).unwrap();
            result::stream::synchronize(second).unwrap();
            assert_eq!(b.read(), [expected]);
        }
        // The legacy stream and blocking streams wait for each other by themselves.
        let a = Buffer::from(&[1i32]);
        let blocking = result::stream::create(result::stream::StreamKind::Default).unwrap();
        add.launch_on(blocking, shape.0, shape.1, 0, &[&a.pointer, &one, &n]).unwrap();
        twice.launch_on(std::ptr::null_mut(), shape.0, shape.1, 0, &[&a.pointer, &a.pointer, &n]).unwrap();
        add.launch_on(blocking, shape.0, shape.1, 0, &[&a.pointer, &one, &n]).unwrap();
        assert_eq!(a.read(), [5]);
    }
}

#[test]
fn an_event_inside_a_graph_tells_the_time_of_every_launch() {
    let _turn = alone();
    let Some(()) = start() else { return };
    let (add, _) = kernels();
    let (n, a) = (1000i32, Buffer::from(&[1i32; 1000]));
    let stream = stream();
    let timer = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
    let (before, after) = (timer(), timer());
    // SAFETY: everything lives to the end of the test.
    unsafe {
        result::stream::begin_capture(stream, MODE).unwrap();
        sys::cuEventRecordWithFlags(before, stream, 1).result().unwrap();
        let (grid, one) = (((n as u32).div_ceil(128), 1, 1), 1i32);
        add.launch_on(stream, grid, (128, 1, 1), 0, &[&a.pointer, &one, &n]).unwrap();
        sys::cuEventRecordWithFlags(after, stream, 1).result().unwrap();
        let graph = result::stream::end_capture(stream).unwrap();
        let graph = result::graph::instantiate(graph, FLAGS).unwrap();
        assert!(result::event::elapsed(before, after).is_err(), "nothing ran yet");
        for _ in 0..2 {
            result::graph::launch(graph, stream).unwrap();
            result::stream::synchronize(stream).unwrap();
            assert!(result::event::elapsed(before, after).unwrap() > 0.0);
        }
        assert_eq!(a.read()[0], 3);
    }
}
