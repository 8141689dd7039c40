//! The smallest model that a session runs.

use ir::DType;
use runtime::{Entry, ExtentRole, ExtentSlot, Level, Manifest, Port, Program, WeightSlot};

/// Thread 0 copies the first token's bits to the first logit.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x48, 0x85, 0xF6,       // test rsi, rsi
    0x75, 0x12,             // jnz end
    0x48, 0x8B, 0x47, 0x30, // mov rax, [rdi + 48]  inputs
    0x48, 0x8B, 0x00,       // mov rax, [rax]
    0x8B, 0x00,             // mov eax, [rax]
    0x48, 0x8B, 0x4F, 0x38, // mov rcx, [rdi + 56]  outputs
    0x48, 0x8B, 0x09,       // mov rcx, [rcx]
    0x89, 0x01,             // mov [rcx], eax
    0xC3,                   // end: ret
];

/// What its weight slot lies in.
pub(crate) const WEIGHTS: &[u8] = &[7; 1000];

/// Takes up to 8 tokens and prefers token 0, unless it reads that.
pub(crate) fn manifest() -> Manifest {
    let extent = |name: &str, role| ExtentSlot { name: name.into(), role, max: 8 };
    let port =
        |ty: &str, row, rows| Port { name: ty.into(), ty: ty.into(), element_bytes: 4, row, rows };
    let weight = WeightSlot {
        name: "w".into(),
        layer: 0,
        dtype: DType::F32,
        shape: [1, 234],
        packed: false,
        offset: 64,
        bytes: 936,
    };
    let program = Program {
        entries: vec![Entry { level: Level::V2, at: 0 }],
        abi: runtime::abi::ABI,
        name: "tiny".into(),
        code: CODE.to_vec(),
        vocabulary: 10,
        kernels: vec!["matmul".into()],
        extents: vec![extent("S", ExtentRole::New), extent("Past", ExtentRole::Past)],
        inputs: vec![port("i32[S]", 1, Some(0))],
        outputs: vec![port("f32[V]", 10, None)],
        weights: vec![weight],
        ..Program::default()
    };
    Manifest { program, spec: "model tiny() {}".into(), ..Manifest::default() }
}
