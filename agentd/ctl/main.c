/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentctl: the operator's client. It holds no privilege of its own: the daemon judges who asks.
 */
#include <limits.h>
#include <locale.h>
#include <signal.h>

#include "agentd/ctl/ctl.h"
#include "agentd/util/log.h"

const struct ctl_verb ctl_verbs[] = {
        {"status", "", "the daemon, this kernel, the tiers, and one line an agent", NULL, "agentctl status", "", 0, 0,
         ctl_status},
        {"health", "", "the same; ends with 1 when something is wrong", NULL, "agentctl health > /dev/null || echo ill",
         "", 0, 0, ctl_health},
        {"agents", "", "agents with their counters", NULL, "agentctl agents -o json", "", 0, 0, ctl_agents},
        {"attach", "NAME --cgroup PATH --policy P [--mode enforce|audit]",
         "put a cgroup under a policy; returns once enforcement holds", NULL,
         "agentctl attach claude-1 --cgroup /agents/claude-1 --policy coding-agent", "GPM", 1, 1, ctl_attach},
        {"detach", "NAME", "end enforcement for an agent", NULL, "agentctl detach claude-1", "", 1, 1, ctl_detach},
        {"wait", "NAME [--timeout 10s]", "wait until an agent is enforced", NULL,
         "agentctl wait claude-1 --timeout 30s && start-the-agent", "T", 1, 1, ctl_wait},
        {"policy list", "", "the policies", NULL, "agentctl policy list", "", 0, 0, ctl_policy_list},
        {"policy show", "P", "a policy's rules, inherited ones included, with their places", NULL,
         "agentctl policy show coding-agent", "", 1, 1, ctl_policy_show},
        {"policy validate", "FILE", "check a configuration file; needs neither daemon nor root", NULL,
         "agentctl policy validate /etc/agentd/agentd.yaml", "", 1, 1, ctl_policy_validate},
        {"policy diff", "FILE", "what would change if FILE were loaded", NULL,
         "agentctl policy diff /etc/agentd/agentd.yaml.new", "", 1, 1, ctl_policy_diff},
        {"policy test", "P DEST... [--config FILE]", "would policy P allow these destinations?",
         "DEST is an address, a CIDR or a name, with :PORT and /PROTOCOL where they matter. With --config neither the\n"
         "daemon nor root is needed. Exit status 0: all are allowed; 1: at least one is not.",
         "agentctl policy test coding-agent github.com:443 '[2001:db8::1]:53/udp' --config agentd.yaml", "", 2, INT_MAX,
         ctl_policy_test},
        {"policy generate", "AGENT [--since 1h]", "a policy from what an agent did", NULL, "", "S", 0, INT_MAX, NULL},
        {"explain", "AGENT DEST[:PORT][/PROTO] | --policy P --config FILE DEST[:PORT][/PROTO]",
         "the verdict on a destination, and why",
         "For an agent: the verdict of this moment, with the addresses it has learned. With --policy and --config: "
         "what\n"
         "the file says, without daemon and root. Exit status 0: allowed; 1: not.",
         "agentctl explain claude-1 api.anthropic.com:443", "P", 1, 2, ctl_explain},
        {"events", "[-f] [--agent A] [--type T] [--reason R] [--since 10m] [-n N]",
         "what was denied, and what happened",
         "Without -f: what the daemon remembers (the last 4096). With -f: the last 10, or those of -n or --since, and\n"
         "then new ones until interrupted. -o json prints one object a line.",
         "agentctl events -f --agent claude-1 --type deny", "fAYRSn", 0, 0, ctl_events},
        {"budget show", "[AGENT]", "byte budgets: used, limit, window's end, rate and the time left",
         "LIMIT and LEFT include what was granted in this window. RATE is that of the last minute; TIME-LEFT is how "
         "long\n"
         "the rest lasts at that rate, and '-' when it outlasts the window.",
         "agentctl budget show claude-1", "", 0, 1, ctl_budget_show},
        {"budget grant", "AGENT SCOPE BYTES", "more bytes, in this window only",
         "SCOPE is one that `agentctl budget show` prints, or a part in front of it that fits only one (agent for\n"
         "agent/day). BYTES is a size: 10MiB, 2GB, 4096. A shared budget is granted to all who share it.",
         "agentctl budget grant claude-1 agent/day 100MiB", "", 3, 3, ctl_budget_grant},
        {"budget reset", "AGENT [SCOPE]", "forget what was used and granted in this window",
         "SCOPE as for `budget grant`, but it may fit several. Without it: all budgets of the agent but shared ones.",
         "agentctl budget reset claude-1 agent/day", "", 1, 2, ctl_budget_reset},
        {"quarantine", "AGENT", "deny everything now and end its connections",
         "Holds until `agentctl release`, over reloads and restarts of the daemon.", "agentctl quarantine claude-1", "",
         1, 1, ctl_quarantine},
        {"release", "AGENT", "undo a quarantine", NULL, "agentctl release claude-1", "", 1, 1, ctl_release},
        {"reload", "", "read the configuration again: all of it or nothing", NULL, "agentctl reload", "", 0, 0,
         ctl_reload},
        {"dns", "AGENT", "names and addresses that an agent has learned, with their expiry", NULL,
         "agentctl dns claude-1", "", 1, 1, ctl_dns},
        {"top", "[--interval 1s] [-n N]", "a live view: agents, rates, denies, budgets, newest denials",
         "Keys: '?' lists them. With -n, -o json or into a pipe: N pictures (1) as text or JSON objects, the first "
         "after\n"
         "one interval. The view stays when the daemon goes: the kernel enforces without it.",
         "agentctl top", "nI", 0, 0, ctl_top},
        {"graph", "[AGENT] [--format dot|mermaid|svg]",
         "agents, the names they learned and what was refused, as a picture",
         "dot (the default) is for Graphviz, mermaid for documents, svg for a browser. At most 64 edges an agent.",
         "agentctl graph --format svg > agents.svg", "F", 0, 1, ctl_graph},
        {"audit verify", "", "has anybody changed the audit log?",
         "Each entry carries the hash of the one before. Exit status 1: one does not fit, and which.",
         "agentctl audit verify", "", 0, 0, ctl_audit_verify},
        {"audit", "[--since 1d]", "who changed what",
         "Kept in the state directory, over restarts: attach, detach, reload, quarantine, release, grant, reset; by "
         "whom.",
         "agentctl audit --since 7d", "S", 0, 0, ctl_audit},
        {"doctor", "", "what this host can enforce, what is missing, what to do",
         "Ends with 4 when this host cannot enforce, and with 3 when no daemon answers.", "agentctl doctor", "", 0, 0,
         ctl_doctor},
        {"version", "", "the versions of agentctl and of the daemon", NULL, "agentctl version", "", 0, 0, ctl_version},
        {0},
};

int main(int argc, char **argv)
{
        const struct ctl_verb *verb;
        struct ctl_arguments arguments;
        int status;

        setlocale(LC_CTYPE, "C.UTF-8");
        signal(SIGPIPE, SIG_IGN);
        log_setup("agentctl", LOG_LEVEL_WARNING);

        status = ctl_options_parse(argc, argv, &verb, &arguments);
        return verb ? verb->run(&arguments) : status;
}
