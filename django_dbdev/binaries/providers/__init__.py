"""Who can provide an engine's programs. None of them knows another."""
