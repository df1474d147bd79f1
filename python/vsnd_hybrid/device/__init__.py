"""The sound device's policy: requests, the life of streams, jacks, channel maps, events.

Audio does not pass through here; the data path is native, and `backends` are the engines.
"""

from vsnd_hybrid.device.config import DeviceConfig, DeviceConfigError, StreamConfig
from vsnd_hybrid.device.control import Controls
from vsnd_hybrid.device.sound import SoundDevice

__all__ = ["Controls", "DeviceConfig", "DeviceConfigError", "SoundDevice", "StreamConfig"]
