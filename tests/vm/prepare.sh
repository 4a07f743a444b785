#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# In the guest, before systemd: what `make install` has put into $BUILD/vm/root, a configuration, state that outlives the
# guest, a way to the far end, and an agent that is started by the boot itself.
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
root=$top/${BUILD:-build}/vm/root
case ${BUILD:-build} in /*) root=$BUILD/vm/root ;; esac

cp -a "$root/." /
systemd-sysusers agentd.conf
mkdir -p /var/lib/agentd "$VMTEST_DISK/state" /run/early
mount --bind "$VMTEST_DISK/state" /var/lib/agentd

# The far end is a namespace that tests/vm/systemd.bats makes; until then what arrives at its device is only counted.
# No frame leaves that is not an agent's: no IPv6, no ARP.
ip link add far0 type veth peer name far1
sysctl -qw net.ipv6.conf.far0.disable_ipv6=1 net.ipv6.conf.far1.disable_ipv6=1
ip link set far1 address 02:00:00:00:00:01
ip link set far1 up
ip link set far0 up
ip addr add 10.210.0.20/24 dev far0
ip neigh replace 10.210.0.1 lladdr 02:00:00:00:00:01 nud permanent dev far0
ip route add default via 10.210.0.1
# The daemon's own look-ups would be counted as well.
ip route add unreachable 198.51.100.0/24

cat > /etc/agentd/agentd.yaml <<'YAML'
version: 1
daemon: {metrics: "off", events: /var/log/agentd/events.jsonl}
dns: {upstream: [198.51.100.53]}
guard: [/agents.slice]
policies:
  web:
    egress:
      - {name: web, cidr: 10.20.0.0/16, ports: [80/tcp, 9/udp]}
      - {domain: www.example.test, ports: [80]}
  counted:
    egress:
      - {cidr: 10.20.0.0/16, ports: [9/udp]}
    budget:
      - {bytes: 100KiB, per: total}
  flood:
    egress:
      - {cidr: 10.20.0.0/16, ports: [9/udp, 7000/tcp]}
agents:
  early: {cgroup: /agents.slice/early.service, policy: web}
  counted: {cgroup: /agents.slice/counted.service, policy: counted}
  flood: {cgroup: /agents.slice/flood.service, policy: flood}
  unit: {cgroup: /agents.slice/agent-*.service, policy: web}
  scope: {cgroup: /agents.slice/agent-*.scope, policy: web}
YAML

# As early as a unit of a boot can be, and told by nobody to wait for agentd.
cat > /etc/systemd/system/early.service <<UNIT
[Unit]
Description=An agent that sends at once
DefaultDependencies=no

[Service]
Type=exec
Slice=agents.slice
ExecStart=/usr/bin/python3 $top/tests/vm/early.py /run/early/log
UNIT
mkdir -p /etc/systemd/system/vmtest.target.wants
ln -s /usr/lib/systemd/system/agentd.service /etc/systemd/system/vmtest.target.wants/agentd.service
ln -s ../early.service /etc/systemd/system/vmtest.target.wants/early.service
