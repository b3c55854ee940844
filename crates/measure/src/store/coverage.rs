//! Coverage runs in the store.
//!
//! A run is a plan on a host with the settings it was begun with: a resumed run keeps them even if tuning would choose
//! others today, since they are part of what its samples were drawn under. A **sitting** is one start of the program on
//! it; its row is written anew every few seconds, so that a kill loses seconds of accounts and no sample.

use super::{Store, StoreError, now_unix_ms, text};
use crate::coverage::{CoveragePlan, SampleRow, Sitting};
use crate::profile::{Host, ModelIdentity};
use crate::settings::Settings;
use rusqlite::{OptionalExtension, params};

/// What version 2 added.
pub(super) const SCHEMA: &str = "
CREATE TABLE coverage_run (
    id INTEGER PRIMARY KEY,
    plan TEXT NOT NULL,
    host TEXT NOT NULL,
    model TEXT NOT NULL,
    settings TEXT NOT NULL,
    begun_unix_ms INTEGER NOT NULL,
    finished_unix_ms INTEGER
);
CREATE TABLE coverage_sample (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES coverage_run(id),
    task TEXT NOT NULL,
    sample INTEGER NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (run, task, sample)
);
CREATE TABLE coverage_sitting (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES coverage_run(id),
    document TEXT NOT NULL
);
";

/// A coverage run in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoverageId(i64);

/// A sitting in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SittingId(i64);

/// A coverage run with everything it has.
#[derive(Debug, Clone, PartialEq)]
pub struct CoverageRun {
    /// Its number in the store.
    pub number: i64,
    /// Its plan.
    pub plan: CoveragePlan,
    /// Where.
    pub host: Host,
    /// The model.
    pub model: ModelIdentity,
    /// The engine's settings.
    pub settings: Settings,
    /// When it began, in milliseconds since 1970.
    pub begun_unix_ms: u64,
    /// Whether every task is settled.
    pub finished: bool,
    /// Its samples, in the order of tasks and numbers.
    pub samples: Vec<SampleRow>,
    /// Its sittings, oldest first.
    pub sittings: Vec<Sitting>,
}

