//! A function as petgraph sees it: its nodes, with an edge from each to every node that uses it.
//! Orders, dominators, components and drawings come from petgraph.

use std::collections::HashSet;

use petgraph::{
    Direction,
    visit::{
        GraphBase, GraphProp, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, NodeCount,
        NodeIndexable, Visitable,
    },
};

use crate::Function;

/// The edges of a function, found once.
pub struct DataFlow {
    /// For each node, the nodes whose results it takes, each once, in order.
    makers: Vec<Vec<usize>>,
    /// For each node, the nodes that take its results, each once, in order.
    users: Vec<Vec<usize>>,
}

impl DataFlow {
    /// The edges of `function`.
    pub fn new(function: &Function) -> DataFlow {
        let n = function.nodes().len();
        let mut maker_of = vec![None; function.n_values()];
        let (mut makers, mut users) = (vec![Vec::new(); n], vec![Vec::new(); n]);
        for (i, node) in function.nodes().iter().enumerate() {
            node.results().for_each(|it| maker_of[it.index()] = Some(i));
            let mut from: Vec<usize> =
                node.operands.iter().filter_map(|it| maker_of[it.index()]).collect();
            from.sort_unstable();
            from.dedup();
            from.iter().for_each(|&it: &usize| users[it].push(i));
            makers[i] = from;
        }
        DataFlow { makers, users }
    }
}

impl GraphBase for DataFlow {
    type NodeId = usize;
    type EdgeId = (usize, usize);
}

impl GraphProp for DataFlow {
    type EdgeType = petgraph::Directed;
}

impl NodeCount for DataFlow {
    fn node_count(&self) -> usize {
        self.users.len()
    }
}

impl NodeIndexable for DataFlow {
    fn node_bound(&self) -> usize {
        self.users.len()
    }

    fn to_index(&self, node: usize) -> usize {
        node
    }

    fn from_index(&self, index: usize) -> usize {
        index
    }
}

impl Visitable for DataFlow {
    type Map = HashSet<usize>;

    fn visit_map(&self) -> HashSet<usize> {
        HashSet::new()
    }

    fn reset_map(&self, map: &mut HashSet<usize>) {
        map.clear();
    }
}

impl IntoNodeIdentifiers for &DataFlow {
    type NodeIdentifiers = std::ops::Range<usize>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        0..self.users.len()
    }
}

impl<'a> IntoNeighbors for &'a DataFlow {
    type Neighbors = std::iter::Copied<std::slice::Iter<'a, usize>>;

    fn neighbors(self, node: usize) -> Self::Neighbors {
        self.users[node].iter().copied()
    }
}

impl<'a> IntoNeighborsDirected for &'a DataFlow {
    type NeighborsDirected = std::iter::Copied<std::slice::Iter<'a, usize>>;

    fn neighbors_directed(self, node: usize, direction: Direction) -> Self::NeighborsDirected {
        match direction {
            Direction::Outgoing => self.users[node].iter().copied(),
            Direction::Incoming => self.makers[node].iter().copied(),
        }
    }
}
