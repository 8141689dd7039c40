//! Which nodes run in one nest of loops.

use ir::{Axes, Axis, Function, Module, Node, Op, ops::Gather};

use crate::cost::{is_costly, is_pointwise};

/// How often the loops of a group may compute a value for one element that they visit.
const MAX_READS: u32 = 4;

/// What a node is to the grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stays where it is.
    Kept,
    /// The same elements under other names: stays, or goes where its only users are.
    View,
    /// Needs no operand and next to no work: goes to all its users.
    Copied,
    /// One element from one of each operand.
    Element,
    /// One element from many.
    Reduction,
}

/// The groups of a function.
pub(super) struct Groups<'a> {
    axes: &'a Axes,
    function: &'a Function,
    kinds: Vec<Kind>,
    /// For each node, those that take its results, each once; none for a node that nothing needs.
    users: Vec<Vec<usize>>,
    /// For each value, the node that makes it.
    makers: Vec<Option<usize>>,
    /// Whether the function gives a result of the node.
    is_output: Vec<bool>,
    /// For each node, the last one of its group.
    roots: Vec<Option<usize>>,
    /// For each node in a group, how often its value is read for one element visited.
    reads: Vec<u32>,
}

impl<'a> Groups<'a> {
    /// Groups the nodes of `function`, consumers first.
    pub(super) fn new(
        module: &'a Module,
        function: &'a Function,
        kept: &dyn Fn(&Function, &Node) -> bool,
    ) -> Groups<'a> {
        let n = function.nodes().len();
        let makers = makers(function);
        let mut is_output = vec![false; n];
        for maker in function.outputs.iter().filter_map(|it| makers[it.value.index()]) {
            is_output[maker] = true;
        }
        let kind =
            |node| if kept(function, node) { Kind::Kept } else { kind(module, function, node) };
        let mut groups = Groups {
            axes: &module.axes,
            function,
            kinds: function.nodes().iter().map(kind).collect(),
            users: users(function, &makers),
            makers,
            is_output,
            roots: vec![None; n],
            reads: vec![1; n],
        };
        for i in (0..n).rev() {
            groups.place(i);
        }
        groups.release_views();
        groups
    }

    /// Whether node `i` stands in the function afterwards.
    pub(super) fn stays(&self, i: usize) -> bool {
        let is_constant = matches!(self.function.nodes()[i].op, Op::Constant(_));
        self.is_live(i)
            && match self.kinds[i] {
                Kind::Kept => true,
                Kind::View => self.roots[i].is_none(),
                Kind::Copied => is_constant && self.is_needed_outside(i),
                Kind::Element | Kind::Reduction => false,
            }
    }

    /// Whether node `i` is the last of a group.
    pub(super) fn is_root(&self, i: usize) -> bool {
        let alone = self.kinds[i] == Kind::Copied && self.is_needed_outside(i) && !self.stays(i);
        self.is_live(i) && (self.roots[i] == Some(i) || alone)
    }

    /// The nodes of the group that ends with `root`, in order.
    pub(super) fn members(&self, root: usize) -> Vec<&'a Node> {
        let is_in = |it: usize| it == root || self.roots[it] == Some(root);
        let joins = |&it: &usize| match self.kinds[it] {
            Kind::Copied => it == root || self.users[it].iter().any(|&user| is_in(user)),
            _ => is_in(it),
        };
        (0..=root).filter(joins).map(|it| &self.function.nodes()[it]).collect()
    }

    fn is_live(&self, i: usize) -> bool {
        self.is_output[i] || !self.users[i].is_empty()
    }

    fn is_needed_outside(&self, i: usize) -> bool {
        let outside = |&it: &usize| match self.kinds[it] {
            Kind::View => self.roots[it].is_none(),
            kind => kind == Kind::Kept,
        };
        self.is_output[i] || self.users[i].iter().any(outside)
    }

    /// Decides where node `i` goes, when its users are placed.
    fn place(&mut self, i: usize) {
        self.roots[i] = match self.kinds[i] {
            _ if !self.is_live(i) => None,
            Kind::Kept | Kind::Copied => None,
            Kind::Reduction => Some(i),
            Kind::View => self.common_root(i),
            Kind::Element => self.common_root(i).filter(|&root| self.may_join(i, root)).or(Some(i)),
        };
        if self.roots[i].is_some_and(|root| root != i) {
            self.reads[i] = self.reads_of(i);
        }
    }

    /// The group that all users of node `i` are in.
    fn common_root(&self, i: usize) -> Option<usize> {
        let (first, rest) = self.users[i].split_first()?;
        let root = self.roots[*first]?;
        let same = rest.iter().all(|&it| self.roots[it] == Some(root));
        (same && !self.is_output[i]).then_some(root)
    }

    /// Users that read the same element share it; others may each read another one.
    fn reads_of(&self, i: usize) -> u32 {
        let aligned = |&it: &usize| is_pointwise(&self.function.nodes()[it].op);
        let reads = self.users[i].iter().map(|&it| self.reads[it]);
        match self.users[i].iter().all(aligned) {
            true => reads.max().unwrap_or(1),
            false => reads.fold(0, u32::saturating_add),
        }
    }

    /// Whether the group of `root` may compute node `i` where it reads it: for one element of `i`
    /// once, or a few times if that is cheap.
    fn may_join(&self, i: usize, root: usize) -> bool {
        let node = &self.function.nodes()[i];
        let is_table = |&it: &usize| {
            let user = &self.function.nodes()[it];
            matches!(user.op, Op::Gather(_)) && user.operands[0] == node.result()
        };
        let visited = elements(self.axes, self.visits(root));
        let once = self.reads_of(i) <= 1
            && visited <= elements(self.axes, self.function.ty(node.result()).axes.clone())
            && !self.users[i].iter().any(is_table);
        let cheap = self.kinds[root] != Kind::Reduction && !is_costly(&node.op);
        once || (cheap && self.reads_of(i) <= MAX_READS)
    }

    /// The axes that the loops of `root` go along.
    fn visits(&self, root: usize) -> Vec<Axis> {
        let node = &self.function.nodes()[root];
        let result = &self.function.ty(node.result()).axes;
        match &node.op {
            Op::Contract(it) => [result.as_slice(), &it.over].concat(),
            Op::Reduce(_) | Op::ArgMax(_) | Op::ScatterAdd(_) => {
                self.function.ty(node.operands[0]).axes.clone()
            }
            _ => result.clone(),
        }
    }

    /// Leaves views outside whose operand is outside: there they cost nothing.
    fn release_views(&mut self) {
        for (i, node) in self.function.nodes().iter().enumerate() {
            let inside =
                |it: usize| self.kinds[it] == Kind::Copied || self.roots[it] == self.roots[i];
            let maker = node.operands.first().and_then(|&it| self.makers[it.index()]);
            if self.kinds[i] == Kind::View && !maker.is_some_and(inside) {
                self.roots[i] = None;
            }
        }
    }
}

