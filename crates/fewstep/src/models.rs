//! Models: files of ours, snapshots of the EDM and EDM2 code, programs, the built-in ones; alone or guided.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fewstep_core::denoiser::{Guided, Reference, Spec};
use fewstep_io::hash;
use fewstep_io::kind::FileKind;
use fewstep_nn::checkpoint::{self, Checkpoint, Storage};
use fewstep_nn::program::{Decoder, DecoderConfig};
use fewstep_nn::tch::{Device, Kind};
use fewstep_nn::{Codec, Model, Network, Program, ProgramConfig, ProgramDenoiser, Ranks, TorchDenoiser, mixture};
use fewstep_search::suggest::nearest;
use serde::{Deserialize, Serialize};

use crate::assets;
use crate::data::has_extension;
use crate::error::{Context, Result, bail, ensure};

/// Name of the network that comes with the library.
pub const BUILT_IN: &str = "fashion-mnist";
/// Names of the mixtures of Gaussians, whose denoisers are exact: unconditional, and with a class for each component.
pub const MIXTURES: [&str; 2] = ["gaussian-mixture", "gaussian-mixture-classes"];

/// How a model is opened.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Where it computes.
    pub device: Device,
    /// What it computes in.
    pub kind: Kind,
    /// Samples evaluated at once without a graph.
    pub batch: usize,
    /// Whether programs may be run: nothing in a file is executed otherwise.
    pub trust: bool,
    /// Guidance.
    pub guidance: Option<GuidanceOptions>,
    /// The processes that compute with it, each of which opens it.
    pub ranks: Ranks,
}

impl Default for ModelOptions {
    fn default() -> Self {
        let ranks = Ranks::alone();
        Self { device: Device::Cpu, kind: Kind::Float, batch: 64, trust: false, guidance: None, ranks }
    }
}

/// Guidance that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuidanceOptions {
    /// w in D_ref + w (D - D_ref).
    pub weight: f64,
    /// The network that guides; none: the same without its condition.
    pub by: Option<String>,
}

/// A model ready to run and where it came from.
#[derive(Debug)]
pub struct OpenModel {
    denoiser: Denoising,
    /// What was asked for.
    pub name: String,
    /// SHA-256 of its file; of a program, of its files and its description.
    pub hash: String,
    /// What its file says of it.
    pub notes: BTreeMap<String, String>,
}

/// Why some models cannot be tuned.
const NO_WEIGHTS: &str =
    "that takes a network whose weights can be had (.safetensors or .pkl), alone or guided by such a one";

/// What answers.
#[derive(Debug)]
enum Denoising {
    /// One of our networks, whose weights can be had.
    Network(Network),
    /// Anything else.
    Other(Box<dyn TorchDenoiser>),
}

/// A model as `run.json` keeps it: what its samples depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// The name that was asked for.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// What it computes in.
    pub precision: String,
    /// Guidance, and who guides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<fewstep_core::denoiser::Guidance>,
}

impl ModelId {
    /// Whether samples of both are the same, whatever their files are called.
    pub fn same(&self, other: &Self) -> bool {
        (&self.sha256, &self.precision, &self.guidance) == (&other.sha256, &other.precision, &other.guidance)
    }
}

impl OpenModel {
    /// A caller's own denoiser under a name. Its hash is that of [`Spec::identity`], which has to name all that its answers depend on, as
    /// caches and resumed runs go by it. It is not tuned.
    ///
    /// # Errors
    /// If its identity is empty.
    pub fn of(denoiser: Box<dyn TorchDenoiser>, name: &str) -> Result<Self> {
        let identity = &denoiser.spec().identity;
        ensure!(
            !identity.is_empty(),
            "the denoiser {name} has an empty identity: runs on it could be taken for those on others"
        );
        let hash = hash::sha256_bytes(identity.as_bytes());
        Ok(Self { denoiser: Denoising::Other(denoiser), name: name.to_owned(), hash, notes: BTreeMap::new() })
    }

    /// The denoiser.
    pub fn denoiser(&self) -> &dyn TorchDenoiser {
        match &self.denoiser {
            Denoising::Network(network) => network,
            Denoising::Other(other) => &**other,
        }
    }

