//! Processes that compute together, each with a rank: PyTorch's c10d, over Gloo.
//!
//! All processes run the same program. What they share out are batches of samples ([`Ranks::in_order`]), the samples of a search
//! ([`fewstep_core::denoiser::Spread`]) and the images of an update of training; everything else each of them does by itself, and comes
//! to the same. A call here is one call of every process, in the same order.

mod bytes;
mod numbers;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fewstep_core::denoiser::Shared;
use fewstep_core::group::Group;
use fewstep_io::hash;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use self::bytes::{Made, from_bytes, to_bytes};
use crate::error::{Error, Result};
use crate::ffi;
use crate::tensor::Batch;

/// Where the processes of a group find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port of the first process's machine.
    Port {
        /// Name or address of the machine.
        host: String,
        /// The port.
        port: u16,
        /// Whether something else has opened it, as `torchrun` does.
        is_open: bool,
    },
    /// A file that does not exist yet, of one machine.
    File(PathBuf),
}

/// A process's place in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Where they find each other.
    pub place: Place,
    /// Name of the group, apart from others at the same place.
    pub name: String,
    /// The network interface by which they talk, if not that of the machine's name.
    pub interface: Option<String>,
    /// How long a process waits for the others.
    pub timeout: Duration,
}

/// Processes that compute together, or one by itself.
#[derive(Clone, Debug, Default)]
pub struct Ranks(Option<Rc<Joined>>);

#[derive(Debug)]
struct Joined {
    rank: usize,
    size: usize,
    timeout: Duration,
    /// Whether what processes leave for one another is gone with this one.
    keeps_lines: bool,
    /// Why another process has parted, once that is known, and the exit code that it ends with.
    failure: OnceCell<(String, Option<u8>)>,
    group: ffi::Group,
}

/// Under what a process that fails leaves its reason.
const FAILURE: &str = "failure";

/// How long a process stays, in which others read why it goes.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long others wait for the reason.
const FAILURE_WAIT: Duration = Duration::from_secs(2);

