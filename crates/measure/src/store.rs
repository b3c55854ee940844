//! Where measurements are kept.
//!
//! One SQLite file. A row is committed to disk before anyone is told of it, so whatever was reported as saved is there
//! after a crash or a power cut (`synchronous = FULL` on a write-ahead log). Rows are JSON documents beside the few
//! columns that queries need: the documents' types are the schema, and older rows stay readable as fields are added
//! with defaults.
//!
//! A **sweep** is a plan on a host. Asking for the same plan on the same host while one is unfinished resumes it;
//! a cell that was finished is never measured again in it. Coverage runs ([`coverage`]) are kept the same way.
//!
//! An older store gains the tables it lacks when it is opened; what it has stays as it is.

pub mod coverage;

use crate::profile::{Cell, Host, Observation, Plan, Roofline};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the schema, in SQLite's own place for it.
const SCHEMA_VERSION: i64 = 2;
/// How long a writer waits for another program that writes at the same moment.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Version 1.
const SCHEMA: &str = "
CREATE TABLE sweep (
    id INTEGER PRIMARY KEY,
    plan TEXT NOT NULL,
    host TEXT NOT NULL,
    begun_unix_ms INTEGER NOT NULL,
    finished_unix_ms INTEGER
);
CREATE TABLE observation (
    id INTEGER PRIMARY KEY,
    sweep INTEGER NOT NULL REFERENCES sweep(id),
    model_sha256 TEXT NOT NULL,
    cell TEXT NOT NULL,
    repetition INTEGER NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (sweep, model_sha256, cell, repetition)
);
CREATE TABLE finished (
    sweep INTEGER NOT NULL REFERENCES sweep(id),
    model_sha256 TEXT NOT NULL,
    cell TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (sweep, model_sha256, cell)
);
CREATE TABLE roofline (
    sweep INTEGER NOT NULL REFERENCES sweep(id),
    device TEXT NOT NULL,
    threads INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (sweep, device, threads)
);
";

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite could not do it.
    #[error("measurement store {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The folder could not be made.
    #[error("folder of the measurement store {}: {source}", path.display())]
    Folder {
        /// The file that was to be in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer QEIL wrote it.
    #[error(
        "measurement store {} has version {found}, this program knows {SCHEMA_VERSION}: use the newer program, or \
         another file with --store",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A row is not what it should be.
    #[error("measurement store {}, table {table}, row {row}: {source}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which table.
        table: &'static str,
        /// Its row number.
        row: i64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The measurement store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

/// A sweep in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepId(i64);

/// What a sweep has already.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// Its rows.
    pub observations: Vec<Observation>,
    /// Cells that need nothing more: checksum of the model, cell, why.
    pub finished: Vec<(String, Cell, String)>,
    /// What its devices can do at most.
    pub rooflines: Vec<Roofline>,
}

/// The user's store: `$QEIL_DATA/measurements.sqlite`, else in the place that the system names for data. `None` without
/// a home folder.
pub fn default_path() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let folder = match std::env::var_os("QEIL_DATA").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => etcetera::choose_base_strategy().ok()?.data_dir().join("qeil"),
    };
    Some(folder.join("measurements.sqlite"))
}

