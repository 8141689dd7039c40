//! Every kernel, on every instruction set of this CPU, against the reference.

mod support;

use kernels_cpu::{Isa, kernels_for};

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
