/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Crashes at every write, and disks that fail at every write: what is read back is one flush, whole, and no older than
 * the last that was reported as stored.
 */
#include "tests/unit/ledger/store_rig.h"
#include "tests/unit/ledger/store_vfs.h"

#include <sched.h>
#include <sys/mount.h>

enum { LEDGERS_MIN = 60, LEDGERS_STEP = 10, ROUNDS = 5, GROWING = 8, SECTOR = 512, WINDOW = 20781, KEY_MAX = 80 };

/* A file in memory, as it is on the disk. */
struct image {
        unsigned char *bytes;
        size_t size;
};

static void image_resize(struct image *image, size_t size)
{
        image->bytes = realloc(image->bytes, size + 1);
        assert_non_null(image->bytes);
        if (size > image->size)
                memset(image->bytes + image->size, 0, size - image->size);
        image->size = size;
}

static void image_write(struct image *image, const unsigned char *bytes, size_t size, size_t offset)
{
        if (offset + size > image->size)
                image_resize(image, offset + size);
        memcpy(image->bytes + offset, bytes, size);
}

/* What becomes of writes that no sync has followed. */
enum survival { ALL, NONE, SOME_WRITES, SOME_SECTORS, SURVIVALS };

static void step_apply(struct image *image, const struct vfs_step *step, enum survival survival, unsigned *seed)
{
        if (step->kind == VFS_SYNC || survival == NONE || (survival == SOME_WRITES && rand_r(seed) % 2))
                return;
        if (step->kind == VFS_TRUNCATE) {
                if (survival == ALL || rand_r(seed) % 2)
                        image_resize(image, (size_t)step->offset);
                return;
        }
        if (survival != SOME_SECTORS) {
                image_write(image, step->bytes, (size_t)step->size, (size_t)step->offset);
                return;
        }
        for (size_t at = 0; at < (size_t)step->size; at += SECTOR)
                if (rand_r(seed) % 2)
                        image_write(image, step->bytes + at, MIN((size_t)step->size - at, (size_t)SECTOR),
                                    (size_t)step->offset + at);
}

/* The files after the first n steps and a crash. */
static void crash(struct image images[VFS_FILES], const struct image *before, size_t n, enum survival survival,
                  unsigned *seed)
{
        for (int file = 0; file < VFS_FILES; file++) {
                size_t synced = 0;

                images[file] = (struct image){0};
                if (file == VFS_DATABASE)
                        image_write(&images[file], before->bytes, before->size, 0);
                for (size_t i = 0; i < n; i++)
                        if (vfs.steps[i].file == (enum vfs_file)file && vfs.steps[i].kind == VFS_SYNC)
                                synced = i + 1;
                for (size_t i = 0; i < n; i++)
                        if (vfs.steps[i].file == (enum vfs_file)file)
                                step_apply(&images[file], &vfs.steps[i], i < synced ? ALL : survival, seed);
        }
}

static void key_of(size_t i, char ret[static KEY_MAX])
{
        snprintf(ret, KEY_MAX, "agent/a-rather-long-name-of-an-agent-%04zu/agent/day", i);
}

/* The first rounds have more ledgers than those before, and all of them have used more. */
static size_t ledgers_of(__u64 round)
{
        return round == 0 ? 0 : LEDGERS_MIN + LEDGERS_STEP * MIN((size_t)round, (size_t)GROWING);
}

static int put_round(struct rig *rig, struct state_store *store, __u64 round)
{
        struct stored_ledger all[LEDGERS_MIN + LEDGERS_STEP * GROWING];
        size_t n = ledgers_of(round);

        assert_true(n <= ARRAY_SIZE(all));
        for (size_t i = 0; i < n; i++) {
                char key[KEY_MAX];

                key_of(i, key);
                all[i] = ledger(key, PERIOD_DAY, WINDOW, round * 100000 + i, round);
        }
        return state_store_put(store, all, n, false, &rig->error);
}

