//! What a fuzzer found, or a reader feared: the fault of a front end or a guest must end with itself.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;

use _core::guest::{Options, RingAddr, wire};
use common::{Rig, is_alive};

/// The index of an available ring can be read and its entries cannot: the worker looked for them for ever, with the ring's
/// lock, and the connection could not be ended either.
#[test]
fn a_ring_whose_entries_are_taken_away_is_broken_and_alone() {
    const BORDER: u64 = 1 << 20;
    let rig = Rig::new(&[false]);
    let regions = vec![(0, BORDER), (BORDER, 16 << 20)];
    let driver = rig.connect(Options { regions, ..Options::default() });
    let ram = driver.ram();
    // Room for two entries before the border.
    let avail = BORDER - 8;
    let (desc, used) = (ram.alloc_ring(16 * 64, 16).unwrap(), ram.alloc_ring(6 + 8 * 64, 16).unwrap());
    ram.write(desc, &[0; 16 * 64]).unwrap();
    ram.write(avail, &[0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
    driver.stop_one(wire::TX).expect("stop");
    {
        let (frontend, user) = (driver.frontend(), |addr| ram.user_addr(addr));
        let at = RingAddr { desc: user(desc), used: user(used), avail: user(avail) };
        frontend.set_vring_addr(wire::TX, at).expect("addresses");
        frontend.set_vring_base(wire::TX, 0).expect("base");
        frontend.set_vring_kick(wire::TX, driver.queue(wire::TX).unwrap().lock().kick_fd()).expect("kick");
        frontend.get_features().expect("the ring has started");
    }
    driver.remove_region(1).expect("removed");
    ram.write(avail + 2, &[5, 0]).unwrap();
    let ring = &rig.server.device().rings()[wire::TX];
    driver.queue(wire::TX).unwrap().lock().kick();
    rig.until("the end of the ring", || !ring.is_running());
    assert_eq!(ring.stats.popped.load(Relaxed), 2);
    driver.add_region(1).expect("added");
    is_alive(&driver);
    driver.close().expect("close");
    is_alive(&rig.connect(Options::default()));
}

/// The vhost crate tries for ever to send a reply that finds no room: whoever does not read held the only place.
#[test]
fn a_front_end_that_does_not_read_its_replies_is_dropped() {
    let rig = Rig::new(&[false]);
    let mut flood = UnixStream::connect(&rig.path).expect("connect");
    let get_features: Vec<u8> = [1u32, 1, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    while flood.write_all(&get_features).is_ok() {}
    is_alive(&rig.connect(Options::default()));
}
