//! One connection: what the front end said, and what follows from it.
//!
//! The protocol does not fix the order of messages, so each is only noted; a ring starts when everything that it needs is
//! there, and its addresses are translated then.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostUserInflight, VhostUserMemoryRegion, VhostUserProtocolFeatures as Protocol,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags,
};
use vhost::vhost_user::{Error, Result};
use vhost_user_backend::VringT;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::call;
use super::device::Device;
use super::events::Event;
use super::inflight::{self, Area};
use super::lobby::is_gone;
use super::memory::{MemoryMap, Slot};
use super::ring::{MAX_SIZE, Ring};
use super::transfer::{Transfer, Way};

/// What the front end said of a ring.
#[derive(Clone, Default)]
pub(super) struct RingConfig {
    size: u16,
    /// Descriptor table, available ring, used ring, as the front end addresses them.
    addresses: Option<[u64; 3]>,
    /// SET_VRING_BASE since the ring stopped last.
    pub(super) base: Option<u16>,
    pub(super) kick: Option<Arc<File>>,
    pub(super) enabled: bool,
}

/// See the module text.
pub struct Connection {
    pub(super) device: Arc<Device>,
    map: MemoryMap,
    pub(super) rings: Vec<RingConfig>,
    pub(super) features: u64,
    pub(super) protocol: u64,
    refused: bool,
    transfer: Option<Transfer>,
    /// Tells whether the front end is still there.
    ear: Option<UnixStream>,
}

fn refuse(e: crate::error::Error) -> Error {
    Error::ReqHandlerError(std::io::Error::other(e))
}

impl Connection {
    /// A front end that has said nothing yet.
    pub fn new(device: Arc<Device>) -> Self {
        let rings = device.rings().iter().map(|_| RingConfig::default()).collect();
        Connection {
            device,
            map: MemoryMap::default(),
            rings,
            features: 0,
            protocol: 0,
            refused: false,
            transfer: None,
            ear: None,
        }
    }

    /// Whoever waits for a front end's doing gives up when this end of its connection hears that it is gone.
    pub fn listening_to(mut self, ear: UnixStream) -> Self {
        self.ear = Some(ear);
        self
    }

    /// The features that every device here has.
    pub(super) fn offered(&self) -> u64 {
        self.device.features
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    pub(super) fn ring(&mut self, index: usize) -> Result<(Arc<Ring>, &mut RingConfig)> {
        let ring = self.device.rings().get(index).cloned();
        let ring = ring.ok_or(Error::InvalidParam)?;
        Ok((ring, &mut self.rings[index]))
    }

    /// Start the ring if it lacks nothing any more.
    fn maybe_start(&mut self, index: usize) -> Result<()> {
        let event_idx = self.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let ring = self.device.rings()[index].clone();
        let c = &mut self.rings[index];
        let (Some(kick), Some(user), true) = (&c.kick, c.addresses, c.enabled) else {
            return Ok(());
        };
        if ring.is_running() {
            return Ok(());
        }
        let mut guest = [0; 3];
        for (g, u) in guest.iter_mut().zip(user) {
            *g = self.map.guest_address(u).ok_or_else(|| {
                refuse(crate::error::Error::Invalid(format!(
                    "queue {index}: its address {u:#x} is in no memory region"
                )))
            })?;
        }
        let v = ring.vring();
        v.set_queue_size(if c.size == 0 { MAX_SIZE } else { c.size });
        v.set_queue_event_idx(event_idx);
        v.set_queue_info(guest[0], guest[1], guest[2])
            .map_err(|e| refuse(crate::error::Error::Invalid(format!("queue {index}: {e}"))))?;
        v.set_queue_ready(true);
        let base = c.base.take();
        self.device.start(&ring, kick, base).map_err(refuse)
    }

    /// Note what the front end says of a ring, and start it if it lacks nothing any more. A ring that cannot start stays as it was.
    fn change(&mut self, index: usize, say: impl FnOnce(&mut RingConfig)) -> Result<()> {
        let (_, c) = self.ring(index)?;
        let before = c.clone();
        say(c);
        let started = self.maybe_start(index);
        if started.is_err() {
            self.rings[index] = before;
        }
        started
    }

    pub(super) fn stop(&mut self, index: usize) {
        let ring = self.device.rings()[index].clone();
        if let Some(kick) = &self.rings[index].kick {
            self.device.forget(&ring, kick);
        }
        self.device.stop(&ring);
        ring.vring().set_queue_ready(false);
    }

    /// Take every kick descriptor out of its worker: the connection ends.
    pub fn forget_kicks(&mut self) {
        for (ring, c) in self.device.rings().iter().zip(&mut self.rings) {
            if let Some(kick) = c.kick.take() {
                self.device.forget(ring, &kick);
            }
        }
    }

    /// Remember that a message was refused, not misunderstood.
    pub(super) fn note<T>(&mut self, r: Result<T>) -> Result<T> {
        self.refused = r.is_err();
        r
    }

    /// Whether the last message was refused and the front end was told so, if it asked to be.
    pub fn take_refusal(&mut self) -> bool {
        std::mem::take(&mut self.refused) && self.protocol & Protocol::REPLY_ACK.bits() != 0
    }
}

/// Messages that are acknowledged and may be refused.
impl Connection {
    pub(super) fn on_set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered() != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        self.device.events.push(Event::Features { features });
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            // Without the bit there is no SET_VRING_ENABLE: rings start enabled.
            for i in 0..self.rings.len() {
                self.rings[i].enabled = true;
                self.maybe_start(i)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let slots = regions.iter().map(Slot::from).collect();
        let mem = self.map.replace(slots, files, &self.device.alarm).map_err(refuse)?;
        self.device.replace_memory(mem);
        self.map.settle();
        Ok(None)
    }

