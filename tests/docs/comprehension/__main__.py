"""
Print one page and its questions for a reader, or the answers for the judge.

`python -m tests.docs.comprehension how-to/health` prints the page and the questions, `--answers` the answers.
"""

from __future__ import annotations

import argparse

from tests.docs.comprehension.questions import pages, questions, source_of

parser = argparse.ArgumentParser(prog="tests.docs.comprehension", description=__doc__)
parser.add_argument("page", choices=pages(), help="the page, as how-to/health", metavar="page")
parser.add_argument("--answers", action="store_true", help="print the answers, without the page")
options = parser.parse_args()
if not options.answers:
    print(source_of(options.page))
for number, question in enumerate(questions(options.page), 1):
    print(f"{number}. {question.ask}")
    if options.answers:
        print(f"   {question.answer}")
