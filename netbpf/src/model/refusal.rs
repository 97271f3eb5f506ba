//! Classes of refused requests, as far as callers distinguish them. Must not know the API's status codes.

/// A class of errors that the client caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is invalid.
    Invalid,
    /// The request is valid, but not allowed for this object.
    Forbidden,
    /// The object does not exist.
    NotFound,
    /// The requested resource is taken or exhausted, or the object's state does not allow the request.
    Conflict,
    /// The object already has the requested state.
    Unchanged,
}
