//! Repairing an image, in steps of which each leaves it no worse, so that it may end anywhere.
//!
//! | step | why then |
//! |---|---|
//! | counts are raised, or all made anew | covers all references: what is free is free |
//! | data where they may not be are copied | to what is free |
//! | COPIED flags go | nothing is written in place that others refer to |
//! | counts are lowered | only what nothing refers to becomes free |
//! | COPIED flags come | of what is, durably, referred to once |
//! | the dirty and the corrupt bit go | only if nothing is wrong |
//!
//! Nothing is guessed: references stay, so do data. What is wrong with them otherwise is told and left, and then no
//! count is lowered and nothing is allocated.

use super::pass::{Action, Needs, run};
use super::report::Check;
use super::{CheckOptions, Watch};
use crate::error::ImageError;
use crate::file::ImageFile;
use crate::header::incompatible;
use crate::image::read_header;

/// What is to be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Leaks: only what costs space, or time.
    Leaks,
    /// What is wrong, as well.
    All,
}

/// Where in the header the incompatible features stand.
const FEATURES: u64 = 72;

/// Checks the image in `file`, whose external data file is `data`, repairs what can be, and checks what has become of
/// it. If nothing is wrong nothing is written. Nobody else uses the image meanwhile.
///
/// # Errors
/// It is no image, the file failed, or `watch` said no: the image is as it was, or better.
///
/// # Yields
/// As the file does.
pub async fn repair(
    file: ImageFile<'_>,
    data: Option<ImageFile<'_>>,
    what: Repair,
    options: CheckOptions,
    watch: &mut Watch<'_>,
) -> Result<Check, ImageError> {
    let files = (file, data);
    let (before, needs) = run(files, options, Action::Look, watch).await?;
    let (mut check, mut needs) = (before.clone(), needs);
    if what == Repair::All && !before.is_sound() {
        let changed = mend(files, needs, options, watch).await?;
        if changed {
            (check, needs) = run(files, options, Action::Look, watch).await?;
        }
    }
    let lower = check.leaks > 0 && !needs.unfollowed && !needs.rebuild;
    if lower {
        run(files, options, Action::Lower, watch).await?;
        // A flag says that a count is 1: that is durable before it is.
        file.flush().await?;
        (check, needs) = run(files, options, Action::Look, watch).await?;
    }
    if check.clear_flags > 0 && !needs.copy && !needs.rebuild && !needs.unfollowed {
        run(files, options, Action::Set, watch).await?;
        (check, _) = run(files, options, Action::Look, watch).await?;
    }
    if check.is_sound() {
        clear_marks(file, what).await?;
    }
    file.flush().await?;
    check.corruptions_fixed = before.corruptions.saturating_sub(check.corruptions);
    check.leaks_fixed = before.leaks.saturating_sub(check.leaks);
    Ok(check)
}

/// Puts what is wrong right, as far as it can be; whether anything was changed.
async fn mend(
    files: (ImageFile<'_>, Option<ImageFile<'_>>),
    needs: Needs,
    options: CheckOptions,
    watch: &mut Watch<'_>,
) -> Result<bool, ImageError> {
    let (file, _) = files;
    // What lies behind the end of the file, or is not counted, may be what somebody refers to who cannot be followed.
    let rebuild = needs.rebuild && !needs.unfollowed;
    // What is encrypted is so by where it is.
    let movable = read_header(file).await?.encryption == 0;
    let copy = needs.copy && !needs.unfollowed && movable;
    if rebuild {
        run(files, options, Action::Rebuild, watch).await?;
    } else if needs.raise && !needs.rebuild {
        run(files, options, Action::Raise, watch).await?;
    }
    if copy {
        run(files, options, Action::Copy, watch).await?;
    }
    let (_, left) = run(files, options, Action::Look, watch).await?;
    // A table that is in guest data, or has them in it, is better not written.
    let clear = left.clear && !left.copy && !left.rebuild && !left.unfollowed;
    if clear {
        run(files, options, Action::Clear, watch).await?;
    }
    Ok(rebuild || needs.raise || copy || clear)
}

/// Nothing is wrong, so the image need not say that it may be.
async fn clear_marks(file: ImageFile<'_>, what: Repair) -> Result<(), ImageError> {
    let header = read_header(file).await?;
    let marks = match what {
        Repair::Leaks => incompatible::DIRTY,
        Repair::All => incompatible::DIRTY | incompatible::CORRUPT,
    };
    if header.version < 3 || header.incompatible & marks == 0 {
        return Ok(());
    }
    file.flush().await?;
    let features = header.incompatible & !marks;
    Ok(file.write(FEATURES, features.to_be_bytes().to_vec().into()).await?)
}
