//! How threads wait: as libgomp itself says that it was told.

use crate::support::Place;

/// A bounded time, unless the environment chooses; arguments and the rest of the environment arrive as they were.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn threads_spin_a_bounded_time_unless_the_environment_chooses() {
    let place = Place::new();
    let spins = |env: &[(&str, &str)]| {
        let run = place.run_with(&["--version"], &[&[("OMP_DISPLAY_ENV", "verbose")], env].concat());
        assert!(run.code == 0 && run.stdout.starts_with("fewstep "), "{}", run.stderr);
        let line = run.stderr.lines().find(|line| line.contains("GOMP_SPINCOUNT")).unwrap().to_owned();
        line.split('\'').nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(spins(&[]), 30_000);
    assert_eq!(spins(&[("GOMP_SPINCOUNT", "7")]), 7);
    assert_ne!(spins(&[("OMP_WAIT_POLICY", "active")]), 0);
    assert_ne!(spins(&[("KMP_BLOCKTIME", "200")]), 0);
    let run = place.run(&["sample", "gaussian-mixture", "--seeds", "a b", "--out", "x.png"]);
    assert!(run.code == 2 && run.stderr.contains("'a b'"), "{}", run.stderr);
}
