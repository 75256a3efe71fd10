//! Feature networks as they are named on the command line.

use std::path::PathBuf;

use fewstep::features::FeatureOptions;
use fewstep_eval::features::Convention;

/// What turns images into features.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Features")]
pub struct FeatureArgs {
    /// Feature network: .safetensors, Inception's .pth; PROGRAM@bytes[+return_features] runs TorchScript [default: Fashion-MNIST's]
    #[arg(long, value_name = "FILE")]
    pub features: Option<String>,
}

impl FeatureArgs {
    /// As the library takes it.
    pub fn options(&self, convention: Convention) -> FeatureOptions {
        match &self.features {
            Some(name) => FeatureOptions::named(name, convention),
            None => FeatureOptions { convention, ..FeatureOptions::file(None) },
        }
    }
}

/// Feature networks of these names, as the library takes them.
pub fn feature_options(names: &[String], convention: Convention) -> Vec<FeatureOptions> {
    names.iter().map(|name| FeatureOptions::named(name, convention)).collect()
}

/// Feature networks that score images, and what they should be.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Score")]
pub struct ScoreArgs {
    /// Feature networks that score images, as for `eval` [default for built-in models: their own]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
    /// What images should be: a data set, or statistics of each feature network (`fewstep ref`)
    #[arg(long = "ref", value_name = "LIST", value_delimiter = ',')]
    pub references: Vec<PathBuf>,
}

impl ScoreArgs {
    /// The feature networks, as the library takes them.
    pub fn options(&self, convention: Convention) -> Vec<FeatureOptions> {
        feature_options(&self.features, convention)
    }
}
