#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# House rules that a machine can hold. Each looks at the files that git would commit.

load ../lib/net

setup() {
        cd "$TESTS_TOP"
        TEST_DIR=$BATS_TEST_TMPDIR
}

# Tracked files and new ones that are not ignored, which still exist; a tree without git (a tarball) is walked.
files() {
        {
                git ls-files --cached --others --exclude-standard -- "$@" 2>/dev/null ||
                        find "$@" -type f ! -path './build*'
        } | sort -u | while read -r file; do [ ! -f "$file" ] || echo "$file"; done
}

floor_of() {
        case $1 in
        include) echo 0 ;;
        util) echo 1 ;;
        net) echo 2 ;;
        policy) echo 3 ;;
        agent | datapath | process) echo 4 ;;
        dns | ledger | event | control | metrics) echo 5 ;;
        main | ctl) echo 6 ;;
        *) echo "unknown folder: $1" >&2; return 1 ;;
        esac
}

# The folder of a path as the floors know it.
folder_of() {
        case $1 in
        include/agentd/* | bpf/*) echo include ;;
        agentd/*/*) cut -d/ -f2 <<< "$1" ;;
        agentd/*) echo main ;;
        esac
}

@test "includes name their folder and go down the floors only" {
        files 'agentd/*' 'include/*' 'bpf/*' | grep '\.[ch]$' | while read -r file; do
                own=$(folder_of "$file")
                sed -n 's/^#[[:space:]]*include "\([^"]*\)".*/\1/p' "$file" | while read -r include; do
                        case $include in
                        bpf/*.skel.h) [ "$own" = datapath ] || echo "$file: only agentd/datapath includes $include" ;;
                        bpf/*) [ "${file%%/*}" = bpf ] || echo "$file: $include is the kernel's" ;;
                        agentd/*)
                                if [ -f "include/$include" ]; then target=include; else target=$(folder_of "$include"); fi
                                [ "$target" = include ] || [ -f "$include" ] || echo "$file: there is no $include"
                                [ "$target" = "$own" ] && continue
                                [ "$(floor_of "$target")" -lt "$(floor_of "$own")" ] ||
                                        echo "$file: $include is on floor $(floor_of "$target"), not below $(floor_of "$own")"
                                ;;
                        *) echo "$file: \"$include\" does not name its folder" ;;
                        esac
                done
        done > "$TEST_DIR/found"
        assert_equal "$(cat "$TEST_DIR/found")" ''
}

@test "only agentd/datapath includes libbpf, and only bpf/ its helpers" {
        found=$(files 'agentd/*' 'include/*' | grep '\.[ch]$' | grep -v '^agentd/datapath/' | xargs -r grep -nE '#[[:space:]]*include <(bpf|linux/bpf)') || true
        assert_equal "$found" ''
}

@test "util, net and policy never log" {
        found=$(files agentd/util agentd/net agentd/policy | grep '\.c$' | grep -v '^agentd/util/log\.c$' | xargs -r grep -nE 'agentd/util/log\.h|\b(fprintf ?\(stderr|perror ?\()') || true
        assert_equal "$found" ''
}

@test "shared structs have no hidden padding under both compilers" {
        for header in include/agentd/abi*.h; do
                printf '#include "%s"\n' "${header#include/}" > "$TEST_DIR/unit.c"
                ${CC:-gcc} -std=gnu11 -fsyntax-only -Wpadded -Werror -Iinclude "$TEST_DIR/unit.c"
                # shellcheck disable=SC2046
                ${CLANG:-clang} -target bpf -mcpu=v3 -fsyntax-only -Wpadded -Werror -Iinclude \
                        $(${CC:-gcc} -print-multiarch 2>/dev/null | sed -n 's|^\(..*\)|-I/usr/include/\1|p') "$TEST_DIR/unit.c"
        done
}

@test "every shared struct has its size asserted" {
        for header in include/agentd/abi*.h; do
                sed -n 's/^struct \([a-z0-9_]*\) {.*/\1/p' "$header" | while read -r name; do
                        grep -q "ABI_SIZE(struct $name," "$header" || echo "$header: struct $name"
                done
        done > "$TEST_DIR/found"
        assert_equal "$(cat "$TEST_DIR/found")" ''
}

