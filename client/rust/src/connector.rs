//! Finds dirtyd, and finds it again.

use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connection::{Connection, Greeting, greeting};
use crate::error::{Error, Reason};
use crate::obstacle::{refused_at_accept, why_not};

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_millis(250);
/// Each attempt costs dirtyd a line in its log.
const LONGEST_BACKOFF_IF_REFUSED: Duration = Duration::from_secs(1);
const GREETING_TIME: Duration = Duration::from_millis(50);

/// The sockets to try for a client to which none was given: `$DIRTY_SOCKET`, then dirtyd's own defaults.
pub(crate) fn default_paths() -> Vec<PathBuf> {
    let of = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let mut paths: Vec<PathBuf> = of("DIRTY_SOCKET").into_iter().collect();
    let runtime = of("XDG_RUNTIME_DIR").map(|folder| folder.join("dirty/dirty.sock"));
    for path in [Some("/run/dirty/dirty.sock".into()), runtime]
        .into_iter()
        .flatten()
    {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// Owns the connection that calls share. Thread-safe; one call attempts to connect, the others wait for it.
#[derive(Debug)]
pub(crate) struct Connector {
    connect_timeout: Duration,
    current: Mutex<Option<Connection>>,
    /// Why the last attempt failed.
    failure: Mutex<String>,
    search: tokio::sync::Mutex<Search>,
}

#[derive(Debug)]
struct Search {
    /// One, once it has answered: the client stays with it.
    places: Vec<Place>,
    backoff: Duration,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Connected, but its peer has not said anything yet: another connection would be no better.
    silent: Option<UnixStream>,
    failure: String,
    refused: bool,
}

impl Connector {
    pub(crate) fn new(paths: Vec<PathBuf>, connect_timeout: Duration) -> Connector {
        let place = |path| Place {
            path,
            silent: None,
            failure: String::new(),
            refused: false,
        };
        Connector {
            connect_timeout,
            current: Mutex::new(None),
            failure: Mutex::new("no attempt has ended yet".to_owned()),
            search: tokio::sync::Mutex::new(Search {
                places: paths.into_iter().map(place).collect(),
                backoff: FIRST_BACKOFF,
            }),
        }
    }

    /// Until when a call that starts now waits for a connection.
    pub(crate) fn connect_by(&self, timeout: Option<Duration>) -> Instant {
        Instant::now()
            + timeout.map_or(self.connect_timeout, |timeout| {
                timeout.min(self.connect_timeout)
            })
    }

    /// A connection that is alive, as far as one can see; tries at least once.
    pub(crate) async fn get(&self, until: Instant) -> Result<Connection, Error> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let Ok(mut search) = timeout_at(until, self.search.lock()).await else {
            return Err(self.failed());
        };
        loop {
            if let Some(connection) = self.current() {
                return Ok(connection);
            }
            if let Some(connection) = search.attempt().await {
                *lock(&self.current) = Some(connection.clone());
                return Ok(connection);
            }
            *lock(&self.failure) = search.failure();
            if Instant::now() >= until {
                return Err(self.failed());
            }
            sleep_until((Instant::now() + search.pause()).min(until)).await;
        }
    }

    fn current(&self) -> Option<Connection> {
        lock(&self.current)
            .as_ref()
            .filter(|connection| connection.alive())
            .cloned()
    }

    fn failed(&self) -> Error {
        Error::new(
            Reason::Connection,
            format!("cannot reach dirtyd: {}", lock(&self.failure)),
        )
    }
}

impl Search {
    async fn attempt(&mut self) -> Option<Connection> {
        for index in 0..self.places.len() {
            if let Some(connection) = self.places[index].attempt().await {
                self.places.swap(0, index);
                self.places.truncate(1);
                self.backoff = FIRST_BACKOFF;
                return Some(connection);
            }
        }
        None
    }

    fn failure(&self) -> String {
        let each = self
            .places
            .iter()
            .map(|place| format!("{}: {}", place.path.display(), place.failure));
        each.collect::<Vec<_>>().join("; ")
    }

    /// How long to wait before the next attempt; longer each time.
    fn pause(&mut self) -> Duration {
        if self.places.iter().any(|place| place.silent.is_some()) {
            return Duration::ZERO; // the attempt itself waits for the greeting
        }
        let refused = self.places.iter().any(|place| place.refused);
        let longest = if refused {
            LONGEST_BACKOFF_IF_REFUSED
        } else {
            LONGEST_BACKOFF
        };
        let pause = self.backoff.min(longest);
        self.backoff = pause * 2;
        pause
    }
}

impl Place {
    async fn attempt(&mut self) -> Option<Connection> {
        self.refused = false;
        let stream = match self.silent.take() {
            Some(stream) => stream,
            None => match UnixStream::connect(&self.path).await {
                Ok(stream) => stream,
                Err(error) => return self.fail(why_not(&self.path, &error)),
            },
        };
        match greeting(&stream, GREETING_TIME).await {
            Greeting::Speaks => match Connection::new(self.path.clone(), stream).await {
                Ok(connection) => Some(connection),
                Err(why) => self.fail(why),
            },
            Greeting::Silent => {
                self.silent = Some(stream);
                self.fail("connected, but no answer: is it stopped, or not dirtyd?".to_owned())
            }
            Greeting::Closed => {
                self.refused = true;
                self.fail(refused_at_accept())
            }
        }
    }

    fn fail(&mut self, why: String) -> Option<Connection> {
        self.failure = why;
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
