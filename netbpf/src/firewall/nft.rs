//! Runs the program `nft`: commands in, JSON out.

use std::{ffi::OsString, path::Path, process::Stdio};

use serde::{Deserialize, de::DeserializeOwned};
use tokio::{io::AsyncWriteExt, process::Command};

use super::Error;
use crate::fault;

/// A call of `nft`, found in `/usr/sbin` and `/sbin` also if `PATH` lacks them, as it does for users other than root.
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

/// Checks that `nft` can be run.
pub async fn check() -> Result<(), Error> {
    let status = command().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    match status {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoNft),
        Err(error) => Err(Error::Run(error)),
    }
}

/// Runs commands in one transaction: all take effect or none.
pub async fn run(operation: &'static str, commands: &str) -> Result<(), Error> {
    if commands.is_empty() {
        return Ok(());
    }
    fault::call("nft").map_err(Error::Run)?;
    let mut child = command()
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::Run)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let said = tokio::spawn(child.wait_with_output());
    // If nft ended early, its error output tells why.
    let _ = stdin.write_all(commands.as_bytes()).await;
    drop(stdin);
    let output = said.await.map_err(|error| Error::Run(error.into()))?.map_err(Error::Run)?;
    if output.status.success() { Ok(()) } else { Err(refused(operation, &output.stderr)) }
}

/// The first line is the error; the lines after it quote the commands.
fn refused(operation: &'static str, stderr: &[u8]) -> Error {
    let said = String::from_utf8_lossy(stderr);
    Error::Refused { operation, said: said.lines().next().unwrap_or_default().to_owned() }
}

/// Runs `nft -j list …` and returns the objects that can be parsed as `T`.
async fn list<T: DeserializeOwned>(operation: &'static str, what: &[&str]) -> Result<Vec<T>, Error> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<serde_json::Value>,
    }
    fault::call("nft").map_err(Error::Run)?;
    let output = command().args(["-j", "-t", "list"]).args(what).output().await.map_err(Error::Run)?;
    if !output.status.success() {
        return Err(refused(operation, &output.stderr));
    }
    let unreadable = |source| Error::Unreadable { operation, source };
    let listing: Listing = serde_json::from_slice(&output.stdout).map_err(unreadable)?;
    Ok(listing.nftables.into_iter().filter_map(|object| serde_json::from_value(object).ok()).collect())
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
    let tables = list::<Object>("list the tables", &["tables", "inet"]).await?;
    Ok(tables.into_iter().map(|object| object.table.name).collect())
}

/// The counters of a table; none if there is no such table. Listing one missing table is an error in words only, so the
/// counters of all tables of the family are listed.
pub async fn counters(table: &str) -> Result<Vec<Counted>, Error> {
    #[derive(Deserialize)]
    struct Object {
        counter: Counter,
    }
    #[derive(Deserialize)]
    struct Counter {
        table: String,
        #[serde(flatten)]
        counted: Counted,
    }
    let all = list::<Object>("read the counters", &["counters", "inet"]).await?;
    let own = all.into_iter().map(|object| object.counter).filter(|counter| counter.table == table);
    Ok(own.map(|counter| counter.counted).collect())
}

/// A named counter of our table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Counted {
    /// The reason why packets were dropped.
    pub name: String,
    /// Number of packets.
    pub packets: u64,
    /// Their length in bytes, without Ethernet headers.
    pub bytes: u64,
}
