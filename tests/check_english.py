"""Check the English of all tracked text: noun clauses, odd expressions and vague variable names.

Run `python tests/check_english.py` in a clone. It prints the counts and exits with 1 if one is over its limit.
`--list` also prints each hit as `path:line: check: text`.
Python files are checked in comments, docstrings and other strings, all other files in full. This file is left out
because it quotes the expressions.
"""

import argparse
import ast
import itertools
import math
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

SUFFIXES = {".md", ".py", ".sql", ".yml", ".yaml", ".sh", ".toml"}
CODE = "\x1f"  # replaces code between two strings, so that no match starts in one and ends in the other

# A noun clause is "what", "who", "whatever" or "whoever" with a verb or a noun behind it: "What dbt left is stored". A
# regular expression cannot parse English, so it counts the places where such a clause is hardest to read: as a subject
# (at the start of a sentence or after punctuation) and after a word in BEFORE_CLAUSE ("of what is left"). Not counted:
# - Questions: a question mark ends the sentence, or the text is "what to do", "what if" or "what about".
# - The object of a verb, alone or after "and". It is ordinary English: "shows what failed and what changed".
# - A pronoun as the clause's subject: "that is what you want".
# - "who" as a relative pronoun, and "whatever" as an adverb: "people who ask", ", whatever the type".
CLAUSE = re.compile(
    r"""(?<![\w{.$-])(what|whatever|who|whoever)\s+(?=[`*"]*\w)(?!(?:to|if|about|I|it|they|this|we|you)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
QUESTION = re.compile(rf"(?:(?!\n\s*\n)[^.!?|{CODE}]|\.(?=\S))*\?")
BEFORE_CLAUSE = re.compile(
    r"""(?:[^\w\s`*]|\b(?:after|against|are|as|at|before|beside|but|by|except|for|from|in|into|is|not|of|on|only|than|that
    |to|was|with|without))[\s`*]*$""",
    re.IGNORECASE | re.VERBOSE,
)

EXPRESSIONS = {
    "anew": r"anew",
    "whoever": r"whoever",
    "is told": r"(?:is|are|be)\s+told",
    "stands there": r"stands?\s+there",
    "as it comes": r"as\s+it\s+comes",
    "goes away again": r"go(?:es)?\s+away\s+again",
    # Neither "there is none" nor Jinja's "if x is none else y".
    "is none": r"(?<!there )(?:is|are)\s+(?-i:none)(?!\s*(?:-?%}|[})]|(?:and|else|or)\b))",
    "may not": r"may\s+not",
    "of its own": r"of\s+its\s+own",
}
NAMES = {"each", "found", "given", "kept", "made", "said", "shown", "there", "told", "wanted"}

# Every other check allows no hit. "may not" is correct for "might not", and "of its own" is correct in some sentences.
LIMITS_PER_10_000_WORDS = {
    "noun clause": 4.0,
    "may not": 0.5,
    "of its own": math.inf,
}


def python_text(source: str) -> str:
    """Return the comments and strings of a Python file, on the lines that they have in it."""
    offsets = [0, *itertools.accumulate((len(line) + 1 for line in source.split("\n")), initial=0)]
    text, position, open_strings = "", 0, 0
    for token in tokenize.generate_tokens(StringIO(source).readline):
        start, end = (offsets[row] + column for row, column in (token.start, token.end))
        open_strings += token.type == tokenize.FSTRING_START
        is_text = open_strings or token.type in {tokenize.COMMENT, tokenize.STRING} or not token.string.strip()
        text += source[position:start] + (source[start:end] if is_text else CODE)
        open_strings -= token.type == tokenize.FSTRING_END
        position = max(position, end)
    return re.sub(r"\"(\s*\n\s*)[bfr]?\"", r"\1", text)  # adjacent strings are one


def noun_clauses(text: str) -> Iterator[re.Match[str]]:
    """Yield each noun clause in the text, by the rules at CLAUSE."""
    for clause in CLAUSE.finditer(text):
        before, word = text[max(0, clause.start() - 80) : clause.start()], clause[1]
        is_pronoun_or_adverb = word in {"who", "whatever"} and before.rstrip().endswith(",")
        is_noun = word[0].isupper() or BEFORE_CLAUSE.search(before)
        if is_noun and not is_pronoun_or_adverb and not QUESTION.match(text, clause.end()):
            yield clause


def vague_names(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each variable or attribute that is set under one of NAMES."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(name, ast.Store()) | ast.Attribute(_, name, ast.Store()) | ast.ExceptHandler(_, str(name)):
                if name.lstrip("_") in NAMES:
                    yield node.lineno, name


def hits(path: Path, source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the check and the text of each hit in a file."""
    text = python_text(source) if path.suffix == ".py" else source
    text = re.sub(r"^([ \t]*)(?:#+|--|//|>)(?=\s)", r"\1", text, flags=re.MULTILINE)  # comments are read across lines
    matches = [("noun clause", clause) for clause in noun_clauses(text)]
    for name, pattern in EXPRESSIONS.items():
        matches += [(name, match) for match in re.finditer(rf"\b{pattern}\b", text, re.IGNORECASE)]
    for name, match in matches:
        context = text[max(0, match.start() - 30) : match.end() + 40].replace(CODE, " ")
        yield text.count("\n", 0, match.start()) + 1, name, " ".join(context.split())
    if path.suffix == ".py":
        for line, name in vague_names(source):
            yield line, "variable name", name


def main() -> int:
    """Check all tracked files, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path, nargs="?", default=Path())
    parser.add_argument("--list", action="store_true", help="print each hit")
    options = parser.parse_args()

    git = subprocess.run(["git", "ls-files", "-z"], cwd=options.repository, capture_output=True, check=True, text=True)
    words: Counter[str] = Counter()
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in map(Path, filter(None, git.stdout.split("\0"))):
        file = options.repository / path
        is_checked = (path.suffix in SUFFIXES or path.name == "Makefile") and path.name != Path(__file__).name
        if not is_checked or not file.is_file():  # a tracked file can be deleted in the work tree
            continue
        folder = "/".join(path.parts[: 2 if path.parts[0] == "packages" else 1])
        source = file.read_text(encoding="utf-8")
        words[folder] += len(source.split())
        for line, name, text in hits(path, source):
            counts[folder][name] += 1
            if options.list:
                print(f"{path}:{line}: {name}: {text}")

    for folder in sorted(words):
        totals = [f"{name} {count}" for name, count in counts[folder].most_common()]
        print(f"{folder}: {words[folder]} words", *totals, sep=", ")
    print(f"\nAll {words.total()} words, hits per 10,000 words:")
    total, is_exceeded = sum(counts.values(), Counter()), False
    for name in ("noun clause", *EXPRESSIONS, "variable name"):
        rate, limit = total[name] / max(words.total(), 1) * 10_000, LIMITS_PER_10_000_WORDS.get(name, 0)
        print(f"{name:16}{total[name]:5}{rate:7.2f}, limit {limit:g}{' EXCEEDED' if rate > limit else ''}")
        is_exceeded = is_exceeded or rate > limit
    return int(is_exceeded)


if __name__ == "__main__":
    sys.exit(main())
