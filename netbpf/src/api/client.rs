//! The client of the API: one method for each request, with one connection each, on a unix socket. Knows the messages
//! and HTTP, but not who calls it or what is printed.

mod drops;
mod explain;
mod target;

use std::{
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

pub use self::drops::DropQuery;
use self::target::{container_path, filter_query, network_path, stop_query, target};
use super::events::Event;
use super::types::{
    self, ContainerCreate, ContainerResource, ContainerSummary, ContainerUpdate, ContainerWait, Created,
    Info, LogLine, NetworkConnect, NetworkConnected, NetworkCreate, NetworkCreated, NetworkDisconnect,
    NetworkResource, NetworkUpdate, NetworksPruned, Stats, Version,
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("Cannot connect to the netbpf daemon at unix://{}. Is the netbpf daemon running?", socket.display())]
    Unreachable {
        /// The path of the socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The user may not connect to the socket.
    #[error(
        "permission denied while trying to connect to the netbpf daemon at unix://{}: \
         become root or a member of the group netbpf",
        socket.display()
    )]
    Forbidden {
        /// The path of the socket.
        socket: PathBuf,
    },
    /// The connection broke, or the peer is not a netbpf daemon.
    #[error("{operation}: no answer from the netbpf daemon: {source}")]
    Lost {
        /// Method and path.
        operation: String,
        /// The cause.
        source: hyper::Error,
    },
    /// The request cannot be written as HTTP.
    #[error("{operation}: {source}")]
    Request {
        /// Method and path.
        operation: String,
        /// The cause.
        source: hyper::http::Error,
    },
    /// A message cannot be encoded or decoded.
    #[error("{operation}: unexpected message: {source}")]
    Message {
        /// Method and path.
        operation: String,
        /// Where the JSON is wrong.
        source: serde_json::Error,
    },
    /// The daemon refused the request.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// The status code, which is Docker's.
        status: StatusCode,
        /// The message, which is Docker's if Docker has one.
        message: String,
        /// The exit code for `run`, if the command could not be started.
        exit_code: Option<u8>,
    },
    /// The name is empty, and a path cannot contain an empty name.
    #[error("invalid {0} name or ID: value is empty")]
    NoName(&'static str),
}

impl Error {
    /// Whether the daemon does not know the object of the request.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Filters of a list: keys and values in the order typed.
pub type Filters = [(String, String)];

/// Selects the lines of a log.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Whether to continue until the container ends.
    pub follow: bool,
    /// How many of the last lines; `None` for all.
    pub tail: Option<u64>,
    /// The time of the earliest line.
    pub since: Option<Timestamp>,
}

