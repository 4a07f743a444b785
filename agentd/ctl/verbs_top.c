/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * top: a live view. On a terminal curses draws the frames, so only what changed is sent (no flicker, little over ssh);
 * into a pipe they go as text, with -o json as one object each.
 *
 * A daemon that goes away does not end the view: the kernel goes on enforcing, and the operator who watches an upgrade
 * wants to see it come back.
 */
#include <curses.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "agentd/control/ask.h"
#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/ctl/top_frame.h"
#include "agentd/util/cleanup.h"

enum { EVENTS_WANTED = 300, ANSWER_MS = 5000, INTERVAL_MS = 1000, INTERVAL_MIN_MS = 100, ESCAPE_MS = 25 };

static struct top_line top_lines[TOP_HEIGHT_MAX];
static volatile sig_atomic_t top_interrupted;

struct top {
        const char *path; /* the daemon's socket */
        struct top_model model;
        struct top_mood mood;
        struct top_frame frame;
        unsigned long long interval_ms;
};

static void on_signal(int number UNUSED)
{
        top_interrupted = 1;
}

/* Four questions; all answers or none. */
static void sample(struct top *top)
{
        json_t *status = NULL, *agents = NULL, *budgets = NULL, *events = NULL;
        __u64 now = control_now_ms(), until = now + ANSWER_MS;
        int r;

        r = control_ask(top->path, "status", NULL, until, &status);
        if (r == 0)
                r = control_ask(top->path, "agents", NULL, until, &agents);
        if (r == 0)
                r = control_ask(top->path, "budget-show", NULL, until, &budgets);
        if (r == 0)
                r = control_ask(top->path, "events", json_pack("{s:i}", "n", EVENTS_WANTED), until, &events);
        if (r == 0) {
                r = top_model_update(&top->model, status, agents, budgets, events, now);
                status = agents = budgets = events = NULL;
        }
        if (r < 0)
                snprintf(top->model.error, sizeof(top->model.error),
                         "the daemon does not answer (%s); the kernel goes on enforcing. Trying again", strerror(-r));
        else
                top->model.error[0] = '\0';
        json_decref(status);
        json_decref(agents);
        json_decref(budgets);
        json_decref(events);
}

static void set_size(struct top_frame *frame, size_t width, size_t height)
{
        frame->width = MIN(MAX(width, (size_t)TOP_WIDTH_MIN), (size_t)TOP_WIDTH_MAX);
        frame->height = MIN(MAX(height, (size_t)TOP_HEIGHT_MIN), (size_t)TOP_HEIGHT_MAX);
        frame->lines = top_lines;
}

/* --- a terminal ------------------------------------------------------------------------------------------------------
 */

static attr_t style_attributes(enum top_style style)
{
        switch (style) {
        case TOP_TITLE:
                return A_BOLD;
        case TOP_COLUMNS:
        case TOP_SELECTED:
                return A_REVERSE | (style == TOP_SELECTED ? A_BOLD : 0);
        case TOP_ALARM:
                return A_BOLD | (has_colors() ? COLOR_PAIR(1) : 0);
        case TOP_WARNING:
                return has_colors() ? COLOR_PAIR(2) : 0;
        case TOP_FAINT:
                return A_DIM;
        default:
                return A_NORMAL;
        }
}

static void show(struct top *top)
{
        struct top_frame *frame = &top->frame;

        set_size(frame, (size_t)COLS, (size_t)LINES);
        top_frame_draw(frame, &top->model, &top->mood);
        erase();
        for (size_t y = 0; y < frame->height && y < (size_t)LINES; y++) {
                attr_t attributes = style_attributes(frame->lines[y].style);

                (void)attrset(attributes);
                (void)mvaddnstr((int)y, 0, frame->lines[y].text, -1);
                if (attributes & A_REVERSE) /* bars go to the edge */
                        (void)chgat(-1, attributes & ~A_COLOR, 0, NULL);
        }
        (void)refresh();
}

