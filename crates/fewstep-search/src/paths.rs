//! Dynamic programming over paths on a grid of noise levels.

/// A path from the first grid level to the last.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortestPath {
    /// Grid indices, rising, both ends included.
    pub path: Vec<usize>,
    /// Sum of the costs of its steps.
    pub cost: f64,
}

/// The cheapest path of every number of levels from 2 to `most`, from grid index 0 to `grid - 1`, where the step from
/// `i` to `k > i` costs `cost(i, k)`, times `coefficient` for each step before it: one pass serves every number of
/// steps.
///
/// Entry `n` of the result has `n + 2` levels; there are at most `grid - 1` entries, since no level repeats. Costs may
/// be negative; a NaN is never chosen over a number. Time `O(most * grid^2)`, each cost computed once.
pub fn shortest_paths(
    grid: usize,
    most: usize,
    coefficient: f64,
    cost: impl Fn(usize, usize) -> f64,
) -> Vec<ShortestPath> {
    if grid < 2 {
        return Vec::new();
    }
    let costs: Vec<Vec<f64>> = (0..grid).map(|k| (0..k).map(|i| cost(i, k)).collect()).collect();
    let mut best = vec![f64::INFINITY; grid];
    best[0] = 0.0;
    let mut before: Vec<Vec<usize>> = Vec::new();
    let mut found = Vec::new();
    let mut weight = 1.0;
    for steps in 1..=most.min(grid).saturating_sub(1) {
        let mut next = vec![f64::INFINITY; grid];
        let mut from = vec![0; grid];
        for k in steps..grid {
            for i in steps - 1..k {
                let through = best[i] + weight * costs[k][i];
                if through < next[k] {
                    (next[k], from[k]) = (through, i);
                }
            }
        }
        best = next;
        weight *= coefficient;
        before.push(from);
        found.push(ShortestPath { path: trace_back(&before, grid - 1), cost: best[grid - 1] });
    }
    found
}

fn trace_back(before: &[Vec<usize>], last: usize) -> Vec<usize> {
    let mut path = vec![last];
    for from in before.iter().rev() {
        path.push(from[path[path.len() - 1]]);
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_trying_every_path() {
        let cost = |i: usize, k: usize| (((i * 31 + k * 17) % 23) as f64 - 4.0) * (k - i) as f64;
        for coefficient in [1.0, 1.15] {
            agrees(coefficient, cost);
        }
    }

    fn agrees(coefficient: f64, cost: impl Fn(usize, usize) -> f64) {
        let of = |path: &[usize]| {
            let steps = path.windows(2).enumerate();
            steps.map(|(step, pair)| coefficient.powi(step as i32) * cost(pair[0], pair[1])).sum::<f64>()
        };
        let found = shortest_paths(9, 20, coefficient, &cost);
        assert_eq!(found.len(), 8);
        for (n, found) in found.iter().enumerate() {
            // every subset of the 7 inner levels of the right size
            let subsets = (0_u32..1 << 7).filter(|mask| mask.count_ones() as usize == n);
            let best = subsets
                .map(|mask| {
                    let path: Vec<usize> =
                        [0].into_iter().chain((1..8).filter(|j| mask >> (j - 1) & 1 == 1)).chain([8]).collect();
                    of(&path)
                })
                .fold(f64::INFINITY, f64::min);
            assert!((found.cost - best).abs() < 1e-9 * (1.0 + best.abs()));
            assert_eq!(found.path.len(), n + 2);
            assert!((found.cost - of(&found.path)).abs() < 1e-9 * (1.0 + best.abs()));
        }
    }

    #[test]
    fn small_grids() {
        assert!(shortest_paths(0, 5, 1.0, |_, _| 1.0).is_empty() && shortest_paths(1, 5, 1.0, |_, _| 1.0).is_empty());
        assert!(shortest_paths(4, 1, 1.0, |_, _| 1.0).is_empty());
        assert_eq!(shortest_paths(2, 5, 1.0, |_, _| 1.5), [ShortestPath { path: vec![0, 1], cost: 1.5 }]);
    }
}
