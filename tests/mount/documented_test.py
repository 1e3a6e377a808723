"""Every paragraph of SEMANTICS.md has a test, and every such test a paragraph."""

import re
import unittest
from pathlib import Path

HERE = Path(__file__).parent
SEMANTICS = HERE.parent.parent / "fs/mount/SEMANTICS.md"


def paragraphs() -> list[str]:
    return re.findall(r"^\*\*\[(S\d+)\]\*\*", SEMANTICS.read_text(encoding="utf-8"), re.MULTILINE)


def tested() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for folder in (HERE, HERE.parent / "cache", HERE.parent / "roundtrip")
             for path in folder.glob("*_test.py")]
    return {number for text in texts for number in re.findall(r"^    def test_(S\d+)_", text, re.MULTILINE)}


class Documented(unittest.TestCase):
    def test_paragraphs_are_numbered_in_order(self):
        self.assertEqual(paragraphs(), [f"S{n}" for n in range(1, len(paragraphs()) + 1)])

    def test_every_paragraph_has_a_test_and_every_test_a_paragraph(self):
        self.assertEqual(set(paragraphs()), tested())


if __name__ == "__main__":
    unittest.main()
