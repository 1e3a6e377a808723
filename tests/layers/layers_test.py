"""The arrows between folders point down, and no two headers give one name to two things: reads every
#include and what headers define, and fails on what is not so."""

import collections
import os
import re
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))

# Top to bottom. A folder may include what its layer names here, and whatever those may include.
USES = {
    "tools": ["cuda", "fs/mount"],
    "cuda": ["fs/dataset"],
    "fs/mount": ["fs/dataset"],
    "fs/dataset": ["fs/archive", "cache"],
    "fs/archive": ["fs/tree"],
    "cache": ["fs/base"],
    "fs/tree": ["fs/base"],
    "fs/base": [],
}

# Libraries that only some folders may know of, by header.
CONFINED = [
    (r"fuse.*\.h|fuse3/.*", ["fs/mount"]),
    (r"lmdb\.h", ["cache/server"]),
    (r"archive(_entry)?\.h", ["tools/mkshard", "fs/archive/libarchive"]),
    (r"cu(da|file|da_runtime(_api)?)\.h", ["cuda"]),
]

# Large headers, which would make every file that includes one of ours slow to compile.
HEAVY = r"CLI/.*|nlohmann/json\.hpp|spdlog/.*|fmt/(ranges|chrono|std)\.h"

SUFFIXES = (".h", ".cpp", ".cu", ".cuh")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# A constant or a type that a header defines, at the scope of a namespace. Two of one name are one to
# the linker, which takes either for both: it tells nobody, and nobody notices where all is inlined.
DEFINED = re.compile(r"^(?:inline constexpr [^=({]*\b(\w+)(?: = |\{)"
                     r"|(?:class|struct|enum class) (?:\[\[nodiscard\]\] )?(\w+)(?: final)?(?: :[^:].*)? \{)")


def below(layer):
    """All layers that `layer` may include, itself among them."""
    found = {layer}
    for used in USES[layer]:
        found |= below(used)
    return found


def layer_of(path):
    return next((layer for layer in USES if path.startswith(layer + "/")), None)


def sources(root):
    for top in sorted({layer.split("/")[0] for layer in USES}):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith(SUFFIXES):
                    yield os.path.relpath(os.path.join(folder, name), root)