static void type_filter(struct top *top, int key)
{
        char *filter = top->model.filter;
        size_t length = strlen(filter);

        if (key == '\n' || key == KEY_ENTER)
                top->mood.typing = false;
        else if (key == 27)
                top->mood.typing = false, filter[0] = '\0';
        else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && length > 0)
                filter[length - 1] = '\0';
        else if (key > ' ' && key < 127 && length + 1 < TOP_FILTER_MAX)
                filter[length] = (char)key, filter[length + 1] = '\0';
        top_model_arrange(&top->model);
}

static void move_selection(struct top *top, int key)
{
        long page = LINES / 2;

        top_model_select(&top->model, key == KEY_UP || key == 'k'     ? -1
                                      : key == KEY_DOWN || key == 'j' ? 1
                                      : key == KEY_PPAGE              ? -page
                                      : key == KEY_NPAGE              ? page
                                      : key == KEY_HOME               ? -1000000
                                                                      : 1000000);
}

/* false: quit. */
static bool press(struct top *top, int key)
{
        static const char sort_keys[TOP_SORT_MAX + 1] = "noidb";
        struct top_model *model = &top->model;
        const char *sort = key > ' ' && key < 127 ? strchr(sort_keys, key) : NULL;

        if (top->mood.typing) {
                type_filter(top, key);
                return true;
        }
        if (sort) {
                model->sort = (enum top_sort)(sort - sort_keys);
        } else {
                switch (key) {
                case 'q':
                        return false;
                case 's':
                        model->sort = (model->sort + 1) % TOP_SORT_MAX;
                        break;
                case 'r':
                        model->reverse = !model->reverse;
                        break;
                case 'p':
                case ' ':
                        top->mood.paused = !top->mood.paused;
                        break;
                case '/':
                        top->mood.typing = true;
                        top->mood.page = TOP_AGENTS;
                        break;
                case '?':
                case 'h':
                        top->mood.page = TOP_HELP;
                        break;
                case '\n':
                case KEY_ENTER:
                        top_model_select(model, 0); /* what is open stays open when the order changes */
                        top->mood.page = TOP_AGENT;
                        break;
                case 27:
                case KEY_BACKSPACE:
                case 127:
                        if (top->mood.page == TOP_AGENTS)
                                model->filter[0] = '\0';
                        top->mood.page = TOP_AGENTS;
                        break;
                case KEY_UP:
                case KEY_DOWN:
                case KEY_PPAGE:
                case KEY_NPAGE:
                case KEY_HOME:
                case KEY_END:
                case 'j':
                case 'k':
                        move_selection(top, key);
                        break;
                default:
                        break;
                }
        }
        if (model->rows)
                top_model_arrange(model);
        return true;
}

static int run_on_terminal(struct top *top)
{
        const struct sigaction action = {.sa_handler = on_signal};
        __u64 next = 0;
        SCREEN *screen;
        bool more = true;

        screen = newterm(NULL, stdout, stdin);
        if (!screen) {
                ctl_error("the terminal '%s' is not known; set TERM, such as TERM=xterm, or pipe into 'cat'",
                          getenv("TERM") ? getenv("TERM") : "");
                return CTL_FAILED;
        }
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGHUP, &action, NULL);
        (void)cbreak();
        (void)noecho();
        (void)keypad(stdscr, true);
        (void)curs_set(0);
        (void)set_escdelay(ESCAPE_MS);
        if (has_colors()) {
                (void)start_color();
                (void)use_default_colors();
                (void)init_pair(1, COLOR_RED, -1);
                (void)init_pair(2, COLOR_YELLOW, -1);
        }

        while (more && !top_interrupted) {
                __u64 now = control_now_ms();
                int key;

                if (now >= next) {
                        if (!top->mood.paused)
                                sample(top);
                        next = now + top->interval_ms;
                }
                show(top);
                now = control_now_ms();
                timeout(now < next ? (int)MIN(next - now, 60000ull) : 0);
                errno = 0;
                key = getch();
                if (key == ERR && (errno == EIO || errno == EBADF))
                        break; /* the terminal is gone */
                if (key != ERR && key != KEY_RESIZE)
                        more = press(top, key);
        }
        (void)endwin();
        delscreen(screen);
        return CTL_OK;
}

