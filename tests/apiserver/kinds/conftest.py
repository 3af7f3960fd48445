"""What the tests of kinds share: the built-in registry, and an object taken the way that a request takes it."""

from __future__ import annotations

import pytest

from kajitori.laptop.apiserver.kinds import Context, Registry

CONTEXT = Context(now="2026-11-26T05:00:00Z", uid="6f1f0a44-63a5-4b5c-9a5e-0d5b1c7a2e11")


@pytest.fixture(scope="session")
def builtin() -> Registry:
    return Registry()


class Taken:
    """An object that was made to fit, prepared and checked."""

    def __init__(self, obj, unknown, errors) -> None:
        self.obj = obj
        self.unknown = [field.path for field in unknown]
        self.errors = [str(error) for error in errors]


@pytest.fixture
def take(builtin):
    """take("apps/v1", "deployments", {...}) -> Taken; old: a stored object, for an update."""

    def take_(group_version: str, plural: str, obj, old=None, subresource: str = ""):
        group, _, version = group_version.rpartition("/")
        kind = builtin.lookup(group, version, plural)
        obj.setdefault("apiVersion", group_version)
        obj.setdefault("kind", kind.resource.kind)
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("name", "web")
        if kind.namespaced:
            metadata.setdefault("namespace", "default")
        unknown = kind.conform(obj)
        if old is None:
            kind.prepare_create(obj, CONTEXT)
        else:
            kind.prepare_update(obj, old, CONTEXT, subresource)
        return Taken(obj, unknown, kind.validate(obj, old, subresource))

    return take_


@pytest.fixture
def pod_spec():
    return {"containers": [{"name": "main", "image": "nginx:1.27"}]}
