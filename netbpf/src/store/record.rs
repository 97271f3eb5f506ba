//! The format of the records: the model as JSON, by ID. A test pins the exact text of format 1. A new field has a
//! default for records without it; any other change needs a new format number and a reader for the old format.

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

use super::{Change, Records};

/// The format number that this version reads and writes.
pub const FORMAT: u32 = 1;

type Table = TableDefinition<'static, &'static str, &'static str>;

const META: TableDefinition<'static, &'static str, u32> = TableDefinition::new("netbpf");
const NETWORKS: Table = TableDefinition::new("networks");
const CONTAINERS: Table = TableDefinition::new("containers");
/// Lent subnets, by subnet. Stores of earlier versions do not have this table.
const LENT: Table = TableDefinition::new("lent");

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has another format, with this number.
    #[error("format {0}")]
    Format(u32),
    /// A table is missing, or redb cannot read it.
    #[error(transparent)]
    Database(#[from] redb::Error),
    /// A record cannot be parsed.
    #[error("record {key} of {table}: {source}")]
    Record {
        /// The table of the record.
        table: &'static str,
        /// Its key.
        key: String,
        /// Where the JSON is wrong.
        source: serde_json::Error,
    },
}

/// Creates the tables.
pub fn initialise(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(NETWORKS)?;
    transaction.open_table(CONTAINERS)?;
    Ok(())
}

/// Reads all records.
pub fn read(transaction: &ReadTransaction) -> Result<Records, Error> {
    let meta = transaction.open_table(META).map_err(redb::Error::from)?;
    match meta.get("format").map_err(redb::Error::from)?.map(|format| format.value()) {
        Some(FORMAT) => Ok(Records {
            networks: read_table(transaction, "networks", NETWORKS)?,
            containers: read_table(transaction, "containers", CONTAINERS)?,
            lent: match transaction.open_table(LENT) {
                Err(TableError::TableDoesNotExist(_)) => Vec::new(),
                _ => read_table(transaction, "lent", LENT)?,
            },
        }),
        other => Err(Error::Format(other.unwrap_or(0))),
    }
}

fn read_table<T: DeserializeOwned>(
    transaction: &ReadTransaction,
    name: &'static str,
    table: Table,
) -> Result<Vec<T>, Error> {
    let table = transaction.open_table(table).map_err(redb::Error::from)?;
    let entries = redb::ReadableTable::iter(&table).map_err(redb::Error::from)?;
    entries
        .map(|entry| {
            let (key, text) = entry.map_err(redb::Error::from)?;
            serde_json::from_str(text.value()).map_err(|source| Error::Record {
                table: name,
                key: key.value().to_owned(),
                source,
            })
        })
        .collect()
}

/// The new value of a record.
pub struct Write {
    table: Table,
    key: String,
    /// The record's JSON; `None` removes the record.
    text: Option<String>,
}

impl From<&Change> for Write {
    fn from(change: &Change) -> Self {
        match change {
            Change::PutNetwork(network) => Self::put(NETWORKS, network.id, network),
            Change::RemoveNetwork(id) => Self::remove(NETWORKS, *id),
            Change::PutContainer(container) => Self::put(CONTAINERS, container.id, container),
            Change::RemoveContainer(id) => Self::remove(CONTAINERS, *id),
            Change::PutLent(lent) => Self::put(LENT, lent.subnet, lent),
            Change::RemoveLent(subnet) => Self::remove(LENT, *subnet),
        }
    }
}

impl Write {
    fn put(table: Table, id: impl ToString, record: &impl Serialize) -> Self {
        let text =
            serde_json::to_string(record).expect("the model has string keys and no failing serializer");
        Self { table, key: id.to_string(), text: Some(text) }
    }

    fn remove(table: Table, id: impl ToString) -> Self {
        Self { table, key: id.to_string(), text: None }
    }

    /// Writes the value, and returns the write that restores the one before.
    pub fn apply(&self, transaction: &WriteTransaction) -> Result<Self, redb::Error> {
        let mut table = transaction.open_table(self.table)?;
        let key = self.key.as_str();
        let before = match &self.text {
            Some(text) => table.insert(key, text.as_str())?,
            None => table.remove(key)?,
        };
        let text = before.map(|text| text.value().to_owned());
        Ok(Self { table: self.table, key: self.key.clone(), text })
    }
}
