//! Several processes that share the work of a command: as `torchrun`, Slurm or MPI started them, or started here (`--processes`).

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fewstep_nn::Ranks;
use fewstep_nn::ranks::{Membership, Place};

use crate::{interrupt, ui};

/// Seconds that processes wait for one another, as it was typed.
static PATIENCE: AtomicU64 = AtomicU64::new(DEFAULT_PATIENCE);

/// What they wait if nothing is typed: PyTorch's half an hour.
pub const DEFAULT_PATIENCE: u64 = 1800;

/// Says how many seconds processes wait for one another.
pub fn wait_for(seconds: u64) -> Result<()> {
    ensure!(seconds > 0, "--timeout must be at least 1");
    PATIENCE.store(seconds, Ordering::SeqCst);
    Ok(())
}

/// Joins the others, the first time that it is asked; this process by itself where it was not started with others.
pub fn join() -> Result<Ranks> {
    JOINED.with(|joined| {
        if let Some(ranks) = joined.get() {
            return Ok(ranks.clone());
        }
        let ranks = match started()? {
            Some(started) => Ranks::join(&started.membership)?,
            None => Ranks::alone(),
        };
        let command: Vec<String> = std::env::args().skip(1).collect();
        ranks.check_same("version", env!("CARGO_PKG_VERSION"))?;
        ranks.check_same("command line", &format!("{command:?}"))?;
        if !ranks.is_first() {
            ui::hush(); // the first one speaks
        }
        Ok(joined.get_or_init(|| ranks).clone())
    })
}

/// Refuses to be one of several processes: what `command` does is not shared out.
pub fn refuse(command: &str) -> Result<()> {
    ensure!(started()?.is_none(), "`fewstep {command}` does not share its work out: start it as one process");
    Ok(())
}

fn started() -> Result<Option<Started>> {
    started_with(|name| std::env::var(name).ok(), Duration::from_secs(PATIENCE.load(Ordering::SeqCst)))
}

thread_local! {
    /// The processes that this one has joined.
    static JOINED: OnceCell<Ranks> = const { OnceCell::new() };
}

/// The number of this process among those of its machine, where it was started with others: which of its GPUs is its own.
pub fn local_rank() -> Option<usize> {
    started().ok().flatten().map(|started| started.local_rank)
}

/// Says to the others why this process ends; `torchrun` is told, too.
pub fn fail(reason: &str, code: u8) {
    JOINED.with(|joined| {
        if let Some(ranks) = joined.get() {
            ranks.fail(reason, code);
        }
    });
    if let Some(path) = std::env::var_os("TORCHELASTIC_ERROR_FILE") {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let text =
            serde_json::json!({ "message": { "message": reason, "extraInfo": { "timestamp": time.to_string() } } });
        let _ = std::fs::write(path, text.to_string()); // what torchrun shows of it stands on stderr, too
    }
}

/// Waits until all are done: a process that leaves early would look like one that failed.
pub fn leave() -> Result<()> {
    JOINED.with(|joined| joined.get().map_or(Ok(()), |ranks| Ok(ranks.wait()?)))
}

/// How a process was started with others.
#[derive(Debug, PartialEq)]
struct Started {
    membership: Membership,
    local_rank: usize,
}

/// What [`supervise`] tells the processes that it starts.
const RANK: &str = "FEWSTEP_RANK";
const SIZE: &str = "FEWSTEP_PROCESSES";
const MEETING: &str = "FEWSTEP_MEETING";

/// The port where processes meet if nothing else is said: PyTorch's.
const PORT: u16 = 29500;

