/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sets of limits in the real pinned maps: given out, adopted, swept; their leases back in the ledgers; and sums that
 * stay exact while senders, sweeps and edits change the same words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/bpf_ledger.h"
#include "tests/lib/bpf_scene.h"

static void a_run_of_sets_is_the_first_that_fits(void **state)
{
        static struct limit_set sets[LIMIT_SETS_MAX];
        struct datapath_limits a, b, c, d, all, none = {0};
        struct bpf_world *world = *state;
        __u32 id;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_DAY, MIB);
        for (size_t i = 0; i < LIMIT_SETS_MAX; i++)
                sets[i] = (struct limit_set){.agent_id = 7, .ledgers = {{(__u16)id}}};

        a = ledger_sets(world, sets, 3);
        b = ledger_sets(world, sets, 2);
        c = ledger_sets(world, sets, 4);
        assert_int_equal(a.first, 1);
        assert_int_equal(b.first, 4);
        assert_int_equal(c.first, 6);
        datapath_limits_free(world->datapath, b);
        d = ledger_sets(world, sets, 3);
        assert_int_equal(d.first, 10);
        b = ledger_sets(world, sets, 1);
        assert_int_equal(b.first, 4);
        assert_int_equal(datapath_limits_make(world->datapath, sets, LIMIT_SETS_MAX - 12, &none), -ENOSPC);
        assert_int_equal(none.count, 0);
        assert_int_equal(datapath_limits_make(world->datapath, sets, 0, &none), -EINVAL);
        all = ledger_sets(world, sets, LIMIT_SETS_MAX - 13);
        assert_int_equal(all.first, 13);
        datapath_limits_free(world->datapath, all);
        datapath_limits_free(world->datapath, all);
        assert_int_equal(ledger_tables(world)->sets_end, 13);
        assert_int_equal(ledger_tables(world)->sets[12].agent_id, 7);
        assert_int_equal(ledger_tables(world)->sets[13].agent_id, 0);
        assert_int_equal(ledger_tables(world)->sets[13].ledgers[0][0], 0);

        datapath_limits_free(world->datapath, a);
        datapath_limits_free(world->datapath, d);
        datapath_limits_free(world->datapath, c);
        datapath_limits_free(world->datapath, b);
        datapath_limits_free(world->datapath, none);
        assert_int_equal(ledger_tables(world)->sets_end, 1);
        datapath_ledger_put(world->datapath, id);

        /* what is nobody's is in no set */
        assert_int_equal(datapath_limits_make(world->datapath, sets, 1, &none), -EINVAL);
        assert_int_equal(datapath_limits_make(world->datapath, &(struct limit_set){.buckets = {0, 5}}, 1, &none),
                         -EINVAL);
        assert_int_equal(
                datapath_limits_make(world->datapath, &(struct limit_set){.ledgers = {{0}, {LEDGERS_MAX}}}, 1, &none),
                -EINVAL);
}

static void a_ledgers_range_holds_all_its_sets_and_shrinks_with_them(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits runs[5];
        static const struct {
                int free; /* which run goes */
                __u32 first, end;
        } cases[] = {{1, 1, 6}, {4, 1, 5}, {0, 4, 5}, {3, 0, 0}};
        const struct ledger *ledger;
        __u32 id;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_DAY, MIB);
        ledger = &ledger_tables(world)->ledgers[id];
        assert_int_equal(ledger->end_set, 0);
        for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
                /* the third does not hold it; others in either direction */
                struct limit_set set = {.agent_id = 1};

                if (i != 2)
                        set.ledgers[i % 2][0] = (__u16)id;
                runs[i] = ledger_sets(world, &set, 1);
                assert_int_equal(runs[i].first, i + 1);
                assert_int_equal(ledger->first_set, 1);
                assert_int_equal(ledger->end_set, i == 2 ? 3 : i + 2);
        }
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                datapath_limits_free(world->datapath, runs[cases[i].free]);
                assert_int_equal(ledger->first_set, cases[i].first);
                assert_int_equal(ledger->end_set, cases[i].end);
        }
        datapath_limits_free(world->datapath, runs[2]);
        datapath_ledger_put(world->datapath, id);
}

