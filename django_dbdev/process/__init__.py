"""How programs run: privileges, ports, sockets, readiness, and the one importer of sh."""
