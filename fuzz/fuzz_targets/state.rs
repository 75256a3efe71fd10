//! Training runs and teachers on disk: files that this program wrote, with texts and tensors of anything.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use fewstep_core::observe::Silent;
use fewstep_fuzz::{memory::bounded, network, places};
use fewstep_io::safetensors::{self, Metadata};
use fewstep_io::{Dtype, Images, TensorData, TensorMap};
use fewstep_nn::adam::AdamConfig;
use fewstep_nn::ema::EmaConfig;
use fewstep_nn::fit::{KeptAverages, Tuner};
use fewstep_nn::teachers::{load_teacher, save_teacher};
use fewstep_nn::train::{Loss, TrainConfig, Trainer};
use fewstep_nn::{Model, Ranks, data, spread};
use fewstep_search::{SearchSettings, search_seeds, solve_teacher};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "key";

/// What is put in the place of a text or a tensor of a file, which its index chooses.
#[derive(Debug, Arbitrary)]
enum Change {
    Text { at: u8, text: String },
    NoText { at: u8 },
    Tensor { at: u8, dtype: u8, shape: Vec<u8>, fill: u8 },
    NoTensor { at: u8 },
}

#[derive(Debug, Arbitrary)]
struct Input {
    teacher: bool,
    changes: Vec<Change>,
}

/// A file as it is written.
#[derive(Clone)]
struct Written {
    tensors: TensorMap,
    metadata: Metadata,
}

impl Written {
    fn of(write: impl FnOnce(&std::path::Path)) -> Self {
        let path = places::file("written.safetensors", &[]);
        write(&path);
        let file = safetensors::read(&path).expect("it was written");
        Self { tensors: file.tensors, metadata: file.metadata }
    }

    fn change(&mut self, change: &Change) {
        let text = |at: &u8| self.metadata.keys().nth(usize::from(*at) % self.metadata.len().max(1)).cloned();
        let tensor = |at: &u8| self.tensors.keys().nth(usize::from(*at) % self.tensors.len().max(1)).cloned();
        match change {
            Change::Text { at, text: own } => {
                text(at).and_then(|key| self.metadata.insert(key, own.clone()));
            }
            Change::NoText { at } => {
                text(at).and_then(|key| self.metadata.remove(&key));
            }
            Change::Tensor { at, dtype, shape, fill } => {
                let shape: Vec<usize> = shape.iter().take(6).map(|size| usize::from(*size)).collect();
                let dtype = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::U8, Dtype::Bool]
                    [usize::from(*dtype) % 7];
                let Some(bytes) = shape.iter().try_fold(dtype.size(), |all, size| all.checked_mul(*size)) else {
                    return;
                };
                // what tensors are large is not what is asked here
                if bytes > 1 << 18 {
                    return;
                }
                if let (Ok(data), Some(name)) = (TensorData::new(dtype, shape, vec![*fill; bytes]), tensor(at)) {
                    self.tensors.insert(name, data);
                }
            }
            Change::NoTensor { at } => {
                tensor(at).and_then(|name| self.tensors.shift_remove(&name));
            }
        }
    }
}

fn images(model: &Model) -> data::Images {
    let [channels, height, width] = model.image_shape().map(|size| size as usize);
    let labels = (model.config().label_dim > 0).then(|| vec![0; 4]);
    let images =
        Images::new(vec![7; 4 * channels * height * width], channels, height, width, labels).expect("they are images");
    data::Images::for_model(images, model).expect("they fit")
}

fn tuner<'a>(model: Model, images: &'a data::Images) -> Tuner<'a> {
    let config = TrainConfig {
        batch: 2,
        microbatch: 2,
        learning_rate: 1e-3,
        rampup_images: 0,
        decay_images: None,
        adam: AdamConfig::default(),
        ema: EmaConfig { halflife_images: 1.0, rampup_ratio: None },
        loss: Loss::EDM,
        augment: None,
        xflip: false,
        seed: 0,
    };
    let trainer = Trainer::new(model, images, config).expect("it can be trained");
    Tuner::new(trainer).keeping(KeptAverages { halflives_images: vec![1.0, 2.0], after: vec![1, 2] })
}

fn settings() -> SearchSettings {
    let mut settings = SearchSettings::default();
    (settings.teacher.samples, settings.teacher.grid) = (2, 3);
    settings
}

static STATE: LazyLock<Written> = LazyLock::new(|| {
    let model = network::small();
    let images = images(&model);
    Written::of(|path| tuner(model, &images).save(path).expect("it can be written"))
});

static TEACHER: LazyLock<Written> = LazyLock::new(|| {
    let model = network::small();
    let (teacher, _) = solve_teacher(&spread(&model), &settings(), &Silent).expect("it has a teacher");
    Written::of(|path| save_teacher(&teacher, KEY, 1, path, &Ranks::alone()).expect("it can be written"))
});

thread_local! {
    static MODEL: Model = network::small();
}

fuzz_target!(|input: Input| {
    let mut written = if input.teacher { TEACHER.clone() } else { STATE.clone() };
    input.changes.iter().for_each(|change| written.change(change));
    let path = places::file("state.safetensors", &[]);
    safetensors::write(path.as_path(), &written.tensors, &written.metadata).expect("any tensors can be written");
    let len = std::fs::metadata(&path).map_or(0, |file| file.len() as usize);
    MODEL.with(|model| {
        if input.teacher {
            let denoiser = spread(model);
            bounded(len, 100, || {
                let _ = load_teacher(KEY, &path, &denoiser, &search_seeds(&settings()));
            });
        } else {
            let images = images(model);
            let mut tuner = tuner(model.duplicate().expect("it can be copied"), &images);
            bounded(len, 100, || {
                let _ = tuner.load(&path);
            });
        }
    });
});
