/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One file of the contract: what it means, and what is said about one that means nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config.h"
#include "agentd/util/macro.h"

/* What `errors` holds: "LINE:COLUMN: TEXT\n" for each. */
static char *load(const char *text, struct config **ret, int *ret_status)
{
        struct diagnostics diagnostics = {0};
        char *errors = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&errors, &size);
        int r = config_load_buffer("test.yaml", text, strlen(text), &diagnostics, ret);

        for (size_t i = 0; i < diagnostics.n_items; i++)
                fprintf(stream, "%u:%u: %s\n", diagnostics.items[i].line, diagnostics.items[i].column,
                        diagnostics.items[i].text);
        fclose(stream);
        *ret_status = diagnostics_exit_status(&diagnostics);
        assert_int_equal(r, *ret_status == 0 ? 0 : -EINVAL);
        diagnostics_clear(&diagnostics);
        return errors;
}

static struct config *load_valid(const char *text)
{
        struct config *config = NULL;
        int status;
        char *errors = load(text, &config, &status);

        if (!config || errors[0])
                fail_msg("%s", errors);
        free(errors);
        return config;
}

static void check_refused(const char *text, int expected_status, const char *expected)
{
        struct config *config = NULL;
        int status;
        char *errors = load(text, &config, &status);

        if (status != expected_status || config || strcmp(errors, expected) != 0)
                fail_msg("%s\ngot %d:\n%sexpected %d:\n%s", text, status, errors, expected_status, expected);
        free(errors);
}

#define EGRESS "version: 1\npolicies:\n  p:\n    egress:\n" /* a rule then begins in line 5 */

#define AS_ASKED_WARNING                                                                                         \
        "upstream 'as-asked': the agent chooses the server, and one of its own can give any address for a name " \
        "that a rule allows; name fixed upstreams for agents that are not trusted\n"

