//! The numbers of virtio-sound that the data path needs (virtio 1.3, 5.14.6). `wire.py` has all of them.

/// `VIRTIO_SND_S_OK`.
pub const S_OK: u32 = 0x8000;
/// `VIRTIO_SND_S_IO_ERR`.
pub const S_IO_ERR: u32 = 0x8003;
/// Size of `virtio_snd_pcm_xfer`.
pub const XFER_SIZE: usize = 4;
/// Size of `virtio_snd_pcm_status`.
pub const STATUS_SIZE: usize = 8;