/* All ledgers of one round are there, and none of a later one. */
static __u64 round_of(struct state_store *store)
{
        struct stored_ledger got;
        __u64 round = 0;
        char key[KEY_MAX];

        key_of(0, key);
        if (state_store_get(store, key, &got) == 0)
                round = got.granted;
        for (size_t i = 0; i < ledgers_of(round); i++) {
                key_of(i, key);
                assert_int_equal(state_store_get(store, key, &got), 0);
                assert_int_equal(got.granted, round);
                assert_int_equal(got.used, round * 100000 + i);
        }
        key_of(ledgers_of(round), key);
        assert_int_equal(state_store_get(store, key, &got), -ENOENT);
        return round;
}

static void a_crash_at_any_write_leaves_one_whole_flush(void **state)
{
        size_t acknowledged[ROUNDS + 1] = {0}, images_read = 0, newer = 0;
        struct rig *rig = *state, other;
        struct image before = {0};
        struct state_store *store;
        unsigned seed = 1;

        state_store_close(rig_open(rig));
        before.bytes = read_file(rig->file, &before.size);
        vfs.directory = rig->directory;
        store = rig_open(rig);
        for (__u64 round = 1; round <= ROUNDS; round++) {
                assert_int_equal(put_round(rig, store, round), 0);
                acknowledged[round] = vfs.n_steps;
        }
        state_store_close(store);
        vfs.directory = NULL; /* what follows is not written down */
        assert_true(vfs.n_steps > 20 * ROUNDS);

        other = *rig;
        snprintf(other.directory, sizeof(other.directory), "%.60s/crashed", rig->top);
        snprintf(other.file, sizeof(other.file), "%.80s/agentd.db", other.directory);
        snprintf(other.wal, sizeof(other.wal), "%.90s-wal", other.file);
        assert_int_equal(mkdir(other.directory, 0700), 0);
        for (size_t n = 0; n <= vfs.n_steps; n++)
                for (int survival = ALL; survival < SURVIVALS; survival++) {
                        struct image images[VFS_FILES];
                        __u64 round, least = 0;

                        while (least < ROUNDS && acknowledged[least + 1] <= n)
                                least++;
                        crash(images, &before, n, (enum survival)survival, &seed);
                        write_file(other.file, images[VFS_DATABASE].bytes, images[VFS_DATABASE].size);
                        unlink(other.wal);
                        if (images[VFS_WAL].size > 0)
                                write_file(other.wal, images[VFS_WAL].bytes, images[VFS_WAL].size);
                        store = rig_open(&other);
                        round = round_of(store);
                        if (round < least || round > least + 1)
                                fail_msg("after %zu steps, survival %d: round %llu, stored were %llu", n, survival,
                                         (unsigned long long)round, (unsigned long long)least);
                        newer += round > least;
                        images_read++;
                        /* And it goes on from there. */
                        if (n % 16 == 0)
                                assert_int_equal(put_round(&other, store, ROUNDS + 1), 0);
                        state_store_close(store);
                        for (int file = 0; file < VFS_FILES; file++)
                                free(images[file].bytes);
                }
        print_message("%zu crashes at %zu steps of %d flushes\n", images_read, vfs.n_steps + 1, ROUNDS);
        assert_true(newer > 0);
        free(before.bytes);
        vfs_forget();
}

