//! From a plan to kernels and launches: every launch gets its forms and their texts.

use std::collections::BTreeMap;
use std::fmt::Write;

use ir::{DType, Function, Module, Name, StepAxes};
use kernels_cuda::{
    COUNTER_BYTES, Call, Grid, Instance, MOST_SEQUENCES, MOST_TOKENS, Tuned, Word as Given,
    template,
};
use plan::{Base, Callee, Counter, LoopWord, Place, Plan, Word};

use crate::alone::{draw, greedy, multipliers, reader};
use crate::arguments::{Arguments, Kind};
use crate::batch;
use crate::lines::Lines;
use crate::loops::{self, Tail};
use crate::narrow::Narrow;
use crate::parts::Parts;
use crate::program::{self, Blocks, Choice, Form, GpuProgram, Kernel};

/// A function whose code is generated, with what it is called with.
pub(crate) struct Generated {
    pub(crate) function: Function,
    pub(crate) products: usize,
    pub(crate) words: Vec<LoopWord>,
}

/// A launch with its instances, for all layers or for some.
struct Printed<'s> {
    launch: &'s plan::Launch,
    of: Vec<(Layers, Vec<Instance>)>,
}

/// Makes a program of a plan.
pub(crate) struct Emitter<'a> {
    module: &'a Module,
    axes: &'a StepAxes,
    plan: &'a Plan,
    arguments: Arguments<'a>,
    generated: &'a BTreeMap<Name, Generated>,
    /// The formats of weights, slot by slot.
    formats: &'a [DType],
    /// Whether kernels for many rows may round what they multiply.
    rounds: bool,
    /// What was found by measuring.
    tuned: &'a Tuned,
    /// Which buffers hold `bf16`.
    narrow: Vec<bool>,
    program: GpuProgram,
}

/// The program of `plan`, without images.
///
/// # Errors
///
/// What no kernel can do, in a sentence.
pub(crate) fn emit(
    module: &Module,
    axes: &StepAxes,
    plan: &Plan,
    generated: &BTreeMap<Name, Generated>,
    formats: &[DType],
    rounds: bool,
    tuned: &Tuned,
) -> Result<GpuProgram, String> {
    let past = axes.past.as_ref().and_then(|it| plan.extents.iter().position(|at| at == it));
    let arguments = Arguments { module, plan, past, batch: false };
    let program = GpuProgram::default();
    let narrow = vec![false; plan.buffers.len()];
    let mut emitter = Emitter {
        module,
        axes,
        plan,
        arguments,
        generated,
        formats,
        rounds,
        tuned,
        narrow,
        program,
    };
    if rounds {
        let rounds = |it: &plan::Launch| emitter.has_narrow_weights(it);
        emitter.narrow = Narrow { module, plan, generated, rounds: &rounds }.buffers();
    }
    emitter.program.steps = emitter.steps(&plan.steps)?;
    emitter.add_batch();
    emitter.add_choice();
    emitter.program.scratch_bytes += COUNTER_BYTES;
    emitter.program.reader = emitter.program.add(reader());
    for (kernel, operations) in multipliers() {
        let kernel = emitter.program.add(kernel);
        emitter.program.multipliers.push((kernel, operations));
    }
    Ok(emitter.program)
}