static const struct {
        const char *text, *errors;
} refused[] = {
        /* the file */
        {"", "1:1: the file is empty; begin it with 'version: 1'\n"},
        {"# nothing\n", "1:1: the file is empty; begin it with 'version: 1'\n"},
        {"[]", "1:1: a list where the file is expected; write 'key: value' lines\n"},
        {"policies: {}\n", "1:1: 'version' is missing; the file needs it: 'version: 1'\n"},
        {"version: 2\n", "1:10: version '2' is not known to this build; expected 1\n"},
        {"version: 1.0\n", "1:10: version '1.0' is not known to this build; expected 1\n"},
        {"version: '1'\n", "1:10: 'version' is '1' in quotes; expected the number 1\n"},
        {"version: [1]\n", "1:10: 'version' is a list; expected 1\n"},
        {"version:\n", "1:9: 'version' is empty; give it a value or remove it\n"},
        {"version: 1\nversion: 1\n", "2:1: duplicate key 'version'; it stands already in line 1\n"},
        {"version: 1\npolicys: {}\n", "2:1: unknown key 'policys'; did you mean 'policies'?\n"},
        {"version: 1\nx: {}\n", "2:1: unknown key 'x'; the file has: version, daemon, dns, guard, policies, agents\n"},
        {"version: 1\n[a]: b\n", "2:1: a list as a key; a key is a word\n"},

        /* daemon */
        {"version: 1\ndaemon: {socket: run/x}\n", "2:18: 'socket' is 'run/x'; expected an absolute path\n"},
        {"version: 1\ndaemon: {metrics: 9469}\n",
         "2:19: 'metrics' is '9469'; expected ADDRESS:PORT such as 127.0.0.1:9469, a socket's path, or off\n"},
        {"version: 1\ndaemon: {metrics: '::1:9469'}\n",
         "2:19: 'metrics' is '::1:9469'; expected ADDRESS:PORT such as 127.0.0.1:9469, a socket's path, or off\n"},
        {"version: 1\ndaemon: {events: x.jsonl}\n",
         "2:18: 'events' is 'x.jsonl'; expected an absolute path, journal, stdout or off\n"},
        {"version: 1\ndaemon: {include: conf.d/*.yaml}\n",
         "2:19: 'include' is a value; expected a list: [conf.d/*.yaml]\n"},

        /* dns */
        {"version: 1\ndns: {upstream: []}\n", "2:17: 'upstream' has 0 servers; expected 1 to 8, as in [system]\n"},
        {"version: 1\ndns: {upstream: [sytem]}\n", "2:18: upstream 'sytem'; did you mean 'system'?\n"},
        {"version: 1\ndns: {upstream: ['10.0.0.2:5353']}\n",
         "2:18: upstream '10.0.0.2:5353'; did you mean '10.0.0.2@5353'?\n"},
        {"version: 1\ndns: {upstream: [10.0.0.2@0]}\n",
         "2:18: upstream '10.0.0.2@0'; expected system, as-asked, 10.0.0.2, 10.0.0.2@5353 or "
         "tls://9.9.9.9@853#dns.quad9.net\n"},
        {"version: 1\ndns: {upstream: [dns.quad9.net]}\n",
         "2:18: upstream 'dns.quad9.net'; expected system, as-asked, 10.0.0.2, 10.0.0.2@5353 or "
         "tls://9.9.9.9@853#dns.quad9.net\n"},
        {"version: 1\ndns: {upstream: [as-asked, system]}\n",
         "2:18: 'as-asked' stands alone: the agent names the server; remove the others\n"},
        {"version: 1\ndns: {dnssec: maybe}\n", "2:15: 'dnssec' is 'maybe'; expected off or on\n"},
        {"version: 1\ndns: {min_ttl: 30}\n", "2:16: 'min_ttl' is '30' without a unit; did you mean '30s'?\n"},
        {"version: 1\ndns: {grace: 1.5m}\n",
         "2:14: 'grace' is '1.5m'; expected a duration in whole seconds such as 30s, 5m, 1h or 7d\n"},
        {"version: 1\ndns: {grace: 500ms}\n",
         "2:14: 'grace' is '500ms'; expected a duration in whole seconds such as 30s, 5m, 1h or 7d\n"},
        {"version: 1\ndns: {max_ttl: 0s}\n", "2:16: 'max_ttl' is '0s'; expected a duration from 1s to 30d\n"},
        {"version: 1\ndns: {min_ttl: 2h}\n",
         "2:6: min_ttl (7200s) is above max_ttl (3600s); raise max_ttl or lower min_ttl\n"},
        {"version: 1\ndns: {upstream: [as-asked], dnssec: on}\n",
         "2:6: 'dnssec: on' with upstream 'as-asked', whose answers cannot be validated; remove one of them\n"
         "2:18: " AS_ASKED_WARNING},
        {"version: 1\ndns: {blocked: nxdomian}\n", "2:16: 'blocked' is 'nxdomian'; did you mean 'nxdomain'?\n"},

        /* policies */
        {"version: 1\npolicies: []\n",
         "2:11: 'policies' is a list; expected a map: 'NAME:' with the policy below it\n"},
        {"version: 1\npolicies: {a b: {}}\n",
         "2:12: 'a b' is no name of a policy; use at most 63 letters, digits, '.', '_' and '-'\n"},
        {"version: 1\npolicies: {p#1: {}}\n",
         "2:12: 'p#1' is no name of a policy; use at most 63 letters, digits, '.', '_' and '-'\n"},
        {"version: 1\npolicies: {p: {mode: enforced}}\n", "2:22: 'mode' is 'enforced'; did you mean 'enforce'?\n"},
        {"version: 1\npolicies: {p: {allow_private: yes}}\n",
         "2:31: 'allow_private' is 'yes'; expected true or false\n"},
        {"version: 1\npolicies: {p: {allow_private: 'true'}}\n",
         "2:31: 'allow_private' is 'true' in quotes; expected true or false\n"},
        {"version: 1\npolicies: {p: {loopback: true}}\n", "2:26: 'loopback' is 'true'; expected deny or allow\n"},
        {"version: 1\npolicies: {p: {egress: {}}}\n",
         "2:24: 'egress' is a map; expected a list of rules, each with '- ' in front\n"},
        {"version: 1\npolicies: {p: {extends: base}}\n", "2:25: 'extends' is a value; expected a list: [base]\n"},
        {"version: 1\npolicies:\n  p: {}\n  q: {}\n  p: {}\n",
         "5:3: duplicate policy 'p', first in test.yaml:3; rename one of them\n"},
        {"version: 1\npolicies: {p: {extends: [bsae]}, base: {}}\n",
         "2:26: there is no policy 'bsae'; did you mean 'base'?\n"},
        {"version: 1\npolicies: {p: {extends: [other]}}\n",
         "2:26: there is no policy 'other'; write it under 'policies'\n"},
        {"version: 1\npolicies: {p: {extends: [p]}}\n",
         "2:26: 'extends' cycle: policy 'p' extends itself; remove 'p' here\n"},
        {"version: 1\npolicies:\n  a: {extends: [b]}\n  b: {extends: [c]}\n  c: {extends: [a]}\n",
         "5:17: 'extends' cycle: policy 'a' extends itself by way of 'c'; remove one of the two\n"},

        /* rules */
        {EGRESS "      - domians: github.com\n", "5:9: unknown key 'domians'; did you mean 'domain'?\n"},
        {EGRESS "      - github.com\n", "5:9: a value where a rule is expected; write 'key: value' lines\n"},
        {EGRESS "      -\n", "5:8: a value where a rule is expected; write 'key: value' lines\n"},
        {EGRESS "      - ports: [443]\n", "5:9: a rule without 'domain' or 'cidr'; say whom it is about\n"},
        {EGRESS "      - {domain: a.example, cidr: 10.0.0.0/8}\n",
         "5:9: a rule with both 'domain' and 'cidr'; write two rules\n"},
        {EGRESS "      - {name: x y, cidr: 10.0.0.0/8}\n",
         "5:16: 'x y' is no name; use at most 63 letters, digits, '.', '_' and '-'\n"},
        {EGRESS "      - {name: x, cidr: 10.0.0.0/8}\n      - {name: x, cidr: 11.0.0.0/8}\n",
         "6:16: duplicate rule 'x', first in test.yaml:5; rename one of them\n"},
        {EGRESS "      - domain: ''\n",
         "5:17: 'domain' is empty; expected a name such as example.com or *.example.com\n"},
        {EGRESS "      - domain:\n", "5:16: 'domain' is empty; give it a value or remove it\n"},
        {EGRESS "      - domain: '*'\n",
         "5:17: a bare '*' is every name there is; name the domains, as in '*.example.com'\n"},
        {EGRESS "      - domain: '**.example.com'\n",
         "5:17: domain '**.example.com' has '**'; '*.' in front is any depth already\n"},
        {EGRESS "      - domain: https://github.com/x\n",
         "5:17: domain 'https://github.com/x' is a URL; did you mean 'github.com'?\n"},
        {EGRESS "      - domain: github.com:443\n",
         "5:17: domain 'github.com:443' has a port; did you mean 'domain: github.com' with 'ports: [443]'?\n"},
        {EGRESS "      - domain: github.com/x\n",
         "5:17: domain 'github.com/x' has a path; did you mean 'github.com'?\n"},
        {EGRESS "      - domain: 10.0.0.1\n",
         "5:17: domain '10.0.0.1' is an address; did you mean 'cidr: 10.0.0.1'?\n"},
        {EGRESS "      - domain: 10.0.1\n", "5:17: domain '10.0.1' is neither a name nor an address; expected a name "
                                            "such as example.com or *.example.com\n"},
        {EGRESS "      - domain: exa mple.com\n",
         "5:17: domain 'exa mple.com' is no name; expected a name such as example.com or *.example.com\n"},
        {EGRESS "      - domain: a..example\n",
         "5:17: domain 'a..example' is no name; expected a name such as example.com or *.example.com\n"},
        {EGRESS "      - domain: [a.example]\n",
         "5:17: 'domain' is a list; expected a name such as example.com or *.example.com\n"},
        {EGRESS "      - {domain: a.example, except: [10.0.0.0/8]}\n",
         "5:29: 'except' in a rule of names; it belongs to 'cidr'. Use a deny rule for the name\n"},
        {EGRESS "      - cidr: 10.20.0.5/16\n",
         "5:15: 'cidr' has host bits set in '10.20.0.5/16'; did you mean '10.20.0.0/16'?\n"},
        {EGRESS "      - cidr: 2001:db8::1/32\n",
         "5:15: 'cidr' has host bits set in '2001:db8::1/32'; did you mean '2001:db8::/32'?\n"},
        {EGRESS "      - cidr: 10.0.0.0/33\n",
         "5:15: the prefix length of '10.0.0.0/33' is out of range; expected at most /32\n"},
        {EGRESS "      - cidr: github.com\n", "5:15: 'github.com' is no CIDR; did you mean 'domain: github.com'?\n"},
        {EGRESS "      - cidr: 10.0.0\n",
         "5:15: '10.0.0' is no CIDR; expected one such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32\n"},
        {EGRESS "      - {cidr: 10.20.0.0/16, except: [10.21.0.0/24]}\n",
         "5:39: except '10.21.0.0/24' is outside of cidr '10.20.0.0/16'; name a part of it\n"},
        {EGRESS "      - {cidr: 10.20.0.0/16, except: [10.0.0.0/8]}\n",
         "5:39: except '10.0.0.0/8' is outside of cidr '10.20.0.0/16'; name a part of it\n"},
        {EGRESS "      - {cidr: 10.20.0.0/16, except: [10.20.0.0/16]}\n",
         "5:39: except '10.20.0.0/16' is the whole of cidr '10.20.0.0/16'; remove the rule\n"},
        {EGRESS "      - {cidr: '::/0', except: [10.0.0.0/8]}\n",
         "5:33: except '10.0.0.0/8' is outside of cidr '::/0'; name a part of it\n"},
        {EGRESS "      - {cidr: 10.20.0.0/16, except: 10.20.0.5}\n",
         "5:38: 'except' is a value; expected a list: [10.20.0.5]\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: 443}\n", "5:35: 'ports' is a value; expected a list: [443]\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: []}\n",
         "5:35: 'ports' is empty; name a port, or remove it to mean every port\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: }\n", "5:35: 'ports' is empty; give it a value or remove it\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [0]}\n",
         "5:36: '0' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [65536]}\n",
         "5:36: '65536' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [https]}\n",
         "5:36: 'https' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [8099-8000/udp]}\n",
         "5:36: ports '8099-8000/udp' are reversed; did you mean '8000-8099/udp'?\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [443/foo]}\n",
         "5:36: port '443/foo' has an unknown protocol; did you mean '443/tcp' or '443/udp'?\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, ports: [[443]]}\n",
         "5:36: a port is expected, such as 443, 443/tcp or 8000-8099/udp\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, protocol: icmp, ports: [443]}\n",
         "5:44: 'ports' with protocol icmp, which has none; remove one of them\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, protocol: udp, ports: [443/tcp]}\n",
         "5:51: port '443/tcp' contradicts the rule's 'protocol'; remove one of them\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, protocol: sctp}\n",
         "5:38: 'protocol' is 'sctp'; expected tcp, udp, icmp or any\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, budget: {bytes: 0, per: day}}\n",
         "5:44: 'bytes' is 0; give a size of at least 1, or a deny rule for 'nothing at all'\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, budget: {bytes: 10M, per: fortnight}}\n",
         "5:44: 'bytes' is '10M'; expected a size such as 4096, 10MiB or 2GB\n"
         "5:54: 'per' is 'fortnight'; expected hour, day, week, month or total\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, budget: {per: day}}\n",
         "5:36: 'bytes' is missing; a budget needs it: 'bytes: 50MiB'\n"},
        {EGRESS "      - {cidr: 10.0.0.0/8, rate: {connections: 0, per: minute, brust: 1}}\n",
         "5:48: 'connections' is '0'; expected a number from 1 to 1000000\n"
         "5:64: unknown key 'brust'; did you mean 'burst'?\n"},
        {"version: 1\npolicies: {p: {deny: [{cidr: 10.0.0.0/8, budget: {bytes: 1, per: day}}]}}\n",
         "2:42: 'budget' in a deny rule, which lets nothing through; it belongs to an egress rule\n"},
        {"version: 1\npolicies: {p: {ingress: [{domain: a.example}]}}\n",
         "2:27: unknown key 'domain'; an ingress rule has: name, cidr, except, ports, protocol\n"},
        {"version: 1\npolicies: {p: {ingress: [{ports: [22]}]}}\n",
         "2:26: a rule without 'cidr'; say whom it is about\n"},
        {"version: 1\npolicies: {p: {ingress: [{cidr: 10.0.0.1/8, ports: [0]}]}}\n",
         "2:33: 'cidr' has host bits set in '10.0.0.1/8'; did you mean '10.0.0.0/8'?\n"
         "2:53: '0' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp\n"},
        {"version: 1\npolicies: {p: {ingress: [{cidr: 10.0.0.0/8, budget: {bytes: 1, per: day}},\n"
         "  {cidr: 10.0.0.0/8, rate: {connections: 1, per: day}}]}}\n",
         "2:45: 'budget' in an ingress rule, whose bytes count to the budgets of the policy; write it there\n"
         "3:22: 'rate' in an ingress rule, whose bytes count to the budgets of the policy; write it there\n"},
        {"version: 1\npolicies: {p: {egress: [{name: x, cidr: 10.0.0.0/8}], ingress: [{name: x, cidr: 10.0.0.0/8}]}}\n",
         "2:72: duplicate rule 'x', first in test.yaml:2; rename one of them\n"},
        {"version: 1\npolicies: {p: {budget: [{bytes: 0, per: day, direction: up}]}}\n",
         "2:33: 'bytes' is 0; give a size of at least 1, or a deny rule for 'nothing at all'\n"
         "2:57: 'direction' is 'up'; expected egress, ingress or both\n"},

        /* agents */
        {"version: 1\nagents: {a: {cgroup: /a, policy: p}}\n",
         "2:34: there is no policy 'p'; write it under 'policies'\n"},
        {"version: 1\npolicies: {coding: {}}\nagents: {a: {cgroup: /a, policy: codign}}\n",
         "3:34: there is no policy 'codign'; did you mean 'coding'?\n"},
        {"version: 1\npolicies: {p: {}}\nagents: {a: {policy: p}}\n",
         "3:13: 'cgroup' is missing; an agent needs it: 'cgroup: /agents/NAME'\n"},
        {"version: 1\npolicies: {p: {}}\nagents: {a: }\n",
         "3:13: a value where an agent is expected; write 'key: value' lines\n"},
        {"version: 1\npolicies: {p: {}}\nagents: {a: {cgroup: /, policy: p}}\n",
         "3:22: '/' is the root cgroup: it holds the whole host; name one below it\n"},
        {"version: 1\npolicies: {p: {}}\nagents: {a: {cgroup: /a/../b, policy: p}}\n",
         "3:22: '/a/../b' has '.' or '..' in it; write the path out\n"},
        {"version: 1\npolicies: {p: {}}\nagents: {a: {cgroup: '', policy: p}}\n",
         "3:22: 'cgroup' is empty; expected the path of a cgroup\n"},
        {"version: 1\npolicies: {p: {}}\nagents:\n  a: {cgroup: /a, policy: p}\n  a: {cgroup: /b, policy: p}\n",
         "5:3: duplicate agent 'a', first in test.yaml:4; rename one of them\n"},
        {"version: 1\npolicies: {p: {}}\nagents:\n  a: {cgroup: /x/y, policy: p}\n  b: {cgroup: x/y/, policy: p}\n",
         "5:15: agents 'a' and 'b' have the same cgroup 'x/y'; give each its own\n"},
        {"version: 1\nguard: ['']\n", "2:9: 'guard' is empty; expected the path of a cgroup\n"},
        {"version: 1\nguard: [/]\n", "2:9: '/' is the root cgroup: it holds the whole host; name one below it\n"},
        {"version: 1\nguard: [/a/../b]\n", "2:9: '/a/../b' has '.' or '..' in it; write the path out\n"},
        {"version: 1\nguard: [/a/b, a/b/]\n", "2:15: 'a/b' is guarded already, in line 2; remove one of them\n"},
        {"version: 1\nguard: [/a/*]\n", "2:9: '/a/*' is a glob; name the parent itself, all below it is guarded\n"},
};

