//! What is no denoiser is told so, before the teacher is solved where that is possible, and what is one is not.

use std::cell::RefCell;

use fewstep_core::denoiser::{Classes, Denoiser, Levels, Oracle};
use fewstep_core::observe::{Event, Observer};
use fewstep_search::{Error, HeldOut, Search, SearchSettings};

use crate::support::{Answering, Batch, denoised, images};

/// Warnings.
#[derive(Default)]
struct Heard(RefCell<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: Event) {
        if let Event::Note(text) = event
            && text.starts_with("warning: ")
        {
            self.0.borrow_mut().push(text.to_owned());
        }
    }
}

fn exact() -> Oracle {
    Oracle::new(images(), vec![1, 8, 8], Levels::between(0.002, 80.0))
}

fn searched(denoiser: &impl Denoiser<Batch = Batch>) -> (bool, Vec<String>) {
    let (heard, mut settings) = (Heard::default(), SearchSettings::default());
    settings.teacher.samples = 16;
    let searches = Search::new(denoiser, &settings, &heard).is_ok();
    (searches, heard.0.into_inner())
}

fn doubts(denoiser: &impl Denoiser<Batch = Batch>) -> Vec<String> {
    let (searches, doubts) = searched(denoiser);
    assert!(searches);
    doubts
}

fn doubts_of(answer: impl Fn(&Oracle, &Batch, f64, &Classes) -> Batch) -> Vec<String> {
    doubts(&Answering::new(exact(), answer))
}

fn map(x: &Batch, y: &Batch, f: impl Fn(f64, f64) -> f64) -> Batch {
    x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect()).collect()
}

#[test]
fn a_denoiser_is_not_doubted() {
    assert!(doubts(&exact()).is_empty());
    assert!(doubts(&exact().conditional()).is_empty());
    // of any range
    for (low, high) in [(0.02, 20.0), (0.002, 700.0), (0.1, 5.0)] {
        assert!(
            doubts(&Oracle::new(images(), vec![1, 8, 8], Levels::between(low, high))).is_empty(),
            "{low} to {high}"
        );
    }
}

#[test]
fn answers_whose_square_overflows_are_not_taken_for_one() {
    let overflows = Answering::new(exact(), |_: &Oracle, x: &Batch, _, _: &Classes| map(x, x, |x, _| 1e300 * x));
    assert_eq!(searched(&overflows), (false, Vec::new()));
}

#[test]
fn a_constant_is() {
    let found = doubts_of(|_, x, _, _| map(x, x, |_, _| 0.3));
    assert!(found.len() == 2 && found[0].contains("does its answer depend on its input?"), "{found:?}");
    assert!(found[1].contains("all 16 samples of the teacher are the same"), "{found:?}");
}

/// Its samples differ from class to class, as those of a denoiser do.
#[test]
fn an_answer_that_hangs_on_the_class_alone_is_before_the_teacher_is_solved() {
    let of_class = |exact: &Oracle, x: &Batch, sigma: f64, classes: &Classes| {
        assert!(x.len() == 1, "the teacher is on its way");
        denoised(exact, &vec![vec![0.0; 64]; x.len()], sigma, classes)
    };
    let (denoiser, heard) = (Answering::new(exact().conditional(), of_class), Heard::default());
    let solve = || Search::new(&denoiser, &SearchSettings::default(), &heard).is_ok();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(solve)).is_err());
    let found = heard.0.into_inner();
    assert!(found.len() == 1 && found[0].contains("does its answer depend on its input?"), "{found:?}");
}

#[test]
fn a_held_out_teacher_that_is_not_finite_ends_with_its_level() {
    let overflowing = Answering::new(exact(), |exact, x, sigma, classes| {
        map(x, &denoised(exact, x, sigma, classes), |_, d| if sigma < 1.0 { f64::NAN } else { d })
    });
    let (settings, heard) = (SearchSettings::default().teacher, Heard::default());
    let error = HeldOut::new(&overflowing, &settings, &[0, 1], &heard).err();
    assert!(matches!(error, Some(Error::AnswerNotFinite { sigma }) if sigma < 1.0), "{error:?}");
    assert!(HeldOut::new(&exact(), &settings, &[0, 1], &heard).is_ok());
}

/// As where the output of an eps network is taken for D.
#[test]
fn noise_in_the_place_of_the_image_is() {
    let found =
        doubts_of(|exact, x, sigma, classes| map(x, &denoised(exact, x, sigma, classes), |x, d| (x - d) / sigma));
    assert!(found.iter().any(|doubt| doubt.contains("at the lowest level, sigma 0.002")), "{found:?}");
}

/// As where a network is asked at levels that it was not trained on.
#[test]
fn an_answer_that_is_biased_at_high_noise_is() {
    let found = doubts_of(|exact, x, sigma, classes| {
        let bias = 3.0 * sigma / (sigma + 20.0);
        map(x, &denoised(exact, x, sigma, classes), |_, d| d + bias)
    });
    assert!(found.iter().any(|doubt| doubt.contains("at the highest level, sigma 80")), "{found:?}");
}

#[test]
fn an_answer_that_is_not_finite_ends_the_teacher_with_its_level() {
    let overflowing = Answering::new(exact(), |exact, x, sigma, classes| {
        map(x, &denoised(exact, x, sigma, classes), |_, d| if sigma < 1.0 { f64::INFINITY } else { d })
    });
    let error = Search::new(&overflowing, &SearchSettings::default(), &Heard::default()).err().unwrap().to_string();
    let sigma: f64 = error.split("sigma ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(error.contains("not finite") && (0.3..1.0).contains(&sigma), "{error}");
}
