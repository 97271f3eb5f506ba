//! Tests of the store with crashes, full disks and foreign files.

use std::{
    fs,
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::{StorageBackend, TableDefinition, backends::FileBackend};
use tempfile::TempDir;

use super::*;
use crate::model::{Driver, Mode, Namespace, State, Subject};

fn network(name: &str) -> Network {
    Network {
        id: Id::random(),
        name: name.to_owned(),
        created: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
        driver: Driver::Host,
        internal: false,
        attachable: false,
        options: [("k".to_owned(), "v".to_owned())].into(),
        labels: [].into(),
        origin: Default::default(),
    }
}

fn container(name: &str) -> Container {
    Container {
        id: Id::random(),
        name: name.to_owned(),
        created: "2026-01-02T03:04:05Z".parse().unwrap(),
        subject: Subject::Namespace(Namespace::Process { pid: 7, start_time: 8 }),
        state: State::Running { supervisor: None, started: "2026-01-02T03:04:05Z".parse().unwrap() },
        attachments: Vec::new(),
        labels: [].into(),
        mappings: Vec::new(),
    }
}

fn sorted(mut records: Records) -> Records {
    records.networks.sort_by(|a, b| a.name.cmp(&b.name));
    records.containers.sort_by(|a, b| a.name.cmp(&b.name));
    records
}

fn load(path: &Path) -> Records {
    sorted(Store::open(path).unwrap().1)
}

/// The files of two stores after many commits, one closed and one of a killed daemon, each with all the records that
/// may be read from it when it is damaged.
fn closed_and_not(dir: &TempDir) -> [(Vec<u8>, Vec<Records>); 2] {
    let (path, records) = filled(dir);
    let closed = fs::read(&path).unwrap();
    let (mut store, _) = Store::open(&path).unwrap();
    let last = network("last");
    store.commit(&[Change::PutNetwork(last.clone())]).unwrap();
    let open = fs::read(&path).unwrap();
    let mut after = records.clone();
    after.networks.push(last);
    [(closed, vec![records.clone()]), (open, vec![sorted(after), records])]
}

/// A closed store after many commits, with its records.
fn filled(dir: &TempDir) -> (PathBuf, Records) {
    let path = dir.path().join("state.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    for n in 0..60 {
        store.commit(&[Change::PutNetwork(network(&format!("n{n:02}")))]).unwrap();
        store.commit(&[Change::PutContainer(container(&format!("c{n:02}")))]).unwrap();
    }
    drop(store);
    let records = load(&path);
    assert_eq!((records.networks.len(), records.containers.len()), (60, 60));
    (path, records)
}

#[test]
fn a_new_store_is_empty_private_and_leaves_no_second_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    fs::write(dir.path().join("state.redb.new"), "left by a crash").unwrap();
    let (_store, records) = Store::open(&path).unwrap();
    assert_eq!(records, Records::default());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_commit_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    let (a, mut b, c) = (network("a"), network("b"), container("c"));
    store
        .commit(&[
            Change::PutNetwork(a.clone()),
            Change::PutNetwork(b.clone()),
            Change::PutContainer(c.clone()),
        ])
        .unwrap();
    b.internal = true;
    store
        .commit(&[
            Change::PutNetwork(b.clone()),
            Change::RemoveContainer(c.id),
            Change::RemoveNetwork(a.id),
            Change::RemoveNetwork(a.id),
        ])
        .unwrap();
    drop(store);
    assert_eq!(load(&path), Records { networks: vec![b], ..Records::default() });
}

#[test]
fn a_killed_daemon_loses_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let copy = dir.path().join("copy.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    let mut networks = Vec::new();
    for n in 0..20 {
        networks.push(network(&format!("n{n:02}")));
        store.commit(&[Change::PutNetwork(networks[n].clone())]).unwrap();
        // The file as SIGKILL leaves it: never closed.
        fs::copy(&path, &copy).unwrap();
        assert_eq!(load(&copy).networks, networks);
    }
}

#[test]
fn a_truncated_file_is_refused_unless_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.redb");
    for (bytes, expected) in closed_and_not(&dir) {
        let around_pages = (0..bytes.len()).step_by(16 * 4096).flat_map(|at| [at, at + 1]);
        for length in around_pages.chain([4, 9, 64, 319, 320, 4095, bytes.len() - 4096, bytes.len() - 1]) {
            refuses_or_reads(&path, &bytes[..length], &expected[..1]);
        }
        assert!(refuses_or_reads(&path, &bytes[..bytes.len() / 2], &[]));
    }
}

#[test]
fn a_flipped_byte_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped.redb");
    for (bytes, expected) in closed_and_not(&dir) {
        for at in (0..320).step_by(7).chain((0..bytes.len()).step_by(10_007)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            refuses_or_reads(&path, &flipped, &expected);
        }
    }
}

