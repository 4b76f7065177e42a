//! Trees as tables: all nodes of all trees in one numbering, branches first, then leaves.
//!
//! Invariant: a branch leads to nodes of the table, a leaf to itself, and from a root no path is
//! longer than `depth`.

use super::super::fault::Fault;
use super::super::node::Use;
use super::attributes::{alike, integers, numbers, tensor};
use kiln_tensor::Tensor;
use std::collections::HashMap;

/// How an element may relate to a node's threshold for the branch to be taken.
pub(super) mod relation {
    /// It is less.
    pub(in super::super) const LESS: i64 = 1;
    /// It is equal.
    pub(in super::super) const EQUAL: i64 = 2;
    /// It is greater.
    pub(in super::super) const GREATER: i64 = 4;
    /// It is not a number, or the threshold is none.
    pub(in super::super) const NEITHER: i64 = 8;
}

use relation::{EQUAL, GREATER, LESS, NEITHER};

/// A node that compares a feature.
#[derive(Clone, Debug)]
struct Branch {
    feature: i64,
    threshold: f64,
    /// Which relations lead to `yes`.
    relations: i64,
    yes: Child,
    no: Child,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Branch(usize),
    Leaf(usize),
}

/// All trees.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    branches: Vec<Branch>,
    roots: Vec<Child>,
    /// What each leaf adds: targets with weights.
    pub(super) leaves: Vec<Vec<(usize, f64)>>,
    /// Comparisons from a root to a leaf at most.
    pub(super) depth: usize,
}

/// The columns of the table.
pub(super) struct Columns {
    pub(super) feature: Vec<i64>,
    pub(super) threshold: Vec<f64>,
    pub(super) relations: Vec<i64>,
    pub(super) yes: Vec<i64>,
    pub(super) no: Vec<i64>,
    pub(super) roots: Vec<i64>,
}

/// How a node compares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Compare(i64),
    Member,
    Leaf,
}

impl Mode {
    fn named(name: &str) -> Result<Mode, Fault> {
        Ok(match name {
            "BRANCH_LEQ" => Mode::Compare(LESS | EQUAL),
            "BRANCH_LT" => Mode::Compare(LESS),
            "BRANCH_GTE" => Mode::Compare(GREATER | EQUAL),
            "BRANCH_GT" => Mode::Compare(GREATER),
            "BRANCH_EQ" => Mode::Compare(EQUAL),
            "BRANCH_NEQ" => Mode::Compare(LESS | GREATER | NEITHER),
            "LEAF" => Mode::Leaf,
            other => return Err(Fault::malformed(format!("node mode `{other}` is not known"))),
        })
    }

    fn numbered(number: i64) -> Result<Mode, Fault> {
        let names =
            ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
        match usize::try_from(number).ok().and_then(|number| names.get(number)) {
            Some(name) => Mode::named(name),
            None if number == 6 => Ok(Mode::Member),
            None => Err(Fault::malformed(format!("node mode {number} is not known"))),
        }
    }
}

impl Forest {
    /// The trees of `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: nodes by tree and
    /// number; what leaves add stands in attributes that begin with `what`.
    pub(super) fn by_names(x: &Use<'_, '_, '_>, what: &str) -> Result<Forest, Fault> {
        let list = |name: &str| integers(x, &format!("nodes_{name}"));
        let (trees, nodes) = (list("treeids")?, list("nodeids")?);
        let (features, yes, no) =
            (list("featureids")?, list("truenodeids")?, list("falsenodeids")?);
        let (modes, values) = (x.strings("nodes_modes")?, numbers(x, "nodes_values")?);
        let missing = list("missing_value_tracks_true")?;
        let count = trees.len();
        let lengths = [count, nodes.len(), features.len(), yes.len(), no.len(), modes.len()];
        alike(&[&lengths[..], &[values.len()]].concat(), "nodes")?;
        let mut forest = Forest::default();
        let mut children: HashMap<(i64, i64), Child> = HashMap::new();
        for place in 0..count {
            let key = (trees[place], nodes[place]);
            let child = if Mode::named(&modes[place])? == Mode::Leaf {
                forest.leaves.push(Vec::new());
                Child::Leaf(forest.leaves.len() - 1)
            } else {
                forest.branches.push(Branch {
                    feature: features[place],
                    threshold: values[place],
                    relations: 0,
                    yes: Child::Leaf(0),
                    no: Child::Leaf(0),
                });
                Child::Branch(forest.branches.len() - 1)
            };
            if children.insert(key, child).is_some() {
                let (tree, node) = key;
                return Err(Fault::malformed(format!("node {node} of tree {tree} is there twice")));
            }
            // The first node of a tree is its root.
            if place == 0 || trees[place - 1] != trees[place] {
                forest.roots.push(child);
            }
        }
        let found = |tree: i64, node: i64| {
            let message = || format!("there is no node {node} in tree {tree}");
            children.get(&(tree, node)).copied().ok_or_else(|| Fault::malformed(message()))
        };
        let mut branch = 0;
        for place in 0..count {
            let Mode::Compare(relations) = Mode::named(&modes[place])? else { continue };
            let tracks = missing.get(place).is_some_and(|&tracks| tracks != 0);
            let slot = &mut forest.branches[branch];
            slot.relations = relations | if tracks { NEITHER } else { 0 };
            slot.yes = found(trees[place], yes[place])?;
            slot.no = found(trees[place], no[place])?;
            branch += 1;
        }
        let part = |name: &str| integers(x, &format!("{what}_{name}"));
        let (trees, nodes, ids) = (part("treeids")?, part("nodeids")?, part("ids")?);
        let weights = numbers(x, &format!("{what}_weights"))?;
        alike(&[trees.len(), nodes.len(), ids.len(), weights.len()], "leaves")?;
        for (place, &weight) in weights.iter().enumerate() {
            let Child::Leaf(leaf) = found(trees[place], nodes[place])? else {
                // What a branch would add is never looked at.
                continue;
            };
            forest.leaves[leaf].push((target(ids[place])?, weight));
        }
        forest.measured()
    }

