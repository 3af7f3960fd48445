"""From what a client sent to the text of a prompt. Raises Refused for what is no prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.engines.simulated import text
from kajitori.engines.simulated.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence


def chat_prompt(messages: Sequence[dict[str, Any]]) -> str:
    """The conversation as one text, in a plain chat template."""
    if not messages:
        raise Refused(400, "messages is empty", param="messages")
    parts: list[str] = []
    for position, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise Refused(400, f"messages[{position}].role is missing", param="messages")
        parts.append(f"<|{role}|>\n{_content(message.get('content'), position)}\n")
    return "".join(parts) + "<|assistant|>\n"


def _content(content: object, position: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refused(400, f"messages[{position}].content is neither a text nor a list", param="messages")
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text"):
            raise Refused(
                400,
                f"messages[{position}].content has a part of type {kind!r}: this simulated model reads text only",
                param="messages",
            )
        texts.append(str(part.get("text") or ""))
    return "\n".join(texts)


def completion_prompts(prompt: str | list[Any]) -> list[str]:
    """The prompts of a plain completion: one text or list of tokens, or several."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise Refused(400, "prompt is empty", param="prompt")
    if all(isinstance(part, int) for part in prompt):
        return [_from_tokens(prompt)]
    prompts: list[str] = []
    for part in prompt:
        if isinstance(part, str):
            prompts.append(part)
        elif isinstance(part, list) and part and all(isinstance(token, int) for token in part):
            prompts.append(_from_tokens(part))
        else:
            raise Refused(400, "prompt is neither texts nor lists of tokens", param="prompt")
    return prompts


def _from_tokens(tokens: Sequence[int]) -> str:
    if any(token < 0 for token in tokens):
        raise Refused(400, "tokens are not negative", param="prompt")
    return text.decode(tokens)
