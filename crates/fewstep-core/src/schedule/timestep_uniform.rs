use super::{Schedule, ScheduleError, check_count, check_range};
use crate::parameterisation::Alphas;

/// `n` whole timesteps of a table of alphas, evenly spread down from the last: diffusers' `timestep_spacing="trailing"`
/// (Lin et al. 2024, Table 2), `t = round(T - i T / n) - 1`.
///
/// The ends of the range only select: `T` counts the table's timesteps inside it. A last timestep of noise alone, whose
/// level is infinite, counts with the largest finite one, which is visited in its place.
///
/// # Errors
/// If `n` is not from 1 to [`super::MOST_LEVELS`], the range is not `0 < sigma_min < sigma_max`, the table is none, or it has
/// fewer than `n` levels in the range.
pub fn timestep_uniform(n: usize, sigma_min: f64, sigma_max: f64, alphas: &Alphas) -> Result<Schedule, ScheduleError> {
    check_count(n)?;
    check_range(sigma_min, sigma_max)?;
    let levels = alphas.levels()?;
    let finite: Vec<f64> = levels.iter().copied().filter(|level| (sigma_min..=sigma_max).contains(level)).collect();
    if finite.len() < n {
        return Err(ScheduleError::TooFewDiscreteLevels { asked: n, available: finite.len() });
    }
    let noise_alone = levels.ends_with(&[f64::INFINITY]) && levels[levels.len() - 2] <= sigma_max;
    let count = (finite.len() + usize::from(noise_alone)) as f64;
    let timestep = |i: usize| (count - i as f64 * count / n as f64).round_ties_even() as usize - 1;
    Schedule::new((0..n).map(|i| finite[timestep(i).min(finite.len() - 1)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timesteps of diffusers' trailing spacing, by their levels.
    #[test]
    fn timesteps_are_those_of_trailing_spacing() {
        let alphas = Alphas::STABLE_DIFFUSION;
        let table = alphas.levels().unwrap();
        for (n, timesteps) in
            [(1, vec![999]), (4, vec![999, 749, 499, 249]), (7, vec![999, 856, 713, 570, 428, 285, 142])]
        {
            let expected: Vec<f64> = timesteps.into_iter().map(|t: usize| table[t]).collect();
            assert_eq!(timestep_uniform(n, table[0], table[999], &alphas).unwrap().levels(), expected);
        }
        assert_eq!(timestep_uniform(1000, table[0], table[999], &alphas).unwrap().len(), 1000);
        // the ends select
        let part = timestep_uniform(3, 0.1, 10.0, &alphas).unwrap();
        assert!(part.sigma_max() <= 10.0 && part.sigma_max() > 9.9 && part.sigma_min() >= 0.1, "{part:?}");
    }

    #[test]
    fn noise_alone_gives_way_to_the_last_finite_level() {
        let alphas = Alphas::ScaledLinear { start: 0.000_85, end: 0.012, steps: 1000, rescale_zero_snr: true };
        let table = alphas.levels().unwrap();
        let levels = timestep_uniform(4, table[0], table[998], &alphas).unwrap();
        assert_eq!(levels.levels(), [table[998], table[749], table[499], table[249]]);
        // the last timestep is out of a range that ends below
        assert_eq!(timestep_uniform(1, table[0], table[10], &alphas).unwrap().levels(), [table[10]]);
    }

    #[test]
    fn refusals() {
        let alphas = Alphas::DDPM;
        assert_eq!(timestep_uniform(0, 0.1, 10.0, &alphas), Err(ScheduleError::Empty));
        assert!(matches!(timestep_uniform(3, 10.0, 0.1, &alphas), Err(ScheduleError::Range { .. })));
        let few = timestep_uniform(1001, 0.001, 200.0, &alphas);
        assert_eq!(few, Err(ScheduleError::TooFewDiscreteLevels { asked: 1001, available: 1000 }));
        let none = Alphas::AlphasCumprod { values: vec![0.5, 0.6] };
        assert!(matches!(timestep_uniform(1, 0.1, 10.0, &none), Err(ScheduleError::Alphas(_))));
    }
}
