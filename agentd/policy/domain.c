/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Canonical names and patterns, and the match of one pattern against one name.
 *
 * Hostile input: names come from agents' look-ups and upstreams' answers. All output is bounded by NAME_MAX_BYTES, and
 * a character that no host name has refuses the whole name, so that no two names share a canonical form by accident.
 */
#include "agentd/policy/domain.h"

#include <errno.h>
#include <idn2.h>
#include <libpsl.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/cleanup.h"

enum {
        LABEL_MAX = 63,
        NAME_TEXT_MAX = 253,
        INPUT_MAX = 1024, /* UTF-8 before it is shortened to A-labels; libidn2 never sees more */
};

static bool is_ascii(const char *text, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if ((unsigned char)text[i] >= 0x80)
                        return false;
        return true;
}

/* Lower case by hand: tolower() follows the locale. Returns 0 for what no host name has. */
static char name_character(char c, bool pattern)
{
        if (c >= 'A' && c <= 'Z')
                return (char)(c - 'A' + 'a');
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
                return c;
        return pattern && c == '*' ? c : 0;
}

/* Appends ASCII labels (one, or several where IDN mapped a full stop) to output. */
static int append_ascii(const char *text, size_t size, bool pattern, char *output, size_t *used)
{
        size_t label = 0;

        for (size_t i = 0; i < size; i++) {
                char c;

                if (text[i] == '.') {
                        if (label == 0)
                                return -EINVAL;
                        label = 0;
                        c = '.';
                } else {
                        c = name_character(text[i], pattern);
                        if (!c || ++label > LABEL_MAX)
                                return -EINVAL;
                }
                if (*used >= NAME_TEXT_MAX)
                        return -EINVAL;
                output[(*used)++] = c;
        }
        return label == 0 ? -EINVAL : 0;
}

static int append_label(const char *label, size_t size, bool pattern, char *output, size_t *used)
{
        char text[INPUT_MAX + 1];
        uint8_t *ascii = NULL;
        int r;

        if (*used > 0) {
                if (*used >= NAME_TEXT_MAX)
                        return -EINVAL;
                output[(*used)++] = '.';
        }
        if (is_ascii(label, size))
                return append_ascii(label, size, pattern, output, used);

        /* An A-label has no place for a `*`: what it would match is not what was written. */
        if (memchr(label, '*', size))
                return -EINVAL;
        memcpy(text, label, size);
        text[size] = '\0';
        r = idn2_lookup_u8((const uint8_t *)text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
        if (r != IDN2_OK)
                return -EINVAL;
        r = append_ascii((const char *)ascii, strlen((const char *)ascii), false, output, used);
        idn2_free(ascii);
        return r;
}

static int canonicalize(const char *text, bool pattern, char *ret)
{
        char output[NAME_MAX_BYTES] = {0};
        size_t size = strnlen(text, INPUT_MAX + 1), used = 0, start = 0;
        int r;

        if (size == 0 || size > INPUT_MAX)
                return -EINVAL;
        if (text[size - 1] == '.')
                size--;

        while (start <= size) {
                const char *dot = memchr(text + start, '.', size - start);
                size_t end = dot ? (size_t)(dot - text) : size;

                r = append_label(text + start, end - start, pattern, output, &used);
                if (r < 0)
                        return r;
                start = end + 1;
        }

        memcpy(ret, output, sizeof(output));
        return 0;
}

int domain_canonicalize(const char *text, char *ret)
{
        return canonicalize(text, false, ret);
}

int domain_pattern_canonicalize(const char *text, char *ret)
{
        char pattern[NAME_MAX_BYTES];
        size_t size = strnlen(text, INPUT_MAX + 1);
        int r;

        /* Nothing but stars and dots names no one: every domain there is. */
        if (size > 0 && size <= INPUT_MAX && strspn(text, "*.") == size && strchr(text, '*'))
                return -EDOM;

        r = canonicalize(text, true, pattern);
        if (r < 0)
                return r;
        /* `**` is another language's "any depth"; here it would mean less than its author believes. */
        if (strstr(pattern, "**"))
                return -EINVAL;

        memcpy(ret, pattern, sizeof(pattern));
        return 0;
}

bool domain_pattern_is_wildcard(const char *pattern)
{
        return strchr(pattern, '*') != NULL;
}

/* `*` stands for any run of characters, none included, within the label. One star is retried at a time: n * m steps. */
static bool label_matches(const char *glob, size_t glob_size, const char *label, size_t label_size)
{
        size_t g = 0, l = 0, star = SIZE_MAX, mark = 0;

        while (l < label_size) {
                if (g < glob_size && glob[g] == '*') {
                        star = g++;
                        mark = l;
                } else if (g < glob_size && glob[g] == label[l]) {
                        g++;
                        l++;
                } else if (star != SIZE_MAX) {
                        g = star + 1;
                        l = ++mark;
                } else {
                        return false;
                }
        }
        while (g < glob_size && glob[g] == '*')
                g++;
        return g == glob_size;
}

/* Where the last label of the first size bytes begins. */
static size_t last_label(const char *text, size_t size)
{
        while (size > 0 && text[size - 1] != '.')
                size--;
        return size;
}

bool domain_pattern_matches(const char *pattern, const char *name)
{
        bool below = pattern[0] == '*' && pattern[1] == '.';
        size_t pattern_size, name_size = strlen(name);

        if (below)
                pattern += 2;
        pattern_size = strlen(pattern);

        /* From the right: the labels that stand in both; what is left over on the left decides. */
        for (;;) {
                size_t p = last_label(pattern, pattern_size), n = last_label(name, name_size);

                if (!label_matches(pattern + p, pattern_size - p, name + n, name_size - n))
                        return false;
                if (p == 0)
                        return below ? n > 0 : n == 0;
                if (n == 0)
                        return false;
                pattern_size = p - 1;
                name_size = n - 1;
        }
}

bool domain_pattern_is_too_wide(const char *pattern)
{
        const char *star = strrchr(pattern, '*'), *suffix;
        const psl_ctx_t *list = psl_builtin();

        if (!star)
                return false;
        suffix = strchr(star, '.');
        if (!suffix) /* the star is in the last label: it spans top-level domains */
                return true;
        /* Without the star rule: `*.internal` is a private zone, not a registry. */
        return list && psl_is_public_suffix2(list, suffix + 1, PSL_TYPE_ANY | PSL_TYPE_NO_STAR_RULE);
}
