//! Chooses a term for each class: what is cheapest when shared values are paid for once.
//!
//! Begins with the function as it is and changes the term of one class at a time, where that is
//! strictly cheaper; then those of all classes that could share a value which is not there yet,
//! where that pays for all of them together. So it never makes anything dearer, takes no time that
//! grows with the number of ways, and gives the same choice each time.

use std::collections::{BTreeSet, HashMap};

use egg::Id;

use super::{
    cost::cost,
    graph::{Classes, Graph},
    log::Form,
    saturate::Saturated,
    terms::Term,
};

/// How often all classes are gone through.
const MAX_SWEEPS: usize = 8;

/// The term chosen for each class that is needed.
pub(crate) struct Chosen<'a, 'b> {
    classes: &'a Classes<'b>,
    ids: Vec<Id>,
    index: HashMap<Id, usize>,
    options: Vec<Vec<Choice>>,
    chosen: Vec<usize>,
    /// How often the terms chosen need each class.
    uses: Vec<u32>,
    /// Whether the last sweep still found something cheaper.
    pub(crate) unsettled: bool,
}

/// A term that a class may be.
struct Choice {
    term: Term,
    operands: Vec<usize>,
    cost: u64,
}

impl<'a, 'b> Chosen<'a, 'b> {
    /// The function as it was.
    pub(crate) fn original(saturated: &'a Saturated<'b>) -> Chosen<'a, 'b> {
        let classes = &saturated.classes;
        let mut ids: Vec<Id> = classes.classes().map(|it| it.id).collect();
        ids.sort_unstable();
        let index: HashMap<Id, usize> = ids.iter().enumerate().map(|(i, it)| (*it, i)).collect();
        let choice = |term: &Term| Choice {
            term: term.clone(),
            operands: term.operands.iter().map(|it| index[&classes.find(*it)]).collect(),
            cost: cost(classes, term),
        };
        let options: Vec<Vec<Choice>> =
            ids.iter().map(|it| Graph::terms(classes, *it).iter().map(choice).collect()).collect();
        let chosen = first_choices(saturated, &index, &options);
        let uses = vec![0; ids.len()];
        let mut it = Chosen { classes, ids, index, options, chosen, uses, unsettled: false };
        let root = it.index[&classes.find(saturated.root)];
        it.take(root);
        it
    }

    /// The term of `class`.
    pub(crate) fn term(&self, class: Id) -> &Term {
        let at = self.index[&self.classes.find(class)];
        &self.options[at][self.chosen[at]].term
    }

    /// Whether `class` is needed.
    pub(crate) fn is_needed(&self, class: Id) -> bool {
        0 < self.uses[self.index[&self.classes.find(class)]]
    }

    /// Changes terms for cheaper ones, at most so often; the classes of each change, in order.
    pub(crate) fn improve(&mut self, most: usize) -> Vec<Vec<Id>> {
        let mut changes: Vec<Vec<Id>> = Vec::new();
        for _ in 0..MAX_SWEEPS {
            let before = changes.len();
            for class in (0..self.ids.len()).rev() {
                if self.uses[class] == 0 || self.options[class].len() < 2 || changes.len() == most {
                    continue;
                }
                let best = self.cheapest(class);
                if best != self.chosen[class] {
                    self.change(class, best);
                    changes.push(vec![self.ids[class]]);
                }
            }
            for shared in 0..self.ids.len() {
                if self.uses[shared] == 0 && changes.len() < most {
                    changes.extend(self.share(shared));
                }
            }
            self.unsettled = before < changes.len();
            if !self.unsettled {
                break;
            }
        }
        changes
    }

    /// The terms that make up `root`.
    pub(crate) fn form(&self, root: Id) -> Form {
        let mut terms = Vec::new();
        self.add_terms(self.index[&self.classes.find(root)], &mut terms, &mut BTreeSet::new());
        Form { terms }
    }

    fn add_terms(&self, class: usize, terms: &mut Vec<(Id, Term)>, seen: &mut BTreeSet<usize>) {
        if !seen.insert(class) {
            return;
        }
        let choice = &self.options[class][self.chosen[class]];
        choice.operands.iter().for_each(|it| self.add_terms(*it, terms, seen));
        let operands = choice.operands.iter().map(|it| self.ids[*it]).collect();
        terms.push((self.ids[class], Term { operands, ..choice.term.clone() }));
    }

    /// The option of `class` with which all costs least; what it is now unless strictly cheaper.
    fn cheapest(&mut self, class: usize) -> usize {
        let old = self.chosen[class];
        let (mut best, mut most_saved) = (old, 0);
        for option in 0..self.options[class].len() {
            if option == old || self.depends(class, option) {
                continue;
            }
            let saved = self.change(class, option);
            self.change(class, old);
            if most_saved < saved {
                (best, most_saved) = (option, saved);
            }
        }
        best
    }

