"""The parts of the backend for MariaDB and MySQL."""
