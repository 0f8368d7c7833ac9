#!/usr/bin/env bash
# FTP throughput of examples/ftp_server beside vsftpd, by curl over loopback: benches/ftp_throughput.sh [MB] [ROUNDS]
#
# Both serve the same directory in memory and stand ready at once; they take turns. Printed are the medians of all
# rounds and the median of their ratios. Wants curl, python3 and vsftpd, and nothing of them is
# left running or lying around.
set -euo pipefail
cd "$(dirname "$0")/.."

megabytes=${1:-256} rounds=${2:-7}
for tool in curl python3 vsftpd; do
    command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
cargo build --release -p ftp_server --bin ftp_server
server=${CARGO_TARGET_DIR:-target}/release/ftp_server

dir=$(mktemp -d -p /dev/shm)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

mkdir -p "$dir/root/up" "$dir/empty"
head -c "$((megabytes << 20))" /dev/urandom >"$dir/root/file"
chmod 755 "$dir" "$dir/root"
chmod 777 "$dir/root/up"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

vsftpd_port=$(free_port)
cat >"$dir/vsftpd.conf" <<CONF
listen=YES
listen_ipv6=NO
listen_address=127.0.0.1
listen_port=$vsftpd_port
background=NO
anonymous_enable=YES
anon_root=$dir/root
no_anon_password=YES
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
xferlog_enable=NO
secure_chroot_dir=$dir/empty
seccomp_sandbox=NO
CONF
vsftpd "$dir/vsftpd.conf" &
pids+=($!)
"$server" --root "$dir/root" --addr 127.0.0.1:0 >"$dir/address" &
pids+=($!)
for _ in $(seq 100); do
    if grep -q listening "$dir/address" && curl -s --max-time 5 "ftp://127.0.0.1:$vsftpd_port/" >/dev/null; then break; fi
    sleep 0.1
done
own_port=$(sed 's/.*://' "$dir/address")

down() { curl -sS --max-time 120 -o /dev/null -w '%{speed_download}\n' "ftp://127.0.0.1:$1/file"; }
up() { curl -sS --max-time 120 -T "$dir/root/file" -w '%{speed_upload}\n' "ftp://127.0.0.1:$1/up/$1"; }

for what in down up; do
    for _ in $(seq "$rounds"); do
        "$what" "$vsftpd_port" >>"$dir/vsftpd.$what"
        "$what" "$own_port" >>"$dir/own.$what"
    done
    python3 - "$what" "$dir" <<'PYTHON'
import statistics, sys
what, dir = sys.argv[1:]
speeds = [[float(line) for line in open(f"{dir}/{name}.{what}")] for name in ("vsftpd", "own")]
ratio = statistics.median(own / vsftpd for vsftpd, own in zip(*speeds))
vsftpd, own = (statistics.median(each) / 2**20 for each in speeds)
print(f"{what}: ftp_server {own:.0f} MB/s, vsftpd {vsftpd:.0f} MB/s, ratio {ratio:.2f}")
PYTHON
done
