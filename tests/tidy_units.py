#!/usr/bin/env python3
"""Files for clang-tidy that stand for many sources each, as most of its time goes to headers.

    tidy_units.py BUILD OUT      BUILD holds compile_commands.json; OUT, a new folder, gets one for units and sources

Prints the path of each unit. Only what the build compiles: a source that nobody lists is not checked here, but fails to
link. Fails when an alias or a using-declaration serves nothing: clang-tidy looks for those in main files alone.
"""
import json
import os
import re
import shlex
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "cmake"))
import unity_groups  # noqa: E402

MOST = 24
# Nothing that clang-tidy looks at depends on these.
OF_NO_MEANING = re.compile(r"-O\w$|-f(PIC|PIE|visibility\S*)$|-D\w+_EXPORTS$")


def inside(path, folder):
    return path.startswith(folder + os.sep)


def sources(build, together_only=False):
    """{source of this project: its command without files, as a list}; each once, those of a unity file one by one, and
    where asked those alone that share one."""
    found = {}
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    for command in commands:
        path = os.path.normpath(os.path.join(command["directory"], command["file"]))
        paths = [path]
        if os.path.basename(os.path.dirname(path)) == "Unity":
            with open(path, encoding="utf-8") as file:
                paths = re.findall(r'^#include "(.*)"$', file.read(), re.M)
        if together_only and len(paths) < 2:
            continue
        flags = shlex.split(re.sub(r" -o \S+ -c \S+$", "", command["command"]))
        for path in paths:
            if inside(path, ROOT) and not inside(path, os.path.join(ROOT, "build")):
                found.setdefault(path, flags)
    return found


def by_language(commands):
    """[(flags, sources)]: sources whose flags differ in include folders and macros share all of these, as those are of
    other third parties; a macro of two values keeps its sources apart."""
    found = []
    for path in sorted(commands):
        flags = [flag for flag in commands[path] if not OF_NO_MEANING.match(flag)]
        plain, shared = [], {}
        words = iter(flags)
        for flag in words:
            if flag == "-isystem":
                shared[flag, next(words)] = None
            elif flag.startswith("-I"):
                shared["-I", flag[2:]] = None
            elif flag.startswith("-D"):
                name, _, value = flag[2:].partition("=")
                shared["-D", name] = value
            else:
                plain.append(flag)
        for other, all_shared, paths in found:
            if other == plain and all(all_shared.get(key, value) == value for key, value in shared.items()):
                all_shared.update(shared)
                paths.append(path)
                break
        else:
            found.append((plain, shared, [path]))
    # In the order that the compiler looks: our folders, then the third parties'.
    return [(plain + [word for (kind, name), value in sorted(shared.items()) for word in flag_of(kind, name, value)], paths)
            for plain, shared, paths in found]


def flag_of(kind, name, value):
    if kind == "-isystem":
        return [kind, name]
    return [kind + name + (f"={value}" if value else "")]


def unused(path):
    """Names that a using-declaration or an alias introduces and nothing mentions."""
    with open(path, encoding="utf-8") as file:
        code = unity_groups.NO_CODE.sub(" ", file.read())
    names = re.findall(r"^using (?:\w*::)+(\w+);|^namespace (\w+) =", code, re.M)
    return [name for pair in names for name in pair if name and len(re.findall(rf"\b{name}\b", code)) < 2]


def main(build, out):
    status = 0
    commands = sources(build)
    database = [{"directory": build, "file": path, "arguments": [*flags, "-c", path]} for path, flags in commands.items()]
    for path in commands:
        for name in unused(path):
            print(f"{path}: nothing uses '{name}'", file=sys.stderr)
            status = 1
    units = 0
    for flags, paths in by_language(commands):
        for group in unity_groups.groups(paths, MOST):
            unit = os.path.join(out, f"unit{units}.cpp")
            units += 1
            with open(unit, "w", encoding="utf-8") as file:
                file.writelines(f'#include "{path}"\n' for path in group)
            database.append({"directory": build, "file": unit, "arguments": [*flags, "-c", unit]})
            print(unit)
    with open(os.path.join(out, "compile_commands.json"), "w", encoding="utf-8") as file:
        json.dump(database, file)
    return status


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))
