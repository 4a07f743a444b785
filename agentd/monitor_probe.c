/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header. All of a round happens in one turn of the loop: send, read the kernel's records, conclude. So nothing
 * of the agent's policy changes in between, and what is expected is what holds.
 */
#include "agentd/monitor_probe.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "agentd/address_class.h"
#include "agentd/agent/probe_frame.h"
#include "agentd/datapath/probe.h"
#include "agentd/monitor_device.h"
#include "agentd/net/netns.h"
#include "agentd/policy/explain.h"
#include "agentd/util/log.h"

enum { READS_MAX = 4, FRAME_TRIES = 4, RETRY_MS = 1000, RETRY_MAX_MS = 30000, DENY_RULES_MAX = 16 };

static int tier_of(enum hook hook)
{
        return hook == HOOK_SOCKET_CREATE ? 4 : hook == HOOK_DEVICE ? 3 : hook == HOOK_EGRESS ? 2 : 1;
}

static const char *why(int error, char *buffer, size_t size)
{
        switch (error) {
        case -EAGAIN:
                return "its cgroup is frozen";
        case -ETIMEDOUT:
                return "a probe in its cgroup was held up";
        case -ECHILD:
        case -EPIPE:
                return "a probe in its cgroup was ended";
        default:
                (void)snprintf(buffer, size, "no probe can be made in its cgroup: %s", strerror(-error));
                return buffer;
        }
}

/* --- the sockets -------------------------------------------------------------------------------------------------- */

static void probe_close(struct monitor *monitor, struct monitor_probe *probe)
{
        for (size_t i = 0; i < PROBE_SOCKETS; i++)
                datapath_probe_remove(monitor->datapath, probe->sockets.cookies[i]);
        probe_sockets_close(&probe->sockets);
        probe->open = false;
}

static int probe_open(struct monitor *monitor, struct monitor_probe *probe, __u32 agent_id, int cgroup_fd)
{
        const struct monitor_prober *prober = monitor->prober;
        int r = prober->netns_error;

        if (r == 0)
                r = prober_open(prober->netns_fd, cgroup_fd, MONITOR_PROBE_OPEN_MS, &probe->sockets);
        for (size_t i = 0; i < PROBE_SOCKETS && r == 0; i++)
                if (probe->sockets.fds[i] >= 0)
                        r = datapath_probe_add(monitor->datapath, probe->sockets.cookies[i], agent_id);
        if (r < 0)
                probe_close(monitor, probe);
        probe->open = r == 0;
        return r;
}

static struct monitor_probe *probe_of(struct monitor_agent *agent)
{
        struct monitor_probe *probe = agent->probe;

        if (probe)
                return probe;
        probe = calloc(1, sizeof(*probe));
        if (!probe)
                return NULL;
        probe->sockets = PROBE_SOCKETS_NONE;
        probe->began_ns = monitor_now();
        probe->due_ns = probe->began_ns + MONITOR_PROBE_MS * NSEC_PER_MSEC * (agent->id * 2654435761u >> 22) / 1024;
        if (getrandom(probe->seed, sizeof(probe->seed), GRND_NONBLOCK) != (ssize_t)sizeof(probe->seed))
                memcpy(probe->seed, &probe->began_ns, sizeof(probe->began_ns));
        agent->probe = probe;
        return probe;
}

void monitor_probe_prepare(struct monitor *monitor, struct monitor_agent *agent)
{
        struct monitor_probe *probe = monitor->prober ? probe_of(agent) : NULL;
        __u64 now_ns = monitor_now();
        char buffer[160];
        int r;

        if (!probe || probe->open || now_ns < probe->retry_ns)
                return;
        r = probe_open(monitor, probe, agent->id, agent->cgroup_fd);
        probe->frozen = r == -EAGAIN;
        if (r == 0) {
                probe->retry_step_ns = 0;
                return;
        }
        /* A cgroup that holds us up may do so on purpose: ever less often. */
        probe->retry_step_ns = MIN(MAX(2 * probe->retry_step_ns, RETRY_MS * NSEC_PER_MSEC),
                                   (r == -ETIMEDOUT ? RETRY_MAX_MS : MONITOR_PROBE_MS) * NSEC_PER_MSEC);
        probe->retry_ns = now_ns + probe->retry_step_ns;
        (void)snprintf(probe->detail, sizeof(probe->detail), "%s", why(r, buffer, sizeof(buffer)));
}

