//! CUDA C compiled by NVRTC when it is first needed, kept on disk, and launched.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::sync::PoisonError;

use cudarc::driver::{result, sys};
use cudarc::nvrtc;

use super::{Gpu, error, libraries};
use crate::{DataType, Device, Error, Result, Tensor};

/// What every kernel file may use: `real`, loads and stores, sums over blocks.
const PRELUDE: &str = include_str!("prelude.cuh");

/// Threads of a block where nothing else is asked for.
const THREADS: usize = 256;

/// A file of kernels. It is compiled once for each type of `real` it is launched with.
pub struct Kernels {
    /// What error messages call it: the operation's name.
    pub name: &'static str,
    /// CUDA C. Kernels are `extern "C" __global__` and use no dynamic shared memory.
    pub source: &'static str,
}

/// Loaded kernels by file and type.
pub(super) type Modules = HashMap<(&'static str, DataType), Module>;

pub(super) struct Module {
    module: sys::CUmodule,
    functions: HashMap<&'static str, sys::CUfunction>,
}

/// Compiles a file of kernels for compute capability `major.minor` as [`Launch`] would, without a GPU, and gives the
/// size of the machine code in bytes; `None` where NVRTC is not installed.
///
/// # Errors
/// The compiler's messages.
pub(crate) fn compile_check(
    kernels: &Kernels,
    data_type: DataType,
    capability: (i32, i32),
) -> Option<std::result::Result<usize, String>> {
    libraries::need_nvrtc(0).ok()?;
    Some(compile_text(kernels.name, &text(kernels), &options(data_type, capability)).map(|code| code.len()))
}

/// The whole text NVRTC gets.
fn text(kernels: &Kernels) -> String {
    format!("{PRELUDE}\n#line 1 \"{}.cu\"\n{}", kernels.name, kernels.source)
}

fn options(data_type: DataType, (major, minor): (i32, i32)) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture=sm_{major}{minor}"),
        "--std=c++17".to_owned(),
        "--extra-device-vectorization".to_owned(),
    ];
    if data_type == DataType::Bf16 {
        options.push("--define-macro=REAL_IS_BF16=1".to_owned());
    }
    options
}

/// Where the machine code of a file is kept; `None` where there is no folder for such things.
fn place_in_cache(
    kernels: &Kernels,
    data_type: DataType,
    capability: (i32, i32),
) -> std::result::Result<Option<PathBuf>, String> {
    let version = version().map_err(|cause| format!("NVRTC does not tell its version: {cause:?}"))?;
    let key = cache_key(&[&text(kernels), &options(data_type, capability).join(" "), &version]);
    Ok(cache_folder().map(|folder| folder.join(format!("{}-{key}.cubin", kernels.name))))
}

fn version() -> std::result::Result<String, nvrtc::result::NvrtcError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both point to integers.
    unsafe { nvrtc::sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
    Ok(format!("{major}.{minor}"))
}

fn compile_text(name: &str, source: &str, options: &[String]) -> std::result::Result<Vec<u8>, String> {
    let failed = |what: &str| format!("NVRTC cannot {what} the kernels of {name}");
    let source = CString::new(source).map_err(|_| failed("read"))?;
    let file = CString::new(format!("{name}.cu")).map_err(|_| failed("name"))?;
    let program = nvrtc::result::create_program(&source, Some(&file)).map_err(|_| failed("take"))?;
    // SAFETY: the program was just made and is destroyed below; buffers have the sizes asked for.
    unsafe {
        let compiled = nvrtc::result::compile_program(program, options);
        let code = match compiled {
            Ok(()) => {
                let mut size = 0;
                let mut code = Vec::new();
                let mut got = nvrtc::sys::nvrtcGetCUBINSize(program, &mut size).result();
                if got.is_ok() {
                    code.resize(size, 0u8);
                    got = nvrtc::sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result();
                }
                got.map(|()| code).map_err(|cause| format!("{}: {cause:?}", failed("hand out")))
            }
            Err(_) => {
                let log = nvrtc::result::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
                Err(format!("{}:\n{}", failed("compile"), String::from_utf8_lossy(&log)))
            }
        };
        let _ = nvrtc::result::destroy_program(program);
        code
    }
}

