#!/usr/bin/env python3
"""Sources that recent commits may have left without an #include of theirs.

    alone_sources.py BUILD COMMITS      BUILD holds compile_commands.json; prints a compiler's command per source

Compiled with others, a source sees their headers too. Prints how to compile each one by itself that the build does not:
of those that the last COMMITS commits (or as many as the clone has) or the working tree changed, or that include a header
which lost a declaration or an #include.
"""
import os
import re
import shlex
import subprocess
import sys

import tidy_units
from tidy_units import ROOT, unity_groups

INCLUDE = re.compile(r'^#include ["<](?:.*/)?([^/">]+)[">]', re.M)


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout


def changes(commits):
    """{path: (lines removed, lines added)}"""
    there = int(git("rev-list", "--first-parent", "--count", "HEAD")) - 1
    if there < commits:
        print(f"alone_sources: the clone has {there} commits before this one", file=sys.stderr)
    found = {}
    lines = ([], [])
    for line in git("diff", "--no-renames", "--no-color", "--no-ext-diff", "--src-prefix=a/", "--dst-prefix=b/", "-U0",
                    f"HEAD~{min(commits, there)}", "--", "*.cpp", "*.h").splitlines():
        if line.startswith("diff --git "):
            lines = found.setdefault(os.path.join(ROOT, line.split(" b/")[-1]), ([], []))
        elif line.startswith(("-", "+")) and not line.startswith(("---", "+++")):
            lines[line[0] == "+"].append(line[1:])
    return found


def offers(lines):
    """What a header's lines give to those that include it."""
    return {name for line in lines if (name := unity_groups.declared(line))} | set(INCLUDE.findall("\n".join(lines)))


def main(build, commits):
    found = changes(commits)
    poorer = {os.path.basename(path) for path, (removed, added) in found.items()
              if path.endswith(".h") and offers(removed) - offers(added)}
    for path, flags in sorted(tidy_units.sources(build, together_only=True).items()):
        with open(path, encoding="utf-8") as file:
            includes = set(INCLUDE.findall(file.read()))
        if path in found or includes & poorer:
            print(shlex.join([*flags, "-w", "-fsyntax-only", path]))


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), int(sys.argv[2]))
