//! The request of `explain`.

use super::{Client, Result, target::target, types::Explanation};

impl Client {
    /// `GET /explain`.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if nobody has a name, 400 for a protocol or port that does not exist.
    pub async fn explain(
        &self,
        from: &str,
        to: Option<&str>,
        what: Option<&str>,
    ) -> Result<Vec<Explanation>> {
        let words = [("from", Some(from)), ("to", to), ("what", what)];
        let query: Vec<_> =
            words.into_iter().filter_map(|(key, word)| Some((key, word?.to_owned()))).collect();
        self.get(target("/explain", &query)).await
    }
}