impl Emitter<'_> {
    /// The step in which each position is the next one of a sequence of its own, if there is one.
    fn add_batch(&mut self) {
        self.arguments.batch = true;
        let before = self.program.clone();
        let batch = match self.arguments.past {
            Some(_) => self.steps(&self.plan.steps),
            None => Err("the model reads each text as a whole".to_owned()),
        };
        if batch.is_err() {
            self.program = before;
        }
        self.program.batch = batch;
    }

    /// The kernels that choose tokens, if the first output is logits.
    fn add_choice(&mut self) {
        let outputs = &self.module.entry().outputs;
        let ty = outputs.first().map(|it| self.module.entry().ty(it.value));
        let width = ty.filter(|it| it.dtype == DType::F32 && it.axes.len() == 2);
        let width = width.and_then(|it| self.module.axes.fixed(&it.axes[1]));
        if let Some(width) = width.filter(|it| *it as u64 <= MOST_TOKENS) {
            let (kernel, parts) = greedy(width as u64);
            let greedy = self.program.add(kernel);
            let draw = self.program.add(draw(width as u64));
            self.program.choice = Some(Choice { greedy, parts, draw });
            let scratch = 8 * parts * MOST_SEQUENCES;
            self.program.scratch_bytes = self.program.scratch_bytes.max(scratch);
        }
    }

    fn steps(&mut self, steps: &[plan::Step]) -> Result<Vec<program::Step>, String> {
        let (mut result, mut group) = (Vec::new(), Vec::new());
        for step in steps {
            if let plan::Step::Launch(launch) = step {
                let printed = self.printed(launch)?;
                if !self.joins(&group, &printed) {
                    self.add(std::mem::take(&mut group), &mut result)?;
                }
                group.push(printed);
                continue;
            }
            self.add(std::mem::take(&mut group), &mut result)?;
            if let plan::Step::Loop { id, axis, reverse, steps } = step {
                result.push(program::Step::Loop {
                    id: *id,
                    size: self.arguments.size(std::slice::from_ref(axis)),
                    reverse: *reverse,
                    steps: self.steps(steps)?,
                });
            }
        }
        self.add(group, &mut result)?;
        Ok(result)
    }

    /// Adds the launches of a group: as one, if there are several.
    fn add(
        &mut self,
        mut group: Vec<Printed<'_>>,
        result: &mut Vec<program::Step>,
    ) -> Result<(), String> {
        let forms = match group.len() {
            0 => return Ok(()),
            1 => self.forms(group.remove(0))?,
            _ => self.grouped(group)?,
        };
        result.push(program::Step::Launch(forms));
        Ok(())
    }

    /// Whether a launch may be one with those of `group`: all are small, and none depends on
    /// another.
    fn joins(&self, group: &[Printed<'_>], next: &Printed<'_>) -> bool {
        let is_part = |it: &Printed<'_>| match &it.of[..] {
            [(None, instances)] => {
                is_small(self.plan.callee_name(it.launch.callee)) && can_be_part(instances)
            }
            _ => false,
        };
        is_part(next)
            && group
                .iter()
                .all(|it| is_part(it) && !plan::conflict(self.plan, it.launch, next.launch))
    }

    /// One launch for all of `group`, and where some are for one row alone, those for more one
    /// after the other.
    fn grouped(&mut self, group: Vec<Printed<'_>>) -> Result<Vec<Form>, String> {
        let mut text = Parts::default();
        let (mut words, mut parts, mut rows) = (Vec::new(), Vec::new(), None);
        for Printed { launch, of } in &group {
            let first = &of[0].1[0];
            let (passed, own) = self.arguments.passed(launch)?;
            text.add(self.plan.callee_name(launch.callee), first, &passed);
            parts.push(self.arguments.blocks(launch, &first.grid[0]));
            rows = rows.or(first.rows.map(|(at, most)| (self.arguments.factor(launch, at), most)));
            words.extend(own);
        }
        let mut kernel = text.finish();
        group.iter().for_each(|it| kernel.lines.merge(self.lines(it.launch)));
        let kernel = self.program.add(kernel);
        let one = Blocks { of: Vec::new(), each: 1, most: 1 };
        let blocks = [one.clone(), one];
        let launch = program::Launch { kernel, maps: Vec::new(), words, blocks, parts };
        let is_for_one = rows.is_some();
        let mut forms = vec![Form { rows, launches: vec![launch], ..Form::default() }];
        if is_for_one {
            let mut launches = Vec::new();
            for Printed { launch, mut of } in group {
                let last = of[0].1.pop();
                launches.extend(last.map(|it| self.launch_of(launch, it)).transpose()?);
            }
            forms.push(Form { launches, ..Form::default() });
        }
        Ok(forms)
    }

    /// A launch with its instances for each choice of formats that layers have.
    fn printed<'s>(&self, launch: &'s plan::Launch) -> Result<Printed<'s>, String> {
        let formats = self.formats_of(launch).into_iter();
        let of = formats.map(|(layers, it)| Ok((layers, self.instances(launch, &it)?)));
        Ok(Printed { launch, of: of.collect::<Result<_, String>>()? })
    }

    /// The forms of a launch.
    fn forms(&mut self, printed: Printed<'_>) -> Result<Vec<Form>, String> {
        let mut forms = Vec::new();
        for (layers, instances) in printed.of {
            for instance in instances {
                forms.push(self.form(printed.launch, instance, layers.clone())?);
            }
        }
        Ok(forms)
    }

    /// The bank of weights that a word is the address of, and what counts its layers.
    fn weight<'w>(&'w self, word: &'w Word) -> Option<(&'w plan::Bank, &'w Option<Counter>)> {
        match word {
            Word::Address(Place { base: Base::Weight(bank, counter), .. }) => {
                Some((&self.plan.banks[*bank], counter))
            }
            _ => None,
        }
    }

    /// The formats of the weights of a launch, by word, and for which layers they hold.
    fn formats_of(&self, launch: &plan::Launch) -> Vec<(Layers, Vec<Option<DType>>)> {
        let counted =
            launch.words.iter().filter_map(|it| self.weight(it)).find_map(|(bank, it)| match it {
                Some(Counter::Loop(id)) => Some((*id, bank.layers)),
                _ => None,
            });
        let of_layer = |layer: u64| -> Vec<Option<DType>> {
            let format = |word: &Word| {
                let (bank, counter) = self.weight(word)?;
                let layer = match counter {
                    Some(Counter::Fixed(at)) => *at,
                    Some(_) => layer,
                    None => 0,
                };
                Some(self.formats[(bank.first + layer) as usize]).filter(|_| bank.packed)
            };
            launch.words.iter().map(format).collect()
        };
        let Some((id, layers)) = counted else { return vec![(None, of_layer(0))] };
        let mut found: Vec<(Vec<u64>, Vec<Option<DType>>)> = Vec::new();
        for layer in 0..layers {
            let formats = of_layer(layer);
            match found.iter_mut().find(|it| it.1 == formats) {
                Some(same) => same.0.push(layer),
                None => found.push((vec![layer], formats)),
            }
        }
        let all = found.len() == 1;
        found.into_iter().map(|(at, it)| ((!all).then_some((id, at)), it)).collect()
    }

    fn instances(
        &self,
        launch: &plan::Launch,
        formats: &[Option<DType>],
    ) -> Result<Vec<Instance>, String> {
        let name = self.plan.callee_name(launch.callee);
        let is_constant: Vec<bool> = launch.words.iter().map(is_constant).collect();
        let is_state: Vec<bool> = launch.words.iter().map(is_state).collect();
        match launch.callee {
            Callee::Loop(at) => {
                let it = &self.generated[&self.plan.loops[at]];
                let own: Vec<bool> =
                    launch.words.iter().map(|it| self.arguments.is_own(it)).collect();
                if self.arguments.batch {
                    let is_told = own.contains(&true);
                    batch::check(self.module, self.axes, &it.function, is_told)
                        .map_err(|why| format!("`{name}` {why}"))?;
                }
                let (function, out) = self.typed(launch, 0, it);
                let (function, words) = (&function, &it.words[..]);
                let (own, constant) = (&own[..], &is_constant[..]);
                let module = self.module;
                Ok(vec![loops::Loop { module, function, words, out, own, constant }.kernel()])
            }
            Callee::Kernel(_) => {
                self.check_kernel(launch, name)?;
                let template = template(name).ok_or_else(|| format!("no CUDA kernel `{name}`"))?;
                let words = self.given(launch, formats);
                let types = self.types(launch);
                let call = Call {
                    words: &words,
                    types: &types,
                    is_constant: &is_constant,
                    is_state: &is_state,
                    rounds: self.rounds,
                    tuned: self.tuned,
                };
                let mut forms = template(&call).map_err(|why| format!("{name}: {why}"))?;
                // The library knows nothing of rows of sequences of their own.
                forms.retain(|it| it.products.is_empty() || !self.arguments.batch);
                Ok(forms)
            }
        }
    }

    /// Refuses a kernel that is not made for rows of sequences of their own, and is given what
    /// differs between them.
    fn check_kernel(&self, launch: &plan::Launch, name: &str) -> Result<(), String> {
        let apart = match name {
            "attention" => [4, 7].iter().all(|&it| self.arguments.is_own(&launch.words[it])),
            "ssd" => true,
            "conv1d" | "matmul" | "norm_matmul" => self.tails_are_apart(launch),
            _ => !launch.words.iter().any(|it| self.arguments.is_own(it)),
        };
        let refused = || format!("`{name}` mixes sequences, or asks how long they are");
        if apart || !self.arguments.batch { Ok(()) } else { Err(refused()) }
    }

    /// Whether no tail of `launch` mixes rows, or is told what differs between them: behind the
    /// word of its result, which it does not use.
    fn tails_are_apart(&self, launch: &plan::Launch) -> bool {
        launch.words.windows(2).all(|pair| match pair {
            [Word::Code(at), Word::Bits(first)] => {
                let tail = &self.generated[&self.plan.loops[*at]];
                let told = &launch.words[*first as usize..][..tail.words.len()];
                batch::check(self.module, self.axes, &tail.function, false).is_ok()
                    && !told.iter().skip(1).any(|it| self.arguments.is_own(it))
            }
            _ => true,
        })
    }

    /// What is known of each word. Tails with the same text have the same name, and that depends on
    /// nothing else, so that launches which differ in names alone share their kernels.
    fn given(&self, launch: &plan::Launch, formats: &[Option<DType>]) -> Vec<Given> {
        let mut texts = Vec::new();
        let mut word = |(i, word): (usize, &Word)| match word {
            Word::Address(_) if self.arguments.is_own(word) => Given::Own,
            Word::Address(_) => formats[i].map_or(Given::Given, Given::Weight),
            Word::Size(axes) => {
                let sizes = axes.iter().map(|it| self.module.axes.fixed(it));
                let size = sizes.map(|it| it.map(|it| it as u64)).product::<Option<u64>>();
                size.map_or(Given::Given, Given::Known)
            }
            Word::Bits(bits) => Given::Known(*bits),
            Word::Code(at) => {
                let Word::Bits(first) = launch.words[i + 1] else {
                    unreachable!("the code of a tail comes before the place of its words")
                };
                let it = self.functor(launch, *at, first as usize);
                let is_in_place = launch.words.get(first as usize + 1) == launch.words.get(i - 2);
                it.map_or(Given::Known(0), |it| Given::Tail(it.named(&mut texts, is_in_place)))
            }
            Word::Format(_) | Word::Helper(_) => Given::Known(0),
            Word::Scratch => Given::Given,
        };
        launch.words.iter().enumerate().map(&mut word).collect()
    }

    fn functor(&self, launch: &plan::Launch, at: usize, first: usize) -> Option<Tail> {
        let it = &self.generated[&self.plan.loops[at]];
        let (function, _) = self.typed(launch, first, it);
        Tail::new(self.module, &function, it.products, &it.words, first)
    }

    /// The type in memory of what each word is the address of.
    fn types(&self, launch: &plan::Launch) -> Vec<DType> {
        let function = launch.function.as_ref().and_then(|it| self.module.function(it.as_str()));
        let named = |place: &Place| {
            let function = function?;
            let read = launch.reads.iter().position(|it| it == place);
            let param = read.and_then(|it| function.params.get(it)).map(|it| it.ty.dtype);
            let written = launch.writes.iter().position(|it| it == place);
            let output = written.and_then(|it| function.outputs.get(it));
            output.map(|it| function.ty(it.value).dtype).or(param)
        };
        let of_word = |word: &Word| match word {
            // Weights that are not packed are `f32`.
            Word::Address(Place { base: Base::Weight(..), .. }) => None,
            Word::Address(place) => self.stored(place).or_else(|| named(place)),
            _ => None,
        };
        launch.words.iter().map(|it| of_word(it).unwrap_or(DType::F32)).collect()
    }

    /// The type in memory of what lies at `place`, where it is not its own.
    fn stored(&self, place: &Place) -> Option<DType> {
        let Base::Arena(buffer) = place.base else { return None };
        self.narrow[buffer].then_some(DType::BF16)
    }

    /// The function of a loop or tail with the types that its operands have in memory, and the type
    /// of its result there. Its words are those of `launch` from `first` on.
    fn typed(&self, launch: &plan::Launch, first: usize, it: &Generated) -> (Function, DType) {
        let mut function = it.function.clone();
        let mut out = function.ty(function.outputs[0].value).dtype;
        for (word, at) in it.words.iter().zip(&launch.words[first..]) {
            let Word::Address(place) = at else { continue };
            let Some(dtype) = self.stored(place) else { continue };
            match word {
                LoopWord::Output => out = dtype,
                LoopWord::Operand(i) => function.params[*i].ty.dtype = dtype,
                _ => {}
            }
        }
        (function, out)
    }

    /// Whether all weights of a launch are rounded, so that what they are multiplied with may be.
    fn has_narrow_weights(&self, launch: &plan::Launch) -> bool {
        let formats = self.formats_of(launch);
        formats.iter().flat_map(|it| it.1.iter().flatten()).all(|it| *it != DType::F32)
    }

    /// What `instance` launches.
    fn form(
        &mut self,
        launch: &plan::Launch,
        instance: Instance,
        layers: Layers,
    ) -> Result<Form, String> {
        let rows = instance.rows.map(|(at, most)| (self.arguments.factor(launch, at), most));
        let scratch = instance.scratch.map_or(0, |(bytes, each, rows)| {
            let rows = self.arguments.bound(launch, rows);
            bytes.saturating_add(each.saturating_mul(rows))
        });
        let products = instance.products.iter();
        let products: Vec<_> = products.map(|it| self.arguments.product(launch, it)).collect();
        let mut chain = vec![instance];
        while let Some(before) = chain.last_mut().and_then(|it| it.before.take()) {
            chain.push(*before);
        }
        // What the library computes has no kernel.
        let kernels = chain.into_iter().skip(usize::from(!products.is_empty())).rev();
        let launches = kernels.map(|it| self.launch_of(launch, it));
        let launches = launches.collect::<Result<_, _>>()?;
        Ok(Form { layers, rows, launches, products, scratch })
    }

    /// The lines of the spec that `launch` computes: what a kernel was chosen for, and all that is
    /// generated.
    fn lines(&self, launch: &plan::Launch) -> Lines {
        let mut lines = Lines::default();
        let claimed = launch.function.as_ref().and_then(|it| self.module.function(it.as_str()));
        claimed.into_iter().for_each(|it| lines.extend(it));
        let codes = launch.words.iter().filter_map(|it| match it {
            Word::Code(at) => Some(*at),
            _ => None,
        });
        let own = match launch.callee {
            Callee::Loop(at) => Some(at),
            Callee::Kernel(_) => None,
        };
        for at in codes.chain(own) {
            lines.extend(&self.generated[&self.plan.loops[at]].function);
        }
        lines
    }

    /// A launch of `instance`, whose kernel is among the program's from now on.
    fn launch_of(
        &mut self,
        launch: &plan::Launch,
        instance: Instance,
    ) -> Result<program::Launch, String> {
        self.program.choices.extend(instance.choices.iter().cloned());
        let (passed, words) = self.arguments.passed(launch)?;
        let [x, y] = &instance.grid;
        let blocks = [self.arguments.blocks(launch, x), self.arguments.blocks(launch, y)];
        let maps = instance.maps.iter().map(|it| self.arguments.map(launch, it)).collect();
        let kernel = self.program.add(Kernel {
            name: self.plan.callee_name(launch.callee).to_owned(),
            lines: self.lines(launch),
            entry: "run".to_owned(),
            source: source(&instance, &passed),
            only: instance.architecture.map(str::to_owned),
            images: Vec::new(),
            threads: instance.threads,
            shared: instance.shared,
            shared_before_hopper: instance.shared_before_hopper,
        });
        Ok(program::Launch { kernel, maps, words, blocks, parts: Vec::new() })
    }
}

