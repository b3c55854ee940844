//! The decision journal on disk: every decision of the loop is a row, with its reason and what it was read from.
//!
//! One thread writes, so the loop never waits for a disk. It takes what has gathered, writes it in one transaction, and
//! says up to which row all is saved; a report that names a row is held back until then. WAL with `synchronous = NORMAL`
//! keeps what was committed when the process is killed; the last moments before a power cut may be lost, the file stays
//! readable. When the disk fails, the loop goes on and the reports say that their rows are not on it.
//!
//! Rows are bounded: the oldest go first, a tenth at a time. Each start of the loop is a **run** with its own clock and
//! its devices; a decision's time is seconds since the start of its run.

mod query;

pub use query::{Filter, Journal, Row, Run};

use qeil_control::config::Config;
use qeil_control::journal::Decision;
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Rows kept: half a million decisions of 200 bytes are 100 MB, days of a busy machine.
pub const ROWS_MAX: u64 = 500_000;
/// Decisions on their way to the disk: seconds of a busy loop. Beyond them they are counted and left out.
const WAITING_MAX: usize = 8192;
/// Decisions in one transaction: bounds how long a report waits for those of others.
const BATCH_MAX: usize = 1024;
/// How long a reader of another program may hold up a commit.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Marks the file as ours (`PRAGMA application_id`): "QEIJ".
const APPLICATION_ID: i32 = 0x5145_494A;
/// Counts up with every change of the tables.
const SCHEMA_VERSION: i32 = 1;
/// The tables.
const SCHEMA: &str = "
CREATE TABLE run (id INTEGER PRIMARY KEY, began_unix_ms INTEGER NOT NULL, config TEXT NOT NULL) STRICT;
CREATE TABLE decision (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at_s REAL NOT NULL, at_unix_ms INTEGER NOT NULL,
    kind TEXT NOT NULL, device INTEGER, request INTEGER, reason TEXT NOT NULL, readings TEXT NOT NULL
) STRICT;
CREATE INDEX decision_at ON decision (at_unix_ms);
CREATE INDEX decision_request ON decision (request, run);
";

/// Why the journal could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite failed.
    #[error("journal {} cannot be read or written", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The file is something else.
    #[error("{} is no journal of this version of qeil", .0.display())]
    Foreign(PathBuf),
    /// A row that this program did not write.
    #[error("journal {}: row {row} cannot be read: {why}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Its number.
        row: i64,
        /// What is wrong with it.
        why: String,
    },
    /// Its folder could not be made, or its thread not be started.
    #[error("journal {} cannot be kept", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How far the journal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// All rows up to this one are decided about: saved, unless it failed.
    pub up_to: u64,
    /// Whether a row was lost since the start.
    pub failed: bool,
}

/// The writing side, held by the loop.
#[derive(Debug)]
pub struct Writer {
    rows: Option<SyncSender<(u64, Decision)>>,
    next: u64,
    saved: watch::Receiver<Saved>,
    lost: bool,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Open or create the journal and begin a run of `config`, keeping at most `rows_max` rows.
    ///
    /// # Errors
    /// Where the file cannot be opened or is not a journal.
    pub fn open(path: &Path, config: &Config, rows_max: u64) -> Result<Self, JournalError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| JournalError::Io { path: path.into(), source })?;
        }
        let connection = open(path)?;
        let failed = |source| JournalError::Sqlite { path: path.to_owned(), source };
        let began = unix_ms();
        let text = serde_json::to_string(config)
            .map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        connection
            .execute("INSERT INTO run (began_unix_ms, config) VALUES (?1, ?2)", params![began, text])
            .map_err(failed)?;
        let run = connection.last_insert_rowid();
        let last: i64 = connection
            .query_row("SELECT COALESCE(MAX(id), 0) FROM decision", [], |row| row.get(0))
            .map_err(failed)?;
        let last = last.unsigned_abs();
        let (rows, inbox) = sync_channel(WAITING_MAX);
        let (told, saved) = watch::channel(Saved { up_to: last, failed: false });
        let scribe = Scribe { connection, run, began, rows_max, told };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || scribe.write(&inbox))
            .map_err(|source| JournalError::Io { path: path.into(), source })?;
        Ok(Self { rows: Some(rows), next: last + 1, saved, lost: false, thread: Some(thread) })
    }

    /// Hand over a decision; returns its row's number. Never waits.
    pub fn enter(&mut self, decision: Decision) -> u64 {
        let id = self.next;
        self.next += 1;
        if let Some(rows) = &self.rows
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = rows.try_send((id, decision))
        {
            self.lost = true;
        }
        id
    }

    /// How far the disk is.
    pub fn saved(&self) -> Saved {
        let saved = *self.saved.borrow();
        Saved { failed: saved.failed || self.lost, ..saved }
    }

    /// Resolves when the disk has got further.
    pub async fn progress(&mut self) {
        // The thread is gone only together with the disk: then nothing comes any more.
        if self.saved.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Write what is left.
    pub fn close(&mut self) {
        self.rows = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread that writes.
struct Scribe {
    connection: Connection,
    run: i64,
    began: i64,
    rows_max: u64,
    told: watch::Sender<Saved>,
}

impl Scribe {
    fn write(mut self, inbox: &Receiver<(u64, Decision)>) {
        let mut failed = false;
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = inbox.try_recv()
            {
                batch.push(next);
            }
            let up_to = batch.last().map_or(0, |(id, _)| *id);
            // A disk that is full now may have room again for the next batch.
            failed |= self.commit(&batch).is_err();
            self.told.send_replace(Saved { up_to, failed });
        }
    }

    fn commit(&mut self, batch: &[(u64, Decision)]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare(
                "INSERT INTO decision (id, run, at_s, at_unix_ms, kind, device, request, reason, readings)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            for (id, decision) in batch {
                let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
                let kind = serde_json::to_value(decision.kind).map_err(json)?;
                insert.execute(params![
                    id.cast_signed(),
                    self.run,
                    decision.at_s,
                    self.began + (decision.at_s * 1e3) as i64,
                    kind.as_str(),
                    decision.device.map(|device| device.0),
                    decision.request.map(|request| request.0.cast_signed()),
                    decision.reason,
                    // JSON knows no infinity: a divergence without bound is null.
                    serde_json::to_string(&decision.readings).map_err(json)?,
                ])?;
            }
        }
        rotate(&transaction, self.rows_max)?;
        transaction.commit()
    }
}

/// Let the oldest rows go once there are more than `rows_max`, a tenth at a time, and runs that have none left.
fn rotate(connection: &Connection, rows_max: u64) -> rusqlite::Result<()> {
    let (first, last): (i64, i64) = connection.query_row(
        "SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM decision",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let held = (last - first).unsigned_abs() + 1;
    if held <= rows_max {
        return Ok(());
    }
    let keep_from = last - (rows_max - rows_max / 10).cast_signed();
    connection.execute("DELETE FROM decision WHERE id <= ?1", [keep_from])?;
    connection.execute(
        "DELETE FROM run WHERE id < (SELECT MIN(run) FROM decision)
         AND NOT EXISTS (SELECT 1 FROM decision WHERE decision.run = run.id)",
        [],
    )?;
    Ok(())
}

fn open(path: &Path) -> Result<Connection, JournalError> {
    let failed = |source| JournalError::Sqlite { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let tables: i64 =
        connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let is_ours = pragma("application_id")? == APPLICATION_ID && pragma("user_version")? == SCHEMA_VERSION;
    if tables > 0 && !is_ours {
        return Err(JournalError::Foreign(path.to_owned()));
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    if tables == 0 {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(SCHEMA).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(connection)
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