#[test]
fn a_damaged_page_is_refused_or_costs_the_last_commit_of_a_killed_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.redb");
    for (bytes, expected) in closed_and_not(&dir) {
        let refused = (1..bytes.len() / 4096).filter(|page| {
            let mut damaged = bytes.clone();
            damaged[page * 4096..][..256].iter_mut().for_each(|byte| *byte ^= 0x41);
            refuses_or_reads(&path, &damaged, &expected)
        });
        assert!(refused.count() > 3);
    }
}

/// Whether the store refuses a damaged file, and leaves it as it is. Otherwise it finds one of the expected records.
#[track_caller]
fn refuses_or_reads(path: &Path, damaged: &[u8], expected: &[Records]) -> bool {
    fs::write(path, damaged).unwrap();
    match Store::open(path) {
        Ok((_, found)) => {
            assert!(expected.contains(&sorted(found)));
            false
        }
        Err(_) => {
            assert_refused(path);
            assert_eq!(fs::read(path).unwrap(), damaged);
            true
        }
    }
}

#[test]
fn garbage_empty_files_and_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for content in ["", "{}", "redb", "nothing of the kind, but of some length"] {
        let path = dir.path().join("garbage");
        fs::write(&path, content).unwrap();
        assert_refused(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    assert_refused(dir.path());
}

#[test]
fn another_program_s_database_is_refused_and_left_as_it_is() {
    const TABLE: TableDefinition<'_, &str, &str> = TableDefinition::new("theirs");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert("k", "v").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let bytes = fs::read(&path).unwrap();
    assert_refused(&path);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_error_about_a_later_format_names_its_number() {
    const META: TableDefinition<'_, &str, u32> = TableDefinition::new("netbpf");
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = filled(&dir);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let bytes = fs::read(&path).unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert_eq!(
        error,
        format!("{} has format 2, this netbpf reads format 1; it was left as it is", path.display())
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_error_about_an_unreadable_record_names_its_key() {
    const NETWORKS: TableDefinition<'_, &str, &str> = TableDefinition::new("networks");
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = filled(&dir);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(NETWORKS).unwrap().insert("abc", "{}").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&path).err().unwrap();
    let message = error.to_string();
    assert!(message.contains(": record abc of networks: missing field"), "{message}");
}

/// The store is refused with the general message for files that are not valid.
fn assert_refused(path: &Path) {
    let error = Store::open(path).err().expect("a refusal");
    let message = error.to_string();
    let expected =
        format!("{} is no state file of netbpf, or a damaged one, and was left as it is; ", path.display());
    assert!(message.starts_with(&expected), "{message}");
}

/// A disk that fails as full after a number of changing operations.
#[derive(Debug)]
struct Scarce {
    inner: FileBackend,
    left: Arc<AtomicI64>,
}

impl Scarce {
    fn spend(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            _ => Err(ErrorKind::StorageFull.into()),
        }
    }
}

impl StorageBackend for Scarce {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // The worst case: the data is written, but the sync is reported as failed.
        self.inner.sync_data()?;
        self.spend()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.spend()?;
        self.inner.write(offset, data)
    }
}

#[test]
fn a_full_disk_at_any_point_of_a_commit_leaves_the_store_usable_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (path, before) = filled(&dir);
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let budget = left.clone();
    let opener = move |path: &Path| {
        let inner = FileBackend::new(fs::OpenOptions::new().read(true).write(true).open(path)?)?;
        Ok(Database::builder().create_with_backend(Scarce { inner, left: budget.clone() })?)
    };
    let (mut store, _) = Store::open_with(&path, Box::new(opener)).unwrap();
    let late = network("late");
    let mut changed = before.networks[7].clone();
    changed.internal = true;
    let changes = [
        Change::PutNetwork(late.clone()),
        Change::PutNetwork(changed.clone()),
        Change::RemoveContainer(before.containers[3].id),
    ];
    let mut failures = 0;
    loop {
        left.store(failures, Ordering::SeqCst);
        let result = store.commit(&changes);
        left.store(i64::MAX, Ordering::SeqCst);
        match result {
            Ok(()) => break,
            Err(error) => {
                let message = error.to_string();
                assert!(
                    message.starts_with(&format!("store in {}: I/O error: ", path.display())),
                    "{message}"
                );
                failures += 1;
            }
        }
        store.commit(&[]).unwrap();
        let copy = dir.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        assert_eq!(load(&copy), before, "full after {failures} operations");
    }
    assert!(failures > 3, "{failures}");
    drop(store);
    let after = load(&path);
    assert!(after.networks.contains(&late) && after.networks.contains(&changed));
    assert_eq!((after.networks.len(), after.containers.len()), (61, 59));
}

