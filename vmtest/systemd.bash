# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# systemd as process 1 of the guest (--systemd). Sourced by vmtest/run; used by guest_start when the guest's file systems
# stand.
#
# The host's own systemd on the host's own root: so only what a target of ours pulls in is started, basic.target and the
# command's service, and not the servers that happen to be enabled on this host. What needs a machine to be set up
# (tmpfiles, udev, hardware database, clocks, timers) is masked. The command ends by a shutdown through systemd, so that
# services are stopped in their order and two guests with one --disk are a reboot.

# guest_systemd DISK PREPARE COMMAND...: the end of the start script.
guest_systemd() {
        local disk=$1 prepare=$2 unit
        shift 2
        cat <<START
# A container is what it would take itself for.
\$busybox rm -f /.dockerenv /run/.containerenv
\$busybox mkdir -p /run/systemd/system /run/vmtest/disk
START
        for unit in systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-udevd systemd-udev-trigger systemd-hwdb-update \
                    ldconfig systemd-timesyncd systemd-pstore systemd-random-seed systemd-firstboot systemd-repart \
                    systemd-update-utmp systemd-update-done systemd-machine-id-commit systemd-binfmt systemd-remount-fs \
                    systemd-journal-catalog-update systemd-pcrphase systemd-pcrphase-sysinit systemd-modules-load; do
                echo "\$busybox ln -sf /dev/null /run/systemd/system/$unit.service"
        done
        # The host's file systems are none of the guest's.
        cat <<START
\$busybox ln -sf /dev/null /run/systemd/system/timers.target
: > /etc/fstab
: > /etc/machine-id
${disk:+/run/vmtest/modprobe virtio_blk; mount -t ext4 /dev/vda /run/vmtest/disk}
export VMTEST_DISK=/run/vmtest/disk
cat > /run/systemd/system/vmtest.target <<UNIT
[Unit]
Requires=basic.target
Wants=vmtest.service
After=basic.target
AllowIsolate=yes
UNIT
# After the target: what is pulled in by it has been started (or has failed) when the command begins.
cat > /run/systemd/system/vmtest.service <<UNIT
[Unit]
DefaultDependencies=no
After=vmtest.target

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/run/vmtest/command
WorkingDirectory=\$PWD
UNIT
export -p > /run/vmtest/environment
cat > /run/vmtest/command <<'COMMAND'
#!/bin/sh
. /run/vmtest/environment
busybox=/run/vmtest/busybox
exec 9<>/dev/hvc0
\$busybox stty raw -echo <&9
$(quote "$@") </dev/null >/dev/hvc0 2>&1 9>&-
echo \$? > /run/vmtest/status
\$busybox cat /run/vmtest/results.json > /run/vmtest/port.results
\$busybox cat /run/vmtest/status > /run/vmtest/port.status
systemctl --no-block poweroff
COMMAND
\$busybox chmod 0755 /run/vmtest/command
${prepare:+"$(quote "$prepare") </dev/null >/dev/console 2>&1 || { echo 'vmtest: the preparation failed' > /dev/console; \$busybox poweroff -f; }"}
exec /lib/systemd/systemd --unit=vmtest.target --show-status=no --log-target=journal-or-kmsg --log-level=notice
START
}
