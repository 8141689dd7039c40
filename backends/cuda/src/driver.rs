//! The CUDA driver, as far as the engine needs it: one device, one stream, memory, kernels, graphs.
//!
//! Everything is enqueued on one stream, so that what comes later sees what came before. Nothing of
//! it panics where there is no driver or no device.

#![expect(unsafe_code, reason = "calls a C library and hands it addresses")]

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{
        self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as FunctionAttribute,
        CUlaunchAttributeID_enum as LaunchAttribute, CUstreamCaptureMode_enum as CaptureMode,
    },
};
use runtime::Fault;

use crate::toolkit::lacks;

/// What is called of the driver that an old one may not have.
const NEWEST: &[&str] = &[
    "cuInit",
    "cuDevicePrimaryCtxRetain",
    "cuGraphInstantiateWithFlags",
    "cuLaunchKernelEx",
    "cuTensorMapEncodeTiled",
];

fn fault(what: &str, error: DriverError) -> Fault {
    let message = error
        .error_string()
        .map_or_else(|_| format!("{error:?}"), |it| it.to_string_lossy().into_owned());
    Fault::new("R0703", format!("{what}: {message}"))
}

/// A GPU with a stream of work.
pub(crate) struct Device {
    context: Arc<CudaContext>,
    stream: sys::CUstream,
}

/// What is known of a device.
#[derive(Clone, Debug)]
pub struct Properties {
    /// The name that its maker gave it.
    pub name: String,
    /// Such as 90 for compute capability 9.0.
    pub capability: u32,
    /// Multiprocessors.
    pub processors: u32,
    /// The most bytes of shared memory that a block can have.
    pub shared: u32,
    /// Bytes of memory that are free, and that there are.
    pub memory: [u64; 2],
}

impl Device {
    /// The first device.
    pub(crate) fn open() -> Result<Device, Fault> {
        // SAFETY: looks for the library alone.
        if !unsafe { sys::is_culib_present() } {
            let message = "this machine has no CUDA driver (`libcuda.so.1`)";
            return Err(Fault::new("R0701", message)
                .help("what is compiled with `--target cpu` runs without one"));
        }
        if let Some(missing) = lacks("libcuda.so.1", NEWEST) {
            let message = format!("the CUDA driver of this machine has no `{missing}`");
            return Err(Fault::new("R0701", message).help("a driver for CUDA 13 has all it takes"));
        }
        let none = |error| {
            fault("no GPU can be used", error).help("`treen doctor` tells what this machine has")
        };
        let context = CudaContext::new(0).map_err(none)?;
        let kind = result::stream::StreamKind::NonBlocking;
        let stream = result::stream::create(kind).map_err(none)?;
        Ok(Device { context, stream })
    }

    pub(crate) fn properties(&self) -> Result<Properties, Fault> {
        let failed = |error| fault("the device does not say what it is", error);
        let attribute = |which| self.context.attribute(which).map(|it| it as u32);
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        let processors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        let shared = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        let (free, all) = result::mem_get_info().map_err(failed)?;
        Ok(Properties {
            name: self.context.name().map_err(failed)?,
            capability: 10 * major.map_err(failed)? + minor.map_err(failed)?,
            processors: processors.map_err(failed)?,
            shared: shared.map_err(failed)?,
            memory: [free as u64, all as u64],
        })
    }

