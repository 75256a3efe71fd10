//! Programs of other people's that tasks use, installed into `target/tools` the first time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::tasks;

/// A program from crates.io.
pub struct Tool {
    pub name: &'static str,
    pub version: &'static str,
    /// Options of `cargo install`.
    pub how: &'static [&'static str],
}

/// Builds the fuzz targets.
pub const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.1", how: &[] };

/// Checks dependencies. Without optimisation, which takes longer than all that it does.
pub const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", how: &["--debug", "--no-default-features"] };

/// Makes a site of the documents. Without optimisation, as above, and without its server.
pub const MDBOOK: Tool = Tool { name: "mdbook", version: "0.5.4", how: &["--debug", "--no-default-features"] };

impl Tool {
    /// The folder of the program.
    pub fn folder(&self, root: &Path) -> Result<PathBuf> {
        let folder = tasks::target(root).join("tools").join(format!("{}-{}", self.name, self.version));
        let bin = folder.join("bin");
        if !bin.join(self.name).exists() {
            let mut install = tasks::cargo(root);
            install.args(["install", "--locked", "--quiet", "--version", self.version, self.name]).args(self.how);
            install.arg("--root").arg(&folder);
            let done = install.status().context("cannot start cargo")?.success();
            ensure!(done, "{} {} could not be installed", self.name, self.version);
        }
        Ok(bin)
    }
}
