//! Searches whose latents are shared out among processes, here threads.

use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};

use fewstep_core::Plan;
use fewstep_core::denoiser::{Denoiser, Spread};
use fewstep_core::group::{Group, GroupError};
use fewstep_core::observe::Silent;
use fewstep_search::{Found, find_plans};

use crate::finding::{method, pictures, settings};

/// Threads that send their numbers to each other.
#[derive(Debug)]
struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<f64>>>,
    from: Vec<Receiver<Vec<f64>>>,
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, GroupError> {
        let gone = |rank: usize| GroupError { reason: format!("process {rank} has gone"), code: None };
        for (rank, to) in self.to.iter().enumerate() {
            to.send(own.to_vec()).map_err(|_| gone(rank))?;
        }
        self.from.iter().enumerate().map(|(rank, from)| from.recv().map_err(|_| gone(rank))).collect()
    }
}

/// What each of so many threads comes to.
fn together<T: Send>(size: usize, work: impl Fn(Rc<dyn Group>) -> T + Sync) -> Vec<T> {
    let mut groups: Vec<Threads> = (0..size).map(|rank| Threads { rank, to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..size {
        for to in 0..size {
            let (sender, receiver) = channel();
            groups[from].to.push(sender);
            groups[to].from.push(receiver);
        }
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = groups.into_iter().map(|group| scope.spawn(|| work(Rc::new(group)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The coefficients of a plan.
fn coefficients(plan: &Plan) -> Vec<f64> {
    let inputs =
        plan.stages.iter().flat_map(|stage| std::iter::once(stage.sigma).chain(stage.input.terms().map(|(_, c)| c)));
    inputs.chain(plan.output.terms().map(|(_, c)| c)).collect()
}

/// Every process has the same plans, and they are those of one process: by every method, with moments matched and a mean that plans hold.
/// Where a plan holds no mean and no gradient was followed they are equal to the bit; a mean is one of means, and the slope of a level a sum of
/// sums, rounded on the way.
#[test]
fn any_number_of_processes_finds_the_same_plans() {
    let settings = settings();
    for (name, oracle) in [
        ("least-squares+gauss-newton+moments", pictures()),
        ("least-squares+gauss-newton", pictures().conditional()),
        ("karras/ipndm4+rollout", pictures()),
        ("karras/dpmpp2m+levels", pictures()),
        ("gits/euler", pictures()),
        ("oss/dpmpp3m", pictures()),
    ] {
        let follows_gradients = method(name).follows_gradients();
        let plans = |found: &Found| found.plans.values().map(coefficients).collect::<Vec<_>>();
        let alone = find_plans(&oracle, &method(name), &[3, 4], &settings, &Silent).unwrap();
        let holds_mean = alone.plans.values().any(|plan| plan.constant.is_some());
        for size in [1, 2, 3] {
            let found = together(size, |group| {
                let spread = Spread::new(&oracle, group);
                find_plans(&spread, &method(name), &[3, 4], &settings, &Silent).unwrap()
            });
            for other in &found {
                assert_eq!(plans(other), plans(&found[0]), "{name}, {size} processes");
                assert_eq!(other.evaluations, alone.evaluations);
            }
            for (found, alone) in plans(&found[0]).iter().flatten().zip(plans(&alone).iter().flatten()) {
                let rounded = (holds_mean || follows_gradients) && size > 1;
                let tolerance = if rounded { 1e-6 * alone.abs() } else { 0.0 };
                assert!((found - alone).abs() <= tolerance, "{name}, {size} processes: {found} {alone}");
            }
        }
    }
}

/// A process that leaves is an error of the others, at their next evaluation.
#[test]
fn a_process_that_leaves_ends_the_search_of_the_others() {
    let (oracle, settings) = (pictures(), settings());
    let results = together(3, |group| {
        if group.rank() == 1 {
            return None;
        }
        let spread = Spread::new(&oracle, group);
        Some(find_plans(&spread, &method("least-squares"), &[3], &settings, &Silent).map(|_| ()))
    });
    for (rank, result) in results.into_iter().enumerate() {
        match result {
            None => assert_eq!(rank, 1),
            Some(result) => assert!(result.unwrap_err().to_string().contains("has gone"), "{rank}"),
        }
    }
}

/// Every sample is one process's, and evaluations of all processes are those of one.
#[test]
fn every_sample_is_evaluated_once() {
    let oracle = pictures();
    let seeds: Vec<u64> = (100..111).collect();
    let own = together(4, |group| Spread::new(&oracle, group).own_seeds(&seeds));
    let mut all: Vec<u64> = own.concat();
    all.sort_unstable();
    assert_eq!(all, seeds);
    let latents = together(4, |group| {
        let spread = Spread::new(&oracle, group);
        spread.latents(&seeds).unwrap().own().clone()
    });
    for (seeds, latents) in own.iter().zip(&latents) {
        assert_eq!(&oracle.latents(seeds).unwrap(), latents);
    }
}
