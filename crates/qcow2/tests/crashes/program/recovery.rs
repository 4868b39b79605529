//! What is looked at when power comes back: one thing, of what is left.

use super::*;

impl Tools {
    /// Looks at one thing, whichever: so that what a power loss left of the others needs no decision.
    pub(super) async fn recover(self, looked_at: Vec<ByteRange>) {
        let has_bitmap = self.program.bitmap.is_some() || self.program.has_autoclear;
        let things = looked_at.len() + 1 + usize::from(has_bitmap);
        let thing = self.runtime.choose(u32::try_from(things).expect("tests are small")).await;
        let found = match thing.checked_sub(1) {
            None => self.check().await,
            Some(index) => match looked_at.get(index as usize) {
                Some(range) => self.look(*range).await,
                None => self.look_at_bitmap(looked_at).await,
            },
        };
        let found = found.unwrap_or_else(Found::Unreadable);
        self.observed.with(|observed| observed.found = Some(found));
    }

    async fn check(&self) -> Result<Found, ImageError> {
        if self.program.is_found_corrupt {
            let is_marked = self.model(|image, _| Ok(image.is_corrupt)).await;
            return Ok(is_marked.and_then(Result::ok).map_or(Found::Nothing, Found::Marked));
        }
        let check = async || self.model(|image, bytes| image.check(bytes)).await;
        let is_marked = self.model(|image, _| Ok(image.is_dirty)).await;
        if self.program.is_repaired {
            let Some((Ok(is_dirty), checked)) = is_marked.zip(check().await) else {
                return Ok(Found::Nothing);
            };
            return Ok(Found::Repaired { is_dirty, checked });
        }
        // Only one that says that it may be wrong is repaired when it is opened.
        if is_marked == Some(Ok(false))
            && let Some(wrong @ Err(_)) = check().await
        {
            return Ok(Found::Checked(wrong));
        }
        // The image opens.
        self.open().await?;
        Ok(check().await.map_or(Found::Nothing, Found::Checked))
    }

    /// What the model says of what is there; nothing, if a fault hits recovery.
    async fn model<T>(
        &self,
        look: impl Fn(&Qcow2, &mut Bytes<'_>) -> Result<T, Stopped>,
    ) -> Option<Result<T, Violation>> {
        let mut known = BTreeMap::new();
        loop {
            let mut bytes = |range: ByteRange| known.get(&(range.start(), range.end())).cloned();
            match Qcow2::of(&mut bytes).and_then(|image| look(&image, &mut bytes)) {
                Ok(found) => return Some(Ok(found)),
                Err(Stopped::Broken(violation)) => return Some(Err(violation)),
                Err(Stopped::Unread(range)) => {
                    let inside = range.intersection(&ByteRange::new(0, self.disk.len().0));
                    let mut read = Vec::new();
                    if !inside.is_empty() {
                        read.extend_from_slice(&self.disk.read(inside).await.ok()?);
                    }
                    read.resize(range.len().as_usize(), 0);
                    known.insert((range.start(), range.end()), read);
                }
            }
        }
    }

    /// Which granules are dirty, if the bitmap is not in use; and which have other data than in the beginning.
    async fn look_at_bitmap(&self, looked_at: Vec<ByteRange>) -> Result<Found, ImageError> {
        let dirty = match self.model(self.program.vouched()).await {
            None | Some(Ok(None)) => return Ok(Found::Nothing),
            Some(Ok(Some(dirty))) => dirty,
            Some(Err(violation)) => return Ok(Found::Checked(Err(violation))),
        };
        let image = self.open().await?;
        let files = files(&self.disk, self.data.as_deref());
        let mut changed = Granules::new();
        for range in looked_at {
            let mut before = vec![0; range.len().as_usize()];
            if let Some((_, tag)) = self.program.filled.iter().find(|(filled, _)| *filled == range)
            {
                data::fill_pattern(*tag, range, &mut before);
            }
            if *image.read(&files, range, ReadFlags::default()).await? != before[..] {
                changed.insert(range.start() / CLUSTER);
            }
        }
        Ok(Found::Bitmap { dirty, changed })
    }

    async fn look(&self, range: ByteRange) -> Result<Found, ImageError> {
        let image = self.open().await?;
        let files = files(&self.disk, self.data.as_deref());
        let len = image.len().0;
        if len < range.end() {
            let len = ByteLen(range.end().next_multiple_of(CLUSTER));
            let truncate = Truncate { len, preallocation: Preallocation::Off };
            image.truncate(&files, truncate).await?;
        }
        let bytes = image.read(&files, range, ReadFlags::default()).await?;
        Ok(Found::Read { len, range, bytes })
    }
}
