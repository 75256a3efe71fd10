//! A temporary folder with tiny models and data in it, and the program run inside that folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_eval::features::inception;
use fewstep_io::tensors::{TensorData, TensorMap};
use fewstep_io::{npz, png};
use fewstep_nn::Model;
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::tch::Device;
use serde_json::Value;
use tempfile::TempDir;

/// Height and width of the tiny images.
pub const SIZE: usize = 8;

/// What one run of the program left.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A folder of its own for a test; the program runs in it, so that messages hold relative paths.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `model.safetensors` (grey 8x8, unconditional) in it.
    pub fn with_model() -> Self {
        let place = Self::new();
        place.save_model("model.safetensors", 1, 0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn save_model(&self, name: &str, channels: i64, label_dim: i64) {
        checkpoint::save(self.path(name), &tiny_model(channels, label_dim), Storage::F32, &BTreeMap::new()).unwrap();
    }

    pub fn save_npz(&self, name: &str, arrays: Vec<(&str, TensorData)>) {
        let arrays: TensorMap = arrays.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
        npz::write(self.path(name), &arrays).unwrap();
    }

    /// A folder of images in two classes, bright above and bright below, never two the same.
    pub fn save_images(&self, name: &str, channels: usize, size: usize, count: usize) {
        for index in 0..count {
            let class = index % 2;
            let folder = self.path(name).join(["above", "below"][class]);
            std::fs::create_dir_all(&folder).unwrap();
            let pixel = |i: usize| {
                let bright = (i / size % size < size / 2) == (class == 0);
                let noise = (i * 31 + index * 17 + i * index * 7) % 60;
                (noise + if bright { 180 } else { 20 }) as u8
            };
            let pixels: Vec<u8> = (0..channels * size * size).map(pixel).collect();
            png::write(folder.join(format!("{index:04}.png")), &pixels, channels, size, size).unwrap();
        }
    }

    /// Inception with weights that are the same everywhere and mean nothing.
    pub fn save_inception(&self, name: &str) {
        let mut seed = 1u32;
        let mut unit = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let tensors = inception::tensor_shapes().unwrap().into_iter().map(|(name, shape)| {
            let fan_in: usize = shape[1..].iter().product();
            let scale = if shape.len() > 1 { 1.6 * (3.0 / fan_in as f32).sqrt() } else { 0.1 };
            let offset = if name.ends_with("bn.weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| offset + scale * unit()).collect();
            let tensor = TensorData::from_f32(&shape, &values).unwrap();
            (name, tensor)
        });
        let weights = inception::Weights::from_tensors(&tensors.collect()).unwrap();
        std::fs::write(self.path(name), weights.to_bytes().unwrap()).unwrap();
    }

    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
        // One thread: many of these run side by side.
        command
            .args(args)
            .current_dir(self.0.path())
            .env("OMP_NUM_THREADS", "1")
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR");
        let output = command.envs(env.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let run =
            Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "escape codes outside a terminal: {args:?}"
        );
        run
    }

    /// Runs the program, which must succeed; its stdout.
    #[track_caller]
    pub fn succeeds(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        run.stdout
    }

    /// As [`Place::succeeds`], with `--json`.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[args, &["--json"]].concat())).unwrap()
    }

    /// A JSON file.
    #[track_caller]
    pub fn read_json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// Runs the program, which must fail with exit code 1, one line on stderr, nothing on stdout, and every file as it was
    /// before; the line.
    #[track_caller]
    pub fn fails(&self, args: &[&str]) -> String {
        let before = self.files();
        let run = self.run(args);
        assert_eq!(run.code, 1, "{args:?}: {}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        let line = run.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{args:?}: {}", run.stderr));
        assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
        assert!(before == self.files(), "{args:?} changed files");
        line.trim_end().to_owned()
    }

    /// Every file, with its contents.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    found.insert(path.clone(), Vec::new());
                    walk(&path, found);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.0.path(), &mut found);
        found
    }

    /// The only folder in a folder.
    pub fn folder_in(&self, name: &str) -> String {
        let is_folder = |inner: &String| self.path(name).join(inner).is_dir();
        self.list(name).into_iter().find(is_folder).unwrap_or_else(|| panic!("no folder in {name}"))
    }

    /// Names in a folder, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let entries = self.path(name).read_dir().unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A network of a few thousand weights.
pub fn tiny_model(channels: i64, label_dim: i64) -> Model {
    let network = SongConfig {
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![4],
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: SIZE as i64,
        img_channels: channels,
        label_dim,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(network),
    };
    Model::fresh(config, 3, Device::Cpu).unwrap()
}

/// The version and hashes differ from build to build.
pub fn steady(text: &str) -> String {
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            digits.push(c);
            continue;
        }
        out += if matches!(digits.len(), 12 | 64) { "HASH" } else { &digits };
        digits.clear();
        out.push(c);
    }
    out.trim_end().to_owned()
}

/// A file of the repository's test data.
pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

/// Reference inputs and outputs, if they are on this machine.
pub fn goldens() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    if path.is_dir() {
        return Some(path.canonicalize().unwrap());
    }
    eprintln!("skipped: no goldens at {}", path.display());
    None
}

/// Largest difference, relative to the largest absolute value expected.
pub fn relative_error(found: &TensorData, expected: &TensorData) -> f64 {
    assert_eq!(found.shape, expected.shape);
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let scale = expected.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    found.iter().zip(&expected).fold(0.0, |max: f64, (a, b)| max.max((a - b).abs())) / scale
}