def includes(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match[1], match[2]


def wrong_with(root, path, quote, header):
    """What is wrong with `path` including `header`, or None."""
    here, there = layer_of(path), layer_of(header)
    if here is None:
        return "lies in no layer"
    if there and there not in below(here):
        return f"{here} must not include {there}"
    if quote == '"' and not os.path.isfile(os.path.join(root, header)):
        return "is not written from the repository's root, or is not there"
    for pattern, folders in CONFINED:
        if not there and re.fullmatch(pattern, header):
            if not any(path.startswith(folder + "/") for folder in folders):
                return "belongs to " + " and ".join(folders)
    if path.endswith(".h") and re.fullmatch(HEAVY, header):
        return "is too large for a header; include it in a .cpp"
    return None


def violations(root):
    found = []
    for path in sources(root):
        if layer_of(path) is None:
            found.append(f"{path}: lies in no layer")
        for number, quote, header in includes(root, path):
            what = wrong_with(root, path, quote, header)
            if what:
                found.append(f"{path}:{number}: {header}: {what}")
    return found


def defined(root):
    """(name, path) of all that headers define."""
    for path in sources(root):
        if path.endswith(".h"):
            with open(os.path.join(root, path), encoding="utf-8") as file:
                for match in filter(None, map(DEFINED.match, file)):
                    yield match[1] or match[2], path


def defined_twice(root):
    where = collections.defaultdict(list)
    for name, path in defined(root):
        where[name].append(path)
    return {name: paths for name, paths in where.items() if len(paths) > 1}


class Layers(unittest.TestCase):
    def test_every_include_points_down(self):
        self.assertEqual(violations(ROOT), [])

    def test_no_name_is_defined_twice(self):
        self.assertEqual(defined_twice(ROOT), {})

    def test_reads_the_files_there_are(self):
        layers = {layer_of(path) for path in sources(ROOT)}
        self.assertLessEqual(
            {"fs/base", "fs/tree", "fs/archive", "fs/dataset", "fs/mount", "tools"}, layers)
        self.assertIn("fs/base/result.h",
                      {header for _, _, header in includes(ROOT, "fs/archive/archive.h")})
        self.assertLessEqual({"kPieceBytes", "kChunkBytes", "ByteSource", "Tier", "Dataset"},
                             {name for name, _ in defined(ROOT)})


class TheTestItself(unittest.TestCase):
    """Each rule fires on a tree that breaks it."""

    def found_in(self, path, line, find=violations):
        with tempfile.TemporaryDirectory() as root:
            for name, text in [("fs/base/a.h", ""), ("fs/tree/b.h", '#include "fs/base/a.h"\n'),
                               ("fs/mount/c.h", ""), ("cache/d.h", ""), (path, line + "\n")]:
                full = os.path.join(root, name)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "a", encoding="utf-8") as file:
                    file.write(text)
            return find(root)

    def assert_refused(self, path, line, what):
        found = self.found_in(path, line)
        self.assertEqual(len(found), 1, found)
        self.assertIn(what, found[0])

    def test_accepts_arrows_that_point_down(self):
        self.assertEqual(self.found_in("tools/x/x.cpp", '#include "fs/base/a.h"'), [])
        self.assertEqual(self.found_in("fs/dataset/x.cpp", '#include "cache/d.h"'), [])
        self.assertEqual(self.found_in("fs/mount/x.cpp", "#include <fuse_lowlevel.h>"), [])
        self.assertEqual(self.found_in("tools/mkshard/x.cpp", "#include <archive.h>"), [])

    def test_refuses_an_arrow_up(self):
        self.assert_refused("fs/base/x.cpp", '#include "fs/tree/b.h"',
                            "fs/base must not include fs/tree")
        self.assert_refused("fs/dataset/x.cpp", '  #  include "fs/mount/c.h"',
                            "fs/dataset must not include fs/mount")
        self.assert_refused("fs/base/a.h", "#include <fs/tree/b.h>",
                            "fs/base must not include fs/tree")

    def test_refuses_an_arrow_across(self):
        self.assert_refused("cache/x.cpp", '#include "fs/tree/b.h"',
                            "cache must not include fs/tree")
        self.assert_refused("fs/archive/x.cpp", '#include "cache/d.h"',
                            "fs/archive must not include cache")
        self.assert_refused("cuda/x.cu", '#include "fs/mount/c.h"',
                            "cuda must not include fs/mount")

    def test_refuses_a_library_outside_its_folder(self):
        self.assert_refused("tools/shardfs/x.cpp", "#include <fuse_lowlevel.h>",
                            "belongs to fs/mount")
        self.assert_refused("fs/mount/x.cpp", "#include <fuse3/fuse.h>\n#include <lmdb.h>",
                            "belongs to cache/server")
        self.assert_refused("tools/shardfs/x.cpp", "#include <archive.h>",
                            "belongs to tools/mkshard and fs/archive/libarchive")

    def test_refuses_a_relative_or_missing_include(self):
        self.assert_refused("fs/tree/x.cpp", '#include "b.h"', "not written from")
        self.assert_refused("fs/tree/x.cpp", '#include "../base/a.h"', "not written from")
        self.assert_refused("fs/tree/x.cpp", '#include "fs/base/none.h"', "is not there")

    def test_refuses_a_heavy_header_in_a_header(self):
        self.assert_refused("tools/x.h", "#include <nlohmann/json.hpp>", "too large for a header")
        self.assertEqual(self.found_in("tools/x.cpp", "#include <nlohmann/json.hpp>"), [])

    def test_refuses_a_file_in_no_layer(self):
        self.assert_refused("fs/other/x.cpp", "", "lies in no layer")

    def test_refuses_two_of_a_name(self):
        for line in ("inline constexpr int kSize = 1;", "class Size final : public Base {",
                     "inline constexpr std::array<int, 2> kSizes{1, 2};", "struct Size {",
                     "enum class Size : int {"):
            twice = self.found_in("fs/tree/x.h", line + "\n" + line, defined_twice)
            self.assertEqual(list(twice.values()), [["fs/tree/x.h"] * 2], line)
        self.assertEqual(self.found_in("fs/tree/x.h", "class X;\nclass X;", defined_twice), {})


if __name__ == "__main__":
    unittest.main()
