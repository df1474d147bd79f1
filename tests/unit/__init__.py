"""Tests of single parts, without a socket."""
