//! Critics: what they see, and how they learn.

use std::cell::RefCell;
use std::f64::consts::LN_2;

use fewstep_core::schedule::karras;
use fewstep_core::solver::Solver;
use fewstep_nn::critic::{Critic, Shown, shown_images};
use fewstep_nn::data::Minibatch;
use fewstep_nn::distance::{Criticism, Distance, Measure};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use fewstep_nn::train::{CriticOf, Loss, RolloutLoss, TrainConfig, Trainer, TrajectoryDataset};
use fewstep_nn::unet::Conditions;
use fewstep_nn::{Model, Ranks};

use crate::rollout::{config, euler, trajectories};
use crate::support::{lively, one_thread, ramps, stream};

fn shown(images: &Tensor) -> Shown<'_> {
    Shown { images, class_labels: None }
}

/// An encoder's maps are one for each resolution, of the network as it is called otherwise, and know what an image is of.
#[test]
fn an_encoder_has_a_map_at_each_resolution() {
    one_thread();
    let model = lively(3);
    let x = stream(0).normal(&[4, 1, 8, 8], Device::Cpu).set_requires_grad(true);
    let sigma = Tensor::from_slice(&[0.5f32]);
    let labels = |class: i64| model.one_hot(&[class]).unwrap().unwrap();
    let maps = |class: i64| {
        let labels = labels(class);
        model.encoded(&x, &sigma, &Conditions { class_labels: Some(&labels), ..Conditions::default() }).unwrap()
    };
    let of_one = maps(1);
    assert_eq!(of_one.iter().map(Tensor::size).collect::<Vec<_>>(), [[4, 8, 8, 8], [4, 16, 4, 4]]);
    assert!(of_one.iter().zip(maps(1)).all(|(a, b)| a.equal(&b)));
    assert!(of_one.iter().zip(maps(2)).all(|(a, b)| !a.equal(&b)));
    let slope = Tensor::run_backward(&[&of_one[1].square().sum(Kind::Float)], &[&x], false, false).remove(0);
    assert!(slope.abs().min().double_value(&[]) > 0.0);
}

/// A critic knows nothing at first, learns what smooth images lack, and its slope puts some of it back.
#[test]
fn a_critic_sees_what_smooth_images_lack() {
    one_thread();
    let mut critic = Critic::new(&lively(0), 4).unwrap();
    let (images, noise) = (RefCell::new(stream(4)), RefCell::new(stream(5)));
    let pair = || {
        let wanted = images.borrow_mut().normal(&[16, 1, 8, 8], Device::Cpu) * 0.5;
        (wanted.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None) * 2.0, wanted)
    };
    let told_apart = |critic: &Critic| {
        let (smooth, wanted) = pair();
        tch::no_grad(|| critic.distance(shown(&smooth), shown(&wanted), &mut noise.borrow_mut()))
            .unwrap()
            .double_value(&[])
    };
    let at_first = told_apart(&critic);
    assert!((at_first - LN_2).abs() < 0.05, "{at_first}");
    let (same, _) = pair();
    let of_the_same = tch::no_grad(|| critic.distance(shown(&same), shown(&same), &mut stream(6))).unwrap();
    let of_the_same = of_the_same.double_value(&[]);
    assert!((of_the_same - LN_2).abs() < 1e-6);
    let mut losses = Vec::new();
    for _ in 0..100 {
        let _ = told_apart(&critic);
        losses.push(critic.learn(&Ranks::alone()).unwrap());
    }
    let now = told_apart(&critic);
    // told apart the right way round: what a student loses is what the critic gained
    let late = losses[90..].iter().sum::<f64>() / 10.0;
    assert!(late < 0.45 && now > 0.9, "{late} {now}");
    let (smooth, wanted) = pair();
    let smooth = smooth.set_requires_grad(true);
    let distance = critic.distance(shown(&smooth), shown(&wanted), &mut stream(7)).unwrap();
    let slope = Tensor::run_backward(&[&distance], &[&smooth], false, false).remove(0);
    let moved = &smooth - &slope * (1.0 / slope.abs().mean(Kind::Float).double_value(&[])) * 0.05;
    let detail = |images: &Tensor| (images - images.roll([1], [3])).square().mean(Kind::Float).double_value(&[]);
    assert!(detail(&moved) > 1.02 * detail(&smooth), "{} {}", detail(&moved), detail(&smooth));
}

