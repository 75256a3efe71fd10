//! What a program does not say of itself: the JSON that stands beside it.

use std::path::{Path, PathBuf};

use fewstep_core::Parameterisation;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// A description that is complete, for messages.
pub const EXAMPLE: &str = r#"{"shape": [3, 32, 32], "parameterisation": {"type": "edm", "sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80}, "classes": 0, "inputs": ["x", "noise"], "noise_shape": "batch", "input_dtype": "f32"}"#;

/// What a TorchScript program computes and how it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramConfig {
    /// Shape of one state, without the batch: `[4, 32, 32]`, `[1, 17, 33]`, `[64]`.
    pub shape: Vec<i64>,
    /// What the program answers, and what it is told of the noise.
    #[serde(deserialize_with = "without_unknown_fields")]
    pub parameterisation: Parameterisation,
    /// Number of classes, 0 for a program without labels.
    #[serde(default)]
    pub classes: i64,
    /// The arguments of `forward`, in order.
    pub inputs: Vec<Input>,
    /// How it takes labels; needed where there are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Shape of the noise argument.
    #[serde(default)]
    pub noise_shape: NoiseShape,
    /// Type of the argument `x`. The noise, and labels that are one-hot, are f32.
    #[serde(default)]
    pub input_dtype: InputDtype,
    /// Size of the answer's first dimension after the batch, where it is more than that of the state: of an answer with a learned
    /// variance the first part is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_channels: Option<i64>,
    /// The program that makes pixels of states, where these are latents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderConfig>,
}

/// An argument of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The scaled state c_in x, or x itself for a denoiser.
    X,
    /// c_noise, or sigma itself for a denoiser.
    Noise,
    /// Class labels.
    Labels,
}

impl Input {
    /// Its name in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Noise => "noise",
            Self::Labels => "labels",
        }
    }
}

/// How a program takes labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Their form.
    pub form: LabelForm,
    /// What the program is passed where no class is asked for; absent where it always needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconditional: Option<Unconditional>,
}

/// Form of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelForm {
    /// f32 `[N, classes]`.
    OneHot,
    /// int64 `[N]`.
    Index,
}

/// What stands for no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Unconditional {
    /// An index, often the number of classes.
    Index(i64),
    /// A word.
    Word(UnconditionalWord),
}

/// What stands for no class, where it is no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnconditionalWord {
    /// A row of zeros.
    Zeros,
    /// `None` in place of the argument.
    None,
}

/// Shape of the noise argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseShape {
    /// `[N]`.
    #[default]
    Batch,
    /// `[]`: one level for all. Samples at different levels are run one by one.
    Scalar,
}

/// Type of an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputDtype {
    /// Single precision.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Double precision.
    F64,
}

impl InputDtype {
    /// libtorch's name of it.
    pub fn kind(self) -> tch::Kind {
        match self {
            Self::F32 => tch::Kind::Float,
            Self::F16 => tch::Kind::Half,
            Self::Bf16 => tch::Kind::BFloat16,
            Self::F64 => tch::Kind::Double,
        }
    }
}

/// The program that makes pixels of states: `pixels = decode(x * scale + shift)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// The TorchScript file; a relative path begins at the folder of the denoiser's.
    pub path: PathBuf,
    /// Factor of the state, one or one a channel.
    #[serde(default = "one")]
    pub scale: PerChannel,
    /// Offset of the scaled state, one or one a channel.
    #[serde(default = "zero")]
    pub shift: PerChannel,
    /// Type of its argument.
    #[serde(default)]
    pub input_dtype: InputDtype,
}

/// A number, or one for every channel (entry of the state's first dimension).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerChannel {
    /// The same for all.
    All(f64),
    /// One a channel.
    Each(Vec<f64>),
}

fn one() -> PerChannel {
    PerChannel::All(1.0)
}

fn zero() -> PerChannel {
    PerChannel::All(0.0)
}

impl PerChannel {
    /// The numbers.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::All(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }
}

/// A parameterisation none of whose parameters is misspelt, which would leave its default.
fn without_unknown_fields<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Parameterisation, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let wrong = |error: serde_json::Error| D::Error::custom(format!("`parameterisation`: {error}"));
    let read: Parameterisation = serde_json::from_value(given.clone()).map_err(wrong)?;
    let known = serde_json::to_value(&read).map_err(wrong)?;
    let mut written = given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    if let Some((name, _)) = written.find(|(name, _)| known.get(name.as_str()).is_none()) {
        let names: Vec<&String> = known.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
        return Err(D::Error::custom(format!("`parameterisation`: unknown field `{name}`, there are {names:?}")));
    }
    Ok(read)
}

/// No state is larger; a file that asks for more is damaged.
const MAX_NUMBERS: i64 = 1 << 31;
const MAX_CHANNELS: i64 = 65_536;
const MAX_CLASSES: i64 = 1_000_000;

impl ProgramConfig {
    /// Where the description of a program stands: beside it, `model.json` for `model.pt`.
    pub fn path_for(program: &Path) -> PathBuf {
        program.with_extension("json")
    }

