//! Reading the journal: rows by time, device, request and kind, and the decisions of a run up to a moment.

use super::{JournalError, open};
use qeil_control::config::{Config, DeviceId};
use qeil_control::event::RequestId;
use qeil_control::journal::{Decision, Kind};
use rusqlite::{Connection, params};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Not before this time, milliseconds since 1970.
    pub since_unix_ms: Option<i64>,
    /// About this device, by name.
    pub device: Option<String>,
    /// About this request.
    pub request: Option<u64>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// The last so many.
    pub limit: u32,
}

/// A decision as it was saved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its number.
    pub id: u64,
    /// The run.
    pub run: i64,
    /// When, milliseconds since 1970.
    pub at_unix_ms: i64,
    /// The device's name.
    pub device_name: Option<String>,
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
}

/// A run of the loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// When it began, milliseconds since 1970.
    pub began_unix_ms: i64,
    /// What it was told.
    pub config: Config,
}

/// A journal opened for reading.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Connection,
}

impl Journal {
    /// Open the journal at `path`.
    ///
    /// # Errors
    /// Where there is none, or it is something else.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.is_file() {
            let source =
                std::io::Error::new(std::io::ErrorKind::NotFound, "no journal has been written there yet");
            return Err(JournalError::Io { path: path.into(), source });
        }
        Ok(Self { path: path.to_owned(), connection: open(path)? })
    }

    /// The last rows that `filter` lets through, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn rows(&self, filter: &Filter) -> Result<Vec<Row>, JournalError> {
        let runs = self.runs()?;
        let kind = filter.kind.map(word);
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, run, at_s, at_unix_ms, kind, device, request, reason, readings FROM decision
                 WHERE (?1 IS NULL OR at_unix_ms >= ?1) AND (?2 IS NULL OR request = ?2) AND (?3 IS NULL OR kind = ?3)
                 ORDER BY id DESC",
            )
            .map_err(|source| self.failed(source))?;
        let request = filter.request.map(u64::cast_signed);
        let mut found = statement
            .query(params![filter.since_unix_ms, request, kind])
            .map_err(|source| self.failed(source))?;
        let mut rows = Vec::new();
        while rows.len() < filter.limit as usize
            && let Some(row) = found.next().map_err(|source| self.failed(source))?
        {
            let row = self.row(row, &runs)?;
            let named =
                |name: &String| row.device_name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
            if filter.device.as_ref().is_none_or(named) {
                rows.push(row);
            }
        }
        rows.reverse();
        Ok(rows)
    }

    /// The run that was going at a time, and its decisions up to then; `None` where none had begun.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn until(&self, unix_ms: i64) -> Result<Option<(Run, Vec<Decision>)>, JournalError> {
        let Some(run) = self.runs()?.into_iter().rfind(|run| run.began_unix_ms <= unix_ms) else {
            return Ok(None);
        };
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, run, at_s, at_unix_ms, kind, device, request, reason, readings FROM decision
                 WHERE run = ?1 AND at_unix_ms <= ?2 ORDER BY id",
            )
            .map_err(|source| self.failed(source))?;
        let mut found = statement.query(params![run.id, unix_ms]).map_err(|source| self.failed(source))?;
        let mut decisions = Vec::new();
        while let Some(row) = found.next().map_err(|source| self.failed(source))? {
            decisions.push(self.row(row, &[])?.decision);
        }
        Ok(Some((run, decisions)))
    }

    /// All runs, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn runs(&self) -> Result<Vec<Run>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT id, began_unix_ms, config FROM run ORDER BY id")
            .map_err(|source| self.failed(source))?;
        let mut found = statement.query([]).map_err(|source| self.failed(source))?;
        let mut runs = Vec::new();
        while let Some(row) = found.next().map_err(|source| self.failed(source))? {
            let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(i64, i64, String)> {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            };
            let (id, began_unix_ms, text) = read(row).map_err(|source| self.failed(source))?;
            let config = serde_json::from_str(&text).map_err(|error| self.garbled(id, &error))?;
            runs.push(Run { id, began_unix_ms, config });
        }
        Ok(runs)
    }

    fn row(&self, row: &rusqlite::Row<'_>, runs: &[Run]) -> Result<Row, JournalError> {
        type Fields = (i64, i64, f64, i64, String, Option<u16>, Option<i64>, String, String);
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Fields> {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
            ))
        };
        let (id, run, at_s, at_unix_ms, kind, device, request, reason, readings) =
            read(row).map_err(|source| self.failed(source))?;
        let kind = serde_json::from_value(kind.into()).map_err(|error| self.garbled(id, &error))?;
        let readings: Vec<(String, Option<f64>)> =
            serde_json::from_str(&readings).map_err(|error| self.garbled(id, &error))?;
        let readings =
            readings.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::INFINITY))).collect();
        let device_name = device.and_then(|device| {
            let config = &runs.iter().find(|known| known.id == run)?.config;
            config.devices.get(usize::from(device)).map(|device| device.name.clone())
        });
        let decision = Decision {
            at_s,
            kind,
            device: device.map(DeviceId),
            request: request.map(|request| RequestId(request.cast_unsigned())),
            reason,
            readings,
        };
        Ok(Row { id: id.unsigned_abs(), run, at_unix_ms, device_name, decision })
    }

    fn failed(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), source }
    }

    fn garbled(&self, row: i64, why: &dyn std::fmt::Display) -> JournalError {
        JournalError::Garbled { path: self.path.clone(), row, why: why.to_string() }
    }
}

/// A kind as it stands in the table.
fn word(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
