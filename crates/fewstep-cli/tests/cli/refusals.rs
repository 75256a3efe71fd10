//! `plan`, `tune` and `fit` refuse what they cannot do, and what would change nothing, in one sentence.

use crate::fitting::{fit, place};

#[test]
fn contradictions_and_misfits_are_one_sentence() {
    let place = place();
    place.save_images("colour", 3, 8, 8);
    for (args, words) in [
        (&["--set", "paper.objective=joint", "--set", "paper.optimiser=table", "--method", "paper"][..], "adam"),
        (&["--set", "paper.gamma=-1", "--set", "paper.objective=joint", "--method", "paper"], "paper.gamma must be"),
        (&["--set", "tune.xflip=true", "--set", "tune.critic_weight=0", "--loss", "rollout"], "tune.xflip"),
        (&["--set", "tune.data_weight=-1", "--loss", "rollout"], "tune.data_weight"),
        (&["--set", "tune.critic_weight=-1", "--loss", "rollout"], "tune.critic_weight must be"),
        (
            &["--set", "tune.critic_of=\"data\"", "--set", "tune.critic_weight=0", "--loss", "rollout"],
            "tune.critic_of is for a critic",
        ),
        (&["--set", "search.least_squares.ridge=-1"], "ridge"),
        (&["--set", "tune.ema_images=-1"], "tune.ema_images"),
        (&["--set", "tune.microbatch=-1"], "tune.microbatch"),
        (&["--set", "tune.batch=0"], "tune.batch must be"),
        (&["--set", "paper.batch=0", "--set", "paper.objective=joint", "--method", "paper"], "paper.batch must be"),
        (&["--lr", "nan"], "tune.learning_rate must be"),
        (&["--set", "tune.batch=25"], "24 images, fewer than one batch of 25"),
        (
            &["--set", "paper.batch=25", "--set", "paper.objective=joint", "--method", "paper"],
            "24 images, fewer than the 25 of one update",
        ),
        (&["--loss", "rollout", "--set", "tune.trajectories=0"], "tune.trajectories"),
        (&["--steps", "9"], "search.teacher.grid is 7"),
        (&["--steps", "9", "--method", "gits/euler", "--set", "search.gits.grid=8"], "search.gits.grid is 8"),
        (&["--rounds", "0"], "at least 1 round"),
        (&["--set", "tune.updates"], "write a name, = and a value"),
        (&["--set", "tune.update=3"], "tune.update=3: unknown field `update`"),
    ] {
        // an option that is there already is replaced
        let mut all = fit("new", args);
        if let Some(at) =
            args.first().filter(|first| **first == "--steps").and_then(|_| all.iter().position(|word| *word == "3,4"))
        {
            all.drain(at - 1..=at);
        }
        let error = place.fails(&all);
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let unknown = place.run(&fit("new", &["--method", "gitz"]));
    assert!(unknown.code == 2 && unknown.stderr.contains("did you mean 'gits'"), "{}", unknown.stderr);
    let error = place.fails(&["fit", "model.safetensors", "--out", "new", "--data", "colour", "--set", "tune.batch=8"]);
    assert!(error.contains("3x8x8") && error.contains("1x8x8"), "{error}");
    let error = place.fails(&["plan", "model.safetensors", "--out", "new", "--settings", "none.toml"]);
    assert!(error.contains("cannot read none.toml"), "{error}");
}

#[test]
fn settings_that_would_change_nothing_are_refused() {
    let place = place();
    for (setting, needed, loss) in [
        ("paper.objective=joint", "--method paper", "bound"),
        ("paper.noise=shared", "paper.optimiser = adam", "bound"),
        ("paper.gamma=1", "paper.objective = joint", "bound"),
        ("tune.distance=squared", "tune.loss = rollout", "bound"),
        ("tune.step_weights=signal", "tune.loss = rollout", "bound"),
        ("tune.gradient=through", "tune.loss = rollout", "bound"),
        ("tune.data_weight=1", "tune.loss = rollout", "bound"),
        ("tune.critic_weight=1", "tune.loss = rollout", "bound"),
        ("tune.critic_of=teacher", "tune.loss = rollout", "bound"),
        ("tune.trajectories=8", "tune.loss = rollout", "edm"),
        ("tune.last_weight=1", "tune.loss = bound", "edm"),
        ("search.gits.metric=l1", "methods that have such a stage", "bound"),
    ] {
        let name = setting.split('=').next().unwrap();
        let error = place.fails(&fit("new", &["--set", setting, "--loss", loss]));
        assert!(error.contains(&format!("{name} is for ")) && error.contains(needed), "{error}");
        assert!(error.contains("it changes nothing here"), "{error}");
    }
    for (setting, words) in [
        ("tune.updates=9", "tune.updates is for phase 2"),
        ("tune.learning_rate=3", "tune.learning_rate is for phase 2"),
        ("interpolate.images=64", "interpolate.images is for phase 2"),
    ] {
        let error = place.fails(&["plan", "model.safetensors", "--out", "new", "--set", setting]);
        assert!(error.contains(words), "{error}");
    }
    let error = place.fails(&["plan", "model.safetensors", "--out", "new", "--features", "features.safetensors"]);
    assert!(error.contains("--features is for --ref or for a distance of features"), "{error}");
    let typed = place.run(&["plan", "model.safetensors", "--out", "new", "--updates", "9"]);
    assert!(typed.code == 2 && typed.stderr.contains("--updates"), "{}", typed.stderr);
    let both = place.run(&["tune", "model.safetensors", "--out", "new", "--plan", "a.json", "--method", "oss/euler"]);
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}

#[test]
fn a_search_that_cannot_serve_the_steps_is_refused() {
    let place = place();
    for (command, args, words) in [
        ("plan", &["--method", "gits/dpm2", "--steps", "4"][..], "dpm2 makes odd numbers of evaluations"),
        ("fit", &["--method", "karras/heun", "--steps", "3"], "phase 2 tunes for plans whose levels fall"),
        (
            "plan",
            &["--method", "bound/euler", "--steps", "9", "--set", "paper.grid=8"],
            "paper.grid is 8: it must have at least",
        ),
    ] {
        let first = [command, "model.safetensors", "--data", "images", "--out", "new"];
        let error = place.fails(&[&first, args].concat());
        assert!(error.contains(words), "{error}");
    }
}