void monitor_probe_forget(struct monitor *monitor, struct monitor_agent *agent)
{
        if (!agent->probe)
                return;
        probe_close(monitor, agent->probe);
        free(agent->probe);
        agent->probe = NULL;
}

bool monitor_probe_is_ours(const struct monitor *monitor, __u64 netns_cookie)
{
        return monitor->prober && netns_cookie != 0 && monitor->prober->netns_cookie == netns_cookie;
}

/* --- whom to ask for ---------------------------------------------------------------------------------------------- */

static bool is_denied(struct monitor *monitor, const struct monitor_agent *agent, const struct address *address,
                      enum hook hook, enum verdict_reason *ret_reason)
{
        const struct explain_input input = {
                .compiled = agent->policy ? agent->policy->compiled : NULL,
                .word_flags = monitor_word_flags(agent),
                .now_ns = monitor_now(),
        };
        const struct flow flow = {
                .remote = *address,
                .protocol = hook == HOOK_EGRESS ? PROTOCOL_ICMP : PROTOCOL_UDP,
                .port = hook == HOOK_EGRESS ? 0 : PROBE_PORT,
                .flags = hook == HOOK_EGRESS ? 0 : FLOW_SYSCALL,
        };
        struct verdict verdict = {};

        *ret_reason = REASON_NO_POLICY;
        if (WORD_VERSION(datapath_agent(monitor->datapath, agent->id)->word) == 0 || !input.compiled)
                return true;
        if (learned_expires(monitor->learned, agent->id, address) != 0)
                return false;
        policy_explain(&input, &flow, &verdict);
        *ret_reason = verdict.reason;
        return verdict.action == VERDICT_DENY;
}

/* Addresses of ranges where nobody is, with bits that nobody can foresee; then what is always denied. */
static size_t candidates_of(const struct monitor_probe *probe, bool ipv4, struct address *ret)
{
        const __u8 *s = probe->seed;

        memset(ret, 0, 3 * sizeof(*ret));
        if (ipv4) {
                address_from_ipv4(&ret[0], ADDRESS_IPV4(240u + s[0] % 15, s[1], s[2], s[3] | 1u));
                address_from_ipv4(&ret[1], ADDRESS_IPV4(198, 18u + s[4] % 2, s[5], s[6] | 1u));
                address_from_ipv4(&ret[2], ADDRESS_IPV4(169, 254, 169, 254));
                return 3;
        }
        ret[0].words[0] = ADDRESS_WORD(0x01000000); /* 100::/64, discard only */
        memcpy(ret[0].bytes + 8, s, 8);
        ret[1].words[0] = ADDRESS_WORD(0x20010db8);
        memcpy(ret[1].bytes + 4, s, 12);
        ret[2].words[0] = ADDRESS_WORD(0xfd000ec2);
        ret[2].words[3] = ADDRESS_WORD(0x254);
        return 3;
}

/* false: the agent's policy leaves nothing to refuse to this hook. */
static bool destination_choose(struct monitor *monitor, const struct monitor_agent *agent, enum probe_kind kind,
                               struct address *ret, enum verdict_reason *ret_reason)
{
        const struct policy *policy = agent->policy ? agent->policy->policy : NULL;
        bool ipv4 = probe_kind_is_ipv4(kind);
        enum hook hook = probe_kind_hook(kind);
        struct address candidates[3];
        size_t n = candidates_of(agent->probe, ipv4, candidates), tried = 0;

