#!/bin/busybox sh
# The first process of a booted kernel: runs the lab tests and powers off. xtask replaces the names between @ signs.
PATH=/usr/bin:/usr/sbin
export PATH HOME=/root NETBPF_BIN=/usr/bin/netbpf RUST_TEST_THREADS=4 RUST_BACKTRACE=1

if [ ! -e /run/moved ]; then
    # pivot_root, which containers with a root of their own need, does not work on an initramfs: move to a tmpfs.
    busybox mkdir /new
    busybox mount -t tmpfs -o mode=755 tmpfs /new
    busybox cp -a /bin /sbin /lib /lib64 /usr /etc /var /root /init /modules /new
    busybox mkdir -m 1777 /new/tmp
    busybox mkdir /new/proc /new/sys /new/dev /new/run
    busybox touch /new/run/moved
    exec busybox switch_root /new /init
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
hostname netbpf
ip link set lo up
for module in /modules/*.ko; do
    insmod "$module" || echo "cannot load $module"
done

later=$(netbpf-lab @FILTER@ --list | sed -n 's/^\(kernels::one_by_one::.*\): test$/\1/p')
echo "@BEGIN@"
netbpf-lab @FILTER@ --skip kernels::one_by_one::
code=$?
if [ -n "$later" ]; then
    RUST_TEST_THREADS=1 netbpf-lab --exact $later || code=$?
fi
echo "@END@$code"
poweroff -f
