//! What can be typed after `fewstep compare`, and the models and settings that it means.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_nn::data::Images;
use fewstep_nn::tch::{Device, Kind};

use super::{DataId, Entry, Given, Settings};
use crate::assets;
use crate::gallery::slug;
use crate::inputs::{BUILT_IN, Compute, Judge, Numbers, OpenModel, is_built_in, open_data, open_model};
use crate::runs::RunArgs;
use crate::searching::{Method, SearchArgs};

/// Methods that are compared where none are named: ours, and every rival with the solvers it is used with.
const METHODS: &str = "least-squares+gauss-newton+moments,least-squares+gauss-newton,least-squares,\
                       karras/euler,karras/ipndm4,karras/dpmpp3m,karras/unipc3_bh2,\
                       local/euler,local/ipndm4,local/dpmpp3m,local/unipc3_bh2,\
                       reachable/euler,reachable/ipndm4,reachable/dpmpp3m,reachable/unipc3_bh2";

/// Arguments of `fewstep compare`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep compare --steps 4,5,6 --images 1000 --out runs/compare\n  fewstep compare --model edm-cifar10.pkl --ref cifar10.npz --features inception.safetensors \\\n      --methods least-squares+gauss-newton+moments,local@1.15/ipndm4,karras/unipc3_bh2 --steps 3-10 --images 50000 --out runs/cifar10"
)]
pub struct Args {
    /// Models: .safetensors files, EDM .pkl files, or built-in ones (fashion-mnist, gaussian-mixture)
    #[arg(long = "model", value_name = "LIST", value_delimiter = ',', default_value = BUILT_IN)]
    pub models: Vec<String>,
    /// For every model, statistics of what it should make (`fewstep ref`); needed for all but the built-in ones
    #[arg(long = "ref", value_name = "LIST", value_delimiter = ',')]
    pub references: Vec<PathBuf>,
    /// For every model, the feature network of its statistics; needed for all but the built-in ones
    #[arg(long = "features", value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<PathBuf>,
    /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid
    #[arg(long, value_name = "NAME", default_value = "tf1")]
    pub resize: String,
    /// Methods, SEARCH/SOLVER: a schedule (karras, log_snr, vp, ve, iddpm, cosine, time_uniform), local (GITS; local@1.15 with
    /// a coefficient of your own), reachable (OSS), bound (the paper's), or least-squares; +gauss-newton or +rollout after any
    /// refines it, and +moments at the end matches its images' look with the teacher's, +data-moments with that of --data
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = METHODS, hide_default_value = true)]
    pub methods: Vec<Method>,
    /// Plans from files beside them: plan files, or folders of `fewstep fit`, such as one that was run on another network (plans
    /// alone: a tuned network is a model of its own)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub plans: Vec<PathBuf>,
    /// Numbers of network evaluations an image
    #[arg(long, value_name = "LIST", default_value = "3-10")]
    pub steps: Numbers,
    #[command(flatten)]
    pub run: RunArgs,

    /// Images a cell and seed range
    #[arg(long, value_name = "N", default_value_t = 5000, help_heading = "Judge")]
    pub images: u64,
    /// Ranges of seeds, one after the other; the table shows mean and standard deviation
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Judge")]
    pub seed_ranges: u64,
    /// First seed
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Judge")]
    pub first_seed: u64,
    /// Latents held out for the rollout error
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Judge")]
    pub held_out: usize,
    /// Noise levels of the Heun teacher in the table (2N - 1 evaluations)
    #[arg(long, value_name = "N", default_value_t = 18, help_heading = "Judge")]
    pub teacher_steps: usize,
    /// Training images, for the method bound and methods that end in +data-moments [default for the built-in model: the test
    /// images that it comes with]
    #[arg(long, value_name = "PATH", help_heading = "Judge")]
    pub data: Option<PathBuf>,
    /// Pad the training images to squares of this size
    #[arg(long, value_name = "PIXELS", help_heading = "Judge")]
    pub pad_to: Option<usize>,
    /// Training images for the table of the method bound
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Judge")]
    pub table_images: usize,

    #[command(flatten)]
    pub search: SearchArgs,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    #[command(flatten)]
    pub compute: Compute,
}

