//! Groups of files in which each one can be reached from each other one.

use std::collections::{BTreeMap, BTreeSet};

/// All groups of more than one file, each sorted.
pub(crate) fn circles(edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let mut next: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for &(from, to) in edges {
        next.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<usize, BTreeSet<usize>> = next
        .keys()
        .map(|&start| (start, reachable(&next, start)))
        .collect();
    let leads = |from: usize, to: usize| reached.get(&from).is_some_and(|all| all.contains(&to));
    let groups: BTreeSet<Vec<usize>> = next
        .keys()
        .filter(|&&file| leads(file, file))
        .map(|&file| {
            let others = next.keys().copied();
            others
                .filter(|&other| leads(file, other) && leads(other, file))
                .collect()
        })
        .collect();
    groups.into_iter().collect()
}

fn reachable(next: &BTreeMap<usize, BTreeSet<usize>>, start: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(file) = open.pop() {
        for &other in next.get(&file).into_iter().flatten() {
            if reached.insert(other) {
                open.push(other);
            }
        }
    }
    reached
}

#[test]
fn a_circle_is_found_with_all_its_members_and_nothing_else() {
    let edges = BTreeSet::from([
        (1, 2),
        (2, 3),
        (3, 1),
        (3, 4),
        (4, 5),
        (6, 7),
        (7, 6),
        (5, 6),
    ]);
    assert_eq!(circles(&edges), [vec![1, 2, 3], vec![6, 7]]);
    assert!(circles(&BTreeSet::from([(1, 2), (1, 3), (2, 3)])).is_empty());
}
