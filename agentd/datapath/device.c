/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 3 in the kernel; see the header. The order is that of attach.c: what the program goes by is there before it
 * is, and nothing is detached before its successor holds.
 */
#include "agentd/datapath/device.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <string.h>
#include <time.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

/* Of linux/bpf.h from 6.6 on. */
enum { ATTACH_TCX_INGRESS = 46, LINK_TYPE_TCX = 11, ATTACH_BEFORE = 1 << 3 };

/* Of our filter, where it is one. The lowest priority number is asked first. */
enum { FILTER_HANDLE = 0xa9e47d, FILTER_PRIORITY = 1 };

/* A frame in flight may still read the slot that it was led to. */
enum { SLOT_REST_NS = 1500000000 };

static __u64 now(void)
{
        struct timespec time;

        (void)clock_gettime(CLOCK_BOOTTIME, &time);
        return (__u64)time.tv_sec * NSEC_PER_SEC + (__u64)time.tv_nsec;
}

static struct device_record *record_find(struct datapath *datapath, __u32 ifindex)
{
        struct device_record *record = NULL;

        HASH_FIND(hh, datapath->devices, &ifindex, sizeof(ifindex), record);
        return record;
}

static struct device_record *record_add(struct datapath *datapath, __u32 ifindex, __u32 agent_id)
{
        struct device_record *record = calloc(1, sizeof(*record));

        if (!record)
                return NULL;
        record->ifindex = ifindex;
        record->device.agent_id = agent_id;
        record->link = -1;
        HASH_ADD(hh, datapath->devices, ifindex, sizeof(record->ifindex), record);
        return record;
}

static int pin_path(const struct datapath *datapath, const struct device_record *record, char **ret)
{
        return asprintf(ret, "%s/links/%u/device-%u", datapath->directory, record->device.agent_id, record->ifindex) < 0
                       ? -ENOMEM
                       : 0;
}

/* How the kernel refuses an interface that cannot be tells whether it knows the attach type. */
bool datapath_device_tcx(struct datapath *datapath)
{
        if (datapath->device_kind == DEVICE_KIND_UNKNOWN) {
                int fd = bpf_link_create(bpf_program__fd(datapath->skeleton->progs.agentd_device), INT32_MAX,
                                         (enum bpf_attach_type)ATTACH_TCX_INGRESS, NULL);

                if (fd >= 0)
                        close(fd);
                datapath->device_kind = fd == -ENODEV ? DEVICE_KIND_TCX : DEVICE_KIND_CLSACT;
        }
        return datapath->device_kind == DEVICE_KIND_TCX;
}

static int slot_take(struct datapath *datapath, __u32 *ret)
{
        __u64 now_ns = now();

        for (__u32 i = 0; i < DEVICE_SLOTS_MAX; i++) {
                __u32 slot = (datapath->next_device_slot + i) % DEVICE_SLOTS_MAX;

                if (slot == 0 || datapath->device_slots_used[slot] ||
                    (datapath->device_slots_left_ns[slot] &&
                     now_ns - datapath->device_slots_left_ns[slot] < SLOT_REST_NS))
                        continue;
                datapath->next_device_slot = slot + 1;
                *ret = slot;
                return 0;
        }
        return -ENOSPC;
}

static void slot_leave(struct datapath *datapath, __u32 slot)
{
        datapath->device_slots_used[slot] = false;
        datapath->device_slots_left_ns[slot] = now();
}

static int devices_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.devices);
}

static int places_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.device_places);
}

static int slots_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.device_slots);
}

/* A slot that a packet may look for at the ifindex's place, or by the hash. */
static int slot_lead(struct datapath *datapath, __u32 ifindex, __u32 slot)
{
        __u32 place = ifindex % DEVICE_PLACES;
        int r = bpf_map_update_elem(devices_fd(datapath), &ifindex, &slot, BPF_ANY);

        if (r == 0)
                r = bpf_map_update_elem(places_fd(datapath), &place, &slot, BPF_ANY);
        return r == -E2BIG ? -ENOSPC : r;
}

static void slot_mislead(struct datapath *datapath, __u32 ifindex, __u32 slot)
{
        __u32 place = ifindex % DEVICE_PLACES, there = 0, nobody = 0;

        (void)bpf_map_delete_elem(devices_fd(datapath), &ifindex);
        if (bpf_map_lookup_elem(places_fd(datapath), &place, &there) == 0 && there == slot)
                (void)bpf_map_update_elem(places_fd(datapath), &place, &nobody, BPF_ANY);
}

