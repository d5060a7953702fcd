"""Long text in pieces of bounded size, cut where no token spans the cut, so that counting stays linear.

tiktoken first splits text by a pattern and then merges within each part; one part of a million characters costs far
more than a thousand of a thousand, and deep recursion in the pattern. Cuts that the patterns of both vocabularies make
themselves change nothing in the count. They stand

- before a space that follows something other than white space,
- between a line's end and a letter,
- between a letter and a punctuation mark (an apostrophe aside).

Where a whole piece has none (base64, a run of one letter) it is cut hard, which costs about a token.
"""

import re
from collections.abc import Iterator

PIECE_CHARS = 4096

_MARKS = re.escape('-.,;:!?()[]{}<>/=+*#@"\\…—、。，；：！？（）「」『』【】《》')
_TO_LAST_CUT = re.compile(
    rf".+(?:(?<=\S)(?= )|(?<=\n)(?=[^\W\d_])|(?<=[^\W\d_])(?=[{_MARKS}]))",
    re.DOTALL,
).match


def pieces(text: str) -> Iterator[str]:
    """Each at most `PIECE_CHARS` long; joined they are the text."""
    at, end = 0, len(text)
    while end - at > PIECE_CHARS:
        cut = _TO_LAST_CUT(text, at, at + PIECE_CHARS)
        upto = cut.end() if cut else at + PIECE_CHARS
        yield text[at:upto]
        at = upto
    yield text[at:]
