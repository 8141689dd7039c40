//! Checks of `narrow`: the very bits of the `half` crate, for numbers of every kind.

use super::{Random, call, find};
use kernels_cpu::Kernel;

/// Ties to both sides, the largest and the smallest, and what is no number.
const SPECIAL: [u32; 16] = [
    0,
    0x8000_0000,
    0x3F80_8000,
    0x3F81_8000,
    0x3F80_1000,
    0x3F80_3000,
    0x477F_E000,
    0x477F_F000,
    0x3300_0000,
    0x3300_0001,
    0x0000_0001,
    0x7F7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x7F80_0001,
    0xFFC1_2345,
];

pub(crate) fn narrow(kernels: &'static [Kernel]) -> f64 {
    let mut random = Random::new(1);
    for n in [0, 1, 15, 16, 17, 1000] {
        let any = (0..n).map(|_| f32::from_bits(random.bits() as u32));
        let x: Vec<f32> = SPECIAL.into_iter().map(f32::from_bits).chain(any).skip(n % 5).collect();
        check(kernels, &x, 1, |it| half::f16::from_f32(it).to_bits());
        check(kernels, &x, 2, |it| half::bf16::from_f32(it).to_bits());
    }
    0.0
}

fn check(kernels: &'static [Kernel], x: &[f32], half: u64, want: impl Fn(f32) -> u16) {
    const UNTOUCHED: u16 = 0x1234;
    for threads in 1..=3 {
        let mut out = vec![UNTOUCHED; x.len() + 16];
        let words = [out.as_mut_ptr() as u64, x.as_ptr() as u64, x.len() as u64, half];
        call(find(kernels, "narrow"), words.to_vec(), threads);
        for (x, got) in x.iter().zip(&out) {
            assert_eq!(*got, want(*x), "narrow {:08X} to {half}", x.to_bits());
        }
        assert!(out[x.len()..].iter().all(|it| *it == UNTOUCHED), "narrow: wrote beyond the end");
    }
}