impl Store {
    /// The unfinished run of this plan on this host, if there is one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn unfinished_coverage(
        &self,
        plan: &CoveragePlan,
        host: &Host,
    ) -> Result<Option<CoverageId>, StoreError> {
        let query = "SELECT id FROM coverage_run WHERE plan = ?1 AND host = ?2 AND finished_unix_ms IS NULL \
                     ORDER BY id DESC LIMIT 1";
        self.connection
            .query_row(query, params![text(plan), text(host)], |row| row.get(0).map(CoverageId))
            .optional()
            .map_err(|source| self.failed(source))
    }

    /// The number of the last finished run of this plan on this host, and when it ended, in milliseconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub fn finished_coverage(
        &self,
        plan: &CoveragePlan,
        host: &Host,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let query = "SELECT id, finished_unix_ms FROM coverage_run \
                     WHERE plan = ?1 AND host = ?2 AND finished_unix_ms IS NOT NULL ORDER BY id DESC LIMIT 1";
        self.connection
            .query_row(query, params![text(plan), text(host)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|source| self.failed(source))
    }

    /// A new run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin_coverage(
        &mut self,
        plan: &CoveragePlan,
        host: &Host,
        model: &ModelIdentity,
        settings: &Settings,
    ) -> Result<CoverageId, StoreError> {
        let insert = "INSERT INTO coverage_run (plan, host, model, settings, begun_unix_ms) \
                      VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![text(plan), text(host), text(model), text(settings), now_unix_ms() as i64];
        self.connection.execute(insert, values).map_err(|source| self.failed(source))?;
        Ok(CoverageId(self.connection.last_insert_rowid()))
    }

    /// Save a sample. When this returns, it is on disk.
    ///
    /// # Errors
    /// Those of the database.
    pub fn save_sample(&mut self, run: CoverageId, row: &SampleRow) -> Result<(), StoreError> {
        let insert = "INSERT INTO coverage_sample (run, task, sample, document) VALUES (?1, ?2, ?3, ?4)";
        self.connection
            .execute(insert, params![run.0, row.task, row.sample, text(row)])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// A new sitting of a run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin_sitting(&mut self, run: CoverageId, sitting: &Sitting) -> Result<SittingId, StoreError> {
        let insert = "INSERT INTO coverage_sitting (run, document) VALUES (?1, ?2)";
        self.connection
            .execute(insert, params![run.0, text(sitting)])
            .map_err(|source| self.failed(source))?;
        Ok(SittingId(self.connection.last_insert_rowid()))
    }

    /// How far a sitting is.
    ///
    /// # Errors
    /// Those of the database.
    pub fn save_sitting(&mut self, id: SittingId, sitting: &Sitting) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE coverage_sitting SET document = ?2 WHERE id = ?1", params![id.0, text(sitting)])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Mark a run as complete: asking for its plan again begins a new one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn finish_coverage(&mut self, run: CoverageId) -> Result<(), StoreError> {
        let update = "UPDATE coverage_run SET finished_unix_ms = ?2 WHERE id = ?1";
        self.connection
            .execute(update, params![run.0, now_unix_ms() as i64])
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// One run.
    ///
    /// # Errors
    /// Those of the database.
    pub fn coverage_run(&self, run: CoverageId) -> Result<CoverageRun, StoreError> {
        let query = "SELECT id, plan, host, model, settings, begun_unix_ms, finished_unix_ms IS NOT NULL \
                     FROM coverage_run WHERE id = ?1";
        let (number, [plan, host, model, settings], begun, finished) = self
            .connection
            .query_row(query, params![run.0], |row| {
                let documents: [String; 4] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
                Ok((row.get::<_, i64>(0)?, documents, row.get::<_, i64>(5)?, row.get(6)?))
            })
            .map_err(|source| self.failed(source))?;
        let plan: CoveragePlan = self.parse("coverage_run", number, &plan)?;
        let mut samples: Vec<SampleRow> = self.documents(
            "coverage_sample",
            "SELECT id, document FROM coverage_sample WHERE run = ?1",
            params![run.0],
        )?;
        let place: std::collections::HashMap<&str, usize> =
            plan.tasks.iter().enumerate().map(|(at, task)| (task.id.as_str(), at)).collect();
        samples.sort_by_key(|row| (place.get(row.task.as_str()).copied(), row.sample));
        Ok(CoverageRun {
            number,
            host: self.parse("coverage_run", number, &host)?,
            model: self.parse("coverage_run", number, &model)?,
            settings: self.parse("coverage_run", number, &settings)?,
            begun_unix_ms: begun.unsigned_abs(),
            finished,
            samples,
            sittings: self.documents(
                "coverage_sitting",
                "SELECT id, document FROM coverage_sitting WHERE run = ?1 ORDER BY id",
                params![run.0],
            )?,
            plan,
        })
    }

    /// All runs, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub fn coverage_runs(&self) -> Result<Vec<CoverageRun>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT id FROM coverage_run ORDER BY id")
            .map_err(|source| self.failed(source))?;
        let ids = statement
            .query_map([], |row| row.get(0).map(CoverageId))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| self.failed(source))?;
        ids.into_iter().map(|id| self.coverage_run(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::tests::{plan, row};
    use crate::profile::tests::{host, row as observation};
    use crate::settings::CANDIDATES;
    use rusqlite::Connection;

    fn begun(store: &mut Store) -> CoverageId {
        let model = observation(1.0, None, 1.0).model;
        store.begin_coverage(&plan(), &host(), &model, &CANDIDATES[0]).unwrap()
    }

    #[test]
    fn a_run_comes_back_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.unfinished_coverage(&plan(), &host()).unwrap(), None);
        let id = begun(&mut store);
        let sitting = store.begin_sitting(id, &Sitting::default()).unwrap();
        // Samples end in any order, and come back in that of the plan.
        for (task, sample) in [("b", 0), ("a", 2), ("a", 0)] {
            store.save_sample(id, &row(task, sample, false)).unwrap();
        }
        let told = Sitting { wall_s: 2.0, ended: Some("budget".into()), ..Sitting::default() };
        store.save_sitting(sitting, &told).unwrap();
        drop(store);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.unfinished_coverage(&plan(), &host()).unwrap(), Some(id));
        let run = store.coverage_run(id).unwrap();
        assert_eq!((&run.plan, &run.host, run.settings), (&plan(), &host(), CANDIDATES[0]));
        let order: Vec<_> = run.samples.iter().map(|row| (row.task.as_str(), row.sample)).collect();
        assert_eq!(order, [("a", 0), ("a", 2), ("b", 0)]);
        assert_eq!(run.sittings, [told]);
        assert!(!run.finished);
        assert_eq!(store.finished_coverage(&plan(), &host()).unwrap(), None);
        store.finish_coverage(id).unwrap();
        let (number, _) = store.finished_coverage(&plan(), &host()).unwrap().unwrap();
        assert_eq!(number, run.number);
        assert!(store.coverage_run(id).unwrap().finished);
        assert_eq!(store.unfinished_coverage(&plan(), &host()).unwrap(), None, "a new one begins");
        let other = CoveragePlan { samples: 9, ..plan() };
        assert_eq!(store.unfinished_coverage(&other, &host()).unwrap(), None);
        assert_eq!(store.finished_coverage(&other, &host()).unwrap(), None);
    }

    #[test]
    fn a_sample_is_saved_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("store.sqlite")).unwrap();
        let id = begun(&mut store);
        store.save_sample(id, &row("a", 1, true)).unwrap();
        assert!(matches!(store.save_sample(id, &row("a", 1, false)), Err(StoreError::Database { .. })));
        assert_eq!(store.coverage_run(id).unwrap().samples, [row("a", 1, true)]);
    }

    #[test]
    fn a_store_of_version_1_gains_the_tables_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(super::super::SCHEMA).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute("INSERT INTO sweep (plan, host, begun_unix_ms) VALUES ('{}', '{}', 1)", []).unwrap();
        drop(old);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.sweeps().unwrap(), 1);
        let id = begun(&mut store);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.coverage_runs().unwrap().len(), 1, "and is version 2 from then on");
        assert_eq!(store.unfinished_coverage(&plan(), &host()).unwrap(), Some(id));
    }
}