/* 0: none is free, and each of its frames is judged anew. */
static __u16 line_take(struct datapath *datapath)
{
        for (__u16 line = 1; line < DEVICE_LINES_MAX; line++) {
                if (datapath->device_lines_used[line])
                        continue;
                datapath->device_lines_used[line] = true;
                return line;
        }
        return 0;
}

int datapath_device_get(struct datapath *datapath, __u32 ifindex, struct device *ret)
{
        struct device device = {};
        __u32 slot = 0;

        if (bpf_map_lookup_elem(devices_fd(datapath), &ifindex, &slot) < 0 || slot == 0 || slot >= DEVICE_SLOTS_MAX ||
            bpf_map_lookup_elem(slots_fd(datapath), &slot, &device) < 0 || device.ifindex != ifindex ||
            device.n_addresses > DEVICE_ADDRESSES_MAX)
                return -ENOENT;
        *ret = device;
        return 0;
}

int datapath_device_set(struct datapath *datapath, const struct device *device)
{
        struct device_record *record = record_find(datapath, device->ifindex);
        struct device entry = *device;
        __u32 slot;
        int r;

        if (device->agent_id == 0 || device->agent_id >= AGENT_MAX || device->ifindex == 0 ||
            device->n_addresses > DEVICE_ADDRESSES_MAX || device->n_gateways > DEVICE_GATEWAYS_MAX)
                return -EINVAL;
        if (record && record->device.agent_id != device->agent_id)
                return -EEXIST;
        r = slot_take(datapath, &slot);
        if (r < 0)
                return r;
        if (!record)
                record = record_add(datapath, device->ifindex, device->agent_id);
        if (!record)
                return -ENOMEM;
        if (record->device.line == 0)
                record->device.line = line_take(datapath);
        entry.line = record->device.line;
        r = bpf_map_update_elem(slots_fd(datapath), &slot, &entry, BPF_ANY);
        if (r == 0)
                r = slot_lead(datapath, device->ifindex, slot);
        if (r < 0)
                return r;

        datapath->device_slots_used[slot] = true;
        if (record->written)
                slot_leave(datapath, record->slot);
        record->slot = slot;
        record->written = true;
        record->device = entry;
        return 0;
}

static int program_fd(const struct datapath *datapath)
{
        return bpf_program__fd(datapath->skeleton->progs.agentd_device);
}

static __u32 program_id(const struct datapath *datapath)
{
        struct bpf_prog_info info = {};
        __u32 size = sizeof(info);

        return bpf_obj_get_info_by_fd(program_fd(datapath), &info, &size) < 0 ? 0 : info.id;
}

static int link_holds(const struct datapath *datapath, const struct device_record *record)
{
        struct bpf_link_info info = {};
        __u32 size = sizeof(info), where[2];

        if (record->link < 0 || bpf_obj_get_info_by_fd(record->link, &info, &size) < 0)
                return -ENOENT;
        /* struct bpf_link_info.tcx: ifindex (0 when the device is gone), attach_type. The headers are older. */
        memcpy(where, &info.raw_tracepoint, sizeof(where));
        return (__u32)info.type == LINK_TYPE_TCX && where[0] == record->ifindex && where[1] == ATTACH_TCX_INGRESS &&
                               info.prog_id == program_id(datapath)
                       ? 0
                       : -ENOENT;
}

static int filter_holds(const struct datapath *datapath, const struct device_record *record)
{
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)record->ifindex, .attach_point = BPF_TC_INGRESS);
        LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);

        return bpf_tc_query(&hook, &options) == 0 && options.prog_id == program_id(datapath) ? 0 : -ENOENT;
}

static int program_holds(struct datapath *datapath, const struct device_record *record)
{
        return datapath_device_tcx(datapath) ? link_holds(datapath, record) : filter_holds(datapath, record);
}

static int pin_holds(const struct datapath *datapath, const struct device_record *record)
{
        _cleanup_free_ char *path = NULL;
        int r = pin_path(datapath, record, &path);

        if (r < 0)
                return r;
        return access(path, F_OK) < 0 ? -errno : 0;
}

/* The pin is replaced by rename, so that there is one at every instant. */
static int pin_replace(struct datapath *datapath, const struct device_record *record, int fd)
{
        _cleanup_free_ char *path = NULL, *fresh = NULL;
        int r = datapath_agent_directory_make(datapath, record->device.agent_id);

        if (r == 0)
                r = pin_path(datapath, record, &path);
        if (r < 0)
                return r;
        if (asprintf(&fresh, "%s-new", path) < 0)
                return -ENOMEM;
        (void)unlink(fresh); /* of a daemon that died right here */
        r = bpf_obj_pin(fd, fresh);
        if (r < 0)
                return r;
        if (rename(fresh, path) < 0) {
                r = -errno;
                (void)unlink(fresh);
        }
        return r;
}

