use serde::{Deserialize, Serialize};

/// A covariance matrix that is cheap to take functions of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// `variance * I`; 0 is a single point.
    Isotropic(f64),
    /// A diagonal matrix, one variance a dimension.
    Diagonal(Vec<f64>),
    /// `sum_j variances_j u_j u_j^T + rest (I - sum_j u_j u_j^T)` with orthonormal `u_j`.
    LowRank {
        /// The orthonormal directions `u_j`.
        basis: Vec<Vec<f64>>,
        /// The variance along each.
        variances: Vec<f64>,
        /// The variance in all other directions.
        rest: f64,
    },
}

impl Covariance {
    /// What is wrong with this covariance in `dim` dimensions, if anything.
    pub(super) fn fault(&self, dim: usize) -> Option<&'static str> {
        const NEGATIVE: &str = "has a variance that is negative or not finite";
        let good = |v: &f64| *v >= 0.0 && v.is_finite();
        match self {
            Self::Isotropic(variance) => (!good(variance)).then_some(NEGATIVE),
            Self::Diagonal(variances) if variances.len() != dim => Some("needs one variance a dimension"),
            Self::Diagonal(variances) => (!variances.iter().all(good)).then_some(NEGATIVE),
            Self::LowRank { basis, variances, rest } => {
                if basis.len() != variances.len() || basis.iter().any(|u| u.len() != dim) {
                    return Some("needs one direction of full dimension for each variance");
                }
                if !(variances.iter().all(good) && good(rest)) {
                    return Some(NEGATIVE);
                }
                let product = |i: usize, j: usize| basis[i].iter().zip(&basis[j]).map(|(a, b)| a * b).sum::<f64>();
                let orthonormal = (0..basis.len())
                    .all(|i| (0..=i).all(|j| (product(i, j) - if i == j { 1.0 } else { 0.0 }).abs() < 1e-8));
                (!orthonormal).then_some("has directions that are not orthonormal")
            }
        }
    }

    /// `f(Sigma) v`: `f` of the eigenvalues.
    pub(super) fn apply(&self, f: impl Fn(f64) -> f64, v: &[f64]) -> Vec<f64> {
        match self {
            Self::Isotropic(variance) => {
                let scale = f(*variance);
                v.iter().map(|v| scale * v).collect()
            }
            Self::Diagonal(variances) => variances.iter().zip(v).map(|(l, v)| f(*l) * v).collect(),
            Self::LowRank { basis, variances, rest } => {
                let outside = f(*rest);
                let mut out: Vec<f64> = v.iter().map(|v| outside * v).collect();
                for (u, l) in basis.iter().zip(variances) {
                    let scale = (f(*l) - outside) * u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
                    out.iter_mut().zip(u).for_each(|(out, u)| *out += scale * u);
                }
                out
            }
        }
    }

    /// `tr f(Sigma)` in `dim` dimensions.
    pub(super) fn trace(&self, dim: usize, f: impl Fn(f64) -> f64) -> f64 {
        match self {
            Self::Isotropic(variance) => dim as f64 * f(*variance),
            Self::Diagonal(variances) => variances.iter().map(|l| f(*l)).sum(),
            Self::LowRank { variances, rest, .. } => {
                variances.iter().map(|l| f(*l)).sum::<f64>() + (dim - variances.len()) as f64 * f(*rest)
            }
        }
    }
}