static void a_lease_goes_back_only_in_the_window_that_it_came_from(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        __u32 hour, day, total;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        hour = ledger_new(world, "hour", PERIOD_HOUR, MIB);
        day = ledger_new(world, "day", PERIOD_DAY, MIB);
        total = ledger_new(world, "total", PERIOD_TOTAL, MIB);
        limits = ledger_sets(world, &(struct limit_set){.ledgers = {{(__u16)hour, (__u16)day, (__u16)total}}}, 1);
        ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 1000);
        ledger_clock(world, NOON + HOUR);
        ledger_charge(world, hour, 5000);
        datapath_limits_free(world->datapath, limits);
        assert_int_equal(ledger_read(world, hour).charged, 5000);
        assert_int_equal(ledger_read(world, day).charged, 0);
        assert_int_equal(ledger_read(world, total).charged, 0);
        assert_int_equal(ledger_lease_bytes(world, 0, limits.first, DIRECTION_EGRESS), 0);
        datapath_ledger_put(world->datapath, hour);
        datapath_ledger_put(world->datapath, day);
        datapath_ledger_put(world->datapath, total);
}

/* --- a daemon's death --- */

static void note_key(void *context, const char *key, const struct ledger_reading *found)
{
        __u64 *used = context;

        assert_true(strcmp(key, "dropped") == 0 || strcmp(key, "reached") == 0);
        used[key[0] == 'r'] += found->used + 1;
}

