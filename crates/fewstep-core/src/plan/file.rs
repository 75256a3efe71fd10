//! The plan's file form: readable JSON with a version. Reading checks everything and runs nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::combination::TermError;
use super::{Combination, Constant, ConstantError, MOST_STAGES, Metadata, Plan, Stage};
use crate::schedule::Schedule;

/// The version of the format that this code writes, and the newest that it reads.
pub const PLAN_VERSION: u64 = 1;

/// Why a plan cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to evaluate.
    #[error("the plan has no stages; a sampler evaluates the network at least once")]
    NoStages,
    /// More evaluations than two for each level of the longest schedule.
    #[error("the plan has {found} stages, and a plan has at most {MOST_STAGES}: take fewer noise levels")]
    TooManyStages {
        /// Stages there are.
        found: usize,
    },
    /// A stage at an impossible noise level.
    #[error("stage {stage} of the plan has noise level {sigma}, which is not a positive finite number")]
    Sigma {
        /// The stage, counting from 0.
        stage: usize,
        /// Its noise level.
        sigma: f64,
    },
    /// A combination that cannot be computed.
    #[error("in the plan, the combination of {place} {fault}")]
    Term {
        /// The stage, or the image.
        place: String,
        /// What is wrong with it.
        fault: TermError,
    },
    /// A constant image that is none.
    #[error("the plan's constant image {0}")]
    Constant(ConstantError),
    /// Written by a newer version of this tool.
    #[error("the plan is of format version {found}, but this program reads up to version {PLAN_VERSION}; update it")]
    Newer {
        /// The file's version.
        found: u64,
    },
    /// Not a plan.
    #[error("this is not a plan: {0}")]
    Syntax(String),
    /// Made for samples of another shape.
    #[error("the plan was made for samples of shape {}, but the model makes {}", shape(plan), shape(model))]
    Shape {
        /// Shape of the plan's samples.
        plan: Vec<usize>,
        /// Shape of the model's.
        model: Vec<usize>,
    },
    /// Made for a model of other classes.
    #[error("the plan holds a sample for each of {plan} classes, but the model has {model}")]
    Classes {
        /// Constant images of the plan.
        plan: usize,
        /// Classes of the model; 0 for an unconditional one.
        model: usize,
    },
    /// Found for a network of another kind.
    #[error(
        "the plan was found for a network of the parameterisation {plan}, and this one is of {model}: find a plan for it"
    )]
    Parameterisation {
        /// That of the plan's network.
        plan: String,
        /// The model's.
        model: String,
    },
    /// Evaluates where the model knows nothing.
    #[error("the plan evaluates the model at noise level {sigma}, but it supports {sigma_min} to {sigma_max}")]
    Range {
        /// The plan's level.
        sigma: f64,
        /// The model's lower end.
        sigma_min: f64,
        /// The model's upper end.
        sigma_max: f64,
    },
}

fn shape(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    #[serde(default)]
    solver: String,
    /// Written for the reader; the stages are what counts.
    #[serde(default)]
    nfe: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<Schedule>,
    stages: Vec<Stage>,
    output: Combination,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    constant: Option<Constant>,
    #[serde(default)]
    metadata: Metadata,
}

impl Plan {
    /// The plan as readable JSON, without scores that are not finite, which JSON cannot hold.
    ///
    /// # Errors
    /// If the plan is not valid, so that nothing is written that could not be read back.
    pub fn to_json(&self) -> Result<String, PlanError> {
        self.validate()?;
        serde_json::to_string_pretty(self).map_err(|error| PlanError::Syntax(error.to_string()))
    }

    /// Reads and checks a plan.
    ///
    /// # Errors
    /// If the text is not a plan, is of a newer version, or describes a plan that cannot be executed.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Header {
            version: u64,
        }

        let syntax = |error: serde_json::Error| PlanError::Syntax(error.to_string());
        // The version comes first: a newer file may hold anything else.
        let Header { version: found } = serde_json::from_str(text).map_err(syntax)?;
        if found > PLAN_VERSION {
            return Err(PlanError::Newer { found });
        }
        let File { solver, schedule, stages, output, constant, metadata, .. } =
            serde_json::from_str(text).map_err(syntax)?;
        let plan = Self { stages, output, constant, solver, schedule, metadata };
        plan.validate()?;
        Ok(plan)
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { stages, output, constant, solver, schedule, metadata } = self.clone();
        let nfe = Some(stages.len());
        File { version: PLAN_VERSION, solver, nfe, schedule, stages, output, constant, metadata }.serialize(serializer)
    }
}

