/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the store may be: what others could have put there is not read, and nothing is written through a link.
 */
#include "tests/unit/ledger/store_rig.h"

#include <sys/socket.h>
#include <sys/un.h>

static const char *const names[] = {"agentd.db", "agentd.db-wal", "agentd.db-shm", "agentd.db-journal"};

static void path_of(const struct rig *rig, const char *name, char ret[static 128])
{
        snprintf(ret, 128, "%s/%s", rig->directory, name);
}

static void assert_mode(const char *path, mode_t mode)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, mode);
        assert_int_equal(st.st_uid, geteuid());
}

static void directory_and_files_are_private_whatever_the_umask(void **state)
{
        static const mode_t masks[] = {0, 022, 077};
        struct rig *rig = *state;

        for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
                mode_t before = umask(masks[i]);
                struct state_store *store = rig_open(rig);
                char path[128];

                rig_put(rig, store, ledger("k", PERIOD_DAY, 1, 1, 0), false);
                umask(before);
                assert_mode(rig->directory, 0700);
                for (size_t j = 0; j < 3; j++) {
                        path_of(rig, names[j], path);
                        assert_mode(path, 0600);
                }
                state_store_close(store);
                assert_mode(rig->file, 0600);
                /* Nothing else is left. */
                assert_int_equal(unlink(rig->file), 0);
                assert_int_equal(rmdir(rig->directory), 0);
        }
}

static void a_directory_that_others_may_only_read_is_taken(void **state)
{
        struct rig *rig = *state;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        assert_int_equal(chmod(rig->directory, 0755), 0);
        state_store_close(rig_open(rig));
        assert_int_equal(chmod(rig->file, 0644), 0);
        state_store_close(rig_open(rig));
        assert_mode(rig->file, 0600);
}

static void a_directory_that_others_may_write_to_is_refused(void **state)
{
        static const mode_t modes[] = {0720, 0702, 01777, 0770};
        struct rig *rig = *state;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                assert_int_equal(chmod(rig->directory, modes[i]), 0);
                assert_refused(rig, -EPERM, "others may write");
        }
        assert_int_equal(access(rig->file, F_OK), -1);
}

static void what_is_no_directory_is_refused(void **state)
{
        struct rig *rig = *state;

        write_file(rig->directory, "", 0);
        assert_refused(rig, -ENOTDIR, "must be a directory");
        assert_int_equal(unlink(rig->directory), 0);
        snprintf(rig->directory, sizeof(rig->directory), "%s/none/state", rig->top);
        assert_refused(rig, -ENOENT, "make it");
}

static void a_link_to_a_directory_is_refused_however_it_is_written(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = NULL;
        char path[128], slashed[128];
        int r;

        snprintf(path, sizeof(path), "%s/elsewhere", rig->top);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(symlink(path, rig->directory), 0);
        assert_refused(rig, -ENOTDIR, "no link");
        snprintf(slashed, sizeof(slashed), "%s//", rig->directory);
        r = state_store_open(slashed, &rig->error, &store);
        assert_int_equal(r, -ENOTDIR);
        assert_int_equal(rmdir(path), 0); /* nothing is in it */
        /* One that leads nowhere makes nothing. */
        assert_refused(rig, -ENOTDIR, "no link");
        assert_int_equal(access(path, F_OK), -1);
}

/* /var may be a link; the directory itself may not. */
static void a_link_above_the_directory_is_followed(void **state)
{
        struct rig *rig = *state;
        struct state_store *store;
        char path[128];

        snprintf(path, sizeof(path), "%s/var", rig->top);
        assert_int_equal(symlink(rig->top, path), 0);
        state_store_close(rig_open(rig));
        snprintf(rig->directory, sizeof(rig->directory), "%.60s/var/state/", rig->top);
        store = rig_open(rig);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 1, 1, 0), false);
        state_store_close(store);
}

