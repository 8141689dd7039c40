//! `doctor`: what this machine can do.

use std::io::Write;
use std::process::Command;

use clap::Args;
use kernels_cpu::Isa;
use treen::Error;

use super::unwritable;

/// Say what this machine can do and what it lacks
#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        let findings = findings();
        if self.json {
            let object: serde_json::Map<String, serde_json::Value> =
                findings.into_iter().map(|(name, it)| (name.to_owned(), it.into())).collect();
            return writeln!(out, "{:#}", serde_json::Value::Object(object)).map_err(unwritable);
        }
        findings
            .iter()
            .try_for_each(|(name, it)| writeln!(out, "{name:<10} {it}").map_err(unwritable))
    }
}

/// What was looked for, and what was found.
fn findings() -> Vec<(&'static str, String)> {
    let isa = Isa::ALL.into_iter().find(|it| it.is_supported());
    let kernels = match isa {
        Some(Isa::Avx512) => "AVX-512",
        Some(Isa::Avx2) => "AVX2 and FMA; no AVX-512",
        Some(Isa::Portable) | None => "portable ones only: slow, for want of AVX2 and FMA",
    };
    vec![
        ("threads", runtime::default_threads().to_string()),
        ("kernels", kernels.to_owned()),
        (
            "python3",
            version("python3", &["--version"], "only `treen pull` and catalog names need it"),
        ),
        (
            "pip",
            version(
                "python3",
                &["-m", "pip", "--version"],
                "only `treen pull` and catalog names need it",
            ),
        ),
        ("NVRTC", nvrtc()),
        ("cuBLASLt", cublaslt()),
        ("GPU", gpu()),
    ]
}

/// Whether kernels for GPUs can be compiled.
fn nvrtc() -> String {
    let compiler = match cuda::Compiler::find() {
        Ok(it) => it,
        Err(why) => return format!("missing; only `--target cuda` needs it: {why}"),
    };
    let kernel = "#include <cuda_bf16.h>\nextern \"C\" __global__ void run() {}\n";
    let compiled = compiler.compile(kernel, cuda::ARCHITECTURES[0]);
    match compiled.and_then(|_| compiler.version()) {
        Ok(version) => format!("version {version}, compiles kernels for GPUs"),
        Err(why) => format!("does not compile; only `--target cuda` needs it: {}", why.trim()),
    }
}

/// Whether NVIDIA's library for products is there.
fn cublaslt() -> String {
    let version = cuda::library_version();
    let told = |it: usize| format!("version {}.{}.{}", it / 10_000, it / 100 % 100, it % 100);
    version.map_or("missing; kernels of this program multiply instead".to_owned(), told)
}

/// Whether there is a GPU to run on.
fn gpu() -> String {
    match cuda::properties() {
        Ok(it) => {
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            let [free, all] = it.memory.map(gib);
            format!(
                "{}, compute capability {}.{}, {} multiprocessors, {free:.1} of {all:.1} GiB free",
                it.name,
                it.capability / 10,
                it.capability % 10,
                it.processors
            )
        }
        Err(fault) => format!("none to run on: {}", fault.message),
    }
}

fn version(program: &str, args: &[&str], without: &str) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|it| it.status.success());
    match output {
        Some(it) => {
            let text = String::from_utf8_lossy(&it.stdout).into_owned();
            text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        }
        None => format!("missing; {without}"),
    }
}
