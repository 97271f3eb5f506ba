//! Creates and removes sandboxes. Start and end are in `lifecycle`.

use std::sync::Arc;

use jiff::Timestamp;

use super::request::{SandboxRequest, check_rootfs, ports_left_out, sandbox_of};
use crate::{
    daemon::{
        Daemon, Error, Happened,
        effects::descriptors,
        owners::sandbox::supervisor_of,
        ports::lease::has_ipv6,
        state::{refuse, refuse_forced},
        tell::view::{self, ContainerView},
    },
    model::{Container, Id, Mode, Restart, State, Subject, random_name},
    private,
    store::Change,
};

impl Daemon {
    /// `create` of a container. Returns its ID, and warnings for the user.
    ///
    /// # Errors
    /// [`Error::ContainerExists`]; [`Error::NoNetwork`], [`Error::NoContainer`] or [`Error::NoLinkTarget`] if the
    /// request names something that does not exist; [`Error::Invalid`] and others with Docker's message for its other
    /// parts; [`Error::Descriptors`], [`Error::Folder`] or [`Error::Store`]. Nothing is left of
    /// the container then.
    pub async fn create_container(&self, request: SandboxRequest) -> Result<(Id, Vec<String>), Error> {
        descriptors::check()?;
        let id = Id::random();
        let (name, labels) = (request.name.clone(), request.labels.clone());
        check_rootfs(&request.sandbox)?;
        let (sandbox, attachments) = sandbox_of(&id, request, &self.state.world())?;
        let warnings = match sandbox.mode {
            Mode::Host if !sandbox.publish.is_empty() || sandbox.publish_all => {
                vec!["Published ports are discarded when using host network mode".to_owned()]
            }
            _ => Vec::new(),
        };
        let endpoints = attachments.iter().flat_map(|attachment| attachment.request.options.warnings());
        let left_out = ports_left_out(&sandbox, &attachments, has_ipv6(), &self.state.world());
        let warnings = warnings.into_iter().chain(endpoints).chain(left_out).collect();
        // Others find it in memory before it is stored, and must not remove it in between.
        let _locked = self.state.lock_container(id).await;
        let container = {
            let mut world = self.state.world();
            let name = name.unwrap_or_else(|| {
                let mut names = (0..).map(random_name);
                let free = names.find(|name| world.find_container(name).is_err());
                free.expect("some number gives a free name")
            });
            if let Some(other) = world.container_named(&name) {
                return Err(Error::ContainerExists { name, id: other.id });
            }
            let container = Container {
                id,
                name,
                created: Timestamp::now(),
                subject: Subject::Sandbox(Box::new(sandbox)),
                state: State::Created { error: String::new() },
                attachments,
                labels,
                mappings: Vec::new(),
            };
            world.put_container(container.clone());
            container
        };
        let dir = self.host.folders.of(&id);
        let stored = private::make_folder(&dir, None)
            .map_err(Error::from)
            .and_then(|()| self.state.commit(&[Change::PutContainer(container.clone())]));
        if let Err(error) = stored {
            self.state.world().remove_container(&id);
            self.host.folders.remove(&id);
            return Err(error);
        }
        self.events.tell(&container, Happened::Created);
        Ok((id, warnings))
    }

    /// `inspect` of a container. As in Docker, it waits for a change of the container: one that is starting is not shown
    /// as running without a PID.
    ///
    /// # Errors
    /// [`Error::NoContainer`], or [`Error::Invalid`] if several match.
    pub async fn inspect_container(&self, key: &str) -> Result<ContainerView, Error> {
        let id = self.find_subject(key)?;
        let _locked = self.state.lock_container(id).await;
        let container = self.state.container(&id)?;
        let pid = supervisor_of(&container, &self.host.folders).ok().and_then(|supervisor| supervisor.pid1());
        let world = self.state.world();
        Ok(view::container(container, &world, &self.host.folders.of(&id), pid))
    }

    /// `rm`.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; [`Error::Managed`], also with `force` as long as the owner's container exists; without
    /// `force` [`Error::ContainerRunning`], [`Error::ContainerRestarting`] or [`Error::Foreign`]: nothing was changed. [`Error::Store`]: it stays, but with `force` it
    /// may have been killed.
    pub async fn remove_container(self: &Arc<Self>, key: &str, force: bool) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let mut locked = self.state.lock_container(id).await;
        let mut container = self.state.container(&id)?;
        match force {
            true => refuse_forced(&container, "rm", |namespace| self.host.is_alive(namespace))?,
            false => refuse(&container, "rm")?,
        }
        if container.sandbox().is_none() {
            if !force {
                return Err(Error::Foreign(container.name));
            }
            let after = Container { attachments: Vec::new(), ..container.clone() };
            return self.unwire(container, after).await;
        }
        // Between its end and its removal, it may be started again.
        while matches!(container.state, State::Running { .. }) {
            if !force {
                return Err(Error::ContainerRunning(container.name));
            }
            self.note_restart(id, Restart::stop)?;
            match self.end(&container, nix::libc::SIGKILL).await {
                Err(Error::NotRunning(_)) => {}
                sent => sent?,
            }
            // The watcher of the ended container needs the lock; it also removes the container if that was
            // run with `--rm`.
            drop(locked);
            self.ended(&container).await;
            locked = self.state.lock_container(id).await;
            match self.state.container(&id) {
                Ok(now) => container = now,
                Err(_) => return Ok(()),
            }
        }
        if container.status() == "restarting" && !force {
            return Err(Error::ContainerRestarting(container.name));
        }
        self.forget(&id)
    }

    /// Remove a container that does not run.
    pub(in crate::daemon) fn forget(&self, id: &Id) -> Result<(), Error> {
        self.state.commit(&[Change::RemoveContainer(*id)])?;
        let removed = self.state.world().remove_container(id);
        self.host.folders.remove(id);
        if let Some(container) = removed {
            self.events.tell(&container, Happened::Destroyed);
        }
        self.owners.ends.announce();
        Ok(())
    }
}
