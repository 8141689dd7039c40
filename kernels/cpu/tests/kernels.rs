//! Every kernel, on every instruction set of this CPU, against the reference.

mod support;

use ir::DType;
use kernels_cpu::{Isa, kernels_for, pack};

fn check_all(isa: Isa) {
    let Some(kernels) = kernels_for(isa) else { return };
    for (_, check) in support::CHECKS {
        check(kernels);
    }
}

#[test]
fn avx512_is_right() {
    check_all(Isa::Avx512);
}

#[test]
fn avx2_is_right() {
    check_all(Isa::Avx2);
}

#[test]
fn portable_is_right() {
    check_all(Isa::Portable);
}

#[test]
fn panels_packed_apart_are_the_same() {
    let (n, k) = (50, 64);
    let (bytes, _) = support::weights(&mut support::Random::new(3), DType::Q5_1, n, k);
    let mut whole = vec![0; pack::packed_bytes(DType::Q5_1, n, k).unwrap()];
    pack::pack(DType::Q5_1, n, k, &bytes, &mut whole).unwrap();
    let size = pack::panel_bytes(DType::Q5_1, k).unwrap();
    for (panel, want) in whole.chunks(size).enumerate() {
        let mut part = vec![255; size];
        pack::pack_panels(DType::Q5_1, n, k, &bytes, panel..panel + 1, &mut part).unwrap();
        assert_eq!(part, want);
    }
}

#[test]
fn what_cannot_be_packed_is_refused() {
    assert_eq!(pack::packed_bytes(DType::Q4_0, 16, 33), None);
    assert_eq!(pack::packed_bytes(DType::Mixed, 16, 32), None);
    assert_eq!(pack::packed_bytes(DType::F32, usize::MAX, 1 << 40), None);
    let mut dst = [0; 64];
    assert!(pack::pack(DType::F32, 3, 1, &[0; 11], &mut dst).is_err());
    assert!(pack::pack(DType::F32, 3, 1, &[0; 12], &mut dst[1..]).is_err());
    assert!(pack::pack_panels(DType::F32, 3, 1, &[0; 12], 1..2, &mut dst).is_err());
    assert!(pack::decode_row(DType::F32, &dst, 16, &mut [0.0]).is_err());
}
