//! The text of a kernel that is several small ones, block by block.

use std::fmt::Write;

use kernels_cuda::Instance;

use crate::arguments::Kind;
use crate::loops;
use crate::program::Kernel;

/// Parts, one after the other.
#[derive(Default)]
pub(crate) struct Parts {
    names: Vec<String>,
    includes: Vec<&'static str>,
    prefaces: Vec<String>,
    functions: String,
    parameters: String,
    calls: String,
}

impl Parts {
    /// Adds `instance`, to which words are `passed`: by place, and as what.
    pub(crate) fn add(&mut self, name: &str, instance: &Instance, passed: &[(usize, Kind)]) {
        let part = self.names.len();
        self.names.push(name.to_owned());
        self.includes.extend(&instance.includes);
        if !self.prefaces.contains(&instance.preface) {
            self.prefaces.push(instance.preface.clone());
        }
        let (mut own, mut given, mut moved) = (String::new(), String::new(), String::new());
        for (i, kind) in passed {
            for name in kind.names(*i) {
                let _ = write!(own, ", long {name}");
                let _ = write!(given, ", p{part}_{name}");
                let _ = write!(self.parameters, ", long p{part}_{name}");
            }
            moved += &kind.preface(*i);
        }
        let waits = match instance.waits {
            true => "",
            false => "  wait_for_earlier();\n  let_later_start();\n",
        };
        let body = instance.body.replace("blockIdx.x", "block").replace("gridDim.x", "blocks");
        let _ = writeln!(
            self.functions,
            "__device__ __forceinline__ void part{part}(const long* past, int block, int blocks{own}) {{\n\
             {moved}{waits}  {}\n}}\n",
            body.trim()
        );
        let from = if part == 0 { "0".to_owned() } else { format!("end{}", part - 1) };
        let _ = writeln!(
            self.calls,
            "  if (blockIdx.x < end{part})\n    \
             return part{part}(past, (int)blockIdx.x - (int){from}, (int)(end{part} - {from}){given});"
        );
    }

    /// The kernel. Behind the words of all parts it is told where each ends.
    pub(crate) fn finish(mut self) -> Kernel {
        self.includes.sort_unstable();
        self.includes.dedup();
        let includes: String =
            self.includes.iter().map(|it| format!("#include \"{it}\"\n")).collect();
        let ends: String = (0..self.names.len()).map(|it| format!(", long end{it}")).collect();
        let source = format!(
            "{includes}\n{}{}extern \"C\" __global__ void __launch_bounds__({})\n\
             run(const long* past{}{ends}) {{\n{}}}\n",
            self.prefaces.concat(),
            self.functions,
            loops::THREADS,
            self.parameters,
            self.calls
        );
        let (name, entry) = (self.names.join(" "), "run".to_owned());
        Kernel { name, entry, source, threads: loops::THREADS, ..Kernel::default() }
    }
}
