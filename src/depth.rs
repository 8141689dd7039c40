//! The layers of a spec, and leaving some of them out: a layer that is left out hands on what it
//! was given, so a model without it is the spec with a shorter pattern, or axis of layers.

use std::collections::BTreeSet;

use frontend::ast::{Expr, ExprKind, FunctionKind, Item, Layers, StmtKind};
use ir::{Axis, Module};

use crate::{Error, Spec};

/// The one stack of layers of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// What says how many layers there are: an axis, or a value that holds a pattern.
    name: String,
    /// A letter for each layer, where they are of several kinds.
    letters: Option<Vec<char>>,
    n_layers: usize,
}

impl Stack {
    /// The stack of `spec`, whose module is known; `None` when there is none or several.
    pub fn of(spec: &Spec, module: &Module) -> Option<Stack> {
        let text = &spec.sources.get(frontend::SPEC)?.text;
        let (tree, _) = frontend::parse(frontend::SPEC, text);
        let models = tree.items.iter().filter_map(|it| match it {
            Item::Function(it) if it.kind == FunctionKind::Model => Some(it),
            _ => None,
        });
        let stacks = models.flat_map(|it| &it.body).filter_map(|it| match &it.kind {
            StmtKind::Layers(layers) => Some(layers),
            _ => None,
        });
        let stacks: Vec<&Layers> = stacks.collect();
        let [stack] = stacks[..] else { return None };
        match &stack.over.kind {
            ExprKind::Axis(name) => {
                let n_layers = module.axes.fixed(&Axis::atom(name.as_str()))?;
                Some(Stack { name: name.clone(), letters: None, n_layers })
            }
            ExprKind::Name(name) => {
                let set = spec.settings.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
                let letters: Vec<char> =
                    set.or_else(|| value(&tree.items, name))?.chars().collect();
                let n_layers = letters.len();
                Some(Stack { name: name.clone(), letters: Some(letters), n_layers })
            }
            _ => None,
        }
    }

    /// How many layers there are.
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// The axis of the layers, where they are equal.
    pub fn axis(&self) -> Option<&str> {
        self.letters.is_none().then_some(&self.name)
    }

    /// The numbers of the layers that are left.
    pub fn kept(&self, skipped: &BTreeSet<usize>) -> Vec<usize> {
        (0..self.n_layers).filter(|it| !skipped.contains(it)).collect()
    }

    /// Leaves layers out of `spec`.
    ///
    /// # Errors
    ///
    /// When there is no such layer, or none would be left.
    pub fn skip(&self, spec: &mut Spec, skipped: &BTreeSet<usize>) -> Result<(), Error> {
        let kept = self.kept(skipped);
        if let Some(layer) = skipped.iter().find(|it| self.n_layers <= **it) {
            let message = format!("there is no layer {layer}: there are {}", self.n_layers);
            return Err(Error::new("C0305", message));
        }
        if kept.is_empty() {
            return Err(Error::new("C0305", "no layer would be left"));
        }
        match &self.letters {
            Some(letters) => {
                let text: String = kept.iter().map(|it| letters[*it]).collect();
                spec.settings.set(&self.name, text);
            }
            None => spec.settings.set(&self.name, kept.len()),
        }
        Ok(())
    }

    /// The layers to leave out so that `n` are left: the last of `ranking`, which has the most
    /// important first.
    ///
    /// # Errors
    ///
    /// When no layer would be left, or the ranking is one of other layers.
    pub fn least(&self, n: usize, ranking: &[usize]) -> Result<BTreeSet<usize>, Error> {
        let all: BTreeSet<usize> = ranking.iter().copied().collect();
        if n == 0 || self.n_layers < n || !all.into_iter().eq(0..self.n_layers) {
            let message = format!("{n} layers of {} can not be told by this order", self.n_layers);
            return Err(Error::new("C0305", message));
        }
        Ok(ranking[n..].iter().copied().collect())
    }
}

/// The text that a spec gives to a value.
fn value(items: &[Item], name: &str) -> Option<String> {
    let values = items.iter().filter_map(|it| match it {
        Item::Values(decls) => Some(decls),
        _ => None,
    });
    let of = |it: &Expr| match &it.kind {
        ExprKind::Text(text) => Some(text.clone()),
        _ => None,
    };
    values.flatten().find(|it| it.name.text == name).and_then(|it| of(&it.value))
}
