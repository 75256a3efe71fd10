//! The three forms in which images leave.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use fewstep_io::dataset::Images;
use fewstep_io::tensors::{Dtype, TensorData, TensorMap};
use fewstep_io::{npz, png};
use fewstep_nn::Model;
use fewstep_nn::tch::{Kind, Tensor};

use super::Args;
use super::folder::{SampleFolder, Settings};
use crate::inputs::{FloatRange, Latents, RANGE, check_new_file, has_extension};
use crate::pixels;

/// White pixels between the images of a grid.
const GAP: usize = 2;
/// What nobody means as the name of a folder.
const OTHER_FILES: [&str; 6] = ["jpg", "jpeg", "webp", "gif", "npy", "zip"];

/// What the name of the output asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One PNG an image.
    Folder,
    /// All images in one PNG.
    Grid,
    /// Arrays.
    Npz,
}

impl Form {
    /// The form, where the options fit it.
    pub fn of(args: &Args) -> Result<Self> {
        let form = match args.out() {
            out if has_extension(out, "png") => Self::Grid,
            out if has_extension(out, "npz") => Self::Npz,
            _ => Self::Folder,
        };
        let belongs = |given: bool, option: &str, to: Self, what: &str| {
            ensure!(!given || form == to, "{option} is for {what}, and --out {} is none", args.out().display());
            Ok(())
        };
        belongs(args.subdirs, "--subdirs", Self::Folder, "a folder of PNGs")?;
        belongs(args.resume, "--resume", Self::Folder, "a folder of PNGs")?;
        belongs(args.columns.is_some(), "--columns", Self::Grid, "a .png grid")?;
        belongs(args.show, "--show", Self::Grid, "a .png grid")?;
        belongs(args.raw, "--raw", Self::Npz, "an .npz file")?;
        let other = OTHER_FILES.iter().find(|extension| has_extension(args.out(), extension));
        if let Some(extension) = other {
            bail!("images are not written as .{extension}: let --out be a folder, or end in .png or .npz");
        }
        ensure!(
            form != Self::Folder || !args.out().is_file(),
            "--out {} is a file: name a folder, or let the name end in .png or .npz",
            args.out().display()
        );
        ensure!(args.columns != Some(0), "--columns must be at least 1");
        Ok(form)
    }
}

/// Takes images and leaves them on disk.
#[derive(Debug)]
pub enum Target {
    /// Each image is written as it comes.
    Folder(SampleFolder),
    /// Images are held until all are there.
    File(Collected),
}

/// Images in memory and the file that they will be.
#[derive(Debug)]
pub struct Collected {
    path: PathBuf,
    form: Form,
    /// u8 pixels, or f32 values where `raw`.
    raw: bool,
    bytes: Vec<u8>,
    shape: [usize; 3],
    columns: Option<usize>,
    seeds: Option<Vec<i64>>,
    classes: Vec<i64>,
}

impl Target {
    /// Makes sure of the place before any image is made.
    pub fn open(form: Form, args: &Args, model: &Model, latents: &Latents, settings: Settings) -> Result<Self> {
        let shape = model.image_shape().map(|size| size as usize);
        ensure!(
            form == Form::Npz || matches!(shape[0], 1 | 3),
            "the model makes images of {} channels, and PNG holds 1 or 3: write an .npz file",
            shape[0]
        );
        if form == Form::Folder {
            return Ok(Self::Folder(SampleFolder::open(args, settings)?));
        }
        check_new_file(args.out(), args.overwrite)?;
        let seeds = match latents {
            Latents::Seeds { seeds, .. } => Some(seeds.iter().map(|&seed| seed as i64).collect()),
            Latents::Given { .. } => None,
        };
        let size = shape.iter().product::<usize>() * if args.raw { size_of::<f32>() } else { 1 };
        let mut bytes = Vec::new();
        let room = size.checked_mul(latents.len()).and_then(|total| bytes.try_reserve_exact(total).ok());
        ensure!(room.is_some(), "{} images do not fit into memory: write a folder", latents.len());
        let classes = latents.classes(model);
        let (path, columns) = (args.out().to_owned(), args.columns);
        Ok(Self::File(Collected { path, form, raw: args.raw, bytes, shape, columns, seeds, classes }))
    }

    /// Whether the image of this number needs not be made.
    pub fn has(&self, number: u64) -> bool {
        matches!(self, Self::Folder(folder) if folder.has(number))
    }

    /// Takes f32 images `[N, C, H, W]` under their numbers.
    pub fn take(&mut self, numbers: &[u64], images: &Tensor) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.take(numbers, &pixels::to_images(images)?),
            Self::File(file) if file.raw => {
                file.bytes.extend(pixels::bytes(&images.to_kind(Kind::Float))?);
                Ok(())
            }
            Self::File(file) => {
                file.bytes.extend(pixels::to_images(images)?.data);
                Ok(())
            }
        }
    }

    /// Leaves nothing half-made where the work failed: a folder without an image goes, one with some says so.
    pub fn abandon(self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Folder(folder) => folder.abandon(error),
            Self::File(_) => error, // nothing was written
        }
    }

    /// Writes what was held back.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Folder(folder) => folder.finish(),
            Self::File(file) if file.form == Form::Grid => file.write_grid(),
            Self::File(file) => file.write_npz(),
        }
    }
}

impl Collected {
    fn write_grid(self) -> Result<()> {
        let [c, h, w] = self.shape;
        let images = Images::new(self.bytes, c, h, w, None)?;
        let square = (images.len() as f64).sqrt().ceil() as usize;
        Ok(png::write_grid(&self.path, &images, self.columns.unwrap_or(square), GAP)?)
    }

    /// `images` `[N, C, H, W]`, `seeds` `[N]`, `classes` `[N]`; where they are floats, `range` `[2]`, their black and white.
    fn write_npz(self) -> Result<()> {
        let [c, h, w] = self.shape;
        let dtype = if self.raw { Dtype::F32 } else { Dtype::U8 };
        let count = self.bytes.len() / (c * h * w * dtype.size());
        let images = TensorData::new(dtype, vec![count, c, h, w], self.bytes)?;
        let mut arrays = TensorMap::from([("images".to_owned(), images)]);
        if self.raw {
            // A sampler's values overshoot the ends, so that they do not tell the range themselves.
            arrays.insert(RANGE.to_owned(), TensorData::from_f32(&[2], &FloatRange::Signed.ends())?);
        }
        let classes = Some(self.classes).filter(|classes| !classes.is_empty());
        for (name, values) in [("seeds", self.seeds), ("classes", classes)] {
            if let Some(values) = values {
                arrays.insert(name.to_owned(), TensorData::from_i64(&[count], &values)?);
            }
        }
        Ok(npz::write(&self.path, &arrays)?)
    }
}
