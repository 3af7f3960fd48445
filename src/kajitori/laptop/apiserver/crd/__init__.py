"""CustomResourceDefinitions: what a definition must be, and what its schema does to objects.

    definition   checks of a definition itself
    declared     the rules that its schemas must keep (structural schemas)
    structural   a version's schema at work: prune, default, validate; compiled once
    pruning, defaulting, validation, formats, rules   its parts

Everything is a pure function of JSON values.
"""

from kajitori.laptop.apiserver.crd.definition import definition_errors, definition_warnings
from kajitori.laptop.apiserver.crd.structural import StructuralSchema

__all__ = ["StructuralSchema", "definition_errors", "definition_warnings"]