static void a_new_daemon_finds_what_was_used(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits, fresh, adopted;
        struct limit_set former[2] = {0};
        __u32 kept, dropped, reached, kept_bucket, dropped_bucket, id;
        struct bpf_policy *policy;
        __u64 unclaimed[2] = {0};
        struct scene scene;
        bool made;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, &(struct bpf_rule){"198.51.100.0/24", false, PROTOCOL_UDP, 0, 65535}, 1);

        kept = ledger_new(world, "kept", PERIOD_DAY, 1000);
        dropped = ledger_new(world, "dropped", PERIOD_DAY, 1000);
        reached = ledger_new(world, "reached", PERIOD_DAY, MIB);
        assert_int_equal(datapath_bucket_get(world->datapath, "kept", 1, 1, &kept_bucket), 0);
        assert_int_equal(datapath_bucket_get(world->datapath, "dropped", 1, 1, &dropped_bucket), 0);
        ledger_charge(world, kept, 600);
        ledger_charge(world, dropped, 30);
        limits = ledger_sets(world,
                             (struct limit_set[]){{.ledgers = {{(__u16)reached}}},
                                                  {.ledgers = {{(__u16)kept}}},
                                                  {.ledgers = {{(__u16)kept, (__u16)dropped}}}},
                             3);
        /* the agent is led to the first two; the third is what a daemon leaves that dies while it publishes */
        datapath_agent_publish_limits(world->datapath, SCENE_AGENT, policy->version, 0,
                                      (struct datapath_limits){limits.first, 2});
        ledger_lease_put(world, 0, limits.first + 2u, DIRECTION_EGRESS, 50);
        assert_int_equal(ledger_read(world, kept).charged, 650);

        former[0].ledgers[0][0] = (__u16)reached;
        former[1].ledgers[0][0] = (__u16)kept;
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(datapath_ledger_get(world->datapath, "kept", PERIOD_DAY, 0, 1000, &id, &made), 0);
        assert_int_equal(id, kept);
        assert_false(made);
        assert_int_equal(ledger_read(world, kept).used, 600);
        assert_int_equal(datapath_ledger_get(world->datapath, "kept", PERIOD_HOUR, 0, 1000, &id, &made), -EINVAL);
        assert_int_equal(datapath_bucket_get(world->datapath, "kept", 1, 1, &id), 0);
        assert_int_equal(id, kept_bucket);

        /* a run that the new one would make alike for the agent goes on, and only such a one */
        former[1].ledgers[0][1] = 1;
        assert_int_equal(datapath_limits_adopt_run(world->datapath, SCENE_AGENT, former, 2, &adopted), -ENOENT);
        former[1].ledgers[0][1] = 0;
        assert_int_equal(datapath_limits_adopt_run(world->datapath, SCENE_AGENT, former, 1, &adopted), -ENOENT);
        assert_int_equal(datapath_limits_adopt_run(world->datapath, SCENE_AGENT, former, 2, &adopted), 0);
        assert_int_equal(adopted.first, limits.first);
        for (__u32 i = 0; i < 3; i++)
                assert_int_equal(ledger_tables(world)->set_states[limits.first + i], i < 2 ? SET_OWN : SET_FORMER);
        assert_int_equal(datapath_limits_adopt_run(world->datapath, SCENE_AGENT, former, 2, &adopted), -ENOENT);
        memset(&ledger_tables(world)->set_states[limits.first], SET_FORMER, 2);

        /* nothing of the old one's is given out before the sweep */
        fresh = ledger_sets(world, (struct limit_set[]){{.agent_id = 1}, {.ledgers = {{(__u16)kept}}}}, 2);
        assert_int_equal(fresh.first, limits.first + 3);
        id = ledger_new(world, "new", PERIOD_DAY, 1000);
        assert_true(id != kept && id != dropped && id != reached);
        datapath_ledger_put(world->datapath, id);

        datapath_ledgers_unclaimed(world->datapath, note_key, unclaimed);
        assert_int_equal(unclaimed[0], 30 + 1);
        assert_int_equal(unclaimed[1], 0 + 1);
        datapath_limits_sweep(world->datapath);
        assert_int_equal(ledger_read(world, kept).charged, 600);
        assert_null(datapath_limit_find(world->datapath, LIMIT_LEDGER, "dropped"));
        assert_null(datapath_limit_find(world->datapath, LIMIT_BUCKET, "dropped"));
        assert_int_equal(ledger_tables(world)->ledgers[dropped].end_set, 0);
        assert_int_equal(ledger_tables(world)->set_states[limits.first + 2], SET_FREE);
        /* the agent has not been published anew */
        assert_non_null(datapath_limit_find(world->datapath, LIMIT_LEDGER, "reached"));
        assert_int_equal(ledger_tables(world)->sets[limits.first].ledgers[0][0], reached);
        assert_int_equal(ledger_tables(world)->ledgers[kept].first_set, limits.first + 1);

        datapath_agent_publish_limits(world->datapath, SCENE_AGENT, policy->version, 0, fresh);
        datapath_limits_sweep(world->datapath);
        assert_null(datapath_limit_find(world->datapath, LIMIT_LEDGER, "reached"));
        assert_int_equal(ledger_tables(world)->sets[limits.first].ledgers[0][0], 0);
        assert_int_equal(ledger_tables(world)->ledgers[kept].first_set, fresh.first + 1);
        assert_int_equal(ledger_read(world, kept).used, 600);

        /* and what was swept is swept for the next one as well */
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_null(datapath_limit_find(world->datapath, LIMIT_LEDGER, "dropped"));
        assert_non_null(datapath_limit_find(world->datapath, LIMIT_LEDGER, "kept"));
        bpf_policy_free(policy);
        scene_leave(&scene);
        datapath_limits_sweep(world->datapath);
        assert_null(ledger_tables(world)->slots);
        assert_int_equal(ledger_tables(world)->sets_end, 1);
}

static void an_id_that_a_former_set_holds_is_given_to_nobody(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        __u32 id, bucket, fresh;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_DAY, 1000);
        assert_int_equal(datapath_bucket_get(world->datapath, "k", 1, 1, &bucket), 0);
        limits = ledger_sets(world, &(struct limit_set){.ledgers = {{0}, {(__u16)id}}, .buckets = {(__u16)bucket}}, 1);
        ledger_tables(world)->ledgers[id].end_set = 0;
        datapath_limit_drop(world->datapath, ledger_tables(world)->by_id[LIMIT_LEDGER][id]);
        datapath_limit_drop(world->datapath, ledger_tables(world)->by_id[LIMIT_BUCKET][bucket]);
        assert_int_equal(bpf_world_reopen(world), 0);

        ledger_tables(world)->next_id[LIMIT_LEDGER] = id;
        ledger_tables(world)->next_id[LIMIT_BUCKET] = bucket;
        fresh = ledger_new(world, "fresh", PERIOD_DAY, 1000);
        assert_int_not_equal(fresh, id);
        datapath_ledger_put(world->datapath, fresh);
        assert_int_equal(datapath_bucket_get(world->datapath, "fresh", 1, 1, &fresh), 0);
        assert_int_not_equal(fresh, bucket);
        datapath_bucket_put(world->datapath, fresh);

        datapath_limits_sweep(world->datapath);
        assert_int_equal(ledger_tables(world)->sets[limits.first].ledgers[1][0], 0);
        ledger_tables(world)->next_id[LIMIT_LEDGER] = id;
        assert_int_equal(ledger_new(world, "fresh", PERIOD_DAY, 1000), id);
        datapath_ledger_put(world->datapath, id);
}

