"""What becomes of the statements of a dump, whatever the pieces in which it comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_dbdev.backends.mysqld.plain import Quoting, Script
from django_dbdev.exceptions import DumpError

DEFAULT = Quoting()


def statements(
    text: str | bytes, size: int = 10**6, version: tuple[int, ...] = (), quoting: Quoting = DEFAULT
) -> list[tuple[int, str]]:
    content = text.encode() if isinstance(text, str) else text

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    script = Script("it", version)
    script.quoting = quoting
    return [(each.line, each.text.decode()) for each in script.statements(chunks())]


TEXT = r"""-- a comment; not a statement
/* another; */ # and one more;
SELECT 'a;b', "c;\"d", `e;``f`, 'it''s \\' ; SELECT 5--3;
/*!40101 SET @x = 'in; a comment' */;
/*M!100100 SELECT 1 */;
SELECT 1 -- the end;
, 2 /* ; */;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON x FOR EACH ROW
BEGIN SET NEW.a = ';'; SET NEW.b = 1; END */;;
DELIMITER ;
SELECT 'the last'"""

EXPECTED = [
    (3, r"""SELECT 'a;b', "c;\"d", `e;``f`, 'it''s \\' """),
    (3, "SELECT 5--3"),
    (4, "/*!40101 SET @x = 'in; a comment' */"),
    (5, "/*M!100100 SELECT 1 */"),
    (6, "SELECT 1 -- the end;\n, 2 /* ; */"),
    (
        9,
        "/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t BEFORE INSERT ON x FOR EACH ROW\n"
        "BEGIN SET NEW.a = ';'; SET NEW.b = 1; END */",
    ),
    (12, "SELECT 'the last'"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_the_pieces_do_not_matter(size: int) -> None:
    assert statements(TEXT, size) == EXPECTED
    assert statements(TEXT.replace("\n", "\r\n"), size)[1] == EXPECTED[1]


@pytest.mark.parametrize(
    ("quoting", "text"),
    [
        (DEFAULT, r"""SELECT 'a\';', "b\";", `c\`"""),
        (Quoting(escapes=False), r"""SELECT 'a\', ";", "b\", ';', `c\`"""),
        (Quoting(ansi=True), r"""SELECT 'a\';', 1 AS "b\", ';', `c\`"""),
        (Quoting(escapes=False, ansi=True), r"""SELECT 'a\', 1 AS "b\", ';', `c\`"""),
    ],
)
def test_the_mode_says_what_a_backslash_is(quoting: Quoting, text: str) -> None:
    expected = [(1, text), (2, "SELECT 2")]
    assert statements(f"{text};\nSELECT 2;", 7, quoting=quoting) == expected


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("SET sql_mode = 'ANSI_QUOTES'", True),
        ("/*!50003 SET @saved_sql_mode       = @@sql_mode */", True),
        ("/*!40101 SET SQL_MODE=@OLD_SQL_MODE */", True),
        ("SET @OLD_SQL_NOTES=@@SQL_NOTES, @@SESSION.Sql_Mode := ''", True),
        ("INSERT INTO t VALUES ('SET sql_mode')", False),
    ],
)
def test_what_may_set_the_mode(text: str, sets: bool) -> None:
    (found,) = Script("it").statements(iter([text.encode()]))
    assert found.sets_mode is sets


@pytest.mark.parametrize(
    "left_out",
    [
        "USE `shop`",
        "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop`",
        "/*!40000 DROP DATABASE IF EXISTS `shop`*/",
        "ALTER DATABASE shop CHARACTER SET utf8mb4",
        "GRANT ALL ON *.* TO x@y",
        "CREATE USER x@y IDENTIFIED BY 'z'",
        "SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ ''",
        "SET @@SESSION.SQL_LOG_BIN= 0",
        "SET GLOBAL max_connections = 1",
        "CHANGE MASTER TO MASTER_LOG_FILE='x'",
    ],
)
def test_what_is_not_one_databases_is_left_out(left_out: str) -> None:
    assert statements(f"SELECT 1;\n{left_out};\nSELECT 2;") == [(1, "SELECT 1"), (3, "SELECT 2")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("CREATE DEFINER=`a`@`b` PROCEDURE p() SELECT 1", "CREATE  PROCEDURE p() SELECT 1"),
        ("CREATE DEFINER = 'a b'@'%' VIEW v AS SELECT 1", "CREATE  VIEW v AS SELECT 1"),
        ("CREATE DEFINER=CURRENT_USER FUNCTION f() RETURNS INT RETURN 1", None),
        (
            "CREATE OR REPLACE ALGORITHM=MERGE DEFINER=a SQL SECURITY INVOKER VIEW v AS SELECT 1",
            None,
        ),
        (
            "/*!50001 CREATE ALGORITHM=MERGE */\n/*!50013 DEFINER=`a`@`b` */ /*!50001 VIEW v */",
            None,
        ),
        ("INSERT INTO t VALUES ('CREATE DEFINER=`a`@`b`')", "="),
        ("CREATE TABLE t (a int COMMENT 'DEFINER=root may')", "="),
        ("CREATE VIEW v AS SELECT * FROM t WHERE definer = 'x'", "="),
        ("CREATE PROCEDURE p() SELECT 1 FROM t WHERE definer = 'x'", "="),
    ],
)
def test_definers(given: str, kept: str | None) -> None:
    ((_, text),) = statements(f"{given};")
    if kept is None:
        assert "DEFINER" not in text
    else:
        assert text == (given if kept == "=" else kept)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("USE a; SELECT 1; USE b;", r"it holds several databases \(a, b"),
        ("SELECT 1;\nsystem rm -rf x\n;", r"line 2: a command for the client program: system rm"),
        ("source other.sql;", "a command for the client program"),
        ("SELECT 'open", "it ends in the middle of a statement"),
        ("DELIMITER //\nCREATE PROCEDURE p() SELECT '", "it ends in the middle of a statement"),
        ("-- MySQL dump 10.13\nSELECT 1;", "is not whole: the last line of its program is missing"),
        ("/*M!999999\\- sandbox */ \n-- MariaDB dump 10.19\nSELECT 1;", "is not whole"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(DumpError, match=said):
        statements(text)


OLD_END, NEW_END = "'2038-01-19 03:14:07.999999'", "'2106-02-07 06:28:15.999999'"


@pytest.mark.parametrize(
    ("written", "end", "version", "loaded"),
    [
        ("10.11.19", OLD_END, (11, 8, 6), NEW_END),
        ("11.8.6", NEW_END, (10, 11, 19), OLD_END),
        ("10.11.19", OLD_END, (11, 4, 2), OLD_END),
        ("11.8.6", OLD_END, (11, 8, 6), OLD_END),
    ],
)
def test_rows_that_are_no_history_are_none_elsewhere(
    written: str, end: str, version: tuple[int, ...], loaded: str
) -> None:
    on = "/*M!101100 SET @old_{0}=@@session.{0}, @@session.{0}=1 */"
    off = "/*M!101100 SET {0}=@old_{0} */"
    insert = "INSERT INTO `t` (`x`, row_start, row_end) VALUES ('y,\\{0},'2026-11-22 10:00:00',{0})"
    header = f"-- Server version\t{written}-MariaDB\n"
    name = "system_versioning_insert_history"
    text = header + ";\n".join(
        [on.format(name), insert.format(end), off.format(name), insert.format(end)]
    )
    found = [each for _, each in statements(text, version=version)]
    untouched = insert.format(end)
    assert found[1] == untouched.removesuffix(f"{end})") + f"{loaded})"
    assert found[3] == untouched


def test_a_byte_order_mark_and_a_last_line() -> None:
    whole = b"\xef\xbb\xbf-- MariaDB dump 10.19\nSELECT 1;\n-- Dump completed on 2026-11-22\n"
    assert statements(whole, 5) == [(2, "SELECT 1")]
    assert statements("") == []
