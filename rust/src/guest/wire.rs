//! The numbers of virtio-sound that the driver needs (virtio 1.3, 5.14.6).

use crate::pcm::wire as pcm;

pub const CONTROL: usize = 0;
pub const EVENT: usize = 1;
pub const TX: usize = 2;
pub const RX: usize = 3;

pub const JACK_INFO: u32 = 0x0001;
pub const PCM_INFO: u32 = 0x0100;
pub const SET_PARAMS: u32 = 0x0101;
pub const PREPARE: u32 = 0x0102;
pub const RELEASE: u32 = 0x0103;
pub const START: u32 = 0x0104;
pub const STOP: u32 = 0x0105;
pub const CHMAP_INFO: u32 = 0x0200;

pub use crate::pcm::wire::S_OK as OK;

pub const EVT_PCM_XRUN: u32 = 0x1101;

/// A bit of SET_PARAMS' features.
pub const MSG_POLLING: u32 = 1 << 2;

/// Bytes of the structure of an INFO answer.
pub const PCM_INFO_BYTES: u32 = 32;
/// `virtio_snd_pcm_xfer`, `virtio_snd_pcm_status`, `virtio_snd_event`.
pub const XFER_BYTES: u32 = pcm::XFER_SIZE as u32;
pub const STATUS_BYTES: u32 = pcm::STATUS_SIZE as u32;
pub const EVENT_BYTES: u32 = 8;

/// Feature bits of the device.
pub const F_CTLS: u64 = 1 << 0;
pub const F_INDIRECT_DESC: u64 = 1 << 28;
pub const F_EVENT_IDX: u64 = 1 << 29;
pub const F_PROTOCOL: u64 = 1 << 30;
pub const F_VERSION_1: u64 = 1 << 32;

/// A status as people read it.
pub fn status_name(status: u32) -> String {
    match status {
        OK => "OK".into(),
        0x8001 => "BAD_MSG".into(),
        0x8002 => "NOT_SUPP".into(),
        0x8003 => "IO_ERR".into(),
        other => format!("{other:#x}"),
    }
}

/// A request as people read it.
pub fn request_name(code: u32) -> String {
    match code {
        JACK_INFO => "JACK_INFO".into(),
        PCM_INFO => "PCM_INFO".into(),
        SET_PARAMS => "SET_PARAMS".into(),
        PREPARE => "PREPARE".into(),
        RELEASE => "RELEASE".into(),
        START => "START".into(),
        STOP => "STOP".into(),
        CHMAP_INFO => "CHMAP_INFO".into(),
        other => format!("request {other:#06x}"),
    }
}

/// 32-bit fields, little-endian.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
