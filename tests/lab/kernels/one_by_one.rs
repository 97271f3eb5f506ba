//! Tests with programs that watch each other several times a second. On an emulated machine they run after the others, one
//! at a time: beside another test, its two slow CPUs would keep such a program from answering in time.

use netbpf_tests::lab::Lab;

use super::{super::setups, remove_all};

#[test]
fn setups_of_a_kernel_bridge_work() {
    let lab = Lab::start();
    for setup in setups::ON_ALL_KERNELS {
        setup.run_on(&lab);
        remove_all(&lab);
    }
}