static void says_what_is_wrong_where_and_what_would_be_right(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                check_refused(refused[i].text, 2, refused[i].errors);
}

static void reports_all_errors_of_a_file_in_their_order(void **state)
{
        check_refused("version: 3\n"
                      "dns: {grace: 5}\n"
                      "policies:\n"
                      "  p:\n"
                      "    extends: [q]\n"
                      "    mode: off\n"
                      "    egress:\n"
                      "      - {cidr: 10.0.0.1/8, ports: [0, 443/x]}\n"
                      "      - {domain: '*', ports: [9-1]}\n"
                      "agents: {a: {cgroup: /, policy: q, x: 1}}\n",
                      2,
                      "1:10: version '3' is not known to this build; expected 1\n"
                      "2:14: 'grace' is '5' without a unit; did you mean '5s'?\n"
                      "5:15: there is no policy 'q'; write it under 'policies'\n"
                      "6:11: 'mode' is 'off'; expected enforce or audit\n"
                      "8:16: 'cidr' has host bits set in '10.0.0.1/8'; did you mean '10.0.0.0/8'?\n"
                      "8:36: '0' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp\n"
                      "8:39: port '443/x' has an unknown protocol; did you mean '443/tcp' or '443/udp'?\n"
                      "9:18: a bare '*' is every name there is; name the domains, as in '*.example.com'\n"
                      "9:31: ports '9-1' are reversed; did you mean '1-9'?\n"
                      "10:22: '/' is the root cgroup: it holds the whole host; name one below it\n"
                      "10:33: there is no policy 'q'; write it under 'policies'\n"
                      "10:36: unknown key 'x'; an agent has: cgroup, policy\n");
}

