/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The supervisor with real workers (this program executed again) and with one that misbehaves: which one a copy is, its
 * path says. Needs root, as the worker's confinement does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agentd/dns/supervisor.h"
#include "agentd/dns/supervisor_link.h"
#include "agentd/dns/worker.h"
#include "tests/unit/dns/worker_rig.h"

static const char directory[] = "/tmp/agentd-supervisor-test";
static const char evil_path[] = "/tmp/agentd-supervisor-test/evil";
static const char silent_path[] = "/tmp/agentd-supervisor-test/silent";

struct world {
        struct rig rig; /* upstream and client; the supervisor is the monitor */
        uv_loop_t loop;
        struct dns_supervisor *supervisor;
        unsigned n_learned, n_refused, n_resolved, n_restarted;
        int learn_result;
        int last_status;
        __u64 asked_at_restart; /* by on_restarted(); 0: it shall not */
        struct message_learn learned;
        struct message_resolved resolved;
        struct message_refused refused;
        struct message_statistics statistics;
};

static int on_learn(void *context, const struct message_learn *message)
{
        struct world *world = context;

        world->n_learned++;
        world->learned = *message;
        return world->learn_result;
}

static void on_refused(void *context, const struct message_refused *message)
{
        struct world *world = context;

        world->n_refused++;
        world->refused = *message;
}

static void on_resolved(void *context, const struct message_resolved *message)
{
        struct world *world = context;

        world->n_resolved++;
        world->resolved = *message;
}

static int on_upstream(void *context, const struct message_ask_upstream *message)
{
        return -ENETUNREACH;
}

static void on_statistics(void *context, const struct message_statistics *message)
{
        ((struct world *)context)->statistics = *message;
}

static void on_restarted(void *context, int status)
{
        struct world *world = context;

        world->n_restarted++;
        world->last_status = status;
        if (world->asked_at_restart) {
                assert_int_equal(dns_supervisor_pid(world->supervisor), 0);
                assert_int_equal(
                        dns_supervisor_resolve(world->supervisor, RIG_POLICY, "evil.test", &world->asked_at_restart),
                        0);
        }
}

static const struct dns_supervisor_callbacks callbacks = {
        .learn = on_learn,
        .refused = on_refused,
        .resolved = on_resolved,
        .upstream = on_upstream,
        .statistics = on_statistics,
        .restarted = on_restarted,
};

static char upstream_text[64];
static char *upstream_list[] = {upstream_text};

static struct dns_settings settings_for(const struct world *world)
{
        snprintf(upstream_text, sizeof(upstream_text), "127.0.0.1@%u", world->rig.upstream_port);
        return (struct dns_settings){
                .upstreams = upstream_list, .n_upstreams = 1, .min_ttl_s = 30, .max_ttl_s = 3600, .grace_s = 60};
}

static int set_up(void **state)
{
        static struct world world;

        if (geteuid() != 0) {
                print_message("needs root: the worker changes its root and its user\n");
                *state = NULL;
                return 0;
        }
        memset(&world, 0, sizeof(world));
        assert_int_equal(uv_loop_init(&world.loop), 0);
        rig_open(&world.rig);
        *state = &world;
        return 0;
}

static int tear_down(void **state)
{
        struct world *world = *state;

        if (!world)
                return 0;
        dns_supervisor_free(world->supervisor);
        rig_stop(&world->rig);
        uv_run(&world->loop, UV_RUN_DEFAULT);
        return uv_loop_close(&world->loop);
}

/* An agent whose policy allows allowed.test and *.wild.test, with a listener. */
static void give_agent(struct world *world)
{
        struct rule rules[] = {{.domain = (char *)"allowed.test"},
                               {.domain = (char *)"*.wild.test"},
                               {.domain = (char *)"no.wild.test", .deny = true},
                               {.domain = NULL}};
        struct policy policy = {.name = (char *)"p", .rules = rules, .n_rules = ARRAY_SIZE(rules)};
        struct compiled_policy compiled = {.policy = &policy};
        struct message_agent agent = {.agent_id = RIG_AGENT, .policy_id = RIG_POLICY};
        int fds[4] = {-1, -1, -1, -1};

        assert_int_equal(dns_supervisor_policy(world->supervisor, RIG_POLICY, &compiled), 0);
        assert_int_equal(dns_supervisor_agent(world->supervisor, &agent), 0);
        bound_pair(&fds[0], &fds[1], &world->rig.listener_port);
        assert_int_equal(dns_supervisor_listener(world->supervisor, RIG_AGENT, RIG_LISTENER, fds), 0);
        assert_int_equal(fds[0], -1);
        world->rig.client = connected_socket(SOCK_DGRAM, world->rig.listener_port);
}

