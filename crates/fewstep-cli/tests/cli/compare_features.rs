//! `compare` by several feature networks.

use serde_json::Value;

use crate::compare::{SMALL, place};
use crate::support::{Run, testdata};

/// A trained network and a program, which know the data by its images and by statistics.
#[test]
fn several_feature_networks_score_the_same_images() {
    let place = place();
    std::fs::copy(testdata("torchscript/average.pt"), place.path("average.pt")).unwrap();
    let compare = |features: &str, references: &str, out: &str| {
        let mut args = SMALL.map(str::to_owned);
        (args[3], args[5]) = (references.to_owned(), features.to_owned());
        let own = ["--methods", "karras/euler,karras/ipndm2", "--steps", "3,4", "--out", out].map(str::to_owned);
        let args: Vec<String> = args.into_iter().chain(own).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        place.run(&args)
    };
    let rows = |run: &Run| -> Vec<Value> { serde_json::from_str(&run.stdout).unwrap() };
    let both = compare("features.safetensors,average.pt@bytes", "data", "both");
    let alone = rows(&compare("features.safetensors", "ref.npz", "alone"));
    for (row, alone) in rows(&both).iter().zip(&alone) {
        let scores = row["scores"].as_array().unwrap();
        let names: Vec<&str> = scores.iter().map(|scores| scores["features"].as_str().unwrap()).collect();
        assert_eq!(names, ["small-cnn", "torchscript/average/bytes"]);
        for score in scores {
            for from in ["data", "teacher"] {
                let of = |kind: &str| score[from][kind][0].as_f64().unwrap();
                assert!(of("frechet") > 0.0 && of("kid").is_finite(), "{score}");
            }
        }
        assert_eq!(scores[0]["teacher"], alone["scores"][0]["teacher"], "alone or beside another");
        let [many, one] = [&scores[0], &alone["scores"][0]].map(|score| score["data"]["frechet"][0].as_f64().unwrap());
        assert!((many / one - 1.0).abs() < 1e-6 && alone["scores"][0]["data"]["kid"].as_array().unwrap().is_empty());
    }
    // what an earlier run made of the teacher's images is taken
    let typed = ["--features", "features.safetensors,average.pt@bytes"]; // a program is named again
    let again = ["compare", "model.safetensors", "--config", "both", "--resume", "--json"];
    let again = place.run(&[&again[..], &typed].concat());
    assert_eq!((rows(&again), again.stderr.contains("other seeds")), (rows(&both), false), "{}", again.stderr);
    let csv = std::fs::read_to_string(place.path("both/compare.csv")).unwrap();
    assert!(csv.contains("kid to teacher") && csv.lines().count() == 1 + 2 * rows(&both).len(), "{csv}");
    let page = std::fs::read_to_string(place.path("both/report.html")).unwrap();
    assert!(
        page.contains("ranks by KID to the teacher&#39;s images")
            || page.contains("ranks by KID to the teacher's images")
    );

    // without data the teacher's images are what there is
    let mut free: Vec<&str> = SMALL[..2].to_vec();
    free.extend(&SMALL[4..]);
    free.extend(["--methods", "karras/euler", "--steps", "3", "--out", "free"]);
    let free: Vec<Value> = serde_json::from_str(&place.succeeds(&free)).unwrap();
    let score = &free[1]["scores"][0];
    assert!(score["data"]["frechet"].as_array().unwrap().is_empty(), "{score}");
    assert_eq!(score["teacher"], alone[1]["scores"][0]["teacher"]);

    let error = compare("features.safetensors,average.pt@bytes", "ref.npz,ref.npz,ref.npz", "new").stderr;
    assert!(error.contains("there are 2 feature networks (--features) and 3 references (--ref)"), "{error}");
    let error = compare("average.pt", "data", "new").stderr;
    assert!(error.contains("average.pt@bytes") || error.contains("cannot be used as a feature network"), "{error}");
}

/// Networks of one architecture are told apart by their files, in cells of before and of now.
#[test]
fn networks_of_one_architecture_have_names_of_their_own() {
    let place = place();
    let other =
        ["features", "--data", "data", "--out", "other.safetensors", "--epochs", "1", "--batch", "9", "--seed", "4"];
    place.succeeds(&other);
    let compare = |methods: &str, features: &str, more: &[&str]| {
        let mut args = SMALL.map(str::to_owned);
        (args[3], args[5]) = ("data".to_owned(), features.to_owned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let own = ["--methods", methods, "--steps", "3", "--out", "run"];
        let rows: Vec<Value> = serde_json::from_str(&place.succeeds(&[&args[..], &own, more].concat())).unwrap();
        let names = rows.iter().map(|row| {
            let scores = row["scores"].as_array().unwrap().iter();
            scores.map(|scores| scores["features"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        });
        names.collect::<Vec<_>>()
    };
    let both = "features.safetensors,other.safetensors";
    let expected = ["small-cnn/features", "small-cnn/other"];
    assert_eq!(compare("karras/euler", both, &[]), [expected; 2]);
    assert_eq!(compare("karras/ipndm2", both, &["--resume"]), [expected; 3]);
    let text = |name: &str| std::fs::read_to_string(place.path(&format!("run/{name}"))).unwrap();
    for name in expected {
        assert!(text("report.html").contains(&format!("Frechet distance to data, {name}")), "{name}");
        assert_eq!(text("compare.csv").matches(name).count(), 3, "{name}");
    }
    // a file that was renamed is the same network, under one name in the whole table
    std::fs::rename(place.path("other.safetensors"), place.path("third.safetensors")).unwrap();
    let renamed = ["small-cnn/features", "small-cnn/third"];
    assert_eq!(compare("vp/euler", "features.safetensors,third.safetensors", &["--resume"]), [renamed; 4]);
    assert!(!text("compare.csv").contains("small-cnn/other"));
}