static void guarded_parents_are_kept_in_their_order(void **state)
{
        struct config *config = load_valid("version: 1\nguard: [/agents, agents.slice/, x/y]\n");

        assert_int_equal(config->n_guards, 3);
        assert_string_equal(config->guards[0].cgroup, "/agents");
        assert_string_equal(config->guards[1].cgroup, "agents.slice");
        assert_string_equal(config->guards[2].cgroup, "x/y");
        assert_int_equal(config->guards[2].place.line, 2);
        assert_int_equal(config->guards[2].place.column, 33);
        config_free(config);
}

static void empty_lists_are_no_complaint(void **state)
{
        config_free(
                load_valid("version: 1\nguard: []\npolicies: {p: {ingress: [], budget: [], egress: [], deny: }}\n"));
        config_free(
                load_valid("version: 1\nguard:\npolicies: {p: {ingress: , budget: }, q: }\nagents:\ndns:\ndaemon:\n"));
}

static void dnssec_may_be_a_boolean(void **state)
{
        struct config *config = load_valid("version: 1\ndns: {dnssec: true}\n");

        assert_true(config->dns.dnssec);
        config_free(config);
        config = load_valid("version: 1\ndns: {dnssec: false}\n");
        assert_false(config->dns.dnssec);
        config_free(config);
}

