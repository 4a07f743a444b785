#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rounds of attacks: what is sent, what came of it, and the table of both.

A list (lists/NAME.list) names a technique a line. Each line gets a destination of its own in each round, so that what
arrives names who sent it, and when: what the kernel still sends for an earlier round counts in no later one. A round is a
way (who stands in between) at a privilege. First all goes unconfined ("free"): what does not arrive then proves nothing
("void"), and as root every line must. Then under each tier alone, which only tells, and under all of them: none may arrive.

    = Title                                  of the table's section; the comment behind it is its text
    @ PREFIX4 PREFIX6 PORT [MARK]            for the lines below; % is the round's place; MARK: what else a line of the
                                             recorder must match to be a leak (where the plain packet is allowed)
    PROGRAM TECHNIQUE 4|6 [ADDRESS] [FLAG]   ?: not every kernel has it; void is no failure then, and is told
                                             open: is known to get out (docs/threat-model.md says why)

    rounds.py commands LISTS WAY LEVEL [FREE]    the commands of a round; with FREE less those that did not arrive there
    rounds.py missing LISTS FREE                 what should have arrived unconfined, as root, and has not
    rounds.py places LISTS LIST                  what stands for % in each round
    rounds.py judge LISTS RUN LIST WAY...        what arrived (RUN/arrived.WAY): RUN/LIST.tsv, failures on stderr, status
    rounds.py table FILE.tsv...                  the table, of one or several kernels: the first one's cells stand, a later
                                                 one's where it is void, and tier 4 from each
    rounds.py compare DOCUMENT FILE.tsv...       status 1 and the rows where fewer tiers hold than it says, or that it does not
                                                 have; what is void on either side, and what more tiers hold, is only told
