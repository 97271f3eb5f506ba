//! The `resolv.conf` that an engine has made for its container: another text stands in it for as long as the container
//! has names of netbpf's, and what it said before comes back to the byte. What was there is kept in the container's own
//! folder before it is overwritten, so that a killed daemon loses nothing.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::resolv_conf::ResolvConf;
use crate::{daemon::Error, sandbox::write_in_place};

/// In a container's folder.
const KEPT: &str = "resolv.conf.kept";

/// Docker's resolver, in containers that are in networks with names.
const ENGINES_OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// What has to come back.
#[derive(Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    before: Vec<u8>,
    ours: Vec<u8>,
}

/// Has the container ask netbpf, which asks whom the file names. False where that is so already, or there is no file.
pub fn borrow(dir: &Path, path: &Path) -> Result<bool, Error> {
    let Some(now) = read(path)? else { return Ok(false) };
    if kept(dir)?.is_some_and(|kept| kept.path == path && kept.ours == now) {
        return Ok(false);
    }
    let ours = ResolvConf::parse(&path.display().to_string(), &String::from_utf8_lossy(&now)).for_engine();
    let kept = Kept { path: path.to_owned(), before: now, ours: ours.into_bytes() };
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    let text = serde_json::to_vec(&kept).expect("a path of Docker's and bytes are JSON");
    let (file, part) = (dir.join(KEPT), dir.join("resolv.conf.part"));
    fs::write(&part, text).map_err(failed("write", &part))?;
    fs::rename(&part, &file).map_err(failed("write", &file))?;
    write_in_place(path, &kept.ours).map_err(failed("write", path))?;
    Ok(true)
}

/// Whether the engine has made the file anew since it was borrowed: with its own resolver in it, as it does when the
/// container comes to a network of the engine's that has names. What somebody else has written is not touched.
pub fn is_made_anew(dir: &Path, path: &Path) -> Result<bool, Error> {
    let is_kept = kept(dir)?.is_some_and(|kept| kept.path == path);
    Ok(is_kept && servers(dir, path)?.contains(&ENGINES_OWN) && !is_ours(dir, path)?)
}

fn is_ours(dir: &Path, path: &Path) -> Result<bool, Error> {
    let now = read(path)?;
    Ok(kept(dir)?.is_some_and(|kept| now.is_some_and(|now| kept.ours == now)))
}

/// Puts back what was there, unless somebody has written something else since.
pub fn give_back(dir: &Path) -> Result<(), Error> {
    let Some(kept) = kept(dir)? else { return Ok(()) };
    if read(&kept.path)?.is_some_and(|now| now == kept.ours) {
        write_in_place(&kept.path, &kept.before).map_err(failed("write", &kept.path))?;
    }
    let file = dir.join(KEPT);
    fs::remove_file(&file).map_err(failed("remove", &file))
}

/// The servers that the engine has put there; those on one interface only are none that can be asked.
pub fn servers(dir: &Path, path: &Path) -> Result<Vec<IpAddr>, Error> {
    let Some(now) = read(path)? else { return Ok(Vec::new()) };
    let text = match kept(dir)? {
        Some(kept) if kept.path == path && kept.ours == now => kept.before,
        _ => now,
    };
    let conf = ResolvConf::parse("", &String::from_utf8_lossy(&text));
    Ok(conf.servers().iter().filter(|server| server.zone.is_none()).map(|server| server.address).collect())
}

fn kept(dir: &Path) -> Result<Option<Kept>, Error> {
    let file = dir.join(KEPT);
    let text = read(&file)?;
    let kept = text.map(|text| serde_json::from_slice(&text)).transpose();
    kept.map_err(|error| failed("read", &file)(error.into()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(failed("read", path)),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for what is kept, and a file beside it with this text.
    fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("resolv.conf");
        fs::write(&path, text).expect("a file");
        let dir = root.path().join("kept");
        (root, dir, path)
    }

    #[test]
    fn what_was_there_comes_back_to_the_byte() {
        let text = b"nameserver 127.0.0.11 \noptions ndots:0\n\n# \xff no text";
        let (_root, dir, path) = file(text);
        assert!(borrow(&dir, &path).expect("borrowed"));
        let ours = fs::read_to_string(&path).expect("a text");
        assert!(ours.contains("\nnameserver 127.0.0.12\n"), "{ours}");
        assert!(ours.contains("\n# ExtServers: [127.0.0.11]\n"), "{ours}");
        assert!(!borrow(&dir, &path).expect("borrowed"), "it is so already");
        assert_eq!(servers(&dir, &path).expect("servers"), [IpAddr::from([127, 0, 0, 11])]);
        give_back(&dir).expect("given back");
        assert_eq!(fs::read(&path).expect("a text"), text);
        give_back(&dir).expect("nothing to do");
        assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 0);
    }

    #[test]
    fn what_somebody_wrote_meanwhile_stays() {
        let (_root, dir, path) = file(b"nameserver 10.0.0.1\n");
        borrow(&dir, &path).expect("borrowed");
        fs::write(&path, "nameserver 10.0.0.2\n").expect("somebody writes");
        assert_eq!(servers(&dir, &path).expect("servers"), [IpAddr::from([10, 0, 0, 2])]);
        give_back(&dir).expect("given back");
        assert_eq!(fs::read_to_string(&path).expect("a text"), "nameserver 10.0.0.2\n");
    }

    #[test]
    fn the_engines_hand_is_told_from_others() {
        let (_root, dir, path) = file(b"nameserver 10.0.0.1\n");
        let is_anew = || is_made_anew(&dir, &path).expect("a file");
        assert!(!is_anew(), "not borrowed");
        borrow(&dir, &path).expect("borrowed");
        assert!(!is_anew());
        fs::write(&path, "nameserver 10.0.0.2\n").expect("somebody writes");
        assert!(!is_anew());
        fs::write(&path, "nameserver 127.0.0.11\noptions ndots:0\n").expect("the engine writes");
        assert!(is_anew());
        borrow(&dir, &path).expect("borrowed");
        assert!(!is_anew(), "it asks the engine's, and is ours");
    }

    #[test]
    fn a_file_that_the_engine_made_anew_is_borrowed_anew() {
        let (_root, dir, path) = file(b"nameserver 10.0.0.1\n");
        borrow(&dir, &path).expect("borrowed");
        fs::write(&path, "nameserver 10.0.0.2\n").expect("the engine writes");
        assert!(borrow(&dir, &path).expect("borrowed"));
        give_back(&dir).expect("given back");
        assert_eq!(fs::read_to_string(&path).expect("a text"), "nameserver 10.0.0.2\n");
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let (root, dir, path) = file(b"");
        fs::remove_file(&path).expect("a file");
        assert!(!borrow(&dir, &path).expect("nothing"));
        assert!(servers(&dir, &path).expect("none").is_empty());
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 0);
    }
}
