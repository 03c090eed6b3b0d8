"""Retort distils a slow autoregressive sequence generator into fast students."""

__version__ = "0.1.0"
