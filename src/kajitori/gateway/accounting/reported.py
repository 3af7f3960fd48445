"""Usage as the script in Envoy wrote it down, and what is known of an answer that was cut before it told.

Six counts parted by commas, in the order of `Usage`: what the provider reported. `~` and the number of events with
output that came, perhaps followed by counts that were reported at the start: the stream ended before it told more. Behind
a semicolon stands the model that the answer named as its author, if it did. What Envoy sees nothing wrong in has a mark in
front of all that: `!` for a stream that came to a proper end without having said that it is whole, `&` for a compressed answer
that could not be inflated, or not any further, `^` and a status for one that is no answer.
"""

from __future__ import annotations

from kajitori.gateway.accounting.costs import Usage

ESTIMATED, MODEL_MARK = "~", ";"
MARKS = "!&^"
_FIELDS = Usage.__struct_fields__
# Sums of as many as there may be fit into a column of SQLite.
_MOST = 10**13
# Most requests have nothing cached and no reasoning.
_PLAIN = ",0,0,0"


def read_usage(text: str, input_estimate: str) -> tuple[Usage | None, bool]:
    """The usage, and whether it is an estimate: a lower bound of the output, since an event carries a token or more,
    and the input as the provider said it at the start or as the request script estimated it.

    Raises ValueError for what is none of the two forms.
    """
    text = text.partition(MODEL_MARK)[0]
    if not text:
        return None, False
    if not text.startswith(ESTIMATED):
        return _counts(text), False
    seen, _, told = text[1:].partition(",")
    known = _counts(told) if told else Usage(input_tokens=int(input_estimate or 0))
    output = max(int(seen), known.output_tokens)
    return (
        Usage(
            known.input_tokens,
            output,
            known.input_tokens + output,
            known.cached_input_tokens,
            known.cache_creation_input_tokens,
            known.reasoning_tokens,
        ),
        True,
    )


def read_flaw(text: str) -> tuple[str, str]:
    """What is wrong with an answer in words, or nothing, and the text without its mark."""
    match text[0]:
        case "!":
            return "ended too early", text[1:]
        case "&":
            return "answer not to be inflated", text[1:]
        case "^":
            return f"unusable status {text[1:4]}", text[4:]
        case _:
            return "", text


def answered_model(text: str) -> str:
    """The model that answered, as the answer says; empty if it does not."""
    return text.partition(MODEL_MARK)[2]


def _counts(text: str) -> Usage:
    if text.endswith(_PLAIN) and text.count(",") == 5:
        given, answered, whole = map(int, text[: -len(_PLAIN)].split(","))
        if 0 <= given <= _MOST and 0 <= answered <= _MOST and 0 <= whole <= _MOST:
            return Usage(given, answered, whole)
    counts = [int(count) for count in text.split(",")]
    if len(counts) > len(_FIELDS) or max(counts) > _MOST or min(counts) < 0:
        raise ValueError(f"{text[:100]!r} is no usage")
    return Usage(*counts)
