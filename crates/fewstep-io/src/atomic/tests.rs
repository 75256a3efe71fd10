use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn replaces_the_old_file_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    write_bytes(&path, b"old").unwrap();
    write_json(&path, &serde_json::json!({"steps": 5})).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"steps\": 5\n}\n");
    assert_eq!(names(folder.path()), ["a.json"]);
}

#[test]
fn a_full_disk_says_so_and_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_bytes(&path, b"old").unwrap();
    let error = write_with(&path, |out| {
        out.write_all(&[0; 1 << 20])?;
        Err(io::ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["model.safetensors"]);
}

#[test]
fn folders_are_made_with_those_above_them() {
    let base = tempfile::tempdir().unwrap();
    let deep = base.path().join("a/b/c");
    make_folder(&deep).unwrap();
    make_folder(&deep).unwrap(); // is there
    write_bytes(deep.join("file"), b"x").unwrap();
    let error = make_folder(deep.join("file/d")).unwrap_err().to_string();
    assert!(error.contains("file/d"), "{error}");
    assert_eq!(names(&deep), ["file"]);
}

#[test]
fn a_missing_folder_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_bytes(folder.path().join("none/x"), b"").unwrap_err().to_string();
    assert!(error.contains("none/x"), "{error}");
    let error = Batch::new().write(folder.path().join("none/x"), b"").unwrap_err().to_string();
    assert!(error.contains("none/x"), "{error}");
}

#[cfg(unix)]
#[test]
fn files_follow_the_umask_and_not_a_private_default() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_bytes(path("ours"), b"").unwrap();
    Unfinished::hidden(folder.path().to_owned()).unwrap().finish(&path("hidden"), true).unwrap();
    fs::write(path("plain"), b"").unwrap();
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode();
    assert_eq!([mode("ours"), mode("hidden")], [mode("plain"); 2]);
}

#[test]
fn a_hidden_name_does_as_well_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    for text in ["first", "second"] {
        let mut unfinished = Unfinished::hidden(folder.path().to_owned()).unwrap();
        unfinished.file().write_all(text.as_bytes()).unwrap();
        unfinished.finish(&path, true).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), (text, 1));
    }
    let dropped = Unfinished::hidden(folder.path().to_owned()).unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    drop(dropped);
    assert_eq!(names(folder.path()), ["x"]);
}

/// Whichever way the file is on: without a name, or with a hidden one.
#[test]
fn what_appeared_meanwhile_is_kept_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let write = |replaces: bool, meanwhile: &dyn Fn()| {
        write_with(OutFile::new(&path, replaces), |out| {
            meanwhile();
            out.write_all(b"ours")
        })
    };
    let appear = || fs::write(&path, b"theirs").unwrap();
    let error = write(false, &appear).unwrap_err();
    assert!(matches!(error, Error::Appeared { .. }) && error.to_string().contains("--overwrite"), "{error}");
    assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"theirs".to_vec(), 1));
    write(true, &appear).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ours");
    fs::remove_file(&path).unwrap();
    write(false, &|| ()).unwrap();
    // a link that leads nowhere is there, too
    #[cfg(unix)]
    {
        fs::remove_file(&path).unwrap();
        let error = write(false, &|| std::os::unix::fs::symlink("nowhere", &path).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Appeared { .. }), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let hidden = || Unfinished::hidden(folder.path().to_owned()).unwrap();
    hidden().finish(&path, false).unwrap();
    let error = hidden().finish(&path, false).unwrap_err();
    assert_eq!((error.kind(), names(folder.path()).len()), (io::ErrorKind::AlreadyExists, 1));
}

