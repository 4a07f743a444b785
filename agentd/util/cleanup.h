/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Cleanup by scope: an owning local frees itself unless its ownership is taken with TAKE_PTR or TAKE_FD.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

/* Defines x_freep() for a pointer type whose destructor accepts NULL. */
#define DEFINE_CLEANUP(type, function)                \
        static inline void function##p(type *pointer) \
        {                                             \
                if (*pointer)                         \
                        function(*pointer);           \
        }                                             \
        struct cleanup_semicolon_##function

#define TAKE_PTR(pointer)                                \
        ({                                               \
                __typeof__(pointer) *take_ = &(pointer); \
                __typeof__(pointer) taken_ = *take_;     \
                *take_ = NULL;                           \
                taken_;                                  \
        })

#define TAKE_FD(fd)                  \
        ({                           \
                int *take_ = &(fd);  \
                int taken_ = *take_; \
                *take_ = -1;         \
                taken_;              \
        })

static inline void free_pointer(void *pointer)
{
        free(*(void **)pointer);
}

static inline void close_fd(int *fd)
{
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

static inline void close_file(FILE **file)
{
        if (*file)
                fclose(*file);
}

#define _cleanup_free_  _cleanup_(free_pointer)
#define _cleanup_close_ _cleanup_(close_fd)
#define _cleanup_file_  _cleanup_(close_file)
