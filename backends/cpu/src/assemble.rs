//! Functions as one piece of machine code that runs wherever it is mapped.

use cranelift_codegen::{
    Context, FinalizedRelocTarget,
    binemit::Reloc,
    control::ControlPlane,
    entity::PrimaryMap,
    ir::{ExternalName, Function as Clif, UserExternalName, UserExternalNameRef},
    isa::{self, OwnedTargetIsa, TargetIsa},
    settings::{self, Configurable},
};
use runtime::Level;

/// Functions begin at multiples of this many bytes.
pub(crate) const ALIGN: usize = 64;

/// The processors that code is made for at `level`. Wider vectors are the kernels' business.
///
/// # Errors
///
/// Never on a sound build of Cranelift.
pub(crate) fn target(level: Level) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    let fixed = [("opt_level", "speed"), ("is_pic", "true"), ("enable_probestack", "false")];
    for (name, value) in fixed {
        flags.set(name, value).map_err(|it| it.to_string())?;
    }
    let mut isa = isa::lookup_by_name("x86_64-unknown-linux-gnu").map_err(|it| it.to_string())?;
    let features: &[&str] = match level {
        Level::V2 => &[],
        Level::V3 => &["has_avx", "has_avx2", "has_bmi1", "has_bmi2", "has_lzcnt", FUSED],
    };
    let common = ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];
    for feature in common.iter().chain(features) {
        isa.enable(feature).map_err(|it| it.to_string())?;
    }
    isa.finish(settings::Flags::new(flags)).map_err(|it| it.to_string())
}

/// Cranelift's name for the instructions that multiply and add.
const FUSED: &str = "has_fma";

/// Whether `isa` has them.
pub(crate) fn multiplies_and_adds(isa: &dyn TargetIsa) -> bool {
    isa.isa_flags().iter().any(|it| it.name == FUSED && it.as_bool() == Some(true))
}

/// Code and where its last function begins.
pub(crate) struct Blob {
    /// The bytes.
    pub(crate) code: Vec<u8>,
    /// Where the last function begins.
    pub(crate) entry: usize,
}

/// Compiles `functions` and joins them. Function `i` is known to the others as user function `i` of
/// namespace 0.
///
/// # Errors
///
/// What Cranelift refuses, or a relocation other than for a call or an address within the blob.
pub(crate) fn assemble(functions: Vec<Clif>, isa: &OwnedTargetIsa) -> Result<Blob, String> {
    let mut code = Vec::new();
    let mut starts = Vec::new();
    let mut uses = Vec::new();
    for function in functions {
        let mut context = Context::for_function(function);
        let names = context.func.params.user_named_funcs().clone();
        let compiled = context
            .compile(&**isa, &mut ControlPlane::default())
            .map_err(|it| format!("{:?}", it.inner))?;
        code.resize(code.len().next_multiple_of(ALIGN), 0xcc);
        let start = code.len();
        starts.push(start);
        code.extend_from_slice(compiled.code_buffer());
        for reloc in compiled.buffer.relocs() {
            let at = start + reloc.offset as usize;
            if reloc.kind == Reloc::X86GOTPCRel4 {
                take_address(&mut code, at)?;
            }
            uses.push((at, reloc.addend, used(&names, reloc)?));
        }
    }
    for (at, addend, callee) in uses {
        let distance = starts[callee] as i64 + addend - at as i64;
        let distance = i32::try_from(distance).map_err(|_| "the code is too large".to_owned())?;
        code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    Ok(Blob { entry: starts.last().copied().unwrap_or(0), code })
}

/// Makes the load of an address from a table, whose operand is at `at`, one that computes it: there
/// is no table, and both instructions take the same distance.
fn take_address(code: &mut [u8], at: usize) -> Result<(), String> {
    const MOV: u8 = 0x8b;
    const LEA: u8 = 0x8d;
    match at.checked_sub(2).and_then(|it| code.get_mut(it)) {
        Some(opcode) if *opcode == MOV => *opcode = LEA,
        _ => return Err("generated code takes an address in an unknown way".to_owned()),
    }
    Ok(())
}

/// The function that a relocation is for.
fn used(
    names: &PrimaryMap<UserExternalNameRef, UserExternalName>,
    reloc: &cranelift_codegen::FinalizedMachReloc,
) -> Result<usize, String> {
    match (&reloc.kind, &reloc.target) {
        (
            Reloc::X86CallPCRel4 | Reloc::X86GOTPCRel4,
            FinalizedRelocTarget::ExternalName(ExternalName::User(name)),
        ) => Ok(names[*name].index as usize),
        (kind, target) => Err(format!("generated code may not need {kind:?} of {target:?}")),
    }
}
