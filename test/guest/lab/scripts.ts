/** Of the initramfs: brings up the root disk and the job, and goes over to it. */
export const EARLY_INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for module in $($b cat /modules); do $b insmod $module || echo "lab: $module is not loaded"; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do $b usleep 50000; tries=$((tries + 1)); done
$b mount -t ext4 /dev/vda /new || { echo "lab: no root disk"; $b poweroff -f; }
$b cp -a /job/. /new/job/
for folder in proc sys dev; do $b mount -o move /$folder /new/$folder; done
exec $b switch_root /new /lab-init
`;

/** Of the root disk: runs the job and reports how it ended. */
export const LAB_INIT = `#!/bin/sh
export PATH=/usr/bin:/busybox HOME=/root TERM=dumb
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /sys/fs/cgroup /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
ifconfig lo 127.0.0.1 up
hostname guest
dmesg -n 4
cd /job
sh /job/run.sh
echo "status $?" > /dev/ttyS1
sync -f /tmp
poweroff -f
`;
