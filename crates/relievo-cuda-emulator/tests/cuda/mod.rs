//! Just enough of a host program: a context, buffers, kernels from source.
#![allow(dead_code, reason = "every test program uses a part")]

use cudarc::driver::{result, sys};
use cudarc::nvrtc;
use std::ffi::{CString, c_void};

/// The emulator with its context current, or `None` where there is no C++ compiler.
pub fn start() -> Option<()> {
    relievo_cuda_emulator::test_emulator()?;
    result::init().unwrap();
    let device = result::device::get(0).unwrap();
    // SAFETY: the device is there; the context is never released.
    unsafe {
        let context = result::primary_ctx::retain(device).unwrap();
        result::ctx::set_current(context).unwrap();
    }
    Some(())
}

pub fn compile(source: &str, options: &[&str]) -> Result<Vec<u8>, String> {
    let program = nvrtc::result::create_program(&CString::new(source).unwrap(), Some(c"test.cu")).unwrap();
    let options: Vec<String> =
        ["--gpu-architecture=sm_90"].iter().chain(options).map(|s| s.to_string()).collect();
    // SAFETY: the program lives until it is destroyed below.
    unsafe {
        let compiled = nvrtc::result::compile_program(program, &options);
        let image = match compiled {
            Ok(()) => {
                let mut size = 0;
                nvrtc::sys::nvrtcGetCUBINSize(program, &mut size).result().unwrap();
                let mut image = vec![0u8; size];
                nvrtc::sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result().unwrap();
                Ok(image)
            }
            Err(_) => {
                let log = nvrtc::result::get_program_log(program).unwrap();
                Err(log.iter().map(|&c| c as u8 as char).collect())
            }
        };
        nvrtc::result::destroy_program(program).unwrap();
        image
    }
}

pub struct Module(sys::CUmodule);

impl Module {
    pub fn new(source: &str) -> Self {
        let image = compile(source, &[]).unwrap_or_else(|log| panic!("{log}"));
        // SAFETY: the image is what the compiler gave.
        Self(unsafe { result::module::load_data(image.as_ptr().cast()).unwrap() })
    }

    pub fn function(&self, name: &str) -> Function {
        // SAFETY: modules are never unloaded here.
        Function(unsafe { result::module::get_function(self.0, CString::new(name).unwrap()).unwrap() })
    }

    pub fn global(&self, name: &str) -> (sys::CUdeviceptr, usize) {
        // SAFETY: modules are never unloaded here.
        unsafe { result::module::get_global(self.0, CString::new(name).unwrap()).unwrap() }
    }
}

#[derive(Clone, Copy)]
pub struct Function(pub sys::CUfunction);

/// An argument of a kernel, as bytes.
pub trait Argument {
    fn pointer(&self) -> *mut c_void;
}
impl<T: Copy> Argument for T {
    fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

impl Function {
    pub fn launch(self, grid: u32, block: u32, arguments: &[&dyn Argument]) -> Result<(), sys::CUresult> {
        self.launch_on(std::ptr::null_mut(), (grid, 1, 1), (block, 1, 1), 0, arguments)
    }

    pub fn launch_on(
        self,
        stream: sys::CUstream,
        grid: (u32, u32, u32),
        block: (u32, u32, u32),
        shared: u32,
        arguments: &[&dyn Argument],
    ) -> Result<(), sys::CUresult> {
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|a| (**a).pointer()).collect();
        // SAFETY: the emulator copies the arguments during the call.
        unsafe { result::launch_kernel(self.0, grid, block, shared, stream, &mut pointers) }.map_err(|e| e.0)
    }
}

/// Device memory of a number of values.
pub struct Buffer<T> {
    pub pointer: sys::CUdeviceptr,
    pub length: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Copy + Default> Buffer<T> {
    pub fn new(length: usize) -> Self {
        // SAFETY: freed in drop.
        let pointer = unsafe { result::malloc_sync(length * size_of::<T>()).unwrap() };
        Self { pointer, length, kind: std::marker::PhantomData }
    }

    pub fn from(values: &[T]) -> Self {
        let buffer = Self::new(values.len());
        buffer.write(values);
        buffer
    }

    /// Overwrites the values, and waits until they are there: non-blocking streams do not wait for this copy.
    pub fn write(&self, values: &[T]) {
        assert!(values.len() <= self.length);
        // SAFETY: as long as the buffer.
        unsafe {
            result::memcpy_htod_sync(self.pointer, values).unwrap();
            result::stream::synchronize(std::ptr::null_mut()).unwrap();
        }
    }

    pub fn read(&self) -> Vec<T> {
        self.try_read().unwrap()
    }

    pub fn try_read(&self) -> Result<Vec<T>, sys::CUresult> {
        let mut values = vec![T::default(); self.length];
        // SAFETY: as long as the buffer.
        unsafe { result::memcpy_dtoh_sync(&mut values, self.pointer) }.map_err(|e| e.0)?;
        Ok(values)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in new. An error that sticks is no reason to panic.
        let _ = unsafe { result::free_sync(self.pointer) };
    }
}
