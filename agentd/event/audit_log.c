/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The text between `"event":` and the last brace is what is hashed, byte by byte: no canonical JSON is needed.
 */
#include "agentd/event/audit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static const char name_now[] = "audit.jsonl", name_before[] = "audit.jsonl.1";
static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
static const char head[] = "{\"hash\":\"", middle[] = "\",\"prev\":\"", before_event[] = "\",\"event\":";

enum { EVENT_AT = sizeof(head) - 1 + AUDIT_HASH_HEX + sizeof(middle) - 1 + AUDIT_HASH_HEX + sizeof(before_event) - 1 };

struct audit_log {
        int directory, fd;
        off_t size;
        char last[AUDIT_HASH_HEX + 1];
};

static void hash_of(const char *prev, const char *event, size_t length, char ret[AUDIT_HASH_HEX + 1])
{
        static const char digits[] = "0123456789abcdef";
        unsigned char digest[SHA256_DIGEST_LENGTH];
        _cleanup_free_ char *joined = malloc(AUDIT_HASH_HEX + length);

        ret[0] = '\0';
        if (!joined)
                return; /* which fits no line */
        memcpy(joined, prev, AUDIT_HASH_HEX);
        memcpy(joined + AUDIT_HASH_HEX, event, length);
        SHA256((const unsigned char *)joined, AUDIT_HASH_HEX + length, digest);
        for (size_t i = 0; i < sizeof(digest); i++) {
                ret[2 * i] = digits[digest[i] >> 4];
                ret[2 * i + 1] = digits[digest[i] & 15];
        }
        ret[AUDIT_HASH_HEX] = '\0';
}

/* Does the line have the form? Its parts, borrowed. */
static bool line_parse(const char *line, size_t length, const char **ret_hash, const char **ret_prev,
                       const char **ret_event, size_t *ret_event_length)
{
        const char *at_middle = line + sizeof(head) - 1 + AUDIT_HASH_HEX, *prev = at_middle + sizeof(middle) - 1;

        if (length < EVENT_AT + 3 || memcmp(line, head, sizeof(head) - 1) != 0 ||
            memcmp(at_middle, middle, sizeof(middle) - 1) != 0 ||
            memcmp(prev + AUDIT_HASH_HEX, before_event, sizeof(before_event) - 1) != 0 || line[length - 1] != '}')
                return false;
        *ret_hash = line + sizeof(head) - 1;
        *ret_prev = prev;
        *ret_event = line + EVENT_AT;
        *ret_event_length = length - EVENT_AT - 1;
        return true;
}

static int read_file(int directory, const char *name, char **ret, size_t *ret_size)
{
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        _cleanup_free_ char *text = NULL;
        struct stat status;
        size_t done = 0;

        if (fd < 0 || fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode) || status.st_size > 4 * AUDIT_FILE_MAX)
                return -EINVAL;
        text = malloc((size_t)status.st_size + 1);
        if (!text)
                return -ENOMEM;
        while (done < (size_t)status.st_size) {
                ssize_t n = read(fd, text + done, (size_t)status.st_size - done);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        break;
                done += n > 0 ? (size_t)n : 0;
        }
        text[done] = '\0';
        *ret_size = done;
        *ret = TAKE_PTR(text);
        return 0;
}

/* --- reading ---------------------------------------------------------------------------------------------------------
 */

static void time_text(__u64 ns, char *text, size_t size)
{
        time_t seconds = (time_t)(ns / NSEC_PER_SEC);
        struct tm parts;

        gmtime_r(&seconds, &parts);
        snprintf(text, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09lluZ", parts.tm_year + 1900, parts.tm_mon + 1,
                 parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (unsigned long long)(ns % NSEC_PER_SEC));
}

struct reading {
        struct audit_check *check;
        size_t line;
        bool begun;
        char prev[AUDIT_HASH_HEX + 1];
        char since[64]; /* "": all */
        json_t *events;
};

static void is_broken(struct reading *reading, const char *why)
{
        if (reading->check->broken)
                return;
        reading->check->broken = reading->line;
        reading->check->why = why;
}

static void read_line(struct reading *reading, const char *line, size_t length, bool whole)
{
        const char *hash, *prev, *event, *time;
        char expected[AUDIT_HASH_HEX + 1];
        size_t event_length;
        json_t *json;

        reading->line++;
        if (!whole || !line_parse(line, length, &hash, &prev, &event, &event_length)) {
                is_broken(reading, "it is no line of an audit log");
                return;
        }
        hash_of(prev, event, event_length, expected);
        if (memcmp(expected, hash, AUDIT_HASH_HEX) != 0)
                is_broken(reading, "its hash does not fit what it says");
        else if (memcmp(prev, reading->prev, AUDIT_HASH_HEX) != 0)
                is_broken(reading, "it does not follow the line before");
        memcpy(reading->prev, hash, AUDIT_HASH_HEX);
        reading->check->entries++;
        if (!reading->events)
                return;
        json = json_loadb(event, event_length, 0, NULL);
        time = json_string_value(json_object_get(json, "time"));
        if (json && time && strcmp(time, reading->since) >= 0)
                (void)json_array_append(reading->events, json);
        json_decref(json);
}

