/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The command line: one set of options for all verbs, of which each verb names those that are its own.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/ctl/ctl.h"
#include "agentd/ctl/print.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/util/parse.h"
#include "agentd/util/suggest.h"

enum { WORD_MAX = 64 };

/* Letters above are those of struct ctl_verb's options; capitals have no short form. */
static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},          {"version", no_argument, NULL, 'V'},
        {"output", required_argument, NULL, 'o'},  {"socket", required_argument, NULL, 's'},
        {"config", required_argument, NULL, 'c'},  {"cgroup", required_argument, NULL, 'G'},
        {"policy", required_argument, NULL, 'P'},  {"mode", required_argument, NULL, 'M'},
        {"timeout", required_argument, NULL, 'T'}, {"follow", no_argument, NULL, 'f'},
        {"agent", required_argument, NULL, 'A'},   {"type", required_argument, NULL, 'Y'},
        {"reason", required_argument, NULL, 'R'},  {"since", required_argument, NULL, 'S'},
        {"lines", required_argument, NULL, 'n'},   {"interval", required_argument, NULL, 'I'},
        {"format", required_argument, NULL, 'F'},  {NULL, 0, NULL, 0},
};

static const char common_options[] = "hVosc";

static const struct {
        char letter;
        const char *text;
} option_help[] = {
        {'G', "--cgroup PATH       relative to the cgroup v2 mount, or absolute"},
        {'P', "--policy NAME       a policy of the configuration"},
        {'M', "--mode MODE         enforce or audit (default: the policy's)"},
        {'T', "--timeout DURATION  such as 10s (the default), 500ms, 1m"},
        {'f', "-f, --follow        go on with new events as they come"},
        {'A', "--agent NAME        only this agent's"},
        {'Y', "--type TYPE         only deny, would_deny, dns, budget, learn, drift, lifecycle or audit"},
        {'R', "--reason REASON     only this reason, such as no_rule"},
        {'S', "--since DURATION    only those of the last 10m, 1h, ..."},
        {'n', "-n, --lines N       only the newest N"},
        {'F', "--format FORMAT     see above"},
        {'I', "--interval DURATION how often (default: 1s)"},
};

static void print_options(const struct ctl_verb *verb)
{
        fputs("\nOptions:\n", stdout);
        for (size_t i = 0; verb && i < ARRAY_SIZE(option_help); i++)
                if (strchr(verb->options, option_help[i].letter))
                        printf("  %s\n", option_help[i].text);
        fputs("  -o, --output FORMAT text (the default) or json\n"
              "  --socket PATH       the daemon's socket (or AGENTD_SOCKET in the environment)\n"
              "  --config FILE       a configuration file; its daemon.socket is asked\n"
              "  -h, --help          this text\n"
              "  --version           the version\n",
              stdout);
}

static void print_usage(void)
{
        fputs("Usage: agentctl VERB [ARGUMENT...] [OPTION...]\n"
              "Shows and changes what agentd enforces.\n\nVerbs:\n",
              stdout);
        for (const struct ctl_verb *verb = ctl_verbs; verb->name; verb++)
                if (verb->run)
                        printf("  %-16s %s\n", verb->name, verb->summary);
        print_options(NULL);
        fputs("\n'agentctl VERB --help' tells more. Exit status: 0 done, 1 failed or denied, 2 wrong usage or\n"
              "configuration, 3 the daemon cannot be reached, 4 this host cannot enforce it.\n",
              stdout);
}

static void print_verb_help(const struct ctl_verb *verb)
{
        printf("Usage: agentctl %s%s%s\n%s\n", verb->name, verb->synopsis[0] ? " " : "", verb->synopsis, verb->summary);
        if (verb->details)
                printf("\n%s\n", verb->details);
        print_options(verb);
        if (verb->run)
                printf("\nExample:\n  %s\n", verb->example);
        else
                puts("\nNot in this build yet.");
}

