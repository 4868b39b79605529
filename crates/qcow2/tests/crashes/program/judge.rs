//! What is right at the end of an execution, and after a power loss.

use super::*;

impl Run {
    /// The image was closed: it is in order, and has no leak unless something failed.
    pub(super) fn judge_end(&self) -> Result<(), Violation> {
        if self.tools.program.is_found_corrupt {
            return Ok(());
        }
        let is_made = self.tools.observed.with(|observed| observed.made.is_some());
        if self.tools.program.made.is_some() && !is_made {
            return Ok(());
        }
        let checked = self.tools.disk.0.observe_quietly(|disk| {
            let mut bytes = |range: ByteRange| {
                let [from, to] =
                    [range.start(), range.end()].map(|at| (at as usize).min(disk.len()));
                let mut bytes = disk[from..to].to_vec();
                bytes.resize(range.len().as_usize(), 0);
                Some(bytes)
            };
            Qcow2::of(&mut bytes).and_then(|image| {
                if image.is_dirty && self.tools.program.faulty {
                    // It could not be repaired, and says so.
                    return Ok((0, None));
                }
                let leaks = image.check(&mut bytes)?;
                let has_bitmap = self.tools.program.bitmap.is_some();
                let dirty = if has_bitmap { stored_bitmap(&image, &mut bytes)? } else { None };
                Ok((leaks, dirty))
            })
        });
        let dirty = checked.as_ref().ok().and_then(|(_, dirty)| dirty.clone());
        let checked = checked.map(|(leaks, _)| leaks);
        if let Some(dirty) = &dirty {
            self.tools.observed.with(|observed| observed.judge_stored(dirty))?;
        } else if self.tools.program.bitmap.is_some() && !self.tools.program.faulty {
            return Err(unsound("the bitmap is in use, and nothing failed".into()));
        }
        match checked {
            Err(Stopped::Broken(violation)) => Err(violation),
            Err(Stopped::Unread(range)) => unreachable!("everything is read, {range} too"),
            Ok(leaks) if leaks > 0 && !self.tools.program.faulty => {
                Err(broken(format!("{leaks} clusters have leaked, and nothing failed")))
            }
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn judge_recovery(&self, cut: &Cut) -> Result<(), Violation> {
        let happened = |step: u32| cut.contains(step);
        self.tools.observed.with(|observed| match observed.found.take() {
            // A fault may hit recovery.
            None | Some(Found::Nothing) => Ok(()),
            Some(Found::Unreadable(ImageError::File(_))) => Ok(()),
            // It was not there yet.
            Some(Found::Unreadable(ImageError::Unsupported(_)))
                if self.tools.program.made.is_some() && !observed.made.is_some_and(happened) =>
            {
                Ok(())
            }
            Some(Found::Unreadable(error)) => Err(broken(error.to_string())),
            Some(Found::Repaired { is_dirty, checked }) => {
                let is_over = observed.made.is_some_and(happened);
                match checked {
                    _ if is_over && is_dirty => Err(broken("it was repaired, and is dirty".into())),
                    Ok(leaks @ 1..) if is_over => {
                        Err(broken(format!("it was repaired, and {leaks} clusters have leaked")))
                    }
                    Err(_) if is_dirty && !is_over => Ok(()),
                    checked => checked.map(drop),
                }
            }
            Some(Found::Checked(checked)) => checked.map(drop),
            // That it is could not be written, if the file failed.
            Some(Found::Marked(is_marked)) => {
                let told = observed.corrupt.is_some_and(happened) && !self.tools.program.faulty;
                if told && !is_marked {
                    let message = "somebody was told that it is corrupt, and it does not say so";
                    return Err(broken(message.into()));
                }
                Ok(())
            }
            Some(Found::Bitmap { dirty, changed }) => {
                if let Some(lost) = changed.difference(&dirty).next() {
                    return Err(unsound(format!(
                        "granule {lost} was written, and the image vouches for what lacks it"
                    )));
                }
                if self.tools.program.has_autoclear {
                    Ok(())
                } else {
                    observed.judge_stored(&dirty)
                }
            }
            Some(Found::Read { len, range, bytes }) => {
                observed.judge_len(len, &happened)?;
                let (inside, behind) = bytes
                    .split_at((len.clamp(range.start(), range.end()) - range.start()) as usize);
                if behind.iter().any(|byte| *byte != 0) {
                    let message =
                        format!("behind the end at {len} the disk grows by what was there");
                    return Err(Violation { property: Property::Durability, message });
                }
                let inside_range = ByteRange::new(range.start(), inside.len() as u64);
                observed.durability.check(inside_range, inside, &happened)
            }
        })
    }
}

/// What is dirty in the bitmap of an image, unless it is in use.
pub(super) fn stored_bitmap(
    image: &Qcow2,
    bytes: &mut Bytes<'_>,
) -> Result<Option<Granules>, Stopped> {
    let all = image.bitmaps(bytes)?;
    let Some(bitmap) = all.iter().find(|bitmap| bitmap.name == "b") else {
        return Err(Stopped::Broken(unsound("the bitmap is gone".into())));
    };
    if bitmap.in_use { Ok(None) } else { image.dirty(bytes, bitmap).map(Some) }
}

pub(super) fn broken(message: String) -> Violation {
    Violation { property: Property::MetadataIntegrity, message }
}

fn unsound(message: String) -> Violation {
    Violation { property: Property::BitmapSoundness, message }
}

impl Observed {
    /// The bitmap is one that was stored.
    fn judge_stored(&self, dirty: &Granules) -> Result<(), Violation> {
        if self.stored.contains(dirty) {
            return Ok(());
        }
        Err(unsound(format!("the bitmap has {dirty:?}, and was stored with {:?}", self.stored)))
    }

    /// The length is the last one that was promised, or one that came later.
    fn judge_len(&self, len: u64, happened: &dyn Fn(u32) -> bool) -> Result<(), Violation> {
        let promised = |(_, _, ended): &(u64, u32, Option<u32>)| ended.is_some_and(happened);
        let last = self.lens.iter().rposition(promised).unwrap_or(0);
        if self.lens[last..].iter().any(|(later, ..)| *later == len) {
            return Ok(());
        }
        let message = format!("the disk has {len} bytes, and {} were promised", self.lens[last].0);
        Err(Violation { property: Property::Durability, message })
    }
}