    /// The trees of `TreeEnsemble`, whose nodes and leaves are numbered apart.
    pub(super) fn by_numbers(x: &Use<'_, '_, '_>) -> Result<Forest, Fault> {
        let list = |name: &str| integers(x, &format!("nodes_{name}"));
        let (features, yes, no) =
            (list("featureids")?, list("truenodeids")?, list("falsenodeids")?);
        let (yes_leaf, no_leaf) = (list("trueleafs")?, list("falseleafs")?);
        let missing = list("missing_value_tracks_true")?;
        let modes = tensor(x, "nodes_modes")?.map(|tensor| tensor.to_i64()).unwrap_or_default();
        let splits = tensor(x, "nodes_splits")?;
        let operand = x.ty(x.input(0)?).clone();
        if splits.as_ref().is_some_and(|splits| splits.dtype() != operand.dtype) {
            let message = format!("`nodes_splits` must be of the element type of {operand}");
            return Err(Fault::malformed(message));
        }
        let splits = splits.map(|tensor| tensor.to_f64()).unwrap_or_default();
        let count = features.len();
        let lengths = [count, yes.len(), no.len(), yes_leaf.len(), no_leaf.len(), modes.len()];
        alike(&[&lengths[..], &[splits.len()]].concat(), "nodes")?;
        let (targets, weights) = (integers(x, "leaf_targetids")?, tensor(x, "leaf_weights")?);
        let weights = weights.map(|tensor: Tensor| tensor.to_f64()).unwrap_or_default();
        alike(&[targets.len(), weights.len()], "leaves")?;
        let leaves = targets.iter().zip(&weights);
        let leaves = leaves.map(|(&id, &weight)| Ok(vec![(target(id)?, weight)]));
        let leaves = leaves.collect::<Result<Vec<_>, Fault>>()?;
        let child = |number: i64, leaf: i64| {
            let most = if leaf != 0 { leaves.len() } else { count };
            let place = usize::try_from(number).ok().filter(|&place| place < most);
            let place = place.ok_or_else(|| Fault::malformed(format!("there is no node {number}")));
            place.map(|place| if leaf != 0 { Child::Leaf(place) } else { Child::Branch(place) })
        };
        let mut forest = Forest { leaves: leaves.clone(), ..Forest::default() };
        let mut members = members(x)?.into_iter();
        for place in 0..count {
            let tracks = missing.get(place).is_some_and(|&tracks| tracks != 0);
            let mode = Mode::numbered(modes[place])?;
            let relations = if let Mode::Compare(relations) = mode { relations } else { 0 };
            forest.branches.push(Branch {
                feature: features[place],
                threshold: splits[place],
                relations: relations | if tracks { NEITHER } else { 0 },
                yes: child(yes[place], yes_leaf[place])?,
                no: child(no[place], no_leaf[place])?,
            });
        }
        for place in (0..count).filter(|&place| modes[place] == 6) {
            let missing = || Fault::malformed(format!("the values of node {place} are missing"));
            let mut set = members.next().ok_or_else(missing)?;
            set.sort_by(f64::total_cmp);
            set.dedup();
            let own = forest.branches[place].clone();
            forest.branches[place] = forest.searched(&own, &set);
        }
        for root in integers(x, "tree_roots")? {
            let first = child(root, 0)?;
            // A tree that is one leaf is written as a node both of whose sides are that leaf.
            let Child::Branch(place) = first else { return Err(Fault::Silent) };
            let branch = &forest.branches[place];
            forest.roots.push(if branch.yes == branch.no { branch.yes } else { first });
        }
        forest.measured()
    }

