"""Guests and clients that do what nobody should: whatever they do, the device stays what it is."""
