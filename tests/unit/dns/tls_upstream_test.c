/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The worker against an upstream over TLS that this test plays, with a CA bundle of its own put over the system's in
 * its own mount namespace. Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <net/if.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "agentd/dns/worker.h"
#include "tests/unit/dns/worker_rig.h"

static const char ca_bundle[] = "/etc/ssl/certs/ca-certificates.crt";
static SSL_CTX *server_tls;

/* A certificate for dot.test, signed by itself, which the worker is made to trust. */
static X509 *make_certificate(EVP_PKEY *key)
{
        X509 *certificate = X509_new();
        X509_NAME *name = X509_get_subject_name(certificate);
        X509_EXTENSION *extension;

        X509_set_version(certificate, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_set_pubkey(certificate, key);
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"dot.test", -1, -1, 0);
        X509_set_issuer_name(certificate, name);
        extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:dot.test");
        X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
        assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
        return certificate;
}

static void raise_loopback(void)
{
        struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
        close(fd);
}

static int group_set_up(void **state)
{
        char path[] = "/tmp/agentd-ca.XXXXXX";
        X509 *certificate;
        EVP_PKEY *key;
        FILE *file;

        if (geteuid() != 0)
                return 0;
        key = EVP_RSA_gen(2048);
        certificate = make_certificate(key);
        server_tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_use_certificate(server_tls, certificate);
        SSL_CTX_use_PrivateKey(server_tls, key);
        file = fdopen(mkstemp(path), "w");
        assert_int_equal(PEM_write_X509(file, certificate), 1);
        fclose(file);
        X509_free(certificate);
        EVP_PKEY_free(key);
        /* A network of our own, too: a test asks every socket on loopback. */
        assert_int_equal(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
        raise_loopback();
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount(path, ca_bundle, NULL, MS_BIND, NULL), 0);
        unlink(path);
        return 0;
}

static int group_tear_down(void **state)
{
        SSL_CTX_free(server_tls);
        return 0;
}

static int set_up(void **state)
{
        static struct rig rig;

        if (geteuid() != 0) {
                print_message("needs root: the worker changes its root and its user\n");
                *state = NULL;
                return 0;
        }
        rig_open(&rig);
        *state = &rig;
        return 0;
}

static int tear_down(void **state)
{
        if (*state)
                rig_stop(*state);
        return 0;
}

static struct rig *started(void **state, const char *name)
{
        struct message_settings settings;
        struct rig *rig = *state;

        if (!rig)
                skip();
        settings = rig_settings(rig);
        snprintf(settings.upstreams[0], UPSTREAM_TEXT_MAX, "tls://127.0.0.1@%u%s", rig->upstream_port, name);
        rig_start(rig, &settings, "A *.allowed.test\n");
        return rig;
}

/* NULL: the client breaks the handshake off. */
static SSL *accept_tls(struct rig *rig)
{
        SSL *ssl = SSL_new(server_tls);
        int fd;

        wait_readable(rig->upstream_tcp, "a connection to the upstream");
        fd = accept(rig->upstream_tcp, NULL, NULL);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
                return ssl;
        SSL_free(ssl);
        close(fd);
        return NULL;
}

static void close_tls(SSL *ssl)
{
        int fd = SSL_get_fd(ssl);

        SSL_free(ssl);
        close(fd);
}

static void tls_read(SSL *ssl, void *bytes, size_t size)
{
        for (size_t at = 0; at < size;) {
                int n = SSL_read(ssl, (char *)bytes + at, (int)(size - at));

                assert_true(n > 0);
                at += (size_t)n;
        }
}

static void answer_over_tls(SSL *ssl, const char *name, const char *records)
{
        static struct packet query, answer;
        __u8 length[2];

        tls_read(ssl, length, 2);
        query.size = dns_get16(length);
        tls_read(ssl, query.bytes, query.size);
        assert_true(asks_for(&query, name, DNS_TYPE_A));
        make_answer(&query, 0, records, &answer);
        dns_put16(length, (__u16)answer.size);
        assert_int_equal(SSL_write(ssl, length, 2), 2);
        assert_int_equal(SSL_write(ssl, answer.bytes, (int)answer.size), answer.size);
}

