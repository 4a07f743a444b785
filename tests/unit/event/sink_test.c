/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where lines end up: whole or counted, without ever waiting for a reader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/event/sink.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

struct room {
        char directory[64];
        char path[96];
        uv_loop_t loop;
        uv_timer_t alive; /* a loop without a handle that counts runs not even once */
};

static void never(uv_timer_t *timer)
{
        fail();
}

static int set_up(void **state)
{
        struct room *room = calloc(1, sizeof(*room));

        strcpy(room->directory, "/tmp/agentd-sink.XXXXXX");
        assert_non_null(mkdtemp(room->directory));
        snprintf(room->path, sizeof(room->path), "%s/events.jsonl", room->directory);
        assert_int_equal(uv_loop_init(&room->loop), 0);
        uv_timer_init(&room->loop, &room->alive);
        uv_timer_start(&room->alive, never, 3600 * 1000, 0);
        *state = room;
        return 0;
}

static int tear_down(void **state)
{
        struct room *room = *state;
        char command[128];

        /* What was freed gives its handles back now; nothing else may be left. */
        uv_close((uv_handle_t *)&room->alive, NULL);
        uv_run(&room->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&room->loop), 0);
        snprintf(command, sizeof(command), "rm -rf %s", room->directory);
        assert_int_equal(system(command), 0);
        free(room);
        return 0;
}

static const struct event event = {.type = EVENT_LIFECYCLE, .agent = "a", .detail = "it started"};

static bool write_line(struct sink *sink, const char *line)
{
        return sink_write(sink, &event, line, strlen(line));
}

static char *content_of(const char *path)
{
        static char content[64 * 1024];
        _cleanup_file_ FILE *file = fopen(path, "re");
        size_t n = file ? fread(content, 1, sizeof(content) - 1, file) : 0;

        content[n] = '\0';
        return content;
}

