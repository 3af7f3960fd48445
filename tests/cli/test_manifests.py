"""Manifests: files, folders, and the line on which a field stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from kajitori.base.errors import Invalid, InvalidManifest, UsageError
from kajitori.cli.apply import refusal_lines
from kajitori.cli.manifests import read_manifests

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: a
    image: busybox
    imag: x
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_field_path_is_found_as_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "pod.yaml", "# a comment\n---\n" + POD)
    (manifest,) = read_manifests([path])
    assert manifest.place("spec.containers[0].imag") == f"{path}:11"
    assert manifest.place("spec.nothing.here") == f"{path}:7"
    assert manifest.title == "Pod web"


def test_malformed_yaml_names_file_line_and_what_was_expected(tmp_path: Path) -> None:
    path = write(tmp_path, "bad.yaml", "apiVersion: v1\nkind: [Pod\nmetadata: {}\n")
    with pytest.raises(InvalidManifest) as caught:
        read_manifests([path])
    assert str(caught.value).startswith(f"{path}:3:")
    assert "expected ',' or ']'" in str(caught.value)


def test_a_document_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "list.yaml", "- a\n- b\n")
    with pytest.raises(
        InvalidManifest, match="expected an object with apiVersion, kind and metadata, found list"
    ):
        read_manifests([path])


def test_a_missing_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "kindless.yaml", POD + "---\napiVersion: v1\n")
    with pytest.raises(InvalidManifest, match=r"kindless\.yaml:11: kind is missing"):
        read_manifests([path])


def test_a_folder_gives_its_files_in_order_and_lists_are_opened(tmp_path: Path) -> None:
    write(tmp_path, "b.yaml", POD)
    write(
        tmp_path,
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n",
    )
    write(tmp_path, "readme.md", "# not a manifest")
    assert [manifest.title for manifest in read_manifests([str(tmp_path)])] == ["Secret s", "Pod web"]


def test_an_empty_folder_and_a_missing_file_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest in"):
        read_manifests([str(tmp_path)])
    with pytest.raises(UsageError, match="does not exist"):
        read_manifests([str(tmp_path / "none.yaml")])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00garbage\xff")
    with pytest.raises(InvalidManifest, match="not a text file"):
        read_manifests([str(tmp_path / "bin.yaml")])


def test_a_file_without_an_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no object in .*empty\.yaml"):
        read_manifests([write(tmp_path, "empty.yaml", "---\n")])


def test_what_an_api_server_did_not_look_at_is_no_complaint_of_its_own(tmp_path: Path) -> None:
    file = write(
        tmp_path, "a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nspec:\n  unit: Minut\n"
    )
    (manifest,) = read_manifests([file])
    causes = [
        {"field": "spec.unit", "message": 'Unsupported value: "Minut"'},
        {"field": "<nil>", "message": "Invalid value: null: some validation rules were not checked"},
    ]
    (line,) = refusal_lines(manifest, Invalid("refused", details={"causes": causes}))
    assert line == f'{file}:5: ConfigMap a: spec.unit: Unsupported value: "Minut"'
