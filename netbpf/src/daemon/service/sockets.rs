//! The sockets of a daemon. A service manager may open them and pass them to the daemon (systemd's socket
//! activation): it keeps them while the daemon restarts, and requests wait. Otherwise the daemon opens its
//! own and removes them at its end. Must not know the protocols.

use std::{
    fs, io,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener as StdListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use tokio::net::UnixListener;

use crate::daemon::effects::folders::{GROUP, group};

/// Sockets from a service manager.
#[derive(Debug, Default)]
pub struct Inherited(Vec<StdListener>);

impl Inherited {
    /// The sockets passed to this process (`LISTEN_FDS`, sd_listen_fds(3)). Removes the variables from the
    /// environment, so it must be called before the first thread starts.
    ///
    /// # Errors
    /// If one of the descriptors is no listening unix socket.
    pub fn from_env() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let sockets = (0..handed.len()).filter_map(|index| handed.take_unix_listener(index).transpose());
        Ok(Self(sockets.collect::<Result<_, _>>()?))
    }

    /// Takes the socket at a path.
    fn take(&mut self, path: &Path) -> Option<StdListener> {
        let is_there = |listener: &StdListener| {
            listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
        };
        self.0.iter().position(is_there).map(|index| self.0.swap_remove(index))
    }
}

/// All sockets of a daemon.
#[derive(Debug)]
pub(in crate::daemon) struct Sockets {
    api: Socket,
    docker: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    path: PathBuf,
    inherited: Option<StdListener>,
}

impl Sockets {
    /// The sockets to serve. Fails if another socket was passed, because no process would answer there.
    pub fn new(api: PathBuf, docker: Option<PathBuf>, mut inherited: Inherited) -> anyhow::Result<Self> {
        let mut socket = |path: PathBuf| Socket { inherited: inherited.take(&path), path };
        let api = socket(api);
        let docker = docker.map(socket);
        if let Some(other) = inherited.0.first() {
            bail!("a socket was handed over that this daemon does not serve: {:?}", other.local_addr()?);
        }
        Ok(Self { api, docker })
    }

    /// Listens at all sockets.
    pub fn listen(&self) -> anyhow::Result<(UnixListener, Option<UnixListener>)> {
        let api = match &self.api.inherited {
            Some(inherited) => take_over(inherited)?,
            None => bind(&self.api.path)?,
        };
        restrict(&self.api.path, 0o660)?;
        if let Some(group) = group() {
            let path = &self.api.path;
            chown(path, None, Some(group)).with_context(|| format!("give {} to {GROUP}", path.display()))?;
        }
        Ok((api, self.docker.as_ref().map(listen_for_docker).transpose()?))
    }

    /// Their paths, for people.
    pub fn named(&self) -> String {
        let api = self.api.path.display();
        match &self.docker {
            Some(docker) => format!("{api}, and Docker at {}", docker.path.display()),
            None => api.to_string(),
        }
    }

    /// Removes the socket files, except those of the service manager.
    pub fn remove(&self) -> anyhow::Result<()> {
        if self.api.inherited.is_none() {
            let path = &self.api.path;
            fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        }
        if let Some(Socket { path, inherited: None }) = &self.docker {
            // Docker may have been removed with its directories. Docker's own directories are not empty and
            // stay.
            let _ = fs::remove_file(path);
            path.ancestors()
                .skip(1)
                .take(2)
                .take_while(|folder| fs::remove_dir(folder).is_ok())
                .for_each(drop);
        }
        Ok(())
    }
}

/// Listens at the socket where Docker finds its driver. Only root may use it, which Docker is.
fn listen_for_docker(Socket { path, inherited }: &Socket) -> anyhow::Result<UnixListener> {
    let listener = match inherited {
        Some(inherited) => take_over(inherited)?,
        None => {
            if UnixStream::connect(path).is_ok() {
                bail!(
                    "{} is served by another process: stop it, or name another --docker-plugin",
                    path.display()
                );
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
            }
            bind(path)?
        }
    };
    restrict(path, 0o600)?;
    Ok(listener)
}

fn take_over(inherited: &StdListener) -> anyhow::Result<UnixListener> {
    let listener = inherited.try_clone().context("take over a socket")?;
    listener.set_nonblocking(true).context("take over a socket")?;
    UnixListener::from_std(listener).context("take over a socket")
}

/// Binds a socket. A file that a killed daemon left is replaced: this daemon has the lock on the state
/// directory.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("replace {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))
}

fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("restrict {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> [PathBuf; 2] {
        ["netbpf.sock", "plugin.sock"].map(|name| folder.join(name))
    }

    fn handed(paths: &[&Path]) -> Inherited {
        Inherited(paths.iter().map(|path| StdListener::bind(path).unwrap()).collect())
    }

    #[tokio::test]
    async fn sockets_are_identified_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let [api, docker] = paths(folder.path());
        let sockets = Sockets::new(api.clone(), Some(docker.clone()), handed(&[&docker, &api])).unwrap();
        let (listener, plugin) = sockets.listen().unwrap();
        for (listener, path) in [(Some(listener), api), (plugin, docker)] {
            let address = listener.unwrap().local_addr().unwrap();
            assert_eq!(address.as_pathname(), Some(path.as_path()));
        }
    }

    #[tokio::test]
    async fn only_own_sockets_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [api, docker] = paths(folder.path());
        let sockets = Sockets::new(api.clone(), Some(docker.clone()), handed(&[&api])).unwrap();
        let _listening = sockets.listen().unwrap();
        assert!(docker.exists());
        sockets.remove().unwrap();
        assert!(api.exists() && !docker.exists());
    }

    #[test]
    fn an_unknown_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other.sock");
        let [api, docker] = paths(folder.path());
        let error = Sockets::new(api, Some(docker), handed(&[&other])).unwrap_err().to_string();
        assert!(error.starts_with("a socket was handed over that this daemon does not serve: "), "{error}");
        assert!(error.contains("other.sock"), "{error}");
    }
}