/// Where machine code is kept: `relievo/kernels` in the user's cache folder.
pub(super) fn cache_folder() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("relievo").join("kernels"))
}

/// A name for what is compiled from these texts.
fn cache_key(parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    digest(&parts).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the parts and their lengths.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The machine code in a kept file, which begins with its digest, if nothing is missing or changed: a driver is not
/// told how long the code is that it is to load.
fn whole(kept: &[u8]) -> Option<&[u8]> {
    let (of_code, code) = kept.split_first_chunk::<32>()?;
    (*of_code == digest(&[code])).then_some(code)
}

/// Writes under another name and renames, so that a second program never reads half a file.
pub(super) fn store(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(&unfinished, path)
}

impl Gpu {
    /// A file of kernels, from the cache on disk or compiled, and loaded. It stays loaded.
    fn load(&self, kernels: &Kernels, data_type: DataType) -> Result<sys::CUmodule> {
        libraries::need_nvrtc(self.ordinal)?;
        let failed = |message: String| error(self.ordinal, message);
        let place = place_in_cache(kernels, data_type, self.capability).map_err(failed)?;
        // SAFETY: the code is a whole image, or the driver refuses it.
        let load = |code: &[u8]| unsafe { result::module::load_data(code.as_ptr().cast::<c_void>()) };
        // What was kept and is damaged is as good as not there.
        let kept = place.as_ref().and_then(|path| std::fs::read(path).ok());
        if let Some(module) = kept.as_deref().and_then(whole).and_then(|code| load(code).ok()) {
            return Ok(module);
        }
        let code = compile_text(kernels.name, &text(kernels), &options(data_type, self.capability));
        let code = code.map_err(failed)?;
        let module = load(&code).map_err(|cause| self.failed("compiled kernels cannot be loaded", cause))?;
        // The cache saves a second at the next start; a disk that is full or read-only is no reason to stop.
        if let Some(path) = place {
            let _ = store(&path, &[digest(&[&code]).as_slice(), &code].concat());
        }
        Ok(module)
    }

    /// A kernel, compiled and loaded.
    fn function(
        &self,
        kernels: &'static Kernels,
        name: &'static str,
        data_type: DataType,
    ) -> Result<sys::CUfunction> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.entry((kernels.name, data_type)) {
            std::collections::hash_map::Entry::Occupied(module) => module.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let module = self.load(kernels, data_type)?;
                place.insert(Module { module, functions: HashMap::new() })
            }
        };
        if let Some(function) = module.functions.get(name) {
            return Ok(*function);
        }
        let symbol =
            CString::new(name).map_err(|_| error(self.ordinal, format!("no kernel is called {name}")))?;
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(module.module, symbol) }
            .map_err(|cause| self.failed(name, cause))?;
        module.functions.insert(name, function);
        Ok(function)
    }
}

/// One launch of a kernel: arguments in the order of the kernel's, then [`Launch::elements`] or [`Launch::blocks`].
#[must_use]
pub struct Launch {
    gpu: &'static Gpu,
    name: &'static str,
    function: sys::CUfunction,
    /// The arguments one after the other, each at a multiple of 16 bytes.
    bytes: Vec<[u64; 2]>,
    /// Where each begins.
    starts: Vec<usize>,
    refused: Option<Error>,
}

impl Launch {
    /// The kernel `name` of a file, with `real` of the given type, on a GPU.
    ///
    /// # Errors
    /// If the device is no GPU or the kernel does not compile.
    pub fn new(
        device: Device,
        kernels: &'static Kernels,
        name: &'static str,
        data_type: DataType,
    ) -> Result<Self> {
        let Device::Cuda(ordinal) = device else {
            return Err(Error::Device { device, detail: format!("{name} is a kernel for GPUs") });
        };
        let gpu = Gpu::get(ordinal)?;
        let function = gpu.function(kernels, name, data_type)?;
        Ok(Self { gpu, name, function, bytes: Vec::new(), starts: Vec::new(), refused: None })
    }

    fn argument<T: Copy>(mut self, value: T) -> Self {
        self.starts.push(self.bytes.len());
        let slots = size_of::<T>().div_ceil(16).max(1);
        let start = self.bytes.len();
        self.bytes.resize(start + slots, [0; 2]);
        // SAFETY: the slots have room for the value and are aligned to 8 bytes, as is `T` at most.
        unsafe { self.bytes.as_mut_ptr().add(start).cast::<T>().write_unaligned(value) };
        self
    }