static void defaults_are_those_of_the_contract(void **state)
{
        struct config *config = load_valid("version: 1\npolicies: {p: {}}\n");
        const struct policy *policy = config_find_policy(config, "p");

        assert_string_equal(config->daemon.socket, "/run/agentd/agentd.sock");
        assert_string_equal(config->daemon.state_dir, "/var/lib/agentd");
        assert_string_equal(config->daemon.metrics, "127.0.0.1:9469");
        assert_string_equal(config->daemon.events, "/var/log/agentd/events.jsonl");
        assert_int_equal(config->dns.n_upstreams, 1);
        assert_string_equal(config->dns.upstreams[0], "system");
        assert_false(config->dns.dnssec);
        assert_int_equal(config->dns.min_ttl_s, 30);
        assert_int_equal(config->dns.max_ttl_s, 3600);
        assert_int_equal(config->dns.grace_s, 60);
        assert_int_equal(config->dns.blocked, DNS_BLOCKED_NXDOMAIN);
        assert_false(policy->audit);
        assert_true(policy->loopback_allow);
        assert_false(policy->metadata_allow);
        assert_false(policy->allow_private);
        assert_int_equal(policy->n_rules, 0);
        config_free(config);
}

static void said_values_replace_the_defaults(void **state)
{
        struct config *config = load_valid(
                "version: 1\n"
                "daemon: {socket: /s, state_dir: /t, metrics: 'off', events: journal}\n"
                "dns: {upstream: [10.0.0.2, 10.0.0.2@5353, 'tls://9.9.9.9@853#dns.quad9.net',\n"
                "      '2001:db8::1@53'], dnssec: on, min_ttl: 1s, max_ttl: 1h30m, grace: 0s, blocked: nodata}\n"
                "policies: {p: {mode: audit, loopback: deny, metadata: allow, allow_private: true}}\n"
                "agents: {a-1: {cgroup: /agents/x*/, policy: p}}\n");
        const struct policy *policy = config_find_policy(config, "p");

        assert_string_equal(config->daemon.metrics, "off");
        assert_string_equal(config->daemon.events, "journal");
        assert_int_equal(config->dns.n_upstreams, 4);
        assert_string_equal(config->dns.upstreams[2], "tls://9.9.9.9@853#dns.quad9.net");
        assert_true(config->dns.dnssec);
        assert_int_equal(config->dns.min_ttl_s, 1);
        assert_int_equal(config->dns.max_ttl_s, 5400);
        assert_int_equal(config->dns.blocked, DNS_BLOCKED_NODATA);
        assert_true(policy->audit && !policy->loopback_allow && policy->metadata_allow && policy->allow_private);
        assert_string_equal(config->agents[0].name, "a-1");
        assert_string_equal(config->agents[0].cgroup, "/agents/x*");
        assert_int_equal(config->agents[0].place.line, 6);
        config_free(config);
}

