#!/usr/bin/env python3
"""Groups of C++ sources that can be compiled as one: parsing the headers is most of the work on a file of ours.

    unity_groups.py MOST FILE...      prints a group per line, its files separated by ';'

Sources share a group when no name that one declares in its namespace scope occurs in another: then nothing is defined
twice, and no lookup finds what it would not find alone. Found by the layout that clang-format keeps (what stands in
namespace scope begins at the first column), and rather too careful. Sources with macros of their own stay alone.
"""
import re
import sys

NAME = re.compile(r"[A-Za-z_]\w*")
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])*\'', re.S)
ALONE = re.compile(r"foreach_target|HWY_|^using namespace|#\s*define\s", re.M)
DIRECTIVE = re.compile(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", re.M)
UNQUALIFIED = re.compile(r"(?<![\w.])(?<!->)(?<!::)[A-Za-z_]\w*")
TYPE = re.compile(r"(?:template\s*<.*?>\s*)?(?:struct|class|enum class|enum|union)\s+(?:alignas\([^)]*\)\s*)?(\w+)")
TEST = re.compile(r"(?:TEST|TEST_F|TEST_P|INSTANTIATE_\w+)\((.*)")


def declared(line):
    """The name that a line at the first column declares, or None."""
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


class Source:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            code = NO_CODE.sub(" ", file.read())
        self.path = path
        self.alone = ALONE.search(code) is not None
        code = DIRECTIVE.sub("", code)
        self.declares = {name for line in code.split("\n") if (name := declared(line))}
        self.mentions = set(UNQUALIFIED.findall(code)) | self.declares


def groups(paths, most):
    """Lists of paths. Greedy: each source goes to the first group that it fits in."""
    alone, shared = [], []  # of shared ones: paths, what they declare, what they mention
    for source in map(Source, paths):
        if source.alone:
            alone.append([source.path])
            continue
        for group in shared:
            if len(group[0]) < most and not source.declares & group[2] and not source.mentions & group[1]:
                break
        else:
            group = ([], set(), set())
            shared.append(group)
        group[0].append(source.path)
        group[1].update(source.declares)
        group[2].update(source.mentions)
    return [group[0] for group in shared] + alone


if __name__ == "__main__":
    for group in groups(sys.argv[2:], int(sys.argv[1])):
        print(";".join(group))
