"""The first example asks for what the engine reads."""

from __future__ import annotations

from pathlib import Path

import yaml

from kajitori.engines.images import Program, find_program
from kajitori.engines.llamacpp_flags import read_arguments

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "first-token"


def test_its_image_and_arguments_are_understood(tmp_path):
    documents = list(yaml.safe_load_all((FOLDER / "model.yaml").read_text()))
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    program = find_program(container["image"], {}, cache=tmp_path)
    assert isinstance(program, Program)
    assert (program.engine, program.simulated) == ("llama.cpp", False)
    settings = read_arguments(container["args"], {})
    assert settings.notes == []
    assert settings.assignments["port"] == container["ports"][0]["containerPort"]
