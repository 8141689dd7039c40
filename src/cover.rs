//! Kernel selection as a pass of the pipeline.

use ir::Module;
use passes::{Contract, Cx, Fault, Pass};

/// Makes every chosen claim of a kernel a function of its own, see [`kernels::cover`].
pub struct Cover;

impl Pass for Cover {
    fn name(&self) -> &'static str {
        "cover"
    }

    fn about(&self) -> &'static str {
        "gives to kernels what they can compute"
    }

    fn contract(&self) -> Contract {
        Contract::Exact
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn run(&self, module: &Module, cx: &mut Cx) -> Result<Module, Fault> {
        Ok(kernels::cover(module, kernels::ALL, &mut |function, kernel| {
            cx.allows(function, kernel)
        }))
    }
}