        for (size_t i = 0; i < n; i++) {
                *ret = candidates[i];
                if (is_denied(monitor, agent, ret, hook, ret_reason))
                        return true;
        }
        for (size_t i = 0; policy && i < policy->n_rules && tried < DENY_RULES_MAX; i++) {
                if (!policy->rules[i].deny || policy->rules[i].domain)
                        continue;
                *ret = policy->rules[i].cidr.address;
                if (address_is_ipv4(ret) != ipv4 || address_is_loopback(ret))
                        continue;
                tried++;
                if (is_denied(monitor, agent, ret, hook, ret_reason))
                        return true;
        }
        return false;
}

/* --- a round ------------------------------------------------------------------------------------------------------ */

void monitor_probe_record(struct monitor *monitor, const void *data, size_t size)
{
        const struct verdict_record *record = data;
        struct monitor_testimony *testimony;
        const struct monitor_agent *agent = monitor->probed;

        if (size != sizeof(*record) || record->header.size != size || record->header.abi != AGENTD_ABI_VERSION ||
            !agent) /* late: of a try that has ended without it */
                return;
        testimony = &agent->probe->testimony;
        if (record->flow != testimony->cookie)
                return;
        if (record->hook == HOOK_INGRESS)
                testimony->answered = true;
        if (record->hook != testimony->hook ||
            memcmp(&record->destination, &testimony->destination, sizeof(record->destination)) != 0)
                return;
        if (record->agent_id != agent->id || record->cgroup_id != agent->cgroup_id) {
                testimony->foreign = true;
                return;
        }
        testimony->heard = true;
        testimony->would = record->action != VERDICT_DENY;
}

static void testimony_take(struct monitor *monitor, struct monitor_agent *agent)
{
        monitor->probed = agent;
        for (int i = 0; i < READS_MAX && !agent->probe->testimony.heard; i++)
                if (monitor_events_consume(monitor) == 0)
                        break;
        monitor->probed = NULL;
}

/* What the kernel has told of a try that did not pass. */
static enum monitor_proof testimony_judge(const struct monitor_testimony *testimony, bool audit, char *ret_why,
                                          size_t size)
{
        if (testimony->foreign) {
                (void)snprintf(ret_why, size, "was judged as another agent's");
                return PROOF_PASSED;
        }
        if (!testimony->heard) {
                (void)snprintf(ret_why, size, "did not pass, but it was not agentd that refused it");
                return PROOF_NONE;
        }
        if (testimony->would && !audit) {
                (void)snprintf(ret_why, size, "would have been let through");
                return PROOF_PASSED;
        }
        if (!testimony->would && audit) {
                (void)snprintf(ret_why, size, "was refused, though its policy is in audit mode");
                return PROOF_NONE;
        }
        return PROOF_REFUSED;
}

static enum monitor_proof socket_try(struct monitor *monitor, struct monitor_agent *agent, enum probe_kind kind,
                                     bool audit, char *ret_why, size_t size)
{
        struct monitor_probe *probe = agent->probe;
        bool came_back;
        int r;

        probe->testimony.cookie = probe_cookie(&probe->sockets, kind);
        r = probe_send(&probe->sockets, kind, &probe->testimony.destination);
        if (r == -EPERM || r == 0)
                testimony_take(monitor, agent);
        came_back = r != -EPERM && probe_came_back(&probe->sockets, kind);
        if (kind == PROBE_PACKET6 && r == 0 && !came_back && !probe->testimony.answered)
                r = -EPERM;
        if (r == 0) {
                (void)snprintf(ret_why, size, "was let through");
                return PROOF_PASSED;
        }
        if (r != -EPERM) {
                (void)snprintf(ret_why, size, "could not be sent: %s", strerror(-r));
                return PROOF_NONE;
        }
        return testimony_judge(&probe->testimony, audit, ret_why, size);
}

/*
 * Nobody tells whether a frame went on from there. It was put in, and nothing between the interface and the program can
 * lose it, but for a queue that is full or worked off late, and its record can get lost in a flood of others': tried
 * again, waited for, and believed when the next round hears nothing either. (A link that is gone is found without a
 * probe.)
 */