static void a_file_is_made_for_its_group_to_read_and_appended_to(void **state)
{
        struct room *room = *state;
        mode_t mask = umask(0077);
        struct sink *sink = NULL;
        struct stat status;

        assert_int_equal(sink_new(&room->loop, room->path, &sink), 0);
        umask(mask);
        assert_true(write_line(sink, "{\"n\":1}"));
        sink_free(sink);
        assert_int_equal(sink_new(&room->loop, room->path, &sink), 0);
        assert_true(write_line(sink, "{\"n\":2}"));
        sink_free(sink);
        assert_int_equal(stat(room->path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0640);
        assert_string_equal(content_of(room->path), "{\"n\":1}\n{\"n\":2}\n");
}

static void the_directory_is_made_when_only_it_is_missing(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        char path[160];

        snprintf(path, sizeof(path), "%s/log/events.jsonl", room->directory);
        assert_int_equal(sink_new(&room->loop, path, &sink), 0);
        sink_free(sink);
        snprintf(path, sizeof(path), "%s/no/such/events.jsonl", room->directory);
        assert_int_equal(sink_new(&room->loop, path, &sink), -ENOENT);
}

static void refuses_links_and_directories(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        char target[160];

        snprintf(target, sizeof(target), "%s/elsewhere", room->directory);
        assert_int_equal(symlink(target, room->path), 0);
        assert_int_equal(sink_new(&room->loop, room->path, &sink), -ELOOP);
        assert_int_equal(access(target, F_OK), -1);
        assert_true(sink_new(&room->loop, room->directory, &sink) < 0);
        assert_true(sink_new(&room->loop, "", &sink) < 0);
}

static void a_fifo_without_a_reader_does_not_stop_us(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;

        assert_int_equal(mkfifo(room->path, 0600), 0);
        assert_int_equal(sink_new(&room->loop, room->path, &sink), -ENXIO);
}

static void a_rotated_file_is_followed(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        char rotated[160];

        snprintf(rotated, sizeof(rotated), "%s.1", room->path);
        assert_int_equal(sink_new(&room->loop, room->path, &sink), 0);
        assert_true(write_line(sink, "one"));
        /* Nobody flushes: the loop's next turn does. */
        uv_run(&room->loop, UV_RUN_NOWAIT);
        assert_int_equal(rename(room->path, rotated), 0);
        assert_true(write_line(sink, "two"));
        uv_run(&room->loop, UV_RUN_NOWAIT);
        assert_string_equal(content_of(rotated), "one\n");
        assert_string_equal(content_of(room->path), "two\n");
        /* And on demand. */
        assert_int_equal(rename(room->path, rotated), 0);
        assert_int_equal(sink_reopen(sink), 0);
        assert_true(write_line(sink, "three"));
        sink_flush(sink);
        assert_string_equal(content_of(room->path), "three\n");
        sink_free(sink);
}

static void a_full_disk_loses_whole_lines_and_recovers(void **state)
{
        struct room *room = *state;
        const struct rlimit small = {.rlim_cur = 25, .rlim_max = RLIM_INFINITY};
        struct rlimit before;
        struct sink *sink = NULL;

        /* The limit stands in for the disk: a write ends in the middle of the second line, the next one fails. */
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(sink_new(&room->loop, room->path, &sink), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_true(write_line(sink, "{\"line\":\"0123\"}"));
        assert_true(write_line(sink, "{\"line\":\"4567\"}"));
        assert_true(write_line(sink, "{\"line\":\"8901\"}"));
        sink_flush(sink);
        assert_int_equal(sink_lost(sink), 2);
        assert_int_equal(sink_take_lost(sink), 2);
        assert_int_equal(sink_lost(sink), 0);
        assert_true(write_line(sink, "{\"line\":\"a longer one\"}"));
        sink_flush(sink);
        assert_int_equal(sink_take_lost(sink), 1);
        assert_int_equal(sink_take_lost(sink), 0);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_true(write_line(sink, "{\"line\":\"2345\"}"));
        sink_flush(sink);
        assert_string_equal(content_of(room->path), "{\"line\":\"0123\"}\n{\"line\":\"2345\"}\n");
        sink_free(sink);
}

static void more_than_is_gathered_is_written_in_order(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        char line[64], expected[64];
        FILE *file;

        assert_int_equal(sink_new(&room->loop, room->path, &sink), 0);
        for (int i = 0; i < 20000; i++) {
                snprintf(line, sizeof(line), "{\"n\":%d}", i);
                assert_true(write_line(sink, line));
        }
        sink_free(sink);
        file = fopen(room->path, "re");
        for (int i = 0; i < 20000; i++) {
                snprintf(expected, sizeof(expected), "{\"n\":%d}\n", i);
                assert_non_null(fgets(line, sizeof(line), file));
                assert_string_equal(line, expected);
        }
        assert_null(fgets(line, sizeof(line), file));
        fclose(file);
}

static void a_device_that_is_full_is_counted(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;

        assert_int_equal(sink_new(&room->loop, "/dev/full", &sink), 0);
        assert_false(write_line(sink, "x"));
        sink_free(sink);
}

static void fill_pipe(int fd)
{
        char page[4096];
        int flags = fcntl(fd, F_GETFL);

        memset(page, '.', sizeof(page));
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        while (write(fd, page, sizeof(page)) > 0)
                ;
        fcntl(fd, F_SETFL, flags);
}

static size_t drain_pipe(int fd, char *text, size_t size)
{
        int flags = fcntl(fd, F_GETFL);
        size_t used = 0;
        ssize_t n;

        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        while ((n = read(fd, text + used, size - used - 1)) > 0)
                used += (size_t)n;
        fcntl(fd, F_SETFL, flags);
        text[used] = '\0';
        return used;
}

static void a_full_pipe_is_queued_for_bounded_and_then_counted(void **state)
{
        static char text[2 * 1024 * 1024];
        struct room *room = *state;
        struct sink *sink = NULL;
        unsigned taken = 0;
        char line[1001];
        int fds[2];

        memset(line, 'x', sizeof(line) - 1);
        line[sizeof(line) - 1] = '\0';
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(sink_new_stream(&room->loop, fds[1], false, &sink), 0);
        /* Others share the descriptor: it must stay as it is. */
        assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
        fill_pipe(fds[1]);
        while (write_line(sink, line))
                taken++;
        assert_in_range(taken, SINK_QUEUE_MAX / 1001 - 1, SINK_QUEUE_MAX / 1001);
        assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);

        /* The reader comes back: every line that was taken arrives, whole. */
        assert_int_equal(drain_pipe(fds[0], text, sizeof(text)) % 4096, 0);
        for (unsigned lines = 0; lines < taken;) {
                uv_run(&room->loop, UV_RUN_NOWAIT);
                size_t used = drain_pipe(fds[0], text, sizeof(text));

                for (size_t i = 0; i < used; i++) {
                        assert_true(text[i] == 'x' || text[i] == '\n');
                        lines += text[i] == '\n';
                }
        }
        assert_true(write_line(sink, "more"));
        drain_pipe(fds[0], text, sizeof(text));
        assert_string_equal(text, "more\n");
        assert_int_equal(sink_take_lost(sink), 0);
        sink_free(sink);
        close(fds[0]);
        close(fds[1]);
}

static void a_reader_that_goes_kills_nobody_and_its_queue_is_counted(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        int fds[2];

        signal(SIGPIPE, SIG_DFL);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(sink_new_stream(&room->loop, fds[1], false, &sink), 0);
        fill_pipe(fds[1]);
        assert_true(write_line(sink, "one"));
        assert_true(write_line(sink, "two"));
        close(fds[0]);
        for (int i = 0; i < 1000 && write_line(sink, "three"); i++)
                uv_run(&room->loop, UV_RUN_NOWAIT);
        assert_false(write_line(sink, "four"));
        assert_true(sink_take_lost(sink) >= 2);
        assert_int_equal(sink_take_lost(sink), 0);
        sink_free(sink);
        close(fds[1]);
}

static void a_socket_takes_lines_without_being_made_non_blocking(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;
        char text[256];
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(sink_new_stream(&room->loop, fds[1], true, &sink), 0);
        assert_true(write_line(sink, "{}"));
        for (int i = 0; i < 100000 && write_line(sink, "{}"); i++)
                ;
        assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
        assert_true(recv(fds[0], text, sizeof(text) - 1, 0) > 0);
        assert_true(strncmp(text, "agentd: 1970-01-01T00:00:00.000Z lifecycle  a it started\n", 57) == 0);
        sink_free(sink);
        close(fds[0]);
        close(fds[1]);
}

static void the_journal_gets_fields(void **state)
{
        struct room *room = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sink *sink = NULL;
        char text[4096];
        ssize_t n;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/journal", room->directory);
        assert_int_equal(sink_new_journal(&room->loop, address.sun_path, &sink), -ENOENT);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(sink_new_journal(&room->loop, address.sun_path, &sink), 0);
        assert_true(write_line(sink, "{\"v\":1}"));
        n = recv(fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        assert_non_null(strstr(text, "SYSLOG_IDENTIFIER=agentd\n"));
        assert_non_null(strstr(text, "PRIORITY=6\n"));
        assert_non_null(strstr(text, "MESSAGE=1970-01-01T00:00:00.000Z lifecycle  a it started\n"));
        assert_non_null(strstr(text, "AGENTD_AGENT=a\n"));
        assert_non_null(strstr(text, "AGENTD_EVENT={\"v\":1}\n"));
        /* One that does not read: lost, not waited for. */
        for (int i = 0; i < 100000 && write_line(sink, "{}"); i++)
                ;
        assert_false(write_line(sink, "{}"));
        sink_free(sink);
}

static void off_takes_everything(void **state)
{
        struct room *room = *state;
        struct sink *sink = NULL;

        assert_int_equal(sink_new(&room->loop, "off", &sink), 0);
        assert_true(write_line(sink, "x"));
        assert_int_equal(sink_reopen(sink), 0);
        sink_free(sink);
}

#define sink_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                sink_test(a_file_is_made_for_its_group_to_read_and_appended_to),
                sink_test(the_directory_is_made_when_only_it_is_missing),
                sink_test(refuses_links_and_directories),
                sink_test(a_fifo_without_a_reader_does_not_stop_us),
                sink_test(a_rotated_file_is_followed),
                sink_test(a_full_disk_loses_whole_lines_and_recovers),
                sink_test(more_than_is_gathered_is_written_in_order),
                sink_test(a_device_that_is_full_is_counted),
                sink_test(a_full_pipe_is_queued_for_bounded_and_then_counted),
                sink_test(a_reader_that_goes_kills_nobody_and_its_queue_is_counted),
                sink_test(a_socket_takes_lines_without_being_made_non_blocking),
                sink_test(the_journal_gets_fields),
                sink_test(off_takes_everything),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
