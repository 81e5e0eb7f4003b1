//! What two arrays have in common: the shortest way from one to the other by leaving out and putting
//! in (E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986), as long as it is short.

use std::collections::HashMap;

use super::Fuel;

/// Most elements that are left out or put in; where more differ, what is at the same place is compared.
const MOST_EDITS: usize = 64;
/// Steps of the size of a byte's that it takes to number an element.
const NUMBERING: usize = 32;

/// Elements that are the same in both arrays, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) length: usize,
}

/// Runs in their order.
pub(super) fn runs(old: &[&str], new: &[&str], fuel: &mut Fuel) -> Vec<Run> {
    let shorter = old.len().min(new.len());
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take(shorter - head);
    let tail = tail.take_while(|(old, new)| old == new).count();
    let middle = |all: &[&str]| head..all.len() - tail;
    let between = between(&old[middle(old)], &new[middle(new)], fuel);
    let between =
        between.into_iter().map(|run| Run { old: run.old + head, new: run.new + head, ..run });
    let first = Run { old: 0, new: 0, length: head };
    let last = Run { old: old.len() - tail, new: new.len() - tail, length: tail };
    [first].into_iter().chain(between).chain([last]).filter(|run| run.length > 0).collect()
}

fn between(old: &[&str], new: &[&str], fuel: &mut Fuel) -> Vec<Run> {
    if old.is_empty() || new.is_empty() || !fuel.burn(NUMBERING * (old.len() + new.len())) {
        return Vec::new();
    }
    // Equal texts get one number, so that a comparison is one of numbers.
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut number = |text| {
        let next = numbers.len();
        *numbers.entry(text).or_insert(next)
    };
    let old: Vec<_> = old.iter().map(|text| number(*text)).collect();
    let new: Vec<_> = new.iter().map(|text| number(*text)).collect();
    Search { old: &old, new: &new, furthest: Vec::new() }.run(fuel).unwrap_or_default()
}

/// A way is a walk from (0, 0) to the ends of both arrays: right leaves out, down puts in, and
/// diagonally is what both have.
struct Search<'a> {
    old: &'a [usize],
    new: &'a [usize],
    /// For each number of edits, how far in `old` one comes with it, on every second diagonal;
    /// `None` where there is no such way.
    furthest: Vec<Vec<Option<usize>>>,
}

impl Search<'_> {
    fn run(mut self, fuel: &mut Fuel) -> Option<Vec<Run>> {
        for edits in 0..=MOST_EDITS {
            let mut ways = Vec::with_capacity(edits + 1);
            for way in 0..=edits {
                let Some((begin, _)) = self.begin(edits, way) else {
                    ways.push(None);
                    continue;
                };
                let (x, y) = self.follow(begin, fuel)?;
                ways.push(Some(x));
                if (x, y) == (self.old.len(), self.new.len()) {
                    self.furthest.push(ways);
                    return Some(self.trace(edits, way));
                }
            }
            self.furthest.push(ways);
        }
        None
    }

    /// Where the best way on a diagonal goes on after its last edit, and which way that continues.
    fn begin(&self, edits: usize, way: usize) -> Option<((usize, usize), usize)> {
        if edits == 0 {
            return Some(((0, 0), 0));
        }
        let before = &self.furthest[edits - 1];
        let place = |way: usize| {
            let x = (*before.get(way)?)?;
            // Of the diagonals x - y = 2 * way - edits.
            Some((x, (x + edits - 1).checked_sub(2 * way)?))
        };
        let right = way.checked_sub(1).and_then(|way| {
            let (x, y) = place(way)?;
            (x < self.old.len()).then_some(((x + 1, y), way))
        });
        let down = place(way).filter(|(_, y)| *y < self.new.len()).map(|(x, y)| ((x, y + 1), way));
        match (right, down) {
            (Some(right), Some(down)) => Some(if right.0.0 > down.0.0 { right } else { down }),
            (right, down) => right.or(down),
        }
    }

    /// Along what both have.
    fn follow(&self, (x, y): (usize, usize), fuel: &mut Fuel) -> Option<(usize, usize)> {
        let same = self.old[x..].iter().zip(&self.new[y..]);
        let same = same.take_while(|(old, new)| old == new).count();
        fuel.burn(same + 1).then_some((x + same, y + same))
    }

    /// The runs of the way that ends with so many edits.
    fn trace(&self, edits: usize, way: usize) -> Vec<Run> {
        let (mut way, mut runs) = (way, Vec::new());
        for edits in (0..=edits).rev() {
            let end = self.furthest[edits][way];
            let (Some(end), Some(((old, new), before))) = (end, self.begin(edits, way)) else {
                break;
            };
            runs.push(Run { old, new, length: end - old });
            way = before;
        }
        runs.retain(|run| run.length > 0);
        runs.reverse();
        runs
    }
}