/// A model and its judge.
pub struct Subject {
    /// The network.
    pub opened: OpenModel,
    /// Features and what the model should make.
    pub judge: Judge,
    /// Training images, if a method looks at any, and where they are from.
    pub data: Option<(Images, DataId)>,
}

impl Subject {
    /// As `run.json` keeps it.
    pub fn entry(&self) -> Entry {
        Entry {
            name: self.opened.name.clone(),
            sha256: self.opened.hash.clone(),
            features: self.judge.id().clone(),
            reference: self.judge.reference_name.clone(),
            data: self.data.as_ref().map(|(_, id)| id.clone()),
        }
    }
}

impl Args {
    /// What every cell depends on.
    pub fn settings(&self) -> Result<Settings> {
        ensure!(self.images >= 2, "--images must be at least 2: a covariance needs two");
        ensure!(self.seed_ranges >= 1, "--seed-ranges must be at least 1");
        ensure!(self.held_out >= 1, "--held-out must be at least 1");
        ensure!(self.teacher_steps >= 2, "--teacher-steps must be at least 2");
        ensure!(self.batch >= 1, "--batch must be at least 1");
        ensure!(!self.steps.0.contains(&0), "--steps needs numbers of at least 1");
        Ok(Settings {
            images: self.images,
            seed_ranges: self.seed_ranges,
            first_seed: self.first_seed,
            held_out: self.held_out,
            teacher_steps: self.teacher_steps,
            table_images: self.table_images,
            precision: self.compute.precision.clone(),
            search: self.search.settings(self.batch)?,
        })
    }

    /// Opens every model with its judge.
    pub fn subjects(&self, device: Device, kind: Kind) -> Result<Vec<Subject>> {
        let own = self.models.iter().all(|model| is_built_in(model));
        let given = |count: usize| count == self.models.len() || (own && count == 0);
        ensure!(
            given(self.references.len()) && given(self.features.len()) && self.references.len() == self.features.len(),
            "{} models need as many statistics (--ref) and feature networks (--features), in the same order; there are {} and {}",
            self.models.len(),
            self.references.len(),
            self.features.len()
        );
        self.models.iter().enumerate().map(|(index, name)| self.subject(index, name, device, kind)).collect()
    }

    /// The plans from files, which must suit every model.
    pub fn given(&self, subjects: &[Subject]) -> Result<Vec<Given>> {
        let models = subjects.iter().map(|subject| &subject.opened.model);
        let given = self.plans.iter().map(|path| Given::open(path, models.clone())).collect::<Result<Vec<_>>>()?;
        let mut files = BTreeSet::from(["teacher".to_owned()]);
        for name in self.methods.iter().map(Method::to_string).chain(given.iter().map(|given| given.name.clone())) {
            ensure!(
                files.insert(slug(&name)),
                "{name} is not the only row of that name: rename or leave out one of --methods and --plans (the teacher has its own row)"
            );
        }
        Ok(given)
    }

    fn subject(&self, index: usize, name: &str, device: Device, kind: Kind) -> Result<Subject> {
        let opened = open_model(name, device, kind)?;
        let (features, reference) = (self.features.get(index).cloned(), self.references.get(index));
        let judge = Judge::open(&opened, features, reference, &self.resize, device)?;
        let looked_at = self.methods.iter().any(Method::needs_images);
        let data = looked_at.then(|| self.training_images(&opened)).transpose()?;
        Ok(Subject { opened, judge, data })
    }

    /// Those of --data, or the images that the built-in model comes with.
    fn training_images(&self, opened: &OpenModel) -> Result<(Images, DataId)> {
        let data = match &self.data {
            Some(path) => open_data(path, self.pad_to, None)?,
            None if opened.name == BUILT_IN => assets::test_images()?,
            None => bail!(
                "the methods bound and any that ends in +data-moments need training images: name them with --data"
            ),
        };
        let id = DataId { name: data.name().to_owned(), sha256: data.fingerprint()? };
        Ok((Images::for_model(data.load_all()?, &opened.model)?, id))
    }
}
