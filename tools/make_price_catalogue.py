"""Make the price catalogue of the package from a wheel of litellm, whose table is under the MIT licence.

python tools/make_price_catalogue.py litellm-1.109.1-….whl 2026-11-26

The date is the day on which the wheel was taken. Kept are models that are priced by the token, of providers that the
gateway speaks to, under the names by which those providers call them.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "src/kajitori/gateway/accounting/prices.json"
TABLE = "litellm/model_prices_and_context_window_backup.json"
PROVIDERS = ("openai", "anthropic", "gemini", "mistral", "cohere_chat", "cohere", "deepseek", "xai", "groq",
             "bedrock_converse")  # fmt: skip
MODES = ("chat", "completion", "responses", "embedding")
# Names that say something else than which model it is.
LEFT_OUT = ("ft:", "us.", "eu.", "apac.", "global.", "au.", "jp.", "us-gov.", "bedrock/")
FIELDS = {
    "input_usd": "input_cost_per_token",
    "output_usd": "output_cost_per_token",
    "cached_input_usd": "cache_read_input_token_cost",
    "cache_creation_input_usd": "cache_creation_input_token_cost",
    "reasoning_usd": "output_cost_per_reasoning_token",
}


def price(entry: dict[str, Any]) -> dict[str, float]:
    found = {
        ours: round(float(entry[theirs]) * 1e6, 6)
        for ours, theirs in FIELDS.items()
        if entry.get(theirs) is not None
    }
    if found.get("reasoning_usd") == found.get("output_usd"):
        found.pop("reasoning_usd", None)
    return found


def main() -> None:
    wheel, date = Path(sys.argv[1]), sys.argv[2]
    with zipfile.ZipFile(wheel) as archive:
        table: dict[str, dict[str, Any]] = json.loads(archive.read(TABLE))
    found: dict[str, dict[str, float]] = {}
    for provider in PROVIDERS:
        for name, entry in table.items():
            if entry.get("litellm_provider") != provider or entry.get("mode") not in MODES:
                continue
            short = name.removeprefix(f"{provider}/")
            figures = price(entry)
            if "/" in short or short.startswith(LEFT_OUT) or not any(figures.values()):
                continue
            found.setdefault(short, figures)
    release = wheel.name.split("-")[1]
    lines = [
        json.dumps({"model": name, **figures}, separators=(",", ":"))
        for name, figures in sorted(found.items())
    ]
    head = {
        "source": f"list prices as litellm {release} has them in {TABLE}",
        "licence": "MIT, Copyright (c) 2023 Berri AI; see NOTICE",
        "date": date,
    }
    text = json.dumps(head, indent=1)[:-2] + ',\n "prices": [\n' + ",\n".join(lines) + "\n]}\n"
    TARGET.write_text(text)
    print(f"{len(lines)} prices to {TARGET}")


if __name__ == "__main__":
    main()