/* "LOW-HIGH/PROTOCOLS" of each range. */
static void check_ports(const char *keys, const char *expected)
{
        char text[256], found[256] = "";
        struct config *config;
        const struct rule *rule;

        snprintf(text, sizeof(text), "version: 1\npolicies: {p: {%s}}\n", keys);
        config = load_valid(text);
        rule = &config->policies[0]->rules[0];
        for (size_t i = 0; i < rule->n_ports; i++)
                snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%u-%u/%u", i ? " " : "",
                         rule->ports[i].low, rule->ports[i].high, rule->ports[i].protocols);
        assert_string_equal(found, expected);
        config_free(config);
}

static void ports_and_protocols_mean_what_the_contract_says(void **state)
{
        check_ports("egress: [{cidr: 10.0.0.0/8}]", "0-65535/3");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: [443]}]", "443-443/3");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: ['443']}]", "443-443/3");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: [443/tcp]}]", "443-443/1");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: [8000-8099/udp]}]", "8000-8099/2");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: [443/tcp, 443/udp, 80]}]", "80-80/3 443-443/3");
        check_ports("egress: [{cidr: 10.0.0.0/8, ports: [1-10, 11-20, 15]}]", "1-20/3");
        check_ports("egress: [{cidr: 10.0.0.0/8, protocol: tcp}]", "0-65535/1");
        check_ports("egress: [{cidr: 10.0.0.0/8, protocol: udp, ports: [53]}]", "53-53/2");
        check_ports("egress: [{cidr: 10.0.0.0/8, protocol: icmp}]", "0-65535/4");
        check_ports("egress: [{cidr: 10.0.0.0/8, protocol: any}]", "0-65535/7");
        check_ports("egress: [{cidr: 10.0.0.0/8, protocol: any, ports: [443]}]", "0-65535/4 443-443/3");
        check_ports("deny: [{cidr: 10.0.0.0/8}]", "0-65535/7"); /* what is denied is denied as a whole */
        check_ports("deny: [{cidr: 10.0.0.0/8, ports: [25]}]", "25-25/3");
        check_ports("deny: [{cidr: 10.0.0.0/8, protocol: tcp}]", "0-65535/1");
}