static void links_in_the_place_of_files_are_refused(void **state)
{
        struct rig *rig = *state;
        char target[128], path[128];
        unsigned char *bytes;
        size_t size;

        snprintf(target, sizeof(target), "%s/target", rig->top);
        write_file(target, "shadow", 6);
        for (int hard = 0; hard < 2; hard++)
                for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                        if (i > 0)
                                state_store_close(rig_open(rig));
                        else
                                assert_true(mkdir(rig->directory, 0700) == 0 || errno == EEXIST);
                        path_of(rig, names[i], path);
                        assert_int_equal(hard ? link(target, path) : symlink(target, path), 0);
                        assert_refused(rig, -ELOOP, names[i]);
                        assert_int_equal(unlink(path), 0);
                        /* A link that leads nowhere makes nothing there. */
                        if (!hard) {
                                assert_int_equal(symlink("nowhere", path), 0);
                                assert_refused(rig, -ELOOP, "is a link");
                                assert_int_equal(unlink(path), 0);
                                path_of(rig, "nowhere", path);
                                assert_int_equal(access(path, F_OK), -1);
                        }
                        unlink(rig->file);
                }
        bytes = read_file(target, &size);
        assert_int_equal(size, 6);
        assert_memory_equal(bytes, "shadow", 6);
        free(bytes);
}

static void what_is_no_file_is_refused(void **state)
{
        struct rig *rig = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char path[128];
        int fd;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                assert_true(mkdir(rig->directory, 0700) == 0 || errno == EEXIST);
                path_of(rig, names[i], path);
                assert_int_equal(mkdir(path, 0700), 0);
                assert_refused(rig, -EINVAL, "no regular file");
                assert_int_equal(rmdir(path), 0);

                /* Opening it would wait for ever. */
                assert_int_equal(mkfifo(path, 0600), 0);
                assert_refused(rig, -EINVAL, "no regular file");
                assert_int_equal(unlink(path), 0);

                fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_true(fd >= 0);
                snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
                assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
                assert_refused(rig, -EINVAL, names[i]);
                close(fd);
                assert_int_equal(unlink(path), 0);
        }
}

static void files_that_others_may_write_to_are_refused(void **state)
{
        static const mode_t modes[] = {0620, 0602, 0666};
        struct rig *rig = *state;
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                for (size_t j = 0; j < ARRAY_SIZE(modes); j++) {
                        state_store_close(rig_open(rig));
                        path_of(rig, names[i], path);
                        if (i > 0)
                                write_file(path, "", 0);
                        assert_int_equal(chmod(path, modes[j]), 0);
                        assert_refused(rig, -EPERM, "others may write");
                        assert_int_equal(unlink(path), 0);
                }
}

static void what_belongs_to_another_user_is_refused(void **state)
{
        struct rig *rig = *state;
        char path[128];

        if (geteuid() != 0) {
                print_message("giving a file to another user needs root\n");
                skip();
        }
        state_store_close(rig_open(rig));
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                path_of(rig, names[i], path);
                if (i > 0)
                        write_file(path, "", 0);
                assert_int_equal(chown(path, 65534, 65534), 0);
                assert_refused(rig, -EPERM, "belongs to user 65534");
                assert_int_equal(chown(path, 0, 0), 0);
                if (i > 0)
                        assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(chown(rig->directory, 65534, 65534), 0);
        assert_refused(rig, -EPERM, "belongs to user 65534");
        assert_int_equal(chown(rig->directory, 0, 0), 0);
        state_store_close(rig_open(rig));
}

/* A write-ahead log without its file is what a lost file leaves; played into a new one it would be nonsense. */
static void a_log_without_its_file_is_refused(void **state)
{
        struct rig *rig = *state;
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (strcmp(names[i], "agentd.db") == 0 || strcmp(names[i], "agentd.db-shm") == 0)
                        continue;
                assert_true(mkdir(rig->directory, 0700) == 0 || errno == EEXIST);
                path_of(rig, names[i], path);
                write_file(path, "frames", 6);
                assert_refused(rig, -EUCLEAN, "only its log");
                assert_int_equal(access(rig->file, F_OK), -1);

                /* An empty one holds nothing. */
                write_file(path, "", 0);
                state_store_close(rig_open(rig));
                assert_int_equal(access(path, F_OK), -1);
                assert_int_equal(unlink(rig->file), 0);
        }
}

