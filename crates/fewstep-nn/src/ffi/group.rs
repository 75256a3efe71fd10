//! Calls of c10d's part of the C++: processes that compute together.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use tch::Tensor;

use super::{call, failure, pointer, taken, tensor};
use crate::error::Result;

unsafe extern "C" {
    fn fewstep_join_group(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        address: *const c_char,
        port: c_int,
        serves: c_int,
        name: *const c_char,
        interface: *const c_char,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
    ) -> c_int;
    fn fewstep_leave_group(group: *mut c_void);
    fn fewstep_part_group(group: *mut c_void);
    fn fewstep_group_begin_sum(message: *mut *mut c_char, group: *mut c_void, tensor: *mut c_void) -> c_int;
    fn fewstep_group_finish(message: *mut *mut c_char, group: *mut c_void) -> c_int;
    fn fewstep_group_gather(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        group: *mut c_void,
        tensor: *const c_void,
    ) -> c_int;
    fn fewstep_group_broadcast(message: *mut *mut c_char, group: *mut c_void, tensor: *mut c_void) -> c_int;
    fn fewstep_new_gradients(
        out: *mut *mut c_void,
        message: *mut *mut c_char,
        leaves: *const *mut c_void,
        of_leaf: *const i64,
        count: i64,
    ) -> c_int;
    fn fewstep_free_gradients(gradients: *mut c_void);
    fn fewstep_backward_summing(
        through: *mut *mut c_void,
        message: *mut *mut c_char,
        gradients: *mut c_void,
        group: *mut c_void,
        loss: *const c_void,
        x: *const c_void,
        sum: *mut c_void,
        share: f64,
        order: *const i64,
        order_count: i64,
        finished: *mut i64,
        room: i64,
        count: *mut i64,
    ) -> c_int;
    fn fewstep_group_write(
        message: *mut *mut c_char,
        group: *mut c_void,
        key: *const c_char,
        value: *const c_char,
    ) -> c_int;
    fn fewstep_group_read(
        out: *mut *mut c_char,
        message: *mut *mut c_char,
        group: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
    ) -> c_int;
}

/// Processes of c10d's, which this one has joined.
#[derive(Debug)]
pub struct Group {
    /// Never null; of this value alone.
    handle: *mut c_void,
}

/// Where a group meets: see `group.h`.
#[derive(Clone, Copy, Debug)]
pub struct Meeting<'a> {
    pub address: &'a str,
    /// None where the address is a file.
    pub port: Option<u16>,
    pub serves: bool,
    pub name: &'a str,
    /// Empty for that of this machine's name.
    pub interface: &'a str,
}

impl Group {
    /// Waits for all `size` processes of which this one is `rank`.
    pub fn join(meeting: Meeting, rank: usize, size: usize, timeout: Duration) -> Result<Self> {
        let Meeting { address, port, serves, name, interface } = meeting;
        let [address, name, interface] = [text(address)?, text(name)?, text(interface)?];
        let number = |value: usize| c_int::try_from(value).map_err(|_| failure(format!("{value} processes")));
        let (rank, size) = (number(rank)?, number(size)?);
        let mut handle = ptr::null_mut();
        // SAFETY: the strings and `handle` outlive the call, which copies what it keeps.
        call(|message| unsafe {
            fewstep_join_group(
                &mut handle,
                message,
                address.as_ptr(),
                port.map_or(-1, c_int::from),
                c_int::from(serves),
                name.as_ptr(),
                interface.as_ptr(),
                rank,
                size,
                milliseconds(timeout),
            )
        })?;
        if handle.is_null() {
            return Err(failure("no group came back".to_owned()));
        }
        Ok(Self { handle })
    }

    /// Begins the sum of every process's tensor, in place of its own once [`Group::finish`] was called.
    pub fn begin_sum(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: the group is one until it is dropped; it keeps a reference to the tensor's memory of its own.
        call(|message| unsafe { fewstep_group_begin_sum(message, self.handle, tensor.as_mut_ptr().cast()) })
    }

    /// Waits for the sums that were begun.
    pub fn finish(&self) -> Result<()> {
        // SAFETY: as in `begin_sum`.
        call(|message| unsafe { fewstep_group_finish(message, self.handle) })
    }

    /// Every process's tensor, `[size, ...]`.
    pub fn gather(&self, own: &Tensor) -> Result<Tensor> {
        // SAFETY: as in `begin_sum`; `own` is only read.
        tensor(|out, message| unsafe { fewstep_group_gather(out, message, self.handle, pointer(own)) })
    }

    /// The first process's tensor, in place of every other's.
    pub fn broadcast(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: as in `begin_sum`.
        call(|message| unsafe { fewstep_group_broadcast(message, self.handle, tensor.as_mut_ptr().cast()) })
    }

