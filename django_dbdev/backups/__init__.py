"""Copies of data: names, manifests, snapshots, dumps, atomic replacement."""
