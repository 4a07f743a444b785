/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates and shapes of names under wildcards.
 */
#include "agentd/dns/limit.h"

#include <math.h>
#include <string.h>

bool limit_bucket_take(struct limit_bucket *bucket, __u32 rate, __u32 burst, __u64 now_ms)
{
        __u64 full = (__u64)burst * 1000;

        if (!bucket->started) {
                bucket->started = true;
                bucket->tokens_milli = full;
        } else if (now_ms > bucket->updated_ms) {
                /* A week of silence must not overflow: the elapsed time that fills the bucket is enough. */
                __u64 elapsed = MIN(now_ms - bucket->updated_ms, full);

                bucket->tokens_milli = MIN(bucket->tokens_milli + elapsed * rate, full);
        }
        bucket->updated_ms = MAX(bucket->updated_ms, now_ms);
        if (bucket->tokens_milli < 1000)
                return false;
        bucket->tokens_milli -= 1000;
        return true;
}

bool limit_rate_take(struct limit_rate *rate, __u64 interval_ns, __u32 burst, __u64 now_ns)
{
        const __u64 longest_ns = 1ull << 62; /* a century and a half; sums of three do not overflow */
        __u64 tolerance_ns, empty_ns;

        if (interval_ns == 0)
                return true;
        interval_ns = MIN(interval_ns, longest_ns);
        if (__builtin_mul_overflow(burst - 1, interval_ns, &tolerance_ns) || tolerance_ns > longest_ns)
                tolerance_ns = longest_ns;
        /* Fuller than empty it never is: what a slower rate of before had charged is not owed for ever. */
        empty_ns = now_ns + tolerance_ns + interval_ns;
        rate->arrival_ns = MIN(MAX(rate->arrival_ns, now_ns), empty_ns);
        if (rate->arrival_ns > now_ns + tolerance_ns)
                return false;
        rate->arrival_ns += interval_ns;
        return true;
}

static __u64 name_hash(const char *name)
{
        __u64 hash = 0xcbf29ce484222325ull; /* FNV-1a: a collision saves an agent one token, no more */

        for (; *name; name++)
                hash = (hash ^ (__u8)*name) * 0x100000001b3ull;
        return hash;
}

bool limit_wildcard_take(struct limit_wildcard *limit, const char *name, __u64 now_ms)
{
        __u64 hash = name_hash(name);
        size_t slot = hash % LIMIT_RECENT;

        if (limit->recent[slot].hash == hash && now_ms < limit->recent[slot].until_ms)
                return true;
        if (!limit_bucket_take(&limit->bucket, LIMIT_WILDCARD_RATE, LIMIT_WILDCARD_BURST, now_ms))
                return false;
        limit->recent[slot].hash = hash;
        limit->recent[slot].until_ms = now_ms + LIMIT_WILDCARD_SAME_MS;
        return true;
}

static bool label_is_plain(const char *label, size_t length)
{
        unsigned counts[256] = {0};
        double bits = 0;

        if (length > LIMIT_LABEL_LENGTH)
                return false;
        if (length < LIMIT_ENTROPY_LABEL_LENGTH)
                return true;
        for (size_t i = 0; i < length; i++)
                counts[(__u8)label[i]]++;
        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                double share = (double)counts[i] / (double)length;

                if (counts[i])
                        bits -= share * log2(share);
        }
        return bits * 100 <= LIMIT_ENTROPY_CENTIBITS;
}

bool limit_labels_are_plain(const char *name)
{
        if (strlen(name) > LIMIT_WILDCARD_NAME_LENGTH)
                return false;
        while (*name) {
                size_t length = strcspn(name, ".");

                if (!label_is_plain(name, length))
                        return false;
                name += length;
                name += *name == '.';
        }
        return true;
}
