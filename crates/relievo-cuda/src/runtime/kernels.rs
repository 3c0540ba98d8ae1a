//! CUDA C, compiled by NVRTC when it is first needed, and kept on disk.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::sync::PoisonError;

use cudarc::driver::{result, sys};
use cudarc::nvrtc;

use super::launch::Function;
use super::signature::{self, Parameter};
use super::{Gpu, libraries};
use crate::{DataType, Kernels, Result};

/// What every kernel file may use: `real`, loads and stores, sums over blocks.
const PRELUDE: &str = include_str!("prelude.cuh");

/// Loaded kernels by file (its address: two crates may have operations of one name) and type.
pub(super) type Modules = HashMap<(usize, DataType), Module>;

pub(super) struct Module {
    module: sys::CUmodule,
    functions: HashMap<&'static str, Function>,
}

/// Compiles a file of kernels for compute capability `major.minor` as a [`Launch`](super::Launch) would, without a
/// GPU. Returns the size of the machine code in bytes; `None` where NVRTC is not installed.
///
/// # Errors
/// The compiler's messages.
pub fn compile_check(
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
    let version = version().map_err(|cause| format!("could not query the version of NVRTC: {cause:?}"))?;
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
    let failed = |what: &str| format!("NVRTC could not {what} the kernels of {name}");
    let source = CString::new(source).map_err(|_| failed("read"))?;
    let file = CString::new(format!("{name}.cu")).map_err(|_| failed("name"))?;
    let program = nvrtc::result::create_program(&source, Some(&file)).map_err(|_| failed("accept"))?;
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
                got.map(|()| code).map_err(|cause| format!("{}: {cause:?}", failed("return")))
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

impl Gpu {
    /// A file of kernels, from the cache on disk or compiled, and loaded. It stays loaded.
    fn load(&self, kernels: &Kernels, data_type: DataType) -> Result<sys::CUmodule> {
        libraries::need_nvrtc(self.ordinal)?;
        let failed = |message: String| self.error(message);
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
        let module = load(&code).map_err(|cause| self.failed("could not load compiled kernels", cause))?;
        // The cache saves a second at the next start; a disk that is full or read-only is no reason to stop.
        if let Some(path) = place {
            let kept = [digest(&[&code]).as_slice(), &code].concat();
            let _ = relievo_files::write_atomic(path, |file| file.write_all(&kept));
        }
        Ok(module)
    }

    /// A kernel, compiled and loaded.
    pub(super) fn function(
        &self,
        kernels: &'static Kernels,
        name: &'static str,
        data_type: DataType,
    ) -> Result<Function> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match modules.entry((std::ptr::from_ref(kernels).addr(), data_type)) {
            std::collections::hash_map::Entry::Occupied(module) => module.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let module = self.load(kernels, data_type)?;
                place.insert(Module { module, functions: HashMap::new() })
            }
        };
        if let Some(function) = module.functions.get(name) {
            return Ok(*function);
        }
        let absent = || self.error(format!("{} has no kernel {name}", kernels.name));
        let declared = signature::parse(kernels.source, name).ok_or_else(absent)?;
        let symbol = CString::new(name).map_err(|_| absent())?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(module.module, symbol) }
            .map_err(|cause| self.failed(name, cause))?;
        let sizes = self.parameter_sizes(name, handle)?;
        if sizes.len() != declared.len() {
            let detail =
                format!("{name} is declared with {} parameters, has {}", declared.len(), sizes.len());
            return Err(self.error(detail));
        }
        let parameters: Vec<(Parameter, usize)> = declared.into_iter().zip(sizes).collect();
        // For good, as the module.
        let function = Function { handle, parameters: parameters.leak() };
        module.functions.insert(name, function);
        Ok(function)
    }

    /// The sizes of a kernel's parameters in bytes.
    fn parameter_sizes(&self, name: &str, function: sys::CUfunction) -> Result<Vec<usize>> {
        let mut sizes = Vec::new();
        loop {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: the function is loaded, and both point to integers.
            let found = unsafe { sys::cuFuncGetParamInfo(function, sizes.len(), &mut offset, &mut size) };
            match found {
                sys::CUresult::CUDA_SUCCESS => sizes.push(size),
                // So the driver says that there is no parameter of this index.
                sys::CUresult::CUDA_ERROR_INVALID_VALUE => return Ok(sizes),
                failure => return Err(self.failed(name, result::DriverError(failure))),
            }
        }
    }
}
