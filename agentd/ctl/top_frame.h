/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One picture of `agentctl top`: lines of a given width, each with a style. What shows them (curses, a pipe, a test)
 * is elsewhere. Every text that an agent may have chosen is escaped here.
 */
#pragma once

#include <stddef.h>

#include "agentd/ctl/top_model.h"

enum top_style { TOP_PLAIN, TOP_TITLE, TOP_COLUMNS, TOP_SELECTED, TOP_ALARM, TOP_WARNING, TOP_FAINT };

enum top_page { TOP_AGENTS, TOP_AGENT, TOP_HELP };

enum {
        TOP_WIDTH_MIN = 40,
        TOP_WIDTH_MAX = 512,
        TOP_HEIGHT_MIN = 8,
        TOP_HEIGHT_MAX = 2048,
        TOP_LINE_MAX = TOP_WIDTH_MAX * 4 + 1
};

struct top_line {
        enum top_style style;
        char text[TOP_LINE_MAX]; /* UTF-8, no wider than the frame, not padded */
};

struct top_frame {
        size_t width, height;   /* columns and lines, within the bounds above; set by the caller */
        struct top_line *lines; /* height of them, the caller's */
};

/* What the person is doing. */
struct top_mood {
        enum top_page page;
        bool paused, typing; /* typing: the filter */
        bool keys;           /* somebody can press them: the last line lists them */
};

void top_frame_draw(struct top_frame *frame, const struct top_model *model, const struct top_mood *mood);
