//! Tests with small wheels made on the spot: no network.

use super::extract::extract;
use super::fetch::{obtain, verify};
use super::wheels::{Part, Wheel, select};
use super::{check, fetch};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// Writes a wheel with these members, each holding its own name many times over.
fn make_wheel(path: &Path, members: &[&str]) {
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for name in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(name.repeat(200).as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

fn sha256(bytes: &[u8]) -> &'static str {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    hash.leak()
}

fn pinned(sha256: &'static str) -> Wheel {
    Wheel { file: "small_thing-1.2.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", sha256, megabytes: 1 }
}

fn names_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_wheel_name_says_what_to_ask_pip_for() {
    let wheel = pinned("");
    assert_eq!(wheel.requirement().unwrap(), "small-thing==1.2.3");
    let tags = wheel.tags().unwrap();
    assert_eq!((tags.implementation, tags.abi, tags.platform), ("py", "none", "manylinux2014_x86_64"));
}

#[test]
fn every_machine_has_every_wheel_and_every_pin_is_a_hash() {
    for part in [Part::Cpu, Part::Cuda] {
        let names = |machine| -> Vec<String> {
            select(part, machine).iter().map(|wheel| wheel.requirement().unwrap()).collect()
        };
        assert_eq!(names("x86_64"), names("aarch64"));
        for wheel in select(part, "x86_64").iter().chain(&select(part, "aarch64")) {
            assert!(
                wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{}",
                wheel.file
            );
        }
    }
    assert_eq!(select(Part::Cpu, "x86_64").len(), 3);
}

#[test]
fn only_the_cpp_files_of_the_asked_part_are_unpacked() {
    let home = TempDir::new().unwrap();
    let wheel = home.path().join("w.whl");
    make_wheel(
        &wheel,
        &[
            "torch/__init__.py",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libgomp.so.1",
            "torch/lib/libtorch_python.so",
            "torch/lib/libtorch_cuda.so",
            "torch/lib/libshm/err.h",
            "torch/include/torch/csrc/api/include/torch/torch.h",
            "nvidia/cu13/lib/libcudart.so.13",
            "nvidia/cu13/lib/libcublas.so.13",
            "nvidia/cu13/include/cublas.h",
            "torch/_C.cpython-312-x86_64-linux-gnu.so",
        ],
    );
    let (cpu, cuda) = (home.path().join("a"), home.path().join("b"));
    extract(&wheel, &cpu, Part::Cpu).unwrap();
    extract(&wheel, &cuda, Part::Cuda).unwrap();
    let header = "include/torch/csrc/api/include/torch/torch.h";
    assert_eq!(names_below(&cpu), [header, "lib/libcudart.so.13", "lib/libgomp.so.1", "lib/libtorch_cpu.so"]);
    assert_eq!(names_below(&cuda), ["cuda/include/cublas.h", "cuda/libcublas.so.13", "cuda/libtorch_cuda.so"]);
    let text = fs::read_to_string(cpu.join("lib/libgomp.so.1")).unwrap();
    assert_eq!(text, "torch/lib/libgomp.so.1".repeat(200));
}

#[test]
fn paths_that_lead_out_of_the_folder_are_refused() {
    for trick in
        ["../evil.so", "torch/include/../../../evil.h", "/torch/lib/libevil.so", "torch/include/..\\..\\evil.h"]
    {
        let home = TempDir::new().unwrap();
        let wheel = home.path().join("w.whl");
        make_wheel(&wheel, &[trick]);
        let error = extract(&wheel, &home.path().join("out"), Part::Cpu).unwrap_err().to_string();
        assert!(error.contains("no wheel should"), "{trick}: {error}");
        assert_eq!(names_below(home.path()), ["w.whl"], "{trick}");
    }
}

#[test]
fn a_symbolic_link_in_a_wheel_is_refused() {
    let home = TempDir::new().unwrap();
    let wheel = home.path().join("w.whl");
    let mut writer = ZipWriter::new(File::create(&wheel).unwrap());
    writer.add_symlink("torch/lib/libtorch_cpu.so", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    writer.finish().unwrap();
    assert!(extract(&wheel, &home.path().join("out"), Part::Cpu).is_err());
    assert_eq!(names_below(home.path()), ["w.whl"]);
}

#[test]
fn a_truncated_wheel_is_refused() {
    let home = TempDir::new().unwrap();
    let wheel = home.path().join("w.whl");
    make_wheel(&wheel, &["torch/lib/libtorch_cpu.so"]);
    let whole = fs::read(&wheel).unwrap();
    let pin = pinned(sha256(&whole));
    verify(&pin, &wheel).unwrap();
    fs::write(&wheel, &whole[..whole.len() / 2]).unwrap();
    let error = verify(&pin, &wheel).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains(pin.sha256), "{error}");
    let error = extract(&wheel, &home.path().join("out"), Part::Cpu).unwrap_err().to_string();
    assert!(error.contains("not a whole wheel"), "{error}");
}

#[test]
fn a_wrong_hash_is_tried_again_and_then_given_up_with_nothing_left() {
    let home = TempDir::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let fetch: Box<fetch::Fetch> = Box::new(move |wheel, folder| {
        seen.set(seen.get() + 1);
        Ok(fs::write(folder.join(wheel.file), b"something else")?)
    });
    let error = format!("{:#}", obtain(&pinned(sha256(b"the wheel")), home.path(), &fetch).unwrap_err());
    assert!(error.contains("small-thing==1.2.3") && error.contains("SHA-256"), "{error}");
    assert_eq!(count.get(), 3);
    assert!(names_below(home.path()).is_empty());
}

#[test]
fn a_fetch_goes_on_after_a_failure_and_keeps_what_came_whole() {
    let home = TempDir::new().unwrap();
    let wheel = pinned(sha256(b"the wheel"));
    let tries = Cell::new(0);
    let fetch: Box<fetch::Fetch> = Box::new(move |wheel, folder| {
        tries.set(tries.get() + 1);
        if tries.get() == 1 {
            anyhow::bail!("the line was cut");
        }
        Ok(fs::write(folder.join(wheel.file), b"the wheel")?)
    });
    let kept = obtain(&wheel, home.path(), &fetch).unwrap();
    let never: Box<fetch::Fetch> = Box::new(|_, _| panic!("a kept wheel is not fetched again"));
    assert_eq!(obtain(&wheel, home.path(), &never).unwrap(), kept);
    fs::write(&kept, b"the whe").unwrap();
    let again: Box<fetch::Fetch> = Box::new(|wheel, folder| Ok(fs::write(folder.join(wheel.file), b"the wheel")?));
    obtain(&wheel, home.path(), &again).unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"the wheel");
}

