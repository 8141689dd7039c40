//! Weights that nobody trained, and sessions with them: for models that no checkpoint is for.

use std::{collections::BTreeMap, sync::Arc};

use ir::{DType, Module, Name, Role, Tensor};
use kernels_cpu::pack;
use runtime::{Code, Pages, Pool, Session};
use treen::Lowered;

/// Small numbers for each weight, which Q8_0 can hold.
pub(crate) fn weights(module: &Module) -> BTreeMap<Name, Tensor> {
    let params = module.entry().params.iter().filter(|it| it.role == Role::Weight);
    let weight = |(k, it): (usize, &ir::Param)| {
        let shape: Vec<usize> =
            it.ty.axes.iter().map(|it| module.axes.fixed(it).expect("a fixed axis")).collect();
        let number = |i: usize| ((i * 37 + k * 11) % 29) as f64 / 32.0 - 0.4375;
        let data = (0..shape.iter().product()).map(number).collect();
        (it.name.clone(), Tensor { ty: it.ty.clone(), shape, data })
    };
    params.enumerate().map(weight).collect()
}

/// A session of `lowered`, whose packed weights are stored as `dtype`: `F32` or `Q8_0`.
pub(crate) fn session(
    lowered: &Lowered,
    weights: &BTreeMap<Name, Tensor>,
    dtype: DType,
    threads: usize,
) -> Session {
    let mut program = lowered.program.clone();
    let mut bytes: Vec<u8> = Vec::new();
    for slot in &mut program.weights {
        let [n, k] = slot.shape.map(|it| it as usize);
        slot.dtype = if slot.packed { dtype } else { DType::F32 };
        let layer = &weights[slot.name.as_str()].data[slot.layer as usize * n * k..][..n * k];
        let plain = encode(slot.dtype, layer);
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        slot.offset = bytes.len() as u64;
        if slot.packed {
            let size = pack::packed_bytes(dtype, n, k).expect("whole blocks");
            let mut packed = vec![0; size];
            pack::pack(dtype, n, k, &plain, &mut packed).expect("whole blocks");
            bytes.extend(packed);
        } else {
            bytes.extend(plain);
        }
        slot.bytes = bytes.len() as u64 - slot.offset;
    }
    let pages = Arc::new(Pages::copy_of(&bytes).expect("memory"));
    let code = Code::from_bytes(&program.code).expect("code");
    let pool = Pool::new(Some(threads)).expect("threads");
    Session::new(&program, code, pages, pool, None).unwrap_or_else(|why| panic!("{why}"))
}

/// The bytes of `numbers`, multiples of 1/32 where blocks have that scale.
fn encode(dtype: DType, numbers: &[f64]) -> Vec<u8> {
    const SCALE: [u8; 2] = 0x2800u16.to_le_bytes();
    if dtype == DType::F32 {
        return numbers.iter().flat_map(|it| (*it as f32).to_le_bytes()).collect();
    }
    let whole = |it: &f64| (it * 32.0).round() as i8 as u8;
    let block = |it: &[f64]| SCALE.into_iter().chain(it.iter().map(whole)).collect::<Vec<u8>>();
    numbers.chunks(32).flat_map(block).collect()
}

/// What the whole module gives for `tokens`.
pub(crate) fn meaning(
    module: &Module,
    weights: &BTreeMap<Name, Tensor>,
    tokens: &[i32],
) -> Vec<f64> {
    let sizes = module.axes.sizes(&[("S".into(), tokens.len())].into()).expect("extents");
    let numbers = tokens.iter().map(|&it| f64::from(it)).collect();
    let input = Tensor::new(module.entry().params[0].ty.clone(), &sizes, numbers);
    let argument = |it: &ir::Param| weights.get(&it.name).unwrap_or(&input);
    let arguments: Vec<&Tensor> = module.entry().params.iter().map(argument).collect();
    ir::eval(module, &arguments, &sizes, false).expect("arguments that fit").remove(0).data
}
