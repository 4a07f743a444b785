# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# The guest's first file system: what happens between the kernel's start and the command. Sourced by vmtest/run, which
# has $kernel, $release, $busybox and $cache.
#
# Two stages. The first (init) has busybox and four modules only and makes the root: the host's, read-only, under an
# overlay in memory. The second (start) runs in the host's userland: a world of pure cgroup v2, then the command. Command
# output, its status and its results go through virtio ports of their own, so that the kernel's log stays apart.

quote() {
        local argument
        for argument; do
                printf "'%s' " "${argument//\'/\'\\\'\'}"
        done
}

# with_needs MODULE...: the files to load, in order. What is built into the kernel has no file.
with_needs() {
        local module
        for module; do
                awk -F': *' -v "name=$module" '{
                        file = $1; sub(".*/", "", file); sub(/\.ko$/, "", file); gsub("-", "_", file)
                        if (file == name) { n = split($2, need, " "); for (; n; n--) print need[n]; print $1 }
                }' "$kernel/lib/modules/$release/modules.dep"
        done | awk '!seen[$0]++'
}

guest_init() {
        cat <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do
        [ ! -e "$module" ] || insmod "$module" || echo "vmtest: insmod $module failed"
done
mount -t virtiofs -o ro host /lower &&
        mount -t tmpfs -o mode=0755 upper /upper &&
        mkdir /upper/files /upper/work &&
        mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new || poweroff -f
mount -t tmpfs -o mode=0755 run /new/run
mkdir /new/run/vmtest
cp /bin/busybox /stage/* /new/run/vmtest/
umount /proc /sys
mount --move /dev /new/dev
exec switch_root /new /run/vmtest/start
INIT
}

# guest_start SHELL COMMAND...: modules are loaded when the kernel asks for one.
guest_start() {
        local shell=$1 tmp=1
        shift
        # An empty /tmp, if the command needs nothing of the host's.
        case $PWD/:$cache/:${BUILD:-}/ in /tmp/* | *:/tmp/*) tmp= ;; esac
        cat <<START
#!/run/vmtest/busybox sh
busybox=/run/vmtest/busybox
mount() { \$busybox mount "\$@" || echo "vmtest: mount \$* failed" > /dev/console; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
\$busybox ln -s /proc/self/fd /dev/fd
\$busybox mkdir -p /dev/net /dev/pts /dev/shm /run/lock /run/netns /usr/lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
${tmp:+mount -t tmpfs -o mode=1777 tmp /tmp}
mount --bind $(quote "$kernel/lib/modules") /usr/lib/modules
\$busybox mknod /dev/net/tun c 10 200 # opening it loads the module
\$busybox ln -s \$busybox /run/vmtest/modprobe
echo /run/vmtest/modprobe > /proc/sys/kernel/modprobe
\$busybox hostname vmtest
\$busybox ip link set lo up
export HOME=/root TERM=${TERM:-dumb} LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for port in /sys/class/virtio-ports/*; do
        [ -e "\$port/name" ] || continue # the console
        \$busybox ln -s "/dev/\${port##*/}" "/run/vmtest/port.\$(\$busybox cat "\$port/name")"
done
cd $(quote "$PWD") || \$busybox poweroff -f
${BUILD:+export BUILD=$(quote "$BUILD")}
${CI:+export CI=$(quote "$CI")}
: > /run/vmtest/results.json
export VMTEST_RESULTS=/run/vmtest/results.json VMTEST_KERNEL=$(quote "$release")
START
        if [ -n "${systemd:-}" ]; then
                guest_systemd "$disk" "$prepare" "$@"
                return
        fi
        if [ -n "$shell" ]; then
                cat <<START
\$busybox setsid -c /bin/bash -i </dev/hvc0 >/dev/hvc0 2>&1
echo \$? > /run/vmtest/port.status
START
        else
                cat <<START
# Held open: the last to close a terminal takes its settings with him.
exec 9<>/dev/hvc0
\$busybox stty raw -echo <&9
$(quote "$@") </dev/null >/dev/hvc0 2>&1 9>&-
echo \$? > /run/vmtest/status
\$busybox cat /run/vmtest/results.json > /run/vmtest/port.results
\$busybox cat /run/vmtest/status > /run/vmtest/port.status
START
        fi
        printf '%s\n' '$busybox sync' '$busybox poweroff -f'
}

# guest_initramfs FILE SHELL COMMAND...
guest_initramfs() {
        local file=$1 root=$work/root number=10 module
        shift
        mkdir -p "$root"/{bin,modules,stage,proc,sys,dev,lower,upper,new}
        cp "$busybox" "$root/bin/busybox"
        for module in $(with_needs virtio_pci virtio_console virtiofs overlay); do
                cp "$kernel/lib/modules/$release/$module" "$root/modules/$number.ko"
                number=$((number + 1))
        done
        guest_init > "$root/init"
        guest_start "$@" > "$root/stage/start"
        chmod 0755 "$root/init" "$root/stage/start"
        (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$file"
}

# A guest that says one word and ends: does this accelerator run anything at all?
guest_probe_initramfs() {
        local root=$work/probe
        mkdir -p "$root"/{bin,dev}
        cp "$busybox" "$root/bin/busybox"
        printf '%s\n' '#!/bin/busybox sh' '/bin/busybox mount -t devtmpfs devtmpfs /dev' \
                '/bin/busybox echo vmtest-lives > /dev/ttyS0' '/bin/busybox poweroff -f' > "$root/init"
        chmod 0755 "$root/init"
        (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$1"
}
