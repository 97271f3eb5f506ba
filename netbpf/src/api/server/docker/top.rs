//! `top`: what `ps` of the host says about the processes of a container, as in Docker.

use std::process::{Output, Stdio};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use bollard::models::ContainerTopResponse;
use serde::Deserialize;
use tokio::process::Command;

use super::{super::error::Error, Shared};

#[derive(Deserialize)]
pub struct TopQuery {
    #[serde(default)]
    ps_args: String,
}

/// `GET /containers/C/top`.
pub async fn top(
    State(docker): Shared,
    Path(container): Path<String>,
    Query(query): Query<TopQuery>,
) -> Result<Json<ContainerTopResponse>, Error> {
    let processes = docker.daemon.processes(&container)?;
    let options = if query.ps_args.trim().is_empty() { "-ef" } else { &query.ps_args };
    let output = ps(options).await.map_err(|error| Error::Ps(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Ps(text.trim().lines().next().unwrap_or("it failed").to_owned()));
    }
    parse(&String::from_utf8_lossy(&output.stdout), &processes).map(Json)
}

/// Runs `ps` for all processes: not all of its options can be used with a list of PIDs.
async fn ps(options: &str) -> std::io::Result<Output> {
    let command = Command::new("ps").args(options.split_ascii_whitespace()).stdin(Stdio::null()).output();
    command.await
}

/// The lines about these processes. Words beyond the last title belong to the last column.
fn parse(text: &str, processes: &[u32]) -> Result<ContainerTopResponse, Error> {
    let mut lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let titles: Vec<_> = lines.next().unwrap_or_default().into_iter().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(Error::Invalid("Couldn't find PID field in ps output".into()));
    };
    // A line without a PID is about a thread of the process before it.
    let mut is_of_container = false;
    let mut rows = Vec::new();
    for words in lines.filter(|words| words.len() >= titles.len()) {
        if words[column] != "-" {
            is_of_container = words[column].parse().is_ok_and(|pid| processes.contains(&pid));
        }
        if is_of_container {
            let (first, last) = words.split_at(titles.len() - 1);
            rows.push(first.iter().map(|word| (*word).to_owned()).chain([last.join(" ")]).collect());
        }
    }
    Ok(ContainerTopResponse { titles: Some(titles), processes: Some(rows) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_container_are_listed() {
        let text = "UID  PID  PPID CMD\nroot   7    1 sleep  9 9\nroot  -    - -\nroot  8  1 sh\nroot - - -\nshort\n";
        let top = parse(text, &[7, 9]).expect("a list");
        assert_eq!(top.titles.expect("titles"), ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(
            top.processes.expect("processes"),
            [vec!["root", "7", "1", "sleep 9 9"], vec!["root", "-", "-", "-"]]
        );
        assert!(parse("CMD\nsh\n", &[7]).is_err());
        assert!(parse("", &[7]).is_err());
    }
}
