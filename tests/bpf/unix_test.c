/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unix sockets that an agent may not talk to: by real sockets and real addresses; what is not there is ENOENT or
 * ECONNREFUSED, what is denied is EPERM before the kernel looks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/abi_unix.h"
#include "agentd/datapath/internal.h"
#include "agentd/datapath/unix.h"
#include "tests/lib/bpf_scene.h"

static const struct bpf_rule allow_all[] = {{"198.51.100.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535}};

static bool possible(struct bpf_world *world)
{
        const char *detail;

        if (!world)
                return false;
        if (datapath_extra_present(world->datapath, EXTRA_CONNECT_UNIX, &detail))
                return true;
        print_message("connect_unix: %s\n", detail);
        return false;
}

/* '@' stands for a NUL. */
static socklen_t address_of(const char *path, struct sockaddr_un *ret)
{
        size_t length = strlen(path);

        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        assert_true(length <= sizeof(ret->sun_path));
        memcpy(ret->sun_path, path, length);
        if (path[0] == '@')
                ret->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int unix_socket(const struct scene *scene, int type)
{
        int fd = -1;

        assert_int_equal(bpf_world_socket(scene->world, scene->cgroup_fd, AF_UNIX, type, 0, &fd), 0);
        return fd;
}

static int try_connect(const struct scene *scene, int type, const char *path)
{
        struct sockaddr_un address;
        socklen_t size = address_of(path, &address);
        int fd = unix_socket(scene, type), r;

        r = connect(fd, (struct sockaddr *)&address, size) < 0 ? errno : 0;
        close(fd);
        return r;
}

static int try_send(const struct scene *scene, const char *path)
{
        struct sockaddr_un address;
        socklen_t size = address_of(path, &address);
        int fd = unix_socket(scene, SOCK_DGRAM), r;

        r = sendto(fd, "x", 1, 0, (struct sockaddr *)&address, size) < 0 ? errno : 0;
        close(fd);
        return r;
}

static void publish_unix(struct scene *scene, struct bpf_policy *policy, const struct unix_rules *rules, __u32 flags)
{
        assert_int_equal(datapath_unix_add(scene->world->datapath, policy->version, rules), 0);
        datapath_agent_publish(scene->world->datapath, scene->id, policy->version, flags);
}

static void a_denied_address_is_denied_however_it_is_spelled(void **state)
{
        static char *deny[] = {"/none/such/a.sock", "@abstract", "@begins/*"};
        static const struct unix_rules rules = {.deny = deny, .n_deny = 3, .no_defaults = true};
        static const struct {
                const char *path;
                bool denied;
        } cases[] = {
                {"/none/such/a.sock", true},
                {"/none/such/a.sock2", false},
                {"/none/such/a.soc", false},
                {"/none/such", false},
                {"/other/such/a.sock", false},
                /* no plain path: by its last component */
                {"a.sock", true},
                {"./a.sock", true},
                {"such/a.sock", true},
                {"/none//such/a.sock", true},
                {"//none/such/a.sock", true},
                {"/none/./such/a.sock", true},
                {"/none/x/../such/a.sock", true},
                {"/../none/such/a.sock", true},
                {"/other/../a.sock", true},
                {"/proc/self/root/none/such/a.sock", true},
                {"/proc/self/cwd/a.sock", true},
                {"/proc/self/fd/3/a.sock", true},
                {"/proc2/self/a.sock", false},
                {"b.sock", false},
                {"../b.sock", false},
                {"/none/such/..a.sock", false},
                {"/none/such/...", false},
                {"a.sock/b", false},
                {"@abstract", true},
                {"@abstrac", false},
                {"@abstract2", false},
                {"@begins/", true},
                {"@begins/with", true},
                {"@begins", false},
                /* the defaults are off */
                {"/run/docker.sock", false},
        };
        struct bpf_policy *policy;
        struct scene scene;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        publish_unix(&scene, policy, &rules, policy->compiled->word_flags);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int stream = try_connect(&scene, SOCK_STREAM, cases[i].path);
                int packet = try_connect(&scene, SOCK_SEQPACKET, cases[i].path);
                int datagram = try_connect(&scene, SOCK_DGRAM, cases[i].path), sent = try_send(&scene, cases[i].path);

                if ((stream == EPERM) != cases[i].denied || stream != datagram || stream != sent || stream != packet)
                        fail_msg("%s: %s, %s, %s, %s", cases[i].path, strerror(stream), strerror(packet),
                                 strerror(datagram), strerror(sent));
        }
        datapath_unix_remove(scene.world->datapath, policy->version, &rules);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/such/a.sock"), ENOENT);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_directory_denies_what_is_below_it_and_what_may_be(void **state)
{
        static char *deny[] = {"/none/such/*"};
        static const struct unix_rules rules = {.deny = deny, .n_deny = 1, .no_defaults = true};
        struct bpf_policy *policy;
        struct scene scene;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        publish_unix(&scene, policy, &rules, policy->compiled->word_flags);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/such/a"), EPERM);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/such/deep/er/a"), EPERM);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "relative"), EPERM);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/other/../such/a"), EPERM);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/suchlike"), ENOENT);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "@none/such/a"), ECONNREFUSED);
        datapath_unix_remove(scene.world->datapath, policy->version, &rules);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void the_defaults_hold_for_every_policy_that_does_not_say_otherwise(void **state)
{
        static const struct unix_rules none = {0}, without = {.no_defaults = true};
        struct bpf_policy *policy;
        struct scene scene;
        char full[109];

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        publish_unix(&scene, policy, &none, policy->compiled->word_flags);
        for (size_t i = 0; i < unix_n_defaults; i++) {
                char path[109];

                (void)snprintf(path, sizeof(path), "%s", unix_defaults[i]);
                if (path[strlen(path) - 1] == '*')
                        path[strlen(path) - 1] = 'x';
                assert_int_equal(try_connect(&scene, SOCK_STREAM, path), EPERM);
        }
        /* An address of full length has no NUL at its end. */
        memset(full, 'a', sizeof(full) - 1);
        full[0] = '/';
        full[108] = '\0';
        assert_int_not_equal(try_connect(&scene, SOCK_STREAM, full), EPERM);
        memcpy(full, "/proc/", 6);
        memcpy(full + 108 - strlen("/docker.sock"), "/docker.sock", strlen("/docker.sock"));
        assert_int_equal(try_connect(&scene, SOCK_STREAM, full), EPERM);

        publish_unix(&scene, policy, &without, policy->compiled->word_flags);
        assert_int_not_equal(try_connect(&scene, SOCK_STREAM, "/run/docker.sock"), EPERM);
        datapath_unix_remove(scene.world->datapath, policy->version, &without);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void quarantine_ends_unix_sockets_and_audit_only_counts_them(void **state)
{
        static const struct unix_rules none = {0};
        struct bpf_policy *policy;
        struct scene scene;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/such"), EPERM); /* nothing is published */
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_POLICY], 1);
        policy = scene_publish(&scene, allow_all, 1);
        publish_unix(&scene, policy, &none, WORD_AUDIT);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/run/docker.sock"), ENOENT);
        assert_int_equal(scene_counters(&scene).would_deny[REASON_UNIX_SOCKET], 1);
        publish_unix(&scene, policy, &none, WORD_QUARANTINE);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/none/such"), EPERM);
        assert_int_equal(scene_counters(&scene).denied[REASON_QUARANTINE], 1);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void versions_that_nobody_has_are_swept(void **state)
{
        static char *deny[] = {"/none/such/a.sock"};
        static const struct unix_rules rules = {.deny = deny, .n_deny = 1};
        struct bpf_world *world = *state;
        struct unix_key keys[UNIX_KEYS_OF_ITEM];
        struct bpf_policy *policy;
        __u32 value;

        if (!world)
                skip();
        assert_int_equal(bpf_policy_new(world, allow_all, 1, &policy), 0);
        assert_int_equal(datapath_unix_add(world->datapath, policy->version, &rules), 0);
        assert_int_equal(datapath_unix_add(world->datapath, policy->version + 100, &rules), 0);
        assert_int_equal(datapath_unix_sweep(world->datapath), 0);
        assert_int_equal(unix_item_keys(deny[0], policy->version, keys), 2);
        assert_int_equal(bpf_map_lookup_elem(world->datapath->unix_denied_fd, &keys[0], &value), 0);
        assert_int_equal(unix_item_keys(deny[0], policy->version + 100, keys), 2);
        assert_int_equal(bpf_map_lookup_elem(world->datapath->unix_denied_fd, &keys[0], &value), -ENOENT);
        assert_int_equal(unix_item_keys(unix_defaults[0], UNIX_SHARED, keys), 2);
        assert_int_equal(bpf_map_lookup_elem(world->datapath->unix_denied_fd, &keys[0], &value), 0);

        /* A new daemon takes no version that an old one's sockets stand under. */
        assert_int_equal(datapath_unix_add(world->datapath, policy->version + 200, &rules), 0);
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_true(world->datapath->next_version > policy->version + 200);
        assert_int_equal(datapath_unix_sweep(world->datapath), 0);
        bpf_policy_free(policy);
}

