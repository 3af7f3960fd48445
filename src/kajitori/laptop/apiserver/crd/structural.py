"""One version's schema at work: prune, default and validate objects, all compiled once."""

from __future__ import annotations

from typing import Any, Final

from kajitori.laptop.apiserver.crd.defaulting import compile_defaulter
from kajitori.laptop.apiserver.crd.embedded import compile_embedded, embedded_errors, fit_embedded
from kajitori.laptop.apiserver.crd.paths import ROOT, Path, Problem, steps
from kajitori.laptop.apiserver.crd.pruning import compile_pruner
from kajitori.laptop.apiserver.crd.rules import MISSING, compile_rules
from kajitori.laptop.apiserver.crd.validation import compile_validator
from kajitori.laptop.apiserver.json_values import same
from kajitori.laptop.apiserver.kinds.kind import UnknownField
from kajitori.laptop.apiserver.status import FieldError

_NOT_CHECKED: Final = FieldError(
    "FieldValueInvalid",
    ROOT,
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the "
    "existing errors to complete validation",
)


class StructuralSchema:
    """The schema of one version. Objects are never changed in place; unchanged parts are shared."""

    def __init__(self, openapi_v3_schema: dict[str, Any]) -> None:
        self.raw = openapi_v3_schema
        schema = {**openapi_v3_schema, "type": "object"}
        self._prune = compile_pruner(schema, root=True)
        self._default = compile_defaulter(schema)
        self._validate = compile_validator(schema)
        self._embedded = compile_embedded(schema)
        self._rules = compile_rules(schema, root=True)

    def prune(self, obj: dict[str, Any]) -> tuple[dict[str, Any], list[UnknownField]]:
        """The object without the fields that the schema does not specify, and those fields."""
        problems: list[UnknownField] = []
        if self._prune is None:
            return obj, problems
        return self._prune(obj, None, problems), problems

    def fit_embedded(self, obj: dict[str, Any]) -> list[UnknownField]:
        """Makes the metadata of resources inside the object fit, in place. Raises WrongType."""
        return [] if self._embedded is None else fit_embedded(self._embedded, obj)

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object with defaults filled in; the object itself where nothing is missing."""
        return obj if self._default is None else self._default(obj)

    def validate(
        self, new: dict[str, Any], old: dict[str, Any] | None = None, warnings: list[str] | None = None
    ) -> list[FieldError]:
        """All that is wrong with a pruned and defaulted object.

        On an update, what is wrong and was so before, unchanged, is let pass (ratcheting): a schema may become
        stricter without locking the objects that are there. Rules that are let pass go to `warnings`; those that
        compare with what was before, or have no answer, are not let pass.
        """
        problems: list[Problem] = []
        if self._validate is not None:
            self._validate(new, None, problems)
        if old is not None and problems:
            problems = [problem for problem in problems if self._matters(problem, new, old)]
        errors = [problem.error for problem in problems]
        if self._embedded is not None:
            # Not let pass on updates: they were checked when the object came in.
            errors += embedded_errors(self._embedded, new)
        if self._rules is None:
            return errors
        if errors:
            return [*errors, _NOT_CHECKED]
        self._rules(new, old if old is not None else MISSING, None, problems)
        for problem in problems:
            if old is None or problem.lasting or self._matters(problem, new, old):
                errors.append(problem.error)
            elif warnings is not None:
                warnings.append(f"{problem.error.field}: {problem.error.message}")
        return errors

    def _matters(self, problem: Problem, new: dict[str, Any], old: dict[str, Any]) -> bool:
        """Whether the value that is wrong has changed, as far as old and new can be matched."""
        path: Path = problem.path
        if problem.missing and path is not None:
            path = path[0]
        now: Any = new
        before: Any = old
        schema: dict[str, Any] = self.raw
        for step in steps(path):
            if isinstance(step, int):
                if same(now, before):
                    return False  # the whole list is as it was, whether or not its items can be matched
                now, before = _matched_item(now, before, step, schema)
                schema = schema.get("items") or {}
            else:
                now = now.get(step, MISSING) if isinstance(now, dict) else MISSING
                before = before.get(step, MISSING) if isinstance(before, dict) else MISSING
                additional = schema.get("additionalProperties")
                schema = (schema.get("properties") or {}).get(step) or (
                    additional if isinstance(additional, dict) else {}
                )
            if before is MISSING or now is MISSING:
                return True
        return not same(now, before)


def _matched_item(now: Any, before: Any, index: int, schema: dict[str, Any]) -> tuple[Any, Any]:
    """The item at `index` now, and the one before that has the same keys; in lists without keys none has."""
    if not isinstance(now, list) or not isinstance(before, list) or index >= len(now):
        return MISSING, MISSING
    item = now[index]
    keys: list[str] = schema.get("x-kubernetes-list-map-keys") or []
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(item, dict):
        return item, MISSING
    wanted = [item.get(key) for key in keys]
    for other in before:
        if isinstance(other, dict) and [other.get(key) for key in keys] == wanted:
            return item, other
    return item, MISSING
