"""apiextensions/v1 as structs; made by tools/generate_kubernetes_schemas.py from Kubernetes v1.36.3, not edited by hand."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from kajitori.api.kubernetes import meta_v1


class CustomResourceDefinition(Struct, frozen=True, kw_only=True, rename='camel'):
    api_version: str = "apiextensions.k8s.io/v1"
    kind: str = "CustomResourceDefinition"
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    spec: CustomResourceDefinitionSpec = field(default_factory=lambda: CustomResourceDefinitionSpec())
    status: CustomResourceDefinitionStatus = field(default_factory=lambda: CustomResourceDefinitionStatus())


class CustomResourceDefinitionSpec(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    conversion: CustomResourceConversion | None = None
    group: str = ''
    names: CustomResourceDefinitionNames | None = None
    preserve_unknown_fields: bool | None = None
    scope: str = ''
    versions: list[CustomResourceDefinitionVersion] = []


class CustomResourceConversion(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    strategy: str = ''
    webhook: WebhookConversion | None = None


class WebhookConversion(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    client_config: WebhookClientConfig | None = None
    conversion_review_versions: list[str] = []


class WebhookClientConfig(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    ca_bundle: str | None = None
    service: ServiceReference | None = None
    url: str | None = None


class ServiceReference(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    name: str = ''
    namespace: str = ''
    path: str | None = None
    port: int | None = None


class CustomResourceDefinitionNames(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    categories: list[str] = []
    kind: str = ''
    list_kind: str | None = None
    plural: str = ''
    short_names: list[str] = []
    singular: str | None = None


class CustomResourceDefinitionVersion(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    additional_printer_columns: list[CustomResourceColumnDefinition] = []
    deprecated: bool | None = None
    deprecation_warning: str | None = None
    name: str = ''
    schema: CustomResourceValidation | None = None
    selectable_fields: list[SelectableField] = []
    served: bool = False
    storage: bool = False
    subresources: CustomResourceSubresources | None = None


class CustomResourceColumnDefinition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    description: str | None = None
    format: str | None = None
    json_path: str = ''
    name: str = ''
    priority: int | None = None
    type: str = ''


class CustomResourceValidation(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    open_apiv3_schema: dict[str, Any] = field(name='openAPIV3Schema', default_factory=dict)


class SelectableField(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    json_path: str = ''


class CustomResourceSubresources(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    scale: CustomResourceSubresourceScale | None = None
    status: CustomResourceSubresourceStatus = field(default_factory=lambda: CustomResourceSubresourceStatus())


class CustomResourceSubresourceScale(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    label_selector_path: str | None = None
    spec_replicas_path: str = ''
    status_replicas_path: str = ''


class CustomResourceSubresourceStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    pass


class CustomResourceDefinitionStatus(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    accepted_names: CustomResourceDefinitionNames | None = None
    conditions: list[CustomResourceDefinitionCondition] = []
    observed_generation: int | None = None
    stored_versions: list[str] = []


class CustomResourceDefinitionCondition(Struct, frozen=True, kw_only=True, rename='camel', omit_defaults=True):
    last_transition_time: str | None = None
    message: str | None = None
    observed_generation: int | None = None
    reason: str | None = None
    status: str = ''
    type: str = ''
