/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Learned addresses that are renewed while packets look them up.
 *
 * A renewal replaces an element of a hash map, and since Linux 6.1 the next key may be given the old one at once
 * (kernel/bpf/memalloc.c). Two addresses under one policy, each by its own port: neither is ever missed, or seen with
 * the other's list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/abi_test.h"
#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"

enum { ROUNDS = 150000, PORT_FIRST = 443, PORT_SECOND = 8443, NOW = 1000 };

struct asker {
        struct bpf_world *world;
        __u64 word;
        atomic_bool stop;
        unsigned asked, missed, wrong;
};

static void *ask(void *context)
{
        struct asker *asker = context;

        while (!atomic_load(&asker->stop)) {
                struct verdict_question question = {.agent_id = SCENE_AGENT, .word = asker->word, .now_ns = NOW};

                (void)address_parse("203.0.113.1", &question.flow.remote);
                question.flow.protocol = PROTOCOL_TCP;
                question.flow.port = asker->asked++ % 2 ? PORT_SECOND : PORT_FIRST;
                if (datapath_verdict(asker->world->datapath, &question) < 0)
                        asker->wrong++;
                else if (question.flow.port == PORT_SECOND)
                        asker->wrong += question.verdict.action == VERDICT_ALLOW;
                else
                        asker->missed += question.verdict.action != VERDICT_ALLOW;
        }
        return NULL;
}

static struct match_list *list_of(__u16 port)
{
        struct match_list *list = calloc(1, sizeof(*list) + sizeof(list->matches[0]));

        list->n_matches = 1;
        list->matches[0] =
                (struct match){.protocols = PROTOCOL_TCP, .flags = MATCH_BY_NAME, .port_low = port, .port_high = port};
        return list;
}

static void a_renewed_address_is_never_seen_with_anothers_list(void **state)
{
        struct bpf_world *world = *state;
        struct asker asker = {.world = world};
        struct match_list *lists[2];
        struct address addresses[2];
        struct bpf_policy *policy;
        pthread_t thread;

        if (!world)
                skip();
        assert_int_equal(bpf_policy_new(world, NULL, 0, &policy), 0);
        lists[0] = list_of(PORT_FIRST);
        lists[1] = list_of(PORT_SECOND);
        (void)address_parse("203.0.113.1", &addresses[0]);
        (void)address_parse("203.0.113.2", &addresses[1]);
        for (int i = 0; i < 2; i++)
                assert_int_equal(datapath_learned_set(world->datapath, SCENE_AGENT, &addresses[i], NOW * 2,
                                                      policy->version, lists[i]),
                                 0);

        asker.word = WORD_MAKE(1, policy->version, 0);
        assert_int_equal(pthread_create(&thread, NULL, ask, &asker), 0);
        for (unsigned i = 0; i < ROUNDS; i++)
                (void)datapath_learned_set(world->datapath, SCENE_AGENT, &addresses[i % 2], NOW * 2 + i,
                                           policy->version, lists[i % 2]);
        atomic_store(&asker.stop, true);
        pthread_join(thread, NULL);
        if (asker.wrong || asker.missed)
                print_error("of %u answers %u were another address's, %u missed\n", asker.asked, asker.wrong,
                            asker.missed);
        assert_int_equal(asker.wrong, 0);
        assert_int_equal(asker.missed, 0);

        for (int i = 0; i < 2; i++) {
                (void)datapath_learned_remove(world->datapath, SCENE_AGENT, &addresses[i]);
                free(lists[i]);
        }
        assert_int_equal(datapath_policy_remove(world->datapath, policy->version), 0);
        bpf_policy_free(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_renewed_address_is_never_seen_with_anothers_list),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
