/**
 * Three writers, so that requests are under way at any time; each file's hash is of
 * what was to be written, not of what was read back.
 */
export const WRITERS = `
put() { # SOURCE NAME
  dd if=$1 of=/mnt/$2 bs=64k conv=fsync,notrunc 2> /tmp/dd.$2 || { touch /tmp/failed; cat /tmp/dd.$2; }
  sha256sum < $1 | cut -d ' ' -f 1 > /tmp/sums/$2
}
writer() {
  n=0
  while [ ! -e /tmp/stop ]; do
    dd if=/dev/urandom of=/tmp/source$1 bs=64k count=2 2> /dev/null
    put /tmp/source$1 w$1-$((n % 16))
    n=$((n + 1))
    echo $n > /tmp/count$1
  done
}
start_writers() {
  mkdir /tmp/sums
  writers=
  for w in 1 2 3; do
    echo 0 > /tmp/count$w
    writer $w &
    writers="$writers $!"
  done
  has_written 3
}
stop_writers() {
  has_written 3
  touch /tmp/stop
  wait $writers
  [ ! -e /tmp/failed ] || fail "a write met an error"
}
has_written() { # MORE FILES, each of the writers
  for w in 1 2 3; do
    end=$(($(cat /tmp/count$w) + $1))
    while [ "$(cat /tmp/count$w)" -lt $end ]; do usleep 20000; done
  done
}
`;