    pub(super) fn on_set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let (_, c) = self.ring(index as usize)?;
        if !num.is_power_of_two() || num > u32::from(MAX_SIZE) {
            return Err(refuse(crate::error::Error::Invalid(format!(
                "queue {index}: a size of {num}; it must be a power of two up to {MAX_SIZE}"
            ))));
        }
        c.size = num as u16;
        Ok(())
    }

    pub(super) fn on_set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.change(index as usize, |c| c.addresses = Some([descriptor, available, used]))
    }

    pub(super) fn on_set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let (_, c) = self.ring(index as usize)?;
        c.base = Some(base as u16);
        Ok(())
    }

    pub(super) fn on_set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (ring, _) = self.ring(index.into())?;
        let fd = fd.ok_or(Error::InvalidOperation("rings without a kick descriptor are not supported"))?;
        let running = ring.is_running();
        if running {
            self.device.watch(&ring, &fd).map_err(Error::ReqHandlerError)?;
        }
        let old = self.rings[usize::from(index)].kick.clone();
        self.change(index.into(), |c| c.kick = Some(Arc::new(fd)))?;
        if let Some(old) = old {
            self.device.forget(&ring, &old);
        }
        if running {
            // What was kicked on the old one in between.
            ring.nudge();
        }
        Ok(())
    }

    pub(super) fn on_set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (ring, _) = self.ring(index.into())?;
        if let Some(fd) = &fd {
            call::check(fd).map_err(refuse)?;
        }
        ring.set_call(fd);
        Ok(())
    }

    /// Nobody here writes to it: a broken ring is told in the log.
    pub(super) fn on_set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.ring(index.into()).map(|_| ())
    }

    pub(super) fn on_set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index as usize, |c| c.enabled = enable)?;
        if !enable {
            self.stop(index as usize);
        }
        Ok(())
    }

    pub(super) fn on_add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let mem = self.map.add(Slot::from(region), file, &self.device.alarm).map_err(refuse)?;
        self.device.replace_memory(mem);
        Ok(None)
    }

    pub(super) fn on_set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        let (queues, queue_size) = (given.num_queues.into(), given.queue_size);
        let area = Area::open(file, given.mmap_offset, given.mmap_size, queues, queue_size, &self.device.alarm);
        self.device.set_inflight(area.map_err(refuse)?);
        Ok(())
    }

    pub(super) fn on_remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let mem = self.map.remove(&Slot::from(region)).map_err(refuse)?;
        self.device.replace_memory(mem);
        self.map.settle();
        Ok(())
    }
}

/// Messages with an answer of their own.
impl Connection {
    /// A new area for what is in flight; the front end gives it back with SET_INFLIGHT_FD.
    pub(super) fn make_inflight(&self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let (queues, queue_size) = (wanted.num_queues, wanted.queue_size);
        if usize::from(queues) > self.rings.len() || !queue_size.is_power_of_two() || queue_size > MAX_SIZE {
            return Err(Error::InvalidParam);
        }
        let file = inflight::create(queues.into(), queue_size).map_err(refuse)?;
        let size = inflight::size(queues.into(), queue_size) as u64;
        Ok((VhostUserInflight::new(size, 0, queues, queue_size), file))
    }

    /// Begin to save the device's state into a pipe, or to load it. Every ring is stopped.
    pub(super) fn transfer_state(&mut self, direction: VhostTransferStateDirection, pipe: File) -> Result<()> {
        if self.transfer.as_mut().is_some_and(|t| !t.end()) {
            return Err(Error::InvalidOperation("an earlier transfer of the state does not end"));
        }
        self.transfer = None;
        if direction == VhostTransferStateDirection::LOAD && self.device.rings().iter().any(|r| r.is_running()) {
            return Err(Error::InvalidOperation("a state is loaded into a device whose rings are stopped"));
        }
        let begun = match direction {
            VhostTransferStateDirection::SAVE => {
                let state = self.device.exchange.ask(&self.device.events, Event::StateWanted);
                Transfer::save(pipe, state.ok_or(Error::BackendInternalError)?)
            }
            VhostTransferStateDirection::LOAD => Transfer::load(pipe),
        };
        self.transfer = Some(begun.map_err(Error::ReqHandlerError)?);
        Ok(())
    }

    /// Whether the last transfer came to a good end.
    pub(super) fn end_transfer(&mut self) -> Result<()> {
        let gone = || self.ear.as_ref().is_some_and(is_gone);
        let good = self.transfer.take().is_some_and(|transfer| match (transfer.way, transfer.finish(gone)) {
            (Way::Save, Some(_)) => true,
            (Way::Load, Some(state)) => {
                self.device.exchange.ask(&self.device.events, Event::StateGiven { state }).is_some()
            }
            (_, None) => false,
        });
        if good { Ok(()) } else { Err(Error::BackendInternalError) }
    }
}