/// A folder that looks like a libtorch of this version, which its header states.
fn fake_libtorch(minor: u32) -> TempDir {
    let home = TempDir::new().unwrap();
    let header =
        format!("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH 0\n");
    let files = [
        ("lib/libtorch_cpu.so", ""),
        ("include/torch/csrc/api/include/torch/torch.h", ""),
        ("include/torch/headeronly/version.h", header.as_str()),
    ];
    for (name, text) in files {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

#[test]
fn a_libtorch_of_the_right_version_is_taken() {
    let own = fake_libtorch(11);
    check::libtorch(own.path(), false).unwrap();
    fs::write(own.path().join("build-version"), "2.11.0+cpu\n").unwrap();
    check::libtorch(own.path(), false).unwrap();
}

#[test]
fn a_libtorch_that_does_not_fit_is_explained() {
    let says = |folder: &Path, cuda: bool| check::libtorch(folder, cuda).unwrap_err().to_string();
    assert!(says(fake_libtorch(10).path(), false).contains("is version 2.10.0 and this project needs 2.11.0"));
    let own = fake_libtorch(11);
    assert!(says(own.path(), true).contains("without CUDA"));
    fs::write(own.path().join("build-version"), "2.9.1\n").unwrap();
    assert!(says(own.path(), false).contains("2.9.1"));
    fs::remove_file(own.path().join("lib/libtorch_cpu.so")).unwrap();
    assert!(says(own.path(), false).contains("no lib/libtorch_cpu.so"));
    assert!(says(Path::new("libtorch"), false).contains("whole path"));
}

#[test]
fn scratch_of_finished_processes_is_removed_and_of_running_ones_kept() {
    let home = TempDir::new().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = home.path().join(format!("unpack-{}.tmp", child.id()));
    child.wait().unwrap();
    let running = home.path().join(super::scratch_name());
    for folder in [&gone, &running, &home.path().join("download"), &home.path().join("lib")] {
        fs::create_dir_all(folder.join("deep")).unwrap();
    }
    super::remove_leftovers(home.path()).unwrap();
    assert!(!gone.exists() && running.exists() && home.path().join("lib").exists());
}