fn kind(module: &Module, function: &Function, node: &Node) -> Kind {
    match &node.op {
        Op::Call(_) | Op::Scan(_) => Kind::Kept,
        Op::Concat(it) if is_append(module, function, node, &it.parts) => Kind::Kept,
        Op::Constant(it) if it.values.len() != 1 => Kind::Kept,
        Op::Constant(_) | Op::ExtentOf(_) | Op::Iota(_) => Kind::Copied,
        Op::Split(_) | Op::Merge(_) | Op::Rename(_) if keeps_dtype(function, node) => Kind::View,
        Op::Gather(_) if Gather::known_place(&module.axes, function, node).is_some() => Kind::View,
        Op::Reduce(_) | Op::Contract(_) | Op::ArgMax(_) | Op::ScatterAdd(_) => Kind::Reduction,
        _ => Kind::Element,
    }
}

/// Whether this lays new positions behind those of a state.
fn is_append(module: &Module, function: &Function, node: &Node, parts: &[Axis]) -> bool {
    let [past, new] = parts else { return false };
    let decl = new.as_atom().and_then(|it| module.axes.get(it.as_str()));
    let origin = decl.and_then(|it| it.origin.as_ref()).map(Axis::atom);
    function.as_param(node.operands[0]).is_some() && origin.as_ref() == Some(past)
}

fn keeps_dtype(function: &Function, node: &Node) -> bool {
    function.ty(node.result()).dtype == function.ty(node.operands[0]).dtype
}

/// How many elements there are along `axes` at most.
fn elements(axes: &Axes, along: Vec<Axis>) -> u128 {
    let bounds = along.iter().map(|it| axes.bound(it).unwrap_or(usize::MAX) as u128);
    bounds.fold(1, u128::saturating_mul)
}

/// For each node, the live ones that take its results, each once, in order.
fn users(function: &Function, makers: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); function.nodes().len()];
    let live = function.live();
    for (i, node) in function.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
        for maker in node.operands.iter().filter_map(|it| makers[it.index()]) {
            if users[maker].last() != Some(&i) {
                users[maker].push(i);
            }
        }
    }
    users
}

/// For each value, the node that makes it.
fn makers(function: &Function) -> Vec<Option<usize>> {
    let mut makers = vec![None; function.n_values()];
    for (i, node) in function.nodes().iter().enumerate() {
        node.results().for_each(|it| makers[it.index()] = Some(i));
    }
    makers
}