impl Store {
    /// Open the store in this file, or make one there.
    ///
    /// # Errors
    /// When the folder cannot be made, the file is not a store, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| StoreError::Folder { path: path.to_owned(), source })?;
        }
        let failed = |source| StoreError::Database { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        // Two programs may meet a new file at once: whoever gets the write lock first makes the tables.
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        let found: i64 =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        let missing: &[&str] = match found {
            0 => &[SCHEMA, coverage::SCHEMA],
            1 => &[coverage::SCHEMA],
            SCHEMA_VERSION => &[],
            _ => return Err(StoreError::Newer { path: path.to_owned(), found }),
        };
        for tables in missing {
            transaction.execute_batch(tables).map_err(failed)?;
        }
        if !missing.is_empty() {
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }

    /// The unfinished sweep of this plan on this host; with `resume` off, or where there is none, a new one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin(&mut self, plan: &Plan, host: &Host, resume: bool) -> Result<SweepId, StoreError> {
        let (plan, host) = (text(plan), text(host));
        let query = "SELECT id FROM sweep WHERE plan = ?1 AND host = ?2 AND finished_unix_ms IS NULL \
                     ORDER BY id DESC LIMIT 1";
        let known = if resume {
            self.connection
                .query_row(query, params![plan, host], |row| row.get(0))
                .optional()
                .map_err(|source| self.failed(source))?
        } else {
            None
        };
        let id = match known {
            Some(id) => id,
            None => {
                let insert = "INSERT INTO sweep (plan, host, begun_unix_ms) VALUES (?1, ?2, ?3)";
                self.connection
                    .execute(insert, params![plan, host, now_unix_ms() as i64])
                    .map_err(|source| self.failed(source))?;
                self.connection.last_insert_rowid()
            }
        };
        Ok(SweepId(id))
    }

    /// What the sweep has.
    ///
    /// # Errors
    /// Those of the database.
    pub fn done(&self, sweep: SweepId) -> Result<Done, StoreError> {
        let observations = self.documents(
            "observation",
            "SELECT id, document FROM observation WHERE sweep = ?1",
            params![sweep.0],
        )?;
        let query = "SELECT rowid, model_sha256, cell, why FROM finished WHERE sweep = ?1";
        let mut statement = self.connection.prepare(query).map_err(|source| self.failed(source))?;
        let rows = statement
            .query_map(params![sweep.0], |row| {
                Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
            })
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| self.failed(source))?;
        let finished = rows
            .into_iter()
            .map(|(row, sha256, cell, why)| Ok((sha256, self.parse("finished", row, &cell)?, why)))
            .collect::<Result<_, StoreError>>()?;
        let rooflines = self.documents(
            "roofline",
            "SELECT rowid, document FROM roofline WHERE sweep = ?1",
            params![sweep.0],
        )?;
        Ok(Done { observations, finished, rooflines })
    }

    /// Save a row. When this returns, the row is on disk.
    ///
    /// # Errors
    /// Those of the database.
    pub fn save(&mut self, sweep: SweepId, observation: &Observation) -> Result<(), StoreError> {
        let insert = "INSERT INTO observation (sweep, model_sha256, cell, repetition, document) \
                      VALUES (?1, ?2, ?3, ?4, ?5)";
        let Observation { model, cell, repetition, .. } = observation;
        self.connection
            .execute(insert, params![sweep.0, model.sha256, text(cell), repetition, text(observation)])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Mark a cell as needing nothing more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn finish_cell(
        &mut self,
        sweep: SweepId,
        sha256: &str,
        cell: &Cell,
        why: &str,
    ) -> Result<(), StoreError> {
        let insert =
            "INSERT OR REPLACE INTO finished (sweep, model_sha256, cell, why) VALUES (?1, ?2, ?3, ?4)";
        self.connection
            .execute(insert, params![sweep.0, sha256, text(cell), why])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Mark a sweep as complete.
    ///
    /// # Errors
    /// Those of the database.
    pub fn finish(&mut self, sweep: SweepId) -> Result<(), StoreError> {
        self.connection
            .execute(
                "UPDATE sweep SET finished_unix_ms = ?2 WHERE id = ?1",
                params![sweep.0, now_unix_ms() as i64],
            )
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Save what a device can do at most, in place of an earlier figure of the same sweep.
    ///
    /// # Errors
    /// Those of the database.
    pub fn save_roofline(&mut self, sweep: SweepId, roofline: &Roofline) -> Result<(), StoreError> {
        let insert =
            "INSERT OR REPLACE INTO roofline (sweep, device, threads, document) VALUES (?1, ?2, ?3, ?4)";
        self.connection
            .execute(insert, params![sweep.0, roofline.device, roofline.threads, text(roofline)])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// How many sweeps there are.
    ///
    /// # Errors
    /// Those of the database.
    pub fn sweeps(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .query_row("SELECT COUNT(*) FROM sweep", [], |row| row.get(0))
            .map_err(|source| self.failed(source))?;
        Ok(count.unsigned_abs())
    }

    /// All rows of all sweeps, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub fn observations(&self) -> Result<Vec<Observation>, StoreError> {
        self.documents("observation", "SELECT id, document FROM observation ORDER BY id", [])
    }

    /// All rooflines of all sweeps, oldest first: a later probe of the same device replaces an earlier one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn rooflines(&self) -> Result<Vec<Roofline>, StoreError> {
        self.documents("roofline", "SELECT rowid, document FROM roofline ORDER BY rowid", [])
    }

    fn documents<T: DeserializeOwned>(
        &self,
        table: &'static str,
        query: &str,
        with: impl rusqlite::Params,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare(query).map_err(|source| self.failed(source))?;
        let rows = statement
            .query_map(with, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| self.failed(source))?;
        rows.iter().map(|(row, document)| self.parse(table, *row, document)).collect()
    }

    fn parse<T: DeserializeOwned>(
        &self,
        table: &'static str,
        row: i64,
        document: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(document).map_err(|source| StoreError::Row {
            path: self.path.clone(),
            table,
            row,
            source,
        })
    }
}

/// A document. Equal values give equal text, since fields are written in their order of declaration.
fn text<T: Serialize>(value: &T) -> String {
    // Plain structs of numbers and strings: only a map with keys that are no strings could fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{host, plan, row};

    fn store() -> (tempfile::TempDir, PathBuf, Store) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/here/store.sqlite");
        let store = Store::open(&path).unwrap();
        (folder, path, store)
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let (_folder, path, mut store) = store();
        let sweep = store.begin(&plan(), &host(), true).unwrap();
        let rows = [row(1.0, Some(2.0), 3.0), Observation { repetition: 1, ..row(4.0, None, 5.0) }];
        for row in &rows {
            store.save(sweep, row).unwrap();
        }
        let cell = rows[0].cell.clone();
        store.finish_cell(sweep, "00", &cell, "narrow").unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let done = store.done(sweep).unwrap();
        assert_eq!(done.observations, rows);
        assert_eq!(done.finished, [("00".to_owned(), cell, "narrow".to_owned())]);
        assert_eq!(store.observations().unwrap(), rows);
    }

    #[test]
    fn a_repetition_is_saved_once() {
        let (_folder, _, mut store) = store();
        let sweep = store.begin(&plan(), &host(), true).unwrap();
        store.save(sweep, &row(1.0, None, 1.0)).unwrap();
        assert!(matches!(store.save(sweep, &row(2.0, None, 1.0)), Err(StoreError::Database { .. })));
    }

    #[test]
    fn an_unfinished_sweep_of_the_same_plan_and_host_goes_on() {
        let (_folder, _, mut store) = store();
        let first = store.begin(&plan(), &host(), true).unwrap();
        assert_eq!(store.begin(&plan(), &host(), true).unwrap(), first);
        let other = Plan { seed: 9, ..plan() };
        assert_ne!(store.begin(&other, &host(), true).unwrap(), first);
        let newer = Host { qeil_version: "9".into(), ..host() };
        assert_ne!(store.begin(&plan(), &newer, true).unwrap(), first);
        let again = store.begin(&plan(), &host(), false).unwrap();
        assert_ne!(again, first, "asked not to resume");
        store.finish(again).unwrap();
        assert_eq!(store.begin(&plan(), &host(), true).unwrap(), first, "the other is still unfinished");
        store.finish(first).unwrap();
        assert_ne!(store.begin(&plan(), &host(), true).unwrap(), first);
        assert_eq!(store.sweeps().unwrap(), 5);
    }

    #[test]
    fn rooflines_come_oldest_first() {
        let (_folder, _, mut store) = store();
        let roof = |read_bytes_per_s| Roofline {
            machine: "a machine".into(),
            device: "CPU".into(),
            threads: 2,
            read_bytes_per_s,
            f32_flop_per_s: 1e9,
            source: "test".into(),
        };
        let first = store.begin(&plan(), &host(), true).unwrap();
        store.save_roofline(first, &roof(1.0)).unwrap();
        let second = store.begin(&plan(), &host(), false).unwrap();
        store.save_roofline(second, &roof(2.0)).unwrap();
        store.save_roofline(second, &Roofline { threads: 1, ..roof(3.0) }).unwrap();
        let found: Vec<_> =
            store.rooflines().unwrap().iter().map(|r| (r.threads, r.read_bytes_per_s)).collect();
        assert_eq!(found, [(2, 1.0), (2, 2.0), (1, 3.0)]);
        assert_eq!(store.done(first).unwrap().rooflines, [roof(1.0)]);
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(
            &text,
            "this is a text file, and a long one, so that it is no empty database\n".repeat(20),
        )
        .unwrap();
        let error = Store::open(&text).unwrap_err().to_string();
        assert!(error.contains("not a database"), "{error}");

        let (_folder, path, store) = store();
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");

        let (_folder, path, mut store) = self::store();
        let sweep = store.begin(&plan(), &host(), true).unwrap();
        store.save(sweep, &row(1.0, None, 1.0)).unwrap();
        store.connection.execute("UPDATE observation SET document = '{'", []).unwrap();
        let error = Store::open(&path).unwrap().observations().unwrap_err().to_string();
        assert!(error.contains("observation") && error.contains("row 1"), "{error}");
    }
}
