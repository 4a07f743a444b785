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
        for file in usr/lib/systemd/system/agentd.service usr/lib/sysusers.d/agentd.conf usr/share/man/man8/agentd.8 \
                    usr/share/man/man1/agentctl.1 usr/share/man/man5/agentd.yaml.5; do
                assert_equal "$(stat -c %a "$TEST_DIR/root/$file")" 644
        done
        assert_equal "$(stat -c %a "$TEST_DIR/root/etc/agentd/agentd.yaml")" 640
        "$TEST_DIR/root/usr/sbin/agentd" check --config "$TEST_DIR/root/etc/agentd/agentd.yaml"
        grep -q '^Type=notify' "$TEST_DIR/root/usr/lib/systemd/system/agentd.service"
        grep -q '/usr/sbin/agentd serve' "$TEST_DIR/root/usr/lib/systemd/system/agentd.service"
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
