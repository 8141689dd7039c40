//! Calls of kernels and loops with their argument words, and the weights as those want them.

use std::collections::BTreeMap;

use ir::{Axis, DType, Function, Name, Node, Type};
use kernels::{Kernel, Tail, Word as KernelWord};

use super::{
    LARGEST, LoopWord, Planner,
    body::{Body, Located},
    element,
};
use crate::plan::{Bank, Base, Callee, Counter, Launch, Place, Step, Word};

/// The most layers of a weight: each has an entry in a table.
const MOST_LAYERS: u64 = 1 << 16;

impl<'a> Planner<'a> {
    /// A call of `kernel`, of whose operands some were `moved`.
    pub(super) fn kernel_launch(
        &mut self,
        body: &Body<'a>,
        node: &Node,
        callee: &Function,
        kernel: &dyn Kernel,
        moved: &BTreeMap<usize, Place>,
        results: &[Place],
    ) -> Result<Launch, String> {
        let words = kernel.words(self.module.scope(), callee);
        let packed = |i: usize| {
            words.iter().find_map(|it| match it {
                KernelWord::Format { operand, rows, columns } if *operand == i => {
                    Some([rows.clone(), columns.clone()])
                }
                _ => None,
            })
        };
        let mut places = Vec::new();
        for (i, operand) in node.operands.iter().enumerate() {
            places.push(match moved.get(&i) {
                Some(place) => place.clone(),
                None => {
                    let ty = body.function.ty(*operand);
                    self.operand(ty, &body.located[operand], packed(i))?
                }
            });
        }
        let expanded = words.iter().filter(|it| matches!(it, KernelWord::Tail(_))).count();
        let first = words.len() + expanded;
        let (mut all, mut tails) = (Vec::new(), Vec::new());
        for it in &words {
            let word = match it {
                KernelWord::Output(i) => Word::Address(results[*i].clone()),
                KernelWord::Operand(i) => Word::Address(places[*i].clone()),
                KernelWord::Format { operand, .. } => Word::Format(places[*operand].clone()),
                KernelWord::Size(axes) => Word::Size(axes.clone()),
                KernelWord::Bits(bits) => Word::Bits(*bits),
                KernelWord::Scratch => Word::Scratch,
                KernelWord::Tail(i) => {
                    let tail = kernel.tail(self.module.scope(), callee, *i);
                    let (code, words) = self.tail(tail.as_ref(), &places, &results[*i])?;
                    let at = first + tails.len();
                    tails.extend(words);
                    all.push(code);
                    Word::Bits(at as u64)
                }
            };
            all.push(word);
        }
        let words = all.into_iter().chain(tails).collect();
        let function = Some(callee.name.clone());
        let callee = Callee::Kernel(self.kernel(kernel.name()));
        Ok(Launch { callee, function, words, reads: places, writes: results.to_vec() })
    }

    /// A call of the code of a loop.
    pub(super) fn loop_launch(
        &mut self,
        body: &Body<'a>,
        node: &Node,
        callee: &Function,
        results: &[Place],
    ) -> Result<Launch, String> {
        if let Some(inner) = callee.nodes().iter().find_map(|it| it.op.callee()) {
            return Err(format!("no kernel was chosen for @{}, which calls @{inner}", callee.name));
        }
        let mut places = Vec::new();
        for (operand, param) in node.operands.iter().zip(&callee.params) {
            let (ty, located) = (body.function.ty(*operand), &body.located[operand]);
            let is_as_read = match located {
                Located::At(_) => ty.dtype == param.ty.dtype,
                Located::Weight { .. } | Located::Scaled { .. } => {
                    param.ty.dtype == DType::F32 || !ty.dtype.is_float()
                }
            };
            if !is_as_read {
                return Err(format!("@{} takes {}, not {ty}", callee.name, param.ty));
            }
            places.push(self.plain(ty, located)?);
        }
        let operands: Vec<&Place> = places.iter().collect();
        let (at, words) = self.generated(callee, 0, &operands, &results[0])?;
        let function = Some(callee.name.clone());
        let callee = Callee::Loop(at);
        Ok(Launch { callee, function, words, reads: places, writes: results.to_vec() })
    }

    /// The code of a kernel's tail and what it is called with. `places` are the kernel's operands.
    fn tail(
        &mut self,
        tail: Option<&Tail>,
        places: &[Place],
        result: &Place,
    ) -> Result<(Word, Vec<Word>), String> {
        let Some(tail) = tail else { return Ok((Word::Bits(0), Vec::new())) };
        let operands: Vec<&Place> = tail.operands.iter().map(|&it| &places[it]).collect();
        let (at, words) = self.generated(&tail.function, tail.products, &operands, result)?;
        Ok((Word::Code(at), words))
    }

