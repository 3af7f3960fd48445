"""Names of models and GPUs: what is known, what is estimated, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UsageError
from kajitori.model.catalogue import estimate_model, find_model, models
from kajitori.model.hardware import find_gpu, gpus


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai/DeepSeek-R1",
        "DEEPSEEK-R1",
        "meta-llama/Llama-3.1-8B",
        "llama-3.3-70b-instruct",
        "qwen3-8b",
    ],
)
def test_a_known_model_is_found_in_any_case_and_without_its_publisher(name):
    assert not find_model(name).estimated


def test_an_ending_for_precision_changes_the_size_of_a_weight_only():
    plain, small = find_model("Qwen/Qwen3-235B-A22B"), find_model("Qwen/Qwen3-235B-A22B-FP8")
    assert (plain.bytes_per_parameter, small.bytes_per_parameter) == (2.0, 1.0)
    assert small.parameters == plain.parameters


@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [("acme/Cat-7B", 7e9, 7e9), ("acme/Cat-30B-A3B-Instruct", 30e9, 3e9), ("acme/cat-350m", 350e6, 350e6)],
)
def test_an_unknown_model_is_estimated_from_the_count_in_its_name(name, parameters, active):
    model = find_model(name)
    assert model.estimated
    assert (model.parameters, model.active) == (parameters, active)


def test_an_unknown_model_without_a_count_names_the_known_ones():
    with pytest.raises(UsageError) as error:
        find_model("acme/cat")
    assert "deepseek-ai/DeepSeek-R1" in error.value.hint
    assert find_model("acme/cat", parameters=3e9).parameters == 3e9


@given(parameters=st.floats(1e7, 1e12), share=st.one_of(st.just(0.0), st.floats(0.02, 0.98)))
def test_an_estimate_has_about_the_parameters_that_it_was_asked_for(parameters, share):
    model = estimate_model("x", parameters, parameters * share)
    body = model.active
    assert body * 0.4 <= 12 * model.layers * model.hidden_size**2 <= body * 2.5
    assert model.expert_parameters <= parameters
    assert model.weights_read(1) <= parameters


@pytest.mark.parametrize(("parameters", "active"), [(0.0, 0.0), (-7e9, 0.0), (7e9, 8e9), (1e30, 0.0)])
def test_a_count_that_makes_no_model_is_refused(parameters, active):
    with pytest.raises(UsageError):
        estimate_model("x", parameters, active)


def test_a_gpu_is_found_by_short_name_and_by_product_label():
    assert find_gpu("H200") is find_gpu("NVIDIA-H200") is gpus()["h200"]
    with pytest.raises(UsageError, match="h100"):
        find_gpu("riva128")


def test_every_known_model_has_consistent_sizes():
    for model in models().values():
        assert model.active <= model.parameters
        assert model.attention_heads % model.kv_heads == 0
        assert model.expert_parameters < model.parameters