    /// A branch that leads to the node's `yes` for the members of a sorted set: a binary search.
    fn searched(&mut self, node: &Branch, set: &[f64]) -> Branch {
        let mut branch = node.clone();
        match set {
            [] => {
                // Nothing is in it.
                branch.relations &= NEITHER;
            }
            [only] => {
                branch.threshold = *only;
                branch.relations |= EQUAL;
            }
            _ => {
                let (below, above) = set.split_at(set.len() / 2);
                branch.threshold = above[0];
                branch.relations |= LESS;
                for (half, side) in [(below, true), (above, false)] {
                    let made = self.searched(node, half);
                    self.branches.push(made);
                    let child = Child::Branch(self.branches.len() - 1);
                    *if side { &mut branch.yes } else { &mut branch.no } = child;
                }
            }
        }
        branch
    }

    /// The forest with its depth; an error if a path does not end.
    fn measured(mut self) -> Result<Forest, Fault> {
        if self.leaves.is_empty() || self.roots.is_empty() {
            return Err(Fault::malformed("there are no trees"));
        }
        // How far each branch is from its deepest leaf, from leaves upwards.
        const OPEN: usize = usize::MAX;
        const BUSY: usize = usize::MAX - 1;
        let mut heights = vec![OPEN; self.branches.len()];
        for root in 0..self.branches.len() {
            let mut path = vec![root];
            while let Some(&place) = path.last() {
                if heights[place] < BUSY {
                    path.pop();
                    continue;
                }
                heights[place] = BUSY;
                let mut most = 0;
                let mut open = Vec::new();
                for child in [self.branches[place].yes, self.branches[place].no] {
                    match child {
                        Child::Leaf(_) => {}
                        Child::Branch(at) if heights[at] < BUSY => most = most.max(heights[at]),
                        Child::Branch(at) if heights[at] == BUSY => {
                            return Err(Fault::malformed("a path through a tree does not end"));
                        }
                        Child::Branch(at) => open.push(at),
                    }
                }
                if open.is_empty() {
                    heights[place] = most + 1;
                    path.pop();
                } else {
                    path.extend(open);
                }
            }
        }
        let of = |child: &Child| if let Child::Branch(at) = child { heights[*at] } else { 0 };
        self.depth = self.roots.iter().map(of).max().unwrap_or(0);
        Ok(self)
    }

    /// How many trees there are.
    pub(super) fn trees(&self) -> usize {
        self.roots.len()
    }

    /// The number of the first leaf.
    pub(super) fn first_leaf(&self) -> usize {
        self.branches.len()
    }

    /// The table.
    pub(super) fn columns(&self) -> Columns {
        let place = |child: &Child| match child {
            Child::Branch(at) => *at as i64,
            Child::Leaf(at) => (self.branches.len() + at) as i64,
        };
        let leaves = self.branches.len() as i64..(self.branches.len() + self.leaves.len()) as i64;
        let none = vec![0; self.leaves.len()];
        let of = |f: &dyn Fn(&Branch) -> i64, rest: Vec<i64>| -> Vec<i64> {
            self.branches.iter().map(f).chain(rest).collect()
        };
        let thresholds = self.branches.iter().map(|branch| branch.threshold);
        Columns {
            feature: of(&|branch| branch.feature, none.clone()),
            threshold: thresholds.chain(none.iter().map(|_| 0.0)).collect(),
            relations: of(&|branch| branch.relations, none),
            yes: of(&|branch| place(&branch.yes), leaves.clone().collect()),
            no: of(&|branch| place(&branch.no), leaves.collect()),
            roots: self.roots.iter().map(place).collect(),
        }
    }

    /// The features that are looked at, the greatest number and the least.
    pub(super) fn features(&self) -> Option<(i64, i64)> {
        let numbers = || self.branches.iter().map(|branch| branch.feature);
        Some((numbers().max()?, numbers().min()?))
    }

    /// The relations of all branches, if they have the same.
    pub(super) fn relations(&self) -> Option<i64> {
        let first = self.branches.first()?.relations;
        self.branches.iter().all(|branch| branch.relations == first).then_some(first)
    }
}

fn target(id: i64) -> Result<usize, Fault> {
    usize::try_from(id).map_err(|_| Fault::malformed(format!("there is no target {id}")))
}

/// The sets of nodes that ask for membership, each ended by a NaN.
fn members(x: &Use<'_, '_, '_>) -> Result<Vec<Vec<f64>>, Fault> {
    let Some(values) = tensor(x, "membership_values")? else { return Ok(Vec::new()) };
    let mut sets = vec![Vec::new()];
    for value in values.to_f64() {
        match sets.last_mut() {
            Some(set) if !value.is_nan() => set.push(value),
            _ => sets.push(Vec::new()),
        }
    }
    Ok(sets)
}
