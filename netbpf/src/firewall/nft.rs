//! The program `nft`: commands in, JSON out.

use std::{ffi::OsString, path::Path, process::Stdio};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::{io::AsyncWriteExt, process::Command};

use super::Error;

/// Where the program is, also for a `PATH` without the folders that only root uses.
fn command() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new("nft");
    if !std::env::split_paths(&path).any(|folder| folder == Path::new("/usr/sbin")) {
        let mut longer: OsString = path;
        longer.push(":/usr/sbin:/sbin");
        command.env("PATH", longer);
    }
    command.kill_on_drop(true);
    command
}

/// Whether there is one.
pub async fn check() -> Result<(), Error> {
    let status = command().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    match status {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoNft),
        Err(error) => Err(Error::Run(error)),
    }
}

/// Carries out commands, all or none.
pub async fn run(operation: &'static str, commands: &str) -> Result<(), Error> {
    if commands.is_empty() {
        return Ok(());
    }
    let mut child = command()
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::Run)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let said = tokio::spawn(child.wait_with_output());
    // One that ended early says why.
    let _ = stdin.write_all(commands.as_bytes()).await;
    drop(stdin);
    let output = said.await.map_err(|error| Error::Run(error.into()))?.map_err(Error::Run)?;
    if output.status.success() { Ok(()) } else { Err(refused(operation, &output.stderr)) }
}

/// The first line is the error; those after it show where in our text.
fn refused(operation: &'static str, stderr: &[u8]) -> Error {
    let said = String::from_utf8_lossy(stderr);
    Error::Refused { operation, said: said.lines().next().unwrap_or_default().to_owned() }
}

/// What `nft -j list …` prints, of the objects that are a `T`; `None` if there is no such thing.
pub async fn list<T: DeserializeOwned>(
    operation: &'static str,
    what: &[&str],
) -> Result<Option<Vec<T>>, Error> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<serde_json::Value>,
    }
    let output = command().args(["-j", "-t", "list"]).args(what).output().await.map_err(Error::Run)?;
    if !output.status.success() {
        let error = refused(operation, &output.stderr);
        let is_missing = matches!(&error, Error::Refused { said, .. } if said.contains("No such file"));
        return if is_missing { Ok(None) } else { Err(error) };
    }
    let unreadable = |source| Error::Unreadable { operation, source };
    let listing: Listing = serde_json::from_slice(&output.stdout).map_err(unreadable)?;
    // Objects of other kinds are no `T`.
    Ok(Some(listing.nftables.into_iter().filter_map(|object| serde_json::from_value(object).ok()).collect()))
}

/// Names of the tables of the family `inet`.
pub async fn tables() -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Object {
        table: Table,
    }
    #[derive(Deserialize)]
    struct Table {
        name: String,
    }
    let tables = list::<Object>("list the tables", &["tables", "inet"]).await?.unwrap_or_default();
    Ok(tables.into_iter().map(|object| object.table.name).collect())
}

/// Packets and bytes that our table counts, by name.
pub async fn counters(table: &str) -> Result<Vec<Counted>, Error> {
    #[derive(Deserialize)]
    struct Object {
        counter: Counted,
    }
    let counters = list::<Object>("read the counters", &["counters", "table", "inet", table]).await?;
    Ok(counters.unwrap_or_default().into_iter().map(|object| object.counter).collect())
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Counted {
    /// Why packets ended here.
    pub name: String,
    /// How many.
    pub packets: u64,
    /// How long they were, without Ethernet headers.
    pub bytes: u64,
}

/// How many rules our table has; `None` if there is no table.
pub async fn rule_count(table: &str) -> Result<Option<usize>, Error> {
    #[derive(Deserialize)]
    struct Object {
        #[serde(rename = "rule")]
        _rule: serde_json::Value,
    }
    let rules = list::<Object>("read the table", &["table", "inet", table]).await?;
    Ok(rules.map(|rules| rules.len()))
}
