//! Processes that compute together, here threads of one process that find each other through a file.

use std::time::{Duration, Instant};

use fewstep_nn::ranks::{Membership, Place};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::{Error, Ranks};

/// What each of so many processes comes to.
pub fn together<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let folder = tempfile::tempdir().unwrap();
    let join = |rank: usize| Membership {
        rank,
        size,
        place: Place::File(folder.path().join("meeting")),
        name: "test".to_owned(),
        interface: None,
        timeout: Duration::from_secs(20),
    };
    std::thread::scope(|scope| {
        let start = |rank: usize| {
            let (join, work) = (join(rank), &work);
            scope.spawn(move || work(Ranks::join(&join).unwrap()))
        };
        let threads: Vec<_> = (0..size).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_gathers_and_broadcasts_are_of_all() {
    for size in [1, 2, 3] {
        let all = together(size, |ranks| {
            let rank = ranks.rank();
            assert_eq!((ranks.size(), ranks.is_first()), (size, rank == 0));
            let mut sum = Tensor::from_slice(&[1.0f32, rank as f32]);
            ranks.sum(&mut sum).unwrap();
            let (mut a, mut b) = (Tensor::from_slice(&[rank as f64]), Tensor::from_slice(&[10.0f32]));
            ranks.begin_sum(&mut a).unwrap();
            ranks.begin_sum(&mut b).unwrap();
            ranks.finish_sums().unwrap();
            let gathered = ranks.gather_bytes(&vec![rank as u8; rank]).unwrap();
            let told: (usize, String) = ranks.from_first(|| Ok::<_, Error>((rank, "first".to_owned()))).unwrap();
            let any = [ranks.any(rank == 1).unwrap(), ranks.any(false).unwrap()];
            ranks.wait().unwrap();
            (Vec::<f32>::try_from(sum).unwrap(), a.double_value(&[0]), b.double_value(&[0]), gathered, told, any)
        });
        let ranks_sum = (size * (size - 1) / 2) as f32;
        let gathered: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank]).collect();
        for (sum, a, b, bytes, told, any) in all {
            assert_eq!(sum, [size as f32, ranks_sum]);
            assert_eq!((a, b), (f64::from(ranks_sum), 10.0 * size as f64));
            assert_eq!(bytes, gathered);
            assert_eq!(told, (0, "first".to_owned()));
            assert_eq!(any, [size > 1, false]);
        }
    }
}

/// Every item is worked on once, and all hear of what came of each in the same order.
#[test]
fn work_is_shared_out_and_heard_of_in_order() {
    for size in [1, 2, 3] {
        let all = together(size, |ranks| {
            let (mut own, mut heard) = (Vec::new(), Vec::new());
            let work = |item: i64| {
                own.push(item);
                let image = Tensor::full([item + 1, 2], item, (Kind::Uint8, Device::Cpu));
                Ok::<_, Error>(vec![image, Tensor::from_slice(&[item as f64])])
            };
            let done = |parts: Vec<Tensor>| {
                heard.push((parts[0].size(), parts[0].int64_value(&[0, 0]), parts[1].double_value(&[0])));
                Ok(())
            };
            ranks.in_order(0..7, work, done).unwrap();
            (own, heard)
        });
        let expected: Vec<_> = (0..7i64).map(|item| (vec![item + 1, 2], item, item as f64)).collect();
        let mut worked = Vec::new();
        for (own, heard) in all {
            assert_eq!(heard, expected, "{size}");
            worked.extend(own);
        }
        worked.sort_unstable();
        assert_eq!(worked, (0..7).collect::<Vec<_>>());
    }
}

/// The reason of the one that failed is what the others end with, at once.
#[test]
fn a_process_that_fails_leaves_its_reason() {
    let started = Instant::now();
    let ends = together(3, |ranks| {
        if ranks.rank() == 1 {
            ranks.fail("the disk is full", 7);
            let error = ranks.wait().unwrap_err().to_string();
            assert!(error.contains("the disk is full"), "{error}");
            return None;
        }
        Some(ranks.sum(&mut Tensor::from_slice(&[1.0])).unwrap_err())
    });
    assert!(started.elapsed() < Duration::from_secs(15));
    for end in ends.into_iter().flatten() {
        match end {
            Error::Process { reason, code } => {
                assert_eq!((reason.as_str(), code), ("process 1 of 3: the disk is full", Some(7)));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_process_that_is_gone_or_never_comes_is_an_error() {
    let ends = together(2, |ranks| (ranks.rank() == 0).then(|| ranks.wait().unwrap_err().to_string()));
    assert!(ends[0].as_ref().unwrap().contains("another process has gone"), "{ends:?}");

    let folder = tempfile::tempdir().unwrap();
    let membership = Membership {
        rank: 0,
        size: 2,
        place: Place::File(folder.path().join("meeting")),
        name: "test".to_owned(),
        interface: None,
        timeout: Duration::from_millis(300),
    };
    let error = Ranks::join(&membership).unwrap_err().to_string();
    assert!(error.starts_with("process 0 of 2 did not find the others"), "{error}");
}

#[test]
fn processes_that_differ_are_refused() {
    let ends = together(3, |ranks| {
        ranks.check_same("version", "1").unwrap();
        ranks.check_same("model", if ranks.rank() == 2 { "b" } else { "a" }).unwrap_err().to_string()
    });
    assert!(ends.iter().all(|end| end.starts_with("process 2 has another model than process 0")), "{ends:?}");
}