/// Whether it is the address of what no kernel writes.
fn is_constant(word: &Word) -> bool {
    let Word::Address(Place { base, .. }) = word else { return false };
    matches!(base, Base::Weight(..) | Base::Constant(_))
}

/// Whether it is an address in a state.
fn is_state(word: &Word) -> bool {
    matches!(word, Word::Address(Place { base: Base::State(_), .. }))
}

/// Whether the launches of a kernel are so short that several of them had better be one.
fn is_small(callee: &str) -> bool {
    callee.starts_with("loop.") || ["rms_norm", "conv1d"].contains(&callee)
}

/// Whether a launch with these instances can be one of several: by its first, and if that is for
/// one row, by its last for more.
fn can_be_part(instances: &[Instance]) -> bool {
    let [first, .., last] = instances else {
        return instances.first().is_some_and(|it| it.rows.is_none() && is_plain(it));
    };
    instances.len() == 2
        && is_plain(first)
        && first.rows.is_some_and(|it| it.1 == 1)
        && last.rows.is_none()
        && last.architecture.is_none()
}

/// Whether nothing of a launch of `instance` is out of the ordinary.
fn is_plain(instance: &Instance) -> bool {
    let Instance { threads, grid, shared, maps, scratch, before, .. } = instance;
    *threads == loops::THREADS
        && grid[1] == Grid::fixed(1)
        && *shared == 0
        && maps.is_empty()
        && scratch.is_none()
        && before.is_none()
        && instance.architecture.is_none()
}

