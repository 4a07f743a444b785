/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state that a runtime gives its hooks, sound and odd, and what is made of it.
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

#include "agentd/agent/oci.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int parse(const char *text, struct oci_state *ret, const char **ret_wrong)
{
        return oci_state_parse(text, strlen(text), ret, ret_wrong);
}

static void what_runtimes_write_is_read(void **state)
{
        static const struct {
                const char *text;
                enum oci_status status;
                pid_t pid;
                const char *id, *policy;
        } cases[] = {
                /* runc, crun, gVisor; what a later version adds; the end. */
                {"{\"ociVersion\":\"1.0.2-dev\",\"id\":\"web\",\"status\":\"creating\",\"pid\":42,\"bundle\":\"/b\","
                 "\"annotations\":{\"agentd.policy\":\"x\"}}",
                 OCI_CREATING, 42, "web", "x"},
                {"{\"ociVersion\":\"1.0\",\"id\":\"" ID
                 "\",\"pid\":7,\"root\":\"/b/rootfs\",\"bundle\":\"/b\",\"status\":"
                 "\"created\"}\n",
                 OCI_CREATED, 7, ID, NULL},
                {"{\"id\":\"a\",\"status\":\"running\",\"pid\":7,\"bundle\":\"/b\",\"new\":[{}],\"annotations\":null}",
                 OCI_RUNNING, 7, "a", NULL},
                {"{\"id\":\"a\",\"status\":\"stopped\",\"bundle\":\"/b\",\"annotations\":{\"agentd.policy\":7}}",
                 OCI_STOPPED, 0, "a", NULL},
                {"{\"id\":\"a\",\"status\":\"stopped\",\"pid\":42}", OCI_STOPPED, 0, "a", NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(oci_state_release) struct oci_state parsed = {};
                const char *wrong, *policy;

                assert_int_equal(parse(cases[i].text, &parsed, &wrong), 0);
                assert_int_equal(parsed.status, cases[i].status);
                assert_int_equal(parsed.pid, cases[i].pid);
                assert_string_equal(parsed.container.id, cases[i].id);
                policy = oci_annotation(&parsed, "agentd.policy");
                assert_true(policy == cases[i].policy || (policy && strcmp(policy, cases[i].policy) == 0));
        }
}

static void what_is_odd_is_refused_and_told(void **state)
{
        static const struct {
                const char *text, *wrong;
        } cases[] = {
                {"", "JSON"},
                {"null", "JSON"},
                {"[]", "JSON"},
                {"{\"id\":\"a\",\"id\":\"b\"}", "JSON"},
                {"{\"id\":\"a\"} x", "JSON"},
                {"{}", "'id'"},
                {"{\"id\":7}", "'id'"},
                {"{\"id\":\"\"}", "'id'"},
                {"{\"id\":\"../../etc\"}", "'id'"},
                {"{\"id\":\"a b\"}", "'id'"},
                {"{\"id\":\"" ID ID "\"}", "'id'"},
                {"{\"id\":\"a\"}", "'status'"},
                {"{\"id\":\"a\",\"status\":\"paused\"}", "'status'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\"}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":0}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":-1}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":4294967297}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":\"7\"}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":7.0}", "'pid'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"pid\":7}", "'bundle'"},
                {"{\"id\":\"a\",\"status\":\"creating\",\"pid\":7,\"bundle\":\"b\"}", "'bundle'"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct oci_state parsed = {};
                const char *wrong = NULL;

                if (parse(cases[i].text, &parsed, &wrong) != -EBADMSG)
                        fail_msg("%s", cases[i].text);
                if (!strstr(wrong, cases[i].wrong))
                        fail_msg("%s: %s", cases[i].text, wrong);
                assert_null(parsed.annotations);
        }
}

