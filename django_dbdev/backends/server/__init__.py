"""What every backend with a server of its own does: the flows, without any engine's part.

An engine inherits from :class:`.backend.ServerBackend`, :class:`.control.ServerControl` and
:class:`.files.ServerFiles`; what is abstract there is its part.
"""
