"""A project with MariaDB whose content is known."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.conftest import Project
from tests.mysqld.conftest import PIN, SETTINGS, MySqlProject

from .worlds import Content, World


class MariaDbWorld(World):
    engine = "MariaDB"
    server_name = "MySqlBackend"
    base = SETTINGS
    pin = PIN
    fill = ("DROP TABLE IF EXISTS numbers", "CREATE TABLE numbers (n int)")
    dump_options = ()

    def make_project(self, root: Path, store: Path, environment: dict[str, str]) -> Project:
        return MySqlProject(root, store, environment)

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        assert isinstance(self.project, MySqlProject)
        found: list[tuple[object, ...]] = []
        with closing(self.project.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
                found = list(cursor.fetchall())
        return found

    def ensure(self, content: Content) -> None:
        if not self.is_running():
            self.manage("dbdev_init").ok()
        rows = ", ".join(f"({n})" for n in content or ())
        self.execute(*self.fill, f"INSERT INTO numbers VALUES {rows}")

    def settle(self) -> None:
        if self.is_running():
            # It writes its log every second.
            self.execute("FLUSH ENGINE LOGS")
        super().settle()

    def content(self) -> Content:
        if not self.execute("SHOW TABLES LIKE 'numbers'"):
            return None
        return sorted(int(str(n)) for (n,) in self.execute("SELECT n FROM numbers"))

    def databases(self) -> list[str]:
        rows = self.execute("SHOW DATABASES")
        return [str(name) for (name,) in rows if "__dbdev" in str(name) or "dbdev_" in str(name)]
