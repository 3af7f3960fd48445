"""What webhook configurations, policies and bindings must be to be stored. Pure.

Source: validation of kube-apiserver 1.36, whose texts these are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from kajitori.base.cel import CompileError, compile_expression
from kajitori.base.cel.types import BOOL, NULL, STRING, Type
from kajitori.laptop.apiserver.admission.expressions import WEBHOOK_VARIABLES
from kajitori.laptop.apiserver.admission.policies import CODES, variables_of
from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    invalid_value,
    required,
    too_many,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.names import dns_subdomain

Object = dict[str, Any]
_FAILURE: Final = ("Fail", "Ignore")
_MATCH: Final = ("Equivalent", "Exact")
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_NOT_FOUND: Final = ("Allow", "Deny")
_NO_EFFECTS: Final = ("None", "NoneOnDryRun")
MOST_CONDITIONS: Final = 64
LONGEST_EXPRESSION: Final = 10_000
_IDENTIFIER: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


def webhook_configuration_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, hook in enumerate(new.get("webhooks") or ()):
        place = f"webhooks[{index}]"
        errors += _hook_errors(hook, place)
        name = hook.get("name")
        if name in names:
            errors.append(duplicate(f"{place}.name", name))
        names.add(name or "")
    return errors


def _choice(obj: Object, key: str, place: str, choices: Sequence[str]) -> list[FieldError]:
    value = obj.get(key)
    if value is None or value in choices:
        return []
    return [unsupported_value(f"{place}.{key}", value, choices)]


def _hook_errors(hook: Object, place: str) -> list[FieldError]:
    errors = _hook_name_errors(hook.get("name") or "", f"{place}.name")
    for index, rule in enumerate(hook.get("rules") or ()):
        errors += _rule_errors(rule, f"{place}.rules[{index}]")
    errors += _choice(hook, "failurePolicy", place, _FAILURE)
    errors += _choice(hook, "matchPolicy", place, _MATCH)
    if hook.get("sideEffects") is None:
        errors.append(required(f"{place}.sideEffects", "must specify one of None, NoneOnDryRun"))
    errors += _choice(hook, "sideEffects", place, _NO_EFFECTS)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        errors.append(
            invalid_value(
                f"{place}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"
            )
        )
    for key in ("namespaceSelector", "objectSelector"):
        errors += _selector_errors(hook.get(key) or {}, f"{place}.{key}")
    errors += _choice(hook, "reinvocationPolicy", place, ("IfNeeded", "Never"))
    errors += client_config_errors(hook.get("clientConfig") or {}, f"{place}.clientConfig")
    errors += condition_errors(
        hook.get("matchConditions") or (), f"{place}.matchConditions", WEBHOOK_VARIABLES
    )
    versions: list[str] = hook.get("admissionReviewVersions") or []
    if not versions:
        errors.append(required(f"{place}.admissionReviewVersions", "must specify one of v1, v1beta1"))
    elif not {"v1", "v1beta1"} & set(versions):
        errors.append(
            invalid_value(
                f"{place}.admissionReviewVersions", versions, "must include at least one of v1, v1beta1"
            )
        )
    return errors


def _hook_name_errors(name: str, place: str) -> list[FieldError]:
    if not name:
        return [required(place)]
    if problems := dns_subdomain(name):
        return [invalid_value(place, name, text) for text in problems]
    if len(name.split(".")) < 3:
        return [
            invalid_value(place, name, "should be a domain with at least three segments separated by dots")
        ]
    return []


def client_config_errors(config: Object, place: str) -> list[FieldError]:
    """Of any webhook: exactly one of an https URL and a Service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(place, "exactly one of url or service is required")]
    if url is not None:
        return _url_errors(url, f"{place}.url")
    service = service or {}
    errors = [required(f"{place}.service.{key}") for key in ("name", "namespace") if not service.get(key)]
    port = service.get("port", 443)
    if not 1 <= port <= 65535:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid_value(f"{place}.service.port", port, text))
    path = service.get("path")
    if path and not path.startswith("/"):
        errors.append(invalid_value(f"{place}.service.path", path, "must start with a '/'"))
    return errors


