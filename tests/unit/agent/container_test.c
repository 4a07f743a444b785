/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Containers by their cgroups' paths and the engines' state files, as these write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/agent/container.h"
#include "agentd/util/macro.h"

#define ID    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define INNER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

static char root[64];

static void host_file(const char *path, const char *text)
{
        char whole[512];
        FILE *file;

        for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                snprintf(whole, sizeof(whole), "%s%.*s", root, (int)(slash - path), path);
                (void)mkdir(whole, 0755);
        }
        snprintf(whole, sizeof(whole), "%s%s", root, path);
        file = fopen(whole, "we");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
}

static int set_up(void **state)
{
        snprintf(root, sizeof(root), "/tmp/agreg-container-XXXXXX");
        assert_non_null(mkdtemp(root));
        return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
        return remove(path);
}

static int tear_down(void **state)
{
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void a_path_of_an_engine_tells_the_container(void **state)
{
        static const struct {
                const char *path, *id, *engine;
                size_t length; /* 0: the whole path */
        } cases[] = {
                {"/docker/" ID, ID, "docker"},
                {"/system.slice/docker-" ID ".scope", ID, "docker"},
                {"/machine.slice/libpod-" ID ".scope", ID, "podman"},
                {"/machine.slice/libpod-" ID ".scope/container", ID, "podman",
                 sizeof("/machine.slice/libpod-.scope") - 1 + 64},
                {"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope/container", ID, "podman",
                 sizeof("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-.scope") - 1 + 64},
                {"/libpod_parent/libpod-" ID, ID, "podman"},
                {"/a.service/libpod-payload-" ID, ID, "podman"},
                {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-" ID ".scope", ID,
                 "cri-o"},
                {"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope", ID, "containerd"},
                {"/kubepods/besteffort/pod5f1e/" ID, ID, "kubernetes"},
                {"/system.slice/nerdctl-" ID ".scope", ID, "containerd"},
                {"/default/" ID, ID, NULL},
                /* The deepest one is the container; the outer one holds it. */
                {"/docker/" ID "/docker/" INNER, INNER, "docker"},
                {"/docker/" ID "/system.slice/x.service", ID, "docker", sizeof("/docker/") - 1 + 64},
                /* What stands beside a container, and what only looks like one. */
                {"/machine.slice/libpod-conmon-" ID ".scope", NULL},
                {"/machine.slice/crio-conmon-" ID ".scope", NULL},
                {"/system.slice/docker.service", NULL},
                {"/docker/0123", NULL},
                {"/docker/" ID "0", NULL},
                {"/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", NULL},
                {"/system.slice/docker-" ID ".service", NULL},
                {"/agents/claude-1", NULL},
                {"/", NULL},
                {"", NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct container found = {};
                size_t length = 0;
                bool is = container_of_path(cases[i].path, &found, &length);

                if (is != (cases[i].id != NULL))
                        fail_msg("%s: %d", cases[i].path, is);
                if (!is)
                        continue;
                assert_string_equal(found.id, cases[i].id);
                assert_true(found.engine == cases[i].engine || strcmp(found.engine, cases[i].engine) == 0);
                assert_int_equal(length, cases[i].length ? cases[i].length : strlen(cases[i].path));
        }
}

static void an_id_is_one_plain_file_name(void **state)
{
        static const struct {
                const char *id;
                bool sound;
        } cases[] = {
                {ID, true},     {"web-1_a.b+c", true}, {"", false},     {".", false},        {"..", false},
                {"a/b", false}, {"a*", false},         {"a b", false},  {"a\n", false},      {".hidden", false},
                {"[a]", false}, {"a?", false},         {"a\\b", false}, {"\xc3\xa4", false}, {ID ID, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (container_id_is_sound(cases[i].id) != cases[i].sound)
                        fail_msg("'%s'", cases[i].id);
}

static void the_state_of_an_engine_tells_name_and_image(void **state)
{
        static const struct {
                const char *file, *text, *path, *name, *image, *engine;
        } cases[] = {
                {"/var/lib/docker/containers/" ID "/config.v2.json",
                 "{\"ID\":\"" ID
                 "\",\"Name\":\"/claude\",\"Config\":{\"Image\":\"python:3.12\",\"Labels\":{\"a\":\"b\"}}}",
                 "/system.slice/docker-" ID ".scope", "claude", "python:3.12", "docker"},
                {"/run/containerd/io.containerd.runtime.v2.task/k8s.io/" ID "/config.json",
                 "{\"annotations\":{\"io.kubernetes.cri.container-name\":\"main\",\"io.kubernetes.cri.image-name\":"
                 "\"registry.k8s.io/pause:3.9\"}}",
                 "/kubepods/pod1/" ID, "main", "registry.k8s.io/pause:3.9", "kubernetes"},
                {"/run/containers/storage/overlay-containers/" ID "/userdata/config.json",
                 "{\"annotations\":{\"io.kubernetes.container.name\":\"app\",\"io.kubernetes.cri-o.ImageName\":\"quay."
                 "io/a/b:1\"}}",
                 "/kubepods.slice/crio-" ID ".scope", "app", "quay.io/a/b:1", "cri-o"},
                {"/var/lib/containers/storage/overlay-containers/containers.json",
                 "[{\"id\":\"" INNER "\",\"names\":[\"other\"],\"metadata\":\"{}\"},"
                 "{\"id\":\"" ID "\",\"names\":[\"agent\"],\"image\":\"1f\",\"metadata\":"
                 "\"{\\\"image-name\\\":\\\"docker.io/library/alpine:latest\\\",\\\"name\\\":\\\"agent\\\"}\"}]",
                 "/machine.slice/libpod-" ID ".scope/container", "agent", "docker.io/library/alpine:latest", "podman"},
                /* Nothing is known but the id. */
                {"/var/lib/docker/containers/" INNER "/config.v2.json", "{}", "/docker/" ID, "", "", "docker"},
                /* Files as a stranger would write them. */
                {"/var/lib/docker/containers/" ID "/config.v2.json", "{\"Name\":[],\"Config\":7}", "/docker/" ID, "",
                 "", "docker"},
                {"/var/lib/docker/containers/" ID "/config.v2.json", "not JSON", "/docker/" ID, "", "", "docker"},
                {"/var/lib/docker/containers/" ID "/config.v2.json", "[[[[", "/docker/" ID, "", "", "docker"},
                {"/var/lib/docker/containers/" ID "/config.v2.json",
                 "{\"Name\":\"/a\\u001b[2J\\\"b\",\"Config\":{\"Image\":\"x y\\n\xc3\xa4\"}}", "/docker/" ID, "a__2J_b",
                 "x_y___", "docker"},
                {"/var/lib/containers/storage/overlay-containers/containers.json",
                 "[7,{\"id\":\"" ID "\",\"metadata\":\"{\"}]", "/machine.slice/libpod-" ID ".scope", "", "", "podman"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct container found = {};

                host_file(cases[i].file, cases[i].text);
                assert_int_equal(container_find(root, cases[i].path, &found), 0);
                assert_string_equal(found.id, ID);
                assert_string_equal(found.name, cases[i].name);
                assert_string_equal(found.image, cases[i].image);
                assert_string_equal(found.engine, cases[i].engine);
                tear_down(NULL);
                set_up(NULL);
        }
}

static void a_runtime_used_by_hand_is_believed_when_its_state_names_the_cgroup(void **state)
{
        static const char runc[] =
                "{\"id\":\"web\",\"cgroup_paths\":{\"\":\"/sys/fs/cgroup/unified/a/web\",\"cpu\":\"/x\"},"
                "\"config\":{\"labels\":[\"a=b\",\"bundle=/srv/web\"]}}";
        static const struct {
                const char *file, *text, *path, *id, *name;
        } cases[] = {
                {"/run/runc/web/state.json", runc, "/a/web", "web", "named"},
                {"/run/runc/web/state.json", runc, "/b/web", NULL},
                {"/run/runc/web/state.json", "{\"cgroup_paths\":{\"cpu\":\"/a/web\"}}", "/a/web", NULL},
                {"/run/runc/web/state.json", "{", "/a/web", NULL},
                {"/run/runc/other/state.json", runc, "/a/web", NULL},
                {"/run/containerd/runc/default/web/state.json", runc, "/a/web", "web", "named"},
                {"/run/crun/web/status", "{\"cgroup-path\":\"/a/web\",\"bundle\":\"/srv/web\"}", "/a/web", "web",
                 "named"},
                {"/run/crun/web/status", "{\"cgroup-path\":\"\",\"bundle\":\"/srv/web\"}", "/a/web", NULL},
                {"/run/crun/web/status", "{\"cgroup-path\":\"/system.slice/crun-web.scope\"}",
                 "/system.slice/crun-web.scope", "web", ""},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct container found = {};
                int r;

                host_file("/srv/web/config.json",
                          "{\"annotations\":{\"org.opencontainers.container.name\":\"named\"}}");
                host_file(cases[i].file, cases[i].text);
                r = container_find(root, cases[i].path, &found);
                if (r != (cases[i].id ? 0 : -ENOENT))
                        fail_msg("case %zu: %d", i, r);
                assert_string_equal(found.id, cases[i].id ? cases[i].id : "");
                assert_string_equal(found.name, cases[i].id ? cases[i].name : "");
                tear_down(NULL);
                set_up(NULL);
        }
}

static void a_file_that_is_no_plain_one_or_too_large_is_not_read(void **state)
{
        char path[128], target[128];
        FILE *file;

        host_file("/plain", "{}");
        snprintf(path, sizeof(path), "%s/plain", root);
        json_decref(container_file(path));

        snprintf(target, sizeof(target), "%s/link", root);
        assert_int_equal(symlink(path, target), 0);
        assert_null(container_file(target));
        snprintf(target, sizeof(target), "%s/fifo", root);
        assert_int_equal(mkfifo(target, 0600), 0);
        assert_null(container_file(target)); /* and returns at all */
        assert_null(container_file(root));

        snprintf(target, sizeof(target), "%s/large", root);
        file = fopen(target, "we");
        assert_non_null(file);
        assert_int_equal(fprintf(file, "[\"%*s\"]", CONTAINER_FILE_MAX, ""), CONTAINER_FILE_MAX + 4);
        fclose(file);
        assert_null(container_file(target));
}

static void labels_of_docker_are_read(void **state)
{
        json_t *labels;

        assert_null(container_labels(root, ID));
        assert_null(container_labels(root, "../" ID));
        host_file("/var/lib/docker/containers/" ID "/config.v2.json",
                  "{\"Config\":{\"Labels\":{\"agentd.policy\":\"web\"}}}");
        labels = container_labels(root, ID);
        assert_string_equal(json_string_value(json_object_get(labels, "agentd.policy")), "web");
        json_decref(labels);
        host_file("/var/lib/docker/containers/" ID "/config.v2.json", "{\"Config\":{\"Labels\":\"web\"}}");
        assert_null(container_labels(root, ID));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_path_of_an_engine_tells_the_container, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_id_is_one_plain_file_name, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_state_of_an_engine_tells_name_and_image, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_runtime_used_by_hand_is_believed_when_its_state_names_the_cgroup,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_file_that_is_no_plain_one_or_too_large_is_not_read, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(labels_of_docker_are_read, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
