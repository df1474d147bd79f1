"""A real Linux under QEMU hears and speaks through the device: the rig, and the tests that use it."""
