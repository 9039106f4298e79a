#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The initrd's init: the host's root below an overlay in memory, then the share's own (guest-start.sh).
mount -t proc proc /proc
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do insmod "/mods/$module"; done </mods/list
for word in $(cat /proc/cmdline); do
    case $word in vm.by=*) by=${word#*=} ;; esac
done
get() { # tag folder ro|rw cache
    if [ "$by" = 9p ]; then
        mount -t 9p -o "$3,version=9p2000.L,trans=virtio,msize=512000,cache=$4" "$1" "$2"
    else
        mount -t virtiofs -o "$3" "$1" "$2"
    fi
}
get root /lower ro loose || { echo "guest: no root"; poweroff -f; }
mount -t tmpfs -o size=80% rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /newroot || { echo "guest: no overlay"; poweroff -f; }
mount -t tmpfs run /newroot/run
mkdir -p /newroot/run/vm /newroot/run/busybox
get share /newroot/run/vm rw none || { echo "guest: no share"; poweroff -f; }
cp /bin/busybox /newroot/run/busybox/busybox
for name in sh mount mkdir ln date ip hostname cat stty setsid mv sleep; do ln -s busybox "/newroot/run/busybox/$name"; done
mount -t proc proc /newroot/proc
mount -t sysfs sys /newroot/sys
mount -t devtmpfs dev /newroot/dev
umount /dev
umount /proc
exec switch_root /newroot /run/busybox/sh /run/vm/start
