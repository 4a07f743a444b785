/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The audit log: what was written is read; what was changed, by one bit, a line or a cut, is found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/event/audit_log.h"
#include "agentd/util/macro.h"

struct room {
        char directory[64], path[96], before[96];
};

static int room_make(void **state)
{
        struct room *room = calloc(1, sizeof(*room));

        strcpy(room->directory, "/tmp/agentd-audit.XXXXXX");
        assert_non_null(mkdtemp(room->directory));
        snprintf(room->path, sizeof(room->path), "%s/audit.jsonl", room->directory);
        snprintf(room->before, sizeof(room->before), "%s/audit.jsonl.1", room->directory);
        *state = room;
        return 0;
}

static int room_remove(void **state)
{
        struct room *room = *state;

        unlink(room->path);
        unlink(room->before);
        rmdir(room->directory);
        free(room);
        return 0;
}

static void add(struct room *room, unsigned int first, unsigned int n)
{
        struct audit_log *log;
        char event[160];

        assert_int_equal(audit_log_open(room->directory, &log), 0);
        for (unsigned int i = first; i < first + n; i++) {
                snprintf(event, sizeof(event),
                         "{\"time\":\"2026-11-24T00:00:%02u.000000000Z\",\"detail\":\"number %u\"}", i % 60, i);
                assert_int_equal(audit_log_add(log, event), 0);
        }
        audit_log_free(log);
}

static struct audit_check check(struct room *room)
{
        struct audit_check found;

        assert_int_equal(audit_log_read(room->directory, 0, NULL, &found), 0);
        return found;
}

static char *slurp(const char *path, size_t *ret_size)
{
        char *text = calloc(1, 1 << 20);
        int fd = open(path, O_RDONLY);

        *ret_size = (size_t)read(fd, text, (1 << 20) - 1);
        close(fd);
        return text;
}

static void spill(const char *path, const char *text, size_t size)
{
        int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0600);

        assert_int_equal(write(fd, text, size), size);
        close(fd);
}

static void entries_outlive_the_writer_and_follow_each_other(void **state)
{
        struct room *room = *state;
        json_t *events = json_array();
        struct audit_check found;
        struct stat status;

        assert_int_equal(audit_log_read(room->directory, 0, NULL, &found), -ENOENT);
        add(room, 0, 3);
        add(room, 3, 2);
        assert_int_equal(audit_log_read(room->directory, 0, events, &found), 0);
        assert_int_equal(found.entries, 5);
        assert_int_equal(found.broken, 0);
        assert_int_equal(json_array_size(events), 5);
        assert_string_equal(json_string_value(json_object_get(json_array_get(events, 4), "detail")), "number 4");
        json_array_clear(events);
        /* 2026-11-24T00:00:03Z */
        assert_int_equal(audit_log_read(room->directory, 1795478403ull * NSEC_PER_SEC, events, &found), 0);
        assert_int_equal(json_array_size(events), 2);
        assert_int_equal(found.entries, 5);
        json_decref(events);
        assert_int_equal(stat(room->path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_change_of_any_byte_is_found(void **state)
{
        struct room *room = *state;
        size_t size, step;
        char *text;

        add(room, 0, 4);
        text = slurp(room->path, &size);
        step = 1;
        for (size_t i = 0; i < size; i += step) {
                struct audit_check found;

                text[i] ^= 1;
                spill(room->path, text, size);
                found = check(room);
                if (!found.broken)
                        fail_msg("byte %zu ('%c') was changed, and nobody noticed", i, text[i] ^ 1);
                text[i] ^= 1;
        }
        free(text);
}

static void lines_taken_out_put_in_or_moved_are_found(void **state)
{
        struct room *room = *state;
        char *text, *lines[5], *p, changed[4096];
        size_t size;

        add(room, 0, 5);
        text = slurp(room->path, &size);
        p = text;
        for (size_t i = 0; i < 5; i++) {
                lines[i] = p;
                p = strchr(p, '\n') + 1;
                p[-1] = '\0';
        }
        snprintf(changed, sizeof(changed), "%s\n%s\n%s\n%s\n", lines[0], lines[1], lines[3], lines[4]);
        spill(room->path, changed, strlen(changed));
        assert_int_equal(check(room).broken, 3);
        snprintf(changed, sizeof(changed), "%s\n%s\n%s\n%s\n", lines[1], lines[2], lines[3], lines[4]);
        spill(room->path, changed, strlen(changed));
        assert_int_equal(check(room).broken, 1);
        snprintf(changed, sizeof(changed), "%s\n%s\n%s\n", lines[0], lines[2], lines[1]);
        spill(room->path, changed, strlen(changed));
        assert_int_equal(check(room).broken, 2);
        snprintf(changed, sizeof(changed), "%s\n%s\n%s\n", lines[0], lines[0], lines[1]);
        spill(room->path, changed, strlen(changed));
        assert_int_equal(check(room).broken, 2);
        /* What comes behind a broken line is read all the same. */
        assert_int_equal(check(room).entries, 3);
        free(text);
}

static void half_a_line_of_a_power_cut_goes_at_each_length(void **state)
{
        struct room *room = *state;
        size_t size, whole;
        char *text;

        add(room, 0, 2);
        (void)free(slurp(room->path, &whole));
        add(room, 2, 1);
        text = slurp(room->path, &size);
        for (size_t cut = whole; cut < size; cut++) {
                spill(room->path, text, cut);
                add(room, 7, 1);
                assert_int_equal(check(room).broken, 0);
                assert_int_equal(check(room).entries, 3);
        }
        free(text);
}

static void a_full_file_becomes_the_one_before(void **state)
{
        struct room *room = *state;
        struct audit_log *log;
        char *event = malloc(1 << 20);

        memset(event, ' ', 1 << 20);
        event[0] = '{';
        event[(1 << 20) - 2] = '}';
        event[(1 << 20) - 1] = '\0';
        assert_int_equal(audit_log_open(room->directory, &log), 0);
        for (int i = 0; i < 20; i++)
                assert_int_equal(audit_log_add(log, event), 0);
        audit_log_free(log);
        free(event);
        assert_int_equal(access(room->before, F_OK), 0);
        assert_int_equal(check(room).entries, 20);
        assert_int_equal(check(room).broken, 0);
        add(room, 0, 1);
        assert_int_equal(check(room).entries, 21);
        assert_int_equal(check(room).broken, 0);
        /* Without the file before, the oldest line that is there is where it begins. */
        unlink(room->before);
        assert_int_equal(check(room).broken, 1);
}

static void a_link_or_a_pipe_in_its_place_is_refused(void **state)
{
        struct room *room = *state;
        struct audit_log *log;

        assert_int_equal(symlink("/dev/null", room->path), 0);
        assert_true(audit_log_open(room->directory, &log) < 0);
        unlink(room->path);
        assert_int_equal(mkfifo(room->path, 0600), 0);
        assert_true(audit_log_open(room->directory, &log) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(entries_outlive_the_writer_and_follow_each_other, room_make,
                                                room_remove),
                cmocka_unit_test_setup_teardown(a_change_of_any_byte_is_found, room_make, room_remove),
                cmocka_unit_test_setup_teardown(lines_taken_out_put_in_or_moved_are_found, room_make, room_remove),
                cmocka_unit_test_setup_teardown(half_a_line_of_a_power_cut_goes_at_each_length, room_make, room_remove),
                cmocka_unit_test_setup_teardown(a_full_file_becomes_the_one_before, room_make, room_remove),
                cmocka_unit_test_setup_teardown(a_link_or_a_pipe_in_its_place_is_refused, room_make, room_remove),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
