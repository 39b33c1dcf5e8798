#!/usr/bin/env python3
"""Checks the book against the program: every command line in README.md and docs/ names a command that exists, with
options that it has; every code in backquotes is a code or an event of the reference; every link to a file or a heading leads to
one; what it says to kubectl is there (kubernetes.py).
Runs nothing but `pg_hardstorage reference`, so a command in the book never does anything here.
Usage: check.py PATH-TO-pg_hardstorage   (scripts/check-docs calls it)"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import kubernetes  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATED = {"commands.md", "codes.md"}


def reference(binary, part):
    return subprocess.run([binary, "reference", part], check=True, capture_output=True, text=True).stdout


def commands_of(text):
    """For each command its long and short options, and which of them take a value."""
    found, current = {}, None
    for line in text.splitlines():
        if line.startswith("## "):
            current = found.setdefault(tuple(line[3:].split()), {})
        option = re.match(r"\s+(?:(-\w), )?(--[a-z-]+)( <.*)?$", line)
        if current is not None and option:
            for name in filter(None, option.group(1, 2)):
                current[name] = option.group(3) is not None
    return found


def lines_of(text):
    """Every command line: in blocks of shell, and in backquotes."""
    for block in re.findall(r"```sh[^\n]*\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"\bpg_hardstorage .*", line)
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    yield from (line.replace("\n", " ") for line in re.findall(r"`(pg_hardstorage [^`]*)`", outside))


def anchors_of(text):
    """What mdBook calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).lower()) for heading in headings}


def check_line(line, commands):
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as error:
        return str(error)
    # The shell's own words end the command.
    ends = (index for index, word in enumerate(words) if set(word) <= set("|&;<>()"))
    words = words[: next(ends, len(words))]
    command = ("pg_hardstorage",)
    rest = words[1:]
    while rest and command + (rest[0],) in commands:
        command += (rest.pop(0),)
    options = commands[command]
    below = any(other[: len(command)] == command and len(other) > len(command) for other in commands)
    if below and rest and not rest[0].startswith("-") and command != ("pg_hardstorage", "backup"):
        return f"{' '.join(command)} has no command {rest[0]}"
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            continue
        name, equals, _ = word.partition("=")
        if name not in options:
            return f"{' '.join(command)} has no option {name}"
        if options[name] and not equals and not rest:
            return f"{name} needs a value"
        if options[name] and not equals:
            rest.pop(0)
    return None


def main():
    binary = sys.argv[1]
    commands = commands_of(reference(binary, "commands"))
    known = set(re.findall(r"^\| `([a-z_.]+)`", reference(binary, "codes"), re.M))
    classes = {code.split(".")[0] for code in known}
    known |= set(re.findall(r"`([a-z_.]+\.[a-z_.]+)`", (ROOT / "docs/reference/events.md").read_text()))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    sources = [path for folder in ("operator/src", "crds/src", "charts") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    objects = kubernetes.Objects(sorted((ROOT / "docs/reference").glob("kubernetes-*.md")), sources, ROOT / "operator/kubectl/src/args.rs")
    problems, lines, asked = [], 0, 0
    for page in pages:
        text, name = page.read_text(), page.relative_to(ROOT)
        if page.name not in GENERATED:
            for line in lines_of(text):
                lines += 1
                problem = check_line(line, commands)
                if problem:
                    problems.append(f"{name}: {problem}: {line}")
            for code in re.findall(r"`([a-z]+\.[a-z_]+)`", text):
                if code.split(".")[0] in classes and code not in known:
                    problems.append(f"{name}: {code} is neither a code nor an event")
            seen, wrong = kubernetes.check(text, objects)
            asked += seen
            if page.parent.name == "runbooks":
                wrong += kubernetes.check_reasons(text, objects, known)
            problems += [f"{name}: {problem}" for problem in wrong]
        plain = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", plain):
            there = page.parent / target if target else page
            if not there.exists():
                problems.append(f"{name}: the link to {target} leads nowhere")
            elif anchor and anchor not in anchors_of(there.read_text()):
                problems.append(f"{name}: {target} has no heading #{anchor}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if lines < 30 or asked < 60:
        sys.exit(f"only {lines} and {asked} command lines were found: this check does not see the book")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