static void an_empty_file_is_damage_and_no_new_store(void **state)
{
        struct rig *rig = *state;
        struct stat st;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        write_file(rig->file, "", 0);
        assert_refused(rig, -EUCLEAN, "it is cut off");
        assert_int_equal(stat(rig->file, &st), 0);
        assert_int_equal(st.st_size, 0);
}

/* The error of what is damaged says what to do, and that it costs what was used, even where the path is long. */
static void the_way_out_fits_behind_a_long_path(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = NULL;
        char path[600], file[700], longer[700];

        snprintf(path, sizeof(path), "%s/", rig->top);
        while (strlen(path) < 450) {
                strcat(path, "a-long-name\n/");
                assert_int_equal(mkdir(path, 0700), 0);
        }
        snprintf(file, sizeof(file), "%sagentd.db", path);
        write_file(file, "", 0);
        assert_int_equal(state_store_open(path, &rig->error, &store), -EUCLEAN);
        assert_non_null(strstr(rig->error.text, "from zero after a reboot"));
        assert_null(strchr(rig->error.text, '\n'));
        /* The advice works. */
        assert_int_equal(unlink(file), 0);
        assert_int_equal(state_store_open(path, &rig->error, &store), 0);
        state_store_close(store);

        store = NULL;
        snprintf(longer, sizeof(longer), "%sone-that-is-longer", path);
        assert_int_equal(state_store_open(longer, &rig->error, &store), -ENAMETOOLONG);
        assert_null(store);
        assert_non_null(strstr(rig->error.text, "shorter"));
        snprintf(file, sizeof(file), "%sone-that-is-longer/agentd.db", path);
        assert_int_equal(access(file, F_OK), -1);
}

/* A process that died while it made the file: its half is taken for nothing, and is not in the way. */
static void what_a_creation_left_half_done_is_ignored(void **state)
{
        struct rig *rig = *state;
        char name[64], path[128];

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        snprintf(name, sizeof(name), "agentd.db.new-%d", (int)getpid());
        path_of(rig, name, path);
        write_file(path, "SQLite for", 10);
        state_store_close(rig_open(rig));
        assert_int_equal(access(path, F_OK), -1);
}

static void works_without_a_place_for_the_error(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = NULL;
        struct stored_ledger bad = ledger("", PERIOD_DAY, 1, 1, 0);

        write_file(rig->directory, "", 0);
        assert_int_equal(state_store_open(rig->directory, NULL, &store), -ENOTDIR);
        assert_int_equal(unlink(rig->directory), 0);
        assert_int_equal(state_store_open(rig->directory, NULL, &store), 0);
        assert_int_equal(state_store_put(store, &bad, 1, false, NULL), -EINVAL);
        state_store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(directory_and_files_are_private_whatever_the_umask),
                TEST(a_directory_that_others_may_only_read_is_taken),
                TEST(a_directory_that_others_may_write_to_is_refused),
                TEST(what_is_no_directory_is_refused),
                TEST(a_link_to_a_directory_is_refused_however_it_is_written),
                TEST(a_link_above_the_directory_is_followed),
                TEST(links_in_the_place_of_files_are_refused),
                TEST(what_is_no_file_is_refused),
                TEST(files_that_others_may_write_to_are_refused),
                TEST(what_belongs_to_another_user_is_refused),
                TEST(a_log_without_its_file_is_refused),
                TEST(an_empty_file_is_damage_and_no_new_store),
                TEST(the_way_out_fits_behind_a_long_path),
                TEST(what_a_creation_left_half_done_is_ignored),
                TEST(works_without_a_place_for_the_error),
        };

        return cmocka_run_group_tests_name("store_file", tests, NULL, NULL);
}