static void a_failing_disk_at_any_write_leaves_the_store_usable(void **state)
{
        static const struct {
                enum vfs_kind kind;
                int result, expected;
        } rows[] = {
                {VFS_WRITE, SQLITE_FULL, -ENOSPC},           {VFS_WRITE, SQLITE_IOERR_WRITE, -EIO},
                {VFS_WRITE, SQLITE_READONLY, -EROFS},        {VFS_SYNC, SQLITE_IOERR_FSYNC, -EIO},
                {VFS_TRUNCATE, SQLITE_IOERR_TRUNCATE, -EIO},
        };
        struct rig *rig = *state;
        struct state_store *store;
        __u64 round = 1;

        vfs.directory = rig->directory;
        store = rig_open(rig);
        assert_int_equal(put_round(rig, store, round), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                for (int persistent = 0; persistent < 2; persistent++) {
                        int at = 0, r;

                        do {
                                __u64 stored = round, read;

                                vfs.fail_kind = rows[i].kind;
                                vfs.result = rows[i].result;
                                vfs.persistent = persistent;
                                vfs.failed = false;
                                vfs.countdown = ++at;
                                rig->error.text[0] = '\0';
                                r = put_round(rig, store, ++round);
                                vfs.countdown = 0;
                                if (vfs.failed && r != rows[i].expected)
                                        fail_msg("row %zu, call %d: %d: %s", i, at, r, rig->error.text);
                                if (!vfs.failed)
                                        assert_int_equal(r, 0);
                                if (r < 0)
                                        assert_non_null(strstr(rig->error.text, rig->file));
                                read = round_of(store);
                                assert_true(read == stored || read == round);
                                if (at % 5 == 1) {
                                        /* Opened by another while the log is as the failure left it. */
                                        struct state_store *second = rig_open(rig);

                                        assert_int_equal(round_of(second), read);
                                        state_store_close(second);
                                }
                                assert_int_equal(put_round(rig, store, ++round), 0);
                                assert_int_equal(round_of(store), round);
                        } while (vfs.failed && at < 100);
                        assert_true(at > 1 && at < 100);
                        if (i % 2) {
                                state_store_close(store);
                                store = rig_open(rig);
                                assert_int_equal(round_of(store), round);
                        }
                }
        state_store_close(store);
        vfs_forget();
        store = rig_open(rig);
        assert_int_equal(round_of(store), round);
        state_store_close(store);
}

/* The same of a real file system that is full, and one that is mounted read-only. */
static void a_full_and_a_read_only_file_system_are_errors_that_pass(void **state)
{
        struct rig *rig = *state;
        struct state_store *store, *second = NULL;
        char filler[128];
        static char zeros[4096];
        int fd;

        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
                print_message("a mount namespace needs root\n");
                skip();
        }
        assert_int_equal(mkdir(rig->directory, 0700), 0);
        assert_int_equal(mount("none", rig->directory, "tmpfs", 0, "size=1m,mode=0700"), 0);
        store = rig_open(rig);
        assert_int_equal(put_round(rig, store, 1), 0);

        snprintf(filler, sizeof(filler), "%s/filler", rig->directory);
        fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        while (write(fd, zeros, sizeof(zeros)) > 0)
                ;
        assert_int_equal(errno, ENOSPC);
        close(fd);
        assert_int_equal(put_round(rig, store, 2), -ENOSPC);
        assert_int_equal(put_round(rig, store, 3), -ENOSPC);
        assert_int_equal(round_of(store), 1);
        assert_int_equal(unlink(filler), 0);
        assert_int_equal(put_round(rig, store, 4), 0);
        assert_int_equal(round_of(store), 4);
        state_store_close(store);

        /* No file can be made, none can be written. */
        assert_int_equal(mount(NULL, rig->directory, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
        assert_refused(rig, -EROFS, "writable");
        assert_int_equal(mount(NULL, rig->directory, NULL, MS_REMOUNT, NULL), 0);
        second = rig_open(rig);
        assert_int_equal(round_of(second), 4);
        state_store_close(second);
        assert_int_equal(umount(rig->directory), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_crash_at_any_write_leaves_one_whole_flush),
                TEST(a_failing_disk_at_any_write_leaves_the_store_usable),
                TEST(a_full_and_a_read_only_file_system_are_errors_that_pass),
        };

        return cmocka_run_group_tests_name("store_crash", tests, vfs_register, vfs_unregister);
}
