"""What looks like a secret is hidden; what explains a failure is not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.masking import MASK, mask_secrets


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("using key sk-proj-4f8aZ0qLw93nMx7Tb2", "4f8aZ0qLw93nMx7Tb2"),
        ("HF_TOKEN is hf_QwErTyUiOpAsDfGhJkLz", "QwErTyUiOpAsDfGhJkLz"),
        ("Authorization: Bearer abcdef.ghijkl-123", "abcdef.ghijkl-123"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("connect password=hunter2 failed", "hunter2"),
        ('{"api_key": "abc-def-1"}', "abc-def-1"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("id AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
        ("serve --api-key s3cr3t --port 8000", "s3cr3t"),
        ("postgres://admin:pa55w0rd@db:5432/x", "pa55w0rd"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "hbGciOiJIUzI1NiJ9"),
        ("blob q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8=", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"),
        ("sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "9f86d081884c7d65"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow, cut off", "MIIEow"),
    ],
)
def test_secrets_are_hidden(line: str, secret: str) -> None:
    masked = mask_secrets(line)
    assert secret not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: NCCL error in: ProcessGroupNCCL.cpp:1691, unhandled system error",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 79.11 GiB",
        "max_num_batched_tokens: 8192",
        "prompt tokens=512 completion tokens=17",
        '  File "/usr/local/lib/python3.12/site-packages/vllm/worker/multi_step_model_runner.py", line 12',
        "pod 3f2b8c1e-1111-4abc-9def-0123456789ab was not found",
        "token=none, password is missing",
        "Fatal Python error: Segmentation fault",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B-and-a-long-suffix-of-words",
    ],
)
def test_what_explains_a_failure_stays(line: str) -> None:
    assert mask_secrets(line) == line


@given(st.binary(min_size=40, max_size=64))
def test_long_random_base64_does_not_get_through_whole(secret: bytes) -> None:
    word = base64.b64encode(secret).decode()
    if len(set(word)) > 25:
        assert word not in mask_secrets(f"loaded {word} from the environment")


@given(st.text(max_size=300))
def test_masking_twice_changes_no_more(text: str) -> None:
    once = mask_secrets(text)
    assert mask_secrets(once) == once
