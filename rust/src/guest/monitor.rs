//! What a virtual machine monitor does to a device beside starting and stopping its rings: resets of every kind, memory, eventfds,
//! the end.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::error::{GuestError, Result};
use super::memory::Region;
use super::poll::wait_or_hangup;
use super::sound::Driver;

/// What a virtual machine monitor says when its guest is reset (they differ much).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetStyle {
    /// ENABLE 0 and GET_VRING_BASE of every ring; then SET_FEATURES, memory, bases 0.
    Qemu,
    /// The same, without SET_FEATURES.
    Crosvm,
    /// ENABLE 0 only; then SET_OWNER again, memory before SET_FEATURES, bases 0.
    Libkrun,
    /// RESET_DEVICE; then as QEMU.
    ResetDevice,
}

impl Driver {
    /// Reset as a VMM does when its guest is rebooted: streams are cut off, memory is zeroed, rings begin anew.
    pub fn reset(&self, style: ResetStyle) -> Result<()> {
        self.abort("the guest was reset");
        {
            let frontend = self.frontend();
            match style {
                ResetStyle::ResetDevice => frontend.reset_device()?,
                _ => self.disable(&frontend)?,
            }
            if matches!(style, ResetStyle::Qemu | ResetStyle::Crosvm) {
                for i in 0..self.queues.len() {
                    frontend.get_vring_base(i)?;
                }
            }
            if style == ResetStyle::Libkrun {
                frontend.set_owner()?;
            }
            // So that nothing is zeroed under a device that still works.
            frontend.get_features()?;
        }
        self.reboot(true)?;
        self.set_up(style != ResetStyle::Crosvm, style == ResetStyle::Libkrun)?;
        self.start_rings(&[0; 4])
    }

    /// The guest's part of a reset: streams are cut off, the rings and the event buffers are new. `zero`: the machine was
    /// reset and its memory is empty; without, a driver was loaded again or another kernel took over. The device is told nothing.
    pub fn reboot(&self, zero: bool) -> Result<()> {
        self.abort("the guest was reset");
        if zero {
            self.ram.zero()?;
        }
        self.ram.free_all();
        for queue in &self.queues {
            queue.lock().renew()?;
        }
        if self.options.events {
            self.events.fill()?;
        }
        Ok(())
    }

    /// Tell the device of the memory again (SET_MEM_TABLE): it maps everything anew while rings run.
    pub fn remap(&self) -> Result<()> {
        let frontend = self.frontend();
        frontend.set_mem_table(self.ram.regions())?;
        frontend.get_features().map(|_| ())
    }

    /// Tell the device of one region more (ADD_MEM_REG), one that was removed before.
    pub fn add_region(&self, region: usize) -> Result<()> {
        let frontend = self.frontend();
        frontend.add_mem_region(self.region(region)?)?;
        frontend.get_features().map(|_| ())
    }

    /// Take a region away from the device (REM_MEM_REG); it stays mapped here.
    pub fn remove_region(&self, region: usize) -> Result<()> {
        let frontend = self.frontend();
        frontend.remove_mem_region(self.region(region)?)?;
        frontend.get_features().map(|_| ())
    }

    fn region(&self, i: usize) -> Result<&Region> {
        let regions = self.ram.regions();
        regions.get(i).ok_or_else(|| GuestError::Invalid(format!("region {i}: the guest has {}", regions.len())))
    }

    /// Give the device a new kick eventfd for a running ring.
    pub fn replace_kick(&self, i: usize) -> Result<()> {
        let frontend = self.frontend();
        let mut queue = self.queue(i)?.lock();
        queue.replace_kick()?;
        frontend.set_vring_kick(i, queue.kick_fd())?;
        drop(queue);
        frontend.get_features().map(|_| ())
    }

    /// Give the device a new call eventfd for a running ring.
    pub fn replace_call(&self, i: usize) -> Result<()> {
        let frontend = self.frontend();
        let mut queue = self.queue(i)?.lock();
        let old = queue.replace_call()?;
        frontend.set_vring_call(i, queue.call_fd())?;
        drop(queue);
        frontend.get_features()?;
        // What was signalled in between is lost: whoever waits looks at the ring.
        old.write(1).map_err(GuestError::system("eventfd"))
    }

    pub(super) fn abort(&self, why: &str) {
        for pump in &self.pumps {
            pump.abort(why);
        }
    }

    /// Cut the connection as a killed VMM does.
    pub fn kill(&self) {
        let frontend = self.frontend();
        // First, so that nobody takes the end of the connection for the device's doing.
        self.abort("the guest was killed");
        frontend.kill();
    }

    /// End in good order: stop the rings, then close the connection.
    pub fn close(&self) -> Result<()> {
        self.abort("the guest was shut down");
        let stopped = self.stop_rings();
        self.frontend().kill();
        stopped.map(|_| ())
    }

    /// Wait until the device closed the connection. False: not within `limit`.
    pub fn wait_closed(&self, limit: Duration) -> Result<bool> {
        // A descriptor of its own: the connection is not locked meanwhile.
        let socket = self.frontend().watch()?;
        let end = Instant::now().checked_add(limit);
        Ok(wait_or_hangup(&[], socket.as_raw_fd(), end)?.1)
    }

    /// Any vhost-user message. With `reply`, the body of the answer.
    pub fn message(&self, code: u32, flags: u32, body: &[u8], fds: &[RawFd], reply: bool) -> Result<Vec<u8>> {
        let frontend = self.frontend();
        frontend.send_raw(code, flags, body, fds)?;
        if !reply {
            return Ok(Vec::new());
        }
        Ok(frontend.recv_raw(&format!("vhost-user message {code}"))?.body)
    }
}
