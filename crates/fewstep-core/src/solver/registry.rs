use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Basis, SolverError, SolverOptions, Variant, finished};
use crate::plan::Plan;
use crate::schedule::Schedule;

/// Declares the solvers, each with its values, so that no variant can be missing from [`Solver::all`].
macro_rules! solvers {
    ($(#[$attribute:meta])* pub enum $name:ident {$(
        $(#[$about:meta])*
        $variant:ident $({ $($(#[$of_field:meta])* $field:ident: $type:ty,)+ })? in $values:expr;
    )+}) => {
        $(#[$attribute])*
        pub enum $name {$(
            $(#[$about])*
            $variant $({ $($(#[$of_field])* $field: $type,)+ })?,
        )+}

        impl $name {
            /// Every solver there is.
            pub fn all() -> Vec<Self> {
                let mut all = Vec::new();
                $(all.extend($values);)+
                all
            }
        }
    };
}

solvers! {
    /// A solver by name, as in files and on the command line: `euler`, `heun`, `dpm2`, `ipndm4`, `ipndm_v3`, `dpmpp3m`
    /// (`dpmpp3m_nolof` without lower orders at the end), `unipc3_bh2`, `deis_tab3`, `deis_rhoab4`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    pub enum Solver {
        /// Euler, which is DDIM.
        Euler in [Self::Euler];
        /// EDM's second-order method.
        Heun in [Self::Heun];
        /// DPM-Solver-2, singlestep, midpoint.
        Dpm2 in [Self::Dpm2];
        /// Improved PNDM: Adams-Bashforth with the weights of equal steps, whatever the steps are.
        Ipndm {
            /// 1 to 4.
            order: usize,
        } in (1..=4).map(|order| Self::Ipndm { order });
        /// Improved PNDM with variable-step weights, as the public toolbox has them.
        IpndmV {
            /// 1 to 4.
            order: usize,
        } in (1..=4).map(|order| Self::IpndmV { order });
        /// DPM-Solver++ multistep with data prediction.
        DpmPp {
            /// 2 or 3.
            order: usize,
            /// Lower orders for the last steps.
            lower_order_final: bool,
        } in [(2, true), (2, false), (3, true), (3, false)]
            .map(|(order, lower_order_final)| Self::DpmPp { order, lower_order_final });
        /// UniPC with data prediction: multistep predictor and corrector.
        UniPc {
            /// 2 or 3.
            order: usize,
            /// The function B(h).
            variant: Variant,
        } in [(2, Variant::Bh1), (2, Variant::Bh2), (3, Variant::Bh1), (3, Variant::Bh2)]
            .map(|(order, variant)| Self::UniPc { order, variant });
        /// DEIS: exact integrals of a polynomial through the last slopes.
        Deis {
            /// 2 to 4.
            order: usize,
            /// The variable in which the polynomial is one.
            basis: Basis,
        } in [Basis::Time, Basis::Sigma].into_iter().flat_map(|basis| (2..=4).map(move |order| Self::Deis { order, basis }));
    }
}

impl Solver {
    /// The order of the main step's formula as measured: from exact history, its error over one step of size `h` is
    /// `O(h^(order + 1))`; on equal steps in sigma where [`Solver::needs_equal_steps`], else on any.
    ///
    /// Two names promise more than the published formulas keep, which are used as they are: `dpmpp3m` is of order 2
    /// and `ipndm_v4` of order 3 (see their files for the slips).
    pub fn order(&self) -> usize {
        match *self {
            Self::Euler => 1,
            Self::Heun | Self::Dpm2 | Self::DpmPp { .. } => 2,
            Self::IpndmV { order } => order.min(3),
            Self::Ipndm { order } | Self::UniPc { order, .. } | Self::Deis { order, .. } => order,
        }
    }

    /// True where the formula loses order when neighbouring steps differ.
    pub fn needs_equal_steps(&self) -> bool {
        matches!(self, Self::Ipndm { order: 2.. } | Self::IpndmV { order: 3.. })
    }

    /// The order of the whole sampler as the number of steps grows on a smoothly spaced schedule. At most 2: multistep
    /// solvers start with an Euler step.
    pub fn global_order(&self) -> usize {
        self.order().min(2)
    }

    /// Evaluations from one level to the next, the one at the level itself first: `n` levels and the step to zero take
    /// `e (n - 1) + 1`.
    pub fn evaluations_per_step(&self) -> usize {
        match self {
            Self::Heun | Self::Dpm2 => 2,
            _ => 1,
        }
    }

    /// Runs the solver on a schedule and returns what it does as a plan.
    ///
    /// ```
    /// use fewstep_core::{Solver, SolverOptions, schedule::karras};
    ///
    /// let solver: Solver = "dpmpp2m".parse()?;
    /// let plan = solver.plan(&karras(6, 0.002, 80.0, 7.0)?, &SolverOptions::default())?;
    /// assert_eq!(plan.nfe(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the schedule has too few levels for the options, or levels so extreme that a coefficient overflows.
    pub fn plan(&self, schedule: &Schedule, options: &SolverOptions) -> Result<Plan, SolverError> {
        let levels = schedule.levels();
        let plan = match *self {
            Self::Euler => super::euler::plan(levels, options),
            Self::Heun => super::heun::plan(levels, options),
            Self::Dpm2 => super::dpm_solver_2::plan(levels, options),
            Self::Ipndm { order } => super::ipndm::fixed(order, levels, options),
            Self::IpndmV { order } => super::ipndm::variable(order, levels, options),
            Self::DpmPp { order, lower_order_final } => super::dpmpp::plan(order, lower_order_final, levels, options),
            Self::UniPc { order, variant } => super::unipc::plan(order, variant, levels, options),
            Self::Deis { order, basis } => super::deis::plan(order, basis, levels, options),
        }?;
        finished(plan, self, schedule)
    }
}

impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Euler => write!(f, "euler"),
            Self::Heun => write!(f, "heun"),
            Self::Dpm2 => write!(f, "dpm2"),
            Self::Ipndm { order } => write!(f, "ipndm{order}"),
            Self::IpndmV { order } => write!(f, "ipndm_v{order}"),
            Self::DpmPp { order, lower_order_final: true } => write!(f, "dpmpp{order}m"),
            Self::DpmPp { order, lower_order_final: false } => write!(f, "dpmpp{order}m_nolof"),
            Self::UniPc { order, variant: Variant::Bh1 } => write!(f, "unipc{order}_bh1"),
            Self::UniPc { order, variant: Variant::Bh2 } => write!(f, "unipc{order}_bh2"),
            Self::Deis { order, basis: Basis::Time } => write!(f, "deis_tab{order}"),
            Self::Deis { order, basis: Basis::Sigma } => write!(f, "deis_rhoab{order}"),
        }
    }
}

impl FromStr for Solver {
    type Err = SolverError;

    fn from_str(name: &str) -> Result<Self, SolverError> {
        let wanted = if name == "ddim" { "euler" } else { name };
        let found = Self::all().into_iter().find(|solver| solver.to_string() == wanted);
        found.ok_or_else(|| SolverError::Unknown { name: name.into() })
    }
}

impl TryFrom<String> for Solver {
    type Error = SolverError;

    fn try_from(name: String) -> Result<Self, SolverError> {
        name.parse()
    }
}

impl From<Solver> for String {
    fn from(solver: Solver) -> Self {
        solver.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::karras;
    use crate::solver::LastStep;

    #[test]
    fn names_are_unique_and_parse_back() {
        let all = Solver::all();
        for solver in &all {
            assert_eq!(solver.to_string().parse::<Solver>().unwrap(), *solver);
            assert_eq!(all.iter().filter(|other| other.to_string() == solver.to_string()).count(), 1);
            let json = serde_json::to_string(solver).unwrap();
            assert_eq!(serde_json::from_str::<Solver>(&json).unwrap(), *solver);
        }
        assert_eq!("ddim".parse::<Solver>().unwrap(), Solver::Euler);
        let error = "rk45".parse::<Solver>().unwrap_err().to_string();
        assert!(error.contains("rk45") && error.contains("heun"), "{error}");
    }

    #[test]
    fn evaluations_are_what_is_declared() {
        for solver in Solver::all() {
            let per_step = solver.evaluations_per_step();
            for n in [2, 3, 4, 9] {
                let schedule = karras(n, 0.002, 80.0, 7.0).unwrap();
                for afs in [false, true] {
                    let nfe = |last_step| {
                        let options = SolverOptions { last_step, analytical_first_step: afs };
                        solver.plan(&schedule, &options).map(|plan| plan.nfe())
                    };
                    let steps = per_step * (n - 1) - usize::from(afs);
                    assert_eq!(nfe(LastStep::ToZero).unwrap(), steps + 1, "{solver} {n}");
                    if steps > 0 {
                        assert_eq!(nfe(LastStep::Stop).unwrap(), steps, "{solver} {n}");
                    } else {
                        assert_eq!(nfe(LastStep::Stop), Err(SolverError::TooFewLevels { levels: n }));
                    }
                }
            }
            let one = Schedule::new(vec![80.0]).unwrap();
            assert_eq!(solver.plan(&one, &SolverOptions::default()).unwrap().nfe(), 1);
        }
    }

    #[test]
    fn extreme_levels_are_an_error_not_a_nan() {
        let schedule = Schedule::new(vec![1e300, 1e-300, 1e-305]).unwrap();
        for solver in Solver::all() {
            match solver.plan(&schedule, &SolverOptions::default()) {
                Ok(plan) => plan.validate().unwrap(),
                Err(error) => assert!(matches!(error, SolverError::Plan(_)), "{solver}"),
            }
        }
    }
}
