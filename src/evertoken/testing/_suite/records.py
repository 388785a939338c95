"""Conformance: a record is read as it was written, and no older record replaces it."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

import pytest

from evertoken._model.protocols import LONGEST_LEASE, Lease, Record
from evertoken._model.token import Token
from evertoken.stores._record import UnreadableRecord
from evertoken.testing._suite.base import Suite, a_token, keep, lease_of

__all__ = ["Records"]

DIGITS = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(120))

#: Keys that cause trouble for file names, patterns, globs and case-folding columns.
KEYS = [
    '["",null]',
    '["billing",["tenant",1]]',
    "a",
    "A",
    "a ",
    "a/b",
    "a%b",
    "a_b",
    "a*b",
    "a:b",
    "{a}b",
    "../../a",
    ".",
    "con",
    "a\nb",
    "'; DROP TABLE a; --",
    "\u043a\u043b\u044e\u0447",
    "e\u0301",
    "\u00e9",
    "\U0001f511",
    "k" * 3000,
    "k" * 2999 + "l",
    # This key has the same length and cannot be compressed, so an index may have no room for it.
    DIGITS,
    DIGITS[:-1] + "x",
    DIGITS[:2000],
    DIGITS[:2001],
]

#: Records of format 1, exactly as the first release with this format wrote them.
FORMAT_1 = {
    b'{"format": 1, "key": "k", "version": 7, "sent_at": null, "token": {"access_token": "at", "issued_at":'
    b' 1700000000.5, "expires_at": 1700003600.5, "token_type": "Bearer", "refresh_at": 1700003000.0, "refresh_token":'
    b' "rt", "scope": "a b", "extra": {"id_token": "x", "n": [1, {"m": null}]}}}': Record(
        "k",
        7,
        Token(
            "at",
            issued_at=1700000000.5,
            expires_at=1700003600.5,
            refresh_at=1700003000.0,
            refresh_token="rt",
            scope="a b",
            extra={"id_token": "x", "n": [1, {"m": None}]},
        ),
    ),
    b'{"format": 1, "key": "k", "version": 8, "sent_at": 1700003001.25, "token": {"access_token": "at", "issued_at":'
    b' 1.0, "expires_at": null, "token_type": "DPoP", "refresh_at": null, "refresh_token": null, "scope": null,'
    b' "extra": {}}}': Record("k", 8, Token("at", issued_at=1.0, token_type="DPoP"), 1700003001.25),
    b'{"format": 1, "key": "k", "version": 9, "sent_at": null, "token": null}': Record("k", 9, None),
    b'{"format": 1, "key": "k", "version": 9, "sent_at": 5.5, "sent_by": "a-member", "revoked": false, "since": 4.25,'
    b' "origins": ["a1b2", "c3d4"], "generation": 7, "token": {"access_token": "at", "issued_at": 1.0}}': Record(
        "k", 9, Token("at", issued_at=1.0), 5.5, "a-member", since=4.25, origins=("a1b2", "c3d4"), generation=7
    ),
    b'{"format": 1, "key": "k", "version": 9, "revoked": true, "token": null}': Record("k", 9, None, revoked=True),
    # A later release wrote this one. Fields are added within a format, and readers ignore unknown fields.
    b'{"format": 1, "key": "k", "version": 10, "sent_at": null, "later": [1], "token": {"access_token": "at",'
    b' "issued_at": 1.0, "later": {}}}': Record("k", 10, Token("at", issued_at=1.0)),
}

#: Bytes that are not a record: cut off, foreign, of another key, or with absurd numbers.
TORN = [
    b"",
    b'{"format": 1, "key"',
    b"\x00" * 64,
    b"\xff\xfe" * 32,
    b"[]",
    b'{"format": 1, "key": "other", "version": 1}',
    b'{"format": 1, "key": "k", "version": 9223372036854775807, "sent_at": null, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "sent_at": NaN, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "sent_by": 7, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "since": null, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "origins": "abc", "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "generation": -1, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "generation": 1.5, "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "origins": [1], "token": null}',
    b'{"format": 1, "key": "k", "version": 1, "sent_at": null, "token": {"access_token": "at", "issued_at": 1e999}}',
]


class Records(Suite):
    """Reading and writing."""

    async def test_what_was_never_written_is_none(self) -> None:
        """K1: a key that nobody wrote has no record."""
        async with self.opened() as store:
            assert await store.read("k") is None
            await lease_of(store)
            assert await store.read("k") is None

    async def test_written_is_read(self) -> None:
        """K1: a record is read back, also by another instance, and under no other key."""
        async with self.pair() as (one, other):
            record = await keep(one, "k")
            assert await one.read("k") == record
            assert await other.read("k") == record
            assert await other.read("another") is None

    async def test_every_field_is_kept(self) -> None:
        """K1: all fields of a record and its token come back as they were, to the last bit."""
        token = a_token(
            "a.b-c_d~e+f/g==",
            issued_at=1_700_000_000.1234567,
            expires_at=1_700_003_600.7654321,
            refresh_at=1_700_003_000.3,
            token_type="DPoP",
            refresh_token="r\u00e9fresh \u2603 \\ \"'\n",
            scope="read write:\u0430",
            extra={"id_token": "x", "n": [1, 2.5, True, None, {"m": "\u043a"}], "long": "x" * 5000, "e": {}},
        )
        bare = a_token("bare", issued_at=0.0, expires_at=None)
        records = [
            Record("k", 1, token, 1_700_000_001.000001),
            Record("k", 2, bare),
            Record("k", 3, None, 5.5),
            Record("k", 4, None, revoked=True, since=1_700_000_009.123456),
            Record(
                "k",
                5,
                token,
                6.5,
                "host-\u2603:4711",
                since=1_700_000_000.25,
                origins=("a1b2", "", "\u043a"),
                generation=2**40,
            ),
            Record("k", 6, bare, since=0.5, origins=tuple(f"{number:064x}" for number in range(40))),
        ]
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            for record in records:
                assert await one.mark(record, lease)
                assert (await one.begin("k", "other", LONGEST_LEASE)).record == record
                found = await other.read("k")
                assert found == record
                assert found is not None
                assert (found.token is None) == (record.token is None)

    async def test_only_a_later_version_is_taken(self) -> None:
        """K2: a version that is not above the stored one is refused and changes nothing. Versions may be skipped."""
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            for version in (0, -1):
                assert not await one.mark(Record("k", version, a_token()), lease)
                assert not await one.commit(Record("k", version, a_token()), lease)
                assert await other.read("k") is None
            assert await one.mark(first := Record("k", 7, a_token("first")), lease)
            for version in (-7, 0, 1, 6, 7):
                assert not await one.mark(Record("k", version, a_token("late")), lease)
                assert not await one.commit(Record("k", version, a_token("late")), lease)
                assert await other.read("k") == first
            for version in (8, 1000, 2**40):
                assert await one.mark(leap := Record("k", version, a_token(f"{version}")), lease)
                assert await other.read("k") == leap

    async def test_a_tombstone_stays(self) -> None:
        """K1: a record without a token is a record too, and its version counts. A token may follow."""
        async with self.opened() as store:
            lease = await lease_of(store)
            assert await store.mark(Record("k", 3, a_token()), lease)
            assert await store.mark(dead := Record("k", 4, None, revoked=True, since=4.5), lease)
            assert await store.read("k") == dead
            assert not await store.mark(Record("k", 4, a_token("late")), lease)
            assert await store.commit(risen := Record("k", 5, a_token("risen")), lease)
            assert await store.read("k") == risen

    async def test_any_text_is_a_key(self) -> None:
        """
        K1: keys differ by every character, even if they are long, foreign, or dangerous to a file system or a query.
        """
        async with self.pair() as (one, other):
            for number, key in enumerate(KEYS):
                token = a_token(f"token-{number}")
                assert await one.commit(Record(key, number + 1, token), await lease_of(one, key))
            for number, key in enumerate(KEYS):
                found = await other.read(key)
                assert found == Record(key, number + 1, a_token(f"token-{number}")), key[:40]

    async def test_large_tokens(self) -> None:
        """K1: tokens of 64 KiB, which some providers issue, are kept."""
        token = a_token("a" * 65_536, refresh_token="r" * 65_536, extra={"id_token": "i" * 65_536})
        async with self.pair() as (one, other):
            record = await keep(one, "k", token=token)
            assert await other.read("k") == record

    async def test_many_keys(self) -> None:
        """F6: many keys are kept side by side."""
        names = [f"key-{number}" for number in range(self.many)]
        async with self.pair() as (one, other):
            for start in range(0, len(names), 20):
                await asyncio.gather(*(keep(one, name, token=a_token(name)) for name in names[start : start + 20]))
            for name in names:
                assert await other.read(name) == Record(name, 1, a_token(name))

    async def test_records_of_format_1_are_read(self) -> None:
        """K1: records of an older release are read, and replaced by the next write."""
        async with self.opened() as store:
            for data, record in FORMAT_1.items():
                await self.plant("k", data)
                assert await store.read("k") == record
            lease = await lease_of(store)
            assert not await store.commit(Record("k", 10, a_token("late")), lease)
            assert await store.commit(newer := Record("k", 11, a_token("newer")), lease)
            assert await store.read("k") == newer

    async def test_a_format_to_come_is_left_alone(self) -> None:
        """K1: a record that only a later release can read is an error. It is not overwritten."""
        data = b'{"format": 99, "key": "k", "version": 1, "whatever": 1}'
        async with self.opened() as store:
            lease = await lease_of(store)
            await self.plant("k", data)
            for attempt in (
                partial(store.read, "k"),
                partial(store.mark, Record("k", 100, a_token()), lease),
                partial(store.commit, Record("k", 101, a_token()), lease),
                partial(store.read, "k"),
                partial(store.begin, "k", "me", LONGEST_LEASE),
                partial(store.begin, "k", "other", LONGEST_LEASE),
                partial(store.read, "k"),
            ):
                with pytest.raises(UnreadableRecord):
                    await attempt()

    async def test_a_beginning_that_cannot_read_takes_no_lease(self) -> None:
        """K1, K2: a member that cannot read the record does not exclude members that can."""
        (good, record), *_ = FORMAT_1.items()
        async with self.pair() as (one, other):
            await self.plant("k", b'{"format": 99, "key": "k", "version": 1, "whatever": 1}')
            with pytest.raises(UnreadableRecord):
                await one.begin("k", "me", LONGEST_LEASE)
            await self.plant("k", good)
            begun = await other.begin("k", "other", LONGEST_LEASE)
            assert isinstance(begun.lease, Lease)
            assert begun.record == record

    async def test_what_is_no_record_is_a_miss(self) -> None:
        """K3: bytes that are torn, foreign or of another key count as missing, and the next write replaces them."""
        async with self.opened() as store:
            for version, data in enumerate(TORN, 1):
                await self.plant("k", data)
                assert await store.read("k") is None
                await self.plant("k", data)
                begun = await store.begin("k", "me", LONGEST_LEASE)
                assert isinstance(begun.lease, Lease)
                assert begun.record is None
                await self.plant("k", data)
                assert await store.mark(marked := Record("k", version, a_token(), 5.5), begun.lease)
                assert await store.read("k") == marked
                await self.plant("k", data)
                assert await store.commit(record := Record("k", version, a_token()), begun.lease)
                assert await store.read("k") == record
