"""Takes out of a text what looks like a secret, before it is shown or kept where others read.

It errs on the side of taking too much: a word that is hidden in vain costs a look at the log, a key that is shown
costs the key. What stays readable is enough to find the line again.
"""

from __future__ import annotations

import math
import re
from collections import Counter

MASK = "***"

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_BEARER = re.compile(r"\b(bearer|basic|token)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
# What a value is called gives it away: password=..., "api_key": "...", --token ....
_NAMED = re.compile(
    r"""(?P<name>(?<![\w.-])["']?[\w.-]{0,40}?(?:pass(?:word|wd|phrase)?|secret|tokens?|api[_-]?key|access[_-]?key|private[_-]?key"""
    r"""|credentials?|authorization)["']?)(?P<between>\s{0,8}[=:]\s{0,8}|\s{1,8}(?=["']))"""
    r"""(?P<quote>["']?)(?P<value>(?!\*\*\*)[^\s"',;&}\])]{3,})""",
    re.IGNORECASE,
)
_FLAG = re.compile(
    r"(--[\w-]{0,40}?(?:password|secret|token|api-?key|credentials?))(\s{1,8})(?!-)(\S{3,})", re.IGNORECASE
)
# Users and passwords in addresses: https://user:password@host
_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@:]{0,200}:[^\s/@]{1,200}@", re.IGNORECASE)
# Prefixes under which well-known services give out keys.
_PREFIXED = re.compile(
    r"\b(sk-|pk-|rk-|sk_live_|hf_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|xox[abprs]-|nvapi-|AKIA|ASIA|AIza|ya29\.|eyJ|gsk_|r8_"
    r"|dop_v1_|npm_|pypi-)[A-Za-z0-9._~+/=-]{8,}"
)
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{32,}={0,2}(?![A-Za-z0-9+/_=-])")
_JOINTS = re.compile(r"[/_-]")
_LONGEST_PIECE = 16
_HEX = re.compile(r"[0-9a-fA-F-]+")
# Of random base64 this is about 4.5 and more; of words and paths joined together mostly below 4.
_RANDOM_BITS = 4.2
# Not values, however they are called: "tokens: 512", "token=<none>".
_HARMLESS = re.compile(
    r"(?:[\d.,%]+|none|null|true|false|nil|undefined|empty|missing|not|is|was)", re.IGNORECASE
)


def mask_secrets(text: str) -> str:
    """The text with `***` in place of keys, passwords and long random words."""
    text = _PRIVATE_KEY.sub(f"{MASK} (a private key)", text)
    text = _IN_ADDRESS.sub(rf"\1{MASK}@", text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _PREFIXED.sub(rf"\1{MASK}", text)
    text = _FLAG.sub(rf"\1\2{MASK}", text)
    text = _NAMED.sub(_hide_value, text)
    return _LONG_WORD.sub(_hide_random, text)


def _hide_value(found: re.Match[str]) -> str:
    if _HARMLESS.fullmatch(found["value"]):
        return found[0]
    return f"{found['name']}{found['between']}{found['quote']}{MASK}"


def _hide_random(found: re.Match[str]) -> str:
    """Hides what looks drawn by lot: base64, and hexadecimal of the length of a key."""
    word = found[0]
    if _HEX.fullmatch(word):
        return word if word.count("-") == 4 else MASK
    # Names of models, files and folders are long as well, but of short pieces.
    if max(len(piece) for piece in _JOINTS.split(word)) < _LONGEST_PIECE:
        return word
    digits = any(character.isdigit() for character in word)
    mixed = word != word.lower() and word != word.upper()
    return MASK if digits and mixed and _bits(word) >= _RANDOM_BITS else word


def _bits(word: str) -> float:
    """Shannon entropy of a letter of the word."""
    return -sum(count / len(word) * math.log2(count / len(word)) for count in Counter(word).values())
