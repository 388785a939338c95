"""Drivers say in many ways that a login was refused."""

from __future__ import annotations

import asyncpg
import psycopg
import pymysql
import pytest

from evertoken.clients._login_refusal import is_refused_login


class Coded(Exception):
    """An error with codes as drivers give them: psycopg2 has `pgcode`, MySQL Connector `errno`."""

    def __init__(self, *args: object, **codes: object) -> None:
        super().__init__(*args)
        vars(self).update(codes)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidPasswordError("no"),
        asyncpg.InvalidAuthorizationSpecificationError("no"),
        psycopg.OperationalError('connection failed: FATAL:  PAM authentication failed for user "app"'),
        psycopg.errors.InvalidPassword("no"),
        pymysql.OperationalError(1045, "Access denied for user 'app'"),
        Coded("no", pgcode="28P01"),
        Coded("no", errno=1045),
        # pg8000.
        Coded({"S": "FATAL", "C": "28000", "M": "no"}),
    ],
    ids=lambda error: f"{type(error).__name__} {error} {vars(error)}",
)
def test_a_refusal(error):
    """U1: the codes of PostgreSQL, MySQL and MariaDB are known, wherever a driver puts them, and libpq's words."""
    assert is_refused_login(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidCatalogNameError("no such database"),
        psycopg.OperationalError("connection failed: Connection refused"),
        pymysql.OperationalError(2003, "Can't connect"),
        Coded({"C": "3D000"}),
        Coded(["28P01"], sqlstate=None, pgcode=["28P01"]),
        OSError(1, "no"),
        TimeoutError(),
    ],
    ids=lambda error: f"{type(error).__name__} {error} {vars(error)}",
)
def test_another_failure(error):
    """U1: any other failure costs no token."""
    assert not is_refused_login(error)