int ctl_duration_parse(const char *text, unsigned long long *ret_ms)
{
        __u64 ns;
        int r = parse_duration(text, &ns);

        if (r < 0)
                return r;
        *ret_ms = ns / NSEC_PER_MSEC;
        return 0;
}

static int unknown_option(const char *given)
{
        const char *names[ARRAY_SIZE(options) - 1];
        const char *name = given + strspn(given, "-"), *near;
        char word[WORD_MAX];

        for (size_t i = 0; options[i].name; i++)
                names[i] = options[i].name;
        snprintf(word, sizeof(word), "%.*s", (int)strcspn(name, "="), name);
        near = strlen(word) > 1 ? suggest_closest(word, names, ARRAY_SIZE(names)) : NULL;
        if (near)
                ctl_error("unknown option '%s'; did you mean '--%s'?", given, near);
        else
                ctl_error("unknown option '%s'; 'agentctl --help' lists them", given);
        return CTL_USAGE;
}

/* The verb at the beginning of words, of one word or two. Dies with the suggestion otherwise. */
static int find_verb(char **words, int n_words, const struct ctl_verb **ret, int *ret_n)
{
        const char *names[64];
        char first[WORD_MAX], two[2 * WORD_MAX + 2];
        bool group = false;
        size_t n_names = 0;
        const char *near;

        snprintf(two, sizeof(two), "%s %s", words[0], n_words > 1 ? words[1] : "");
        for (const struct ctl_verb *verb = ctl_verbs; verb->name; verb++) {
                const char *blank = strchr(verb->name, ' ');

                if (!strcmp(verb->name, blank ? two : words[0])) {
                        *ret = verb;
                        *ret_n = blank ? 2 : 1;
                        return CTL_OK;
                }
                snprintf(first, sizeof(first), "%.*s", (int)strcspn(verb->name, " "), verb->name);
                if (blank && !strcmp(first, words[0]))
                        group = true;
        }
        if (group && n_words == 1) {
                ctl_error("'%s' needs a second word; 'agentctl --help' lists them", words[0]);
                return CTL_USAGE;
        }
        for (const struct ctl_verb *verb = ctl_verbs; verb->name && n_names < ARRAY_SIZE(names); verb++)
                if (group == (strchr(verb->name, ' ') != NULL))
                        names[n_names++] = verb->name;
        near = suggest_closest(group ? two : words[0], names, n_names);
        if (!near && !group) {
                static const char *const groups[] = {"policy", "budget"};

                near = suggest_closest(words[0], groups, ARRAY_SIZE(groups));
        }
        if (near)
                ctl_error("unknown verb '%s'; did you mean '%s'?", group ? two : words[0], near);
        else
                ctl_error("unknown verb '%s'; 'agentctl --help' lists them", group ? two : words[0]);
        return CTL_USAGE;
}

static const char *option_name(int letter)
{
        for (size_t i = 0; options[i].name; i++)
                if (options[i].val == letter)
                        return options[i].name;
        return "?";
}

static int take_output(const char *text, struct ctl_arguments *arguments)
{
        if (strcmp(text, "json") != 0 && strcmp(text, "text") != 0) {
                ctl_error("unknown output format '%s'; it is 'text' or 'json'", text);
                return CTL_USAGE;
        }
        arguments->json = !strcmp(text, "json");
        return CTL_OK;
}

/* Where an option's text goes. */
static const char **option_place(struct ctl_arguments *arguments, int letter)
{
        switch (letter) {
        case 's':
                return &arguments->socket;
        case 'c':
                return &arguments->config;
        case 'G':
                return &arguments->cgroup;
        case 'P':
                return &arguments->policy;
        case 'M':
                return &arguments->mode;
        case 'T':
                return &arguments->timeout;
        case 'A':
                return &arguments->agent;
        case 'Y':
                return &arguments->type;
        case 'R':
                return &arguments->reason;
        case 'S':
                return &arguments->since;
        case 'n':
                return &arguments->lines;
        case 'F':
                return &arguments->format;
        case 'I':
                return &arguments->interval;
        default:
                return NULL;
        }
}

