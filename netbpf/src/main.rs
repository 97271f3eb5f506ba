//! Arguments → daemon, name responder, supervisor or command line; the only file that knows them all.

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("responder") => netbpf::dns::responder::run(),
        _ => Ok(()),
    }
}
