//! `fewstep data`: a folder of pictures of any sizes as a data set of squares.

use std::path::PathBuf;

use anyhow::Result;
use fewstep::data::prepare;
use fewstep_io::dataset::PrepareOptions;
use serde_json::json;

use crate::inputs::{check_extension, check_new_file};
use crate::ui::{Output, Terminal};

/// Arguments of `fewstep data`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep data photos/ --size 64 --out photos-64.zip")]
pub struct Args {
    /// Folder of PNG and JPEG pictures, searched through; subfolders are classes
    #[arg(value_name = "FOLDER")]
    pub pictures: PathBuf,
    /// Height and width of the images: each picture's middle square is resized to it
    #[arg(long, value_name = "PIXELS")]
    pub size: usize,
    /// Where to: a .zip in the layout of EDM's data-set tool
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Grey images instead of colour
    #[arg(long)]
    pub grey: bool,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
}

/// Packs the pictures.
pub fn run(args: Args, output: Output, terminal: &Terminal) -> Result<()> {
    check_extension(&args.out, "zip")?;
    let out = check_new_file(&args.out, args.overwrite)?;
    let options = PrepareOptions { size: args.size, grey: args.grey };
    let made = prepare(&args.pictures, out, options, terminal)?;
    let (place, size) = (args.out.display().to_string(), args.size);
    let value =
        json!({ "out": place, "images": made.images, "classes": made.classes, "names": made.names, "size": size });
    output.result(&value, || {
        let names = made.names.iter().take(20).enumerate().map(|(class, name)| format!("{class} {name}"));
        let names: Vec<String> = names.collect();
        let more = if made.names.len() > names.len() { ", ..." } else { "" };
        let names = if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) };
        let classes = if made.classes > 0 { format!(" in {} classes{names}", made.classes) } else { String::new() };
        format!("{place}: {} images of {size}x{size}{classes}", made.images)
    })
}