static enum monitor_proof device_try(struct monitor *monitor, struct monitor_agent *agent, const struct device *device,
                                     bool audit, char *ret_why, size_t size)
{
        struct timespec pause = {.tv_nsec = 300000};
        struct monitor_probe *probe = agent->probe;
        __u8 frame[PROBE_FRAME_MAX];
        size_t length = probe_frame_make(device, &probe->testimony.destination, frame);
        int r;

        probe->testimony.cookie = DEVICE_PROBE_COOKIE;
        for (int i = 0; i < FRAME_TRIES; i++) {
                r = datapath_probe_device(monitor->datapath, device->ifindex, frame, length);
                if (r == -ENETDOWN) /* it takes nothing: from the agent neither */
                        return PROOF_NOTHING;
                if (r < 0) {
                        (void)snprintf(ret_why, size, "could not be sent: %s", strerror(-r));
                        return PROOF_NONE;
                }
                testimony_take(monitor, agent);
                if (probe->testimony.heard || probe->testimony.foreign) {
                        probe->silent = false;
                        return testimony_judge(&probe->testimony, audit, ret_why, size);
                }
                (void)nanosleep(&pause, NULL);
                pause.tv_nsec *= 2;
        }
        if (!probe->silent) {
                probe->silent = true;
                (void)snprintf(ret_why, size, "was let in, and nothing tells what became of it");
                return PROOF_NONE;
        }
        (void)snprintf(ret_why, size, "was let in, and agentd did not drop it");
        return PROOF_PASSED;
}

/* A child in the cgroup each time, because these programs go by the process: not in every round. */
static enum monitor_proof family_try(struct monitor *monitor, struct monitor_agent *agent, char *ret_why, size_t size)
{
        struct monitor_probe *probe = agent->probe;
        int r;

        probe->testimony.cookie = LSM_PROBE_COOKIE;
        r = prober_family(monitor->prober->netns_fd, agent->cgroup_fd, datapath_probe_protocol(monitor->datapath),
                          MONITOR_PROBE_OPEN_MS);
        /* Frozen, or kept from running, as a busy container's processes are: then it is not shown, which the tier's age
         * tells, and not tried sooner. An agent must not hold up the daemon every few seconds. */
        if (r == -EAGAIN || r == -ETIMEDOUT)
                return PROOF_NOTHING;
        if (r == 0) {
                (void)snprintf(ret_why, size, "was let through");
                return PROOF_PASSED;
        }
        if (r != -EPERM) {
                (void)why(r, ret_why, size);
                return PROOF_NONE;
        }
        testimony_take(monitor, agent);
        /* Refused in audit mode as well. */
        return testimony_judge(&probe->testimony, false, ret_why, size);
}

struct round {
        enum monitor_proof proof;
        enum hook hook; /* where it was decided */
        struct address destination;
        char detail[160];
        bool tried[MONITOR_PROBE_TIERS], failed[MONITOR_PROBE_TIERS];
};

/* device: NULL for a socket of this kind. */
static void round_try(struct monitor *monitor, struct monitor_agent *agent, enum probe_kind kind,
                      const struct device *device, struct round *round)
{
        struct monitor_testimony *testimony = &agent->probe->testimony;
        enum verdict_reason reason = REASON_NONE;
        char text[ADDRESS_TEXT_MAX], why_text[96] = "";
        enum monitor_proof proof;
        bool audit;
        int tier;

        *testimony = (struct monitor_testimony){.hook = device ? HOOK_DEVICE : probe_kind_hook(kind)};
        tier = tier_of(testimony->hook);
        if (!destination_choose(monitor, agent, kind, &testimony->destination, &reason))
                return;
        audit = (monitor_word_flags(agent) & WORD_AUDIT) && reason != REASON_QUARANTINE && reason != REASON_NO_POLICY;
        proof = device ? device_try(monitor, agent, device, audit, why_text, sizeof(why_text))
                       : socket_try(monitor, agent, kind, audit, why_text, sizeof(why_text));
        if (proof == PROOF_NOTHING)
                return;
        round->tried[tier] = true;
        if (proof == PROOF_REFUSED)
                return;
        round->failed[tier] = true;
        /* The worst is what counts, and the first of its kind. */
        if (round->proof == proof || round->proof == PROOF_PASSED)
                return;
        round->proof = proof;
        round->hook = testimony->hook;
        round->destination = testimony->destination;
        (void)snprintf(round->detail, sizeof(round->detail), "a probe of %s to %s %s", hook_to_string(round->hook),
                       address_format(&round->destination, text), why_text);
}

