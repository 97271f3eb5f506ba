//! Renames a sandbox in memory, on disk and in the responder, all or nothing.

use std::sync::Arc;

use crate::{
    daemon::{
        Daemon, Error, Happened,
        effects::transaction::Transaction,
        owners::sandbox::own_sandbox,
        state::{namespace_of, refuse},
    },
    model::Container,
};

impl Daemon {
    /// `rename`.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Managed`] or [`Error::Foreign`]; [`Error::Invalid`] if it has the name
    /// already; [`Error::ContainerExists`] if another container has it;
    /// [`Error::Dns`] or [`Error::Store`]. The container has its old name then.
    pub async fn rename_container(self: &Arc<Self>, key: &str, name: &str) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let _locked = self.state.lock_container(id).await;
        let before = self.state.container(&id)?;
        refuse(&before, "rename")?;
        own_sandbox(&before)?;
        if before.name == name {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".into()));
        }
        let after = Container { name: name.to_owned(), ..before.clone() };
        let mut change = self.begin()?;
        change.lease_name(&before, &after)?;
        let done = self.publish_name(&mut change, &before, &after).await;
        change.end_of_container(done, &before, &after).await?;
        self.names.refresh_links_to(id).await;
        self.events.tell(&after, Happened::Renamed { old: &before.name });
        Ok(())
    }

    async fn publish_name(
        &self,
        change: &mut Transaction,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        let Ok(namespace) = namespace_of(after) else { return Ok(()) };
        change.perform_all(self.names.publication(before, after, Some(&namespace))).await
    }
}