def _url_errors(url: str, place: str) -> list[FieldError]:
    example = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return [invalid_value(place, url, f"url must be a valid URL: {error}{example}")]
    errors: list[FieldError] = []
    if parts.scheme != "https":
        errors.append(invalid_value(place, parts.scheme, f"'https' is the only allowed URL scheme{example}"))
    if not parts.netloc:
        errors.append(invalid_value(place, parts.netloc, f"host must be specified{example}"))
    if parts.username is not None:
        errors.append(invalid_value(place, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid_value(place, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid_value(place, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _rule_errors(rule: Object, place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operations: list[str] = rule.get("operations") or []
    if not operations:
        errors.append(required(f"{place}.operations"))
    if len(operations) > 1 and "*" in operations:
        text = "if '*' is present, must not specify other operations"
        errors.append(invalid_value(f"{place}.operations", operations, text))
    errors += [
        unsupported_value(f"{place}.operations[{index}]", operation, _OPERATIONS)
        for index, operation in enumerate(operations)
        if operation not in _OPERATIONS
    ]
    for key, what in (
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
        ("resources", "resources"),
    ):
        values: list[str] = rule.get(key) or []
        if not values:
            errors.append(required(f"{place}.{key}"))
        if len(values) > 1 and "*" in values and key != "resources":
            text = f"if '*' is present, must not specify other {what}"
            errors.append(invalid_value(f"{place}.{key}", values, text))
        if key == "apiGroups":
            continue
        errors += [required(f"{place}.{key}[{index}]") for index, value in enumerate(values) if not value]
    return errors + _choice(rule, "scope", place, _SCOPES)


def _selector_errors(selector: Object, place: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, requirement in enumerate(selector.get("matchExpressions") or ()):
        at = f"{place}.matchExpressions[{index}]"
        operator, values = requirement.get("operator"), requirement.get("values")
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(required(f"{at}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(FieldError("FieldValueForbidden", f"{at}.values", text))
        else:
            errors.append(invalid_value(f"{at}.operator", operator, "not a valid selector operator"))
    return errors


# --- expressions


def expression_errors(
    text: str, place: str, types: Mapping[str, Type], results: Sequence[Type] = ()
) -> list[FieldError]:
    """Why an expression cannot be used: it does not compile, or its value is of another type than these.

    A value whose type only evaluation can tell is not taken either.
    """
    if len(text) > LONGEST_EXPRESSION:
        words = f"Too long: may not be more than {LONGEST_EXPRESSION} bytes"
        return [FieldError("FieldValueTooLong", place, words)]
    try:
        program = compile_expression(text, types)
    except CompileError as error:
        return [invalid_value(place, text, f"compilation failed: {error.message}")]
    if results and program.result not in results:
        wanted = str(results[0]) if len(results) == 1 else f"one of [{' '.join(map(str, results))}]"
        return [invalid_value(place, text, f"must evaluate to {wanted} but got {program.result}")]
    return []


def condition_errors(conditions: Sequence[Object], place: str, types: Mapping[str, Type]) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(conditions) > MOST_CONDITIONS:
        errors.append(too_many(place, len(conditions), MOST_CONDITIONS))
    names: set[str] = set()
    for index, condition in enumerate(conditions):
        at = f"{place}[{index}]"
        text, name = condition.get("expression") or "", condition.get("name") or ""
        if not text.strip():
            errors.append(required(f"{at}.expression"))
        else:
            errors += expression_errors(text, f"{at}.expression", types, (BOOL,))
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in names:
            errors.append(duplicate(f"{at}.name", name))
        names.add(name)
    return errors


# --- policies


def policy_errors(new: Object, _old: Object | None, subresource: str) -> list[FieldError]:
    """Of a ValidatingAdmissionPolicy."""
    if subresource:
        return []
    spec: Object = new.get("spec") or {}
    errors = _choice(spec, "failurePolicy", "spec", _FAILURE)
    errors += _param_kind_errors(spec.get("paramKind"))
    errors += _match_errors(spec.get("matchConstraints"), "spec.matchConstraints", bound=False)
    types, variable_errors = _variables(spec)
    plain = {name: kind for name, kind in types.items() if name != "variables"}
    errors += condition_errors(spec.get("matchConditions") or (), "spec.matchConditions", plain)
    errors += variable_errors
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        text = "validations or auditAnnotations must contain at least one item"
        return [*errors, required("spec.validations", text), required("spec.auditAnnotations", text)]
    for index, validation in enumerate(validations):
        errors += _validation_errors(validation, f"spec.validations[{index}]", types)
    keys: set[str] = set()
    for index, annotation in enumerate(annotations):
        at = f"spec.auditAnnotations[{index}]"
        text, key = annotation.get("valueExpression") or "", annotation.get("key") or ""
        if not text.strip():
            errors.append(required(f"{at}.valueExpression", "valueExpression is not specified"))
        else:
            errors += expression_errors(text, f"{at}.valueExpression", types, (STRING, NULL))
        if key in keys:
            errors.append(duplicate(f"{at}.key", key))
        keys.add(key)
    return errors


def _variables(spec: Object) -> tuple[dict[str, Type], list[FieldError]]:
    """What expressions see, with those variables that compile, and what is wrong with the others."""
    errors: list[FieldError] = []
    good: list[Object] = []
    types, _ = variables_of({**spec, "variables": good})
    for index, variable in enumerate(spec.get("variables") or ()):
        at = f"spec.variables[{index}]"
        name, text = variable.get("name") or "", variable.get("expression") or ""
        if not name.strip():
            errors.append(required(f"{at}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name):
            errors.append(invalid_value(f"{at}.name", name, "must be a valid CEL identifier"))
        elif not text.strip():
            errors.append(required(f"{at}.expression", "expression is not specified"))
        elif problems := expression_errors(text, f"{at}.expression", types):
            errors += problems
        else:
            good.append(variable)
            types, _ = variables_of({**spec, "variables": good})
    return types, errors


def _validation_errors(validation: Object, at: str, types: Mapping[str, Type]) -> list[FieldError]:
    errors: list[FieldError] = []
    text, message = validation.get("expression") or "", validation.get("message") or ""
    if not text.strip():
        errors.append(required(f"{at}.expression", "expression is not specified"))
    else:
        errors += expression_errors(text, f"{at}.expression", types, (BOOL,))
    words = validation.get("messageExpression") or ""
    if words and not words.strip():
        errors.append(invalid_value(f"{at}.messageExpression", words, "must be non-empty if specified"))
    elif words:
        without = {name: kind for name, kind in types.items() if name != "authorizer"}
        errors += expression_errors(words, f"{at}.messageExpression", without, (STRING,))
    if message and not message.strip():
        errors.append(invalid_value(f"{at}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip() or "\r" in message.strip():
        errors.append(invalid_value(f"{at}.message", message, "must not contain line breaks"))
    return errors + _choice(validation, "reason", at, sorted(CODES))


def _param_kind_errors(kind: Object | None) -> list[FieldError]:
    if kind is None:
        return []
    return [required(f"spec.paramKind.{key}") for key in ("apiVersion", "kind") if not kind.get(key)]


def _match_errors(resources: Object | None, place: str, *, bound: bool) -> list[FieldError]:
    if resources is None:
        return [] if bound else [required(place)]
    errors = _choice(resources, "matchPolicy", place, _MATCH)
    for key in ("namespaceSelector", "objectSelector"):
        errors += _selector_errors(resources.get(key) or {}, f"{place}.{key}")
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(resources.get(key) or ()):
            errors += _rule_errors(rule, f"{place}.{key}[{index}]")
    if not bound and not resources.get("resourceRules"):
        errors.append(required(f"{place}.resourceRules"))
    return errors


def binding_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    """Of a ValidatingAdmissionPolicyBinding."""
    spec: Object = new.get("spec") or {}
    errors: list[FieldError] = []
    if not spec.get("policyName"):
        errors.append(required("spec.policyName"))
    errors += _param_reference_errors(spec.get("paramRef"))
    errors += _match_errors(spec.get("matchResources"), "spec.matchResources", bound=True)
    actions: list[str] = spec.get("validationActions") or []
    place = "spec.validationActions"
    if not actions:
        errors.append(required(place, "at least one validation action is required"))
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            errors.append(unsupported_value(f"{place}[{index}]", action, _ACTIONS))
        if action in actions[:index]:
            errors.append(duplicate(f"{place}[{index}]", action))
    if "Deny" in actions and "Warn" in actions:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the "
            "API response and headers serves no purpose)"
        )
        errors.append(invalid_value(place, actions, text))
    return errors


def _param_reference_errors(reference: Object | None) -> list[FieldError]:
    if reference is None:
        return []
    place = "spec.paramRef"
    name, selector = reference.get("name"), reference.get("selector")
    errors: list[FieldError] = []
    if name and selector is not None:
        text = "Forbidden: name and selector are mutually exclusive"
        errors.append(FieldError("FieldValueForbidden", f"{place}.name", text))
    if not name and selector is None:
        errors.append(required(place, "one of name or selector must be specified"))
    if reference.get("parameterNotFoundAction") is None:
        errors.append(required(f"{place}.parameterNotFoundAction"))
    errors += _choice(reference, "parameterNotFoundAction", place, _NOT_FOUND)
    return errors + _selector_errors(selector or {}, f"{place}.selector")
