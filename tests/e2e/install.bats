#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# make install and uninstall, into a directory of the test's own.

load ../lib/net

setup() { TEST_DIR=$BATS_TEST_TMPDIR; }

make_quietly() {
        # The build exists: nothing is compiled here, and no job server of an outer make is needed.
        env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$TESTS_TOP" --no-print-directory BUILD="${BUILD#"$TESTS_TOP"/}" "$@" > "$TEST_DIR/make.log" 2>&1 ||
                { cat "$TEST_DIR/make.log"; return 1; }
}

@test "make install puts each file in its place, and they work from there" {
        make_quietly install DESTDIR="$TEST_DIR/root" PREFIX=/usr
        for file in sbin/agentd bin/agentctl; do
                assert_equal "$(stat -c %a "$TEST_DIR/root/usr/$file")" 755
                "$TEST_DIR/root/usr/$file" --version
        done
        for file in usr/lib/systemd/system/agentd.service usr/lib/systemd/system/agentd-gate.service \
                    usr/lib/systemd/system/agents.slice usr/lib/sysusers.d/agentd.conf usr/share/man/man8/agentd.8 \
                    usr/share/man/man1/agentctl.1 usr/share/man/man5/agentd.yaml.5 usr/share/agentd/oci/agentd-hook.json \
                    usr/share/agentd/prometheus/agentd.rules.yml usr/share/agentd/grafana/agentd.json; do
                assert_equal "$(stat -c %a "$TEST_DIR/root/$file")" 644
        done
        assert_equal "$(stat -c %a "$TEST_DIR/root/etc/agentd/agentd.yaml")" 640
        assert_equal "$(stat -c %a "$TEST_DIR/root/etc/agentd")" 750
        assert_equal "$(stat -c %a "$TEST_DIR/root/usr/share/agentd/oci/agentd-runtime")" 755
        assert_equal "$(jq -r .hook.path "$TEST_DIR/root/usr/share/agentd/oci/agentd-hook.json")" /usr/sbin/agentd
        "$TEST_DIR/root/usr/sbin/agentd" check --config "$TEST_DIR/root/etc/agentd/agentd.yaml"
        grep -q '^Type=notify' "$TEST_DIR/root/usr/lib/systemd/system/agentd.service"
        grep -q '/usr/sbin/agentd serve' "$TEST_DIR/root/usr/lib/systemd/system/agentd.service"
}

@test "systemd finds nothing wrong with the installed units, and their programs where they say" {
        make_quietly install PREFIX="$TEST_DIR/root/usr" SYSCONFDIR="$TEST_DIR/root/etc"
        units=$TEST_DIR/root/usr/lib/systemd/system
        for unit in agentd.service agentd-gate.service agents.slice; do
                # "FILE:LINE: message" of our units only: what else is installed on this host is not ours to judge.
                SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no "$unit" > "$TEST_DIR/verify" 2>&1 || echo "status $?" >> "$TEST_DIR/verify"
                assert_equal "$(grep -E 'agent|^status' "$TEST_DIR/verify" || true)" ''
        done
        # It would have been found.
        sed -i 's/^WatchdogSec=.*/WatchdogSec=soon/; s|/agentd serve|/agentt serve|' "$units/agentd.service"
        SYSTEMD_UNIT_PATH=$units: run systemd-analyze verify --man=no agentd.service
        assert_match "$output" 'agentd.service:[0-9]+: Failed to parse sec value, ignoring: soon'
        assert_match "$output" 'agentt is not executable'
}

@test "the service is open where its work is, and nowhere else" {
        # What systemd-analyze calls open, each with its reason; docs/operations.md has the list for people. A setting that
        # is lost shows up here, and so does one that is closed at last.
        sed 's/ *#.*//' > "$TEST_DIR/expected" <<'OPEN'
CapabilityBoundingSet_CAP_BPF                      # programs
CapabilityBoundingSet_CAP_CHOWN_FSETID_SETFCAP     # the control socket's group
CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER     # cgroups by id, cgroups of others
CapabilityBoundingSet_CAP_KILL                     # the DNS worker, another user by then
CapabilityBoundingSet_CAP_NET_ADMIN                # links, filters of devices, SOCK_DESTROY
CapabilityBoundingSet_CAP_SET_UID_GID_PCAP         # the DNS worker gives everything up
CapabilityBoundingSet_CAP_SYS_ADMIN                # network namespaces of agents
CapabilityBoundingSet_CAP_SYS_CHROOT               # the DNS worker's empty root
CapabilityBoundingSet_CAP_SYS_PTRACE               # /proc of agents
DeviceAllow                                        # the clock, read-only: what ProtectClock= leaves
IPAddressDeny                                      # the name servers are the operator's
PrivateNetwork                                     # it asks them, and finds the host ends of veths
PrivateUsers                                       # capabilities count in the host's user namespace
ProcSubset                                         # /proc/sys, /proc/filesystems
ProtectControlGroups                               # probes are sent from an agent's cgroup
RestrictAddressFamilies_AF_INET_INET6
RestrictAddressFamilies_AF_NETLINK
RestrictAddressFamilies_AF_UNIX
RestrictAddressFamilies_OTHER                      # AF_ASH, by which tier 4 is tried
RestrictNamespaces_net
RootDirectoryOrRootImage
SystemCallFilter_mount                             # chroot() of the DNS worker
SystemCallFilter_privileged                        # bpf(), setuid() of the DNS worker
UMask                                              # logs are the group's to read, and its group is root
UserOrDynamicUser
OPEN
        systemd-analyze security --offline=true --no-pager --json=short "$TESTS_TOP/configs/agentd.service" |
                jq -r '.[] | select(.set == false and .exposure != null) | .json_field' | sort > "$TEST_DIR/open"
        diff -u "$TEST_DIR/expected" "$TEST_DIR/open"
        systemd-analyze security --offline=true --no-pager --threshold=39 "$TESTS_TOP/configs/agentd.service" > /dev/null
        systemd-analyze security --offline=true --no-pager --threshold=21 "$TESTS_TOP/configs/agentd-gate.service" > /dev/null
}

@test "a second install keeps the operator's configuration" {
        make_quietly install DESTDIR="$TEST_DIR/root" PREFIX=/usr
        echo '# mine' >> "$TEST_DIR/root/etc/agentd/agentd.yaml"
        make_quietly install DESTDIR="$TEST_DIR/root" PREFIX=/usr
        grep -q '^# mine' "$TEST_DIR/root/etc/agentd/agentd.yaml"
}

@test "make uninstall removes what was installed but the configuration" {
        make_quietly install DESTDIR="$TEST_DIR/root" PREFIX=/opt/agentd
        [ -x "$TEST_DIR/root/opt/agentd/sbin/agentd" ]
        make_quietly uninstall DESTDIR="$TEST_DIR/root" PREFIX=/opt/agentd
        assert_equal "$(find "$TEST_DIR/root" -type f | sed "s|$TEST_DIR/root||")" /etc/agentd/agentd.yaml
}

@test "make help lists the targets of the contract" {
        help=$(env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$TESTS_TOP" --no-print-directory help)
        for target in deps demo test bench vmtest install; do
                assert_match "$help" "make $target "
        done
}
