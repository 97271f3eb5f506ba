//! The filters at `lo` of containers: a filter is its container's until it is removed, and what cannot be done for one
//! container is no reason to leave others without names.

use std::{fs, path::PathBuf, time::Duration};

use nix::errno::Errno;
use tokio::time::timeout;

use super::rig::Rig;
use crate::{
    daemon::{
        effects::lo::NamesStanding,
        names::{LoGuard, Names},
    },
    model::{Id, Namespace, RESOLVER},
    store::Change,
};

/// A rig with members, whose namespaces have these names.
async fn rig_with<const N: usize>(names: [&str; N]) -> (Rig, [Id; N]) {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let mut ids = Vec::new();
    for name in names {
        ids.push(rig.connect(&rig.namespace(name), &network).await.unwrap());
    }
    (rig, ids.try_into().unwrap())
}

fn note_of(rig: &Rig, id: Id) -> PathBuf {
    rig.daemon.host.folders.of(&id).join("lo.json")
}

fn guard(rig: &Rig) -> LoGuard {
    LoGuard::new(Names::new(&rig.daemon.state, &rig.daemon.host))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_keeps_its_class_if_the_maps_are_lost() {
    let (rig, _) = rig_with(["one", "two", "three", "four", "five"]).await;
    let before = rig.shape();
    rig.machine.change(|state| state.resolvers.clear());
    before.assert_same(&rig.restart().await.shape(), "after a restart with new maps");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responder_answers_where_no_filter_can_be_added_until_the_next_start() {
    for errno in [Errno::EINVAL, Errno::ENOBUFS] {
        let (rig, [id]) = rig_with(["blue"]).await;
        let before = rig.shape();
        // As after an update, or after somebody else took the place.
        rig.machine.change(|state| state.at_lo.clear());
        rig.machine.refuse("add a filter", errno);
        let rig = rig.restart().await;
        let shape = rig.shape();
        assert!(shape.machine().at_lo.is_empty() && shape.machine().resolvers.is_empty(), "{shape:#?}");
        assert!(!note_of(&rig, id).exists(), "nobody adds it again while the responder is at port 53");
        assert!(shape.machine().records.contains_key(&id));
        assert_eq!(rig.daemon.host.without_filter().len(), 1);
        rig.machine.refuse_nothing();
        before.assert_same(&rig.restart().await.shape(), "after the next start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_needs_is_no_reason_not_to_connect() {
    let refusals = [
        ("set a resolver", Errno::E2BIG),
        ("add a discipline", Errno::EINVAL),
        ("add a filter", Errno::EINVAL),
    ];
    for (call, errno) in refusals {
        let rig = Rig::start().await;
        let network = rig.network().await.unwrap();
        let blue = rig.namespace("blue");
        rig.machine.refuse(call, errno);
        let id = rig.connect(&blue, &network).await.unwrap();
        let host = &rig.daemon.host;
        let machine = rig.machine.state();
        assert!(machine.at_lo.is_empty() && machine.resolvers.is_empty(), "{call}: {machine:#?}");
        assert!(!note_of(&rig, id).exists() && machine.records.contains_key(&id), "{call}");
        assert_eq!(host.without_filter().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id], "{call}");
        assert_eq!(host.standing_of_names(), NamesStanding::AtLo(0));
        // The namespace is its own, also without a filter.
        let other = Id::random();
        rig.machine.refuse_nothing();
        host.join_lo(other, &Namespace::Path(blue), RESOLVER, 40_000).await.unwrap_err();
        host.leave_lo(other).await.unwrap();
        let rig = rig.restart().await;
        let host = &rig.daemon.host;
        assert_eq!((host.standing_of_names(), host.without_filter()), (NamesStanding::AtLo(1), vec![]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_for_one_container_is_no_reason_not_to_start() {
    type Harm = fn(&Rig, Id);
    let harms: [(&str, Harm); 3] = [
        ("no room for a note", |rig, id| {
            let note = note_of(rig, id);
            fs::remove_file(&note).unwrap();
            fs::create_dir(note.with_extension("json.part")).unwrap();
            rig.machine.change(|state| {
                state.at_lo.clear();
                state.resolvers.clear();
            });
        }),
        ("a note that cannot be read", |rig, id| fs::write(note_of(rig, id), "{").unwrap()),
        ("no room in the map", |rig, _| {
            rig.machine.change(|state| state.resolvers.clear());
            rig.machine.refuse("set a resolver", Errno::E2BIG);
        }),
    ];
    for (what, harm) in harms {
        let (rig, [id, other]) = rig_with(["blue", "green"]).await;
        harm(&rig, id);
        let shape = rig.restart().await.shape();
        for id in [id, other] {
            assert!(shape.machine().records.contains_key(&id), "{what}");
            assert!(shape.machine().names.contains_key(&id), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_lacks_is_asked_once_and_what_it_is_short_of_again() {
    for (errno, can_later) in [(Errno::ENOENT, false), (Errno::EMFILE, true), (Errno::ENOSPC, true)] {
        let rig = Rig::start().await;
        let host = &rig.daemon.host;
        rig.machine.refuse("check a filter", errno);
        assert!(!host.answers_at_lo().await);
        assert!(matches!(host.standing_of_names(), NamesStanding::Lacking(_)), "{errno}");
        rig.machine.refuse_nothing();
        assert_eq!(host.answers_at_lo().await, can_later, "{errno}");
        assert_eq!(host.standing_of_names() == NamesStanding::AtLo(0), can_later, "{errno}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_removed_although_nothing_names_its_namespace_any_more() {
    let (rig, [id]) = rig_with(["blue"]).await;
    // Another container shares it.
    fs::remove_file(rig.namespace("blue")).unwrap();
    rig.daemon.host.leave_lo(id).await.unwrap();
    let machine = rig.machine.state();
    assert!(machine.at_lo.is_empty() && machine.resolvers.is_empty(), "{machine:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discipline_of_the_container_s_own_stays() {
    for is_own in [false, true] {
        let rig = Rig::start().await;
        let network = rig.network().await.unwrap();
        let blue = rig.namespace("blue");
        if is_own {
            rig.machine.change(|state| state.disciplines.extend([blue.clone()]));
        }
        let id = rig.connect(&blue, &network).await.unwrap();
        let rig = rig.restart().await;
        rig.disconnect(id).await.unwrap();
        assert_eq!(rig.machine.state().disciplines.contains(&blue), is_own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discipline_that_cannot_be_noted_is_not_left() {
    let rig = Rig::start().await;
    let (id, blue) = (Id::random(), rig.namespace("blue"));
    let host = &rig.daemon.host;
    let join = || async { host.join_lo(id, &Namespace::Path(blue.clone()), RESOLVER, 40_000).await };
    let in_the_way = note_of(&rig, id).with_extension("json.part");
    fs::create_dir_all(&in_the_way).unwrap();
    join().await.unwrap_err();
    let machine = rig.machine.state();
    assert!(machine.disciplines.is_empty() && machine.at_lo.is_empty(), "{machine:#?}");
    fs::remove_dir(in_the_way).unwrap();
    join().await.unwrap();
    host.leave_lo(id).await.unwrap();
    assert!(rig.machine.state().disciplines.is_empty(), "it was netbpf's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discipline_that_netbpf_has_added_for_another_goes() {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let blue = rig.namespace("blue");
    rig.machine.change(|state| state.disciplines.extend([blue.clone()]));
    let id = rig.connect(&blue, &network).await.unwrap();
    // With the filter.
    rig.machine.change(|state| {
        state.disciplines.clear();
        state.at_lo.clear();
    });
    assert!(guard(&rig).check_some().await.is_empty());
    assert_eq!(rig.machine.state().at_lo.len(), 1);
    rig.disconnect(id).await.unwrap();
    assert!(rig.machine.state().disciplines.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_containers_that_come_at_once_has_the_namespace() {
    let rig = Rig::start().await;
    let blue = rig.namespace("blue");
    let other = blue.with_file_name("other");
    fs::hard_link(&blue, &other).unwrap();
    let host = &rig.daemon.host;
    let ids = [Id::random(), Id::random()];
    let names = [blue, other].map(Namespace::Path);
    let join = |which: usize| host.join_lo(ids[which], &names[which], RESOLVER, 40_000);
    let joined = <[_; 2]>::from(tokio::join!(join(0), join(1))).map(|joined| joined.is_ok());
    let [Some(winner), Some(loser)] = [true, false].map(|is| joined.iter().position(|joined| *joined == is))
    else {
        panic!("{joined:?}");
    };
    let machine = rig.machine.state();
    assert_eq!(machine.at_lo.into_values().collect::<Vec<_>>(), [machine.resolvers[&ids[winner]]]);
    // The other one leaves, and comes again after the first.
    host.leave_lo(ids[loser]).await.unwrap();
    assert_eq!(rig.machine.state().at_lo.len(), 1);
    host.leave_lo(ids[winner]).await.unwrap();
    join(loser).await.unwrap();
    join(winner).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_to_go_is_not_added_again() {
    let (rig, [id]) = rig_with(["blue"]).await;
    rig.machine.refuse("remove a discipline", Errno::ENOBUFS);
    rig.daemon.host.leave_lo(id).await.unwrap_err();
    let mut guard = guard(&rig);
    assert_eq!(guard.check_some().await.len(), 1, "it is told");
    assert!(rig.machine.state().at_lo.is_empty() && note_of(&rig, id).exists());
    rig.machine.refuse_nothing();
    assert_eq!(guard.check_some().await.len(), 0);
    assert!(rig.machine.state().resolvers.is_empty() && !note_of(&rig, id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_leaves_its_former_namespace() {
    let (rig, [id]) = rig_with(["blue"]).await;
    let green = rig.namespace("green");
    rig.daemon.host.join_lo(id, &Namespace::Path(green.clone()), RESOLVER, 40_000).await.unwrap();
    assert_eq!(rig.machine.state().at_lo.keys().collect::<Vec<_>>(), [&green]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_removed_with_its_container_is_removed_later() {
    for restarts in [false, true] {
        let (mut rig, [id]) = rig_with(["blue"]).await;
        rig.machine.refuse("remove a filter", Errno::ENOBUFS);
        rig.disconnect(id).await.unwrap();
        let left = rig.shape();
        assert!(left.containers().is_empty() && left.machine().records.is_empty());
        assert_eq!((left.machine().at_lo.len(), left.machine().resolvers.len()), (1, 1));
        if !restarts {
            assert_eq!(guard(&rig).check_some().await.len(), 1);
        }
        assert!(note_of(&rig, id).exists(), "a later daemon finds it");
        rig.machine.refuse_nothing();
        match restarts {
            true => rig = rig.restart().await,
            false => assert!(guard(&rig).check_some().await.is_empty()),
        }
        let machine = rig.machine.state();
        assert!(machine.at_lo.is_empty() && machine.resolvers.is_empty(), "{machine:#?}");
        assert!(!rig.daemon.host.folders.of(&id).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_changed_does_not_delay_the_filters_of_others() {
    let (rig, [one, other]) = rig_with(["one", "other"]).await;
    let before = rig.shape();
    rig.machine.change(|state| state.at_lo.clear());
    let mut guard = guard(&rig);
    for is_changed in [one, other] {
        let locked = rig.daemon.state.lock_container(is_changed).await;
        timeout(Duration::from_secs(30), guard.check_some()).await.expect("it does not wait");
        drop(locked);
        rig.machine.change(|state| assert_eq!(state.at_lo.len(), if is_changed == one { 1 } else { 2 }));
    }
    before.assert_same(&rig.shape(), "after both were checked");
    let repairs = rig.daemon.host.repairs.all();
    assert_eq!(repairs.len(), 2, "{repairs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_once() {
    let (rig, [id]) = rig_with(["blue"]).await;
    let host = &rig.daemon.host;
    let mut guard = guard(&rig);
    let mut told = async || guard.check_some().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    for _ in 0..2 {
        rig.machine.change(|state| state.at_lo.clear());
        rig.machine.refuse("add a filter", Errno::ENOBUFS);
        assert_eq!(told().await, [id]);
        assert_eq!(told().await, []);
        assert_eq!(host.trouble_at_lo().len(), 1, "also by doctor");
        rig.machine.refuse_nothing();
        assert_eq!(told().await, []);
        assert_eq!(host.trouble_at_lo(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responder_answers_where_another_filter_takes_the_place() {
    let (rig, [id, other]) = rig_with(["blue", "other"]).await;
    let host = &rig.daemon.host;
    let mut guard = guard(&rig);
    let [blue, green] = ["blue", "other"].map(|name| rig.namespace(name));
    rig.machine.change(|state| {
        state.at_lo.remove(&blue);
    });
    rig.machine.refuse("add a filter", Errno::EINVAL);
    // Something of the filter cannot be removed at once: that is tried again.
    rig.machine.refuse("remove a filter", Errno::ENOBUFS);
    assert_eq!(guard.check_some().await.len(), 1);
    let without = || host.without_filter().into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((without(), host.standing_of_names()), (vec![id], NamesStanding::AtLo(1)));
    assert!(note_of(&rig, id).exists() && rig.machine.state().records.contains_key(&id));
    rig.machine.refuse_nothing();
    for _ in 0..2 {
        assert_eq!(guard.check_some().await, []);
        let machine = rig.machine.state();
        assert_eq!(machine.at_lo.keys().collect::<Vec<_>>(), [&green]);
        assert_eq!(machine.resolvers.keys().collect::<Vec<_>>(), [&other]);
        assert!(!note_of(&rig, id).exists() && machine.records.contains_key(&id));
        assert_eq!(without(), [id], "until the next start");
    }
    rig.disconnect(id).await.unwrap();
    assert_eq!(without(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_looked_at_is_not_gone() {
    let (rig, [id]) = rig_with(["blue"]).await;
    // A daemon was killed after it had removed the container, and another container shares the namespace.
    let locked = rig.daemon.state.lock_container(id).await;
    rig.daemon.state.commit(&[Change::RemoveContainer(id)]).unwrap();
    drop(locked);
    fs::remove_file(rig.namespace("blue")).unwrap();
    rig.machine.refuse("find a namespace", Errno::EMFILE);
    let rig = rig.restart().await;
    assert!(note_of(&rig, id).exists(), "it is tried again");
    assert_eq!(guard(&rig).check_some().await.len(), 1);
}
