"""Tests of vsnd-hybrid: unit, device (the virtual guest), backends (real engines), guests (a real Linux), tools."""
