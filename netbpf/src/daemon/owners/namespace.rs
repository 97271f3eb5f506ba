//! Network namespaces that netbpf did not create: `netns:NAME`, `netns:/PATH`, `pid:N`. They are containers
//! from their first connection until their last one is removed, or until they are gone.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    daemon::{Daemon, Error, owners::gone::is_in_its_namespace, state::refuse},
    model::{Container, Id, Namespace, State, Subject, one_line},
    process,
};

impl Daemon {
    /// Find a known container, or add a namespace or an engine's container; true if it is new.
    pub(in crate::daemon) async fn find_or_adopt(self: &Arc<Self>, text: &str) -> Result<(Id, bool), Error> {
        let Some((namespace, name)) = parse(text)? else {
            let known = self.state.world().find_container(text).map(|container| container.id);
            return match known {
                Ok(id) => Ok((id, false)),
                Err(Error::NoContainer(_)) => self.adopt_from_engine(text).await,
                Err(error) => Err(error),
            };
        };
        if let Ok(container) = self.state.world().find_container(&name) {
            return Ok((container.id, false));
        }
        let opened = self.host.links.namespace(&namespace)?;
        if opened.same_as_current()? {
            return Err(Error::Forbidden(format!(
                "cannot connect {text}: it is the host's own network namespace"
            )));
        }
        if let Some(container) = self.state.world().plugin_container_in(opened.inode()?) {
            refuse(container, "network connect")?;
        }
        let container = Container {
            id: Id::random(),
            name,
            created: Timestamp::now(),
            subject: Subject::Namespace(namespace),
            state: State::Running { supervisor: None, started: Timestamp::now() },
            attachments: Vec::new(),
            labels: Default::default(),
            mappings: Vec::new(),
        };
        let id = container.id;
        self.state.world().put_container(container);
        Ok((id, true))
    }

    /// Follow a stored container in a namespace of others after the daemon's start, or remove it if that is gone.
    pub(super) async fn find_namespace_again(
        self: &Arc<Self>,
        container: &Container,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        if is_in_its_namespace(container, &self.host) {
            self.watch_namespace(container.id, namespace.clone());
            return Ok(());
        }
        tracing::info!(container = container.name, "its network namespace is gone");
        let after = Container { attachments: Vec::new(), ..container.clone() };
        self.unwire(container.clone(), after).await
    }
}

/// The namespace of a file that another program names. `/proc/N/ns/net` is the namespace of process N, which is
/// distinguished from later ones with the same PID.
pub(super) fn at(path: &Path) -> Result<Namespace, Error> {
    let text = path.display().to_string();
    if !path.is_absolute() || text.contains(char::is_control) {
        let text = one_line(&text);
        return Err(Error::NoNamespace(format!(
            "invalid network namespace {text}: expected an absolute path"
        )));
    }
    let process = text.strip_prefix("/proc/").and_then(|rest| rest.strip_suffix("/ns/net"));
    match process.and_then(|pid| pid.parse().ok()) {
        Some(pid) => of_process(pid),
        None => Ok(Namespace::Path(path.to_owned())),
    }
}

/// The namespace of a process.
fn of_process(pid: u32) -> Result<Namespace, Error> {
    let start_time =
        process::start_time(pid).ok_or_else(|| Error::NoNamespace(format!("no such process: {pid}")))?;
    Ok(Namespace::Process { pid, start_time })
}

/// The namespace that a text names, with the name of its container; none for other texts.
pub(super) fn parse(text: &str) -> Result<Option<(Namespace, String)>, Error> {
    if let Some(name) = text.strip_prefix("netns:") {
        let path = if name.starts_with('/') && !text.contains(char::is_control) {
            PathBuf::from(name)
        } else if name.is_empty() || name.contains('/') || text.contains(char::is_control) {
            return Err(Error::NoNamespace(format!(
                "invalid network namespace {}: expected netns:NAME or netns:/PATH",
                one_line(text)
            )));
        } else {
            PathBuf::from("/run/netns").join(name)
        };
        let short = path.strip_prefix("/run/netns").or_else(|_| path.strip_prefix("/var/run/netns"));
        let name = format!("netns:{}", short.unwrap_or(&path).display());
        return Ok(Some((Namespace::Path(path), name)));
    }
    if let Some(number) = text.strip_prefix("pid:") {
        let pid: u32 = number
            .parse()
            .map_err(|_| Error::NoNamespace(format!("invalid process {text}: expected pid:NUMBER")))?;
        return Ok(Some((of_process(pid)?, text.to_owned())));
    }
    Ok(None)
}