/// The loop that counts layers, and those for which something holds; all where there is none.
type Layers = Option<(usize, Vec<u64>)>;

/// The whole text of a kernel, to which words are `passed`: by place, and as what.
pub(crate) fn source(instance: &Instance, passed: &[(usize, Kind)]) -> String {
    let mut text = String::new();
    for include in &instance.includes {
        let _ = writeln!(text, "#include \"{include}\"");
    }
    text += "\n";
    text += &instance.preface;
    let parameter = |(i, kind): &(usize, Kind)| {
        kind.names(*i).iter().map(|it| format!(", long {it}")).collect::<String>()
    };
    let maps: String = (0..instance.maps.len())
        .map(|it| format!(", const __grid_constant__ TensorMap m{it}"))
        .collect();
    let parameters: String = passed.iter().map(parameter).collect();
    let cluster = match instance.cluster {
        0 | 1 => String::new(),
        blocks => format!("__cluster_dims__({blocks}, 1, 1) "),
    };
    let bounds = match instance.residents {
        0 => instance.threads.to_string(),
        residents => format!("{}, {residents}", instance.threads),
    };
    let _ = writeln!(
        text,
        "extern \"C\" __global__ void {cluster}__launch_bounds__({bounds})\n\
         run(const long* past{maps}{parameters}) {{"
    );
    text.extend(passed.iter().map(|(i, kind)| kind.preface(*i)));
    if !instance.waits {
        text += "  wait_for_earlier();\n  let_later_start();\n";
    }
    let body = instance.body.trim_start();
    let _ = writeln!(text, "  {}\n}}", body.trim_end());
    text
}
