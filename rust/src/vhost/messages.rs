//! Every vhost-user message that a front end may send, as the vhost crate tells them apart: what is answered at once, and what is
//! handed to the connection.

use std::fs::File;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserProtocolFeatures as Protocol, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Backend, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::connection::Connection;
use super::events::Event;
use super::memory::MAX_SLOTS;

/// What is offered of the protocol.
const PROTOCOL: Protocol = Protocol::MQ
    .union(Protocol::CONFIG)
    .union(Protocol::REPLY_ACK)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::INFLIGHT_SHMFD)
    .union(Protocol::DEVICE_STATE);

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

impl VhostUserBackendReqHandlerMut for Connection {
    /// Said again by libkrun after a guest's reset.
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.rings.iter_mut().for_each(|c| c.enabled = false);
        for i in 0..self.rings.len() {
            self.stop(i);
        }
        self.device.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let r = self.on_set_features(features);
        self.note(r)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let r = self.on_set_mem_table(regions, files, _postcopy);
        self.note(r)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let r = self.on_set_vring_num(index, num);
        self.note(r)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let r = self.on_set_vring_addr(index, _flags, descriptor, used, available, _log);
        self.note(r)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let r = self.on_set_vring_base(index, base);
        self.note(r)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (ring, _) = self.ring(index as usize)?;
        self.stop(index as usize);
        ring.set_call(None);
        let c = &mut self.rings[index as usize];
        c.kick = None;
        let base = c.base.unwrap_or_else(|| ring.base());
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let r = self.on_set_vring_kick(index, fd);
        self.note(r)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let r = self.on_set_vring_call(index, fd);
        self.note(r)
    }

    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        let r = self.on_set_vring_err(index, _fd);
        self.note(r)
    }

    fn get_protocol_features(&mut self) -> Result<Protocol> {
        Ok(PROTOCOL)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        // A front end may say all that it knows; what was not offered is off.
        self.protocol = features & PROTOCOL.bits();
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.rings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let r = self.on_set_vring_enable(index, enable);
        self.note(r)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Ok(self.device.config(offset, size))
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.device.events.push(Event::ConfigWritten { offset, data: data.to_vec() });
        Ok(())
    }

    fn set_backend_req_fd(&mut self, _backend: Backend) {}

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        unsupported("GPU sockets")
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported("shared objects")
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        self.make_inflight(wanted)
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        let r = self.on_set_inflight_fd(given, file);
        self.note(r)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_SLOTS)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let r = self.on_add_mem_region(region, file, _postcopy);
        self.note(r)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let r = self.on_remove_mem_region(region);
        self.note(r)
    }

    fn set_device_state_fd(
        &mut self,
        direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        pipe: File,
    ) -> Result<Option<File>> {
        self.transfer_state(direction, pipe)?;
        Ok(None)
    }

    fn check_device_state(&mut self) -> Result<()> {
        self.end_transfer()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported("shared memory regions")
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported("dirty logging")
    }
}
