//! Levels of plans that move: what is taken of what few latents suggest.

use anyhow::Result;
use fewstep_core::search::FoundPlan;

/// Moves the paths of plans, and takes those that lead nearer to the teacher. `along(paths, sweeps, latents)` are the plans along
/// paths, or none where a state is not finite: then plans stay as they are. `latents`: those that say where a path might go, and all.
pub(super) fn sweep(
    swept: &mut [FoundPlan],
    sweeps: usize,
    [few, all]: [usize; 2],
    mut along: impl FnMut(&[Vec<usize>], usize, usize) -> Result<Vec<FoundPlan>>,
) -> Result<()> {
    let paths: Vec<Vec<usize>> = swept.iter().map(|found| found.path.clone()).collect();
    let moved = along(&paths, sweeps, few)?;
    for (found, FoundPlan { path, .. }) in swept.iter_mut().zip(moved) {
        if path == found.path {
            continue;
        }
        // few latents say where a path might go, and all whether it is to
        if let Some(mut moved) = along(&[path], 0, all)?.pop().filter(|moved| moved.error < found.error) {
            moved.plan.metadata.found_by.insert("sweeps".into(), sweeps.into());
            moved.plan.metadata.found_by.insert("sweep_samples".into(), few.into());
            *found = moved;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fewstep_core::plan::Plan;

    use super::*;

    fn found(path: &[usize], error: f64) -> FoundPlan {
        FoundPlan { plan: Plan::default(), path: path.to_vec(), error }
    }

    /// A path that moved is fitted again on all latents, and taken if it is better there; all else stays, states that are not
    /// finite included.
    #[test]
    fn moved_paths_are_judged_by_all_latents() {
        let start = [found(&[1, 2], 1.0), found(&[1, 3], 1.0), found(&[1, 4], 1.0), found(&[1, 5], 1.0)];
        let mut swept = start.clone();
        let mut asked = Vec::new();
        let along = |paths: &[Vec<usize>], sweeps: usize, latents: usize| {
            asked.push((paths.to_vec(), sweeps, latents));
            Ok(match paths {
                [path] if path[1] == 8 => vec![found(path, 1.5)],
                [path] if path[1] == 9 => vec![],
                [path] => vec![found(path, 0.5)],
                _ => vec![found(&[1, 2], 0.1), found(&[1, 7], 0.1), found(&[1, 8], 0.1), found(&[1, 9], 0.1)],
            })
        };
        sweep(&mut swept, 2, [16, 64], along).unwrap();
        assert_eq!((swept[1].path.as_slice(), swept[1].error), (&[1, 7][..], 0.5));
        assert_eq!(swept[1].plan.metadata.found_by["sweep_samples"], 16);
        assert!([0, 2, 3].iter().all(|&k: &usize| swept[k] == start[k]), "{swept:?}");
        let [all, one] = [&asked[0], &asked[1]];
        assert_eq!((all.0.len(), all.1, all.2, one.0.len(), one.1, one.2, asked.len()), (4, 2, 16, 1, 0, 64, 4));
        sweep(&mut swept, 1, [16, 64], |_, _, _| Ok(vec![])).unwrap();
        assert_eq!(swept[1].path, [1, 7]);
    }
}