@test "every file says its licence" {
        files . | grep -vE '^(LICENSE|\.gitignore|\.clang-format|tests/fuzz/corpus/.*|.*\.(png|svg|json|jsonl))$' | while read -r file; do
                head -n 5 "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause' || echo "$file"
        done > "$TEST_DIR/found"
        assert_equal "$(cat "$TEST_DIR/found")" ''
}

@test "no source is longer than 600 lines, no test longer than 800" {
        found=$(files 'agentd/*' 'bpf/*' 'include/*' 'tests/*' | grep -E '\.(c|h|bats|bash|sh|py)$' | xargs wc -l |
                awk '$2 != "total" && $1 > ($2 ~ /^tests\// ? 800 : 600) { print $2 ": " $1 }')
        assert_equal "$found" ''
}

@test "no test sleeps" {
        found=$(files 'tests/*' | grep -E '\.(c|h|bats|bash|sh|py)$' | grep -v '^tests/check/house\.bats$' |
                xargs grep -nE '\b(u|nano)?sleep( [0-9.]|\()' ) || true
        assert_equal "$found" ''
}

@test "shell scripts parse, and programs that are called can be executed" {
        files . | grep -E '\.(sh|bash)$|^\.ci/run$' | while read -r file; do
                bash -n "$file" || echo "$file"
                case $file in *.bash) ;; *) [ -x "$file" ] || echo "$file is not executable" ;; esac
        done > "$TEST_DIR/found" 2>&1
        assert_equal "$(cat "$TEST_DIR/found")" ''
}

@test "man pages are clean" {
        pages=$(files 'docs/man/*')
        [ "$(wc -l <<< "$pages")" -ge 3 ]
        # shellcheck disable=SC2086
        run mandoc -Tlint -Wwarning $pages
        assert_equal "$output" ''
        assert_equal "$status" 0
}

@test "every yaml example of the documents is what agentd check says it is" {
        # ```yaml must pass; ```yaml exitN must end with N; ```yaml fragment is a part of a file and only read.
        count=0
        while read -r document; do
                awk -v prefix="$TEST_DIR/$(tr / _ <<< "$document")" '
                        /^[[:space:]]*```yaml/ { n++; kind = $2 == "" ? "exit0" : $2; file = prefix "." NR "." kind; printf "" > file; inside = 1; next }
                        /^[[:space:]]*```/ { inside = 0 }
                        inside { print > file }' "$document"
        done < <(files README.md 'docs/*.md')
        for file in "$TEST_DIR"/*.exit[0-9]; do
                [ -e "$file" ] || break
                count=$((count + 1))
                run "$AGENTD" check --config "$file"
                [ "$status" = "${file##*.exit}" ] || { echo "$(basename "$file"): exit $status"; echo "$output"; return 1; }
        done
        [ "$count" -ge 3 ]
}

@test "the default configuration and the contract's file names are there" {
        "$AGENTD" check --config configs/agentd.yaml
        for file in README.md NEWS.md LICENSE docs/architecture.md docs/policy.md docs/events.md docs/threat-model.md docs/testing.md; do
                [ -s "$file" ] || { echo "missing: $file"; return 1; }
        done
}

@test "links between the documents lead somewhere" {
        files README.md NEWS.md 'docs/*.md' | while read -r document; do
                grep -oE '\]\([^)#]+[)#]' "$document" | sed 's/^](\(.*\).$/\1/' | grep -vE '^[a-z]+://' | while read -r target; do
                        [ -e "$(dirname "$document")/$target" ] || echo "$document: $target"
                done
        done > "$TEST_DIR/found"
        assert_equal "$(cat "$TEST_DIR/found")" ''
}
