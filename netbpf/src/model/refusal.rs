//! Why a request is refused, in the few classes that callers act on. What status code a class has is the API's affair.

/// A class of errors that are the asker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request makes no sense.
    Invalid,
    /// It makes sense, but not here.
    Forbidden,
    /// What it names does not exist.
    NotFound,
    /// What it wants is somebody else's, or used up.
    Conflict,
}