static void rules_are_flattened_inherited_first(void **state)
{
        struct config *config =
                load_valid("version: 1\n"
                           "policies:\n"
                           "  d: {extends: [b, c], egress: [{cidr: 10.0.0.4}], deny: [{domain: D.example.}]}\n"
                           "  b: {extends: [a], egress: [{cidr: 10.0.0.2}]}\n"
                           "  c: {extends: [a], egress: [{name: named, cidr: '::ffff:10.0.0.3'}, {cidr: 10.0.0.5}]}\n"
                           "  a: {egress: [{domain: '*.B\xc3\xbc"
                           "cher.example'}], deny: [{cidr: 10.0.0.9}]}\n");
        static const struct {
                const char *id, *whom;
                unsigned line;
        } expected[] = {
                {"a#1", "*.xn--bcher-kva.example", 6},
                {"a#deny1", "10.0.0.9", 6},
                {"b#1", "10.0.0.2", 4},
                {"named", "10.0.0.3", 5},
                {"c#2", "10.0.0.5", 5},
                {"d#1", "10.0.0.4", 3},
                {"d#deny1", "d.example", 3},
        };
        const struct policy *policy = config_find_policy(config, "d");

        assert_int_equal(policy->n_rules, ARRAY_SIZE(expected));
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                const struct rule *rule = &policy->rules[i];
                char buffer[PREFIX_TEXT_MAX];

                assert_string_equal(rule->id, expected[i].id);
                assert_string_equal(rule->domain ? rule->domain : prefix_format(&rule->cidr, buffer), expected[i].whom);
                assert_int_equal(rule->place.line, expected[i].line);
                assert_string_equal(rule->place.file, "test.yaml");
                assert_int_equal(rule->deny, strstr(expected[i].id, "deny") != NULL);
        }
        assert_int_equal(config->n_policies, 4);
        assert_string_equal(config->policies[0]->name, "a");
        config_free(config);
}

static void settings_are_inherited_the_stricter_wins_and_mode_is_not(void **state)
{
        struct config *config = load_valid("version: 1\n"
                                           "policies:\n"
                                           "  open: {mode: audit, allow_private: true, metadata: allow}\n"
                                           "  shut: {allow_private: false, loopback: deny}\n"
                                           "  one: {extends: [open]}\n"
                                           "  two: {extends: [open, shut]}\n"
                                           "  swap: {extends: [shut, open]}\n"
                                           "  own: {extends: [two], allow_private: true, loopback: allow}\n");
        const struct policy *one = config_find_policy(config, "one"), *two = config_find_policy(config, "two");
        const struct policy *own = config_find_policy(config, "own");

        assert_true(one->allow_private && one->metadata_allow && one->loopback_allow && !one->audit);
        assert_true(!two->allow_private && two->metadata_allow && !two->loopback_allow);
        assert_false(config_find_policy(config, "swap")->allow_private);
        assert_true(own->allow_private && own->metadata_allow && own->loopback_allow);
        config_free(config);
}

static void rule_names_may_not_meet_by_inheritance(void **state)
{
        check_refused("version: 1\n"
                      "policies:\n"
                      "  a: {egress: [{name: x, cidr: 10.0.0.1}]}\n"
                      "  b: {extends: [a], deny: [{name: x, cidr: 10.0.0.2}]}\n"
                      "  c: {extends: [b]}\n",
                      2, "4:35: duplicate rule 'x', first in test.yaml:3; rename one of them\n");
        /* In policies that have nothing to do with each other they may. */
        config_free(load_valid("version: 1\n"
                               "policies:\n"
                               "  a: {egress: [{name: x, cidr: 10.0.0.1}]}\n"
                               "  b: {egress: [{name: x, cidr: 10.0.0.1}]}\n"));
}

static void an_upstream_that_the_agent_chooses_is_a_warning(void **state)
{
        struct config *config = NULL;
        int status;
        char *warnings = load("version: 1\ndns:\n  upstream:\n    - as-asked\n", &config, &status);

        assert_int_equal(status, 0);
        assert_string_equal(warnings, "4:7: " AS_ASKED_WARNING);
        assert_string_equal(config->dns.upstreams[0], "as-asked");
        free(warnings);
        config_free(config);

        warnings = load("version: 1\ndns: {upstream: [system, 10.0.0.2]}\n", &config, &status);
        assert_int_equal(status, 0);
        assert_string_equal(warnings, "");
        free(warnings);
        config_free(config);
}