/// For plans inside other JSON; [`Plan::from_json`] is stricter about names that repeat.
impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_json(&value.to_string()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::{Levels, Spec};
    use crate::plan::Source;

    fn example() -> Plan {
        let plan = Plan {
            stages: vec![
                Stage { sigma: 80.0, input: Combination::new(vec![(Source::Latent, 80.0)]) },
                Stage {
                    sigma: 0.5,
                    input: Combination::new(vec![(Source::Input(0), 0.00625), (Source::Output(0), 0.99375)]),
                },
            ],
            output: Combination::new(vec![(Source::Output(1), 1.0)]),
            ..Plan::default()
        };
        plan.named("euler", Some(Schedule::new(vec![80.0, 0.5]).unwrap()))
    }

    #[test]
    fn json_round_trip_and_form() {
        let mut plan = example();
        plan.metadata.sample_shape = Some(vec![3, 32, 32]);
        plan.metadata.scores.insert("rollout_error".into(), 0.25);
        plan.constant = Some(Constant { sigma: 80.0, shape: vec![1, 1, 2], samples: vec![vec![0.5, -0.1]] });
        let text = plan.to_json().unwrap();
        assert_eq!(Plan::from_json(&text).unwrap(), plan);
        assert!(text.starts_with("{\n  \"version\": 1,") && text.contains("\"x0\": 0.00625"), "{text}");
    }

    /// JSON would have null for them, which is no score, and the file could not be read.
    #[test]
    fn scores_that_are_not_finite_are_left_out_of_files() {
        let mut plan = example();
        plan.metadata.scores = [("a", f64::NAN), ("b", f64::INFINITY)].map(|(name, score)| (name.into(), score)).into();
        assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), example());
        plan.metadata.scores.insert("rollout_error".into(), 0.25);
        let read = Plan::from_json(&plan.to_json().unwrap()).unwrap();
        assert_eq!(read.metadata.scores.into_iter().collect::<Vec<_>>(), [("rollout_error".to_owned(), 0.25)]);
        let nested: Vec<Plan> = serde_json::from_str(&serde_json::to_string(&[plan]).unwrap()).unwrap();
        assert_eq!(nested[0].metadata.scores.len(), 1);
    }

    #[test]
    fn a_newer_version_is_refused_before_anything_else() {
        let error = Plan::from_json(r#"{"stages": "a new idea", "version": 7}"#).unwrap_err();
        assert_eq!(error, PlanError::Newer { found: 7 });
        assert!(error.to_string().contains("update"));
    }

    #[test]
    fn bad_plans_are_refused_with_a_place() {
        let text = example().to_json().unwrap();
        let read = |from: &str, to: &str| {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text, "the edit must do something");
            Plan::from_json(&edited).unwrap_err().to_string()
        };
        assert!(read("\"x0\"", "\"x1\"").contains("stage 1 uses x1"));
        assert!(read("\"sigma\": 80.0", "\"sigma\": -1").contains("stage 0"));
        assert!(read("\"latent\"", "\"noise\"").contains("is not a source"));
        assert!(read("\"x0\"", "\"d0\"").contains("twice"));
        // however far apart a file names them
        let far = read("\"x0\": 0.00625", "\"d0\": 0.1, \"x0\": 0.2, \"latent\": 0.3");
        assert!(far.contains("names d0 twice"), "{far}");
        assert!(read("\"x0\": 0.00625", "\"x00\": 1").contains("x00"));
        assert!(read("\"version\": 1,", "").contains("version"));
        assert!(read("\"stages\"", "\"stages_\"").contains("stages_"));
        assert!(Plan::from_json("{").unwrap_err().to_string().contains("not a plan"));
        let mut endless = example();
        endless.output = Combination::new(vec![(Source::Output(0), f64::INFINITY)]);
        assert!(endless.to_json().unwrap_err().to_string().contains("the image"));
        endless.output = Combination::new(vec![(Source::Constant, 1.0)]);
        assert!(endless.to_json().unwrap_err().to_string().contains("does not hold"));
        endless.output = Combination::default();
        assert!(matches!(endless.validate(), Err(PlanError::Term { .. })));
        endless.stages.clear();
        assert_eq!(endless.validate(), Err(PlanError::NoStages));
    }

    #[test]
    fn model_mismatch_is_named() {
        let mut plan = example();
        let spec = |shape: &[usize], classes: usize, sigma_max: f64| Spec {
            shape: shape.to_vec(),
            levels: Levels::between(0.002, sigma_max),
            parameterisation: Some("eps"),
            classes,
            calls: 1,
            guidance: None,
            rounding: 0.0,
            identity: String::new(),
        };
        assert!(plan.check(&spec(&[1, 28, 28], 0, 80.0)).is_ok());
        assert!(plan.check(&spec(&[1, 28, 28], 0, 50.0)).unwrap_err().to_string().contains("80"));
        plan.metadata.parameterisation = Some("flow".to_owned());
        let error = plan.check(&spec(&[1, 28, 28], 0, 80.0)).unwrap_err().to_string();
        assert!(error.contains("parameterisation flow, and this one is of eps"), "{error}");
        plan.metadata.parameterisation = Some("eps".to_owned());
        plan.metadata.sample_shape = Some(vec![3, 64, 64]);
        let error = plan.check(&spec(&[3, 32, 32], 0, 80.0)).unwrap_err().to_string();
        assert!(error.contains("3x64x64") && error.contains("3x32x32"), "{error}");
        (plan.metadata.sample_shape, plan.metadata.parameterisation) = (None, None);
        plan.constant = Some(Constant { sigma: 80.0, shape: vec![1, 1, 1], samples: vec![vec![0.5]; 10] });
        assert!(plan.check(&spec(&[1, 1, 1], 10, 80.0)).is_ok());
        assert_eq!(plan.check(&spec(&[1, 1, 1], 0, 80.0)), Err(PlanError::Classes { plan: 10, model: 0 }));
        assert!(plan.check(&spec(&[1, 2, 2], 10, 80.0)).is_err());
        let old = plan.to_json().unwrap().replacen("\"metadata\": {}", "\"metadata\": {\"image_shape\": [1, 1, 1]}", 1);
        assert_eq!(Plan::from_json(&old).unwrap().metadata.sample_shape, Some(vec![1, 1, 1]));
    }
}
