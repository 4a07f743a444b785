#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Installs the Debian packages that the build and the tests need, and only those that are missing.
set -eu

packages="gcc make pkg-config git ca-certificates
clang llvm libclang-rt-14-dev clang-format bpftool linux-libc-dev libc6-dev
libbpf-dev libelf-dev zlib1g-dev libyaml-dev libmnl-dev libunbound-dev libldns-dev libssl-dev libuv1-dev libjansson-dev
libmicrohttpd-dev libgnutls28-dev libsqlite3-dev libseccomp-dev libcap-ng-dev libcap-dev libidn2-dev libpsl-dev libncurses-dev uthash-dev
libcmocka-dev bats jq iproute2 ethtool nftables procps util-linux python3 curl socat iperf3 openssl tcpdump tmux prometheus
systemd bind9-dnsutils dns-root-data nsd unbound nginx-light musl-tools netcat-openbsd mandoc
qemu-system-x86 xz-utils runc runsc busybox-static"

missing=
for package in $packages; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
        echo "deps: missing packages; as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Servers are installed for the tests, which start their own: none may start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 0755 "$policy"
        trap 'rm -f "$policy"' EXIT
fi
apt-get -q -o=Dpkg::Use-Pty=0 update >/dev/null
# shellcheck disable=SC2086
apt-get -q -y -o=Dpkg::Use-Pty=0 install --no-install-recommends $missing >/dev/null