/* --- a pipe ----------------------------------------------------------------------------------------------------------
 */

static bool wait_interval(const struct top *top)
{
        struct timespec wait = {.tv_sec = (time_t)(top->interval_ms / 1000),
                                .tv_nsec = (long)(top->interval_ms % 1000 * NSEC_PER_MSEC)};

        return clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL) == 0 && !top_interrupted;
}

static void print_frame(struct top *top)
{
        struct top_frame *frame = &top->frame;
        size_t last = 0;

        top_frame_draw(frame, &top->model, &top->mood);
        for (size_t y = 0; y < frame->height; y++)
                if (frame->lines[y].text[0])
                        last = y;
        for (size_t y = 0; y <= last; y++)
                puts(frame->lines[y].text);
}

/* Rates need two samples: the first frame comes an interval after the start. */
static int run_in_pipe(struct top *top, bool json, long frames)
{
        const struct sigaction action = {.sa_handler = on_signal};
        const char *columns = getenv("COLUMNS");
        long width = columns ? strtol(columns, NULL, 10) : 0;

        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        sample(top);
        for (long i = 0; i < frames && wait_interval(top); i++) {
                size_t fit;

                sample(top);
                if (top->model.error[0]) {
                        ctl_error("%s", top->model.error);
                        return CTL_UNREACHABLE;
                }
                fit = (top->model.n_rows + 8) * 4 / 3 + 4; /* every agent, and denials: see draw_agents() */
                set_size(&top->frame, width > 0 ? (size_t)width : 120, fit);
                if (json) {
                        json_t *view = top_model_to_json(&top->model);
                        int r = print_json(view);

                        json_decref(view);
                        if (r != 0)
                                return r;
                } else {
                        print_frame(top);
                }
                if (fflush(stdout) != 0)
                        break;
        }
        return print_end();
}

static int read_interval(const struct ctl_arguments *arguments, struct top *top)
{
        top->interval_ms = INTERVAL_MS;
        if (!arguments->interval)
                return CTL_OK;
        if (ctl_duration_parse(arguments->interval, &top->interval_ms) == 0 && top->interval_ms >= INTERVAL_MIN_MS &&
            top->interval_ms <= 3600000)
                return CTL_OK;
        ctl_error("'%s' is no interval from 100ms to 1h; such as '1s', '500ms'", arguments->interval);
        return CTL_USAGE;
}

int ctl_top(const struct ctl_arguments *arguments)
{
        bool terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !arguments->json && !arguments->lines;
        struct top top = {.mood = {.keys = terminal}, .model = {.sort = TOP_BY_DENIED}};
        _cleanup_free_ char *path = malloc(PATH_MAX);
        json_t *status;
        long frames = 1;
        char *end;
        int r;

        if (arguments->lines) {
                errno = 0;
                frames = strtol(arguments->lines, &end, 10);
                if (errno != 0 || *end != '\0' || end == arguments->lines || frames < 1) {
                        ctl_error("'%s' is no number of pictures; 1 or more", arguments->lines);
                        return CTL_USAGE;
                }
        }
        r = read_interval(arguments, &top);
        if (r != CTL_OK)
                return r;
        if (!path)
                return CTL_FAILED;
        /* The first question tells errors as every verb does. */
        r = client_ask(arguments, "version", NULL, CLIENT_TIMEOUT_MS, &status);
        if (r != CTL_OK)
                return r;
        json_decref(status);
        (void)client_probe(arguments, path, PATH_MAX);
        top.path = path;

        r = terminal ? run_on_terminal(&top) : run_in_pipe(&top, arguments->json, frames);
        top_model_clear(&top.model);
        return r;
}