static struct world *started(void **state)
{
        struct world *world = *state;
        struct dns_settings settings;

        if (!world)
                skip();
        settings = settings_for(world);
        assert_int_equal(
                dns_supervisor_new(&world->loop, "/proc/self/exe", &settings, &callbacks, world, &world->supervisor),
                0);
        give_agent(world);
        return world;
}

static void give_up(uv_timer_t *timer)
{
        fail_msg("what the loop was run for does not happen");
}

static void wake_up(uv_poll_t *poll, int status, int events)
{
        *(bool *)poll->data = true;
}

static bool is_readable(int fd)
{
        struct pollfd readable = {.fd = fd, .events = POLLIN};

        return poll(&readable, 1, 0) == 1;
}

/* Runs the loop until fd (-1: none) is readable or *counter has reached wanted. */
static void run_until(struct world *world, int fd, const unsigned *counter, unsigned wanted)
{
        uv_timer_t timer;
        uv_poll_t watch;
        bool readable = false;

        uv_timer_init(&world->loop, &timer);
        uv_timer_start(&timer, give_up, RIG_WAIT_MS, 0);
        if (fd >= 0) {
                uv_poll_init(&world->loop, &watch, fd);
                watch.data = &readable;
                uv_poll_start(&watch, UV_READABLE, wake_up);
        }
        while (fd >= 0 ? !is_readable(fd) : *counter < wanted)
                uv_run(&world->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&timer, NULL);
        if (fd >= 0)
                uv_close((uv_handle_t *)&watch, NULL);
        uv_run(&world->loop, UV_RUN_NOWAIT);
}

static void ask_refused(struct world *world, __u16 id)
{
        client_ask(&world->rig, &(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = id});
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, id, DNS_NXDOMAIN, 0);
}

static void asks_the_monitor_and_answers_after_its_yes(void **state)
{
        struct world *world = started(state);

        client_ask(&world->rig, &(struct question){.name = "a.wild.test", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(&world->rig, "a.wild.test", DNS_TYPE_A, 0, "a.wild.test. 60 IN A 192.0.2.1");
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 1, DNS_NOERROR, 1);
        assert_int_equal(world->n_learned, 1);
        assert_string_equal(world->learned.name, "a.wild.test");

        client_ask(&world->rig, &(struct question){.name = "no.wild.test", .type = DNS_TYPE_A, .id = 2});
        run_until(world, -1, &world->n_refused, 1);
        assert_int_equal(world->refused.reason, REASON_DENY_RULE);
        expect_reply(&world->rig, 2, DNS_NXDOMAIN, 0);

        world->learn_result = -ENOSPC;
        client_ask(&world->rig, &(struct question){.name = "b.wild.test", .type = DNS_TYPE_A, .id = 3});
        upstream_answer(&world->rig, "b.wild.test", DNS_TYPE_A, 0, "b.wild.test. 60 IN A 192.0.2.1");
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 3, DNS_SERVFAIL, 0);
}

static void a_dead_worker_is_replaced_and_a_question_asked_meanwhile_is_answered(void **state)
{
        struct world *world = started(state);
        pid_t first;

        ask_refused(world, 1);
        first = dns_supervisor_pid(world->supervisor);
        assert_int_equal(kill(first, SIGALRM), 0);
        client_ask(&world->rig, &(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = 2});
        run_until(world, -1, &world->n_restarted, 1);
        assert_true(WIFSIGNALED(world->last_status));
        assert_int_equal(WTERMSIG(world->last_status), SIGALRM);
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 2, DNS_NXDOMAIN, 0);
        assert_int_equal(dns_supervisor_restarts(world->supervisor), 1);
        assert_int_not_equal(dns_supervisor_pid(world->supervisor), first);
}

static void a_worker_that_stands_still_is_replaced(void **state)
{
        struct world *world = started(state);
        pid_t first;

        ask_refused(world, 1);
        first = dns_supervisor_pid(world->supervisor);
        assert_int_equal(kill(first, SIGSTOP), 0);
        for (unsigned i = 0; i < 10; i++)
                link_look(world->supervisor);
        assert_int_equal(world->n_restarted, 0);
        link_look(world->supervisor);
        assert_int_equal(world->n_restarted, 1);
        client_ask(&world->rig, &(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = 2});
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 2, DNS_NXDOMAIN, 0);
        assert_int_not_equal(dns_supervisor_pid(world->supervisor), first);
}