static int link_make(struct datapath *datapath, struct device_record *record)
{
        LIBBPF_OPTS(bpf_link_create_opts, options, .flags = ATTACH_BEFORE);
        _cleanup_close_ int fd = bpf_link_create(program_fd(datapath), (int)record->ifindex,
                                                 (enum bpf_attach_type)ATTACH_TCX_INGRESS, &options);
        int r;

        if (fd < 0)
                return fd;
        r = pin_replace(datapath, record, fd);
        if (r < 0)
                return r;
        close_fd(&record->link);
        record->link = TAKE_FD(fd);
        return 0;
}

static int filter_make(struct datapath *datapath, struct device_record *record)
{
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)record->ifindex, .attach_point = BPF_TC_INGRESS);
        LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY,
                    .prog_fd = program_fd(datapath), .flags = BPF_TC_F_REPLACE);
        int r = bpf_tc_hook_create(&hook);

        if (r < 0 && r != -EEXIST)
                return r;
        r = bpf_tc_attach(&hook, &options);
        return r < 0 ? r : pin_replace(datapath, record, program_fd(datapath));
}

int datapath_device_attach(struct datapath *datapath, __u32 ifindex)
{
        struct device_record *record = record_find(datapath, ifindex);

        if (!record || !record->written)
                return -ENOENT;
        if (program_holds(datapath, record) == 0) {
                if (pin_holds(datapath, record) == 0)
                        return 0;
                return pin_replace(datapath, record,
                                   datapath_device_tcx(datapath) ? record->link : program_fd(datapath));
        }
        return datapath_device_tcx(datapath) ? link_make(datapath, record) : filter_make(datapath, record);
}

int datapath_device_verify(struct datapath *datapath, __u32 ifindex)
{
        const struct device_record *record = record_find(datapath, ifindex);
        struct device device;
        __u32 slot;

        if (!record || !record->written || program_holds(datapath, record) < 0 || pin_holds(datapath, record) < 0)
                return -ENOENT;
        if (bpf_map_lookup_elem(devices_fd(datapath), &ifindex, &slot) < 0 || slot != record->slot ||
            bpf_map_lookup_elem(slots_fd(datapath), &slot, &device) < 0 ||
            memcmp(&device, &record->device, sizeof(device)) != 0)
                return -ENOENT;
        return 0;
}

static void filter_drop(const char *path, __u32 ifindex)
{
        LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
        LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);
        _cleanup_close_ int fd = bpf_obj_get(path);
        struct bpf_prog_info info = {};
        __u32 size = sizeof(info);

        /* The interface may be another one by now, of another agentd's agent. */
        if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) < 0 || info.type != BPF_PROG_TYPE_SCHED_CLS ||
            bpf_tc_query(&hook, &options) < 0 || options.prog_id != info.id)
                return;
        options.flags = 0;
        options.prog_fd = 0;
        options.prog_id = 0;
        (void)bpf_tc_detach(&hook, &options);
}

/* What is known about it goes after the program: until then it is dropped in nobody's name. */
void datapath_device_remove(struct datapath *datapath, __u32 ifindex)
{
        struct device_record *record = record_find(datapath, ifindex);
        _cleanup_free_ char *path = NULL, *fresh = NULL;

        if (!record)
                return;
        if (pin_path(datapath, record, &path) == 0) {
                if (!datapath_device_tcx(datapath))
                        filter_drop(path, ifindex);
                (void)unlink(path);
                if (asprintf(&fresh, "%s-new", path) >= 0)
                        (void)unlink(fresh);
        }
        close_fd(&record->link);
        slot_mislead(datapath, ifindex, record->slot);
        if (record->written)
                slot_leave(datapath, record->slot);
        datapath->device_lines_used[record->device.line] = false;
        HASH_DEL(datapath->devices, record);
        free(record);
}

size_t datapath_devices_of(struct datapath *datapath, __u32 agent_id, __u32 *ret, size_t capacity)
{
        struct device_record *record, *next;
        size_t n = 0;

        HASH_ITER (hh, datapath->devices, record, next) {
                if (record->device.agent_id != agent_id)
                        continue;
                if (n < capacity)
                        ret[n] = record->ifindex;
                n++;
        }
        return n;
}

