//! A real dirtyd of a test's own, with the apps of tests/python.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Its folder goes with it.
pub struct Dirtyd {
    folder: tempfile::TempDir,
    process: Option<Child>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Dirtyd {
    /// Not started yet.
    pub fn new() -> Dirtyd {
        Dirtyd {
            folder: tempfile::tempdir().unwrap(),
            process: None,
            log: Arc::default(),
        }
    }

    /// Ready, with `calls:Calls` on 4 slots.
    pub fn ready() -> Dirtyd {
        let mut dirtyd = Dirtyd::new();
        dirtyd.start(&[]);
        dirtyd
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/dirty.sock")
    }

    /// Starts it, with further flags, and waits until it is ready.
    pub fn start(&mut self, flags: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .unwrap();
        let build =
            env::var_os("DIRTY_BUILD").map_or_else(|| root.join("build/release"), PathBuf::from);
        let mut process = Command::new(build.join("bin/dirtyd"))
            .args([
                "calls:Calls",
                "--threads",
                "4",
                "--kill_after",
                "1",
                "--runtime_dir",
            ])
            .arg(self.folder.path().join("run"))
            .arg("--chdir")
            .arg(root.join("tests/python/apps"))
            .args(
                env::var("DIRTY_PYTHON")
                    .ok()
                    .map(|python| format!("--python={python}")),
            )
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stderr, log) = (
            BufReader::new(process.stderr.take().unwrap()),
            Arc::clone(&self.log),
        );
        log.lines.lock().unwrap().clear();
        self.process = Some(process);
        thread::spawn(move || {
            for line in stderr.lines() {
                log.lines.lock().unwrap().push(line.unwrap());
                log.grown.notify_all();
            }
        });
        self.wait_for_line(" ready: ");
    }

    /// Until its log has a line with this in it.
    pub fn wait_for_line(&self, text: &str) {
        let lines = self.log.lines.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, waited) = self
            .log
            .grown
            .wait_timeout_while(lines, PATIENCE, missing)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "no line has {text:?}:\n{}",
            lines.join("\n")
        );
    }

    pub fn has_line(&self, text: &str) -> bool {
        self.log
            .lines
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(text))
    }

    /// Sends it a signal, such as `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Ends it with a signal.
    pub fn end(&mut self, signal: &str) {
        self.signal(signal);
        self.process.take().unwrap().wait().unwrap();
    }
}

impl Drop for Dirtyd {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill")
                .args(["-s", "CONT", &process.id().to_string()])
                .status();
            let _ = Command::new("kill")
                .args(["-s", "TERM", &process.id().to_string()])
                .status();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(self.folder.path());
    }
}
