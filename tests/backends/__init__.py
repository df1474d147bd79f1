"""Engines, each under the real device and a virtual guest."""
