//! CUDA C++ to cubins and PTX, by NVIDIA's run-time compiler, which needs no GPU.

#![expect(unsafe_code, reason = "calls a C library")]

use std::ffi::CString;
use std::path::PathBuf;
use std::ptr;

use cudarc::nvrtc::{result, sys};
use kernels_cuda::HEADERS;
use serde::{Deserialize, Serialize};

/// What the compiler is told besides the architecture and where headers are.
pub(crate) const OPTIONS: &[&str] = &[
    "--std=c++17",
    "--device-int128",
    "--ptxas-options=-v",
    // Off by a unit or two in the last place, for a third of the instructions.
    "--prec-div=false",
    "--prec-sqrt=false",
];

/// Where the CUDA toolkit usually is, after what `CUDA_HOME` and `CUDA_PATH` say.
const USUAL: &[&str] = &["/usr/local/cuda", "/opt/cuda"];

/// What the compiler makes of a kernel; nothing for an architecture that it is not for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What the driver loads.
    pub cubin: Vec<u8>,
    /// The same in the assembly language that all architectures share: where there is no cubin for
    /// a GPU, the driver compiles it.
    pub ptx: String,
    /// What a thread takes.
    pub resources: Resources,
}

/// What a thread of a kernel takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Registers of 32 bits.
    pub registers: u32,
    /// Bytes of memory of its own, for want of registers or for arrays.
    pub stack: u32,
    /// Bytes that are written there for want of registers.
    pub spilled: u32,
}

impl Resources {
    /// Reads what `ptxas -v` says of a kernel.
    fn read(log: &str) -> Resources {
        let before = |what: &str| {
            let words: Vec<&str> = log.split(what).next().unwrap_or("").split(' ').collect();
            words.iter().rev().find_map(|it| it.parse().ok()).filter(|_| log.contains(what))
        };
        Resources {
            registers: before(" registers").unwrap_or(0),
            stack: before(" bytes stack frame").unwrap_or(0),
            spilled: before(" bytes spill stores").unwrap_or(0),
        }
    }
}

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
        // It needs its other half to be there before it.
        preload(&["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"]);
        // SAFETY: looks for the library alone.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "NVRTC, the CUDA compiler library, is not on this machine: install CUDA 13, \
                        or the wheels `nvidia-cuda-nvrtc`, `nvidia-cuda-runtime` and \
                        `nvidia-cuda-crt`, and name its folder in CUDA_HOME"
                    .into(),
            );
        }
        let mut headers = toolkits().map(|it| it.join("include"));
        let include = headers.find(|it| it.join("cuda_bf16.h").is_file());
        let include = include.ok_or("the headers of CUDA (`cuda_bf16.h`) are not in CUDA_HOME")?;
        Ok(Compiler { include: include.display().to_string() })
    }

    /// Its version, such as `13.0`.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub fn version(&self) -> Result<String, String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two numbers.
        let told = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
        told.result().map_err(|it| format!("NVRTC: {it:?}"))?;
        Ok(format!("{major}.{minor}"))
    }

    /// The image of `source` for `architecture`.
    ///
    /// # Errors
    ///
    /// What the compiler said.
    pub fn compile(&self, source: &str, architecture: &str) -> Result<Image, String> {
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
        let image = self.image(program, architecture);
        // SAFETY: the program was created above, and is used no more.
        let _ = unsafe { result::destroy_program(program) };
        image
    }

    fn image(&self, program: sys::nvrtcProgram, architecture: &str) -> Result<Image, String> {
        let mut options = vec![
            format!("--gpu-architecture={architecture}"),
            format!("--include-path={}", self.include),
        ];
        options.extend(OPTIONS.iter().map(|it| (*it).to_owned()));
        // SAFETY: the program lives; the calls below write as many bytes as they say.
        unsafe {
            let compiled = result::compile_program(program, &options);
            let log = result::get_program_log(program).unwrap_or_default();
            let log = text(&log);
            compiled.map_err(|error| format!("NVRTC: {error:?}\n{log}"))?;
            let fail = |it| format!("NVRTC gave no cubin: {it:?}");
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(fail)?;
            let mut cubin = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(fail)?;
            let ptx =
                result::get_ptx(program).map_err(|it| format!("NVRTC gave no PTX: {it:?}"))?;
            Ok(Image { cubin, ptx: text(&ptx), resources: Resources::read(&log) })
        }
    }
}

/// What a C string says, up to its end.
fn text(bytes: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|it| *it as u8).take_while(|it| *it != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where a CUDA toolkit may be.
fn toolkits() -> impl Iterator<Item = PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].map(std::env::var_os).into_iter().flatten();
    named.map(PathBuf::from).chain(USUAL.iter().map(PathBuf::from))
}

/// Loads libraries of toolkits, so that they are found later by their names alone.
pub(crate) fn preload(names: &[&str]) {
    let folders = toolkits().flat_map(|it| ["lib64", "lib"].map(|lib| it.join(lib)));
    for path in folders.flat_map(|it| names.iter().map(move |name| it.join(name))) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read() {
        let log = "ptxas info    : Function properties for run\n\
            ptxas         .     32 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads\n\
            ptxas info    : Used 168 registers, used 1 barriers\n";
        let found = Resources { registers: 168, stack: 32, spilled: 24 };
        assert_eq!(Resources::read(log), found);
        assert_eq!(Resources::read("nothing"), Resources::default());
    }
}