static void learn_and_expect(struct rig *rig, __u16 id, int n_answers)
{
        union message message;

        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.n_addresses, n_answers);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, id, DNS_NOERROR, n_answers);
}

static void asks_over_one_connection_and_opens_another_when_it_ends(void **state)
{
        struct rig *rig = started(state, "#dot.test");
        static char many[100 * 40];
        size_t used = 0;
        SSL *ssl;

        client_ask(rig, &(struct question){.name = "a.allowed.test", .type = DNS_TYPE_A, .id = 1});
        ssl = accept_tls(rig);
        assert_non_null(ssl);
        answer_over_tls(ssl, "a.allowed.test", "a.allowed.test. 60 IN A 192.0.2.1");
        learn_and_expect(rig, 1, 1);

        /* More than any UDP buffer on the way would take. */
        for (unsigned i = 0; i < 100; i++)
                used += (size_t)sprintf(many + used, "b.allowed.test. 60 IN A 198.18.0.%u\n", i);
        client_ask(rig, &(struct question){.name = "b.allowed.test", .type = DNS_TYPE_A, .id = 2, .edns = 4096});
        answer_over_tls(ssl, "b.allowed.test", many);
        learn_and_expect(rig, 2, 100);

        close_tls(ssl);
        client_ask(rig, &(struct question){.name = "c.allowed.test", .type = DNS_TYPE_A, .id = 3});
        ssl = accept_tls(rig);
        assert_non_null(ssl);
        answer_over_tls(ssl, "c.allowed.test", "c.allowed.test. 60 IN A 192.0.2.3");
        learn_and_expect(rig, 3, 1);
        close_tls(ssl);
}

static void asks_nothing_of_a_server_with_another_name(void **state)
{
        struct rig *rig = started(state, "#other.test");

        client_ask(rig, &(struct question){.name = "a.allowed.test", .type = DNS_TYPE_A, .id = 1});
        assert_null(accept_tls(rig));
        expect_reply(rig, 1, DNS_SERVFAIL, 0);
}

static void strangers_cannot_ask_through_the_worker(void **state)
{
        struct rig *rig = started(state, "#dot.test");
        struct packet query;
        char line[256];
        unsigned port = 0;
        FILE *sockets;
        SSL *ssl;
        int fd;

        /* The worker's socket on loopback: the one UDP socket of this namespace that is bound there and is not ours. */
        sockets = fopen("/proc/net/udp", "re");
        make_query(&(struct question){.name = "stranger.test", .type = DNS_TYPE_A, .id = 9}, &query);
        while (fgets(line, sizeof(line), sockets)) {
                if (sscanf(line, " %*u: 0100007F:%x 00000000:0000", &port) != 1 || port == rig->listener_port ||
                    port == rig->upstream_port)
                        continue;
                fd = connected_socket(SOCK_DGRAM, (__u16)port);
                assert_int_equal(send(fd, query.bytes, query.size, 0), query.size);
                close(fd);
        }
        fclose(sockets);
        assert_int_not_equal(port, 0);

        /* The first that the upstream is asked is the agent's. */
        client_ask(rig, &(struct question){.name = "a.allowed.test", .type = DNS_TYPE_A, .id = 1});
        ssl = accept_tls(rig);
        assert_non_null(ssl);
        answer_over_tls(ssl, "a.allowed.test", "a.allowed.test. 60 IN A 192.0.2.1");
        learn_and_expect(rig, 1, 1);
        close_tls(ssl);
}

#define TLS_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TLS_TEST(asks_over_one_connection_and_opens_another_when_it_ends),
                TLS_TEST(asks_nothing_of_a_server_with_another_name),
                TLS_TEST(strangers_cannot_ask_through_the_worker),
        };

        if (argc == 2 && strcmp(argv[1], "dns-worker") == 0)
                return dns_worker_main(3);
        return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
