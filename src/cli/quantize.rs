//! `quantize`: a checkpoint with weights in fewer bits, as other programs write and read them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use import::quantised::Convention;
use ir::DType;
use serde_json::{Value, json};
use treen::export::{self, Exported};
use treen::precision::Report;
use treen::{Error, Weights};

use super::folder::{self, Folder};
use super::{ModelArgs, build::Unbound, precision, unwritable};

/// Write a checkpoint with weights in fewer bits
///
/// The folder holds what `--precision` says, under the names of the model's own checkpoint, with
/// the scales as further tensors. It can be used as any other.
#[derive(Args)]
pub(super) struct QuantizeArgs {
    /// Which model, and in how many bits.
    #[command(flatten)]
    model: ModelArgs,
    /// How the parts of a weight are named
    #[arg(long, default_value = "modelopt")]
    convention: Naming,
    /// The folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// How the parts of a weight are named.
#[derive(Clone, Copy, ValueEnum)]
enum Naming {
    /// As NVIDIA's Model Optimizer does
    Modelopt,
    /// As llm-compressor and vLLM do
    CompressedTensors,
}

impl Naming {
    fn convention(self) -> Convention {
        match self {
            Naming::Modelopt => Convention::ModelOpt,
            Naming::CompressedTensors => Convention::CompressedTensors,
        }
    }
}

impl QuantizeArgs {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.model.budget.is_some() {
            return Err(Error::new("C0305", "a model is cut or stored anew, one after the other")
                .help("`treen prune` writes a cut model"));
        }
        let assignment = self.model.precision.assign(&self.model)?.ok_or_else(|| {
            Error::new("C0307", "what are the weights to be stored in?").help("say --precision")
        })?;
        let assignment = precision::shared(&self.model, assignment)?;
        let spec = self.model.open()?;
        let options = assignment.options(self.model.options());
        let unbound = Unbound::with(&self.model, options)?;
        let Weights::Checkpoint(checkpoint) = &unbound.weights else {
            return Err(Error::new("C0204", "random weights are not written to a checkpoint"));
        };
        let target = unbound.maps.iter().find(|it| it.format == "hf").ok_or_else(|| {
            Error::new(
                "C0202",
                "the spec has no section `weights hf`, by which weights are written",
            )
        })?;
        let stored = Some((&assignment, self.convention.convention()));
        let module = spec.compile()?.module;
        let exported = export::tensors(&module, &unbound.maps, target, checkpoint, stored)?;
        let folder = Folder::create(&self.output)?;
        folder.tensors("model.safetensors", &exported.tensors)?;
        folder.save("model.tn", spec.text()?.as_bytes())?;
        let mut config = folder::config(&spec);
        config.insert("quantization_config".to_owned(), self.quantization(&exported));
        folder.save("config.json", format!("{:#}\n", Value::Object(config)).as_bytes())?;
        folder.copy_same(&spec)?;
        let report = Report::new(&unbound.bind()?.manifest().program, &assignment);
        let text = match self.json {
            true => format!("{:#}\n", json!(report)),
            false => report.to_string(),
        };
        out.write_all(text.as_bytes()).map_err(unwritable)
    }

    /// What is stored in what, for programs that do not look at the tensors themselves.
    fn quantization(&self, exported: &Exported) -> Value {
        let mut groups: BTreeMap<(&str, DType), Vec<&str>> = BTreeMap::new();
        for (layer, dtype) in &exported.formats {
            let scale = exported.tensors.get(&format!("{layer}.weight_scale"));
            let shape = scale.map_or(&[][..], |it| &it.shape);
            groups.entry((strategy(*dtype, shape), *dtype)).or_default().push(layer);
        }
        let is_plain = |name: &&str| !exported.formats.contains_key(*name);
        let matrices = exported.tensors.iter().filter(|it| it.1.shape.len() == 2);
        let names = matrices.filter_map(|it| it.0.strip_suffix(".weight"));
        let ignored: Vec<&str> = names.filter(is_plain).collect();
        match self.convention {
            Naming::Modelopt => modelopt(&groups, &ignored),
            Naming::CompressedTensors => compressed_tensors(&groups, &ignored),
        }
    }
}

/// The layers of each way to store them.
type Groups<'a> = BTreeMap<(&'a str, DType), Vec<&'a str>>;

/// What shares a scale, by the shape of the scales.
fn strategy(dtype: DType, scales: &[usize]) -> &'static str {
    match (dtype, scales) {
        (DType::NvFp4, _) => "tensor_group",
        (DType::F8Block, _) => "block",
        (DType::MxFp4 | DType::MxFp8, _) => "group",
        (_, [] | [1]) => "tensor",
        _ => "channel",
    }
}

/// How weights of a group are stored.
fn weights((strategy, dtype): (&str, DType)) -> Value {
    let bits = if matches!(dtype, DType::NvFp4 | DType::MxFp4) { 4 } else { 8 };
    let group = match dtype {
        DType::F8Block => Value::Null,
        _ if 1 < dtype.block_len() => json!(dtype.block_len()),
        _ => Value::Null,
    };
    json!({
        "num_bits": bits,
        "type": "float",
        "strategy": strategy,
        "group_size": group,
        "symmetric": true,
        "dynamic": false,
    })
}

fn modelopt(groups: &Groups<'_>, ignored: &[&str]) -> Value {
    let algorithm = |(strategy, dtype): (&str, DType)| match (dtype, strategy) {
        (DType::NvFp4, _) => "W4A16_NVFP4",
        (DType::MxFp4, _) => "W4A16_MXFP4",
        (DType::MxFp8, _) => "MXFP8",
        (DType::F8Block, _) => "FP8_PB_WO",
        (_, "tensor") => "FP8",
        _ => "FP8_PC_PT",
    };
    let algorithms: Vec<&str> = groups.keys().map(|it| algorithm(*it)).collect();
    let whole = if let [only] = algorithms[..] { only } else { "MIXED_PRECISION" };
    let mut layers = serde_json::Map::new();
    for (group, names) in groups {
        for name in names {
            layers.insert((*name).to_owned(), json!({ "quant_algo": algorithm(*group) }));
        }
    }
    json!({
        "quant_method": "modelopt",
        "quant_algo": whole,
        "config_groups": config_groups(groups),
        "quantized_layers": layers,
        "ignore": ignored,
    })
}

fn compressed_tensors(groups: &Groups<'_>, ignored: &[&str]) -> Value {
    let format = |dtype: DType| match dtype {
        DType::NvFp4 => "nvfp4-pack-quantized",
        DType::MxFp4 => "mxfp4-pack-quantized",
        DType::MxFp8 => "mxfp8-quantized",
        _ => "float-quantized",
    };
    let mut formats: Vec<&str> = groups.keys().map(|it| format(it.1)).collect();
    formats.dedup();
    let whole = if let [only] = formats[..] { only } else { "mixed-precision" };
    let mut described = config_groups(groups);
    for (group, (_, dtype)) in described.values_mut().zip(groups.keys()) {
        group["format"] = json!(format(*dtype));
    }
    json!({
        "quant_method": "compressed-tensors",
        "format": whole,
        "quantization_status": "compressed",
        "config_groups": described,
        "ignore": ignored,
    })
}

/// Each group with its layers.
fn config_groups(groups: &Groups<'_>) -> serde_json::Map<String, Value> {
    let described = groups.iter().enumerate().map(|(i, (group, names))| {
        let described = json!({ "weights": weights(*group), "targets": names });
        (format!("group_{i}"), described)
    });
    described.collect()
}