static void a_worker_with_nothing_to_do_is_heard_of(void **state)
{
        struct world *world = started(state);
        pid_t first = dns_supervisor_pid(world->supervisor);

        for (unsigned i = 0; i < 2; i++) {
                for (unsigned looks = 0; looks < 7; looks++) /* and the supervisor looks by itself */
                        link_look(world->supervisor);
                while (world->supervisor->link->silent > 0)
                        uv_run(&world->loop, UV_RUN_ONCE);
        }
        assert_int_equal(dns_supervisor_pid(world->supervisor), first);
        assert_int_equal(world->n_restarted, 0);
}

static void what_a_dead_worker_was_asked_is_told_to_have_failed(void **state)
{
        struct world *world = started(state);
        struct packet query;
        __u64 id = 0;

        assert_int_equal(dns_supervisor_resolve(world->supervisor, RIG_POLICY, "allowed.test", &id), 0);
        upstream_take(&world->rig, &query);
        world->asked_at_restart = id;
        assert_int_equal(kill(dns_supervisor_pid(world->supervisor), SIGKILL), 0);
        while (world->n_resolved == 0)
                uv_run(&world->loop, UV_RUN_ONCE);
        assert_int_equal(world->resolved.header.id, id);
        assert_int_equal(world->resolved.error, -EAGAIN);
        assert_string_equal(world->resolved.name, "allowed.test");

        /* Asked between two workers: the next one does it. */
        run_until(world, -1, &world->n_resolved, 2);
        assert_int_equal(world->resolved.header.id, world->asked_at_restart);
        assert_int_not_equal(world->resolved.header.id, id);
        assert_int_equal(world->resolved.error, -ENOENT);
}

static void settings_that_do_not_work_leave_the_old_ones(void **state)
{
        static char *as_asked[] = {(char *)"as-asked"}, *nonsense[] = {(char *)"resolver.example"};
        struct world *world = started(state);
        struct dns_settings bad = settings_for(world);
        pid_t pid = dns_supervisor_pid(world->supervisor);

        bad.upstreams = as_asked;
        bad.dnssec = true;
        assert_int_equal(dns_supervisor_settings(world->supervisor, &bad), -EINVAL);
        bad.upstreams = nonsense;
        bad.dnssec = false;
        assert_int_equal(dns_supervisor_settings(world->supervisor, &bad), -EINVAL);
        assert_int_equal(dns_supervisor_pid(world->supervisor), pid);
        ask_refused(world, 1);
        assert_int_equal(world->n_restarted, 0);
}

static void settings_are_taken_with_and_without_a_new_worker(void **state)
{
        struct world *world = started(state);
        struct dns_settings settings = settings_for(world);
        pid_t pid = dns_supervisor_pid(world->supervisor);
        struct rig other;

        settings.blocked = DNS_BLOCKED_REFUSED;
        assert_int_equal(dns_supervisor_settings(world->supervisor, &settings), 0);
        assert_int_equal(dns_supervisor_pid(world->supervisor), pid);

        rig_open(&other);
        snprintf(upstream_text, sizeof(upstream_text), "127.0.0.1@%u", other.upstream_port);
        assert_int_equal(dns_supervisor_settings(world->supervisor, &settings), 0);
        assert_int_not_equal(dns_supervisor_pid(world->supervisor), pid);
        assert_int_equal(world->n_restarted, 0);
        client_ask(&world->rig, &(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = 1});
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 1, DNS_REFUSED, 0);
        client_ask(&world->rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 2});
        upstream_answer(&other, "allowed.test", DNS_TYPE_A, 0, "allowed.test. 60 IN A 192.0.2.1");
        run_until(world, world->rig.client, NULL, 0);
        expect_reply(&world->rig, 2, DNS_NOERROR, 1);
        close(other.upstream_udp);
        close(other.upstream_tcp);
}

static void statistics_arrive(void **state)
{
        struct world *world = started(state);

        ask_refused(world, 1);
        while (world->statistics.outcomes[DNS_OUTCOME_REFUSED] == 0)
                uv_run(&world->loop, UV_RUN_ONCE);
        assert_int_equal(world->statistics.agent_id, RIG_AGENT);
        assert_int_equal(world->statistics.outcomes[DNS_OUTCOME_REFUSED], 1);
}