static void damaged_keys_are_an_error_and_no_silent_zero(void **state)
{
        static const struct {
                __u8 kind;
                const char *key;
                __u32 id;
                __u8 period;
        } cases[] = {
                {0, "k", 5, 0},
                {LIMIT_BUCKET + 1, "k", 5, 0},
                {LIMIT_LEDGER, "k", 0, 0},
                {LIMIT_LEDGER, "", 5, 0},
                {LIMIT_LEDGER, "k", LEDGERS_MAX, 0},
                {LIMIT_BUCKET, "k", ~0u, 0},
                {LIMIT_LEDGER, "k", 6, 0},
                {LIMIT_LEDGER, "k", 5, PERIOD_MAX},
        };
        struct bpf_world *world = *state;

        if (!world)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int fd = bpf_map__fd(world->datapath->skeleton->maps.limit_ids), copy;
                struct limit_id_key key = {.kind = LIMIT_LEDGER, .key = "twin"};
                __u32 id = 6;

                assert_int_equal(bpf_map_update_elem(fd, &key, &id, BPF_ANY), 0);
                key = (struct limit_id_key){.kind = cases[i].kind};
                memcpy(key.key, cases[i].key, strlen(cases[i].key));
                assert_int_equal(bpf_map_update_elem(fd, &key, &cases[i].id, BPF_ANY), 0);
                ledger_tables(world)->ledgers[5].period = cases[i].period;
                copy = dup(fd);

                memset(world->error.text, 0, sizeof(world->error.text));
                assert_int_equal(bpf_world_reopen(world), -EBADMSG);
                assert_null(world->datapath);
                assert_non_null(strstr(world->error.text, "agentd uninstall"));

                assert_int_equal(bpf_map_delete_elem(copy, &key), 0);
                close(copy);
                assert_int_equal(bpf_world_reopen(world), 0);
                ledger_tables(world)->ledgers[5].period = 0;
                datapath_limits_sweep(world->datapath);
                assert_null(ledger_tables(world)->slots);
        }
}

static void a_packet_is_charged_to_what_was_made(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        cpu_set_t every_cpu, first_cpu;
        struct bpf_policy *policy;
        struct scene scene;
        __u64 each = 0;
        __u32 id;
        int fd;

        if (!world)
                skip();
        assert_int_equal(bpf_map__max_entries(world->datapath->skeleton->maps.leases),
                         LIMIT_SETS_MAX * (__u32)world->datapath->n_cpus);
        ledger_clock(world, NOON);
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        assert_int_equal(sched_getaffinity(0, sizeof(every_cpu), &every_cpu), 0);
        policy = scene_publish(&scene, &(struct bpf_rule){"198.51.100.0/24", false, PROTOCOL_UDP, 0, 65535}, 1);
        id = ledger_new(world, "k", PERIOD_DAY, 64 * MIB);
        limits = ledger_sets(world, &(struct limit_set){.ledgers = {{(__u16)id}}, .agent_id = SCENE_AGENT}, 1);
        datapath_agent_publish_limits(world->datapath, SCENE_AGENT, policy->version, 0, limits);
        fd = scene_socket(&scene, SOCK_DGRAM);

        for (unsigned i = 1; i <= 100; i++) {
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
                if (i == 1) { /* 20 of IPv4, 8 of UDP, and what scene_send() says */
                        each = ledger_read(world, id).used;
                        assert_in_range(each, 29, 100);
                        assert_true(ledger_read(world, id).charged > each);
                }
        }
        assert_int_equal(scene_arrived(&scene), 100);
        assert_int_equal(ledger_read(world, id).used, 100 * each);

        /* cut off while a CPU holds a lease */
        datapath_ledger_set_limit(world->datapath, id, ledger_read(world, id).used);
        assert_int_equal(ledger_read(world, id).charged, ledger_read(world, id).limit);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(ledger_read(world, id).told & TOLD_100, TOLD_100);
        assert_int_equal(datapath_ledger_reset(world->datapath, id), 100 * each);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_arrived(&scene), 1);

        /* all that is left lies with another CPU, which is idle: the program fetches it */
        CPU_ZERO(&first_cpu);
        CPU_SET(0, &first_cpu);
        (void)sched_setaffinity(0, sizeof(first_cpu), &first_cpu);
        datapath_ledger_set_limit(world->datapath, id, each + 3000);
        assert_int_equal(ledger_read(world, id).charged, each);
        ledger_lease_put(world, ledger_tables(world)->n_cpus - 1, limits.first, DIRECTION_EGRESS, 3000);
        assert_true(ledger_is_spent(world, id));
        ledger_tables(world)->ledgers[id].swept_jiffies = 0;
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(ledger_read(world, id).used, 2 * each);
        (void)sched_setaffinity(0, sizeof(every_cpu), &every_cpu);
        close(fd);

        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, 0);
        datapath_limits_free(world->datapath, limits);
        datapath_ledger_put(world->datapath, id);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

