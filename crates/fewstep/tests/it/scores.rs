//! The image scorer: distances to data and to a teacher's images.

use fewstep::models::{MIXTURES, ModelOptions, open_model};
use fewstep::plans::euler;
use fewstep::reference::{ImageReference, ReferenceOptions};
use fewstep::scorer::ImageScorer;
use fewstep_core::observe::Silent;
use fewstep_core::schedule::karras;

/// Of a plan's images those of its own seeds are at no distance, those of other seeds near, and those of a coarser plan far.
#[test]
fn a_teachers_images_are_made_once_and_compared_with() {
    let opened = open_model(MIXTURES[0], &ModelOptions::default()).unwrap();
    let options = ReferenceOptions { pad_to: None, batch: 50 };
    let references = ImageReference::open_all(&opened, &[], &[], options, &Silent).unwrap();
    let mut scorer = ImageScorer::new(&references, 50).unwrap();
    let [teacher, coarse] = [12, 3].map(|steps| euler(&karras(steps, 0.002, 80.0, 7.0).unwrap()).unwrap());
    let (seeds, folder) = ((0..200).collect::<Vec<u64>>(), tempfile::tempdir().unwrap());
    let score = scorer.score(opened.denoiser(), &teacher, &seeds, &Silent).unwrap();
    assert!(score.frechet() > 0.0 && score.scores[0].teacher.is_none() && !score.grid.is_empty());
    let own = score.scores[0].data;

    let mut of_other_seeds = Vec::new();
    for taught in [0..200, 1000..1200] {
        let folder = folder.path().join(taught.start.to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut distances = Vec::new();
        for _ in 0..2 {
            scorer.teach(opened.denoiser(), &teacher, taught.clone(), &folder, &Silent).unwrap();
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
            distances.push([&teacher, &coarse].map(|plan| {
                let score = scorer.score(opened.denoiser(), plan, &seeds, &Silent).unwrap();
                score.scores[0].clone()
            }));
        }
        assert_eq!(distances[0], distances[1], "from the folder");
        let [near, far] = &distances[0];
        assert_eq!(near.data, own, "data are as far as they were");
        of_other_seeds.push([near.teacher.unwrap(), far.teacher.unwrap()]);
    }
    let [[same, _], [near, far]] = of_other_seeds.try_into().unwrap();
    assert!(same.frechet < 1e-6 * far.frechet, "{same:?}");
    assert!(far.frechet > 2.0 * near.frechet && far.kid > near.kid.map(|kid| 3.0 * kid.abs()), "{near:?} {far:?}");
}
