"""Where programs come from: a requirement becomes a toolchain."""
