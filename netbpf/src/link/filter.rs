//! The filter at the egress of `lo` in a namespace, which runs a program (clsact, cls_bpf). The class of the filter tells the
//! program whose namespace it is. A filter ends with its namespace. Must not know what the program does.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use nix::{
    errno::Errno,
    libc::{ETH_P_ALL, c_int},
};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::{Error, Links, Namespace, links::LOOPBACK, socket::Socket};

/// The kind of the discipline that has filters at ingress and egress.
const CLSACT: &str = "clsact";

/// Priority and handle of netbpf's filter: it is the first, and has no handle that the kernel chooses for others.
const PRIORITY: u32 = 1;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 0x6e62 };

/// The major number of the class: any but zero, which would be no class.
const CLASS: u16 = 1;

/// netbpf's filter at `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterAtLo {
    /// Its class.
    pub class: u16,
    /// The ID of its program.
    pub program: u32,
}

impl Links {
    /// Adds a filter with this program and class at the egress of `lo`, or replaces netbpf's. There is no moment without
    /// one.
    ///
    /// # Errors
    /// [`Error::NotANamespace`]; [`Error::Failed`] if the kernel refuses: `ENOENT` if it has no clsact or cls_bpf.
    pub async fn filter_at_lo(
        &self,
        namespace: &Namespace,
        program: impl AsFd,
        class: u16,
    ) -> Result<(), Error> {
        let failed = |refusal| Error::failed("add a filter at", format!("lo in {namespace}"), refusal);
        let (socket, ()) = Socket::open_in(namespace, || Ok(())).await?;
        let discipline = RouteNetlinkMessage::NewQueueDiscipline(discipline());
        match socket.ask(discipline, NLM_F_CREATE | NLM_F_EXCL).await.map_err(failed) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            added => added?,
        }
        let mut message = message(egress());
        message.attributes.push(TcAttribute::Options(
            [
                TcFilterBpfOption::ProgFd(program.as_fd().as_raw_fd().cast_unsigned()),
                TcFilterBpfOption::ProgName("at_lo".to_owned()),
                TcFilterBpfOption::ClassId(TcHandle { major: CLASS, minor: class }),
                // The program's verdict is the filter's.
                TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
            ]
            .map(TcOption::Bpf)
            .to_vec(),
        ));
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        socket.ask(request, NLM_F_CREATE | NLM_F_REPLACE).await.map_err(failed)
    }

    /// Checks in a new namespace that the kernel has what such a filter needs.
    ///
    /// # Errors
    /// As of [`Links::filter_at_lo`].
    pub async fn check_filter_at_lo(&self, program: impl AsFd) -> Result<(), Error> {
        self.filter_at_lo(&Namespace::scratch().await?, program, 1).await
    }

    /// Removes netbpf's filter from `lo` if it has this class, and the discipline if no other filter is left.
    ///
    /// # Errors
    /// As of [`Links::filter_at_lo`]. That there is none is no error.
    pub async fn remove_filter_at_lo(&self, namespace: &Namespace, class: u16) -> Result<(), Error> {
        let failed = |refusal| Error::failed("remove a filter at", format!("lo in {namespace}"), refusal);
        let (socket, ()) = Socket::open_in(namespace, || Ok(())).await?;
        match found(&socket, namespace).await? {
            Some(filter) if filter.class != class => return Ok(()),
            Some(_) => {
                let mut request = message(egress());
                request.attributes.clear();
                let request = RouteNetlinkMessage::DelTrafficFilter(request);
                match socket.ask(request, 0).await.map_err(failed) {
                    Err(error) if error.is_missing() => {}
                    removed => removed?,
                }
            }
            // The discipline may be there already, or still.
            None => {}
        }
        for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            if !filters(&socket, namespace, minor).await?.is_empty() {
                return Ok(());
            }
        }
        let request = RouteNetlinkMessage::DelQueueDiscipline(discipline());
        match socket.ask(request, 0).await.map_err(failed) {
            Err(error) if error.is_missing() || error.errno() == Some(Errno::EINVAL) => Ok(()),
            removed => removed,
        }
    }

    /// netbpf's filter at `lo`, if there is one.
    ///
    /// # Errors
    /// As of [`Links::filter_at_lo`].
    pub async fn found_at_lo(&self, namespace: &Namespace) -> Result<Option<FilterAtLo>, Error> {
        let (socket, ()) = Socket::open_in(namespace, || Ok(())).await?;
        found(&socket, namespace).await
    }
}

async fn found(socket: &Socket, namespace: &Namespace) -> Result<Option<FilterAtLo>, Error> {
    let filters = filters(socket, namespace, TcHandle::MIN_EGRESS).await?;
    Ok(filters.iter().find_map(own))
}

/// What is known of a filter, if it is netbpf's.
fn own(filter: &TcMessage) -> Option<FilterAtLo> {
    if filter.header.info >> 16 != PRIORITY || filter.header.handle != HANDLE {
        return None;
    }
    let (mut class, mut program) = (None, None);
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ClassId(handle)) => class = Some(handle.minor),
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program = Some(*id),
            _ => {}
        }
    }
    Some(FilterAtLo { class: class?, program: program? })
}

/// The filters of one side of `lo`. Without the discipline there are none.
async fn filters(socket: &Socket, namespace: &Namespace, minor: u16) -> Result<Vec<TcMessage>, Error> {
    let parent = TcHandle { major: TcHandle::CLSACT.major, minor };
    let header = TcHeader { index: LOOPBACK.cast_signed(), parent, ..TcHeader::default() };
    let request = TcMessage::from_parts(header, Vec::new());
    let dumped = socket.dump(RouteNetlinkMessage::GetTrafficFilter(request)).await;
    match dumped.map_err(|refusal| Error::failed("list filters at", format!("lo in {namespace}"), refusal)) {
        Err(error) if error.is_missing() || error.errno() == Some(Errno::EINVAL) => Ok(Vec::new()),
        dumped => Ok(dumped?
            .into_iter()
            .filter_map(|message| match message {
                // The kernel also lists each priority without a filter.
                RouteNetlinkMessage::NewTrafficFilter(filter) if filter.header.handle != TcHandle::UNSPEC => {
                    Some(filter)
                }
                _ => None,
            })
            .collect()),
    }
}

fn egress() -> TcHandle {
    TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_EGRESS }
}

/// A message about netbpf's filter, for packets of all protocols.
fn message(parent: TcHandle) -> TcMessage {
    let all: c_int = ETH_P_ALL;
    let protocol = u32::from((all as u16).to_be());
    let header = TcHeader {
        index: LOOPBACK.cast_signed(),
        handle: HANDLE,
        parent,
        info: PRIORITY << 16 | protocol,
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, vec![TcAttribute::Kind(TcFilterBpf::KIND.to_owned())])
}

fn discipline() -> TcMessage {
    let header = TcHeader {
        index: LOOPBACK.cast_signed(),
        handle: TcHandle { major: TcHandle::CLSACT.major, minor: 0 },
        parent: TcHandle::CLSACT,
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, vec![TcAttribute::Kind(CLSACT.to_owned())])
}