    fn refuse(&mut self, tensor: &Tensor) {
        if tensor.device() != Device::Cuda(self.gpu.ordinal) && self.refused.is_none() {
            let detail = format!("{}: a tensor {} is on {}", self.name, tensor.shape(), tensor.device());
            self.refused = Some(error(self.gpu.ordinal, detail));
        }
        if tensor.belongs_to_another_lane() && self.refused.is_none() {
            let detail = format!("{}: a tensor {} of another lane", self.name, tensor.shape());
            self.refused = Some(error(self.gpu.ordinal, detail));
        }
    }

    /// A pointer to memory of the GPU that is no tensor.
    pub(crate) fn pointer(self, pointer: sys::CUdeviceptr) -> Self {
        self.argument(pointer)
    }

    /// A pointer to elements to be read.
    pub fn input(mut self, tensor: &Tensor) -> Self {
        self.refuse(tensor);
        let pointer = tensor.gpu_pointer().unwrap_or(0);
        self.argument(pointer)
    }

    /// A pointer to elements to be read, or null.
    pub fn optional_input(self, tensor: Option<&Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.input(tensor),
            None => self.argument(0u64),
        }
    }

    /// A pointer to elements to be written. As [`Tensor::data_mut`], copies them first if they are shared.
    pub fn output(mut self, tensor: &mut Tensor) -> Self {
        self.refuse(tensor);
        let pointer = match tensor.gpu_pointer_mut() {
            Ok(pointer) => pointer,
            Err(failure) => {
                self.refused.get_or_insert(failure);
                0
            }
        };
        self.argument(pointer)
    }

    /// A pointer to elements to be written, or null.
    pub fn optional_output(self, tensor: Option<&mut Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.output(tensor),
            None => self.argument(0u64),
        }
    }

    /// An `int`.
    pub fn int(mut self, value: usize) -> Self {
        let narrow = i32::try_from(value).unwrap_or_else(|_| {
            let detail = format!("{}: {value} is more than a kernel counts", self.name);
            self.refused.get_or_insert(error(self.gpu.ordinal, detail));
            0
        });
        self.argument(narrow)
    }

    /// A `float`.
    pub fn float(self, value: f32) -> Self {
        self.argument(value)
    }

    /// A struct passed by value: `repr(C)`, aligned to 8 bytes at most, at most 4 KiB together with all else.
    pub fn structure<T: Copy>(self, value: T) -> Self {
        self.argument(value)
    }

    /// Launches one thread for each of `count` elements, in blocks of 256; nothing for none.
    ///
    /// # Errors
    /// If an argument was refused, or the driver refuses.
    pub fn elements(self, count: usize) -> Result<()> {
        self.blocks([count.div_ceil(THREADS), 1, 1], THREADS)
    }

    /// Launches blocks of `threads` threads; nothing if there are none.
    ///
    /// # Errors
    /// If an argument was refused, or the driver refuses.
    pub fn blocks(mut self, [x, y, z]: [usize; 3], threads: usize) -> Result<()> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if x * y * z == 0 {
            return Ok(());
        }
        if y.max(z) > 65_535 || x > i32::MAX as usize || threads > 1024 {
            let detail = format!("{}: {x} x {y} x {z} blocks of {threads} threads", self.name);
            return Err(error(self.gpu.ordinal, detail));
        }
        let base = self.bytes.as_mut_ptr();
        let mut pointers: Vec<*mut c_void> = self
            .starts
            .iter()
            // SAFETY: the starts lie within the bytes.
            .map(|start| unsafe { base.add(*start) }.cast::<c_void>())
            .collect();
        let _queue = self.gpu.enter();
        let grid = (x as u32, y as u32, z as u32);
        // SAFETY: the arguments are of the types of the kernel's, which is what its launcher promises; tensors live
        // until they are dropped, and memory of dropped ones is only used by what is queued later.
        unsafe {
            result::launch_kernel(
                self.function,
                grid,
                (threads as u32, 1, 1),
                0,
                self.gpu.stream(),
                &mut pointers,
            )
        }
        .map_err(|cause| self.gpu.failed(self.name, cause))
    }
}