    /// On which everything is enqueued.
    pub(crate) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Waits until everything is done.
    pub(crate) fn wait(&self) -> Result<(), Fault> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|error| fault("the device failed", error))
    }

    /// Memory of `bytes` zeros.
    pub(crate) fn zeros(&self, bytes: u64) -> Result<Memory, Fault> {
        self.filled(bytes, 0)
    }

    /// Memory that nobody may read before it is written: in every format there is no number in it.
    pub(crate) fn poisoned(&self, bytes: u64) -> Result<Memory, Fault> {
        self.filled(bytes, 0xff)
    }

    fn filled(&self, bytes: u64, with: u8) -> Result<Memory, Fault> {
        let size = bytes.max(1) as usize;
        // SAFETY: the context is current; the memory is freed once, when it is dropped.
        let address = unsafe { result::malloc_sync(size) };
        let address = address.map_err(|error| {
            let message = format!("{bytes} bytes on the device");
            Fault { code: "R0702", ..fault(&message, error) }
        })?;
        let memory = Memory { address, bytes: size as u64 };
        self.fill(&memory, 0, memory.bytes, with)?;
        Ok(memory)
    }

    /// Makes `bytes` of memory from `from` on zeros.
    pub(crate) fn clear(&self, memory: &Memory, from: u64, bytes: u64) -> Result<(), Fault> {
        self.fill(memory, from, bytes, 0)
    }

    fn fill(&self, memory: &Memory, from: u64, bytes: u64, with: u8) -> Result<(), Fault> {
        let end = from.checked_add(bytes);
        assert!(end.is_some_and(|it| it <= memory.bytes), "a part stays inside its memory");
        // SAFETY: as many bytes were allocated.
        unsafe { result::memset_d8_async(memory.address + from, with, bytes as usize, self.stream) }
            .map_err(|error| fault("memory could not be cleared", error))
    }

    /// Copies `bytes` to the beginning of memory, at once.
    pub(crate) fn upload(&self, memory: &Memory, bytes: &[u8]) -> Result<(), Fault> {
        assert!(bytes.len() as u64 <= memory.bytes, "a copy stays inside its memory");
        // SAFETY: the memory is as large, and `bytes` are there until the copy has ended.
        unsafe { result::memcpy_htod_async(memory.address, bytes, self.stream) }
            .map_err(|error| fault("memory could not be written", error))?;
        self.wait()
    }

    /// Enqueues a copy of the first `bytes` of `from` to memory.
    pub(crate) fn send(&self, memory: &Memory, from: &Pinned, bytes: u64) -> Result<(), Fault> {
        let bytes = bytes.min(memory.bytes).min(from.bytes as u64) as usize;
        // SAFETY: both are as large, and `from` does not move.
        unsafe { result::memcpy_htod_async(memory.address, &from.get()[..bytes], self.stream) }
            .map_err(|error| fault("memory could not be written", error))
    }

    /// Enqueues a copy of the first `bytes` of memory to `to`.
    pub(crate) fn fetch(&self, to: &Pinned, memory: &Memory, bytes: u64) -> Result<(), Fault> {
        let bytes = bytes.min(memory.bytes).min(to.bytes as u64) as usize;
        // SAFETY: both are as large, `to` does not move, and nobody reads it before `wait`.
        let copied = unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.data.cast(), memory.address, bytes, self.stream)
        };
        copied.result().map_err(|error| fault("memory could not be read", error))
    }

    /// Memory of this machine that the device copies from and to by itself.
    pub(crate) fn pinned(&self, bytes: u64) -> Result<Pinned, Fault> {
        let bytes = bytes.max(1) as usize;
        // SAFETY: freed once, when it is dropped.
        let data = unsafe { result::malloc_host(bytes, 0) };
        let data =
            data.map_err(|error| Fault { code: "R0401", ..fault("pinned memory", error) })?;
        let mut pinned = Pinned { data: data.cast(), bytes };
        pinned.get_mut().fill(0);
        Ok(pinned)
    }

    /// A kernel of a cubin, or of PTX with a zero behind it, which the driver compiles.
    pub(crate) fn function(&self, code: &[u8], entry: &str) -> Result<Function, Fault> {
        let failed = |error| fault("a kernel could not be loaded", error);
        let name =
            CString::new(entry).map_err(|_| Fault::new("R0201", "a kernel without a name"))?;
        // SAFETY: a cubin tells its own length, and a zero ends PTX; the module stays for as long
        // as the process does.
        unsafe {
            let module = result::module::load_data(code.as_ptr().cast()).map_err(failed)?;
            let function = result::module::get_function(module, name).map_err(failed)?;
            Ok(Function(function))
        }
    }

    /// Lets a kernel use more shared memory than the usual 48 KiB.
    pub(crate) fn allow_shared(&self, function: &Function, bytes: u32) -> Result<(), Fault> {
        let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is loaded.
        unsafe { result::function::set_function_attribute(function.0, attribute, bytes as i32) }
            .map_err(|error| fault("a kernel wants more shared memory than there is", error))
    }

    /// Describes a matrix, `[columns, rows]`, for the copy engine: 128-byte swizzle, zeros out of
    /// bounds.
    pub(crate) fn tensor_map(
        &self,
        address: u64,
        element_bytes: u64,
        size: [u64; 2],
        boxed: [u32; 2],
    ) -> Result<Argument, Fault> {
        let dtype = match element_bytes {
            2 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            _ => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        };
        let mut map = Box::new(sys::CUtensorMap { opaque: [0; 16] });
        let stride = [size[0] * element_bytes];
        // SAFETY: all pointers live until the call is over; the address is only written down.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut *map,
                dtype,
                2,
                address as *mut c_void,
                size.as_ptr(),
                stride.as_ptr(),
                boxed.as_ptr(),
                [1u32, 1].as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        encoded.result().map_err(|error| fault("a matrix can not be described", error))?;
        Ok(Argument::Map(map))
    }

    /// Enqueues a kernel. Where `overlaps`, it may start before the kernel before it has ended, and
    /// waits for that by itself.
    pub(crate) fn launch(&self, launch: &Shape, arguments: &mut [Argument]) -> Result<(), Fault> {
        let mut attributes = Vec::new();
        if launch.overlaps {
            let id = LaunchAttribute::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
            let value = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
            attributes.push(sys::CUlaunchAttribute { id, pad: [0; 4], value });
        }
        let config = sys::CUlaunchConfig {
            gridDimX: launch.blocks[0],
            gridDimY: launch.blocks[1],
            gridDimZ: 1,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: attributes.len() as u32,
        };
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(Argument::pointer).collect();
        // SAFETY: the arguments are those of the kernel's text, which the same list was printed
        // from; they live until the call is over.
        let launched = unsafe {
            sys::cuLaunchKernelEx(
                &config,
                launch.function.0,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        launched.result().map_err(|error| fault("a kernel could not be launched", error))
    }

    /// Records what `enqueue` enqueues, to be run again and again.
    pub(crate) fn record(
        &self,
        enqueue: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<Graph, Fault> {
        let failed = |error| fault("a step could not be recorded", error);
        let mode = CaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives; capturing ends below, whatever happens in between.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(failed)?;
        let enqueued = enqueue();
        // SAFETY: capturing began above.
        let recorded = unsafe { result::stream::end_capture(self.stream) }.map(Recorded);
        enqueued?;
        let recorded = recorded.map_err(failed)?;
        // SAFETY: what was recorded is there.
        let exec =
            unsafe { result::graph::instantiate(recorded.0, sys::CUgraphInstantiate_flags(0)) };
        Ok(Graph(exec.map_err(failed)?))
    }

    /// Enqueues what was recorded.
    pub(crate) fn replay(&self, graph: &Graph) -> Result<(), Fault> {
        // SAFETY: both live.
        unsafe { result::graph::launch(graph.0, self.stream) }
            .map_err(|error| fault("a step could not be run", error))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nothing is enqueued after this. A failure leaves nobody to be told.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}

/// Memory on the device.
pub(crate) struct Memory {
    address: u64,
    bytes: u64,
}

impl Memory {
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated once. A failure leaves nobody to be told.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Memory of this machine that does not move.
pub(crate) struct Pinned {
    data: *mut u8,
    bytes: usize,
}

impl Pinned {
    pub(crate) fn get(&self) -> &[u8] {
        // SAFETY: as many bytes were allocated, and zeroed.
        unsafe { std::slice::from_raw_parts(self.data, self.bytes) }
    }

    /// The same as numbers.
    pub(crate) fn integers(&self) -> &[i32] {
        // SAFETY: every bit pattern is a number, and the memory begins at a page.
        let (_, integers, _) = unsafe { self.get().align_to::<i32>() };
        integers
    }

    pub(crate) fn get_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it was allocated once. A failure leaves nobody to be told.
        let _ = unsafe { result::free_host(self.data.cast()) };
    }
}

/// A kernel that is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Function(sys::CUfunction);

/// How a kernel is launched.
pub(crate) struct Shape {
    pub(crate) function: Function,
    pub(crate) blocks: [u32; 2],
    pub(crate) threads: u32,
    pub(crate) shared: u32,
    pub(crate) overlaps: bool,
}

/// What a kernel is called with.
pub(crate) enum Argument {
    /// A number or an address.
    Word(u64),
    /// A matrix that the copy engine reads.
    Map(Box<sys::CUtensorMap>),
}

impl Argument {
    fn pointer(&mut self) -> *mut c_void {
        match self {
            Argument::Word(word) => std::ptr::from_mut(word).cast(),
            Argument::Map(map) => std::ptr::from_mut(&mut **map).cast(),
        }
    }
}

/// What was recorded, before it can be run.
struct Recorded(sys::CUgraph);

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: it was recorded once. A failure leaves nobody to be told.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

/// A step that was recorded.
pub(crate) struct Graph(sys::CUgraphExec);

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it was instantiated once. A failure leaves nobody to be told.
        let _ = unsafe { result::graph::exec_destroy(self.0) };
    }
}
