//! What a program needs of a GPU's memory, and whether it has it: known before anything is
//! allocated.

use kernels_cuda::MOST_SEQUENCES;
use runtime::{Fault, Port, Program, Room, StateSlot};

use crate::driver::Device;
use crate::program::GpuProgram;

/// Refuses more sequences than kernels are made for.
pub(crate) fn check_sequences(gpu: &GpuProgram, sequences: u64) -> Result<(), Fault> {
    match &gpu.batch {
        Err(why) if 1 < sequences => Err(Fault::new("R0304", why.clone())),
        _ if MOST_SEQUENCES < sequences => {
            let message = format!("{sequences} sequences at once, where {MOST_SEQUENCES} can be");
            Err(Fault::new("R0303", message))
        }
        _ => Ok(()),
    }
}

/// Refuses a program for which the first GPU of this machine has no room, however short its texts
/// are. Only the places of its weights have to be known.
///
/// # Errors
///
/// When it does not fit, or there is no GPU.
pub fn check(program: &Program) -> Result<(), Fault> {
    let free = Device::open()?.properties()?.memory[0];
    check_room(program, 0, Room { positions: 1, sequences: 1 }, free)
}

/// Refuses, before anything is allocated, what does not fit.
pub(crate) fn check_room(
    program: &Program,
    scratch: u64,
    room: Room,
    free: u64,
) -> Result<(), Fault> {
    let ends = program.weights.iter().map(|it| it.offset.saturating_add(it.bytes));
    let weights = ends.max().unwrap_or(0);
    let of_state = |it: &StateSlot| it.bytes(room.positions)?.checked_mul(room.sequences);
    let states = sum(program.states.iter().map(of_state))?;
    let ports = program.inputs.iter().chain(&program.outputs);
    let ports = sum(ports.map(|it| port_bytes(it, most_rows(program, it))))?;
    let constants = program.constants.len() as u64;
    let all = [weights, states, ports, constants, program.arena_bytes, scratch];
    let wanted = sum(all.into_iter().map(Some))?;
    if wanted <= free {
        return Ok(());
    }
    // No shorter text makes room for weights.
    let help = match free < weights {
        true => "a smaller `--precision`".to_owned(),
        false => {
            let fewer = if 1 < room.sequences { "a smaller `--batch`, " } else { "" };
            format!("{fewer}a smaller `--context`, `--cache bf16`, or a smaller `--precision`")
        }
    };
    let [wanted, free, weights, states] =
        [wanted, free, weights, states].map(|it| it as f64 / (1u64 << 30) as f64);
    let message = format!(
        "the model wants {wanted:.1} GiB ({weights:.1} for weights, {states:.1} for states), and \
         {free:.1} are free"
    );
    Err(Fault::new("R0702", message).help(help))
}

/// The sum of counts, if it can be counted.
fn sum(mut counts: impl Iterator<Item = Option<u64>>) -> Result<u64, Fault> {
    counts.try_fold(0u64, |sum, it| sum.checked_add(it?)).ok_or_else(uncountable)
}

/// Bytes of so many rows, if they can be counted.
pub(crate) fn port_bytes(port: &Port, rows: u64) -> Option<u64> {
    rows.checked_mul(port.row)?.checked_mul(port.element_bytes)
}

/// The most rows of a port.
pub(crate) fn most_rows(program: &Program, port: &Port) -> u64 {
    port.rows.map_or(1, |it| program.extents[it].max)
}

pub(crate) fn uncountable() -> Fault {
    Fault::new("R0702", "the program wants more memory than can be counted")
}