#[test]
fn format_1_has_exactly_this_text() {
    let id = |n: u8| format!("{n:02x}").repeat(32);
    let network = format!(
        r#"{{"id":"{}","name":"mynet","created":"2026-01-02T03:04:05Z","driver":{{"Bridge":{{"number":1,"device":"nb-010101010101","peer":"nbp010101010101","subnet":{{"net":"192.168.0.0/16","range":"192.168.1.0/24","gateway":"192.168.0.1","auxiliary":{{"k":"192.168.0.9"}}}},"subnet_ipv6":{{"net":"fd00::/64","range":null,"gateway":"fd00::1","auxiliary":{{"k":"fd00::9"}}}},"icc":true,"masquerade":true,"host_binding":null,"gateway_mode_ipv4":"nat","gateway_mode_ipv6":"nat","inhibit_ipv4":false,"trusted":[],"interface_prefix":"eth","mtu":1500,"host_ipv4":null,"host_ipv6":null}}}},"internal":true,"attachable":false,"options":{{"o":"1"}},"labels":{{"l":"2"}}}}"#,
        id(1)
    );
    let sandbox = format!(
        r#"{{"id":"{}","name":"web","created":"2026-01-02T03:04:05Z","subject":{{"Sandbox":{{"command":["sleep","1"],"env":["A=b"],"working_dir":"/","hostname":"web","rootfs":null,"auto_remove":false,"mode":"Networks","extra_hosts":[["h","10.0.0.1"]],"dns":["1.1.1.1"],"dns_search":["."],"dns_options":["ndots:1"]}}}},"state":{{"Running":{{"supervisor":[7,8],"started":"2026-01-02T03:04:05Z"}}}},"attachments":[{{"network":"{}","request":{{"ipv4":"192.168.0.2","ipv6":"fd00::2","mac":"02:42:c0:a8:00:02","aliases":["w"],"gateway_priority":3}},"endpoint":{{"id":"{}","port":4,"ipv4":"192.168.0.2","ipv6":"fd00::2","mac":"02:42:c0:a8:00:02","host_interface":"veth1234567","interface":"eth0"}}}}],"labels":{{}}}}"#,
        id(2),
        id(1),
        id(3)
    );
    let parsed: Network = serde_json::from_str(&network).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), network);
    let parsed: Container = serde_json::from_str(&sandbox).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), sandbox);
    let published = sandbox
        .replace(
            r#""dns_options":["ndots:1"]"#,
            r#""dns_options":["ndots:1"],"publish":[{"container":{"number":80,"protocol":"tcp"},"host":"127.0.0.1","host_ports":{"first":8000,"last":8010}}],"exposed":[{"number":53,"protocol":"udp"}],"publish_all":true"#,
        )
        .replace(
            r#""labels":{}"#,
            r#""labels":{},"mappings":[{"protocol":"tcp","host":"127.0.0.1","host_port":8000,"container":"192.168.0.2","container_port":80}]"#,
        );
    let parsed: Container = serde_json::from_str(&published).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), published);
    // A record of an earlier version, which had only the MTU option.
    let start = network.find(r#""icc""#).unwrap();
    let end = network.find(r#""mtu""#).unwrap();
    let rest = network[end..].replace(r#","host_ipv4":null,"host_ipv6":null"#, "");
    let ipv6 =
        r#","subnet_ipv6":{"net":"fd00::/64","range":null,"gateway":"fd00::1","auxiliary":{"k":"fd00::9"}}"#;
    let earlier = format!("{}{rest}", &network[..start]).replace(ipv6, "");
    assert!(!earlier.contains("ipv6"));
    let earlier: Network = serde_json::from_str(&earlier).unwrap();
    let now = network.replace(ipv6, r#","subnet_ipv6":null"#);
    assert_eq!(serde_json::to_string(&earlier).unwrap(), now);
    let earlier: Container = serde_json::from_str(&sandbox.replace(r#","ipv6":"fd00::2""#, "")).unwrap();
    let now = sandbox.replace(r#""ipv6":"fd00::2""#, r#""ipv6":null"#);
    assert_eq!(serde_json::to_string(&earlier).unwrap(), now);
    for (state, mode, subject) in [
        (r#"{"Created":{"error":"e"}}"#, r#""None""#, r#"{"Path":"/run/netns/x"}"#),
        (
            r#"{"Exited":{"code":137,"started":"2026-01-02T03:04:05Z","finished":"2026-01-02T03:04:06Z"}}"#,
            r#""Host""#,
            r#"{"Process":{"pid":7,"start_time":8}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&serde_json::from_str::<State>(state).unwrap()).unwrap(), state);
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Mode>(mode).unwrap()).unwrap(), mode);
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Namespace>(subject).unwrap()).unwrap(),
            subject
        );
    }
}

#[test]
fn a_closed_file_can_be_opened_elsewhere_and_is_opened_again_by_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    let (one, other) = (network("one"), network("other"));
    store.commit(&[Change::PutNetwork(one.clone())]).unwrap();
    assert!(Store::open(&path).is_err(), "it is open");
    store.close();
    let (opened, records) = Store::open(&path).unwrap();
    assert_eq!(records.networks, [one]);
    drop(opened);
    store.commit(&[Change::PutNetwork(other)]).unwrap();
    drop(store);
    assert_eq!(Store::open(&path).unwrap().1.networks.len(), 2);
}