static void a_worker_that_sends_nonsense_is_replaced(void **state)
{
        struct world *world = *state;
        struct dns_settings settings;

        if (!world)
                skip();
        settings = settings_for(world);
        assert_int_equal(dns_supervisor_new(&world->loop, evil_path, &settings, &callbacks, world, &world->supervisor),
                         0);
        run_until(world, -1, &world->n_restarted, 2);
        assert_int_equal(world->n_learned, 0);
}

static void a_worker_that_does_not_start_is_an_error(void **state)
{
        struct world *world = *state;
        struct dns_settings settings;

        if (!world)
                skip();
        settings = settings_for(world);
        /* Ends with a status: the errno of its failure. */
        assert_int_equal(
                dns_supervisor_new(&world->loop, silent_path, &settings, &callbacks, world, &world->supervisor),
                -ENOKEY);
        assert_int_equal(
                dns_supervisor_new(&world->loop, "/nonexistent", &settings, &callbacks, world, &world->supervisor),
                -ENOENT);
        assert_null(world->supervisor);
}

/* Last: hides the trust anchors from this process for good (in its own mount namespace). */
static void dnssec_without_a_trust_anchor_is_an_error(void **state)
{
        static const char *const places[] = {"/usr/share/dns", "/var/lib/unbound"};
        struct world *world = *state;
        struct dns_settings settings;

        if (!world)
                skip();
        settings = settings_for(world);
        settings.dnssec = true;
        assert_int_equal(
                dns_supervisor_new(&world->loop, "/proc/self/exe", &settings, &callbacks, world, &world->supervisor),
                0);
        dns_supervisor_free(world->supervisor);
        world->supervisor = NULL;

        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(places); i++)
                if (access(places[i], F_OK) == 0)
                        assert_int_equal(mount("none", places[i], "tmpfs", 0, NULL), 0);
        assert_int_equal(
                dns_supervisor_new(&world->loop, "/proc/self/exe", &settings, &callbacks, world, &world->supervisor),
                -ENOKEY);
        assert_null(world->supervisor);
}

static int evil_worker(int fd)
{
        struct message_header ready = {MESSAGE_READY, sizeof(ready), 0};
        struct message_learn learn = {.header = {MESSAGE_LEARN, sizeof(learn), 1},
                                      .agent_id = RIG_AGENT,
                                      .policy_id = RIG_POLICY,
                                      .n_addresses = MESSAGE_ADDRESSES_MAX + 1,
                                      .name = "allowed.test"};
        union message message;

        wait_readable(fd, "the settings");
        if (channel_receive(fd, &message, NULL, NULL) < 0 || send(fd, &ready, sizeof(ready), 0) < 0 ||
            send(fd, &learn, sizeof(learn), 0) < 0)
                return 1;
        for (;;)
                pause();
}

#define SUPERVISOR_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                SUPERVISOR_TEST(asks_the_monitor_and_answers_after_its_yes),
                SUPERVISOR_TEST(a_dead_worker_is_replaced_and_a_question_asked_meanwhile_is_answered),
                SUPERVISOR_TEST(a_worker_that_stands_still_is_replaced),
                SUPERVISOR_TEST(a_worker_with_nothing_to_do_is_heard_of),
                SUPERVISOR_TEST(what_a_dead_worker_was_asked_is_told_to_have_failed),
                SUPERVISOR_TEST(settings_that_do_not_work_leave_the_old_ones),
                SUPERVISOR_TEST(settings_are_taken_with_and_without_a_new_worker),
                SUPERVISOR_TEST(statistics_arrive),
                SUPERVISOR_TEST(a_worker_that_sends_nonsense_is_replaced),
                SUPERVISOR_TEST(a_worker_that_does_not_start_is_an_error),
                SUPERVISOR_TEST(dnssec_without_a_trust_anchor_is_an_error),
        };
        const char *path = (const char *)getauxval(AT_EXECFN);
        char self[256] = {0};
        int failed;

        if (argc == 2 && strcmp(argv[1], "dns-worker") == 0) {
                if (strcmp(path, evil_path) == 0)
                        return evil_worker(3);
                if (strcmp(path, silent_path) == 0)
                        _exit(ENOKEY);
                return dns_worker_main(3);
        }
        if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
                return 1;
        (void)mkdir(directory, 0700);
        (void)unlink(evil_path);
        (void)unlink(silent_path);
        if (symlink(self, evil_path) < 0 || symlink(self, silent_path) < 0)
                return 1;
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        (void)unlink(evil_path);
        (void)unlink(silent_path);
        (void)rmdir(directory);
        return failed;
}