    /// Adds `share` times d loss / d leaves to the flat `sum` and begins the sums of its buckets over all processes in this `order` (none:
    /// only at the end). Returns d loss / d x, and the buckets in the order in which they became known.
    pub fn backward_summing(
        &self,
        gradients: &Gradients,
        loss: &Tensor,
        x: Option<&Tensor>,
        (sum, share): (&mut Tensor, f64),
        order: &[i64],
    ) -> Result<(Option<Tensor>, Vec<i64>)> {
        if order.iter().any(|bucket| !(0..gradients.buckets).contains(bucket)) {
            return Err(failure(format!("an order of buckets that are not there: {order:?}")));
        }
        let (mut through, mut count) = (ptr::null_mut(), 0i64);
        let mut finished = vec![0i64; gradients.buckets as usize];
        // SAFETY: as in `begin_sum`; the gradients are some until they are dropped; all slices outlive the call, which copies them, and
        // hold as many elements as is said beside them.
        call(|message| unsafe {
            fewstep_backward_summing(
                &mut through,
                message,
                gradients.handle,
                self.handle,
                pointer(loss),
                x.map_or(ptr::null(), pointer),
                sum.as_mut_ptr().cast(),
                share,
                order.as_ptr(),
                order.len() as i64,
                finished.as_mut_ptr(),
                finished.len() as i64,
                &mut count,
            )
        })?;
        finished.truncate(count as usize);
        // SAFETY: where it is not null, a new at::Tensor that nobody else owns.
        let through = (!through.is_null()).then(|| unsafe { Tensor::from_ptr(through.cast()) });
        Ok((through, finished))
    }

    /// Parts with the others, who hear of it at once; nothing but lines can be left and read any more.
    pub fn part(&self) {
        // SAFETY: as in `begin_sum`; a call after it is an error of C++, which arrives as one.
        unsafe { fewstep_part_group(self.handle) }
    }

    /// Leaves a line for the others.
    pub fn write(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: as in `begin_sum`; the strings outlive the call.
        call(|message| unsafe { fewstep_group_write(message, self.handle, key.as_ptr(), value.as_ptr()) })
    }

    /// A line that another process has left.
    pub fn read(&self, key: &str, timeout: Duration) -> Result<String> {
        let key = text(key)?;
        let mut out = ptr::null_mut();
        // SAFETY: as in `write`; `out` outlives the call.
        call(|message| unsafe {
            fewstep_group_read(&mut out, message, self.handle, key.as_ptr(), milliseconds(timeout))
        })?;
        if out.is_null() {
            return Err(failure("there was no memory left".to_owned()));
        }
        // SAFETY: a C string allocated by the shim, as in `call`.
        Ok(unsafe { taken(out) })
    }
}

/// Weights in buckets, for sums over processes: see `gradients.h`.
#[derive(Debug)]
pub struct Gradients {
    /// Never null; of this value alone.
    handle: *mut c_void,
    buckets: i64,
}

impl Gradients {
    /// Of these leaves; `of_leaf` has the bucket of each, ascending from 0.
    pub fn new(leaves: &[Tensor], of_leaf: &[i64]) -> Result<Self> {
        let buckets = of_leaf.last().map_or(0, |last| last + 1);
        let ascending = of_leaf.is_sorted() && of_leaf.first().is_none_or(|first| *first >= 0);
        if of_leaf.len() != leaves.len() || !ascending {
            return Err(failure(format!("{} leaves in buckets {of_leaf:?}", leaves.len())));
        }
        let handles: Vec<*mut c_void> = leaves.iter().map(|leaf| leaf.as_ptr().cast_mut().cast()).collect();
        let mut handle = ptr::null_mut();
        // SAFETY: both slices have as many elements as is said beside them and outlive the call, which copies them; the tensors' memory
        // is shared with what is made.
        call(|message| unsafe {
            fewstep_new_gradients(&mut handle, message, handles.as_ptr(), of_leaf.as_ptr(), leaves.len() as i64)
        })?;
        if handle.is_null() {
            return Err(failure("no gradients came back".to_owned()));
        }
        Ok(Self { handle, buckets })
    }
}

impl Drop for Gradients {
    fn drop(&mut self) {
        // SAFETY: of this value alone, and not used again.
        unsafe { fewstep_free_gradients(self.handle) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: of this value alone, and not used again.
        unsafe { fewstep_leave_group(self.handle) }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A C string, without what would end it early.
fn text(text: &str) -> Result<CString> {
    CString::new(text.replace('\0', " ")).map_err(|error| failure(error.to_string()))
}