struct sender {
        struct bpf_world *world;
        __u32 cpu, set;
        _Atomic __u64 sent;
        __u64 refused;
        atomic_bool *stop;
};

static void *send_packets(void *context)
{
        struct sender *sender = context;
        __u64 now = scene_now_ns(), random = sender->cpu + 1;

        for (__u64 i = 0; !atomic_load(sender->stop); i++) {
                __u32 bytes;

                random = random * 6364136223846793005ull + 1442695040888963407ull;
                bytes = (__u32)(random >> 33) % 60000 + 40;
                if (ledger_packet(sender->world, sender->cpu, sender->set, bytes, now, 1 + i / 64))
                        sender->sent += bytes;
                else
                        sender->refused++;
        }
        return NULL;
}

static void the_sum_is_exact_while_everything_moves(void **state)
{
        enum { SENDERS = 2, ROUNDS = 3000 };
        struct bpf_world *world = *state;
        struct sender senders[SENDERS];
        struct datapath_limits limits, others;
        pthread_t threads[SENDERS];
        atomic_bool stop = false;
        __u64 sum = 0;
        __u32 own[SENDERS], shared;
        struct limit_set sets[SENDERS] = {0};

        if (!world)
                skip();
        if (ledger_tables(world)->n_cpus < SENDERS) {
                print_message("one CPU: nothing moves at once\n");
                skip();
        }
        ledger_clock(world, NOON);
        shared = ledger_new(world, "shared", PERIOD_DAY, 1ull << 40);
        for (__u32 i = 0; i < SENDERS; i++) {
                char key[16];

                snprintf(key, sizeof(key), "own-%u", i);
                own[i] = ledger_new(world, key, PERIOD_TOTAL, 1ull << 40);
                sets[i] = (struct limit_set){.ledgers = {{(__u16)own[i], (__u16)shared}}};
        }
        limits = ledger_sets(world, sets, SENDERS);
        for (__u32 i = 0; i < SENDERS; i++) {
                senders[i] = (struct sender){world, i, limits.first + i, 0, 0, &stop};
                assert_int_equal(pthread_create(&threads[i], NULL, send_packets, &senders[i]), 0);
        }

        for (int round = 0; round < ROUNDS; round++) {
                struct ledger_reading read = ledger_read(world, shared);

                assert_true(read.charged <= (1ull << 40));
                /* just what is used: senders stop there, and go on when it rises again */
                datapath_ledger_set_limit(world->datapath, shared, MAX(read.used, 1ull));
                others = ledger_sets(world, &sets[round % SENDERS], 1);
                read = ledger_read(world, shared);
                assert_true(read.used <= read.charged);
                datapath_limits_free(world->datapath, others);
                datapath_ledger_set_limit(world->datapath, own[round % SENDERS], 1ull << 39);
                datapath_ledger_set_limit(world->datapath, own[round % SENDERS], 1ull << 40);
                assert_int_equal(datapath_ledger_grant(world->datapath, shared, 1), 0);
                datapath_ledger_set_limit(world->datapath, shared, 1ull << 40);
        }
        /* on a busy machine one may not have begun yet */
        for (__u32 i = 0; i < SENDERS; i++)
                while (atomic_load(&senders[i].sent) == 0)
                        sched_yield();
        atomic_store(&stop, true);
        for (__u32 i = 0; i < SENDERS; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                sum += senders[i].sent;
                assert_true(senders[i].sent > 0);
                assert_int_equal(ledger_read(world, own[i]).used, senders[i].sent);
        }
        print_message("%llu MiB sent, %llu and %llu packets refused\n", sum >> 20, senders[0].refused,
                      senders[1].refused);
        assert_int_equal(ledger_read(world, shared).used, sum);
        datapath_limits_free(world->datapath, limits);
        assert_int_equal(ledger_read(world, shared).charged, sum);
        for (__u32 i = 0; i < SENDERS; i++) {
                assert_int_equal(ledger_read(world, own[i]).charged, senders[i].sent);
                datapath_ledger_put(world->datapath, own[i]);
        }
        datapath_ledger_put(world->datapath, shared);
}

