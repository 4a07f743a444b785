/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of the ring buffer. They come from our own programs, or from whoever replaced them: nothing is believed, and
 * a record with one odd field is refused as a whole (the caller counts it).
 */
#include "agentd/event/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/abi_budget.h"
#include "agentd/abi_unix.h"
#include "agentd/util/cleanup.h"

static bool address_is_unset(const struct address *address)
{
        static const struct address none, none_mapped = {.bytes = {[10] = 0xff, [11] = 0xff}};

        return !memcmp(address, &none, sizeof(none)) || !memcmp(address, &none_mapped, sizeof(none_mapped));
}

static bool record_is_sound(const struct verdict_record *record, size_t size, enum record_kind kind)
{
        if (record->header.size != size || record->header.kind != kind || record->header.abi != AGENTD_ABI_VERSION)
                return false;
        if (record->action != VERDICT_DENY && record->action != VERDICT_ALLOW)
                return false;
        /* An allow without a reason is no event. */
        if (record->reason == REASON_NONE || record->reason > REASON_UNIX_SOCKET)
                return false;
        if (record->hook == HOOK_NONE || record->hook >= HOOK_MAX)
                return false;
        return record->direction <= DIRECTION_INGRESS && record->agent_id < AGENT_MAX;
}

static bool budget_is_sound(const struct budget_record *record, size_t size)
{
        if (record->header.size != size || record->header.kind != RECORD_BUDGET ||
            record->header.abi != AGENTD_ABI_VERSION)
                return false;
        if (record->percent != 80 && record->percent != 100)
                return false;
        if (record->ledger == 0 || record->ledger >= LEDGERS_MAX)
                return false;
        /* Two numbers of 48 bits may be added up: a limit and its grants. */
        return record->charged <= LEDGER_BYTES_MAX && record->limit <= 2 * LEDGER_BYTES_MAX &&
               record->agent_id < AGENT_MAX;
}

static int decode_budget(const void *data, size_t size, __s64 boot_to_real_ns, struct event *ret)
{
        struct budget_record record;

        memcpy(&record, data, sizeof(record));
        if (!budget_is_sound(&record, size))
                return -EBADMSG;
        *ret = (struct event){
                .type = EVENT_BUDGET,
                .time_ns = record.time_ns + (__u64)boot_to_real_ns,
                .reason = record.percent == 100 ? REASON_BUDGET_EXHAUSTED : REASON_NONE,
                .ip_protocol = 255,
                .used = record.charged,
                .limit = record.limit,
                .percent = record.percent,
                .window_end_s = UINT64_MAX,
                .count = 1,
        };
        return 0;
}

static bool socket_is_sound(const struct socket_record *record, size_t size)
{
        return record_is_sound(&record->verdict, size, RECORD_SOCKET) &&
               (record->verdict.hook == HOOK_CONNECT_UNIX || record->verdict.hook == HOOK_SOCKET_CREATE) &&
               record->path_length <= UNIX_PATH_MAX_BYTES;
}

/* The address ends where its NUL is, an abstract one where its padding begins. */
static void copy_path(struct event *event, const struct socket_record *record)
{
        size_t length = record->path_length;

        if (length > 0 && record->path[0] != '\0')
                length = strnlen((const char *)record->path, length);
        while (length > 1 && record->path[length - 1] == '\0')
                length--;
        memcpy(event->path, record->path, length);
        event->path_length = (__u8)length;
        event->family = record->family;
}

int event_decode(const void *record, size_t size, __s64 boot_to_real_ns, struct event *ret)
{
        struct socket_record socket = {};
        struct verdict_record verdict;

        if (size == sizeof(struct budget_record))
                return decode_budget(record, size, boot_to_real_ns, ret);
        if (size == sizeof(socket)) {
                memcpy(&socket, record, sizeof(socket));
                if (!socket_is_sound(&socket, size))
                        return -EBADMSG;
                verdict = socket.verdict;
        } else if (size == sizeof(verdict)) {
                memcpy(&verdict, record, sizeof(verdict)); /* it may stand at any address */
                if (!record_is_sound(&verdict, size, RECORD_VERDICT))
                        return -EBADMSG;
        } else {
                return -EBADMSG;
        }

        *ret = (struct event){
                .type = verdict.action == VERDICT_DENY ? EVENT_DENY : EVENT_WOULD_DENY,
                .time_ns = verdict.time_ns + (__u64)boot_to_real_ns,
                .generation = verdict.generation,
                .audit = verdict.action == VERDICT_ALLOW,
                .reason = verdict.reason,
                .hook = verdict.hook,
                .direction = verdict.direction,
                .ip_protocol = verdict.ip_protocol,
                .has_source = !address_is_unset(&verdict.source),
                /* A socket's creation has no destination, nor has a frame that is no IP; a connect() to 0.0.0.0 or ::
                 * has that one. */
                .has_destination =
                        size == sizeof(verdict) && ((verdict.hook != HOOK_SOCK_CREATE && verdict.hook != HOOK_DEVICE) ||
                                                    !address_is_unset(&verdict.destination)),
                .source = verdict.source,
                .destination = verdict.destination,
                .source_port = verdict.source_port,
                .destination_port = verdict.destination_port,
                .pid = verdict.pid,
                .tid = verdict.tid,
                .uid = verdict.uid,
                .cgroup_id = verdict.cgroup_id,
                .flow = verdict.flow,
                .bytes = verdict.bytes,
                .count = 1,
        };
        memcpy(ret->comm, verdict.comm, sizeof(ret->comm) - 1);
        if (size == sizeof(socket))
                copy_path(ret, &socket);
        return 0;
}

void event_complete_process(struct event *event)
{
        char path[64], comm[COMM_MAX + 1] = "", exe[sizeof(event->exe)];
        _cleanup_close_ int task_fd = -1, comm_fd = -1;
        ssize_t length;

        if (event->pid == 0 || event->exe[0] != '\0')
                return;

        /* One descriptor for both files: the pid cannot become another process between them. */
        snprintf(path, sizeof(path), "/proc/%u/task/%u", event->pid, event->tid ? event->tid : event->pid);
        task_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (task_fd < 0)
                return;
        length = readlinkat(task_fd, "exe", exe, sizeof(exe) - 1);
        if (length <= 0)
                return;
        exe[length] = '\0';

        comm_fd = openat(task_fd, "comm", O_RDONLY | O_CLOEXEC);
        if (comm_fd < 0)
                return;
        length = read(comm_fd, comm, sizeof(comm) - 1);
        if (length <= 0)
                return;
        comm[strcspn(comm, "\n")] = '\0';
        if (strncmp(comm, event->comm, sizeof(event->comm) - 1) != 0)
                return;
        strcpy(event->exe, exe);
}
