//! The commands that are ended, on inputs of seconds.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use super::Place;

/// A command.
pub struct Subject {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, but for `--out`.
    args: &'static str,
    /// What it leaves: a folder, or a file.
    pub output: &'static str,
    /// Whether it can go on; the others are started anew.
    resumes: bool,
}

/// Every command that writes, and `sample` into a file, and `reproduce` where it makes figures.
pub const COMMANDS: [Subject; 11] = [
    Subject {
        name: "train",
        args: "train --data small.zip --channels 8 --channel-mult 1 --blocks 1 --batch 8 --augment 0 --images 64 --set output.save_every=16 \
               --set output.grid_every=32",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "plan",
        args: "plan gaussian-mixture --steps 2-3 --method least-squares --set search.teacher.samples=8 --set held_out.samples=8",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "tune",
        args: "tune model.safetensors --plan plan.json --updates 12 --set tune.trajectories=8 --set tune.batch=4 --set \
               held_out.samples=4 --set tune.check_every=4",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "fit",
        args: "fit model.safetensors --steps 2,3 --method least-squares --updates 6 --set tune.trajectories=8 --set tune.batch=4 --set \
               held_out.samples=4 --set search.teacher.samples=8",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "compare",
        args: "compare gaussian-mixture --steps 2,3 --methods karras/euler,gits@1.15/euler --images 4 --set held_out=2 --set \
               search.teacher.samples=4 --set search.gits={samples=4,grid=7} --set teacher_steps=3",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "reproduce",
        args: "reproduce model.safetensors --experiment table1 --data small.zip --features features.safetensors --ref \
               reference.npz --steps 3 --rows baseline,phase1,ours --set seeds.images=4 \
               --set seeds.ranges=1 --set fit.held_out.samples=4 --set fit.paper.iterations=4 --set fit.paper.batch=4 --set \
               fit.paper.check_every=2 --set fit.search.teacher.samples=8 --set method=least-squares",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "figures",
        args: "reproduce model.safetensors --experiment objectives --data small.zip --features features.safetensors --ref \
               reference.npz --steps 3 --set seeds.images=4 --set seeds.ranges=1 --set fit.held_out.samples=4 --set \
               fit.paper.iterations=4 --set fit.paper.batch=4 --set fit.paper.check_every=2",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "sample",
        args: "sample gaussian-mixture --steps 2 --seeds 0-149 --batch 10",
        output: "out",
        resumes: true,
    },
    Subject {
        name: "sample-file",
        args: "sample gaussian-mixture --steps 2 --seeds 0-149 --batch 10",
        output: "out.npz",
        resumes: false,
    },
    Subject { name: "data", args: "data images --size 8 --grey", output: "out.zip", resumes: false },
    Subject {
        name: "ref",
        args: "ref --data small.zip --features features.safetensors",
        output: "out.npz",
        resumes: false,
    },
];

impl Subject {
    /// Its arguments.
    pub fn args(&self, resume: bool) -> Vec<String> {
        let mut args: Vec<String> = self.args.split_whitespace().map(str::to_owned).collect();
        args.extend(["--out".to_owned(), self.output.to_owned()]);
        if resume {
            args.push("--resume".to_owned());
        } else if !self.resumes {
            args.push("--overwrite".to_owned()); // the kill may have come after all was done
        }
        args
    }

    /// Whether a run that was ended goes on, or starts again because it had not written what it is. (What it has written may lie there
    /// under a hidden name.)
    pub fn goes_on(&self, place: &Place) -> bool {
        self.begun(place).is_some()
    }

    /// When a run that can go on wrote what it is, if it came so far.
    pub fn begun(&self, place: &Place) -> Option<SystemTime> {
        let file = place.folder.join(self.output).join("run.json");
        file.metadata().and_then(|found| found.modified()).ok().filter(|_| self.resumes)
    }

    /// What lies beside the output and the inputs, which are links.
    pub fn strays(&self, place: &Place) -> Result<Vec<String>> {
        let entries = fs::read_dir(&place.folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let names = entries.iter().filter(|entry| !entry.path().is_symlink()).map(|entry| entry.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name != self.output).collect())
    }

    /// Removes what a run left.
    pub fn remove_output(&self, place: &Place) -> Result<()> {
        let path = place.folder.join(self.output);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// Makes what the commands take: pictures, a network and a plan.
pub fn prepare(root: &Path, place: &Place) -> Result<()> {
    let images = place.folder.join("images");
    let mut pictures: Vec<_> =
        fs::read_dir(root.join("testdata/metrics/grey_a"))?.flatten().map(|entry| entry.path()).collect();
    pictures.sort();
    for (index, path) in pictures.iter().enumerate() {
        // two classes, which a feature network learns
        let class = images.join(["a", "b"][index % 2]);
        fs::create_dir_all(&class)?;
        fs::copy(path, class.join(path.file_name().unwrap_or_default()))?;
    }
    let run = |args: &str| -> Result<()> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let output = place.command(&args).output().context("cannot start the program")?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run("data images --size 8 --grey --out small.zip")?;
    run("features --data small.zip --epochs 1 --batch 5 --out features.safetensors")?;
    run("ref --data small.zip --features features.safetensors --out reference.npz")?;
    run(
        "train --data small.zip --channels 8 --channel-mult 1 --blocks 1 --batch 8 --images 64 --set output.grid_every=0 --out trained",
    )?;
    fs::copy(place.folder.join("trained/model.safetensors"), place.folder.join("model.safetensors"))?;
    run("plan model.safetensors --steps 3 --method karras/euler --set held_out.samples=4 --out planned")?;
    fs::copy(place.folder.join("planned/steps-003/plan.json"), place.folder.join("plan.json"))?;
    for folder in ["trained", "planned"] {
        fs::remove_dir_all(place.folder.join(folder))?;
    }
    Ok(())
}