static void figures_of_a_thousand_agents_are_read_at_once(void **state)
{
        enum { AGENTS = 1000, EACH = 3 };
        static struct ledger_reading readings[AGENTS * EACH];
        static struct datapath_limits limits[AGENTS];
        static __u32 ids[AGENTS * EACH];
        struct bpf_world *world = *state;
        __u64 best = ~0ull;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        for (__u32 i = 0; i < AGENTS; i++) {
                struct limit_set sets[EACH] = {0};

                for (__u32 k = 0; k < EACH; k++) {
                        char key[32];

                        snprintf(key, sizeof(key), "agent/%u/%u", i, k);
                        ids[i * EACH + k] = ledger_new(world, key, PERIOD_DAY, MIB);
                        sets[k].ledgers[0][0] = (__u16)ids[i * EACH];
                        sets[k].ledgers[0][1] = (__u16)(k ? ids[i * EACH + k] : 0);
                }
                limits[i] = ledger_sets(world, sets, EACH);
                ledger_lease_put(world, 0, limits[i].first + 1u, DIRECTION_EGRESS, i + 1);
        }
        for (int tries = 0; tries < 5; tries++) {
                __u64 from = scene_now_ns();

                datapath_ledgers_read(world->datapath, ids, AGENTS * EACH, readings);
                best = MIN(best, scene_now_ns() - from);
        }
        print_message("%u ledgers of %u agents are read in %llu us (with the sanitizers)\n", AGENTS * EACH, AGENTS,
                      best / 1000);
        for (__u32 i = 0; i < AGENTS * EACH; i++) {
                assert_int_equal(readings[i].used, 0);
                assert_int_equal(readings[i].charged, i % EACH == 2 ? 0 : i / EACH + 1);
        }
        for (__u32 i = 0; i < AGENTS; i++)
                datapath_limits_free(world->datapath, limits[i]);
        for (__u32 i = 0; i < AGENTS * EACH; i++)
                datapath_ledger_put(world->datapath, ids[i]);
        assert_null(ledger_tables(world)->slots);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_run_of_sets_is_the_first_that_fits, scene_clear),
                cmocka_unit_test_teardown(a_ledgers_range_holds_all_its_sets_and_shrinks_with_them, scene_clear),
                cmocka_unit_test_teardown(a_lease_goes_back_only_in_the_window_that_it_came_from, scene_clear),
                cmocka_unit_test_teardown(a_new_daemon_finds_what_was_used, scene_clear),
                cmocka_unit_test_teardown(an_id_that_a_former_set_holds_is_given_to_nobody, scene_clear),
                cmocka_unit_test_teardown(damaged_keys_are_an_error_and_no_silent_zero, scene_clear),
                cmocka_unit_test_teardown(a_packet_is_charged_to_what_was_made, scene_clear),
                cmocka_unit_test_teardown(the_sum_is_exact_while_everything_moves, scene_clear),
                cmocka_unit_test_teardown(figures_of_a_thousand_agents_are_read_at_once, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