static void a_state_that_is_too_long_is_not_read(void **state)
{
        static char text[OCI_STATE_MAX + 2];
        struct oci_state parsed = {};
        const char *wrong;
        int n = snprintf(text, sizeof(text), "{\"id\":\"a\",\"status\":\"creating\",\"bundle\":\"/b\",\"pid\":7}");

        memset(text + n, ' ', sizeof(text) - (size_t)n);
        assert_int_equal(oci_state_parse(text, OCI_STATE_MAX, &parsed, &wrong), 0);
        oci_state_release(&parsed);
        assert_int_equal(oci_state_parse(text, OCI_STATE_MAX + 1, &parsed, &wrong), -EBADMSG);
        /* A path that a buffer cannot hold. */
        memset(text + n - 1, 'x', PATH_MAX);
        snprintf(text, sizeof(text), "{\"id\":\"a\",\"status\":\"creating\",\"pid\":7,\"bundle\":\"/");
        n = (int)strlen(text);
        memset(text + n, 'x', PATH_MAX);
        strcpy(text + n + PATH_MAX, "\"}");
        assert_int_equal(parse(text, &parsed, &wrong), -EBADMSG);
        assert_non_null(strstr(wrong, "too long"));
}

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

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
        return remove(path);
}

static void the_runtime_s_word_goes_before_the_bundle_s_and_that_before_labels(void **state)
{
        _cleanup_(oci_state_release) struct oci_state parsed = {};
        const char *wrong;

        snprintf(root, sizeof(root), "/tmp/agreg-oci-XXXXXX");
        assert_non_null(mkdtemp(root));
        host_file("/b/config.json", "{\"annotations\":{\"one\":\"bundle\",\"two\":\"bundle\",\"odd\":[]}}");
        host_file("/var/lib/docker/containers/" ID "/config.v2.json",
                  "{\"Name\":\"/"
                  "claude\",\"Config\":{\"Labels\":{\"one\":\"label\",\"two\":\"label\",\"three\":\"label\"}}}");
        assert_int_equal(parse("{\"id\":\"" ID "\",\"status\":\"creating\",\"pid\":7,\"bundle\":\"/b\","
                               "\"annotations\":{\"one\":\"state\"}}",
                               &parsed, &wrong),
                         0);
        oci_state_complete(&parsed, root);
        assert_string_equal(oci_annotation(&parsed, "one"), "state");
        assert_string_equal(oci_annotation(&parsed, "two"), "bundle");
        assert_string_equal(oci_annotation(&parsed, "three"), "label");
        assert_null(oci_annotation(&parsed, "odd"));
        assert_string_equal(parsed.container.name, "claude");
        assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void an_agent_is_named_by_the_annotation_the_container_or_its_id(void **state)
{
        static const struct {
                const char *id, *name, *annotations, *expected; /* NULL: refused */
        } cases[] = {
                {"web", "", "{}", "web"},
                {ID, "", "{}", "0123456789ab"},
                {ID, "claude", "{}", "claude"},
                {ID, "claude", "{\"agentd.name\":\"mine\"}", "mine"},
                {ID, "main", "{\"io.kubernetes.cri.sandbox-id\":\"1\"}", "0123456789ab"},
                {ID, "a/b", "{}", "0123456789ab"},
                {ID, "", "{\"agentd.name\":\"\"}", NULL},
                {ID, "", "{\"agentd.name\":\"a b\"}", NULL},
                {ID, "", "{\"agentd.name\":\"a/b\"}", NULL},
                {ID, "", "{\"agentd.name\":\"" ID "\"}", NULL},
                {ID "x", "", "{}", NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(oci_state_release) struct oci_state parsed = {};
                char name[AGENT_NAME_MAX] = "";
                int r;

                snprintf(parsed.container.id, sizeof(parsed.container.id), "%s", cases[i].id);
                snprintf(parsed.container.name, sizeof(parsed.container.name), "%s", cases[i].name);
                parsed.annotations = json_loads(cases[i].annotations, 0, NULL);
                r = oci_agent_name(&parsed, name);
                if (r != (cases[i].expected ? 0 : -EINVAL))
                        fail_msg("case %zu: %d", i, r);
                assert_string_equal(name, cases[i].expected ? cases[i].expected : "");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_runtimes_write_is_read),
                cmocka_unit_test(what_is_odd_is_refused_and_told),
                cmocka_unit_test(a_state_that_is_too_long_is_not_read),
                cmocka_unit_test(the_runtime_s_word_goes_before_the_bundle_s_and_that_before_labels),
                cmocka_unit_test(an_agent_is_named_by_the_annotation_the_container_or_its_id),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
