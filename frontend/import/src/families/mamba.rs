//! What Mamba-2 and Nemotron-H have in common: the sizes of a recurrence and its time steps.

use crate::config::Config;
use crate::error::Error;

/// Settings that were for drawing the first weights, for memory, or for programs: none of them
/// changes what a trained model computes. A residual stream in `f32` is the only one there is here.
const WITHOUT_EFFECT: [&str; 9] = [
    "chunk_size",
    "expand",
    "mamba_ssm_cache_dtype",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
    "use_mamba_kernels",
];

/// The sizes of a Mamba-2 mixer.
pub(super) struct Mixer {
    pub(super) groups: usize,
    pub(super) heads: usize,
    pub(super) head_width: usize,
    pub(super) state: usize,
    pub(super) window: usize,
}

impl Mixer {
    /// The axes `H J D N W`: groups, heads in each, head width, state, width of the convolution.
    pub(super) fn axes(&self) -> Result<[(&'static str, usize); 5], Error> {
        if !self.heads.is_multiple_of(self.groups) {
            let message = format!("{} heads cannot be in {} groups", self.heads, self.groups);
            return Err(Error::new("T0311", message));
        }
        Ok([
            ("H", self.groups),
            ("J", self.heads / self.groups),
            ("D", self.head_width),
            ("N", self.state),
            ("W", self.window),
        ])
    }

    /// From the metadata of a GGUF file.
    pub(super) fn of_gguf(config: &Config<'_>) -> Result<Mixer, Error> {
        let inner = config.required("ssm.inner_size")?;
        let heads = config.required("ssm.time_step_rank")?;
        if !inner.is_multiple_of(heads) {
            return Err(config.refuse("ssm.time_step_rank", format!("{heads}, of {inner}")));
        }
        Ok(Mixer {
            groups: config.count("ssm.group_count")?.unwrap_or(1),
            heads,
            head_width: inner / heads,
            state: config.required("ssm.state_size")?,
            window: config.required("ssm.conv_kernel")?,
        })
    }
}

/// Passes over what has no effect, and refuses what the specs do not do.
pub(super) fn check(config: &Config<'_>) -> Result<(), Error> {
    config.ignore(&WITHOUT_EFFECT);
    // Without a bias the weight map takes 0 for it.
    config.flag("use_conv_bias")?;
    super::decoder::check_unset(config, &["use_bias", "mamba_proj_bias"])
}

/// The least time step; the greatest is to be without a limit.
pub(super) fn least_time_step(config: &Config<'_>) -> Result<f64, Error> {
    let Some(limits) = config.numbers("time_step_limit")? else { return Ok(0.0) };
    match limits[..] {
        [least, most] if least >= 0.0 && most == f64::INFINITY => Ok(least),
        _ => Err(config.refuse("time_step_limit", format!("{limits:?}"))),
    }
}