impl Ranks {
    /// One process by itself.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Joins a group, once all its processes have come.
    ///
    /// # Errors
    /// If one does not come in time, or they cannot reach each other.
    pub fn join(membership: &Membership) -> Result<Self> {
        let Membership { rank, size, place, name, interface, timeout } = membership;
        if *size <= 1 {
            return Ok(Self::alone());
        }
        let file;
        let meeting = match place {
            Place::Port { host, port, is_open } => {
                ffi::Meeting { address: host, port: Some(*port), serves: *rank == 0 && !is_open, name, interface: "" }
            }
            Place::File(path) => {
                file = path.to_string_lossy();
                ffi::Meeting { address: &file, port: None, serves: false, name, interface: LOOPBACK }
            }
        };
        let meeting = ffi::Meeting { interface: interface.as_deref().unwrap_or(meeting.interface), ..meeting };
        let group = ffi::Group::join(meeting, *rank, *size, *timeout).map_err(|error| {
            let reason = format!(
                "process {rank} of {size} did not find the others within {} s: {}",
                timeout.as_secs(),
                detail(error)
            );
            Error::Process { reason, code: None }
        })?;
        let keeps_lines = meeting.serves;
        let ranks = Self(Some(Rc::new(Joined {
            rank: *rank,
            size: *size,
            timeout: *timeout,
            keeps_lines,
            failure: OnceCell::new(),
            group,
        })));
        ranks.wait()?; // one that fails at once would cut connections that others are still making
        Ok(ranks)
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |joined| joined.rank)
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |joined| joined.size)
    }

    /// Whether this one is the first: the one that writes, and speaks.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// As what shares out the samples of a search.
    pub fn group(&self) -> Rc<dyn Group> {
        Rc::new(self.clone())
    }

    /// The sum of every process's tensor, in place of its own.
    ///
    /// # Errors
    /// As all of these: if another process has gone, or does not come in time.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<()> {
        self.begin_sum(tensor)?;
        self.finish_sums()
    }

    /// Begins such a sum, which is there once [`Ranks::finish_sums`] was called.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn begin_sum(&self, tensor: &mut Tensor) -> Result<()> {
        self.call((), |group| group.begin_sum(tensor))
    }

    /// Waits for the sums that were begun.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn finish_sums(&self) -> Result<()> {
        self.call((), ffi::Group::finish)
    }

    /// Adds `share` times the gradient of `loss` to the flat `sum`, bucket by bucket summed over all processes in this `order` while the rest
    /// is computed. [`Ranks::finish_sums`] waits for them. Returns d loss / d x, and the buckets in the order in which they became known.
    pub(crate) fn backward_summing(
        &self,
        gradients: &ffi::Gradients,
        loss: &Tensor,
        x: Option<&Tensor>,
        sum: (&mut Tensor, f64),
        order: &[i64],
    ) -> Result<(Option<Tensor>, Vec<i64>)> {
        self.call((None, Vec::new()), |group| group.backward_summing(gradients, loss, x, sum, order))
    }

    /// Whether any process says yes.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn any(&self, yes: bool) -> Result<bool> {
        if self.0.is_none() {
            return Ok(yes);
        }
        let mut count = Tensor::from_slice(&[i64::from(yes)]);
        self.sum(&mut count)?;
        Ok(count.int64_value(&[0]) > 0)
    }

    /// What every process gives, in the order of their ranks.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Some(joined) = &self.0 else { return Ok(vec![own.to_vec()]) };
        let lengths = self.gathered(joined, &Tensor::from_slice(&[own.len() as i64]))?;
        let lengths: Vec<i64> = Vec::try_from(lengths.f_reshape([-1])?)?;
        let most = lengths.iter().copied().max().unwrap_or(0);
        if most == 0 {
            return Ok(vec![Vec::new(); joined.size]);
        }
        let padded = Tensor::f_zeros([most], (Kind::Uint8, Device::Cpu))?;
        padded.narrow(0, 0, own.len() as i64).copy_(&Tensor::from_slice(own));
        let all = self.gathered(joined, &padded)?;
        let row = |(rank, length): (usize, &i64)| Ok(Vec::try_from(all.f_get(rank as i64)?.f_narrow(0, 0, *length)?)?);
        lengths.iter().enumerate().map(row).collect()
    }

    fn gathered(&self, joined: &Joined, own: &Tensor) -> Result<Tensor> {
        joined.group.gather(own).map_err(|error| self.parted(error))
    }

    /// What the first process comes to, on all of them: the others do not ask.
    ///
    /// # Errors
    /// The first process's own, on that; as [`Ranks::sum`] on the others.
    pub fn from_first<T: Serialize + DeserializeOwned, E: From<Error>>(
        &self,
        make: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let Some(joined) = &self.0 else { return make() };
        let made = if self.is_first() { Some(make()?) } else { None };
        let text = match &made {
            Some(made) => serde_json::to_vec(made).map_err(|error| Error::Input(error.to_string()))?,
            None => Vec::new(),
        };
        let told = self.told(joined, &text)?;
        match made {
            Some(made) => Ok(made),
            None => Ok(serde_json::from_slice(&told).map_err(|error| Error::Input(error.to_string()))?),
        }
    }

    /// The first process's bytes.
    fn told(&self, joined: &Joined, own: &[u8]) -> Result<Vec<u8>> {
        let send = |tensor: &mut Tensor| joined.group.broadcast(tensor).map_err(|error| self.parted(error));
        let mut length = Tensor::from_slice(&[own.len() as i64]);
        send(&mut length)?;
        let mut bytes = match self.is_first() {
            true => Tensor::from_slice(own),
            false => Tensor::f_zeros([length.int64_value(&[0])], (Kind::Uint8, Device::Cpu))?,
        };
        send(&mut bytes)?;
        Ok(Vec::try_from(bytes)?)
    }

    /// Does `work` for every one of `items`, each in one process, and hands what comes of it to `done` in all processes in the order of
    /// the items: the same calls as of one process.
    ///
    /// # Errors
    /// The first of `work` or `done`; and as [`Ranks::sum`].
    pub fn in_order<I, E: From<Error>>(
        &self,
        items: impl IntoIterator<Item = I>,
        mut work: impl FnMut(I) -> std::result::Result<Vec<Tensor>, E>,
        mut done: impl FnMut(Vec<Tensor>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut items = items.into_iter().peekable();
        if self.0.is_none() {
            return items.try_for_each(|item| done(work(item)?));
        }
        let mut each = 1; // items of a process in a round
        while items.peek().is_some() {
            let (mut own, mut lengths, mut round, started) = (Vec::new(), Vec::new(), 0, Instant::now());
            for (place, item) in items.by_ref().take(each * self.size()).enumerate() {
                round += 1;
                if place % self.size() == self.rank() {
                    let made = work(item)?;
                    lengths.push(made.len());
                    own.extend(made);
                }
            }
            let lengths: Vec<i64> = lengths.into_iter().map(|length| length as i64).collect();
            own.insert(0, Tensor::from_slice(&lengths));
            let own = to_bytes(&own)?;
            let all = self.gather_bytes(&own)?;
            let mut all = all.iter().map(|bytes| Made::from_bytes(bytes)).collect::<Result<Vec<_>>>()?;
            for place in 0..round {
                done(all[place % self.size()].next())?;
            }
            // processes wait for the slowest of them, which is another in every round: seldom, where items are quick
            each = self.from_first(|| {
                let quick = started.elapsed() < ROUND && 2 * own.len() <= MOST_BYTES;
                Ok::<_, Error>(if quick { (2 * each).min(MOST_ITEMS) } else { each })
            })?;
        }
        Ok(())
    }

    /// All samples of a batch that processes share, `[N, ...]` on the CPU, in every process.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn whole(&self, batch: &Shared<Batch>) -> Result<Tensor> {
        let own = &batch.own().0;
        if self.0.is_none() {
            return Ok(own.shallow_clone());
        }
        let parts = self.gather_bytes(&to_bytes(&[own.shallow_clone()])?)?;
        let parts = parts.iter().map(|part| from_bytes(part)).collect::<Result<Vec<_>>>()?;
        let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
        // all processes' one after the other, and then in the order of the samples
        let mut next: Vec<i64> = (0..self.size()).map(|rank| count_before(batch.owners(), rank)).collect();
        let places = batch.owners().iter().map(|owner| {
            next[*owner] += 1;
            next[*owner] - 1
        });
        let places: Vec<i64> = places.collect();
        Ok(Tensor::f_cat(&parts, 0)?.f_index_select(0, &Tensor::f_from_slice(&places)?)?)
    }

    /// Refuses to go on where processes differ in `what`, of which `value` is this one's.
    ///
    /// # Errors
    /// If they do; and as [`Ranks::sum`].
    pub fn check_same(&self, what: &str, value: &str) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let all = self.gather_bytes(hash::sha256_bytes(value.as_bytes()).as_bytes())?;
        let other = all.iter().position(|other| Some(other) != all.first());
        other.map_or(Ok(()), |rank| {
            Err(Error::Input(format!(
                "process {rank} has another {what} than process 0: start all of them alike, on the same files"
            )))
        })
    }

    /// Waits for all processes: none leaves before the others are done.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn wait(&self) -> Result<()> {
        self.any(false).map(|_| ())
    }

    /// Parts with the others, and leaves them the reason why this process ends, for them to end with; another's, where it ends for that.
    pub fn fail(&self, reason: &str, code: u8) {
        let Some(joined) = &self.0 else { return };
        if joined.failure.get().is_none() {
            let reason = format!("{code} process {} of {}: {reason}", joined.rank, joined.size);
            let _ = joined.group.write(FAILURE, &reason); // without it they say that this one has gone
        }
        joined.group.part();
        if joined.keeps_lines {
            std::thread::sleep(LAST_WORDS);
        }
    }

    fn call<T>(&self, alone: T, call: impl FnOnce(&ffi::Group) -> Result<T>) -> Result<T> {
        match &self.0 {
            Some(joined) => call(&joined.group).map_err(|error| self.parted(error)),
            None => Ok(alone),
        }
    }

    /// The error of a call that another process did not make: that one's reason, if it has left any.
    fn parted(&self, error: Error) -> Error {
        let Some(joined) = &self.0 else { return error };
        let (reason, code) = joined.failure.get_or_init(|| {
            let left = joined.group.read(FAILURE, FAILURE_WAIT).ok();
            match left.as_deref().and_then(|left| left.split_once(' ')) {
                Some((code, reason)) => (reason.to_owned(), code.parse().ok()),
                None => {
                    let seconds = joined.timeout.as_secs();
                    let detail = detail(error);
                    (format!("another process has gone, or did not come within {seconds} s ({detail})"), None)
                }
            }
        });
        Error::Process { reason: reason.clone(), code: *code }
    }
}

/// A round of items takes about as long, at least.
const ROUND: Duration = Duration::from_secs(2);

/// What a process has made in a round is as much at most, unless one item is more.
const MOST_BYTES: usize = 1 << 26;

/// Items of a process in a round, at most.
const MOST_ITEMS: usize = 32;

/// How many samples the processes before `rank` have.
fn count_before(owners: &[usize], rank: usize) -> i64 {
    owners.iter().filter(|owner| **owner < rank).count() as i64
}

/// The interface of processes on one machine.
const LOOPBACK: &str = "lo";

/// What c10d says, without where in its code it says so.
fn detail(error: Error) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("libtorch: ");
    match text.strip_prefix('[').and_then(|text| text.split_once("] ")) {
        Some((_, text)) => text.to_owned(),
        None => text.to_owned(),
    }
}
