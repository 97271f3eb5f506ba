//! Renames a sandbox in memory, on disk and in the responder, all or nothing.

use std::sync::Arc;

use crate::{
    daemon::{
        Daemon, Error, Happened, effects::steps::Steps, names, owners::sandbox::own_sandbox, state::refuse,
    },
    model::{Container, State, check_container_name},
    store::Change,
};

impl Daemon {
    /// `rename`.
    pub async fn rename_container(self: &Arc<Self>, key: &str, name: &str) -> Result<(), Error> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".into()));
        }
        check_container_name(name)?;
        let id = self.find_subject(key)?;
        let _busy = self.busy(id).await;
        let before = self.container(&id)?;
        refuse(&before, "docker rename")?;
        own_sandbox(&before)?;
        if before.name == name {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".into()));
        }
        let after = Container { name: name.to_owned(), ..before.clone() };
        {
            let mut world = self.world();
            if let Some(other) = world.container_named(name) {
                return Err(Error::ContainerExists { name: name.to_owned(), id: other.id });
            }
            // From now on no other container can take the name.
            world.put_container(after.clone());
        }
        let mut steps = Steps::new(Arc::clone(self));
        let done = match self.publish_name(&mut steps, &before, &after).await {
            Ok(()) => self.commit(&[Change::PutContainer(after.clone())]),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                steps.keep();
                self.refresh_links_to(id).await;
                self.tell(&after, Happened::Renamed { old: &before.name });
                Ok(())
            }
            Err(error) => {
                steps.undo().await;
                self.world().put_container(before);
                Err(error)
            }
        }
    }

    async fn publish_name(
        &self,
        steps: &mut Steps,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        if !matches!(after.state, State::Running { .. }) {
            return Ok(());
        }
        let (old, new) = {
            let world = self.world();
            (names::record_of(before, &world), names::record_of(after, &world))
        };
        match new {
            Some(record) => steps.publish(after.id, record, old, None).await,
            None => Ok(()),
        }
    }
}
