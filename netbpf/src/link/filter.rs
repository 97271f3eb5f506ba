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

use super::{Error, Links, Namespace, Refusal, links::LOOPBACK, socket::Socket};

/// The kind of the discipline that has filters at ingress and egress.
const CLSACT: &str = "clsact";

/// Priority and handle of netbpf's filter: it is the first, and has no handle that the kernel chooses for others.
const PRIORITY: u32 = 1;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 0x6e62 };

/// The major number of the class: any but zero, which would be no class.
const CLASS: u16 = 1;

/// netbpf's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterAtLo {
    /// Its class.
    pub class: u16,
    /// The ID of its program.
    pub program: u32,
}

/// `lo` of a namespace.
pub struct Lo {
    socket: Socket,
    /// In messages.
    place: String,
}

impl Links {
    /// Opens `lo` of a namespace.
    ///
    /// # Errors
    /// [`Error::NotANamespace`]; [`Error::Failed`] if it may not be entered.
    pub async fn lo(&self, namespace: &Namespace) -> Result<Lo, Error> {
        let (socket, ()) = Socket::open_in(namespace, || Ok(())).await?;
        Ok(Lo { socket, place: format!("lo in {namespace}") })
    }

    /// Checks in a new namespace that the kernel has what a filter needs.
    ///
    /// # Errors
    /// As of [`Links::lo`], [`Lo::add_discipline`] and [`Lo::add_filter`].
    pub async fn check_filter_at_lo(&self, program: impl AsFd) -> Result<(), Error> {
        let lo = self.lo(&Namespace::scratch().await?).await?;
        lo.add_discipline().await?;
        lo.add_filter(program, 1).await
    }
}

impl Lo {
    /// Adds the discipline that filters need. Returns false if it is there already.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses: `ENOENT` if it has no clsact, `EINVAL` if another discipline has the place
    /// (`ingress`).
    pub async fn add_discipline(&self) -> Result<bool, Error> {
        let add = async |flags| {
            let request = RouteNetlinkMessage::NewQueueDiscipline(discipline());
            let added = self.socket.ask(request, NLM_F_CREATE | flags).await;
            added.map_err(|refusal| Error::failed("add clsact at", &self.place, refusal))
        };
        match add(NLM_F_EXCL).await {
            // The kernel takes the same one again, but none of another kind.
            Err(error) if error.errno() == Some(Errno::EEXIST) => add(0).await.map(|()| false),
            added => added.map(|()| true),
        }
    }

    /// Removes the discipline if no filter is left in it. A filter that somebody adds between the look and the removal goes
    /// with it: whoever adds one to a discipline of netbpf's would be refused a moment later.
    ///
    /// # Errors
    /// [`Error::Failed`]. That there is none is no error.
    pub async fn remove_discipline(&self) -> Result<(), Error> {
        for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            if !self.filters(minor).await?.is_empty() {
                return Ok(());
            }
        }
        let request = RouteNetlinkMessage::DelQueueDiscipline(discipline());
        self.removed("remove clsact from", self.socket.ask(request, 0).await)
    }

    /// Adds a filter with this program and class at the egress, or replaces netbpf's. There is no moment without one.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses: `ENOENT` if it has no cls_bpf, `EINVAL` if another filter has the place.
    pub async fn add_filter(&self, program: impl AsFd, class: u16) -> Result<(), Error> {
        let mut message = message();
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
        let added = self.socket.ask(request, NLM_F_CREATE | NLM_F_REPLACE).await;
        added.map_err(|refusal| Error::failed("add a filter at", &self.place, refusal))
    }

    /// Removes netbpf's filter.
    ///
    /// # Errors
    /// [`Error::Failed`]. That there is none is no error.
    pub async fn remove_filter(&self) -> Result<(), Error> {
        let mut request = message();
        request.attributes.clear();
        let request = RouteNetlinkMessage::DelTrafficFilter(request);
        self.removed("remove a filter from", self.socket.ask(request, 0).await)
    }

    /// netbpf's filter, if there is one.
    ///
    /// # Errors
    /// [`Error::Failed`] if filters cannot be listed.
    pub async fn filter(&self) -> Result<Option<FilterAtLo>, Error> {
        Ok(self.filters(TcHandle::MIN_EGRESS).await?.iter().find_map(own))
    }

    /// The filters of one side. Without the discipline there are none.
    async fn filters(&self, minor: u16) -> Result<Vec<TcMessage>, Error> {
        let parent = TcHandle { major: TcHandle::CLSACT.major, minor };
        let header = TcHeader { index: LOOPBACK.cast_signed(), parent, ..TcHeader::default() };
        let request = TcMessage::from_parts(header, Vec::new());
        let dumped = self.socket.dump(RouteNetlinkMessage::GetTrafficFilter(request)).await;
        match dumped.map_err(|refusal| Error::failed("list filters at", &self.place, refusal)) {
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            dumped => Ok(dumped?
                .into_iter()
                .filter_map(|message| match message {
                    // The kernel also lists each priority without a filter.
                    RouteNetlinkMessage::NewTrafficFilter(filter)
                        if filter.header.handle != TcHandle::UNSPEC =>
                    {
                        Some(filter)
                    }
                    _ => None,
                })
                .collect()),
        }
    }

    fn removed(&self, operation: &'static str, answer: Result<(), Refusal>) -> Result<(), Error> {
        match answer.map_err(|refusal| Error::failed(operation, &self.place, refusal)) {
            Err(error) if is_gone(&error) => Ok(()),
            removed => removed,
        }
    }
}

/// Whether there is no such discipline, or none of netbpf's kind.
fn is_gone(error: &Error) -> bool {
    error.is_missing() || error.is_invalid()
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

/// A message about netbpf's filter, for packets of all protocols.
fn message() -> TcMessage {
    let all: c_int = ETH_P_ALL;
    let protocol = u32::from((all as u16).to_be());
    let header = TcHeader {
        index: LOOPBACK.cast_signed(),
        handle: HANDLE,
        parent: TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_EGRESS },
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
