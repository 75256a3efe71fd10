//! Several processes that share the work of a command: as `torchrun`, Slurm or MPI started them, or started here (`--processes`).

mod supervise;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fewstep_nn::Ranks;
use fewstep_nn::ranks::{Membership, Place};

pub use self::supervise::{end_with_parent, supervise, to_start};
use crate::ui;

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

/// Whether this process is by itself, whoever started it.
static ALONE: AtomicBool = AtomicBool::new(false);

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
        let ranks = joined.get_or_init(|| ranks).clone();
        if !ranks.is_first() {
            ui::hush(); // the first one speaks
        }
        let command: Vec<String> = std::env::args().skip(1).collect();
        ranks.check_same("version", env!("CARGO_PKG_VERSION"))?;
        ranks.check_same("command line", &format!("{command:?}"))?;
        Ok(ranks)
    })
}

/// Refuses to be one of several processes: what this one does is not shared out.
pub fn refuse() -> Result<()> {
    ensure!(started()?.is_none(), "this command does not share its work out: start it as one process");
    Ok(())
}

fn started() -> Result<Option<Started>> {
    if ALONE.load(Ordering::SeqCst) {
        return Ok(None);
    }
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

/// What of a command line says how many processes share its work, apart from what is done, and the rest.
pub fn apart(args: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let (mut rest, mut own) = (Vec::new(), Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        match ["--processes", "--timeout"].into_iter().find_map(|name| text.strip_prefix(name)) {
            Some("") => own.extend([arg].into_iter().chain(args.next())),
            Some(value) if value.starts_with('=') => own.push(arg),
            _ => rest.push(arg),
        }
    }
    (rest, own)
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
const PARENT: &str = "FEWSTEP_PARENT";

/// The port where the processes of a job meet if nothing else is said: most likely no other job's.
fn port_of(job: &str) -> u16 {
    20_000 + job.bytes().fold(0u16, |hash, byte| hash.wrapping_mul(31).wrapping_add(u16::from(byte))) % 20_000
}

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
    let port = || -> Result<Option<u16>> {
        let port = number("MASTER_PORT")?;
        port.map(|port| u16::try_from(port).with_context(|| format!("MASTER_PORT is {port}, which is no port")))
            .transpose()
    };
    let of_torch = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"].iter().all(|name| variable(name).is_some());
    let (rank, size, local_rank, place, name) = if let Some(meeting) = variable(MEETING) {
        let rank = needed(RANK)?;
        (rank, needed(SIZE)?, rank, Place::File(PathBuf::from(meeting)), String::new())
    } else if let (true, Some(host), Some(port)) = (of_torch, &address, if of_torch { port()? } else { None }) {
        let (rank, size, host) = (needed("RANK")?, needed("WORLD_SIZE")?, host.clone());
        let is_open = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        // a run that torchrun starts again meets anew
        let parts =
            ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"].map(|name| variable(name).unwrap_or_default());
        (rank, size, number("LOCAL_RANK")?.unwrap_or(rank), Place::Port { host, port, is_open }, parts.join("/"))
    } else if let (Some(rank), Some(size), Some(nodes)) =
        (number("SLURM_PROCID")?, number("SLURM_STEP_NUM_TASKS")?, variable("SLURM_STEP_NODELIST"))
    {
        let step = ["SLURM_JOB_ID", "SLURM_STEP_ID"].map(|name| variable(name).unwrap_or_default()).join(".");
        let host = address.unwrap_or_else(|| first_of(&nodes));
        let port = port()?.unwrap_or_else(|| port_of(&step));
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
        let job = MPI_JOBS.iter().find_map(|name| variable(name)).unwrap_or_default();
        let port = port()?.unwrap_or_else(|| port_of(&job));
        (rank, size, local_rank, Place::Port { host, port, is_open: false }, format!("mpi/{job}"))
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

/// What tells one job of MPI's from another on the same machine.
const MPI_JOBS: [&str; 3] = ["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID"];

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
        assert_eq!(place(&mpi), (1, 2, 1, port("127.0.0.1", port_of(""), false), "fewstep/mpi/".to_owned()));
        let other = [&mpi[..], &[("PMIX_NAMESPACE", "prterun-7@1")]].concat();
        assert_eq!(place(&other).3, port("127.0.0.1", port_of("prterun-7@1"), false));
        assert_ne!(port_of(""), port_of("prterun-7@1"));
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
        let port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "n"), ("MASTER_PORT", "70000")];
        assert!(error(&port).contains("no port"));
        // which means nothing by itself, as Kubernetes sets it for a service of that name
        assert_eq!(started(&[("MASTER_PORT", "tcp://10.0.0.1:7077"), ("RANK", "gold")]).unwrap(), None);
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
