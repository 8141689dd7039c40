//! Which of a program's images a device runs.

use runtime::Fault;

use crate::Image;
use crate::driver::{Device, Function};
use crate::program::{GpuProgram, Kernel, capability_of};

/// What a device runs of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// Its place among the program's architectures.
    architecture: usize,
    /// Such as 90 for `sm_90a`.
    pub(crate) made_for: u32,
    /// Whether the driver compiles it.
    is_ptx: bool,
}

impl Code {
    /// What a device of that capability runs: what was compiled for its own architecture or the
    /// newest of older ones of its family; else the PTX for the newest of older ones.
    pub(crate) fn choose(architectures: &[String], capability: u32) -> Result<Code, Fault> {
        let of = |(architecture, name): (usize, &String)| {
            let made_for = capability_of(name).filter(|it| *it <= capability)?;
            let is_of_family = made_for / 10 == capability / 10;
            // The instructions of `a` architectures are of that one alone.
            let runs = !name.ends_with('a') || made_for == capability;
            runs.then_some(Code { architecture, made_for, is_ptx: !is_of_family })
        };
        let all = architectures.iter().enumerate().filter_map(of);
        all.max_by_key(|it| (!it.is_ptx, it.made_for)).ok_or_else(|| {
            let made_for = architectures.join(", ");
            let message =
                format!("the model was compiled for {made_for}, and the GPU is sm_{capability}");
            Fault::new("R0704", message).help("compile it with another `--target cuda:..`")
        })
    }

    /// That of a kernel, as the driver takes it; empty where there is none.
    fn of(self, image: &Image) -> Vec<u8> {
        match image.ptx.as_str() {
            _ if !self.is_ptx => image.cubin.clone(),
            "" => Vec::new(),
            ptx => [ptx.as_bytes(), &[0]].concat(),
        }
    }
}

/// The kernels of `program` on a device that runs such code and lets a block have as many bytes of
/// shared memory; `None` for those that are not for it.
pub(crate) fn functions(
    device: &Device,
    program: &GpuProgram,
    code: Code,
    most_shared: u32,
) -> Result<Vec<Option<Function>>, Fault> {
    let load = |it: &Kernel| {
        let (image, shared) = (&it.images[code.architecture], it.shared_for(code.made_for));
        let code = code.of(image);
        if code.is_empty() || most_shared < shared {
            return Ok(None);
        }
        let function = device.function(&code, &it.entry)?;
        if 0 < shared {
            device.allow_shared(&function, shared)?;
        }
        Ok(Some(function))
    };
    program.kernels.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_runs_what_was_made_for_it() {
        let choose = |architectures: &[&'static str], capability| {
            let all: Vec<String> = architectures.iter().map(|it| (*it).to_owned()).collect();
            let code = Code::choose(&all, capability).ok()?;
            Some((architectures[code.architecture], code.is_ptx))
        };
        let all = ["sm_80", "sm_90a", "sm_100a"];
        assert_eq!(choose(&all, 80), Some(("sm_80", false)));
        assert_eq!(choose(&all, 89), Some(("sm_80", false)));
        assert_eq!(choose(&all, 90), Some(("sm_90a", false)));
        assert_eq!(choose(&all, 103), Some(("sm_80", true)));
        assert_eq!(choose(&all, 75), None);
        assert_eq!(choose(&all[1..], 103), None);
        assert_eq!(choose(&["sm_90", "sm_80", "sm_75"], 120), Some(("sm_90", true)));
        assert_eq!(choose(&["sm_86", "sm_80"], 89), Some(("sm_86", false)));
    }
}
