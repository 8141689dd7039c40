//! What generated loops call besides kernels: copies, and functions that processors lack.

#![expect(unsafe_code, reason = "called by generated code with raw addresses")]

use crate::abi::KernelFn;

/// The function of that name, as an address. `math.*` take and give `f32` by value and are called
/// from loops alone; the frame holds all addresses in one table.
pub(crate) fn find(name: &str) -> Option<KernelFn> {
    let unary = |it: extern "C" fn(f32) -> f32| {
        // SAFETY: an address is an address; generated code calls it by its own type.
        unsafe { std::mem::transmute::<extern "C" fn(f32) -> f32, KernelFn>(it) }
    };
    Some(match name {
        "copy" => copy,
        "math.log" => unary(log),
        "math.sin" => unary(sin),
        "math.cos" => unary(cos),
        // SAFETY: as above.
        "math.pow" => unsafe {
            std::mem::transmute::<extern "C" fn(f32, f32) -> f32, KernelFn>(pow)
        },
        _ => return None,
    })
}

/// `copy to from n bytes`: the share of `thread` of `n` elements of so many bytes.
///
/// # Safety
///
/// The words are the addresses of two areas of that size that do not overlap.
unsafe extern "C" fn copy(args: *const u64, thread: u64, threads: u64) {
    // SAFETY: four words, as documented.
    let [to, from, n, bytes] = unsafe { *args.cast::<[u64; 4]>() };
    let at = |thread: u64| u128::from(n) * u128::from(thread) / u128::from(threads);
    let [first, end] = [at(thread), at(thread + 1)].map(|it| it as usize * bytes as usize);
    // SAFETY: the share lies within both areas.
    unsafe {
        let (to, from) = ((to as *mut u8).add(first), (from as *const u8).add(first));
        std::ptr::copy_nonoverlapping(from, to, end - first);
    }
}

extern "C" fn log(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

extern "C" fn sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

extern "C" fn cos(x: f32) -> f32 {
    f64::from(x).cos() as f32
}

extern "C" fn pow(x: f32, y: f32) -> f32 {
    f64::from(x).powf(f64::from(y)) as f32
}