    /// What the denoiser is.
    pub fn spec(&self) -> &Spec {
        self.denoiser().spec()
    }

    /// SHA-256 of the file that the network was imported from, or of its own: plans say by it which network they were found for.
    pub fn origin(&self) -> &str {
        match self.notes.get("imported_sha256") {
            Some(imported) if !self.notes.contains_key("tuned") => imported,
            _ => &self.hash,
        }
    }

    /// The network, where its weights can be had: it can be tuned.
    pub fn network(&self) -> Option<&Network> {
        match &self.denoiser {
            Denoising::Network(network) => Some(network),
            Denoising::Other(_) => None,
        }
    }

    /// The network, for what needs its weights.
    ///
    /// # Errors
    /// If it is a program, or guided by one.
    pub fn tunable(&self) -> Result<&Network> {
        match self.network() {
            Some(network) => Ok(network),
            None => bail!("{} cannot be tuned: {NO_WEIGHTS}", self.name),
        }
    }

    /// As `run.json` keeps it.
    pub fn id(&self, precision: &str) -> ModelId {
        ModelId {
            name: self.name.clone(),
            sha256: self.hash.clone(),
            precision: precision.to_owned(),
            guidance: self.spec().guidance.clone(),
        }
    }

    /// Channels, height and width of its images.
    ///
    /// # Errors
    /// If its samples are no images and cannot be decoded.
    pub fn pixel_shape(&self) -> Result<[usize; 3]> {
        match self.denoiser().pixel_shape() {
            Some(shape) => Ok(shape),
            None => bail!(
                "{} makes samples of shape {:?}, which are no images of 1 or 3 channels, and has no decoder: they can be fitted, \
                 sampled into .npz and scored by their rollout error, but not shown or measured",
                self.name,
                self.spec().shape
            ),
        }
    }
}

/// Whether a name means a built-in model; a file of that name, or a folder of it with a model inside, comes first. (A folder of
/// images may well be called so.)
pub fn is_built_in(name: &str) -> bool {
    let path = Path::new(name);
    (name == BUILT_IN || MIXTURES.contains(&name)) && !path.is_file() && !path.join("model.safetensors").exists()
}

/// Whether a name means a model where it could mean images: a built-in model, a folder with a model inside, a file of a kind that
/// models come in.
pub fn is_model(name: &str) -> bool {
    let path = Path::new(name);
    if is_built_in(name) || path.join("model.safetensors").exists() {
        return true;
    }
    let model = |kind| {
        use FileKind::{Pickle, Safetensors, TorchExport, TorchSave, TorchScript};
        matches!(kind, Pickle | Safetensors | TorchExport | TorchSave { .. } | TorchScript)
    };
    let named = ["safetensors", "pkl", "pt", "pt2", "pth"].iter().any(|extension| has_extension(path, extension));
    !path.is_dir() && (named || FileKind::of_file(path).is_ok_and(model))
}

/// Opens a model by path (of its file, or of a run folder with one), or a built-in one by name; guided if that is asked for.
///
/// # Errors
/// If there is none, its file cannot be used, it is a program and programs are not trusted, guidance does not fit, or another process
/// has opened another model.
pub fn open_model(name: &str, options: &ModelOptions) -> Result<OpenModel> {
    let opened = open_alone(name, options)?;
    options.ranks.check_same(&format!("model {name}"), &format!("{} {:?}", opened.hash, options.kind))?;
    let Some(GuidanceOptions { weight, by }) = &options.guidance else { return Ok(opened) };
    let OpenModel { denoiser, name, hash, notes } = opened;
    let by = by.as_deref().map(|by| open_alone(by, options)).transpose()?.map(|by| by.denoiser);
    Ok(OpenModel { denoiser: guided(denoiser, by, *weight)?, name, hash, notes })
}