void datapath_devices_drop(struct datapath *datapath, __u32 agent_id)
{
        struct device_record *record, *next;

        HASH_ITER (hh, datapath->devices, record, next)
                if (record->device.agent_id == agent_id)
                        datapath_device_remove(datapath, record->ifindex);
}

/* The new program, in place of the old one. */
static void adopt_link(struct datapath *datapath, struct device_record *record, const char *path)
{
        _cleanup_close_ int fd = bpf_obj_get(path);

        if (fd >= 0 && bpf_link_update(fd, program_fd(datapath), NULL) == 0)
                record->link = TAKE_FD(fd);
}

static int adopt_one(struct datapath *datapath, __u32 ifindex, __u32 slot)
{
        struct device_record *record;
        struct device device;
        _cleanup_free_ char *path = NULL;
        int r;

        if (slot == 0 || slot >= DEVICE_SLOTS_MAX || bpf_map_lookup_elem(slots_fd(datapath), &slot, &device) < 0 ||
            device.ifindex != ifindex || device.agent_id == 0 || device.agent_id >= AGENT_MAX)
                return -EBADMSG;
        record = record_add(datapath, ifindex, device.agent_id);
        if (!record)
                return -ENOMEM;
        record->device = device;
        record->slot = slot;
        record->written = true;
        datapath->device_slots_used[slot] = true;
        if (device.line >= DEVICE_LINES_MAX || datapath->device_lines_used[device.line])
                record->device.line = 0; /* damaged: written anew with the next change */
        datapath->device_lines_used[record->device.line] = true;

        /* Where it fails the device may be gone, or not: whoever looks for the agent's devices next makes it good. */
        r = pin_path(datapath, record, &path);
        if (r < 0)
                return r;
        if (datapath_device_tcx(datapath))
                adopt_link(datapath, record, path);
        else if (access(path, F_OK) == 0 && filter_make(datapath, record) < 0)
                log_debug("the device %u of agent %u is not what it was", ifindex, device.agent_id);
        return 0;
}

struct found_devices {
        struct {
                __u32 ifindex, slot;
        } items[DEVICES_MAX];
        size_t n;
};

static int found_add(void *context, const void *key, const void *value)
{
        struct found_devices *found = context;

        if (found->n == DEVICES_MAX)
                return -E2BIG;
        memcpy(&found->items[found->n].ifindex, key, sizeof(__u32));
        memcpy(&found->items[found->n].slot, value, sizeof(__u32));
        found->n++;
        return 0;
}

int datapath_devices_adopt(struct datapath *datapath)
{
        _cleanup_free_ struct found_devices *found = calloc(1, sizeof(*found));
        int r;

        if (!found)
                return -ENOMEM;
        r = datapath_map_each(devices_fd(datapath), sizeof(__u32), sizeof(__u32), found_add, found);
        if (r < 0)
                return r;
        for (size_t i = 0; i < found->n; i++) {
                r = adopt_one(datapath, found->items[i].ifindex, found->items[i].slot);
                if (r == -EBADMSG) /* no program goes by it, or it drops */
                        (void)bpf_map_delete_elem(devices_fd(datapath), &found->items[i].ifindex);
                else if (r < 0)
                        return r;
        }
        return 0;
}

void datapath_devices_sweep(struct datapath *datapath)
{
        struct device_record *record, *next;

        HASH_ITER (hh, datapath->devices, record, next)
                if (!datapath->agents[record->device.agent_id].attached)
                        datapath_device_remove(datapath, record->ifindex);
}

void datapath_devices_close(struct datapath *datapath)
{
        struct device_record *record, *next;

        HASH_ITER (hh, datapath->devices, record, next) {
                HASH_DEL(datapath->devices, record);
                close_fd(&record->link);
                free(record);
        }
}

/* Links end with their pins; filters must be taken away. */
void datapath_devices_uninstall(const char *directory)
{
        static const char *const patterns[] = {"%s/links/*/device-*", "%s/v*/links/*/device-*"};

        for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
                _cleanup_free_ char *pattern = NULL;
                glob_t found = {};

                if (asprintf(&pattern, patterns[i], directory) < 0)
                        return;
                if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t j = 0; j < found.gl_pathc; j++)
                                filter_drop(found.gl_pathv[j],
                                            (__u32)strtoul(strrchr(found.gl_pathv[j], '-') + 1, NULL, 10));
                globfree(&found);
        }
}