static void round_devices(struct monitor *monitor, struct monitor_agent *agent, struct round *round)
{
        const struct monitor_devices *devices = agent->devices;

        if (!devices || devices->state != DEVICES_PRESENT)
                return;
        for (const struct monitor_device *device = devices->list; device; device = device->next)
                if (device->holds)
                        round_try(monitor, agent, probe_frame_is_ipv4(&device->entry) ? PROBE_PACKET4 : PROBE_PACKET6,
                                  &device->entry, round);
}

static void round_family(struct monitor *monitor, struct monitor_agent *agent, struct round *round)
{
        struct monitor_probe *probe = agent->probe;
        enum monitor_proof proof;
        char why_text[96] = "";
        __u64 now_ns = monitor_now();

        if (!monitor_lsm_present(monitor, NULL))
                return;
        if (now_ns < probe->family_due_ns && !probe->family_failed)
                return;
        probe->family_due_ns = now_ns + MONITOR_PROBE_FAMILY_MS * NSEC_PER_MSEC;
        probe->testimony = (struct monitor_testimony){.hook = HOOK_SOCKET_CREATE};
        proof = family_try(monitor, agent, why_text, sizeof(why_text));
        probe->family_failed = proof == PROOF_NONE || proof == PROOF_PASSED;
        if (proof == PROOF_NOTHING)
                return;
        round->tried[4] = true;
        round->failed[4] = proof != PROOF_REFUSED;
        if (proof == PROOF_REFUSED || round->proof == PROOF_PASSED || round->proof == proof)
                return;
        round->proof = proof;
        round->hook = HOOK_SOCKET_CREATE;
        (void)snprintf(round->detail, sizeof(round->detail), "a probe of socket_create %s", why_text);
}

