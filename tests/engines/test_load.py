"""How much an engine has to do, from what it tells."""

from __future__ import annotations

import pytest

from kajitori.engines.load import open_requests


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        (
            'vllm:num_requests_running{model_name="a b"} 2.0\nvllm:num_requests_waiting{model_name="a"} 1.0\n',
            3,
        ),
        ('vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n', 0),
        ("# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n", 1),
        ("sglang:num_running_reqs 0.0 1700000000000\n", 0),
        ("tgi_queue_size 4\n", 4),
        ("vllm:num_requests_running many\n", None),
        ("vllm:num_requests_running\n", None),
        ("process_cpu_seconds_total 3\nvllm:num_requests_running_total 9\n", None),
        ("", None),
    ],
)
def test_open_requests_are_read_under_the_names_of_every_engine(text: str, requests: float | None) -> None:
    assert open_requests(text) == requests