    /// Takes a value that nothing needs yet for each class that could be made of it, where that is
    /// cheaper in all; those classes.
    fn share(&mut self, shared: usize) -> Option<Vec<Id>> {
        let (mut changed, mut saved) = (Vec::new(), 0);
        for class in 0..self.ids.len() {
            let mut options = self.options[class].iter();
            let option = options.position(|it| it.operands.contains(&shared));
            let fits = |it: &usize| 0 < self.uses[class] && !self.depends(class, *it);
            if let Some(option) = option.filter(fits) {
                changed.push((class, self.chosen[class]));
                saved += self.change(class, option);
            }
        }
        if 0 < saved {
            return Some(changed.into_iter().map(|it| self.ids[it.0]).collect());
        }
        changed.into_iter().rev().for_each(|(class, old)| {
            self.change(class, old);
        });
        None
    }

    /// Whether the option of `class` needs `class` itself.
    fn depends(&self, class: usize, option: usize) -> bool {
        let mut seen = vec![false; self.ids.len()];
        let mut pending = self.options[class][option].operands.clone();
        while let Some(it) = pending.pop() {
            if it == class {
                return true;
            }
            if !std::mem::replace(&mut seen[it], true) {
                pending.extend(&self.options[it][self.chosen[it]].operands);
            }
        }
        false
    }

    /// Takes another option for `class`; what that saves.
    fn change(&mut self, class: usize, option: usize) -> i128 {
        let freed = self.release_operands(class);
        self.chosen[class] = option;
        let spent = self.take_operands(class);
        freed - spent
    }

    /// Uses `class` once more; what is to be paid for that.
    fn take(&mut self, class: usize) -> i128 {
        self.uses[class] += 1;
        if self.uses[class] == 1 { self.take_operands(class) } else { 0 }
    }

    fn take_operands(&mut self, class: usize) -> i128 {
        let choice = &self.options[class][self.chosen[class]];
        let own = i128::from(choice.cost);
        let operands = choice.operands.clone();
        operands.into_iter().fold(own, |sum, it| sum + self.take(it))
    }

    fn release(&mut self, class: usize) -> i128 {
        self.uses[class] -= 1;
        if self.uses[class] == 0 { self.release_operands(class) } else { 0 }
    }

    fn release_operands(&mut self, class: usize) -> i128 {
        let choice = &self.options[class][self.chosen[class]];
        let own = i128::from(choice.cost);
        let operands = choice.operands.clone();
        operands.into_iter().fold(own, |sum, it| sum + self.release(it))
    }
}

/// For each class, the first term that the function has of it; for others, one that needs the least
/// by itself. Rules may say that a value is the same as one that it is made of. What comes first in
/// the function is made of what comes before, so no choice leads back to itself.
fn first_choices(
    saturated: &Saturated<'_>,
    index: &HashMap<Id, usize>,
    options: &[Vec<Choice>],
) -> Vec<usize> {
    let classes = &saturated.classes;
    let mut chosen = by_themselves(options);
    let mut settled = vec![false; chosen.len()];
    let outputs = Some(saturated.root);
    for id in saturated.values.iter().flatten().chain(&outputs) {
        // A `Part` stands for the term that it is a part of, too.
        let term = classes.id_to_node(*id);
        let terms = term.operands.iter().copied().chain([*id]);
        for id in terms {
            let term = classes.id_to_node(id);
            let mut canonical = term.clone();
            canonical.operands.iter_mut().for_each(|it| *it = classes.find(*it));
            let at = index[&classes.find(id)];
            if std::mem::replace(&mut settled[at], true) {
                continue;
            }
            let found = options[at].iter().position(|it| it.term == canonical);
            chosen[at] = found.unwrap_or(chosen[at]);
        }
    }
    chosen
}

/// For each class the term with the cheapest tree: free of cycles.
fn by_themselves(options: &[Vec<Choice>]) -> Vec<usize> {
    let mut best: Vec<(u64, usize)> = vec![(u64::MAX, 0); options.len()];
    loop {
        let mut changed = false;
        for (class, options) in options.iter().enumerate() {
            for (i, it) in options.iter().enumerate() {
                let operands = it.operands.iter().map(|it| best[*it].0);
                // One more for each level, so that what is free forms no cycle either.
                let sum = operands.fold(it.cost.saturating_add(1), u64::saturating_add);
                if sum < best[class].0 {
                    best[class] = (sum, i);
                    changed = true;
                }
            }
        }
        if !changed {
            return best.into_iter().map(|it| it.1).collect();
        }
    }
}
