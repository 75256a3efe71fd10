//! Feature networks that are TorchScript programs, called with `return_features`: by one name in every command that takes `--features`.

use serde_json::Value;

use crate::support::{Place, testdata};

/// Called so it has the 12 features of `average.pt`, and else two scores.
const CALLED: &str = "on_request.pt@unit+return_features";
const PLAIN: &str = "on_request.pt@unit";

/// A tiny model, images, and statistics of them under the program's features.
fn place() -> Place {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 40);
    std::fs::copy(testdata("torchscript/on_request.pt"), place.path("on_request.pt")).unwrap();
    let stored = place.json(&["ref", "--data", "data", "--features", CALLED, "--out", "ref.npz"]);
    assert_eq!(
        (&stored["dimensions"], &stored["features"]),
        (&12.into(), &"torchscript/on_request/unit+return_features".into())
    );
    place
}

#[test]
fn a_program_answers_as_it_is_called() {
    let place = place();
    std::fs::copy(testdata("torchscript/average.pt"), place.path("average.pt")).unwrap();
    place.save_images("others", 1, 8, 20);
    let eval = |features: &str| {
        let found = place.json(&["eval", "others", "--ref", "data", "--features", features]);
        (found["networks"][0]["dimensions"].as_u64().unwrap(), found["metrics"][0]["value"].as_f64().unwrap())
    };
    assert_eq!((eval(PLAIN).0, eval(CALLED).0), (2, 12));
    assert_eq!(eval(CALLED), eval("average.pt@unit"));
    // each of several networks in its own way
    let both = place.json(&["eval", "others", "--ref", "data", "--features", &format!("{PLAIN},{CALLED}")]);
    let dimensions = |index: usize| both["networks"][index]["dimensions"].as_u64().unwrap();
    assert_eq!((dimensions(0), dimensions(1)), (2, 12));
    // one program, and yet not the same features
    let error = place.fails(&["eval", "others", "--ref", "ref.npz", "--features", PLAIN]);
    assert!(error.starts_with("the two sides were measured with different features"), "{error}");
    let error = place.fails(&["eval", "others", "--ref", "ref.npz", "--features", "on_request.pt@unit+features"]);
    assert!(error.contains("then +return_features where it needs that"), "{error}");
}

/// Statistics of 12 features fit nothing else: every command calls the program so before it says what it would do.
#[test]
fn every_command_calls_a_program_by_its_name() {
    let place = place();
    let small = ["--set=fit.paper.batch=8", "--set=fit.tune.batch=6", "--set=rollout.batch=6"];
    let reproduce = [&["reproduce", "model.safetensors", "--data", "data", "--rows", "baseline"], &small[..]].concat();
    let commands: [(&[&str], &str); 4] = [
        (&["fit", "model.safetensors"], "/references"),
        (&["tune", "model.safetensors"], "/references"),
        (&["compare", "model.safetensors", "--methods", "karras/euler"], "/models/0/references"),
        (&reproduce, "/references"),
    ];
    for (command, references) in commands {
        let run = |features: &'static str| {
            let scored = ["--ref", "ref.npz", "--features", features, "--steps", "3", "--out", "run", "--dry-run"];
            [command, &scored].concat()
        };
        let settings: Value = place.json(&run(CALLED))["settings"].take();
        let name = &settings.pointer(references).unwrap_or_else(|| panic!("{settings}"))[0]["features"]["name"];
        assert_eq!(name, "torchscript/on_request/unit+return_features", "{command:?}");
        let error = place.fails(&run(PLAIN));
        assert!(error.contains("different features"), "{command:?}: {error}");
    }
}
