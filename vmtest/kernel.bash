# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034
#
# Debian's kernels, fetched and unpacked, never installed. Sourced by vmtest/run, which has $cache and die.
#
# apt does it, with a sources file and a state directory of our own below the cache: this system's sources and lists stay
# as they are, and signatures are checked as always. The mirrors are those that this system's own sources name, whatever
# they are; only the suites are ours. Two runs at once take turns (a lock), an unpacked kernel is never changed again.

# Suites of the archive, and of its security twin. What a mirror lacks is left out with a word.
kernel_suites="bullseye bullseye-updates bookworm bookworm-updates bookworm-backports trixie trixie-updates trixie-backports"
kernel_security="bullseye-security bookworm-security trixie-security"

our_apt() {
        local tool=$1
        shift
        # _apt may not write below a home. Release files of a suite that is no longer maintained are past their date.
        "$tool" -q -o "Dir::Etc::sourcelist=$cache/apt/vmtest.sources" -o Dir::Etc::sourceparts=- \
                -o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt/cache" -o APT::Sandbox::User=root \
                -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false \
                -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 "$@"
}

# mirror_of SUITE-SUFFIX: the address under which this system's sources have its own release.
mirror_of() {
        local release
        # shellcheck disable=SC1091
        release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
                awk -v "suite=$release$1" '$2 == suite || $3 == suite { print $1; exit }'
}

write_sources() {
        local archive security suites=$1
        archive=$(mirror_of '')
        security=$(mirror_of -security)
        [ -n "$archive" ] || die "this system's apt sources name no Debian mirror to fetch kernels from"
        cat <<SOURCES
Types: deb
URIs: $archive
Suites: $suites
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
        [ -z "$security" ] || cat <<SOURCES

Types: deb
URIs: $security
Suites: $kernel_security
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
}

# lists_update: once a day. Offline, older lists will do, if there are any.
lists_update() {
        local suites=$kernel_suites suite log=$cache/apt/update.log
        mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
        [ -z "$(find "$cache/apt/updated" -mmin -1440 2>/dev/null)" ] || return 0
        write_sources "$suites" > "$cache/apt/vmtest.sources"
        if ! our_apt apt-get update > "$log" 2>&1; then
                # A suite that the archive has dropped must not take the others with it.
                for suite in $kernel_suites; do
                        grep -qE "^E: .* $suite (Release|InRelease)'" "$log" || continue
                        echo "vmtest: the mirror has no suite $suite" >&2
                        suites=" $suites "
                        suites=${suites/ $suite / }
                done
                write_sources "$suites" > "$cache/apt/vmtest.sources"
                our_apt apt-get update > "$log" 2>&1 || {
                        tail -n 3 "$log" >&2
                        echo "vmtest: cannot update the lists of kernels; what is cached is used" >&2
                        return 0
                }
        fi
        # Asking apt takes seconds, a file none.
        kernels_in_lists > "$cache/apt/offered.new" || true
        mv "$cache/apt/offered.new" "$cache/apt/offered"
        : > "$cache/apt/updated"
}

# Releases that the lists have with image and modules, oldest first. From 6.19 on a kernel is in three packages, and of
# superseded ones the modules are gone.
kernels_in_lists() {
        our_apt apt-cache search --names-only '^linux-(image|modules)-[0-9]+\..*-cloud-amd64$' 2>/dev/null | cut -d' ' -f1 |
                awk '/^linux-modules-/ { sub("linux-modules-", ""); modules[$0] = 1 } /^linux-image-/ { sub("linux-image-", ""); image[$0] = 1 }
                     END { for (r in image) { split(r, v, "."); if (r ~ /^[0-9]+\.[0-9]+-cloud/) continue
                           if (v[1] + 0 > 6 || (v[1] == 6 && v[2] + 0 >= 19)) { if (!(r in modules)) continue } print r } }' |
                LC_ALL=C sort -V
}

