//! Whether rules make sense by themselves: every name bound, every attribute told, nothing matched
//! that is then forgotten.

use std::collections::BTreeMap;

use ir::{Attribute, Op, Visit};

use super::{ANY, Action, Pattern, Premise, RESULT, Rule, RuleError, Word, parse::Placed};

/// The first mistake of `rules`.
pub(super) fn check(rules: &[Placed]) -> Result<(), RuleError> {
    for (i, Placed { rule, line, column }) in rules.iter().enumerate() {
        let twice = rules[..i].iter().any(|it| it.rule.name == rule.name);
        let fault = match twice {
            true => Err(("twice", format!("there is a rule `{}` already", rule.name))),
            false => check_rule(rule),
        };
        if let Err((code, message)) = fault {
            return Err(RuleError { line: *line, column: *column, code, message });
        }
    }
    Ok(())
}

type Fault = (&'static str, String);

fn check_rule(rule: &Rule) -> Result<(), Fault> {
    if matches!(rule.pattern, Pattern::Var(_) | Pattern::Number(_) | Pattern::Fill(..)) {
        return Err(("any", "a pattern begins with an op or a call".to_owned()));
    }
    let mut left = Names::default();
    left.of_pattern(&rule.pattern);
    let mut premises = Names::default();
    rule.premises.iter().for_each(|it| premises.of_premise(it));
    let rewrites = matches!(rule.action, Action::Rewrite(_));
    check_pattern(&rule.pattern, rewrites)?;
    let mut right = Names::default();
    if let Action::Rewrite(pattern) = &rule.action {
        check_pattern(pattern, true)?;
        right.of_pattern(pattern);
        if right.calls.keys().any(|it| !left.calls.contains_key(it)) {
            return Err(("unbound", "the right side calls what the left side does not".to_owned()));
        }
    }
    left.values.insert(RESULT.to_owned(), 1);
    // A premise may be what names an axis: `axes(g) = [E]`.
    for name in right.values.keys().chain(premises.values.keys()) {
        if !left.values.contains_key(name) {
            return Err(("unbound", format!("`{name}` stands for no value of the left side")));
        }
    }
    for name in right.words.keys() {
        if !left.words.contains_key(name) && !premises.words.contains_key(name) {
            return Err(("unbound", format!("nothing says what the attribute `{name}` is")));
        }
    }
    for name in left.words.keys().chain(premises.words.keys()) {
        let uses = [&left, &right, &premises].map(|it| it.words.get(name).copied().unwrap_or(0));
        if uses.iter().sum::<usize>() == 1 {
            let message = format!("`{name}` is matched, and then neither used nor compared");
            return Err(("unused", message));
        }
    }
    let Action::Rewrite(_) = rule.action else { return Ok(()) };
    rule.premises.iter().try_for_each(|it| match it {
        Premise::Is(..) => Err(("is", "`is` is for rules that fuse".to_owned())),
        Premise::Constant(name) if !right.values.contains_key(name) => {
            let compared = premises.values.get(name).is_some_and(|it| 1 < *it);
            if compared {
                Ok(())
            } else {
                Err(("unused", format!("the constant `{name}` is forgotten")))
            }
        }
        _ => Ok(()),
    })
}

/// How often each name stands somewhere.
#[derive(Default)]
struct Names {
    values: BTreeMap<String, usize>,
    words: BTreeMap<String, usize>,
    calls: BTreeMap<String, usize>,
}

impl Names {
    fn of_pattern(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::Number(_) => {}
            Pattern::Var(name) | Pattern::Fill(_, name) => count(&mut self.values, name),
            Pattern::Call { origin, operands } => {
                count(&mut self.calls, origin);
                operands.iter().for_each(|it| self.of_pattern(it));
            }
            Pattern::Apply { attributes, operands, .. } => {
                attributes.iter().for_each(|(_, it)| self.of_word(it));
                operands.iter().for_each(|it| self.of_pattern(it));
            }
        }
    }

    fn of_word(&mut self, word: &Word) {
        match word {
            Word::Literal(_) => {}
            Word::Var(name) if name == ANY => {}
            Word::Var(name) => count(&mut self.words, name),
            Word::Axes { axes, .. } => axes.iter().for_each(|it| count(&mut self.words, it)),
            Word::AxesOf(name)
            | Word::TypeOf(name)
            | Word::DTypeOf(name)
            | Word::NumberOf(name) => {
                count(&mut self.values, name);
            }
        }
    }

    fn of_premise(&mut self, premise: &Premise) {
        match premise {
            Premise::Weight(name)
            | Premise::Open(name)
            | Premise::Constant(name)
            | Premise::Is(name, _) => count(&mut self.values, name),
            Premise::Within(a, b) => [a, b].into_iter().for_each(|it| count(&mut self.values, it)),
            Premise::Equal(a, b) => [a, b].into_iter().for_each(|it| self.of_word(it)),
        }
    }
}

fn count(names: &mut BTreeMap<String, usize>, name: &str) {
    *names.entry(name.to_owned()).or_default() += 1;
}

/// Whether ops have their operands and attributes: all of them where `wholly`.
fn check_pattern(pattern: &Pattern, wholly: bool) -> Result<(), Fault> {
    match pattern {
        Pattern::Var(_) | Pattern::Number(_) | Pattern::Fill(..) => Ok(()),
        Pattern::Call { operands, .. } => {
            operands.iter().try_for_each(|it| check_pattern(it, wholly))
        }
        Pattern::Apply { op, attributes, operands } => {
            let name = op.rules().name();
            let known = attributes_of(op);
            if let Some((other, _)) =
                attributes.iter().find(|(it, _)| !known.iter().any(|k| k.0 == *it))
            {
                return Err(("unknown", format!("`{name}` has no attribute `{other}`")));
            }
            let told = |it: &str| attributes.iter().filter(|(name, _)| name == it).count();
            if let Some((it, _)) = known.iter().find(|(it, _)| 1 < told(it)) {
                return Err(("twice", format!("the attribute `{it}` of `{name}` stands twice")));
            }
            if let Some((it, _)) = known.iter().find(|(it, _)| wholly && told(it) == 0) {
                return Err((
                    "attribute",
                    format!("nothing is said of the attribute `{it}` of `{name}`"),
                ));
            }
            let mut arities = op.rules().examples().into_iter().map(|it| it.operands.len());
            let any =
                matches!(op, Op::Concat(_) | Op::Scan(_)) || arities.any(|it| it == operands.len());
            if !any {
                return Err((
                    "operands",
                    format!("`{name}` does not take {} operands", operands.len()),
                ));
            }
            operands.iter().try_for_each(|it| check_pattern(it, wholly))
        }
    }
}

/// The attributes of `op`, each with its text.
pub(crate) fn attributes_of(op: &Op) -> Vec<(&'static str, String)> {
    struct Read(Vec<(&'static str, String)>);
    impl Visit for Read {
        fn attribute(&mut self, name: &'static str, value: &mut dyn Attribute) {
            self.0.push((name, value.print()));
        }
    }
    let mut read = Read(Vec::new());
    op.clone().rules_mut().attributes(&mut read);
    read.0
}
