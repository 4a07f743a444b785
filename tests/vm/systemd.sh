#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# systemd as process 1 of a guest, with agentd installed as its service; then the same guest rebooted, by the disk that
# keeps the state directory: tests/vm/systemd.sh KERNEL
set -euo pipefail

cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
export BUILD
kernel=${1:-6.1}

rm -rf "$BUILD/vm"
mkdir -p "$BUILD/vm"
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make --no-print-directory BUILD="$BUILD" install DESTDIR="$PWD/$BUILD/vm/root" > "$BUILD/vm/install.log" 2>&1 ||
        { cat "$BUILD/vm/install.log"; exit 1; }
truncate -s 64M "$BUILD/vm/disk"
mkfs.ext4 -q -F "$BUILD/vm/disk"
for file in systemd reboot; do
        echo "vmtest: systemd as process 1 on Linux $kernel: tests/vm/$file.bats"
        vmtest/run --kernel "$kernel" --systemd --disk "$BUILD/vm/disk" --prepare "$PWD/tests/vm/prepare.sh" \
                --append lsm=capability,bpf --log "$BUILD/vm/$file.console" --timeout "${VMTEST_SECONDS:-900}" -- \
                bats --tap "tests/vm/$file.bats"
done
rm -rf "$BUILD/vm"