"""
import ipaddress
import os
import re
import sys

LEVELS = ["root", "docker", "user"]
WAYS = ["free", "1", "2", "3", "all", "4"]
TIERS = ["1", "2", "3", "4"]
PAGES = 14
ORDER = ["streams", "datagrams", "embedded", "options", "joins", "transports", "uring", "names", "reflected", "elsewhere", "raw",
         "packets", "frames", "devices"]


def in_order(files):
    def place(path):
        name = os.path.basename(path)[:-4]
        return ORDER.index(name) if name in ORDER else len(ORDER)

    return sorted(files, key=place)


class Line:
    """A line of a list. In a round: its command and its destination."""

    def __init__(self, name, page, number, section, words, at):
        self.list, self.page, self.number, self.section = name, page, number, section
        self.prefix4, self.prefix6, self.port, self.mark = at
        self.program, self.technique, self.family = words[:3]
        rest = words[3:]
        self.flag = rest.pop() if rest and rest[-1] in ("?", "open") else ""
        self.address = rest[0] if rest else ""

    def place(self, way, level):
        return (WAYS.index(way) * len(LEVELS) + LEVELS.index(level)) * PAGES + self.page

    def address_of(self, way, level):
        if self.address:
            address = self.address
        elif self.family == "4":
            address = f"{self.prefix4}.{self.number + 10}"
        else:
            address = f"{self.prefix6}:{self.number + 16:x}"
        place = str(self.place(way, level))
        return address.replace("%%", "^").replace("%", place).replace("^", "%")

    def key_of(self, way, level):
        return str(ipaddress.ip_address(self.address_of(way, level).split("%")[0]))

    def command(self, way, level):
        place = self.place(way, level)
        if self.family == "4":
            allowed = f"10.20.{place}.{self.number + 10}"
        else:
            allowed = f"2001:db8:1:{place}::{self.number + 16:x}"
        return f"{self.program} {self.technique} {self.address_of(way, level)} {self.port} {allowed}"


class Section:
    def __init__(self, title):
        self.title, self.text = title, []


def lists_read(directory):
    lines = []
    only = os.environ.get("ATTACK_LISTS", "").split()
    names = sorted(name[:-5] for name in os.listdir(directory) if name.endswith(".list"))
    assert len(names) <= PAGES, "more lists than places"
    for page, name in enumerate(names):
        section, at, number, heading = None, None, 0, False
        if only and name not in only:
            continue
        with open(os.path.join(directory, name + ".list"), encoding="utf-8") as file:
            for text in file:
                words = text.split()
                if not words:
                    continue
                if words[0] == "=":
                    section, heading = Section(text[1:].strip()), True
                elif words[0] == "#":
                    if heading:
                        section.text.append(text[1:].strip())
                elif words[0] == "@":
                    heading = False
                    at = (words[1], words[2], words[3], " ".join(words[4:]))
                else:
                    heading = False
                    number += 1
                    lines.append(Line(name, page, number, section, words, at))
        assert number <= 235, f"{name} is too long"
    return lines


class Arrived:
    """What the recorder wrote in a way, by destination."""

    def __init__(self, path):
        self.by_address = {}
        with open(path, encoding="ascii", errors="replace") as file:
            for text in file:
                found = re.match(r"dst=(\S+) ", text)
                if found:
                    self.by_address.setdefault(found[1], []).append(text.rstrip())

    def of(self, line, way, level):
        found = self.by_address.get(line.key_of(way, level), [])
        return [text for text in found if not line.mark or re.search(line.mark, text)]


def commands(directory, way, level, free=None):
    arrived = Arrived(free) if free else None
    for line in lists_read(directory):
        if not arrived or arrived.of(line, "free", level):
            print(line.command(way, level))
    return 0


def missing(directory, free):
    arrived = Arrived(free)
    for line in lists_read(directory):
        if not line.flag == "?" and not arrived.of(line, "free", "root"):
            print(line.command("free", "root"))
    return 0


def places(directory, name):
    for line in lists_read(directory):
        if line.list == name:
            print(*(line.place(way, level) for way in WAYS for level in LEVELS))
            return 0
    return 0


def judge(directory, run, name, *ways):
    arrived = {way: Arrived(os.path.join(run, "arrived." + way)) for way in ways}
    status, void, stopped = 0, [], 0
    results = open(os.path.join(run, name + ".tsv"), "w", encoding="utf-8")

    def fail(text):
        nonlocal status
        print(text, file=sys.stderr)
        status = 1

    for line in lists_read(directory):
        if line.list != name:
            continue
        for level in LEVELS:
            result = {}
            if not arrived["free"].of(line, "free", level):
                result["free"] = "void"
                if level == "root":
                    void.append(f"{line.technique}/{line.family}")
                    if line.flag != "?":
                        fail(f"void: as {level}, without agentd, nothing arrives from: {line.command('free', level)}")
            else:
                for way in ways[1:]:
                    leak = arrived[way].of(line, way, level)
                    result[way] = "leaked" if leak else "stopped"
                    stopped += way == "all" and not leak
                    if leak and way == "all" and line.flag != "open":
                        fail(f"leaked: as {level}: {line.command(way, level)}\n" + "\n".join(leak[:5]))
            for way, word in result.items():
                record = [line.section.title, " ".join(line.section.text), line.technique, line.family, line.address]
                print("\t".join(record + [level, way, word]), file=results)
    if not stopped:
        fail(f"void: nothing of {name} arrives")
    if void:
        print("# void on this kernel: " + " ".join(void))
    print(f"# {stopped} of {name} stopped")
    return status


# --- the table -----------------------------------------------------------------------------------------------------------


def cells_read(files):
    """{(section, text): {(technique, address): {family: {level: cell}}}}, in the files' order. The first that is not void
    stands; a later one adds the tiers that no earlier one had."""
    records, sections = {}, {}
    for path in in_order(files):
        with open(path, encoding="utf-8") as file:
            for text in file:
                section, words, technique, family, address, level, way, result = text.rstrip("\n").split("\t")
                records.setdefault((section, words, technique, address, family, level), {}).setdefault(os.path.dirname(path), {})[way] = result
    for (section, words, technique, address, family, level), kernels in records.items():
        cell, tiers, open_ = None, None, False
        for ways in kernels.values():
            if "free" in ways:
                continue
            cell = True
            stopped = {way for way in TIERS if ways.get(way) == "stopped"}
            tiers = stopped if tiers is None else tiers | (stopped & {"4"})
            open_ = open_ or ways.get("all") == "leaked"
        if cell:
            cell = "**out**" if open_ else " ".join(sorted(tiers)) or "together"
        row = sections.setdefault((section, words), {}).setdefault((technique, address), {})
        row.setdefault(family, {})[level] = cell or "-"
    for section in sections.values():
        for row in section.values():
            for cells in row.values():
                if all(cell == "-" for cell in cells.values()):
                    cells.update({level: "void" for level in cells})
    return sections


def rows_of(section):
    for (technique, address), families in section.items():
        alike = {}
        for family, cells in families.items():
            alike.setdefault(tuple(cells.get(level, "-") for level in LEVELS), []).append(family)
        name = f"`{technique}`" + (f" to {address}".replace("%%", "%") if address else "")
        for cells, names in alike.items():
            yield name, sorted(names), list(cells)


def series():
    return "Linux " + ".".join(os.uname().release.split(".")[:2])


def table(*files):
    print(f"\nSeen on {series()}.")
    for (title, text), section in cells_read(files).items():
        print(f"\n### {title}\n\n{text}\n")
        print("| technique | IP | root | Docker's root | user |\n| --- | --- | --- | --- | --- |")
        for name, families, cells in rows_of(section):
            print("| " + " | ".join([name, ", ".join(families)] + cells) + " |")
    return 0


def rows_written(path):
    """{(title, technique, family): cells} of a document."""
    rows, title = {}, ""
    with open(path, encoding="utf-8") as file:
        for text in file:
            if text.startswith("### "):
                title = text[4:].strip()
            cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
            if text.startswith("| `") and len(cells) == 5:
                for family in cells[1].split(", "):
                    rows[title, cells[0], family] = cells[2:]
    return rows


def compare(document, *files):
    written, status, others, more = rows_written(document), 0, 0, 0
    # What a kernel calls which hook for is its own matter: elsewhere the differences are told.
    alike = f"Seen on {series()}." in open(document, encoding="utf-8").read()
    has_tier4 = any("\t4\t" in open(path, encoding="utf-8").read() for path in files)

    def tiers(cell):
        return {word for word in cell.split() if word in TIERS and (has_tier4 or word != "4")}

    for (title, _), section in cells_read(files).items():
        for name, families, cells in rows_of(section):
            for family in families:
                known = written.get((title, name, family))
                if known is None:
                    print(f"{document} has no row for: {title}: {name} IPv{family}: {' | '.join(cells)}", file=sys.stderr)
                    status = 1
                    continue
                for level, here, there in zip(LEVELS, cells, known):
                    if here in ("void", "-") or there in ("void", "-"):
                        others += here != there
                    elif "out" in here and "out" not in there or tiers(there) - tiers(here):
                        print(f"{title}: {name} IPv{family} as {level}: {document} says '{there}', this run '{here}'",
                              file=sys.stderr if alike else sys.stdout)
                        status = 1 if alike or "out" in here else status
                    elif here != there:
                        print(f"# {title}: {name} IPv{family} as {level}: more than {document} says: '{here}'")
                        more += 1
    if status:
        print(f"If this run is right, 'make attacks-table' writes it into {document}.", file=sys.stderr)
    print(f"# {others} cells are void here or where {document} was made, {more} tell more")
    return status


if __name__ == "__main__":
    sys.exit({"commands": commands, "missing": missing, "places": places, "judge": judge, "table": table, "compare": compare}[sys.argv[1]](*sys.argv[2:]))
