//! The `resolv.conf` that an engine created for its container. While the container has netbpf's names, it
//! contains netbpf's text; afterwards the previous content is restored exactly. That content is stored in the
//! container's own directory first, so that a killed daemon loses nothing. A file that somebody mounted
//! instead of the engine's is never opened, because its owner could redirect root's write anywhere.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{failed, kept, resolv_conf::ResolvConf};
use crate::{
    daemon::Error,
    model::{Id, RESOLVER},
    sandbox::SharedFile,
};

/// The name of the stored content, in a container's directory.
const KEPT: &str = "resolv.conf.kept";

/// The content to restore.
#[derive(Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    before: Vec<u8>,
    ours: Vec<u8>,
}

/// Whether a container's file is the engine's own: `ROOT/containers/ID/resolv.conf`, where only root may
/// write to ROOT. With `docker run -v FILE:/etc/resolv.conf` Docker names FILE instead.
pub fn is_engines_own(path: &Path, id: &Id) -> bool {
    place(path).is_some_and(|(root, of)| of == *id && is_roots(root))
}

/// Makes the container ask netbpf, which forwards to the servers that the file has. False if that is so
/// already, or the file does not exist or is too large.
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

/// Whether the engine has written the file again since, with its own resolver: it does so when the container
/// enters a network of the engine with names. Changes by others are left alone.
pub fn is_made_anew(dir: &Path, path: &Path) -> Result<bool, Error> {
    let Some(kept) = kept(dir)?.filter(|kept| kept.path == path) else { return Ok(false) };
    let Some((_, now)) = open(path)? else { return Ok(false) };
    Ok(now != kept.ours && servers_in(&now).contains(&RESOLVER.into()))
}

/// Restores the previous content, unless somebody has changed the file since.
pub fn give_back(dir: &Path) -> Result<(), Error> {
    let Some(kept) = kept(dir)? else { return Ok(()) };
    if let Some((file, _)) = open(&kept.path)?.filter(|(_, now)| *now == kept.ours) {
        file.replace(&kept.before).map_err(failed("write", &kept.path))?;
    }
    kept::remove(dir, KEPT)
}

/// The engine's name servers. Those on one interface only cannot be asked.
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

/// Opens and reads the engine's file, if it is the engine's own and not too large.
fn open(path: &Path) -> Result<Option<(SharedFile, Vec<u8>)>, Error> {
    let Some((root, id)) = place(path).filter(|(root, _)| is_roots(root)) else { return Ok(None) };
    let Some(file) = SharedFile::open(root, &below(&id)).map_err(failed("open", path))? else {
        return Ok(None);
    };
    let text = file.read().map_err(failed("read", path))?;
    Ok(text.map(|text| (file, text)))
}

/// The engine's root directory and the container, of a path in the engine's form.
fn place(path: &Path) -> Option<(&Path, Id)> {
    let folder = path.parent()?;
    let id: Id = folder.file_name()?.to_str()?.parse().ok()?;
    let root = folder.parent()?.parent()?;
    (path.is_absolute() && root.join(below(&id)) == path).then_some((root, id))
}

fn below(id: &Id) -> PathBuf {
    Path::new("containers").join(id.to_string()).join("resolv.conf")
}

/// Whether only root can change a directory.
fn is_roots(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory for the stored content, and an engine's file with this text.
    fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join(below(&Id::random()));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        let dir = root.path().join("kept");
        (root, dir, path)
    }

    #[test]
    fn the_previous_content_is_restored_exactly() {
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
    fn changes_by_others_stay() {
        let (_root, dir, path) = file(b"nameserver 10.0.0.1\n");
        borrow(&dir, &path).expect("borrowed");
        fs::write(&path, "nameserver 10.0.0.2\n").expect("somebody writes");
        assert_eq!(servers(&dir, &path).expect("servers"), [IpAddr::from([10, 0, 0, 2])]);
        give_back(&dir).expect("given back");
        assert_eq!(fs::read_to_string(&path).expect("a text"), "nameserver 10.0.0.2\n");
    }

    #[test]
    fn changes_by_the_engine_are_recognized() {
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
    fn a_file_that_the_engine_wrote_again_is_changed_again() {
        let (_root, dir, path) = file(b"nameserver 10.0.0.1\n");
        borrow(&dir, &path).expect("borrowed");
        fs::write(&path, "nameserver 10.0.0.2\n").expect("the engine writes");
        assert!(borrow(&dir, &path).expect("borrowed"));
        give_back(&dir).expect("given back");
        assert_eq!(fs::read_to_string(&path).expect("a text"), "nameserver 10.0.0.2\n");
    }

    #[test]
    fn a_missing_file_is_not_created() {
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
    fn a_symlink_is_not_followed() {
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