static void read_lines(struct reading *reading, const char *text, size_t size)
{
        while (size > 0) {
                const char *newline = memchr(text, '\n', size);
                size_t length = newline ? (size_t)(newline - text) : size;
                const char *hash, *prev, *event;
                size_t event_length;

                /* The oldest line that is kept may follow one that is not. */
                if (!reading->begun && line_parse(text, length, &hash, &prev, &event, &event_length))
                        memcpy(reading->prev, prev, AUDIT_HASH_HEX);
                reading->begun = true;
                read_line(reading, text, length, newline != NULL);
                text += length + (newline != NULL);
                size -= length + (newline != NULL);
        }
}

int audit_log_read(const char *directory, __u64 since_ns, json_t *ret_events, struct audit_check *ret)
{
        _cleanup_close_ int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *before = NULL, *now = NULL;
        struct reading reading = {.check = ret, .events = ret_events};
        size_t before_size = 0, now_size = 0;
        int r;

        *ret = (struct audit_check){0};
        if (fd < 0)
                return -errno;
        memcpy(reading.prev, zeros, sizeof(zeros));
        if (since_ns)
                time_text(since_ns, reading.since, sizeof(reading.since));
        r = read_file(fd, name_before, &before, &before_size);
        /* The first of all lines follows none. */
        reading.begun = r == -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        r = read_file(fd, name_now, &now, &now_size);
        if (r < 0 && (r != -ENOENT || !before))
                return r;
        if (before)
                read_lines(&reading, before, before_size);
        if (now)
                read_lines(&reading, now, now_size);
        return 0;
}

/* --- writing ---------------------------------------------------------------------------------------------------------
 */

/* The hash of the last whole line; the size up to its end. */
static void find_end(const char *text, size_t size, char ret_last[AUDIT_HASH_HEX + 1], size_t *ret_end)
{
        const char *hash, *prev, *event;
        size_t event_length, start;

        while (size > 0 && text[size - 1] != '\n')
                size--;
        *ret_end = size;
        if (size == 0)
                return;
        for (start = size - 1; start > 0 && text[start - 1] != '\n'; start--)
                ;
        if (line_parse(text + start, size - 1 - start, &hash, &prev, &event, &event_length))
                memcpy(ret_last, hash, AUDIT_HASH_HEX);
}

static int open_now(struct audit_log *log)
{
        log->fd = openat(log->directory, name_now, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
                         0600);
        return log->fd < 0 ? -errno : 0;
}

int audit_log_open(const char *directory, struct audit_log **ret)
{
        struct audit_log *log = calloc(1, sizeof(*log));
        _cleanup_free_ char *text = NULL, *before = NULL;
        size_t size = 0, end = 0, ignored;
        int r;

        if (!log)
                return -ENOMEM;
        log->fd = -1;
        memcpy(log->last, zeros, sizeof(zeros));
        log->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = log->directory < 0 ? -errno : read_file(log->directory, name_now, &text, &size);
        if (r == -ENOENT && log->directory >= 0) {
                r = 0;
                /* A cut between the renaming and the first line of the new file. */
                if (read_file(log->directory, name_before, &before, &size) == 0)
                        find_end(before, size, log->last, &ignored);
                size = 0;
        } else if (r == 0) {
                find_end(text, size, log->last, &end);
        }
        if (r == 0)
                r = open_now(log);
        if (r == 0 && end < size && ftruncate(log->fd, (off_t)end) < 0)
                r = -errno;
        if (r < 0) {
                audit_log_free(log);
                return r;
        }
        log->size = (off_t)end;
        *ret = log;
        return 0;
}

void audit_log_free(struct audit_log *log)
{
        if (!log)
                return;
        close_fd(&log->fd);
        close_fd(&log->directory);
        free(log);
}

static int rotate(struct audit_log *log)
{
        if (renameat(log->directory, name_now, log->directory, name_before) < 0)
                return -errno;
        close_fd(&log->fd);
        log->size = 0;
        return open_now(log);
}

int audit_log_add(struct audit_log *log, const char *event)
{
        _cleanup_free_ char *line = NULL;
        char hash[AUDIT_HASH_HEX + 1];
        ssize_t n;
        int length, r;

        if (log->fd < 0 || log->size >= AUDIT_FILE_MAX) {
                r = log->fd < 0 ? open_now(log) : rotate(log);
                if (r < 0)
                        return r;
        }
        hash_of(log->last, event, strlen(event), hash);
        length = asprintf(&line, "%s%s%s%s%s%s}\n", head, hash, middle, log->last, before_event, event);
        if (length < 0 || !hash[0])
                return -ENOMEM;
        n = write(log->fd, line, (size_t)length);
        if (n != length || fdatasync(log->fd) < 0) {
                r = n < 0 || n == length ? -errno : -ENOSPC;
                /* Half a line must not stand before the next one. */
                if (n > 0 && ftruncate(log->fd, log->size) < 0)
                        close_fd(&log->fd);
                return r;
        }
        log->size += length;
        memcpy(log->last, hash, sizeof(log->last));
        return 0;
}
