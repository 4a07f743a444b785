/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lines of patterns, the last line a name: a set of all patterns gives what each pattern gives by itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { PATTERNS_MAX = 64, TEXT_MAX = 4096 };

static void require(int condition)
{
        if (!condition)
                abort();
}

/* What is canonical stays as it is. */
static void check_canonical(const char *text, int (*canonicalize)(const char *, char *))
{
        char again[NAME_MAX_BYTES];

        require(strlen(text) > 0 && strlen(text) <= 253);
        require(canonicalize(text, again) == 0 && strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        static char patterns[PATTERNS_MAX][NAME_MAX_BYTES];
        char text[TEXT_MAX], name[NAME_MAX_BYTES], *line, *next;
        __u32 values[PATTERNS_MAX];
        struct domain_set *set = NULL;
        size_t n_patterns = 0, n_values, at = 0;

        if (size >= sizeof(text))
                return 0;
        memcpy(text, bytes, size);
        text[size] = '\0';
        require(domain_set_new(&set) == 0);

        for (line = text; (next = strchr(line, '\n')) && n_patterns < PATTERNS_MAX; line = next + 1) {
                *next = '\0';
                if (domain_pattern_canonicalize(line, patterns[n_patterns]) < 0)
                        continue;
                check_canonical(patterns[n_patterns], domain_pattern_canonicalize);
                domain_pattern_is_too_wide(patterns[n_patterns]);
                require(domain_set_add(set, patterns[n_patterns], (__u32)n_patterns) == 0);
                n_patterns++;
        }
        require(domain_set_size(set) == n_patterns);

        if (domain_canonicalize(line, name) == 0) {
                check_canonical(name, domain_canonicalize);
                n_values = domain_set_match(set, name, values, PATTERNS_MAX);
                for (size_t i = 0; i < n_patterns; i++)
                        if (domain_pattern_matches(patterns[i], name))
                                require(at < n_values && values[at++] == i);
                require(at == n_values);
        }
        domain_set_free(set);
        return 0;
}
