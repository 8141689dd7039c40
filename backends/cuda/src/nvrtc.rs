//! CUDA C++ to cubins, by NVIDIA's run-time compiler, which needs no GPU.

#![expect(unsafe_code, reason = "calls a C library")]

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::ptr;

use cudarc::nvrtc::{result, sys};
use kernels_cuda::HEADERS;

/// Where the CUDA toolkit usually is, after what `CUDA_HOME` and `CUDA_PATH` say.
const USUAL: &[&str] = &["/usr/local/cuda", "/opt/cuda"];

/// The compiler, if this machine has it.
pub struct Compiler {
    include: String,
}

impl Compiler {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// What is missing, in a sentence.
    pub fn find() -> Result<Compiler, String> {
        let named = ["CUDA_HOME", "CUDA_PATH"].map(std::env::var_os).into_iter().flatten();
        let folders: Vec<PathBuf> =
            named.map(PathBuf::from).chain(USUAL.iter().map(PathBuf::from)).collect();
        for folder in &folders {
            preload(&folder.join("lib64"));
            preload(&folder.join("lib"));
        }
        // SAFETY: looks for the library alone.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "NVRTC, the CUDA compiler library, is not on this machine: install CUDA 13, \
                        or the wheels `nvidia-cuda-nvrtc`, `nvidia-cuda-runtime` and \
                        `nvidia-cuda-crt`, and name its folder in CUDA_HOME"
                    .into(),
            );
        }
        let headers = folders.iter().map(|it| it.join("include"));
        let include = headers.into_iter().find(|it| it.join("cuda_bf16.h").is_file());
        let include = include.ok_or("the headers of CUDA (`cuda_bf16.h`) are not in CUDA_HOME")?;
        Ok(Compiler { include: include.display().to_string() })
    }

    /// The cubin of `source` for `architecture`.
    ///
    /// # Errors
    ///
    /// What the compiler said.
    pub fn compile(&self, source: &str, architecture: &str) -> Result<Vec<u8>, String> {
        let text = CString::new(source).map_err(|_| "a zero byte in a kernel")?;
        let c_string = |it: &str| CString::new(it).expect("no zero bytes in names and headers");
        let (names, texts): (Vec<CString>, Vec<CString>) =
            HEADERS.iter().map(|(name, text)| (c_string(name), c_string(text))).unzip();
        let names: Vec<_> = names.iter().map(|it| it.as_ptr()).collect();
        let texts: Vec<_> = texts.iter().map(|it| it.as_ptr()).collect();
        let mut program: sys::nvrtcProgram = ptr::null_mut();
        // SAFETY: all pointers live until the call is over, and the lists are as long as said.
        let created = unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                text.as_ptr(),
                c"kernel.cu".as_ptr(),
                HEADERS.len() as i32,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        created.result().map_err(|it| format!("NVRTC: {it:?}"))?;
        let cubin = self.cubin(program, architecture);
        // SAFETY: the program was created above, and is used no more.
        let _ = unsafe { result::destroy_program(program) };
        cubin
    }

    fn cubin(&self, program: sys::nvrtcProgram, architecture: &str) -> Result<Vec<u8>, String> {
        let options = [
            format!("--gpu-architecture={architecture}"),
            format!("--include-path={}", self.include),
            "--std=c++17".to_owned(),
            "--device-int128".to_owned(),
        ];
        // SAFETY: the program lives; the calls below write as many bytes as they say.
        unsafe {
            if let Err(error) = result::compile_program(program, &options) {
                let log = result::get_program_log(program).unwrap_or_default();
                let log = CStr::from_ptr(log.as_ptr()).to_string_lossy();
                return Err(format!("NVRTC: {error:?}\n{log}"));
            }
            let fail = |it| format!("NVRTC gave no cubin: {it:?}");
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(fail)?;
            let mut cubin = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(fail)?;
            Ok(cubin)
        }
    }
}

/// Loads the compiler from a folder, so that it is found later by its name alone; it needs its
/// other half to be there before it.
fn preload(folder: &std::path::Path) {
    for name in ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"] {
        let path = folder.join(name);
        if path.is_file() {
            // SAFETY: NVIDIA's libraries do nothing when they are loaded.
            let library = unsafe { libloading::Library::new(&path) };
            // They stay for as long as the process does.
            if let Ok(library) = library {
                std::mem::forget(library);
            }
        }
    }
}
