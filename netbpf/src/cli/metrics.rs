//! `metrics`: prints what Prometheus reads, or serves it at an address. The daemon itself listens at its socket only.

use std::{io::Write as _, net::SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{Error, console::Console};
use crate::api::client::Client;

/// The format of the answer: Prometheus' text format.
const FORMAT: &str = "text/plain; version=0.0.4";

/// `metrics`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf metrics --listen 127.0.0.1:9477")]
pub struct Metrics {
    /// Serve them at http://ADDRESS:PORT/metrics until interrupted, instead of printing them
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

impl Metrics {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let Some(address) = self.listen else {
            console.out.write_all(&client.metrics().await?)?;
            return Ok(0);
        };
        let listener = TcpListener::bind(address).await.map_err(|error| Error::Listen { address, error })?;
        // The port is the kernel's choice if it is 0.
        writeln!(console.out, "http://{}/metrics", listener.local_addr()?)?;
        console.out.flush()?;
        axum::serve(listener, routes(client.clone())).await?;
        Ok(0)
    }
}

fn routes(client: Client) -> Router {
    Router::new().route("/metrics", get(show)).with_state(client)
}

/// Without a daemon, Prometheus takes the target for down.
async fn show(State(client): State<Client>) -> Response {
    match client.metrics().await {
        Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}