/// A client of one daemon. A request fails with [`Error::Unreachable`] or [`Error::Forbidden`] if it gets no
/// connection, with [`Error::Lost`] or [`Error::Message`] if it gets no answer that can be read, and with
/// [`Error::Refused`], with Docker's status code and message, if the daemon refuses it.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at this socket. Each request makes a connection.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The path of the daemon's socket, which is in its run directory.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// Those of [`Client`]; the daemon never refuses it.
    pub async fn version(&self) -> Result<Version> {
        self.get("/version".to_owned()).await
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// Those of [`Client`]; the daemon never refuses it.
    pub async fn info(&self) -> Result<Info> {
        self.get("/info".to_owned()).await
    }

    /// `GET /networks`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400 for an invalid filter.
    pub async fn networks(&self, filters: &Filters) -> Result<Vec<NetworkResource>> {
        self.get(target("/networks", &filter_query(filters))).await
    }

    /// `GET /networks/N`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; 400 if several match; [`Error::NoName`].
    pub async fn network(&self, name: &str) -> Result<NetworkResource> {
        self.get(network_path(name, "")?).await
    }

    /// `POST /networks/create`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400, 403 or 404 for the request, 409 if the name is taken.
    pub async fn create_network(&self, network: &NetworkCreate) -> Result<NetworkCreated> {
        self.post("/networks/create".to_owned(), network).await
    }

    /// `DELETE /networks/N`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; 403 if it is in use, predefined or Docker's;
    /// [`Error::NoName`].
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        self.command(Method::DELETE, network_path(name, "")?).await
    }

    /// `POST /networks/N/connect`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if one of the two is not found; 403 if they cannot be connected;
    /// [`Error::NoName`].
    pub async fn connect(&self, network: &str, request: &NetworkConnect) -> Result<NetworkConnected> {
        self.post(network_path(network, "/connect")?, request).await
    }

    /// `POST /networks/N/disconnect`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if one of the two is not found; 403 if they are not connected;
    /// [`Error::NoName`].
    pub async fn disconnect(&self, network: &str, request: &NetworkDisconnect) -> Result<()> {
        self.submit(network_path(network, "/disconnect")?, request).await.map(drop)
    }

    /// `POST /networks/N/update`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; 400 for an option that is invalid or cannot be changed; 403
    /// for an address that belongs to another; [`Error::NoName`].
    pub async fn update_network(&self, network: &str, request: &NetworkUpdate) -> Result<()> {
        self.submit(network_path(network, "/update")?, request).await.map(drop)
    }

    /// `POST /networks/prune`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400 for an invalid filter; 409 while another prune runs. Some networks may be
    /// removed.
    pub async fn prune_networks(&self, filters: &Filters) -> Result<NetworksPruned> {
        let call = Call::new(Method::POST, target("/networks/prune", &filter_query(filters)));
        let response = self.send(&call, None).await?;
        call.read(response).await
    }

    /// `GET /containers/json`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400 for an invalid filter.
    pub async fn containers(&self, all: bool, filters: &Filters) -> Result<Vec<ContainerSummary>> {
        let mut query = vec![("all", all.to_string())];
        query.extend(filter_query(filters));
        self.get(target("/containers/json", &query)).await
    }

    /// `POST /containers/create`. Without a name, the daemon generates one.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400 or 404 for the request, 409 if the name is taken.
    pub async fn create_container(&self, name: &str, container: &ContainerCreate) -> Result<Created> {
        let query = (!name.is_empty()).then(|| ("name", name.to_owned()));
        self.post(target("/containers/create", query.as_slice()), container).await
    }

    /// `GET /containers/C/json`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; 400 if several match; [`Error::NoName`].
    pub async fn container(&self, name: &str) -> Result<ContainerResource> {
        self.get(container_path(name, "/json")?).await
    }

    /// `POST /containers/C/start`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404; 400 with an exit code if the command cannot be started; [`Error::NoName`].
    pub async fn start(&self, name: &str) -> Result<()> {
        self.command(Method::POST, container_path(name, "/start")?).await
    }

    /// `POST /containers/C/stop`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; 400 for an unknown signal; [`Error::NoName`].
    pub async fn stop(&self, name: &str, seconds: Option<u64>, signal: Option<&str>) -> Result<()> {
        let query = stop_query(seconds, signal);
        self.command(Method::POST, target(&container_path(name, "/stop")?, &query)).await
    }

    /// `POST /containers/C/restart`.
    ///
    /// # Errors
    /// Those of [`Client`]; those of [`Client::stop`] and [`Client::start`]. It may be stopped then.
    pub async fn restart(&self, name: &str, seconds: Option<u64>) -> Result<()> {
        let query = stop_query(seconds, None);
        self.command(Method::POST, target(&container_path(name, "/restart")?, &query)).await
    }

    /// `POST /containers/C/kill`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404; 409 if it does not run; 400 for an unknown signal; [`Error::NoName`].
    pub async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let query = stop_query(None, Some(signal));
        self.command(Method::POST, target(&container_path(name, "/kill")?, &query)).await
    }

    /// `POST /containers/C/rename`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404; 409 if the name is taken; 400 for an invalid name; [`Error::NoName`].
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let query = [("name", new.to_owned())];
        self.command(Method::POST, target(&container_path(name, "/rename")?, &query)).await
    }

    /// `POST /containers/C/update`.
    ///
    /// # Errors
    /// Those of [`Client::update_network`]; status 403 if it is not in the network.
    pub async fn update(&self, name: &str, request: &ContainerUpdate) -> Result<()> {
        self.submit(container_path(name, "/update")?, request).await.map(drop)
    }

    /// `POST /containers/C/wait`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404, also if it is removed before it was started; [`Error::NoName`].
    pub async fn wait(&self, name: &str) -> Result<ContainerWait> {
        let call = Call::new(Method::POST, container_path(name, "/wait")?);
        let response = self.send(&call, None).await?;
        call.read(response).await
    }

    /// `DELETE /containers/C`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404; 409 if it runs and `force` is not set; [`Error::NoName`].
    pub async fn remove_container(&self, name: &str, force: bool) -> Result<()> {
        let query = [("force", force.to_string())];
        self.command(Method::DELETE, target(&container_path(name, "")?, &query)).await
    }

    /// `GET /containers/C/logs`. Returns at the head of the response.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if there is none; [`Error::NoName`]. Later errors come from [`Lines::next`].
    pub async fn logs(&self, name: &str, query: &LogQuery) -> Result<Logs> {
        let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let mut pairs = vec![("follow", query.follow.to_string()), ("tail", tail)];
        pairs.extend(query.since.map(|since| ("since", since.to_string())));
        let call = Call::new(Method::GET, target(&container_path(name, "/logs")?, &pairs));
        let response = self.send(&call, None).await?;
        Ok(Lines { call, body: response.into_body(), pending: Vec::new(), text: PhantomData })
    }

    /// `GET /events`. Returns at the head of the response.
    ///
    /// # Errors
    /// Those of [`Client`]; status 400 for an invalid filter. Later errors come from [`Lines::next`].
    pub async fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filters: &Filters,
    ) -> Result<Lines<Event>> {
        let mut pairs = filter_query(filters);
        pairs.extend(since.map(|since| ("since", since.to_string())));
        pairs.extend(until.map(|until| ("until", until.to_string())));
        let call = Call::new(Method::GET, target("/events", &pairs));
        let response = self.send(&call, None).await?;
        Ok(Lines { call, body: response.into_body(), pending: Vec::new(), text: PhantomData })
    }

    /// `GET /stats`, of all containers if the list is empty.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if one of the containers is not found.
    pub async fn stats(&self, containers: &[String]) -> Result<Stats> {
        let query = (!containers.is_empty()).then(|| ("containers", containers.join(",")));
        self.get(target("/stats", query.as_slice())).await
    }

    /// `GET /metrics`: the text in Prometheus' format.
    ///
    /// # Errors
    /// Those of [`Client`]; status 500 if the counters cannot be read.
    pub async fn metrics(&self) -> Result<Bytes> {
        let call = Call::new(Method::GET, "/metrics".to_owned());
        let response = self.send(&call, None).await?;
        let lost = |source| Error::Lost { operation: call.name(), source };
        Ok(response.into_body().collect().await.map_err(lost)?.to_bytes())
    }

    async fn get<T: DeserializeOwned>(&self, target: String) -> Result<T> {
        let call = Call::new(Method::GET, target);
        let response = self.send(&call, None).await?;
        call.read(response).await
    }

    async fn post<T: DeserializeOwned>(&self, target: String, body: &impl Serialize) -> Result<T> {
        let (call, response) = self.submit(target, body).await?;
        call.read(response).await
    }

    async fn submit(&self, target: String, body: &impl Serialize) -> Result<(Call, Response<Incoming>)> {
        let call = Call::new(Method::POST, target);
        let body = serde_json::to_vec(body).map_err(|source| call.bad_message(source))?;
        let response = self.send(&call, Some(body)).await?;
        Ok((call, response))
    }

    async fn command(&self, method: Method, target: String) -> Result<()> {
        self.send(&Call::new(method, target), None).await.map(drop)
    }

    /// Sends a request. Returns the head of the response if it reports success.
    async fn send(&self, call: &Call, body: Option<Vec<u8>>) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let lost = |source| Error::Lost { operation: call.name(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // An error of the connection also fails the request, or the reading of its body.
        tokio::spawn(connection);
        let mut request = Request::builder().method(call.method.clone()).uri(&call.target);
        request = request.header(header::HOST, "netbpf");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::<Bytes>::from(body.unwrap_or_default()))
            .map_err(|source| Error::Request { operation: call.name(), source })?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        // 304: the object is in the requested state already.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(lost)?.to_bytes();
        let error = serde_json::from_slice(&body).unwrap_or_else(|_| types::Error {
            message: format!("{}: {status}", call.name()),
            exit_code: None,
        });
        Err(Error::Refused { status, message: error.message, exit_code: error.exit_code })
    }

    fn unreachable(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Forbidden { socket },
            _ => Error::Unreachable { socket, source },
        }
    }
}

/// A stream of a container's output.
pub type Logs = Lines<LogLine>;

/// A streamed response with one JSON text per line.
#[derive(Debug)]
pub struct Lines<T> {
    call: Call,
    body: Incoming,
    pending: Vec<u8>,
    text: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Lost`] if the connection breaks; [`Error::Message`] if the line is not a message. The lines after it
    /// can be read.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Some(
                    serde_json::from_slice(&line).map_err(|source| self.call.bad_message(source))?,
                ));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame =
                        frame.map_err(|source| Error::Lost { operation: self.call.name(), source })?;
                    self.pending.extend(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
                }
            }
        }
    }
}

#[derive(Debug)]
struct Call {
    method: Method,
    target: String,
}

impl Call {
    fn new(method: Method, target: String) -> Self {
        Self { method, target }
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    fn bad_message(&self, source: serde_json::Error) -> Error {
        Error::Message { operation: self.name(), source }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T> {
        let body = response.into_body().collect().await;
        let body = body.map_err(|source| Error::Lost { operation: self.name(), source })?.to_bytes();
        serde_json::from_slice(&body).map_err(|source| self.bad_message(source))
    }
}

#[cfg(test)]
mod tests;
