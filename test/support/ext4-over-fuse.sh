#!/bin/sh
# A file system on a loop device on a FUSE file on an NBD export: makes it, copies
# real files in, and takes everything down again, whatever happens, in the one
# order in which no device is left without what it stands on. Runs in a mount
# namespace of its own.
# usage: unshare -m sh ext4-over-fuse.sh URI DIRECTORY SOURCE...
set -eu
uri=$1
fuse=$2/fuse
mount=$2/mount
shift 2
mkdir -p "$fuse" "$mount"
loop=
nbdfuse=

take_down() {
  code=$?
  trap - EXIT INT TERM
  mountpoint -q "$mount" && umount "$mount"
  if [ -n "$loop" ]; then
    losetup -d "$loop"
    tries=0
    while losetup "$loop" > /dev/null 2>&1 && [ $tries -lt 100 ]; do
      tries=$((tries + 1))
      sleep 0.1
    done
  fi
  if [ -n "$nbdfuse" ]; then
    fusermount3 -u "$fuse"
    wait "$nbdfuse" || true
  fi
  exit $code
}
trap take_down EXIT INT TERM

nbdfuse "$fuse/disk" "$uri" &
nbdfuse=$!
tries=0
until [ -e "$fuse/disk" ]; do
  kill -0 "$nbdfuse"
  tries=$((tries + 1))
  [ $tries -lt 100 ]
  sleep 0.1
done
loop=$(losetup -f --show "$fuse/disk")
mkfs.ext4 -q -E nodiscard "$loop"
mount -t ext4 "$loop" "$mount"
cp -r "$@" "$mount"
sync -f "$mount"
rm "$mount"/*/errors.ts
cp "$mount"/model/delta.ts "$mount"/copied.ts
