"""The performance model: against measured engines, and the directions that it must have."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UsageError
from kajitori.model.catalogue import find_model, models
from kajitori.model.hardware import find_gpu, gpus
from kajitori.model.performance import Engine, Step, chunk_pairs

H200 = find_gpu("h200")


def measured_rows() -> list[dict[str, str]]:
    lines = Path(__file__).with_name("measured_vllm.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def predicted_over_measured(row: dict[str, str]) -> float:
    """Mean time between tokens in the steady state: every step also carries its share of new prompts."""
    precision = {"fp8": 1.0, "": 2.0}[row["precision"]]
    engine = Engine(
        find_model(row["model_path"]),
        find_gpu(row["system"].removesuffix("_sxm")),
        int(row["tp_size"]),
        bytes_per_parameter=precision,
    )
    batch, prompt, output = float(row["batch_size"]), float(row["isl"]), float(row["osl"])
    prefill = batch * prompt / output
    step = Step(
        prefill_tokens=prefill,
        attention_pairs=prefill * prompt / 2,
        decodes=batch,
        context_tokens=batch * (prompt + output / 2),
    )
    return engine.step_seconds(step) * 1000 / float(row["silicon_tpot_ms"])


@pytest.mark.parametrize(
    ("model", "system"),
    [
        ("meta-llama/Llama-3.1-70B", "h100_sxm"),
        ("meta-llama/Llama-3.1-70B", "h200_sxm"),
        ("meta-llama/Llama-3.1-70B", "b200_sxm"),
        ("Qwen/Qwen3-32B", "h100_sxm"),
    ],
)
def test_dense_models_are_within_a_fifth_of_measured_vllm(model, system):
    ratios = [
        predicted_over_measured(row)
        for row in measured_rows()
        if (row["model_path"], row["system"]) == (model, system)
    ]
    assert len(ratios) >= 10
    assert statistics.mean(abs(ratio - 1) for ratio in ratios) < 0.20
    assert 0.8 < statistics.median(ratios) < 1.25


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 131_072),
        ("meta-llama/Llama-3.1-70B-Instruct", 327_680),
        ("meta-llama/Llama-3.1-405B-Instruct", 516_096),
        ("Qwen/Qwen3-8B", 147_456),
        ("Qwen/Qwen3-32B", 262_144),
        ("Qwen/Qwen3-30B-A3B", 98_304),
        ("Qwen/Qwen3-235B-A22B", 192_512),
        ("openai/gpt-oss-20b", 49_152),
        ("openai/gpt-oss-120b", 73_728),
        ("deepseek-ai/DeepSeek-R1", 70_272),
    ],
)
def test_a_token_of_context_takes_the_published_bytes(name, kv_bytes):
    assert find_model(name).kv_bytes_per_token() == kv_bytes


def test_deepseek_r1_fits_on_eight_h200_and_not_on_four():
    model = find_model("deepseek-ai/DeepSeek-R1")
    assert Engine(model, H200, 8).kv_capacity_tokens() > 400_000
    assert Engine(model, H200, 4).kv_capacity_tokens() < 0


def test_experts_that_no_token_chose_are_not_read():
    model = find_model("deepseek-ai/DeepSeek-R1")
    assert model.weights_read(1) < 0.07 * model.parameters
    assert model.weights_read(4096) == pytest.approx(model.parameters)
    assert model.expert_parameters == pytest.approx(654e9, rel=0.01)


ENGINES = st.builds(
    Engine,
    model=st.sampled_from(list(models().values())),
    gpu=st.sampled_from(list(gpus().values())),
    tensor_parallel=st.sampled_from([1, 2, 4, 8]),
    pipeline_parallel=st.sampled_from([1, 2]),
    crosses_nodes=st.booleans(),
)


@given(engine=ENGINES, batch=st.integers(1, 256), context=st.integers(1, 100_000), more=st.integers(1, 1000))
def test_more_work_never_takes_less_time(engine, batch, context, more):
    base = engine.step_seconds(Step(decodes=batch, context_tokens=context))
    assert base > 0
    assert engine.step_seconds(Step(decodes=batch, context_tokens=context + more)) >= base
    assert engine.step_seconds(Step(decodes=batch + more, context_tokens=context)) >= base
    pairs = chunk_pairs(more, context)
    mixed = Step(prefill_tokens=more, attention_pairs=pairs, decodes=batch, context_tokens=context)
    assert engine.step_seconds(mixed) >= base


@given(engine=ENGINES, prompt=st.integers(2, 50_000), share=st.floats(0, 1))
def test_a_cached_prefix_never_makes_prefill_slower(engine, prompt, share):
    cached = int(prompt * share)
    assert engine.prefill_seconds(prompt, cached) <= engine.prefill_seconds(prompt) * (1 + 1e-9)


@given(engine=ENGINES)
def test_links_inside_a_node_are_never_slower_than_the_network(engine):
    inside = Engine(engine.model, engine.gpu, engine.tensor_parallel, crosses_nodes=False)
    across = Engine(engine.model, engine.gpu, engine.tensor_parallel, crosses_nodes=True)
    if engine.gpu.link_gb_per_second >= engine.gpu.network_gb_per_second:
        assert inside.decode_seconds(8, 1000) <= across.decode_seconds(8, 1000)


def test_an_idle_step_takes_no_time():
    assert Engine(find_model("Qwen/Qwen3-8B"), H200).step_seconds(Step()) == 0.0


def test_a_parallel_size_below_one_is_refused():
    with pytest.raises(UsageError):
        Engine(find_model("Qwen/Qwen3-8B"), H200, tensor_parallel=0)
