//! Paths of rules: `layers[l].{attention, mlp}.{norm, bias}` leads to four parameters.

use crate::ast::{Name, Segment};

/// One way through the lists of a path.
#[derive(Clone, Debug, Default)]
pub(super) struct Way<'a> {
    /// Where it leads: `layers.attention.norm`.
    pub(super) name: String,
    /// What the path calls the number of the layer.
    pub(super) layer: Option<&'a str>,
    /// Of each list, how many members it has and which of them is taken.
    pub(super) taken: Vec<(usize, usize)>,
    /// The last name, if it is one of a list.
    pub(super) param: Option<&'a str>,
}

impl<'a> Way<'a> {
    /// The way one name further.
    pub(super) fn to(&self, name: &'a Name) -> Way<'a> {
        let dot = if self.name.is_empty() { "" } else { "." };
        Way { name: format!("{}{dot}{}", self.name, name.text), param: None, ..self.clone() }
    }

    fn to_member(&self, names: &'a [Name], member: usize) -> Way<'a> {
        let mut way = self.to(&names[member]);
        way.taken.push((names.len(), member));
        Way { param: Some(&names[member].text), ..way }
    }
}

/// How many ways a path has before its end, at most; none if they can not be counted.
pub(super) fn n_ways(path: &[Segment]) -> Option<usize> {
    path.iter().try_fold(1usize, |n, it| match it {
        Segment::Group(names) => n.checked_mul(names.len().max(1)),
        Segment::Name(_) | Segment::Layer(_) => Some(n),
    })
}

/// All ways through a path, the last list's members one after the other.
pub(super) fn ways<'a>(path: &'a [Segment]) -> Vec<Way<'a>> {
    path.iter().fold(vec![Way::default()], |ways, segment| {
        let further = |way: &Way<'a>| match segment {
            Segment::Name(name) => vec![way.to(name)],
            Segment::Group(names) => (0..names.len()).map(|it| way.to_member(names, it)).collect(),
            Segment::Layer(name) => vec![Way { layer: Some(&name.text), ..way.clone() }],
        };
        ways.iter().flat_map(further).collect()
    })
}