# of_series [SERIES]: keeps 6.1.192 and 6.1.0-56 for 6.1, not 6.12.
of_series() {
        awk -v "series=${1:-}" 'series == "" || $0 == series || (index($0, series) == 1 && substr($0, length(series) + 1, 1) ~ /[.+-]/)'
}

# kernels_offered [SERIES]
kernels_offered() {
        [ ! -e "$cache/apt/offered" ] || of_series "${1:-}" < "$cache/apt/offered"
}

kernels_unpacked() {
        local directory
        for directory in "$cache"/kernels/*/; do
                [ ! -e "$directory/.complete" ] || basename "$directory"
        done | LC_ALL=C sort -V | of_series "$1"
}

# package_unpack PACKAGE DIRECTORY
package_unpack() {
        local fetched=$cache/apt/fetched
        rm -rf "$fetched"
        mkdir -p "$fetched" "$2"
        (cd "$fetched" && our_apt apt-get download "$1") >> "$cache/apt/update.log" 2>&1 || return 1
        dpkg-deb -x "$fetched"/*.deb "$2"
        rm -rf "$fetched"
}

# kernel_unpack RELEASE: $cache/kernels/RELEASE gets vmlinuz and lib/modules/RELEASE.
kernel_unpack() {
        local release=$1 directory=$cache/kernels/$1 new=$cache/kernels/.new package needed
        [ ! -e "$directory/.complete" ] || return 0
        rm -rf "$new" "$directory"
        mkdir -p "$new/unpacked"
        package_unpack "linux-image-$release" "$new/unpacked" || return 1
        needed=$(our_apt apt-cache show "linux-image-$release")
        for package in binary modules; do
                [[ $needed == *linux-$package-$release* ]] || continue
                package_unpack "linux-$package-$release" "$new/unpacked" || return 1
        done
        find "$new/unpacked" -name 'vmlinuz*' -type f -exec mv {} "$new/vmlinuz" \;
        mkdir -p "$new/lib/modules"
        find "$new/unpacked" -path '*/modules/*' -name kernel -type d -prune | head -n 1 | while read -r package; do
                mv "$(dirname "$package")" "$new/lib/modules/$release"
        done
        [ -e "$new/vmlinuz" ] && [ -d "$new/lib/modules/$release/kernel" ] || return 1
        rm -rf "$new/unpacked"
        find "$new/lib/modules" -name '*.ko.xz' -print0 | xargs -r -0 -n 100 -P 2 xz -d -f
        "$busybox" depmod -b "$new" "$release"
        : > "$new/.complete"
        mv "$new" "$directory"
}

# kernel_find SERIES: sets $release, $kernel (its directory) and $busybox. The newest of the series that can be had.
kernel_find() {
        local candidate series=$1
        mkdir -p "$cache/kernels"
        exec 9> "$cache/lock"
        flock 9
        lists_update
        busybox=$cache/busybox/bin/busybox
        if [ ! -x "$busybox" ]; then
                package_unpack busybox-static "$cache/busybox.new" || die "cannot fetch busybox-static: $(tail -n 1 "$cache/apt/update.log")"
                mkdir -p "$cache/busybox/bin"
                find "$cache/busybox.new" -name busybox -type f -exec mv {} "$busybox" \;
                rm -rf "$cache/busybox.new"
        fi
        release=
        for candidate in $(kernels_offered "$series" | tac | head -n 3); do
                kernel_unpack "$candidate" || continue
                release=$candidate
                break
        done
        [ -n "$release" ] || release=$(kernels_unpacked "$series" | tail -n 1)
        exec 9>&-
        [ -n "$release" ] || die "no kernel of series '$series' can be had; there are: $(kernels_offered | awk -F. '!seen[$1 "." $2]++ { printf "%s%s.%s", s, $1, $2; s = ", " }')"
        kernel=$cache/kernels/$release
}
