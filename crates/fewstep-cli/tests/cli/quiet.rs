//! No command opens a socket or starts a process. The kernel ends at once whoever tries.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output};

use fewstep_io::tensors::TensorData;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::help::COMMANDS;
use crate::support::{Place, SIZE, testdata};

const THREAD: u64 = libc::CLONE_THREAD as u64;

fn compiled(calls: Vec<(i64, Vec<SeccompRule>)>, on_match: SeccompAction) -> BpfProgram {
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(calls.into_iter().collect(), SeccompAction::Allow, on_match, architecture)
        .unwrap()
        .try_into()
        .unwrap()
}

/// Runs a program that may neither open a socket nor start a process; threads are allowed.
fn alone(command: &mut Command) -> Output {
    let process = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(THREAD), 0).unwrap();
    let mut calls = vec![
        (libc::SYS_socket, vec![]),
        (libc::SYS_connect, vec![]),
        (libc::SYS_clone, vec![SeccompRule::new(vec![process]).unwrap()]),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_fork, vec![]), (libc::SYS_vfork, vec![])]);
    let refused = compiled(calls, SeccompAction::KillProcess);
    // its flags lie in memory, where a filter does not see them; without it libraries take clone
    let not_there = compiled(vec![(libc::SYS_clone3, vec![])], SeccompAction::Errno(libc::ENOSYS as u32));
    let refuse = move || {
        for filter in [&not_there, &refused] {
            apply_filter(filter).map_err(std::io::Error::other)?;
        }
        Ok(())
    };
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only system calls are made; the filters were compiled before.
    unsafe {
        command.pre_exec(refuse)
    };
    command.output().unwrap()
}

const ASKED: &str = "FEWSTEP_TEST_SOCKET";

/// What a program of these tests does that is to be ended for it.
#[test]
fn child_that_opens_a_socket() {
    if std::env::var_os(ASKED).is_some() {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    }
}

/// The filter ends whoever does either, and nobody else.
#[test]
fn whoever_opens_a_socket_or_starts_a_process_is_ended() {
    let shell = alone(Command::new("sh").args(["-c", "true | true"]));
    assert!(shell.status.signal() == Some(libc::SIGSYS) || !shell.status.success(), "the filter lets a process start");
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["quiet::child_that_opens_a_socket", "--exact", "--nocapture"]);
        child
    };
    assert!(child().env(ASKED, "1").output().unwrap().status.success(), "sockets cannot be had here at all");
    assert!(alone(&mut child()).status.success(), "the filter ends those that do nothing");
    assert_eq!(alone(child().env(ASKED, "1")).status.signal(), Some(libc::SIGSYS), "the filter lets a socket open");
}

#[test]
fn no_command_opens_a_socket_or_starts_a_process() {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    std::fs::copy(testdata("edm_networks/small_adm.pkl"), place.path("network.pkl")).unwrap();
    let pixels = TensorData::from_f32(&[2, 1, SIZE, SIZE], &[0.5; 2 * SIZE * SIZE]).unwrap();
    place.save_npz("noisy.npz", vec![("x", pixels), ("sigma", TensorData::from_f32(&[2], &[1.0, 2.0]).unwrap())]);
    let lines = [
        "info model.safetensors",
        "import network.pkl --out imported.safetensors",
        "denoise model.safetensors noisy.npz --out denoised.npz",
        "features --data images --epochs 1 --batch 4 --out features.safetensors",
        "fit model.safetensors --steps 2 --method least-squares --updates 1 --set tune.trajectories=4 --set tune.batch=2 --set \
         held_out.samples=2 --set search.teacher.samples=4 --out fitted",
        "train --data images --channels 8 --channel-mult 1 --blocks 1 --batch 8 --images 8 --set output.grid_every=0 --out trained",
        "plan gaussian-mixture --steps 2 --method least-squares --set search.teacher.samples=4 --set held_out.samples=2 --out plans",
        "tune model.safetensors --steps 2 --method karras/euler --updates 1 --set tune.trajectories=4 --set tune.batch=2 --set \
         held_out.samples=2 --out tuned",
        "sample gaussian-mixture --plan plans/steps-002/plan.json --seeds 0-3 --out samples",
        "sample gaussian-mixture --steps 2 --seeds 0-3 --out grid.png",
        "data images --size 8 --grey --out images.zip",
        "ref --data images.zip --pad-to 32 --out ref.npz",
        "eval samples --ref ref.npz --metrics fid",
        "compare gaussian-mixture --steps 2 --methods karras/euler --images 4 --set held_out=2 --set search.teacher.samples=4 --out c",
        "reproduce model.safetensors --experiment fig3 --data images --steps 2 --set fit.held_out.samples=2 --set fit.paper.iterations=1 \
         --set fit.paper.batch=2 --out levels",
        "demo gaussian-mixture --steps 2 --images 2 --out demo",
        "export plans/steps-002/plan.json --to python --out sampler.py",
        "report plans",
        "info plans",
        "completions bash",
        "man --out pages",
        "--licenses",
    ];
    for command in COMMANDS {
        let is_run = lines.iter().any(|line| line.split_whitespace().next() == Some(command));
        assert!(is_run, "{command} is not tried here: give it a line");
    }
    for line in lines {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fewstep"));
        command.args(line.split_whitespace()).current_dir(place.path(".")).env("OMP_NUM_THREADS", "1");
        let output = alone(&mut command);
        assert!(output.status.success(), "{line}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}
