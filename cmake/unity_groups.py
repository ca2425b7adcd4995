#!/usr/bin/env python3
"""Groups of C++ sources that can be compiled as one: parsing the headers is most of the work on a file of ours.

    unity_groups.py MOST TARGET FILE... [-- TARGET FILE...]...      prints a group per line: TARGET_NUMBER;FILE;...

Sources share a group when no two declare the same name in their namespace scopes, and none declares there what a header
of ours declares too and another mentions or includes: then nothing is defined twice, and no lookup finds what it would not
find alone. (A mentioned name that neither its own file nor a header declares in a namespace is a local one or a member,
found before all others.) Found by the layout that clang-format keeps (what stands in namespace scope begins at the first
column), and rather too careful. Sources with macros of their own stay alone.
"""
import functools
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

NAME = re.compile(r"[A-Za-z_]\w*")
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])*\'', re.S)
ALONE = re.compile(r"foreach_target|HWY_|^using namespace|#\s*define\s", re.M)
DIRECTIVE = re.compile(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", re.M)
UNQUALIFIED = re.compile(r"(?<![\w.])(?<!->)(?<!::)[A-Za-z_]\w*")
TYPE = re.compile(r"(?:template\s*<.*?>\s*)?(?:struct|class|enum class|enum|union)\s+(?:alignas\([^)]*\)\s*)?(\w+)")
ENUMERATORS = re.compile(r"\benum\b(?!\s+class)[^{};()]*\{([^}]*)\}")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)
TEST = re.compile(r"(?:TEST|TEST_F|TEST_P|INSTANTIATE_\w+)\((.*)")


def declared(line):
    """The name that a line at the first column declares, or None."""
    line = re.sub(r"^extern\s+(?!template)", "", line)  # "C", as literals are gone
    if not (line[:1].isalpha() or line[:1] == "_") or line.startswith(("namespace", "extern")):
        return None
    if match := TYPE.match(line):
        return match.group(1)
    if match := TEST.match(line):
        return "_".join(NAME.findall(match.group(1))[:2])
    if line.startswith("using"):
        names = NAME.findall(line.split("=")[0])
        return names[-1] if names else None
    head = re.split(r"[({=;\[]", line, maxsplit=1)[0].split()
    if not head or "::" in head[-1]:  # a member, of a class that a header declares
        return None
    names = NAME.findall(head[-1])
    return names[-1] if names else None


class File:
    """A source's or header's text without comments, literals and directives, and what that declares in namespaces."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        code = NO_CODE.sub(lambda match: match.group() if match.group()[0] == '"' else " ", text)
        self.includes = INCLUDE.findall(code)
        code = NO_CODE.sub(" ", code)
        self.alone = ALONE.search(code) is not None
        self.code = DIRECTIVE.sub("", code)
        self.declares = {name for line in self.code.split("\n") if (name := declared(line))}


@functools.cache
def headers():
    """{path below a folder of ours that is searched for headers: File}"""
    found = {}
    for top in ("include", "src", "tests", "tools"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith(".h"):
                    path = os.path.join(folder, name)
                    file = found[os.path.relpath(path, os.path.join(ROOT, top))] = File(path)
                    file.declares.update(NAME.findall(" ".join(ENUMERATORS.findall(file.code))))
    return found


@functools.cache
def header_names():
    """What the headers of this project declare in namespaces."""
    return set().union(*(file.declares for file in headers().values()))


@functools.cache
def names_through(include):
    """What an #include of one of our headers declares, with those that it includes itself."""
    file = headers().get(include)
    return file.declares.union(*map(names_through, file.includes)) if file else set()


class Source(File):
    def __init__(self, path):
        super().__init__(path)
        self.path = path
        self.mentions = self.declares | set(UNQUALIFIED.findall(self.code)) & header_names()
        self.included = set().union(*map(names_through, self.includes))
        own_types = {match.group(1) for line in self.code.split("\n")
                     if (match := TYPE.match(line)) and line.endswith("{") and line[match.end():match.end() + 1] != ":"}
        self.private = self.declares - self.included | own_types

    def conflicts(self, other):
        return bool(self.declares & other.mentions or self.mentions & other.declares or
                    self.private & other.included or self.included & other.private)


def groups(paths, most):
    """Lists of paths. Greedy: each source, those with most conflicts first, goes to the first group that it fits in."""
    sources = [Source(path) for path in paths]
    shared = [source for source in sources if not source.alone]
    against = {a.path: {b.path for b in shared if b is not a and a.conflicts(b)} for a in shared}
    found = []
    for source in sorted(shared, key=lambda source: -len(against[source.path])):
        for group in found:
            if len(group) < most and not against[source.path].intersection(group):
                break
        else:
            group = []
            found.append(group)
        group.append(source.path)
    return found + [[source.path] for source in sources if source.alone]


def main(most, arguments):
    while arguments:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        target, paths, arguments = arguments[0], arguments[1:end], arguments[end + 1:]
        for number, group in enumerate(groups(paths, most), start=1):
            print(";".join([f"{target}_{number}", *group]))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