/// What the environment says of other processes: ours, `torchrun`'s, Slurm's or MPI's variables, in this order; none where there are
/// none.
fn started_with(variable: impl Fn(&str) -> Option<String>, timeout: Duration) -> Result<Option<Started>> {
    let number = |name: &str| -> Result<Option<usize>> {
        let text = variable(name);
        text.map(|text| text.parse().with_context(|| format!("the variable {name} is '{text}', which is no number")))
            .transpose()
    };
    let needed = |name: &str| number(name)?.with_context(|| format!("the variable {name} is missing beside its like"));
    let interface = variable("GLOO_SOCKET_IFNAME").filter(|name| !name.is_empty());
    let address = variable("MASTER_ADDR").filter(|address| !address.is_empty());
    let port = match number("MASTER_PORT")? {
        Some(port) => Some(u16::try_from(port).with_context(|| format!("MASTER_PORT is {port}, which is no port"))?),
        None => None,
    };
    let (rank, size, local_rank, place, name) = if let Some(meeting) = variable(MEETING) {
        let rank = needed(RANK)?;
        (rank, needed(SIZE)?, rank, Place::File(PathBuf::from(meeting)), String::new())
    } else if let (Some(rank), Some(size), Some(host), Some(port)) =
        (number("RANK")?, number("WORLD_SIZE")?, address.clone(), port)
    {
        let is_open = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        // a run that torchrun starts again meets anew
        let parts =
            ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"].map(|name| variable(name).unwrap_or_default());
        (rank, size, number("LOCAL_RANK")?.unwrap_or(rank), Place::Port { host, port, is_open }, parts.join("/"))
    } else if let (Some(rank), Some(size), Some(nodes)) =
        (number("SLURM_PROCID")?, number("SLURM_STEP_NUM_TASKS")?, variable("SLURM_STEP_NODELIST"))
    {
        let step = ["SLURM_JOB_ID", "SLURM_STEP_ID"].map(|name| variable(name).unwrap_or_default()).join(".");
        let hash = step.bytes().fold(0u16, |hash, byte| hash.wrapping_mul(31).wrapping_add(u16::from(byte)));
        let host = address.unwrap_or_else(|| first_of(&nodes));
        let port = port.unwrap_or(20_000 + hash % 20_000);
        let local_rank = number("SLURM_LOCALID")?.unwrap_or(rank);
        (rank, size, local_rank, Place::Port { host, port, is_open: false }, step)
    } else if let Some(names) = MPI.iter().find(|names| variable(names[0]).is_some() && variable(names[1]).is_some()) {
        let (rank, size) = (needed(names[0])?, needed(names[1])?);
        let (local_rank, local_size) = (number(names[2])?.unwrap_or(rank), number(names[3])?);
        let host = match address {
            Some(address) => address,
            None if local_size == Some(size) || size == 1 => "127.0.0.1".to_owned(),
            None => bail!(
                "mpirun started {size} processes on several machines: say where the first of them is with MASTER_ADDR (and MASTER_PORT)"
            ),
        };
        (rank, size, local_rank, Place::Port { host, port: port.unwrap_or(PORT), is_open: false }, "mpi".to_owned())
    } else {
        return Ok(None);
    };
    if size <= 1 {
        return Ok(None);
    }
    ensure!(rank < size, "this is said to be process {rank} of {size}: they count from 0");
    let membership = Membership { rank, size, place, name: format!("fewstep/{name}"), interface, timeout };
    Ok(Some(Started { membership, local_rank }))
}

/// Rank, number, rank and number on the same machine, by Open MPI, and by MPICH and those that come from it.
const MPI: [[&str; 4]; 2] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"],
];

/// The first machine of a list as Slurm writes it: `n1,n2`, `n[03-07,09]`, `n[3,5].example`.
fn first_of(nodes: &str) -> String {
    let end = nodes.find([',', '[']).unwrap_or(nodes.len());
    let (name, rest) = nodes.split_at(end);
    let Some((numbers, suffix)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return name.to_owned();
    };
    let first = numbers.split(['-', ',']).next().unwrap_or_default();
    format!("{name}{first}{}", suffix.split(',').next().unwrap_or_default())
}

/// How many processes this one starts, of those that were `asked` for: none where it is one of them.
pub fn to_start(asked: Option<usize>) -> Result<Option<usize>> {
    let Some(processes) = asked.filter(|_| std::env::var_os(MEETING).is_none()) else { return Ok(None) };
    ensure!(processes > 0, "--processes must be at least 1");
    ensure!(
        processes == 1 || started()?.is_none(),
        "--processes starts processes on this machine, and this one was started with others already: leave it out"
    );
    Ok((processes > 1).then_some(processes))
}

/// How long the others have to end by themselves once one has failed: they hear of it.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);

