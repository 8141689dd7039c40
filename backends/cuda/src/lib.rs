//! The CUDA backend: from a graph in step form to kernels that NVRTC compiles and a driver runs.
//!
//! [`draft`] makes the plan; [`Draft::finish`] prints the kernels once the formats of weights are
//! known, and compiles them; [`engine`] runs the outcome.

mod alone;
mod arguments;
mod batch;
mod code;
mod compose;
mod driver;
mod element;
mod emit;
mod engine;
mod images;
mod library;
mod lines;
mod loops;
mod made_up;
mod narrow;
mod nvrtc;
mod parts;
mod program;
mod room;
mod rows;
mod toolkit;

pub use kernels_cuda::{Tunable, Tuned};

pub use driver::Properties;
pub use engine::open;
pub use library::library_version;
pub use lines::Lines;
pub use made_up::Drawn;
pub use nvrtc::{Compiler, Image, Resources};
pub use program::{
    Base, Blocks, Choice, Counter, Form, GpuProgram, Kernel, Launch, Multiplied, Product, Step,
    Sum, TensorMap, Word,
};
pub use room::check;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ir::{DType, Module, Name, StepAxes};
use plan::Plan;

use emit::Generated;
use images::Images;

/// The architectures that code is made for: Ampere, Hopper, Blackwell.
pub const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_100a"];

/// What the first GPU of this machine is.
///
/// # Errors
///
/// When there is none.
pub fn properties() -> Result<Properties, runtime::Fault> {
    driver::Device::open()?.properties()
}

/// A module that is planned, and waits for the formats of its weights.
pub struct Draft {
    axes: StepAxes,
    generated: BTreeMap<Name, Generated>,
}

/// Plans `module`, whose functions hold only calls of kernels and loops, scans, views, appends to
/// states and tables of constants.
///
/// # Errors
///
/// What this backend can not run, in a sentence.
pub fn draft(module: &Module, axes: &StepAxes) -> Result<(Plan, Draft), String> {
    let mut generated = BTreeMap::new();
    let mut plan = plan::plan(module, &mut |module: &Module, function, products| {
        let words = loops::words(module, function, products)
            .map_err(|why| format!("@{}: {why}", function.name))?;
        let it = Generated { function: function.clone(), products, words: words.clone() };
        generated.insert(function.name.clone(), it);
        Ok(words)
    })?;
    compose::compose(module, &mut plan, &mut generated);
    plan::assign(&mut plan);
    Ok((plan, Draft { axes: axes.clone(), generated }))
}

impl GpuProgram {
    /// Compiles every kernel for those of `architectures` where something comes to it, on as many
    /// threads as pay; what is kept in `folder` is not made again.
    ///
    /// # Errors
    ///
    /// What the compiler said, with the text that it could not compile.
    pub fn compile(
        &mut self,
        architectures: &[String],
        folder: Option<&Path>,
    ) -> Result<(), String> {
        let images = self.images(architectures, folder)?;
        self.architectures = architectures.to_vec();
        for (kernel, images) in self.kernels.iter_mut().zip(images) {
            kernel.images = images.into_iter().map(Option::unwrap_or_default).collect();
        }
        Ok(())
    }

    /// What each kernel becomes on each of `architectures`, where something comes to it.
    ///
    /// # Errors
    ///
    /// As [`GpuProgram::compile`].
    pub fn images(
        &self,
        architectures: &[String],
        folder: Option<&Path>,
    ) -> Result<Vec<Vec<Option<Image>>>, String> {
        let compiler = Compiler::find()?;
        let kept = Images::new(&compiler, folder)?;
        let reached: Vec<Vec<bool>> = architectures.iter().map(|it| self.reached_on(it)).collect();
        let jobs: Vec<(usize, usize)> = (0..self.kernels.len())
            .flat_map(|it| (0..architectures.len()).map(move |to| (it, to)))
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let job = next.fetch_add(1, Relaxed);
                let Some(&(kernel, to)) = jobs.get(job) else { break done };
                let Kernel { name, source, .. } = &self.kernels[kernel];
                let made = reached[to][kernel].then(|| kept.get(source, &architectures[to]));
                let made = made.transpose();
                done.push((job, made.map_err(|why| format!("kernel `{name}`: {why}\n{source}"))));
            }
        };
        let mut done = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..runtime::default_threads()).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|it| it.join().map_err(|_| "a compiler panicked"));
            done.collect::<Result<Vec<_>, _>>()
                .map(|it| it.into_iter().flatten().collect::<Vec<_>>())
        })?;
        done.sort_by_key(|it| it.0);
        let mut made = done.into_iter().map(|it| it.1);
        let rows = self.kernels.iter();
        rows.map(|_| made.by_ref().take(architectures.len()).collect()).collect()
    }
}

impl Draft {
    /// The program of `plan`, which was made with this draft, for weights in `formats`, slot by
    /// slot; its kernels have no images yet. Where `rounds`, kernels for many rows may round what
    /// they multiply to 16 bits; they are cut as is `tuned`.
    ///
    /// # Errors
    ///
    /// What no kernel can do, in a sentence.
    pub fn program(
        &self,
        module: &Module,
        plan: &Plan,
        formats: &[DType],
        rounds: bool,
        tuned: &Tuned,
    ) -> Result<GpuProgram, String> {
        emit::emit(module, &self.axes, plan, &self.generated, formats, rounds, tuned)
    }
}
