#!/run/busybox/sh
# SPDX-License-Identifier: BSD-2-Clause
# The first process in the guest: mounts what a machine has mounted, runs the command, keeps its exit code.
export PATH=/run/busybox
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mkdir -p /run/lock
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs tracing /sys/kernel/tracing
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
    ln -sf "${link#*:}" "/dev/${link%%:*}"
done
for word in $(cat /proc/cmdline); do
    case $word in
        vm.by=*) by=${word#*=} ;;
        vm.date=*) date -s "@${word#*=}" >/dev/null ;;
        vm.release=*) release=${word#*=} ;;
        vm.modules=*) modules=${word#*=} ;;
    esac
done
mkdir -p /lib/modules
[ -e "/lib/modules/$release" ] || [ ! -d "$modules" ] || ln -s "$modules" "/lib/modules/$release"
ip link set lo up
ulimit -l unlimited
ulimit -Hn 524288 # as systemd has it; the usual limit stays 1024
ulimit -c 0
hostname guest
while read -r number folder; do
    mkdir -p "$folder"
    if [ "$by" = 9p ]; then
        mount -t 9p -o rw,version=9p2000.L,trans=virtio,msize=512000,cache=mmap "rw$number" "$folder"
    else
        mount -t virtiofs -o rw "rw$number" "$folder"
    fi
done </run/vm/writable
out=/dev/ttyS1
for port in /dev/vport*; do [ -e "$port" ] && out=$port; done
cat /proc/uptime >/run/vm/booted
setsid /bin/bash /run/vm/command </dev/null >"$out" 2>&1
echo $? >/run/vm/code.new
mv /run/vm/code.new /run/vm/code
echo o >/proc/sysrq-trigger
sleep 60
