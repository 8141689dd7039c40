//! cuBLASLt, NVIDIA's library for products of matrices, where this machine has it.

#![expect(unsafe_code, reason = "calls a C library and hands it addresses")]

use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map::Entry};
use std::ffi::c_void;
use std::ptr;

use cudarc::cublaslt::{
    result::{self, CublasError},
    sys::{
        self, cublasLtMatmulDescAttributes_t as Attribute,
        cublasLtMatmulPreferenceAttributes_t as Preference,
    },
};
use runtime::Fault;

use crate::driver::{Device, Memory};
use crate::toolkit::{lacks, preload};

/// What is called of it.
const CALLED: &[&str] = &[
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtGetVersion",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// Bytes of memory that products may use.
pub(crate) const WORKSPACE: u64 = 32 << 20;

/// Bytes that every address is a multiple of.
const ALIGNMENT: u32 = 16;

/// How matrices are turned: their rows are its columns.
const TURNED: i32 = 1;

fn fault(error: CublasError) -> Fault {
    Fault::new("R0705", format!("cuBLASLt failed: {:?}", error.0))
        .help("`treen doctor` tells its version; without it, the program's own kernels are run")
}

/// Its version, such as 130100 for 13.1, if it is there.
pub fn library_version() -> Option<usize> {
    preload(&["libcublasLt.so.13"]);
    // SAFETY: looks for the library, and asks it for a number.
    unsafe {
        let is_there = sys::is_culib_present() && lacks("libcublasLt.so.13", CALLED).is_none();
        is_there.then(|| sys::cublasLtGetVersion())
    }
}

/// The library, with how it does each product that it was asked for.
pub(crate) struct Library {
    handle: sys::cublasLtHandle_t,
    ways: RefCell<BTreeMap<Shape, Way>>,
    workspace: Memory,
}

/// What a product is: `y = x w^T`, all in rows; `x` and `w` in `bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// Of `x` and `y`.
    pub(crate) rows: u64,
    /// Of `y`.
    pub(crate) columns: u64,
    /// Columns of `x` and `w`.
    pub(crate) depth: u64,
    /// Numbers from a row of `y` to the next.
    pub(crate) stride: u64,
    /// Whether `y` is in `bf16`, or else in `f32`.
    pub(crate) is_narrow: bool,
}

impl Library {
    /// Makes it ready; `None` where there is none.
    pub(crate) fn open(device: &Device) -> Result<Option<Library>, Fault> {
        if library_version().is_none() {
            return Ok(None);
        }
        let workspace = device.poisoned(WORKSPACE)?;
        let handle = result::create_handle().map_err(fault)?;
        Ok(Some(Library { handle, ways: RefCell::default(), workspace }))
    }

    /// Enqueues a product of what lies at the addresses of `x`, `w` and `y`; where it `adds`, it is
    /// added to `y`.
    pub(crate) fn multiply(
        &self,
        device: &Device,
        shape: Shape,
        adds: bool,
        [x, w, y]: [u64; 3],
    ) -> Result<(), Fault> {
        let mut ways = self.ways.borrow_mut();
        let way = match ways.entry(shape) {
            Entry::Occupied(it) => it.into_mut(),
            Entry::Vacant(it) => it.insert(Way::find(self.handle, shape).map_err(fault)?),
        };
        let (one, times) = (1f32, if adds { 1f32 } else { 0f32 });
        let number = |it: &f32| ptr::from_ref(it).cast::<c_void>();
        // SAFETY: the descriptions live in `way`, the numbers until the call is over; the matrices
        // lie on the device, and are as large as the plan says.
        let enqueued = unsafe {
            result::matmul(
                self.handle,
                way.how.0,
                number(&one),
                number(&times),
                w as *const c_void,
                way.w.0,
                x as *const c_void,
                way.x.0,
                y as *const c_void,
                way.y.0,
                y as *mut c_void,
                way.y.0,
                &way.algorithm,
                self.workspace.address() as *mut c_void,
                WORKSPACE as usize,
                device.stream().cast(),
            )
        };
        enqueued.map_err(fault)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nobody to be told.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// How a product is done.
struct Way {
    how: How,
    x: Layout,
    w: Layout,
    y: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Way {
    /// Asks the library. It counts columns first, so that its `y` is ours with rows and columns
    /// exchanged: `w` turned, times `x`.
    fn find(handle: sys::cublasLtHandle_t, shape: Shape) -> Result<Way, CublasError> {
        let Shape { rows, columns, depth, stride, is_narrow } = shape;
        let bf16 = sys::cudaDataType::CUDA_R_16BF;
        let of_y = if is_narrow { bf16 } else { sys::cudaDataType::CUDA_R_32F };
        let how = How::new()?;
        let w = Layout::new(bf16, depth, columns, depth)?;
        let x = Layout::new(bf16, depth, rows, depth)?;
        let y = Layout::new(of_y, columns, rows, stride)?;
        let wishes = Wishes::new()?;
        // SAFETY: all of these live until the call is over.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle, how.0, w.0, x.0, y.0, y.0, wishes.0)?
        };
        Ok(Way { how, x, w, y, algorithm: found.algo })
    }
}

/// The library's description of a product.
struct How(sys::cublasLtMatmulDesc_t);

impl How {
    /// Sums in `f32` of a first matrix that is turned.
    fn new() -> Result<How, CublasError> {
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let how = How(result::create_matmul_desc(sums, sys::cudaDataType::CUDA_R_32F)?);
        let turned = ptr::from_ref(&TURNED).cast();
        let which = Attribute::CUBLASLT_MATMUL_DESC_TRANSA;
        // SAFETY: the description lives, and the number is as long as is said.
        unsafe { result::set_matmul_desc_attribute(how.0, which, turned, size_of_val(&TURNED))? };
        Ok(how)
    }
}

impl Drop for How {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nobody to be told.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Its description of a matrix.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(
        dtype: sys::cudaDataType,
        rows: u64,
        columns: u64,
        stride: u64,
    ) -> Result<Layout, CublasError> {
        result::create_matrix_layout(dtype, rows, columns, stride as i64).map(Layout)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nobody to be told.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What a way to do a product may take for granted, and may use.
struct Wishes(sys::cublasLtMatmulPreference_t);

impl Wishes {
    fn new() -> Result<Wishes, CublasError> {
        let wishes = Wishes(result::create_matmul_pref()?);
        let set = |which, value: *const c_void, bytes| {
            // SAFETY: the wishes live, and the number is as long as is said.
            unsafe { result::set_matmul_pref_attribute(wishes.0, which, value, bytes) }
        };
        let bytes = ptr::from_ref(&WORKSPACE).cast();
        set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes, size_of_val(&WORKSPACE))?;
        for which in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            set(which, ptr::from_ref(&ALIGNMENT).cast(), size_of_val(&ALIGNMENT))?;
        }
        Ok(wishes)
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        // SAFETY: it was made once. A failure leaves nobody to be told.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