/// Starts so many of this program with the same arguments, waits for them, and returns the exit code: that of the first that failed. What
/// asks this process to end asks all of them.
pub fn supervise(args: &[OsString], processes: usize) -> Result<u8> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _listener = interrupt::listen();
    let mut running = Vec::new();
    for rank in 0..processes {
        let mut command = Command::new(&program);
        command.args(args.iter().skip(1));
        command.env(RANK, rank.to_string()).env(SIZE, processes.to_string());
        command.env(MEETING, folder.path().join("meeting"));
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", (cores / processes).max(1).to_string());
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0); // signals from a terminal come through this one
        running.push((rank, command.spawn().with_context(|| format!("cannot start process {rank}"))?));
    }
    let (mut code, mut failed, mut asked) = (0, None::<Instant>, false);
    while !running.is_empty() {
        if interrupt::asked() && !asked {
            asked = true;
            running.iter().for_each(|(_, child)| ask_to_end(child));
        }
        let mut going_on = Vec::new();
        for (rank, mut child) in running {
            match child.try_wait().with_context(|| format!("cannot wait for process {rank}"))? {
                None => going_on.push((rank, child)),
                Some(status) if status.success() => {}
                Some(status) => {
                    if failed.is_none() {
                        code = code_of(status);
                        if let Some(how) = killed_by(status) {
                            ui::note(format!("process {rank} of {processes} was killed by {how}"));
                        }
                    }
                    failed.get_or_insert_with(Instant::now);
                }
            }
        }
        running = going_on;
        if failed.is_some_and(|since| since.elapsed() > GRACE) {
            running.iter_mut().for_each(|(_, child)| drop(child.kill()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(code)
}

fn code_of(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128u8.saturating_add(u8::try_from(signal).unwrap_or(0));
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The signal that ended a process, where it was one that nobody asks with.
fn killed_by(status: ExitStatus) -> Option<String> {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let why = if signal == 9 { ", as the system does for want of memory" } else { "" };
        return Some(format!("signal {signal}{why}"));
    }
    let _ = status;
    None
}

#[cfg(unix)]
fn ask_to_end(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::INT); // one that has just ended needs not be asked
    }
}

#[cfg(not(unix))]
fn ask_to_end(_: &Child) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(variables: &[(&str, &str)]) -> Result<Option<Started>> {
        let of = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        started_with(of, Duration::from_secs(5))
    }

    fn place(variables: &[(&str, &str)]) -> (usize, usize, usize, Place, String) {
        let Started { membership: Membership { rank, size, place, name, .. }, local_rank } =
            started(variables).unwrap().unwrap();
        (rank, size, local_rank, place, name)
    }

    fn port(host: &str, port: u16, is_open: bool) -> Place {
        Place::Port { host: host.to_owned(), port, is_open }
    }

    #[test]
    fn processes_are_found_as_they_were_started() {
        assert_eq!(started(&[]).unwrap(), None);
        let torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "n1"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RUN_ID", "none"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
        ];
        assert_eq!(place(&torchrun), (5, 8, 1, port("n1", 1234, true), "fewstep/none/2".to_owned()));
        assert_eq!(place(&torchrun[..5]).3, port("n1", 1234, false));
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "16"),
            ("SLURM_STEP_NODELIST", "gpu[07-08]"),
            ("SLURM_LOCALID", "3"),
            ("SLURM_JOB_ID", "12"),
            ("SLURM_STEP_ID", "0"),
        ];
        let (rank, size, local, Place::Port { host, port: number, is_open }, name) = place(&slurm) else { panic!() };
        assert_eq!(
            (rank, size, local, host.as_str(), is_open, name.as_str()),
            (3, 16, 3, "gpu07", false, "fewstep/12.0")
        );
        assert!((20_000..40_000).contains(&number));
        // a script that srun did not start is one process
        assert_eq!(started(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "16")]).unwrap(), None);
        let mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        assert_eq!(place(&mpi), (1, 2, 1, port("127.0.0.1", PORT, false), "fewstep/mpi".to_owned()));
        let ours = [(MEETING, "/tmp/m"), (RANK, "1"), (SIZE, "3")];
        assert_eq!(place(&ours), (1, 3, 1, Place::File("/tmp/m".into()), "fewstep/".to_owned()));
    }

    #[test]
    fn variables_that_make_no_sense_are_said() {
        let error = |variables: &[(&str, &str)]| format!("{:#}", started(variables).unwrap_err());
        let bad = [("RANK", "x"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "n"), ("MASTER_PORT", "1")];
        assert!(error(&bad).contains("RANK is 'x'"));
        let past = [("RANK", "2"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "n"), ("MASTER_PORT", "1")];
        assert!(error(&past).contains("process 2 of 2"));
        let far = [("PMI_RANK", "1"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "1"), ("MPI_LOCALNRANKS", "2")];
        assert!(error(&far).contains("MASTER_ADDR"));
        assert!(error(&[("MASTER_PORT", "70000")]).contains("no port"));
    }

    #[test]
    fn the_first_machine_of_slurms_lists() {
        for (list, first) in [
            ("n1", "n1"),
            ("n1,n2", "n1"),
            ("n[03-07,09]", "n03"),
            ("n[3,5].example,other", "n3.example"),
            ("a,b[1-2]", "a"),
        ] {
            assert_eq!(first_of(list), first);
        }
    }
}