    /// Reads the description that stands beside a program. The program itself is not opened.
    ///
    /// # Errors
    /// If there is none, or it is not valid.
    pub fn beside(program: &Path) -> Result<Self> {
        let path = Self::path_for(program);
        let fail = |path: &Path, reason: String| Error::Checkpoint { path: path.display().to_string(), reason };
        if !program.is_file() {
            return Err(fail(program, "does not exist: check the path to the program".to_owned()));
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (name, reason) = (path.display(), "is a TorchScript program, which does not say what it computes");
                return Err(fail(program, format!("{reason}: write {name} beside it, such as {EXAMPLE}")));
            }
            Err(error) => return Err(fail(&path, format!("cannot be read: {error}"))),
        };
        Self::from_json(&text).map_err(|error| fail(&path, format!("is no valid description of a program: {error}")))
    }

    /// Reads and checks a description.
    ///
    /// # Errors
    /// Says what is not valid in it.
    pub fn from_json(text: &str) -> Result<Self> {
        // some editors begin files with a byte order mark
        let config: Self = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Error::Input(format!("{error}; one is {EXAMPLE}")))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Names the first that is not valid, and what it must be.
    pub fn validate(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::Input(reason));
        let shape = &self.shape;
        let numbers = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
        if shape.is_empty() || shape.iter().any(|size| *size < 1) || numbers.is_none_or(|n| n > MAX_NUMBERS) {
            return fail(format!(
                "`shape` is {shape:?}: it must be the sizes of one state without the batch, such as [3, 32, 32], at most \
                 {MAX_NUMBERS} numbers"
            ));
        }
        self.parameterisation.validate().map_err(|error| Error::Input(error.to_string()))?;
        if !(0..=MAX_CLASSES).contains(&self.classes) {
            return fail(format!("`classes` is {}: it must be 0 (none) to {MAX_CLASSES}", self.classes));
        }
        self.validate_inputs()?;
        if let Some(channels) = self.output_channels
            && !(shape[0]..=MAX_CHANNELS.max(shape[0])).contains(&channels)
        {
            let from = shape[0];
            return fail(format!(
                "`output_channels` is {channels}: it must be from {from}, what a state has, to {MAX_CHANNELS}"
            ));
        }
        self.decoder.as_ref().map_or(Ok(()), |decoder| decoder.validate(shape[0]))
    }

    fn validate_inputs(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::Input(reason));
        let count = |input: Input| self.inputs.iter().filter(|other| **other == input).count();
        let expected = match self.classes {
            0 => "\"x\" and \"noise\"",
            _ => "\"x\", \"noise\" and \"labels\"",
        };
        let labels = usize::from(self.classes > 0);
        if [Input::X, Input::Noise, Input::Labels].map(count) != [1, 1, labels] {
            let given: Vec<_> = self.inputs.iter().map(|input| input.name()).collect();
            let classes = self.classes;
            return fail(format!(
                "`inputs` is {given:?}: with {classes} classes it must name {expected}, each once, in their order"
            ));
        }
        match (self.classes, self.labels) {
            (0, None) => Ok(()),
            (0, Some(_)) => fail("`labels` is there, but `classes` is 0: leave it out, or give the number of classes".to_owned()),
            (_, None) => fail(
                "`labels` is missing: write {\"form\": \"one_hot\"} or {\"form\": \"index\"}, with \"unconditional\" (\"zeros\", an \
                 index or \"none\") if the program can do without a class"
                    .to_owned(),
            ),
            (_, Some(Labels { form, unconditional })) => match (form, unconditional) {
                (LabelForm::OneHot, Some(Unconditional::Index(index))) => fail(format!(
                    "`labels.unconditional` is {index}, but its form is one_hot: write \"zeros\", \"none\" or leave it out"
                )),
                (LabelForm::Index, Some(Unconditional::Word(UnconditionalWord::Zeros))) => fail(
                    "`labels.unconditional` is \"zeros\", but its form is index: write the index that stands for no class, \
                     \"none\" or leave it out"
                        .to_owned(),
                ),
                _ => Ok(()),
            },
        }
    }
}

impl DecoderConfig {
    /// The decoder that the description beside a network's file names, if there is one: `{"decoder": {"path": ...}}` in the `.json` of
    /// the same name. Any other file of that name says nothing of decoders.
    ///
    /// # Errors
    /// If it names a decoder and is not valid.
    pub fn beside(network: &Path) -> Result<Option<Self>> {
        let path = ProgramConfig::path_for(network);
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let Ok(mut whole) = serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) else { return Ok(None) };
        let Some(decoder) = whole.get_mut("decoder") else { return Ok(None) };
        let wrong = |error: serde_json::Error| Error::Checkpoint {
            path: path.display().to_string(),
            reason: format!("names no usable decoder: {error}"),
        };
        Ok(Some(serde_json::from_value(decoder.take()).map_err(wrong)?))
    }

    /// Checks every field, for states of so many channels.
    pub(super) fn validate(&self, channels: i64) -> Result<()> {
        let fail = |reason: String| Err(Error::Input(reason));
        if self.path.as_os_str().is_empty() {
            return fail("`decoder.path` is empty: it must name a TorchScript file".to_owned());
        }
        for (name, numbers) in [("scale", &self.scale), ("shift", &self.shift)] {
            let values = numbers.values();
            if matches!(numbers, PerChannel::Each(values) if values.len() as i64 != channels) {
                let count = values.len();
                return fail(format!(
                    "`decoder.{name}` has {count} numbers: it must be one, or one for each of the {channels} channels"
                ));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite() || (name == "scale" && **value == 0.0)) {
                let rule = if name == "scale" { "finite and not 0" } else { "finite" };
                return fail(format!("`decoder.{name}` is {value}: it must be {rule}"));
            }
        }
        Ok(())
    }
}
