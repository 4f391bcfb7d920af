"""Allocations on disk: what was acknowledged outlives any crash, and a damaged file is not taken for an empty one."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import journal
from cni.ipam import Allocation, Owner, PodRef
from cni.journal import FILE, Journal, allocated, decode, encode, fold, released
from kubarium.machinery.errors import ConfigError


def allocation(number: int) -> Allocation:
    pod = PodRef("default", f"p{number}", f"u{number}")
    return Allocation(Owner(f"c{number}", "eth0"), (IPv4Address(number),), pod)


async def test_what_was_written_is_read_by_the_next(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    assert first.open() == {}
    await asyncio.gather(*(first.write([allocated(allocation(n))]) for n in range(20)))
    await first.write([released(allocation(3).owner)])
    await first.close()
    held = Journal(tmp_path).open()
    assert held == {a.owner: a for n in range(20) if n != 3 for a in [allocation(n)]}


async def test_changes_that_wait_share_a_line(tmp_path: Path) -> None:
    writer = Journal(tmp_path)
    writer.open()
    await asyncio.gather(*(writer.write([allocated(allocation(n))]) for n in range(50)))
    await writer.close()
    assert (tmp_path / FILE).read_bytes().count(b"\n") < 10


@given(st.integers(0, 400))
def test_a_torn_end_loses_only_what_was_not_acknowledged(cut: int) -> None:
    whole = encode([allocated(allocation(1))]) + encode([allocated(allocation(2))])
    last = encode([allocated(allocation(3)), allocated(allocation(4))])
    torn = whole + last[: min(cut, len(last) - 1)]
    assert len(fold({}, decode(torn, "x"))) == 2
    assert len(fold({}, decode(whole + b"\0" * (cut % 7) + b"\n" if cut % 7 else whole, "x"))) == 2


def test_damage_before_the_end_is_refused_by_place() -> None:
    lines = [encode([allocated(allocation(n))]) for n in range(3)]
    lines[1] = lines[1].replace(b"default", b"defualt")
    with pytest.raises(ConfigError, match="x line 2: the checksum does not match"):
        decode(b"".join(lines), "x")


async def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_AFTER", 10)
    writer = Journal(tmp_path)
    writer.open()
    for n in range(40):
        await writer.write([allocated(allocation(n))])
        await writer.write([released(allocation(n).owner)])
    await writer.write([allocated(allocation(99))])
    await writer.close()
    assert (tmp_path / FILE).read_bytes().count(b"\n") <= 11
    assert list(Journal(tmp_path).open()) == [Owner("c99", "eth0")]


async def test_a_refused_write_is_told_and_leaves_the_file_whole(tmp_path: Path) -> None:
    writer = Journal(tmp_path)
    writer.open()
    await writer.write([allocated(allocation(1))])
    with pytest.raises(TypeError):
        await writer.write([{"op": object()}])
    await writer.write([allocated(allocation(2))])
    await writer.close()
    assert len(Journal(tmp_path).open()) == 2
