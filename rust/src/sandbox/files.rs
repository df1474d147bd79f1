//! Which files the process reaches: Landlock. It holds for the calling thread and those it makes, so it comes first.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

use super::Permit;

/// What is asked of every kernel that has Landlock; the first that also guards truncation (Linux 6.2).
const NEEDED: ABI = ABI::V3;
/// What is asked of kernels that have it: device ioctls, TCP, signals, abstract sockets.
const WANTED: ABI = ABI::V6;

/// What can still be reached. Paths that do not exist are left out.
#[derive(Debug)]
pub struct Reach {
    /// Files, and directories with all that is below them.
    pub read: Vec<PathBuf>,
    /// Files that are written, and directories in which files are made, written and removed.
    pub write: Vec<PathBuf>,
    /// Directories in which sockets are made and removed.
    pub sockets: Vec<PathBuf>,
}

/// The rights that mean something for a path: a directory's for a directory.
fn rights(path: &Path, wanted: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { wanted } else { wanted & AccessFs::from_file(WANTED) }
}

/// Give up everything beyond `reach`, for ever. Returns the version of Landlock's interface that did it: 0 if the kernel
/// has none.
///
/// TCP and abstract sockets are left to those with `Permit::Network`, starting what can be read to those with
/// `Permit::Processes`.
///
/// `required`: fail unless the kernel guards at least every kind of access to files.
pub fn restrict(reach: &Reach, permits: &[Permit], required: bool) -> Result<i32, RulesetError> {
    let mut reading = AccessFs::ReadFile | AccessFs::ReadDir;
    if permits.contains(&Permit::Processes) {
        reading |= AccessFs::Execute;
    }
    let writing = AccessFs::from_write(WANTED) & !(AccessFs::MakeChar | AccessFs::MakeBlock) | reading;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
    let level = if required { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
    let mut ruleset = Ruleset::default()
        .set_compatibility(level)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .scope(Scope::Signal)?;
    if !permits.contains(&Permit::Network) {
        ruleset = ruleset.handle_access(AccessNet::from_all(WANTED))?.scope(Scope::AbstractUnixSocket)?;
    }
    let mut created = ruleset.create()?;
    for (paths, wanted) in [(&reach.read, reading), (&reach.write, writing), (&reach.sockets, sockets)] {
        for path in paths {
            let wanted = rights(path, wanted);
            if let (false, Ok(fd)) = (wanted.is_empty(), PathFd::new(path)) {
                created = created.add_rule(PathBeneath::new(fd, wanted))?;
            }
        }
    }
    Ok(version(&created.restrict_self()?))
}

fn version(status: &RestrictionStatus) -> i32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    }
}
