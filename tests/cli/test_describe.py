"""What `kaji describe` prints."""

from __future__ import annotations

from typing import Any

import pytest

from kajitori.cli.describe import print_object


def test_of_what_has_no_name_the_type_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    costs = [{"type": "CEL", "cel": "input_tokens"}]
    spec: dict[str, Any] = {"parentRefs": [{"name": "edge", "kind": "Gateway"}], "llmRequestCosts": costs}
    print_object({"kind": "AIGatewayRoute", "metadata": {"name": "r"}, "spec": spec})
    assert capsys.readouterr().out.splitlines()[2:] == [
        "    parentRefs:",
        "      - edge",
        "        kind: Gateway",
        "    llmRequestCosts:",
        "      - type: CEL",
        "        cel: input_tokens",
    ]