/// `denoiser` guided away from `by`, or from what it says itself without its condition. Two networks of ours remain one.
fn guided(denoiser: Denoising, by: Option<Denoising>, weight: f64) -> Result<Denoising> {
    use Denoising::{Network as Ours, Other};
    Ok(match (denoiser, by) {
        (Ours(Network::Alone(model)), None) => Ours(Network::guided(*model, Reference::Unconditional, weight)?),
        (Ours(Network::Alone(model)), Some(Ours(Network::Alone(by)))) => {
            Ours(Network::guided(*model, Reference::Network(Rc::new(*by)), weight)?)
        }
        (denoiser, by) => {
            let denoiser = boxed(denoiser);
            let reference = by.map_or(Reference::Unconditional, |by| Reference::Network(boxed(by)));
            if matches!(reference, Reference::Unconditional) && denoiser.spec().classes > 0 {
                let _ = denoiser.same_condition(None, 1)?; // some always need a class
            }
            Other(Box::new(Guided::new(denoiser, reference, weight)?))
        }
    })
}

fn boxed(denoiser: Denoising) -> Box<dyn TorchDenoiser> {
    match denoiser {
        Denoising::Network(network) => Box::new(network),
        Denoising::Other(other) => other,
    }
}

fn open_alone(name: &str, options: &ModelOptions) -> Result<OpenModel> {
    if !is_built_in(name) {
        let folder = Path::new(name).join("model.safetensors");
        let path = if folder.exists() { folder } else { PathBuf::from(name) };
        if path.is_dir() {
            bail!("{name} is a folder without a model.safetensors: name the model's file");
        }
        if path.exists() {
            match FileKind::of_file(&path)? {
                FileKind::TorchScript => return open_program(name, &path, options),
                FileKind::TorchExport => bail!(
                    "{name} is a torch.export package (.pt2), which is not run here: write the program with torch.jit.save"
                ),
                FileKind::Text => bail!("{name} is a text file, not a model (.safetensors, or a .pkl of EDM or EDM2)"),
                _ => {}
            }
            let checkpoint = checkpoint::load(&path, options.device)?;
            let hash = hash::sha256_file(&path)?;
            return match DecoderConfig::beside(&path)? {
                Some(decoder) => with_decoder(checkpoint, name, (&path, &hash), decoder, options),
                None => Ok(opened(checkpoint, name, hash, options)),
            };
        }
    }
    if name == BUILT_IN {
        let bytes = assets::MODEL;
        let checkpoint = checkpoint::from_bytes(bytes, name, options.device)?;
        return Ok(opened(checkpoint, name, hash::sha256_bytes(bytes), options));
    }
    if MIXTURES.contains(&name) {
        let model = mixture::patterns(name == MIXTURES[1], options.device)?;
        let notes = BTreeMap::from([("about".to_owned(), "an exact denoiser, to try things on".to_owned())]);
        let hash = hash::sha256_bytes(&checkpoint::to_bytes(&model, Storage::F32, &notes)?);
        return Ok(opened(Checkpoint { model, notes }, name, hash, options));
    }
    let known = [BUILT_IN, MIXTURES[0], MIXTURES[1]];
    match nearest(name, known) {
        Some(near) => bail!("there is no model file {name}; did you mean the built-in model {near}?"),
        None => bail!("there is no model file {name} (built-in models are called {})", known.join(", ")),
    }
}

/// A network of ours whose samples a program decodes. This runs the program, if that is allowed.
fn with_decoder(
    checkpoint: Checkpoint,
    name: &str,
    (path, hash): (&Path, &str),
    decoder: DecoderConfig,
    options: &ModelOptions,
) -> Result<OpenModel> {
    ensure!(
        options.trust,
        "the description beside {name} names a decoder, {}, which is a TorchScript program: to open it is to run it, and a program can \
         do whatever you can. It was not run. If you trust its file, say so with --trust",
        decoder.path.display()
    );
    let Checkpoint { model, mut notes } = checkpoint;
    let program = Decoder::load_beside(path, &decoder, &model.image_shape(), options.device)?;
    let hash = described_hash(hash, &by_content(&decoder, path, name)?)?;
    notes.insert("decoder".to_owned(), decoder.path.display().to_string());
    Ok(opened(Checkpoint { model: model.with_codec(Codec::decoding(program)?), notes }, name, hash, options))
}

