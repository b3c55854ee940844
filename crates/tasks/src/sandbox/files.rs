//! Which files a program may open: Landlock, over whatever root it has.

use super::{Means, root};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use std::path::{Path, PathBuf};

/// What is asked for; an older kernel gives what it has.
const WANTED: ABI = ABI::V7;
/// The first version that guards everything by which a file can be changed in content (`truncate` came last). Less
/// does not do where Landlock stands alone.
const ALONE: ABI = ABI::V3;

/// Leave this process `view` to read, and `folder` to use. Returns the version of Landlock in force, if any.
pub fn restrict(view: &[PathBuf], folder: &Path, means: Means) -> Result<Option<i32>, String> {
    let status = apply(view, folder, means).map_err(|error| format!("Landlock: {error}"))?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as i32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    })
}

fn apply(view: &[PathBuf], folder: &Path, means: Means) -> Result<RestrictionStatus, RulesetError> {
    let needed = match means {
        Means::Namespaces => CompatLevel::BestEffort,
        Means::Landlock => CompatLevel::HardRequirement,
    };
    let mut ruleset = Ruleset::default()
        .set_compatibility(needed)
        .handle_access(AccessFs::from_all(ALONE))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    // Nothing written in there is ever executed, and no device or socket made.
    let never = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::MakeSock;
    let own = AccessFs::from_all(WANTED) & !never & !BitFlags::from(AccessFs::IoctlDev);
    let read = AccessFs::from_read(WANTED);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let rules = view.iter().map(|path| (path.as_path(), read));
    let rules = rules.chain(root::DEVICES.iter().map(|path| (Path::new(*path), device)));
    for (path, access) in rules.chain([(folder, own)]) {
        // A part of the system that this one does not have.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
    }
    ruleset.restrict_self()
}
