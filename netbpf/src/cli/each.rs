//! Commands that take several names: they print those that succeeded. Must not know what is done.

use futures::{StreamExt, stream};

use super::{Error, console::Console};
use crate::api::client;

/// The maximum number of concurrent requests.
const AT_ONCE: usize = 50;

/// Applies `act` to all names, and prints those for which it succeeded, in their order. `false` means that nothing was to
/// be done: the name is not printed. Returns the names that failed.
///
/// # Errors
/// If the output cannot be written.
pub async fn each<'a, F>(
    console: &mut Console,
    names: &'a [String],
    act: impl Fn(&'a str) -> F,
) -> Result<Vec<&'a str>, Error>
where
    F: Future<Output = Result<bool, client::Error>>,
{
    let act = &act;
    let mut results =
        stream::iter(names).map(|name| async move { (name, act(name).await) }).buffered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(true) => writeln!(console.out, "{name}")?,
            Ok(false) => {}
            Err(error) => {
                console.print_error(&error);
                failed.push(name.as_str());
            }
        }
    }
    Ok(failed)
}

/// For an act that always does something.
pub async fn done(act: impl Future<Output = Result<(), client::Error>>) -> Result<bool, client::Error> {
    act.await.map(|()| true)
}
