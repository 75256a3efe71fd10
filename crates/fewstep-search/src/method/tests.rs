use super::*;

#[test]
fn names_lead_back_to_methods() {
    for name in [
        "karras/ipndm4",
        "gits/euler",
        "gits@1.15/dpmpp3m",
        "oss/euler",
        "bound/euler",
        "least-squares",
        "vp/deis_tab3+rollout",
        "least-squares+rollout",
        "least-squares+gauss-newton",
        "least-squares+gauss-newton+moments",
        "oss/ipndm4+moments",
        "least-squares+gauss-newton+data-moments",
        "oss/euler+data-moments+nearest",
    ] {
        assert_eq!(name.parse::<Method>().unwrap().to_string(), name);
    }
    for (older, name) in [("vp", "vp/euler"), ("local@1.1/euler", "gits@1.1/euler"), ("reachable/ipndm4", "oss/ipndm4")]
    {
        assert_eq!(older.parse::<Method>().unwrap().to_string(), name);
    }
    for (bad, says) in [
        ("nonsense/euler", "no method 'nonsense/euler'"),
        ("gits@x/euler", "no finite number"),
        ("gits@-1/euler", "no finite number"),
        ("karras@2/euler", "takes no coefficient"),
        ("least-squares/euler", "solver of its own"),
        ("karras/rk4", "no solver named"),
        ("karas/euler", "did you mean 'karras/euler'?"),
        ("least_squares", "did you mean 'least-squares'?"),
        ("karras/ipndm", "did you mean 'ipndm4'?"),
        ("least-squares+moments+nearest", "+nearest follows +data-moments"),
        ("least-squares+nearest", "least-squares does not"),
    ] {
        let error = bad.parse::<Method>().unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

/// What a method's plans depend on is in its stages, and nothing else.
#[test]
fn methods_depend_on_the_settings_of_their_stages() {
    let changed = |change: fn(&mut SearchSettings)| {
        let (before, mut after) = (SearchSettings::default(), SearchSettings::default());
        change(&mut after);
        let names = [
            "karras/euler",
            "gits/ipndm4",
            "oss/ipndm4",
            "least-squares",
            "least-squares+gauss-newton",
            "least-squares+gauss-newton+moments",
            "karras/euler+rollout",
            "karras/euler+data-moments",
            "oss/euler+data-moments+nearest",
        ];
        let differs = |name: &&str| {
            let method: Method = name.parse().unwrap();
            method.stages(&before) != method.stages(&after)
        };
        names.into_iter().filter(differs).collect::<Vec<_>>()
    };
    let fitted = ["least-squares", "least-squares+gauss-newton", "least-squares+gauss-newton+moments"];
    assert_eq!(changed(|s| s.least_squares.ridge = 1.0), fitted);
    assert_eq!(changed(|s| s.sweep.sweeps = 9), fitted);
    assert_eq!(changed(|s| s.sweep.sweeps = 0), fitted);
    assert_eq!(changed(|s| s.oss.beam = 1), ["oss/ipndm4", "oss/euler+data-moments+nearest"]);
    assert_eq!(changed(|s| s.gits.metric = crate::CostMetric::L1), ["gits/ipndm4"]);
    assert_eq!(changed(|s| s.gauss_newton.rounds = 9), fitted[1..]);
    assert_eq!(changed(|s| s.rollout.steps = 9), ["karras/euler+rollout"]);
    let of_data = ["karras/euler+data-moments", "oss/euler+data-moments+nearest"];
    assert_eq!(changed(|s| s.moments.control = 9), [&["least-squares+gauss-newton+moments"], &of_data[..]].concat());
    assert_eq!(changed(|s| s.nearest.samples = 9), of_data[1..]);
}

#[test]
fn stages_are_written_and_read() {
    let method: Method = "gits@1.15/ipndm4+rollout+data-moments".parse().unwrap();
    let stages = method.stages(&SearchSettings::default());
    let text = serde_json::to_string(&stages).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Stage>>(&text).unwrap(), stages);
    assert!(text.starts_with(r#"[{"stage":"gits","solver":"#), "{text}");
}