/// A decoder as hashes see it: wherever it stands, what it holds counts.
fn by_content(decoder: &DecoderConfig, beside: &Path, name: &str) -> Result<DecoderConfig> {
    let file = beside.parent().unwrap_or(Path::new("")).join(&decoder.path);
    let hash = hash::sha256_file(&file).with_context(|| format!("cannot read the decoder of {name}"))?;
    Ok(DecoderConfig { path: hash.into(), ..decoder.clone() })
}

/// The hash of a model's file and its description.
fn described_hash(file: &str, description: &impl Serialize) -> Result<String> {
    Ok(hash::sha256_bytes(format!("{file}\n{}", serde_json::to_string(description)?).as_bytes()))
}

/// A program, with the description that stands beside it. This runs it, if that is allowed.
fn open_program(name: &str, path: &Path, options: &ModelOptions) -> Result<OpenModel> {
    ensure!(
        options.trust,
        "{name} is a TorchScript program: to open it is to run it, and a program can do whatever you can. It was not run. If you trust \
         its file, and its decoder's if it has one, say so with --trust"
    );
    ensure!(
        options.kind == Kind::Float,
        "{name} is a program and computes in the types that it was written with: leave --precision out"
    );
    let config = ProgramConfig::beside(path)?;
    let mut described = config.clone();
    let mut notes = BTreeMap::from([("about".to_owned(), "a TorchScript program".to_owned())]);
    if let Some(decoder) = &mut described.decoder {
        notes.insert("decoder".to_owned(), decoder.path.display().to_string());
        *decoder = by_content(decoder, path, name)?;
    }
    let hash = described_hash(&hash::sha256_file(path)?, &described)?;
    let program = Program::load(path, config, options.device)?;
    let program = program.with_batch(options.batch).with_ranks(options.ranks.clone());
    let denoiser = Denoising::Other(Box::new(ProgramDenoiser::new(program, &hash)));
    Ok(OpenModel { denoiser, name: name.to_owned(), hash, notes })
}

fn opened(checkpoint: Checkpoint, name: &str, hash: String, options: &ModelOptions) -> OpenModel {
    let model = prepared(checkpoint.model, &hash, options.kind, options.batch).with_ranks(options.ranks.clone());
    OpenModel {
        denoiser: Denoising::Network(Network::new(model)),
        name: name.to_owned(),
        hash,
        notes: checkpoint.notes,
    }
}

/// A network that computes in `kind`, so many samples at once, under the name that its hash gives it in cache keys.
pub fn prepared(model: Model, hash: &str, kind: Kind, batch: usize) -> Model {
    let identity = match kind {
        Kind::Float => hash.to_owned(),
        kind => format!("{hash} in {kind:?}"),
    };
    model.with_kind(kind).with_batch(batch).with_identity(&identity)
}

/// A network from a file that a run left, to step in the place of `like`.
///
/// # Errors
/// If the file cannot be used, or its network makes other samples.
pub fn load_like(path: &Path, like: &Network) -> Result<Network> {
    let model = like.model();
    let loaded = checkpoint::load(path, model.device())?.model;
    ensure!(
        loaded.config() == model.config(),
        "{} holds a network of another architecture than the model",
        path.display()
    );
    let loaded = prepared(loaded, &hash::sha256_file(path)?, model.kind(), model.batch()).with_ranks(model.ranks());
    Ok(like.with_model(loaded.with_codec(model.codec().clone()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_from_images() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir_all(place("images")).unwrap();
        std::fs::create_dir_all(place("run")).unwrap();
        std::fs::write(place("run/model.safetensors"), assets::MODEL).unwrap();
        std::fs::copy(place("run/model.safetensors"), place("network")).unwrap();
        for model in [
            BUILT_IN,
            MIXTURES[0],
            &place("run"),
            &place("run/model.safetensors"),
            &place("network"),
            &place("gone.pkl"),
        ] {
            assert!(is_model(model), "{model}");
        }
        for images in [&place("images"), &place("gone"), &place("images.zip"), "fashion-mnist/"] {
            assert!(!is_model(images), "{images}");
        }
    }
}