static void a_wildcard_on_a_registry_is_a_warning(void **state)
{
        static const char *const wide[] = {"*.com", "*.co.uk", "*.github.io"};

        for (size_t i = 0; i < ARRAY_SIZE(wide); i++) {
                char text[128], expected[256];
                struct config *config = NULL;
                int status;
                char *warnings;

                snprintf(text, sizeof(text), EGRESS "      - domain: '%s'\n", wide[i]);
                snprintf(expected, sizeof(expected),
                         "5:17: domain '%s' covers names that anybody can register; name the domains that are meant\n",
                         wide[i]);
                warnings = load(text, &config, &status);
                assert_int_equal(status, 0);
                assert_string_equal(warnings, expected);
                free(warnings);
                config_free(config);
        }
}

static void extends_are_bounded_in_depth_and_in_number(void **state)
{
        struct config *config = NULL;
        char *text = NULL, *errors;
        size_t size;
        int status;
        FILE *stream = open_memstream(&text, &size);

        fprintf(stream, "version: 1\npolicies:\n  p0: {}\n");
        for (unsigned i = 1; i <= 2000; i++)
                fprintf(stream, "  p%u: {extends: [p%u]}\n", i, i - 1);
        fclose(stream);
        errors = load(text, &config, &status);
        assert_int_equal(status, 2);
        assert_non_null(strstr(errors, "'extends' goes deeper than 64 policies"));
        free(errors);
        free(text);

        /* A web of layers: every way through it is one of 20^60. */
        stream = open_memstream(&text, &size);
        fprintf(stream, "version: 1\npolicies:\n");
        for (unsigned layer = 0; layer < 60; layer++)
                for (unsigned i = 0; i < 20; i++) {
                        fprintf(stream, "  l%u-%u: {extends: [", layer, i);
                        for (unsigned j = 0; layer > 0 && j < 20; j++)
                                fprintf(stream, "%sl%u-%u", j ? "," : "", layer - 1, j);
                        fprintf(stream, "]}\n");
                }
        fclose(stream);
        errors = load(text, &config, &status);
        assert_true(status == 0 || strstr(errors, "takes too long"));
        free(errors);
        free(text);
        config_free(config);
}

static void errors_are_bounded_in_number(void **state)
{
        struct diagnostics diagnostics = {0};
        struct config *config = NULL;
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        fprintf(stream, EGRESS);
        for (unsigned i = 0; i < 5000; i++)
                fprintf(stream, "      - cidr: x!\n");
        fclose(stream);
        assert_int_equal(config_load_buffer("t", text, size, &diagnostics, &config), -EINVAL);
        assert_int_equal(diagnostics.n_items, 1000);
        assert_string_equal(diagnostics.items[999].text, "4001 more errors; mend these first");
        diagnostics_clear(&diagnostics);
        free(text);
}

static void the_built_in_policy_denies_all(void **state)
{
        struct config *config = NULL;
        const struct policy *policy;

        assert_int_equal(config_deny_all(&config), 0);
        policy = config_find_policy(config, "deny-all");
        assert_non_null(policy);
        assert_int_equal(policy->n_rules, 0);
        assert_false(policy->audit || policy->metadata_allow || policy->allow_private);
        assert_true(policy->loopback_allow);
        assert_int_equal(config->n_agents, 0);
        assert_null(config->path);
        assert_int_equal(config->dns.n_upstreams, 1);
        config_free(config);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(says_what_is_wrong_where_and_what_would_be_right),
                cmocka_unit_test(reports_all_errors_of_a_file_in_their_order),
                cmocka_unit_test(guarded_parents_are_kept_in_their_order),
                cmocka_unit_test(empty_lists_are_no_complaint),
                cmocka_unit_test(dnssec_may_be_a_boolean),
                cmocka_unit_test(defaults_are_those_of_the_contract),
                cmocka_unit_test(said_values_replace_the_defaults),
                cmocka_unit_test(ports_and_protocols_mean_what_the_contract_says),
                cmocka_unit_test(rules_are_flattened_inherited_first),
                cmocka_unit_test(settings_are_inherited_the_stricter_wins_and_mode_is_not),
                cmocka_unit_test(rule_names_may_not_meet_by_inheritance),
                cmocka_unit_test(an_upstream_that_the_agent_chooses_is_a_warning),
                cmocka_unit_test(a_wildcard_on_a_registry_is_a_warning),
                cmocka_unit_test(extends_are_bounded_in_depth_and_in_number),
                cmocka_unit_test(errors_are_bounded_in_number),
                cmocka_unit_test(the_built_in_policy_denies_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
