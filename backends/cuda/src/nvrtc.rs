//! CUDA C++ to cubins and PTX, by NVIDIA's run-time compiler, which needs no GPU.

#![expect(unsafe_code, reason = "calls a C library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;

use kernels_cuda::HEADERS;
use libloading::Library;
use serde::{Deserialize, Serialize};

use crate::toolkit::{libraries, preload, toolkits};

/// What the compiler is told besides the architecture and where headers are.
pub(crate) const OPTIONS: &[&str] = &[
    "--std=c++17",
    "--device-int128",
    "--ptxas-options=-v",
    // Off by a unit or two in the last place, for a third of the instructions.
    "--prec-div=false",
    "--prec-sqrt=false",
];

/// The headers of CUDA that kernels include, and what these include of the same.
const CUDA_HEADERS: &[&str] =
    &["cuda_bf16.h", "cuda_bf16.hpp", "cuda_fp16.h", "cuda_fp16.hpp", "cuda_fp8.h", "cuda_fp8.hpp"];

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
    /// Whether products of a warpgroup wait for each other, since the compiler does not see that
    /// they need not.
    pub is_serial: bool,
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
            is_serial: log.contains("wgmma.mma_async instructions are serialized"),
        }
    }
}

/// The compiler, if this machine has it.
pub struct Compiler {
    functions: Functions,
    include: PathBuf,
}

impl Compiler {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// What is missing, in a sentence.
    pub fn find() -> Result<Compiler, String> {
        let functions = Functions::find()?;
        let mut includes = toolkits().map(|it| it.join("include"));
        let include = includes.find(|it| it.join("cuda_bf16.h").is_file());
        let include = include.ok_or("the headers of CUDA (`cuda_bf16.h`) are not in CUDA_HOME")?;
        Ok(Compiler { functions, include })
    }

    /// Its version, such as `13.0`.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub fn version(&self) -> Result<String, String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two numbers.
        check(unsafe { (self.functions.version)(&mut major, &mut minor) }, "")?;
        Ok(format!("{major}.{minor}"))
    }

    /// The headers of CUDA that kernels include.
    pub(crate) fn headers(&self) -> Vec<Vec<u8>> {
        let read = |it: &&str| std::fs::read(self.include.join(it)).unwrap_or_default();
        CUDA_HEADERS.iter().map(read).collect()
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
        let mut program: Program = ptr::null_mut();
        // SAFETY: all pointers live until the call is over, and the lists are as long as said.
        let created = unsafe {
            (self.functions.create)(
                &mut program,
                text.as_ptr(),
                c"kernel.cu".as_ptr(),
                HEADERS.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        check(created, "")?;
        let image = self.image(program, architecture);
        // SAFETY: the program was created above, and is used no more.
        let _ = unsafe { (self.functions.destroy)(&mut program) };
        image
    }

    fn image(&self, program: Program, architecture: &str) -> Result<Image, String> {
        let told = [
            format!("--gpu-architecture={architecture}"),
            format!("--include-path={}", self.include.display()),
        ];
        let options = told.iter().map(String::as_str).chain(OPTIONS.iter().copied());
        let options: Vec<CString> = options
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| "a zero byte in the name of CUDA_HOME")?;
        let pointers: Vec<_> = options.iter().map(|it| it.as_ptr()).collect();
        let it = &self.functions;
        // SAFETY: the program lives, and the options until the call is over.
        let compiled = unsafe { (it.compile)(program, pointers.len() as c_int, pointers.as_ptr()) };
        let log = text(&it.log.read(program).unwrap_or_default());
        check(compiled, &log)?;
        let cubin = it.cubin.read(program)?;
        Ok(Image { cubin, ptx: text(&it.ptx.read(program)?), resources: Resources::read(&log) })
    }
}

/// A program of NVRTC.
type Program = *mut c_void;

/// Functions of NVRTC. What they return is 0 where they succeed.
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    log: Text,
    cubin: Text,
    ptx: Text,
    /// The last to go: the functions are its.
    _library: Library,
}

/// What a program has of bytes: how many, and which.
struct Text {
    size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    bytes: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
}

impl Text {
    fn read(&self, program: Program) -> Result<Vec<u8>, String> {
        let mut size = 0;
        // SAFETY: the program lives; as many bytes are written as were said.
        unsafe {
            check((self.size)(program, &mut size), "")?;
            let mut bytes = vec![0; size];
            check((self.bytes)(program, bytes.as_mut_ptr().cast()), "")?;
            Ok(bytes)
        }
    }
}

impl Functions {
    /// Those of the library in CUDA_HOME, or else where toolkits usually are, or else where the
    /// system finds it.
    fn find() -> Result<Functions, String> {
        // It needs its other half to be there before it.
        preload(&["libnvrtc-builtins.so.13.0"]);
        let files = libraries("libnvrtc.so.13").chain([PathBuf::from("libnvrtc.so.13")]);
        // SAFETY: NVIDIA's libraries do nothing when they are loaded.
        let mut opened = files.filter_map(|it| unsafe { Library::new(it) }.ok());
        let library = opened.next().ok_or(
            "NVRTC, the CUDA compiler library, is not on this machine: install CUDA 13, or the \
             wheels `nvidia-cuda-nvrtc`, `nvidia-cuda-runtime`, `nvidia-cuda-crt` and \
             `nvidia-cuda-cccl`, and name its folder in CUDA_HOME",
        )?;
        // SAFETY: NVRTC declares them so.
        unsafe {
            let text = |size, bytes| -> Result<Text, String> {
                Ok(Text { size: get(&library, size)?, bytes: get(&library, bytes)? })
            };
            Ok(Functions {
                version: get(&library, "nvrtcVersion")?,
                create: get(&library, "nvrtcCreateProgram")?,
                destroy: get(&library, "nvrtcDestroyProgram")?,
                compile: get(&library, "nvrtcCompileProgram")?,
                log: text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?,
                cubin: text("nvrtcGetCUBINSize", "nvrtcGetCUBIN")?,
                ptx: text("nvrtcGetPTXSize", "nvrtcGetPTX")?,
                _library: library,
            })
        }
    }
}

/// A function of a library, which has to be of that type.
unsafe fn get<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: who calls this knows the type.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|it| *it).map_err(|_| format!("NVRTC, as it is on this machine, has no `{name}`"))
}

/// Fails where NVRTC has, with what it wrote.
fn check(result: c_int, log: &str) -> Result<(), String> {
    match result {
        0 => Ok(()),
        _ if log.is_empty() => Err(format!("NVRTC: error {result}")),
        _ => Err(format!("NVRTC: error {result}\n{log}")),
    }
}

/// What a C string says, up to its end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read() {
        let log = "ptxas info    : Function properties for run\n\
            ptxas         .     32 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads\n\
            ptxas info    : Used 168 registers, used 1 barriers\n";
        let found = Resources { registers: 168, stack: 32, spilled: 24, is_serial: false };
        assert_eq!(Resources::read(log), found);
        assert_eq!(Resources::read("nothing"), Resources::default());
    }
}