static int check_words(const struct ctl_verb *verb, const char *given, const struct ctl_arguments *arguments)
{
        for (const char *letter = given; *letter; letter++)
                if (!strchr(common_options, *letter) && !strchr(verb->options, *letter)) {
                        ctl_error("option '--%s' does not belong to '%s'; see 'agentctl %s --help'",
                                  option_name(*letter), verb->name, verb->name);
                        return CTL_USAGE;
                }
        if (arguments->n_words < verb->least_words)
                ctl_error("'%s' needs more arguments: agentctl %s %s", verb->name, verb->name, verb->synopsis);
        else if (arguments->n_words > verb->most_words)
                ctl_error("unexpected argument '%s': agentctl %s%s%s", arguments->words[verb->most_words], verb->name,
                          verb->synopsis[0] ? " " : "", verb->synopsis);
        else
                return CTL_OK;
        return CTL_USAGE;
}

int ctl_options_parse(int argc, char **argv, const struct ctl_verb **ret_verb, struct ctl_arguments *ret)
{
        char given[ARRAY_SIZE(options)] = "";
        const struct ctl_verb *verb = NULL;
        bool help = false;
        int letter, n_verb, status;

        *ret = (struct ctl_arguments){0};
        *ret_verb = NULL;
        opterr = 0;
        optind = 0; /* once more from the start: tests parse several lines */
        while ((letter = getopt_long(argc, argv, ":hVo:fn:", options, NULL)) != -1) {
                const char **place = option_place(ret, letter);

                if (letter == '?' && optopt && strcmp(option_name(optopt), "?") != 0) {
                        ctl_error("option '--%s' takes no argument", option_name(optopt));
                        return CTL_USAGE;
                }
                if (letter == '?')
                        return unknown_option(optopt ? (char[]){'-', (char)optopt, '\0'} : argv[optind - 1]);
                if (letter == ':') {
                        ctl_error("option '--%s' needs an argument", option_name(optopt));
                        return CTL_USAGE;
                }
                if (letter == 'V') {
                        puts("agentctl " AGENTD_VERSION);
                        return print_end();
                }
                if (letter == 'o') {
                        status = take_output(optarg, ret);
                        if (status != CTL_OK)
                                return status;
                }
                help |= letter == 'h';
                ret->follow |= letter == 'f';
                if (place)
                        *place = optarg;
                if (!strchr(given, letter))
                        given[strlen(given)] = (char)letter;
        }
        ret->words = argv + optind;
        ret->n_words = argc - optind;

        if (ret->n_words > 0 && !strcmp(ret->words[0], "help")) {
                help = true;
                ret->words++;
                ret->n_words--;
        }
        if (ret->n_words == 0) {
                if (!help) {
                        ctl_error("a verb is needed; 'agentctl --help' lists them");
                        return CTL_USAGE;
                }
                print_usage();
                return print_end();
        }
        /* `agentctl policy --help`: the list has them all. */
        if (help && ret->n_words == 1 && (!strcmp(ret->words[0], "policy") || !strcmp(ret->words[0], "budget"))) {
                print_usage();
                return print_end();
        }
        status = find_verb(ret->words, ret->n_words, &verb, &n_verb);
        if (status != CTL_OK)
                return status;
        if (help) {
                print_verb_help(verb);
                return print_end();
        }
        if (!verb->run) {
                ctl_error("'%s' is not in this build yet", verb->name);
                return CTL_USAGE;
        }
        ret->words += n_verb;
        ret->n_words -= n_verb;
        status = check_words(verb, given, ret);
        if (status == CTL_OK)
                *ret_verb = verb;
        return status;
}