#[test]
fn a_critic_learns_the_same_from_parts_and_nothing_from_what_is_no_number() {
    one_thread();
    let model = lively(0);
    let fresh = || Critic::new(&model, 1).unwrap();
    let mut images = stream(2);
    let mut draw = |size: f64| images.normal(&[16, 1, 8, 8], Device::Cpu) * size;
    let (found, wanted, other) = (draw(0.3), draw(0.5), draw(0.1));
    // after a minibatch on these parts, each under noise of its own: the loss that it reports, and the distance of the first
    let learned = |parts: &[(&Tensor, u64)]| {
        let mut critic = fresh();
        for (part, seed) in parts {
            let _ = critic.distance(shown(part), shown(&wanted), &mut stream(*seed)).unwrap();
        }
        let loss = critic.learn(&Ranks::alone()).unwrap();
        [loss, critic.distance(shown(&found), shown(&wanted), &mut stream(9)).unwrap().double_value(&[])]
    };
    let near = |a: [f64; 2], b: [f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let (first, second) = ((&found, 7), (&other, 8));
    let both = learned(&[first, second]);
    assert!(near(both, learned(&[second, first])) && near(both, learned(&[first, second, first, second])), "{both:?}");
    assert!(!near(both, learned(&[first])) && !near(both, learned(&[second])), "{both:?}");
    assert!(both.iter().all(|value| (value - LN_2).abs() < 0.1), "a mean, not a sum: {both:?}");
    let mut critic = fresh();
    assert_eq!(critic.learn(&Ranks::alone()).unwrap(), LN_2); // nothing was compared
    let distance =
        |critic: &Critic| critic.distance(shown(&found), shown(&wanted), &mut stream(7)).unwrap().double_value(&[]);
    let before = distance(&fresh());
    let _ = critic.distance(shown(&(&found * f64::NAN)), shown(&wanted), &mut stream(7)).unwrap();
    let error = critic.learn(&Ranks::alone()).unwrap_err().to_string();
    assert!(error.contains("the critic's loss or its gradient became NaN at iteration 0"), "{error}");
    assert_eq!(distance(&critic), before);
}

/// A critic is shown the first images of a batch, of their own classes, and nothing else of it has a slope.
#[test]
fn a_critic_is_shown_some_of_the_images() {
    one_thread();
    assert_eq!([0, 1, 2, 3, 4, 7].map(shown_images), [0, 1, 1, 1, 2, 3]);
    let model = lively(3);
    let critic = Critic::new(&model, 5).unwrap();
    let mut images = stream(5);
    let mut draw = || images.normal(&[5, 1, 8, 8], Device::Cpu);
    let (images, wanted) = (draw().set_requires_grad(true), draw());
    let labels = model.one_hot(&[0, 1, 2, 0, 1]).unwrap().unwrap();
    let data = Minibatch { images: wanted, class_labels: Some(model.one_hot(&[2, 2, 1, 1, 0]).unwrap().unwrap()) };
    let measured = |shown: &[i64], images: &Tensor, labels: &Tensor| {
        let noise = RefCell::new(stream(6));
        let (weight, class_labels, data) = (2.0, Some(labels), Some(&data));
        let by = Criticism { critic: &critic, weight, shown, class_labels, data, stream: &noise };
        // they are where they should be, so that nothing but the critic has a say
        Measure::new(Distance::Squared, None).unwrap().criticised(by).of_images(images, &images.detach()).unwrap()
    };
    let two = measured(&[0, 1], &images, &labels);
    let slope = Tensor::run_backward(&[&two], &[&images], false, false).remove(0);
    let of_each: Vec<f64> = slope.abs().flatten(1, -1).sum_dim_intlist(1, false, Kind::Double).try_into().unwrap();
    assert!(of_each[..2].iter().all(|slope| *slope > 0.0) && of_each[2..] == [0.0; 3], "{of_each:?}");
    let alone = measured(&[0, 1], &images.narrow(0, 0, 2), &labels.narrow(0, 0, 2));
    assert_eq!(two.double_value(&[]), alone.double_value(&[]));
    assert!((two.double_value(&[]) - 2.0 * LN_2).abs() < 0.1);
    let others = measured(&[0, 1], &images, &model.one_hot(&[1, 1, 2, 0, 1]).unwrap().unwrap());
    assert_ne!(two.double_value(&[]), others.double_value(&[]));
    assert_eq!(measured(&[], &images, &labels).double_value(&[]), 0.0);
}

/// Every second pair of a minibatch is the second update's, also where every comparison is of one; one pair serves both.
#[test]
fn updates_of_a_round_share_its_pairs() {
    one_thread();
    let model = lively(0);
    let mut images = stream(7);
    let mut draw = || images.normal(&[1, 1, 8, 8], Device::Cpu);
    let (a, b) = (draw(), draw());
    // the loss before the second update of a minibatch on these comparisons of `found` with `wanted`
    let second = |comparisons: &[[&[&Tensor]; 2]]| {
        let (mut critic, mut noise) = (Critic::new(&model, 8).unwrap(), stream(8));
        for [found, wanted] in comparisons {
            let [found, wanted] = [found, wanted].map(|images| Tensor::cat(images, 0));
            let _ = critic.distance(shown(&found), shown(&wanted), &mut noise).unwrap();
        }
        critic.learn(&Ranks::alone()).unwrap()
    };
    let is_nothing = |loss: f64| (loss - LN_2).abs() < 1e-7;
    assert!(is_nothing(second(&[[&[&a, &b], &[&b, &b]]])) && !is_nothing(second(&[[&[&b, &a], &[&b, &b]]])));
    assert!(is_nothing(second(&[[&[&a], &[&b]], [&[&b], &[&b]]])));
    assert!(!is_nothing(second(&[[&[&b], &[&b]], [&[&a], &[&b]]])) && !is_nothing(second(&[[&[&a], &[&b]]])));
}

/// However long a critic learns from what is easy to tell apart, its slopes stay small enough to learn from.
#[test]
fn a_critic_does_not_become_steep() {
    one_thread();
    let (mut critic, mut noise) = (Critic::new(&lively(0), 10).unwrap(), stream(10));
    let mut images = stream(11);
    let mut draw = |size: f64| images.normal(&[2, 1, 8, 8], Device::Cpu) * size;
    let (found, wanted) = (draw(0.1), draw(0.8));
    for _ in 0..200 {
        let _ = tch::no_grad(|| critic.distance(shown(&found), shown(&wanted), &mut noise)).unwrap();
        critic.learn(&Ranks::alone()).unwrap();
    }
    let images = found.copy().set_requires_grad(true);
    let distance = critic.distance(shown(&images), shown(&wanted), &mut noise).unwrap();
    let slope = Tensor::run_backward(&[&distance], &[&images], false, false).remove(0);
    let slope = slope.norm().double_value(&[]);
    assert!((0.5..4.0).contains(&slope), "{slope}"); // 2.0, and 7.9 where nothing holds it back
}

/// It goes on seeing with the network as it was.
#[test]
fn a_critic_s_features_are_of_the_untuned_network() {
    one_thread();
    let model = lively(0);
    let critic = Critic::new(&model, 6).unwrap();
    let mut images = stream(3);
    let mut draw = || images.normal(&[4, 1, 8, 8], Device::Cpu) * 0.5;
    let (found, wanted) = (draw(), draw());
    let scored_by =
        |critic: &Critic| critic.distance(shown(&found), shown(&wanted), &mut stream(5)).unwrap().double_value(&[]);
    let before = scored_by(&critic);
    for (_, weight) in model.params().trainable() {
        let _ = tch::no_grad(|| weight.shallow_clone().g_mul_scalar_(0.5));
    }
    assert_eq!(scored_by(&critic), before);
    // one made now, with the same heads, sees otherwise
    assert!(scored_by(&Critic::new(&model, 6).unwrap()) != before);
    let error = critic.distance(shown(&found), shown(&wanted.narrow(0, 0, 2)), &mut stream(5)).unwrap_err().to_string();
    assert!(error.contains("[4, 1, 8, 8]"), "{error}");
}

/// The critic learns beside the network, which it sees as it was at the start, and goes on where it stood.
#[test]
fn a_run_with_a_critic_resumes_exactly() {
    one_thread();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for (n, critic_of, classes) in [(3, CriticOf::Teacher, 0), (5, CriticOf::Teacher, 2), (3, CriticOf::Data, 2)] {
        let (model, plan) = (lively(classes), euler(n));
        let images = ramps(&model);
        let source = trajectories(&model, &plan, Solver::Heun, &karras(24, 0.01, 20.0, 7.0).unwrap());
        let dataset = TrajectoryDataset { images: Some(&images), ..TrajectoryDataset::from(&source) };
        let start = |critic: f64| {
            let loss = Loss::Rollout(RolloutLoss { critic, critic_of, ..RolloutLoss::of(Distance::PseudoHuber) });
            Trainer::new(Model::duplicate(&model).unwrap(), dataset, TrainConfig { loss, ..config(Distance::Squared) })
                .unwrap()
        };
        let mut straight = start(10.0);
        for _ in 0..2 {
            straight.step().unwrap();
        }
        straight.save_state(&path).unwrap();
        let expected: Vec<_> = (0..3).map(|_| straight.step().unwrap()).collect();
        let mut resumed = start(10.0);
        resumed.load_state(&path).unwrap();
        assert_eq!((0..3).map(|_| resumed.step().unwrap()).collect::<Vec<_>>(), expected);
        let mut alone = start(0.0);
        let norms: Vec<f64> = (0..5).map(|_| alone.step().unwrap().grad_norm).collect();
        assert!((norms[4] - expected[2].grad_norm).abs() > 1e-5, "{norms:?} {expected:?}");
        let error = alone.load_state(&path).unwrap_err().to_string();
        assert!(error.contains("another config"), "{error}");
    }
}
