//! The `resolv.conf` that an engine has made for its container: another text stands in it for as long as the container
//! has names of netbpf's, and what it said before comes back to the byte. What was there is kept in the container's own
//! folder before it is overwritten, so that a killed daemon loses nothing. A file that somebody mounted in the place of
//! the engine's is never opened: who owns it could lead root's writing anywhere.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{failed, kept, resolv_conf::ResolvConf};
use crate::{daemon::Error, model::Id, sandbox::SharedFile};

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

/// Whether a container's file is the one that the engine has made: `ROOT/containers/ID/resolv.conf`, where only root may
/// write in ROOT. With `docker run -v FILE:/etc/resolv.conf` Docker names FILE instead.
pub fn is_engines_own(path: &Path, id: &Id) -> bool {
    place(path).is_some_and(|(root, of)| of == *id && is_roots(root))
}

/// Has the container ask netbpf, which asks whom the file names. False where that is so already, where there is no file,
/// or one that is too large for anything but a user's.
pub fn borrow(dir: &Path, path: &Path) -> Result<bool, Error> {
    let Some((file, now)) = open(path)? else { return Ok(false) };
    if kept(dir)?.is_some_and(|kept| kept.path == path && kept.ours == now) {
        return Ok(false);
    }
    let ours = ResolvConf::parse(&path.display().to_string(), &String::from_utf8_lossy(&now)).for_engine();
    let kept = Kept { path: path.to_owned(), before: now, ours: ours.into_bytes() };
    kept::write(dir, KEPT, &kept)?;
    file.replace(&kept.ours).map_err(failed("write", path))?;
    Ok(true)
}

/// Whether the engine has made the file anew since it was borrowed: with its own resolver in it, as it does when the
/// container comes to a network of the engine's that has names. What somebody else has written is not touched.
pub fn is_made_anew(dir: &Path, path: &Path) -> Result<bool, Error> {
    let Some(kept) = kept(dir)?.filter(|kept| kept.path == path) else { return Ok(false) };
    let Some((_, now)) = open(path)? else { return Ok(false) };
    Ok(now != kept.ours && servers_in(&now).contains(&ENGINES_OWN))
}

/// Puts back what was there, unless somebody has written something else since.
pub fn give_back(dir: &Path) -> Result<(), Error> {
    let Some(kept) = kept(dir)? else { return Ok(()) };
    if let Some((file, _)) = open(&kept.path)?.filter(|(_, now)| *now == kept.ours) {
        file.replace(&kept.before).map_err(failed("write", &kept.path))?;
    }
    kept::remove(dir, KEPT)
}

/// The servers that the engine has put there; those on one interface only are none that can be asked.
pub fn servers(dir: &Path, path: &Path) -> Result<Vec<IpAddr>, Error> {
    let Some((_, now)) = open(path)? else { return Ok(Vec::new()) };
    Ok(match kept(dir)? {
        Some(kept) if kept.path == path && kept.ours == now => servers_in(&kept.before),
        _ => servers_in(&now),
    })
}

fn servers_in(text: &[u8]) -> Vec<IpAddr> {
    let conf = ResolvConf::parse("", &String::from_utf8_lossy(text));
    conf.servers().iter().filter(|server| server.zone.is_none()).map(|server| server.address).collect()
}

fn kept(dir: &Path) -> Result<Option<Kept>, Error> {
    kept::read(dir, KEPT)
}

/// The engine's file and what it says, where it is the engine's and of a size to read.
fn open(path: &Path) -> Result<Option<(SharedFile, Vec<u8>)>, Error> {
    let Some((root, id)) = place(path).filter(|(root, _)| is_roots(root)) else { return Ok(None) };
    let Some(file) = SharedFile::open(root, &below(&id)).map_err(failed("open", path))? else {
        return Ok(None);
    };
    let text = file.read().map_err(failed("read", path))?;
    Ok(text.map(|text| (file, text)))
}

/// The engine's root folder and the container, of a path that has the engine's form.
fn place(path: &Path) -> Option<(&Path, Id)> {
    let folder = path.parent()?;
    let id: Id = folder.file_name()?.to_str()?.parse().ok()?;
    let root = folder.parent()?.parent()?;
    (path.is_absolute() && root.join(below(&id)) == path).then_some((root, id))
}

fn below(id: &Id) -> PathBuf {
    Path::new("containers").join(id.to_string()).join("resolv.conf")
}

/// Whether nobody else can put anything in a folder.
fn is_roots(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder for what is kept, and an engine's file beside it with this text.
    fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join(below(&Id::random()));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
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
        let (_root, dir, path) = file(b"");
        fs::remove_file(&path).expect("a file");
        assert!(!borrow(&dir, &path).expect("nothing"));
        assert!(servers(&dir, &path).expect("none").is_empty());
        assert!(!dir.exists() && !path.exists());
    }

    #[test]
    fn a_file_that_a_user_mounted_is_not_the_engines() {
        let (root, _, path) = file(b"");
        let id: Id = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap().parse().unwrap();
        assert!(is_engines_own(&path, &id));
        assert!(!is_engines_own(&path, &Id::random()), "another container's");
        for other in ["/home/bob/resolv.conf".into(), path.with_file_name("hosts"), path.join("resolv.conf")]
        {
            assert!(!is_engines_own(&other, &id), "{}", other.display());
        }
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
        assert!(!is_engines_own(&path, &id), "in a folder that all may write");
    }

    #[test]
    fn a_link_in_the_files_place_leads_nowhere() {
        let (root, dir, path) = file(b"nameserver 10.0.0.1\n");
        assert!(borrow(&dir, &path).expect("borrowed"));
        let secret = root.path().join("secret");
        fs::rename(&path, &secret).expect("the file, with our text");
        symlink(&secret, &path).expect("a link");
        let ours = fs::read(&secret).expect("a text");
        assert!(give_back(&dir).is_err() && borrow(&dir, &path).is_err());
        assert!(servers(&dir, &path).is_err());
        assert_eq!(fs::read(&secret).expect("a text"), ours);
        fs::remove_file(&secret).expect("a file");
        assert!(give_back(&dir).is_err());
        assert!(!secret.exists(), "nothing is made behind a link");
    }

    #[test]
    fn a_huge_file_is_left_alone() {
        let (_root, dir, path) = file(b"");
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).expect("a sparse file");
        assert!(!borrow(&dir, &path).expect("left alone"));
        assert!(servers(&dir, &path).expect("none").is_empty());
        assert!(!is_made_anew(&dir, &path).expect("no"));
        assert_eq!(fs::metadata(&path).expect("a file").len(), 1 << 40);
    }
}