static void round_run(struct monitor *monitor, struct monitor_agent *agent, struct round *round)
{
        struct monitor_probe *probe = agent->probe;
        struct timespec now;
        __u64 now_ns;

        *round = (struct round){.proof = PROOF_NONE};
        if (!probe->open)
                monitor_probe_prepare(monitor, agent);
        if (!probe->open)
                return;
        round->proof = PROOF_REFUSED;
        (void)monitor_events_consume(monitor); /* makes room for what is to come */
        for (int kind = 0; kind < PROBE_MAX; kind++)
                if (probe_is_possible(&probe->sockets, (enum probe_kind)kind))
                        round_try(monitor, agent, (enum probe_kind)kind, NULL, round);
        round_devices(monitor, agent, round);
        round_family(monitor, agent, round);
        probe->nothing = round->proof == PROOF_REFUSED && !(round->tried[1] && round->tried[2]);
        if (probe->nothing) {
                round->proof = PROOF_NONE;
                (void)snprintf(round->detail, sizeof(round->detail), "its policy denies nothing that could be tried");
        }

        memcpy(probe->detail, round->detail, sizeof(probe->detail));
        now_ns = monitor_now();
        for (int tier = 1; tier < MONITOR_PROBE_TIERS; tier++)
                if (round->tried[tier] && !round->failed[tier])
                        probe->tier_ns[tier] = now_ns;
        if (round->proof == PROOF_REFUSED && !agent->broken) {
                (void)clock_gettime(CLOCK_REALTIME, &now);
                agent->verified_ns = now_ns;
                agent->verified_real_ns = (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
        }
}

static void alarm_raise(struct monitor *monitor, struct monitor_agent *agent, const struct round *round)
{
        struct event event = {
                .type = EVENT_DRIFT,
                .ip_protocol = 255,
                .hook = round->hook,
                .has_destination = round->hook != HOOK_SOCKET_CREATE,
                .destination = round->destination,
                .destination_port = tier_of(round->hook) == 1 ? PROBE_PORT : 0,
        };

        agent->probe->passed = true;
        monitor->prober->passed++;
        monitor_event_fill(monitor, agent, &event);
        (void)snprintf(event.detail, sizeof(event.detail), "not enforced: tier %d: %.150s", tier_of(event.hook),
                       agent->probe->detail);
        monitor->drift[DRIFT_PROBE]++;
        event_bus_publish(monitor->bus, &event);
        log_error("agent '%s': %s", agent->name, event.detail);
}

enum monitor_proof monitor_probe_round(struct monitor *monitor, struct monitor_agent *agent)
{
        struct monitor_probe *probe = monitor->prober ? probe_of(agent) : NULL;
        struct round round;

        if (!probe)
                return PROOF_NONE;
        round_run(monitor, agent, &round);
        if (round.proof == PROOF_PASSED) {
                if (!probe->passed)
                        alarm_raise(monitor, agent, &round);
                monitor_hold(monitor, agent);
                /* What can be put right is put right now, and tried. */
                monitor_verify(monitor, agent);
                (void)monitor_publish(monitor, agent);
                round_run(monitor, agent, &round);
        }
        /* Not a link and not the agent's entry, then: its rules. */
        if (round.proof == PROOF_PASSED && agent->policy &&
            monitor_now() - agent->policy->written_ns > MONITOR_REWRITE_MS * NSEC_PER_MSEC &&
            monitor_policy_rewrite(monitor, agent->policy) == 0)
                round_run(monitor, agent, &round);
        if (round.proof == PROOF_REFUSED && probe->passed) {
                probe->passed = false;
                monitor_event(monitor, EVENT_LIFECYCLE, agent, REASON_NONE, "enforced again: a probe was refused");
        }
        return round.proof;
}

void monitor_probe_again(struct monitor_agent *agent)
{
        if (agent->probe)
                agent->probe->passed = false;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer)
{
        struct monitor_prober *prober = timer->data;
        struct monitor *monitor = prober->monitor;
        __u64 began_ns = monitor_now(), now_ns = began_ns;

        for (__u32 n = 0; n < AGENT_MAX && now_ns - began_ns < MONITOR_PROBE_SHARE_MS * NSEC_PER_MSEC; n++) {
                struct monitor_agent *agent = monitor->by_id[prober->next_id % AGENT_MAX];
                struct monitor_probe *probe = agent ? probe_of(agent) : NULL;

                prober->next_id++;
                if (!probe || now_ns < probe->due_ns)
                        continue;
                probe->due_ns = MAX(probe->due_ns + MONITOR_PROBE_MS * NSEC_PER_MSEC, now_ns);
                (void)monitor_probe_round(monitor, agent);
                now_ns = monitor_now();
        }
}

int monitor_prober_new(struct monitor *monitor)
{
        struct monitor_prober *prober = calloc(1, sizeof(*prober));
        int r;

        if (!prober)
                return -ENOMEM;
        prober->monitor = monitor;
        prober->netns_fd = -1;
        prober->next_id = 1;
        r = uv_timer_init(monitor->loop, &prober->timer);
        if (r < 0) {
                free(prober);
                return r;
        }
        prober->timer.data = prober;
        monitor->prober = prober;
        r = datapath_probes_clear(monitor->datapath);
        if (r < 0)
                return r;
        prober->netns_error = prober_new(&prober->netns_fd);
        if (prober->netns_error == 0)
                prober->netns_error = netns_cookie(prober->netns_fd, &prober->netns_cookie);
        if (prober->netns_error < 0)
                log_warning_errno(prober->netns_error, "no network namespace for probes: nothing can be verified");
        return uv_timer_start(&prober->timer, on_tick, MONITOR_PROBE_TICK_MS, MONITOR_PROBE_TICK_MS);
}

static void on_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void monitor_prober_free(struct monitor *monitor)
{
        struct monitor_prober *prober = monitor->prober;

        if (!prober)
                return;
        monitor->prober = NULL;
        close_fd(&prober->netns_fd);
        uv_close((uv_handle_t *)&prober->timer, on_closed);
}