    /// The place of a generated loop among all, and what it is called with. It is given `products`
    /// otherwise, and then `operands`.
    fn generated(
        &mut self,
        function: &Function,
        products: usize,
        operands: &[&Place],
        result: &Place,
    ) -> Result<(usize, Vec<Word>), String> {
        let loop_words = (self.loop_words)(self.module, function, products)?;
        let word = |it: LoopWord| match it {
            LoopWord::Output => Word::Address(result.clone()),
            LoopWord::Operand(i) => Word::Address(operands[i - products].clone()),
            LoopWord::Extent(name) => Word::Size(vec![Axis::atom(name)]),
            LoopWord::Helper(name) => Word::Helper(self.kernel(name)),
        };
        let words = loop_words.into_iter().map(word).collect();
        let at = self.plan.loops.iter().position(|it| *it == function.name);
        let at = at.unwrap_or_else(|| {
            self.plan.loops.push(function.name.clone());
            self.plan.loops.len() - 1
        });
        Ok((at, words))
    }

    /// Copies a value of type `ty`.
    pub(super) fn copy(&mut self, ty: &Type, from: Place, to: Place) {
        let words = vec![
            Word::Address(to.clone()),
            Word::Address(from.clone()),
            Word::Size(ty.axes.clone()),
            Word::Bits(element(ty)),
        ];
        let callee = Callee::Kernel(self.kernel("copy"));
        let (reads, writes) = (vec![from], vec![to]);
        self.push(Step::Launch(Launch { callee, function: None, words, reads, writes }));
    }

    /// Where a value of type `ty` is as plain numbers.
    pub(super) fn plain(&mut self, ty: &Type, located: &Located) -> Result<Place, String> {
        self.operand(ty, located, None)
    }

    /// Where an operand is; a weight with a `shape` is wanted packed, one without as plain numbers.
    fn operand(
        &mut self,
        ty: &Type,
        located: &Located,
        shape: Option<[Vec<Axis>; 2]>,
    ) -> Result<Place, String> {
        let packed = shape.is_some();
        let shape = shape.unwrap_or([Vec::new(), ty.axes.clone()]);
        let (bank, layer) = match located {
            Located::At(place) => return Ok(place.clone()),
            Located::Weight { param, layer } => {
                let bank = self.bank(param, layer.as_ref().map(|it| &it.0), shape, packed)?;
                (bank, layer.as_ref().map(|it| it.1.clone()))
            }
            Located::Scaled { param, layer: (axis, at), by, by_layer } => match (at, by_layer) {
                (Counter::Fixed(from), Counter::Fixed(by_from)) => {
                    let bank = self.bank(param, None, shape, packed)?;
                    (Bank { from: *from, times: Some((by.clone(), *by_from)), ..bank }, None)
                }
                (of, other) if of == other => {
                    let bank = self.bank(param, Some(axis), shape, packed)?;
                    (Bank { times: Some((by.clone(), 0)), ..bank }, Some(at.clone()))
                }
                _ => return Err(format!("{param} is multiplied with another layer of {by}")),
            },
        };
        Ok(Place::new(Base::Weight(self.declared(bank), layer)))
    }

    /// The place of `bank` among all.
    fn declared(&mut self, bank: Bank) -> usize {
        let same = |it: &Bank| Bank { first: bank.first, ..it.clone() } == bank;
        self.plan.banks.iter().position(same).unwrap_or_else(|| {
            self.plan.banks.push(bank);
            self.plan.banks.len() - 1
        })
    }

    fn bank(
        &self,
        param: &Name,
        layers: Option<&Axis>,
        shape: [Vec<Axis>; 2],
        packed: bool,
    ) -> Result<Bank, String> {
        let size = |axes: &[Axis]| {
            let size = self.fixed_size(axes);
            size.ok_or_else(|| format!("weight {param} has an axis without a fixed extent"))
        };
        let layers = layers.map_or(Ok(1), |it| size(std::slice::from_ref(it)))?;
        if MOST_LAYERS < layers {
            return Err(format!("weight {param} has {layers} layers, more than {MOST_LAYERS}"));
        }
        let shape = [size(&shape[0])?, size(&shape[1])?];
        let elements = shape[0].checked_mul(shape[1]).and_then(|it| it.checked_mul(layers));
        if elements.is_none_or(|it| LARGEST / 4 < it) {
            return Err(format!("weight {param} is larger than any memory"));
        }
        let first = self.plan.banks.iter().map(|it| it.layers).sum();
        Ok(Bank { param: param.clone(), from: 0, layers, times: None, shape, packed, first })
    }

    fn kernel(&mut self, name: &str) -> usize {
        let at = self.plan.kernels.iter().position(|it| it == name);
        at.unwrap_or_else(|| {
            self.plan.kernels.push(name.to_owned());
            self.plan.kernels.len() - 1
        })
    }
}