#[test]
fn a_batch_of_many_files_leaves_them_whole() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    let batch = Batch::new();
    std::thread::scope(|scope| {
        for worker in 0..4u8 {
            let (batch, folder) = (&batch, folder.path());
            scope.spawn(move || {
                for index in 0..50 {
                    batch.write(folder.join(format!("{worker}-{index}")), &[worker; 100]).unwrap();
                    batch.write(folder.join("b/same"), &[worker; 3]).unwrap();
                }
            });
        }
    });
    batch.finish().unwrap();
    assert_eq!((names(folder.path()).len(), names(&folder.path().join("b"))), (201, vec!["same".to_owned()]));
    assert_eq!(fs::read(folder.path().join("3-49")).unwrap(), [3; 100]);
}

#[test]
fn sweeping_takes_only_what_dead_processes_left() {
    let folder = tempfile::tempdir().unwrap();
    let of_another_machine = ".fewstep-00000000-7-0.tmp";
    let of_a_dead_process = stale::name("1-0");
    for name in [".fewstep-abc.tmp", &of_a_dead_process, of_another_machine, "other.tmp", "run.json"] {
        fs::write(folder.path().join(name), b"").unwrap();
    }
    let living = Unfinished::hidden(folder.path().to_owned()).unwrap();
    sweep(folder.path()).unwrap();
    assert_eq!(names(folder.path()).len(), 4, "{:?}", names(folder.path()));
    drop(living);
    assert_eq!(names(folder.path()), [of_another_machine, "other.tmp", "run.json"]);
    let file = File::options().write(true).open(folder.path().join(of_another_machine)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(2 * 24 * 3600)).unwrap();
    drop(file);
    sweep(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["other.tmp", "run.json"]);
}

const FOLDER: &str = "FEWSTEP_TEST_FOLDER";
const WAY: &str = "FEWSTEP_TEST_WAY";

/// What the killed process does: it begins a file, says so, and never ends.
#[test]
fn child_that_writes() {
    let (Some(folder), Ok(way)) = (std::env::var_os(FOLDER), std::env::var(WAY)) else { return };
    let path = Path::new(&folder).join("d.zip");
    let begin = |file: &mut dyn Write| {
        file.write_all(&[7; 1 << 20]).unwrap();
        file.flush().unwrap();
        println!("begun");
        std::thread::sleep(Duration::from_secs(600));
    };
    match way.as_str() {
        "hidden" => begin(Unfinished::hidden(folder.into()).unwrap().file()),
        "rows" => {
            let shapes = [("x".to_owned(), (crate::Dtype::U8, vec![1 << 20]))].into_iter().collect();
            let _writer = crate::rows::Writer::create(&path, &shapes, &crate::safetensors::Metadata::new()).unwrap();
            begin(&mut io::sink());
        }
        _ => write_with(&path, |mut out| {
            begin(&mut out);
            Ok(())
        })
        .unwrap(),
    }
}

/// A process of this program in the middle of a file.
fn writing(folder: &Path, way: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["atomic::tests::child_that_writes", "--exact", "--nocapture"])
        .envs([(FOLDER, folder.as_os_str()), (WAY, way.as_ref())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("begun")));
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap(); // SIGKILL: no handler runs
    child.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_kill_while_writing_leaves_nothing() {
    for way in ["with", "rows"] {
        let folder = tempfile::tempdir().unwrap();
        let child = writing(folder.path(), way);
        if Unfinished::beside(&folder.path().join("x")).unwrap().has_no_name() {
            assert!(names(folder.path()).is_empty(), "{way}: {:?}", names(folder.path()));
        }
        kill(child);
        write_bytes(folder.path().join("next"), b"").unwrap();
        sweep(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["next"], "{way}");
    }
}

#[cfg(unix)]
#[test]
fn the_next_writer_removes_what_a_killed_one_left_and_nothing_of_a_living_one() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, living) = (writing(folder.path(), "hidden"), writing(folder.path(), "hidden"));
    kill(dead);
    assert_eq!(names(folder.path()).len(), 2);
    // The first file that this process writes into that folder.
    write_bytes(folder.path().join("next"), b"").unwrap();
    assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
    assert!(names(folder.path())[0].contains(&living.id().to_string()), "{:?}", names(folder.path()));
    kill(living);
    sweep(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["next"]);
}
