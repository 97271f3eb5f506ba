//! Arguments → daemon, name responder, supervisor or command line; the only file that knows them all.

fn main() {}
