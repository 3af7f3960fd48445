"""Addresses of laptop clusters."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.app.start import settle_settings
from kajitori.base.errors import UsageError
from kajitori.laptop.settings import MAXIMUM_NODES, SLOTS, ClusterSettings, read_settings, write_settings

slots = st.integers(min_value=0, max_value=SLOTS - 1)
nodes = st.integers(min_value=1, max_value=MAXIMUM_NODES)


@given(slots, slots, nodes, nodes)
def test_no_two_nodes_share_an_address(slot: int, other_slot: int, node: int, other_node: int) -> None:
    one = ipaddress.ip_network(ClusterSettings(slot=slot).pod_cidr(f"node-{node}"))
    other = ipaddress.ip_network(ClusterSettings(slot=other_slot).pod_cidr(f"node-{other_node}"))
    assert one.is_loopback
    assert (slot, node) == (other_slot, other_node) or not one.overlaps(other)


@given(slots, slots, nodes)
def test_services_and_pods_do_not_overlap(slot: int, other_slot: int, node: int) -> None:
    services = ipaddress.ip_network(ClusterSettings(slot=slot).service_cidr)
    pods = ipaddress.ip_network(ClusterSettings(slot=other_slot).pod_cidr(f"node-{node}"))
    assert services.is_loopback
    assert not services.overlaps(pods)


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = ClusterSettings(slot=3, port=7443, gpus=8, racks=2, zones=2)
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings


def test_damaged_settings_name_the_file_and_the_cure(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(UsageError, match=r"cluster\.json is damaged.*kaji down --purge"):
        read_settings(tmp_path)


def test_two_new_clusters_take_different_slots(tmp_path: Path) -> None:
    one, held = settle_settings(tmp_path / "one", {})
    other, also_held = settle_settings(tmp_path / "other", {})
    with held, also_held:
        assert one.slot != other.slot


def test_a_cluster_keeps_its_slot_or_moves_when_another_has_it(tmp_path: Path) -> None:
    settings, held = settle_settings(tmp_path, {})
    with held:
        write_settings(tmp_path, settings)
        moved, also_held = settle_settings(tmp_path, {})
        also_held.close()
        assert moved.slot != settings.slot
    same, held = settle_settings(tmp_path, {})
    held.close()
    assert same.slot == settings.slot


def test_nodes_are_spread_over_racks_and_racks_over_zones() -> None:
    settings = ClusterSettings(nodes=8, racks=4, zones=2)
    places = [(settings.rack(name), settings.zone(name)) for name in settings.node_names]
    assert {rack for rack, _ in places} == {"rack-1", "rack-2", "rack-3", "rack-4"}
    zones_of_rack: dict[str, set[str]] = {}
    for rack, zone in places:
        zones_of_rack.setdefault(rack, set()).add(zone)
    assert all(len(zones) == 1 for zones in zones_of_rack.values())
