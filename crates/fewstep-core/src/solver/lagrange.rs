//! Polynomial interpolation through past points.

/// The `j`-th Lagrange polynomial on `nodes`, at `t`: 1 at node `j`, 0 at the others.
pub(super) fn lagrange(nodes: &[f64], j: usize, t: f64) -> f64 {
    let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
    others.map(|(_, node)| (t - node) / (nodes[j] - node)).product()
}

/// The weights `integral of l_j(s) ds from a to b` of all Lagrange polynomials on at most 6 `nodes`: exact, by the
/// 3-point Gauss-Legendre rule.
pub(super) fn integrals(nodes: &[f64], a: f64, b: f64) -> Vec<f64> {
    const RULE: [(f64, f64); 3] =
        [(-0.774_596_669_241_483_4, 5.0 / 9.0), (0.0, 8.0 / 9.0), (0.774_596_669_241_483_4, 5.0 / 9.0)];
    let (middle, half) = (0.5 * (a + b), 0.5 * (b - a));
    let weight = |j| RULE.iter().map(|(u, w)| w * lagrange(nodes, j, middle + half * u)).sum::<f64>() * half;
    (0..nodes.len()).map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_and_integrates_polynomials_exactly() {
        let nodes = [3.0, 2.0, 0.5, -1.0];
        let f = |t: f64| 1.0 - 2.0 * t + 0.25 * t * t - t.powi(3);
        let values = nodes.map(f);
        let through = |t: f64| (0..4).map(|j| lagrange(&nodes, j, t) * values[j]).sum::<f64>();
        assert!((through(1.3) - f(1.3)).abs() < 1e-13);
        let integral: f64 = integrals(&nodes, 2.0, -1.0).iter().zip(values).map(|(w, v)| w * v).sum();
        let primitive = |t: f64| t - t * t + 0.25 * t.powi(3) / 3.0 - t.powi(4) / 4.0;
        assert!((integral - (primitive(-1.0) - primitive(2.0))).abs() < 1e-12);
    }
}
