#!/bin/bash
# The NBD server against clients that nobody here wrote. Prints TAP; a check
# whose tool is missing skips with that reason.
# usage: nbd-interop.sh [PATH OF nbd_server_tool]
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
tool=${1:-$root/build-native/nbd_server_tool}
dir=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-interop-XXXXXX")
size=$((64 * 1024 * 1024))
socket=$dir/nbd.sock
uri="nbd+unix:///?socket=$socket"
server=
number=0
failures=0

stop_server() {
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null
  wait "$server"
  local code=$?
  server=
  return $code
}
trap 'stop_server; rm -rf "$dir"' EXIT

# start_server ARGUMENTS...: returns when the server says that it listens.
start_server() {
  : > "$dir/server.log"
  "$tool" "$@" > "$dir/server.log" 2>&1 &
  server=$!
  local tries=0
  until grep -q '^listening' "$dir/server.log"; do
    kill -0 "$server" 2>/dev/null || return 1
    tries=$((tries + 1))
    [ $tries -lt 500 ] || return 1
    sleep 0.02
  done
}

# check "NAME" TOOL FUNCTION: one TAP line.
check() {
  number=$((number + 1))
  if ! command -v "$2" > /dev/null; then
    echo "ok $number - $1 # SKIP $2 is not installed"
  elif "$3" > "$dir/check.log" 2>&1; then
    echo "ok $number - $1"
  else
    echo "not ok $number - $1"
    sed 's/^/# /' "$dir/check.log" | head -20
    failures=$((failures + 1))
  fi
}

fresh_disk() {  # 64 MiB: data, a hole in the middle, data
  rm -f "$dir/disk"
  head -c $((24 * 1024 * 1024)) /dev/urandom > "$dir/disk"
  truncate -s $((40 * 1024 * 1024)) "$dir/disk"
  head -c $((24 * 1024 * 1024)) /dev/urandom >> "$dir/disk"
}

# ---- checks ------------------------------------------------------------------