static void a_lost_unix_link_is_found_and_made_good(void **state)
{
        static const struct unix_rules none = {0};
        struct bpf_policy *policy;
        struct scene scene;
        enum hook hook = HOOK_NONE;
        struct datapath *datapath;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        publish_unix(&scene, policy, &none, policy->compiled->word_flags);
        datapath = scene.world->datapath;
        assert_int_equal(datapath_verify(datapath, scene.id, &hook), 0);

        assert_int_equal(bpf_link_detach(datapath->extra_links[scene.id][EXTRA_CONNECT_UNIX]), 0);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/run/docker.sock"), ENOENT);
        assert_int_equal(datapath_verify(datapath, scene.id, &hook), -ENOENT);
        assert_int_equal(hook, HOOK_CONNECT_UNIX);
        assert_int_equal(datapath_repair(datapath, scene.id, scene.cgroup_fd), 0);
        assert_int_equal(datapath_verify(datapath, scene.id, &hook), 0);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/run/docker.sock"), EPERM);

        /* and a new daemon takes the links over */
        assert_int_equal(bpf_world_reopen(scene.world), 0);
        assert_int_equal(try_connect(&scene, SOCK_STREAM, "/run/docker.sock"), EPERM);
        assert_int_equal(datapath_repair(scene.world->datapath, scene.id, scene.cgroup_fd), 0);
        assert_int_equal(datapath_verify(scene.world->datapath, scene.id, &hook), 0);
        bpf_policy_free(policy);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_denied_address_is_denied_however_it_is_spelled, scene_clear),
                cmocka_unit_test_teardown(a_directory_denies_what_is_below_it_and_what_may_be, scene_clear),
                cmocka_unit_test_teardown(the_defaults_hold_for_every_policy_that_does_not_say_otherwise, scene_clear),
                cmocka_unit_test_teardown(quarantine_ends_unix_sockets_and_audit_only_counts_them, scene_clear),
                cmocka_unit_test_teardown(versions_that_nobody_has_are_swept, scene_clear),
                cmocka_unit_test_teardown(a_lost_unix_link_is_found_and_made_good, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
