//! What a search costs: it is run on a small mixture of Gaussians whose evaluations are counted.

use std::convert::Infallible;

use fewstep_core::denoiser::{Counting, Denoiser, Oracle, Spec};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::objective::{BoundTable, ForwardNoised};
use fewstep_core::observe::Silent;
use fewstep_core::schedule::{MOST_LEVELS, log_snr};
use fewstep_core::space::VectorSpace;

use crate::error::{Error, Result};
use crate::method::Method;
use crate::run::{DataMoments, Extras, SampleLoss, Search};
use crate::settings::SearchSettings;

/// Most classes that each get a component of the mixture: with more, plans hold one mean for all.
const MOST_CLASSES: usize = 100;

/// Evaluations of single samples that a search takes, at most: how often its loops end early depends on the denoiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchCost {
    /// The teacher, which all methods share.
    pub teacher: u64,
    /// The search for all numbers of evaluations, beyond what methods before it found already.
    pub search: u64,
    /// Matching the moments of each of its plans once more, for another network.
    pub matching: u64,
}

/// The cost of `method` on a denoiser of this description.
///
/// # Errors
/// If a setting is outside its domain, or the method cannot serve these numbers of evaluations.
pub fn search_cost(spec: &Spec, method: &Method, steps: &[usize], settings: &SearchSettings) -> Result<SearchCost> {
    let found = costs(spec, std::slice::from_ref(method), steps, settings, |_, _| steps.to_vec())?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// The cost of each of several methods, which share one teacher and what they have in common; of the numbers of evaluations, those
/// that a method can serve.
///
/// # Errors
/// If a setting is outside its domain.
pub fn search_costs(
    spec: &Spec,
    methods: &[Method],
    steps: &[usize],
    settings: &SearchSettings,
) -> Result<Vec<SearchCost>> {
    costs(spec, methods, steps, settings, |search, method| search.possible(method, steps))
}

/// The cost of each method for the numbers of evaluations that `asked` says.
fn costs(
    spec: &Spec,
    methods: &[Method],
    steps: &[usize],
    settings: &SearchSettings,
    asked: impl Fn(&Search<Counting<Oracle>>, &Method) -> Vec<usize>,
) -> Result<Vec<SearchCost>> {
    let denoiser = Counting::new(stand_in(spec)?);
    let mut settings = settings.clone();
    // a stand-in's states gain less than a network's, which are mostly gone on from: what is counted is the most that a search takes
    settings.least_squares.least_gain = f64::MIN;
    let search = Search::new(&denoiser, &settings, &Silent)?.trying_all();
    let teacher = denoiser.cost().evaluations;
    let mut moments = DataMoments::new();
    if let Some(appearance) = denoiser.appearance() {
        moments.add(appearance, &denoiser.latents(&(0..64).collect::<Vec<_>>()).map_err(Error::denoiser)?)?;
    }
    let table = table(spec, steps)?;
    let search =
        search.with(Extras { data: Some(&moments), table: Some(&table), plan_scorer: None, loss: Some(&Squared) });
    let cost = |method: &Method| {
        let start = denoiser.cost().evaluations;
        let moments = method.moments.filter(|_| denoiser.appearance().is_some());
        let method = &Method { moments, nearest: method.nearest && moments.is_some(), ..method.clone() };
        let found = search.find(method, &asked(&search, method))?;
        let middle = denoiser.cost().evaluations;
        if let Some(of) = method.moments {
            for plan in found.plans.values() {
                search.matched(of, plan)?;
            }
        }
        Ok(SearchCost { teacher, search: middle - start, matching: denoiser.cost().evaluations - middle })
    };
    methods.iter().map(cost).collect()
}

/// A mixture of two values a sample, or of images of two by two, with a component a class and the levels of a description.
fn stand_in(spec: &Spec) -> Result<Oracle> {
    let shape = if spec.shape.len() == 3 { vec![1, 2, 2] } else { vec![2] };
    let classes = if spec.classes > MOST_CLASSES { 0 } else { spec.classes };
    let of_class = |class: usize| Component {
        weight: 1.0,
        mean: (0..shape.iter().product()).map(|at| ((class + 3 * at) as f64).sin() / 2.0).collect(),
        covariance: Covariance::Isotropic(0.05),
    };
    let mixture = Mixture::new((0..classes.max(2)).map(of_class).collect()).map_err(Error::denoiser)?;
    let oracle = Oracle::new(mixture, shape, spec.levels.clone());
    Ok(if classes > 0 { oracle.conditional() } else { oracle })
}

/// A table of e(sigma) as smooth as they are.
fn table(spec: &Spec, steps: &[usize]) -> Result<BoundTable> {
    let (low, high) = spec.levels.sampling;
    let longest = steps.iter().copied().max().unwrap_or_default();
    let mut table = BoundTable::new(log_snr(longest.clamp(65, MOST_LEVELS), low, high)?.round_grid(&spec.levels)?);
    table.add(1, &mut Smooth(vec![0.0])).map_err(Error::denoiser)?;
    Ok(table)
}

struct Smooth(Vec<f64>);

impl ForwardNoised<Vec<f64>> for Smooth {
    type Error = Infallible;

    fn clean(&self) -> &Vec<f64> {
        &self.0
    }

    fn denoised(&mut self, _: usize, sigma: f64) -> std::result::Result<Vec<f64>, Infallible> {
        Ok(vec![sigma / (1.0 + sigma)])
    }

    fn pullback(&mut self, _: usize, sigma: f64, cotangent: &Vec<f64>) -> std::result::Result<f64, Infallible> {
        Ok(cotangent.iter().sum::<f64>() / (1.0 + sigma).powi(2))
    }
}

struct Squared;

impl SampleLoss<Vec<Vec<f64>>> for Squared {
    fn loss(
        &self,
        samples: &Vec<Vec<f64>>,
        targets: &Vec<Vec<f64>>,
    ) -> std::result::Result<(f64, Vec<Vec<f64>>), Box<dyn std::error::Error + Send + Sync>> {
        let difference = samples.difference(targets);
        let gradient = difference.iter().map(|row| row.iter().map(|value| 2.0 * value).collect()).collect();
        Ok((difference.norm_squared(), gradient))
    }
}

#[cfg(test)]
mod tests {
    use fewstep_core::denoiser::Levels;

    use super::*;

    /// What a forecast says of a search is the most that it takes, and not half as much again as it takes on a denoiser where it ends early.
    /// (GITS without a coefficient scores as many schedules as its coefficients make, which hangs on the denoiser.)
    #[test]
    fn the_cost_is_that_of_the_search_itself() {
        let settings = SearchSettings::default();
        let data = Mixture::gaussian(vec![0.3; 4], 0.1).unwrap();
        let denoiser = Counting::new(Oracle::new(data, vec![1, 2, 2], Levels::between(0.002, 80.0)));
        for name in
            ["karras/euler", "gits@1.15/ipndm4", "oss/euler", "least-squares+gauss-newton+moments", "bound/euler"]
        {
            let method: Method = name.parse().unwrap();
            let before = denoiser.cost().evaluations;
            let table = table(denoiser.spec(), &[3, 5]).unwrap();
            let search = Search::new(&denoiser, &settings, &Silent).unwrap();
            let search = search.with(Extras { table: Some(&table), ..Extras::default() });
            search.find(&method, &[3, 5]).unwrap();
            let took = denoiser.cost().evaluations - before;
            let cost = search_cost(denoiser.spec(), &method, &[3, 5], &settings).unwrap();
            let ratio = (cost.teacher + cost.search) as f64 / took as f64;
            assert!((1.0..1.5).contains(&ratio), "{name}: {cost:?} for {took}");
        }
    }

    /// Of plans that are swept, too, whatever the denoiser makes of the sweeps.
    #[test]
    fn no_search_takes_more_than_was_said() {
        let mut settings = SearchSettings::default();
        (settings.teacher.samples, settings.teacher.grid, settings.sweep.samples, settings.sweep.sweeps) =
            (12, 15, 6, 2);
        let means =
            |count: usize| (0..count).map(|k| vec![(k as f64).sin(), 0.5, -0.4 * k as f64, (3 * k) as f64 / 7.0]);
        for count in 1..4 {
            let part = |mean| Component { weight: 1.0, mean, covariance: Covariance::Isotropic(0.02 * count as f64) };
            let data = Mixture::new(means(count).map(part).collect()).unwrap();
            for shape in [vec![1, 2, 2], vec![4]] {
                let denoiser = Counting::new(Oracle::new(data.clone(), shape, Levels::between(0.002, 80.0)));
                for (name, steps) in
                    [("least-squares", &[8][..]), ("least-squares+gauss-newton", &[4, 7, 10]), ("gits/ipndm4", &[3, 9])]
                {
                    let method: Method = name.parse().unwrap();
                    let before = denoiser.cost().evaluations;
                    Search::new(&denoiser, &settings, &Silent).unwrap().find(&method, steps).unwrap();
                    let took = denoiser.cost().evaluations - before;
                    let cost = search_cost(denoiser.spec(), &method, steps, &settings).unwrap();
                    assert!(cost.teacher + cost.search >= took, "{name}, {count}: {cost:?} for {took}");
                }
            }
        }
    }

    /// Samples that are no grids have no features to match: the search says so and goes on.
    #[test]
    fn vectors_and_classes_have_a_cost_too() {
        let data = Mixture::gaussian(vec![0.0; 7], 0.1).unwrap();
        let mut spec = Oracle::new(data, vec![7], Levels::between(0.01, 20.0)).spec().clone();
        for classes in [0, 3, 1000] {
            spec.classes = classes;
            let cost = search_cost(&spec, &Method::BEST, &[2, 4], &SearchSettings::default()).unwrap();
            assert!(cost.teacher > 0 && cost.search > 0, "{cost:?}");
        }
    }
}