nbdinfo_export() {
  nbdinfo --json "$uri" > "$dir/info" || return 1
  cat "$dir/info"
  grep -q "\"export-size\": $size" "$dir/info" && grep -q '"can_multi_conn": true' "$dir/info" &&
    grep -q '"is_read_only": false' "$dir/info" && grep -q '"can_df": true' "$dir/info" &&
    grep -q '"base:allocation"' "$dir/info"
}
nbdinfo_list() { nbdinfo --list "$uri" | grep -q 'a test disk'; }
nbdinfo_unknown() { ! nbdinfo "nbd+unix:///nothing?socket=$socket"; }
nbdinfo_map() {  # extents cover the disk, and the hole is one
  nbdinfo --map "$uri" > "$dir/map" || return 1
  cat "$dir/map"
  awk -v size=$size '{ if ($1 != at) exit 1; at += $2; hole += ($3 == 3) * $2 }
    END { exit !(at == size && hole >= 15 * 1048576 && hole <= 16 * 1048576) }' "$dir/map"
}
nbdcopy_out() { nbdcopy "$uri" "$dir/copy" && cmp "$dir/disk" "$dir/copy"; }
nbdcopy_in() {
  head -c $size /dev/urandom > "$dir/source"
  nbdcopy --flush "$dir/source" "$uri" && cmp "$dir/source" "$dir/disk"
}
nbdcopy_sparse_in() {
  rm -f "$dir/source" && truncate -s $size "$dir/source"
  printf 'only this' | dd of="$dir/source" bs=1 seek=5000000 conv=notrunc status=none
  nbdcopy --flush --allocated "$dir/source" "$uri" && cmp "$dir/source" "$dir/disk"
}
qemu_img_info() { qemu-img info -f raw "$uri" | grep -q "$size bytes"; }
qemu_img_compare() { qemu-img compare -f raw -F raw "$uri" "$dir/disk"; }
qemu_img_map() {  # what is data in the map is what the file holds: 48 MiB
  qemu-img map -f raw --output=json "$uri" > "$dir/map" || return 1
  cat "$dir/map"
  tr '{' '\n' < "$dir/map" | grep '"data": true' | sed 's/.*"length": \([0-9]*\).*/\1/' |
    awk '{ data += $1 } END { exit !(data >= 48 * 1048576 && data <= 49 * 1048576) }'
}
qemu_img_convert_out() {
  qemu-img convert -f raw -O qcow2 "$uri" "$dir/out.qcow2" &&
    qemu-img compare -f qcow2 -F raw "$dir/out.qcow2" "$dir/disk"
}
qemu_img_convert_in() {
  qemu-img create -q -f qcow2 "$dir/in.qcow2" $size &&
    qemu-io -f qcow2 -c 'write -P 0x5a 1M 3M' -c 'write -P 0xa5 33M 4k' "$dir/in.qcow2" &&
    qemu-img convert -n -f qcow2 -O raw "$dir/in.qcow2" "$uri" &&
    qemu-img compare -f qcow2 -F raw "$dir/in.qcow2" "$dir/disk"
}
qemu_io_commands() {
  qemu-io -f raw -c 'write -P 0x11 0 1M' -c 'write -f -P 0x22 512k 4k' -c 'write -z 64k 64k' \
    -c 'write -z -u 128k 64k' -c 'discard 2M 1M' -c flush \
    -c 'read -P 0x11 0 64k' -c 'read -P 0 64k 128k' -c 'read -P 0x22 512k 4k' \
    -c 'read -P 0x11 516k 508k' "$uri" > "$dir/io" 2>&1 || { cat "$dir/io"; return 1; }
  ! grep -iE 'error|failed|pattern' "$dir/io"
}
qemu_io_past_end() { ! qemu-io -f raw -c "write -P 1 $size 512" "$uri"; }
qemu_io_read_only() {
  cp "$dir/disk" "$dir/before"
  ! qemu-io -f raw -c 'write -P 1 0 512' "$uri" && cmp "$dir/before" "$dir/disk" &&
    qemu-io -r -f raw -c 'read 0 1M' "$uri" && nbdinfo "$uri" | grep -q 'is_read_only: true'
}
fio_verify_at() {
  fio --name=verify --ioengine=nbd --uri="$1" --rw=randwrite --bsrange=512-128k --size=16m \
    --numjobs=4 --thread --offset_increment=16m --iodepth=32 --verify=crc32c --do_verify=1 \
    --verify_fatal=1 --verify_state_save=0 --fsync=64 --randseed=1 --output="$dir/fio" || { cat "$dir/fio"; return 1; }
}
fio_verify() { fio_verify_at "$uri"; }
fio_has_nbd() { fio --enghelp 2> /dev/null | grep -qw nbd; }
nbdsh_errors() {
  # Debian's nbdsh needs Debian's python3, whichever comes first in PATH.
  PATH="/usr/bin:$PATH" nbdsh -u "$uri" -c '
import errno
h.set_strict_mode(0)
def fails(expected, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == expected, error
    else:
        assert False, "no error"
size = h.get_size()
fails(errno.EINVAL, lambda: h.pread(512, size))
fails(errno.ENOSPC, lambda: h.pwrite(bytearray(512), size))
h.cache(512, 0)
fails(errno.EINVAL, lambda: h.cache(512, size))
fails(errno.EINVAL, lambda: h.trim(512, size))
h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA)
assert h.pread(512, 0) == b"x" * 512
h.zero(512, 0, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(512, 0) == bytearray(512)
'
}
garbage_tcp() {  # then the server still serves
  local host=${address%:*} port=${address##*:} bytes
  for bytes in 1 30 5000; do
    head -c $bytes /dev/urandom > "/dev/tcp/$host/$port" || return 1
  done
  nbdinfo --size "nbd://$address" | grep -qx $size
}
ends_cleanly() { stop_server && [ ! -e "$socket" ] && tail -1 "$dir/server.log" | grep -q requests; }

# ---- plan --------------------------------------------------------------------

if [ ! -x "$tool" ]; then
  echo "Bail out! $tool is not built"
  exit 2
fi

fresh_disk
start_server --unix "$socket" --file "$dir/disk" --description 'a test disk' || {
  echo "Bail out! the server does not start: $(cat "$dir/server.log")"
  exit 2
}
check 'nbdinfo shows size, flags and contexts' nbdinfo nbdinfo_export
check 'nbdinfo lists the export with its description' nbdinfo nbdinfo_list
check 'nbdinfo is refused an unknown export' nbdinfo nbdinfo_unknown
check 'nbdinfo maps data and hole' nbdinfo nbdinfo_map
check 'nbdcopy copies out' nbdcopy nbdcopy_out
check 'qemu-img info shows the size' qemu-img qemu_img_info
check 'qemu-img map shows what is data' qemu-img qemu_img_map
check 'qemu-img compare finds no difference' qemu-img qemu_img_compare
check 'qemu-img converts out to qcow2' qemu-img qemu_img_convert_out
check 'qemu-img converts in from qcow2' qemu-io qemu_img_convert_in
check 'qemu-io writes, zeroes, discards and reads back' qemu-io qemu_io_commands
check 'qemu-io cannot write past the end' qemu-io qemu_io_past_end
check 'nbdcopy copies in' nbdcopy nbdcopy_in
check 'nbdcopy copies a sparse file in' nbdcopy nbdcopy_sparse_in
if fio_has_nbd; then
  check 'fio verifies what four jobs wrote' fio fio_verify
else
  check 'fio verifies what four jobs wrote' fio-nbd-engine true
fi
check 'nbdsh sees the right errors' nbdsh nbdsh_errors
check 'SIGTERM ends the server cleanly and removes its socket' true ends_cleanly

start_server --unix "$socket" --file "$dir/disk" --read-only
check 'a read-only export cannot be written' qemu-io qemu_io_read_only
stop_server

start_server --tcp 127.0.0.1:0 --memory 64M
address=$(sed -n 's/^listening on \([^,]*\),.*/\1/p' "$dir/server.log")
fio_verify_tcp() { fio_verify_at "nbd://$address"; }
nbdcopy_memory() {
  nbdcopy --flush "$dir/source" "nbd://$address" && nbdcopy "nbd://$address" "$dir/copy" &&
    cmp "$dir/source" "$dir/copy"
}
check 'nbdcopy in and out of memory over TCP' nbdcopy nbdcopy_memory
fio_has_nbd && check 'fio verifies over TCP' fio fio_verify_tcp
check 'the server survives garbage' nbdinfo garbage_tcp
stop_server

echo "1..$number"
exit $((failures > 0))
