//! What guests ask, told to the models as it begins and ends.

use std::future::pending;

use blockyard_block::{BlockError, Extent, Write, WriteKind};
use blockyard_models::{Violation, WriteKind as Lasts};
use blockyard_runtime::IoBuffer;
use blockyard_sync::{door, first_of, note};
use blockyard_units::{ByteLen, ByteRange};

use crate::request::{Asked, CANCEL_AFTER, Request, words};
use crate::stage::{Device, Load, Models, Stage, guest_data};
use crate::tally::FLUSH;
use crate::written::GuestWrite;

/// Tags of the load's writes are above those of actors.
const FIRST_LOAD_TAG: u64 = 0x1000_0000;

/// What a request that ended well gave.
enum Answer {
    Done,
    Data(IoBuffer),
    Status(Extent),
}

/// How a request ended for its guest.
enum End {
    Answered(Result<Answer, BlockError>),
    /// Nobody waits for its end any more: it may go on, or never have begun.
    GivenUp,
    /// Guests are held.
    Held,
}

/// Makes one guest request, unless guests are held, and tells the models; whether it succeeded.
pub(crate) async fn request(stage: &Stage, device: &str, asked: &Asked, tag: u64) -> bool {
    let Asked { kind, range, .. } = *asked;
    if stage.hold.is_set() {
        note!("{kind:?} {range}: held");
        return false;
    }
    let name = device;
    let device = stage.device(name);
    let effects = stage.told.effects(name, kind);
    let number = device.invoke(&asked.places(), |models, number| {
        invoke(models, asked, (number, effects), tag, stage.world.step());
    });
    let writes = kind.writes();
    if writes {
        let wanted = kind == Request::Write && tag < FIRST_LOAD_TAG && stage.checks.has_pivoted();
        stage.writes.begin(GuestWrite { device: name.into(), range, tag }, wanted);
    }
    let tried = stage.tally.begin(true);
    let since = stage.world.observed_ns();
    let begun = stage.told.request_begins(name);
    stage.checks.writes_in_flight(i64::from(writes));
    let end = run(stage, &device, asked, tag).await;
    stage.checks.writes_in_flight(-i64::from(writes));
    let ignored = match &end {
        End::Answered(answer) => {
            let error = answer.as_ref().err();
            stage.told.request_ends(&begun, name, Some(kind), error)
        }
        End::GivenUp | End::Held => false,
    };
    let ok = matches!(end, End::Answered(Ok(_))) && !ignored;
    if ok {
        measure(stage, name, Some(asked), since);
    }
    let given_up = matches!(end, End::GivenUp);
    stage.tally.end(tried, [kind.word()].into_iter().chain(words(asked.flags)), ok);
    // That succeeded if it came before the request's end.
    if asked.cancel_after.is_some() {
        stage.tally.count(tried, CANCEL_AFTER, given_up);
    }
    // One that was given up may still write, also over what comes later.
    if writes && !given_up {
        stage.writes.end(tag, ok);
    }
    let word = match &end {
        End::Held => "held",
        End::GivenUp => "given up",
        End::Answered(Ok(_)) => "done",
        End::Answered(Err(_)) => "failed",
    };
    let verdict = device.respond(&asked.places(), |models| {
        respond(models, asked, (number, effects, ignored), end, stage)
    });
    stage.checks.judge(verdict);
    note!("{kind:?} {range}: {word}");
    ok
}

/// A request that began then has ended well.
fn measure(stage: &Stage, device: &str, asked: Option<&Asked>, since: Option<u64>) {
    if let (Some(since), Some(now)) = (since, stage.world.observed_ns()) {
        stage.checks.figures.served(device, asked, now.saturating_sub(since));
    }
}

/// The numbers of the effects of a request, the first of which is its own.
fn effects_of(number: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |again| number | again << 62)
}

fn invoke(models: &mut Models, asked: &Asked, (number, effects): (u64, u64), tag: u64, now: u32) {
    let Models { register, durability, .. } = models;
    let range = asked.range;
    for one in effects_of(number, effects) {
        match asked.kind {
            Request::Read | Request::Status => register.invoke_read(one, range),
            Request::Write | Request::Compressed => register.invoke_write(one, range, tag),
            Request::Zeroes => register.invoke_write_zeroes(one, range),
            Request::Discard => register.invoke_discard(one, range),
            Request::Copy => register.invoke_copy(one, asked.from, range),
        }
    }
    let lasts = if asked.flags.fua { Lasts::Fua } else { Lasts::Cached };
    match asked.kind {
        Request::Read | Request::Status => {}
        Request::Write | Request::Compressed => {
            durability.begin_write(number, range, tag, lasts, now);
        }
        Request::Zeroes => {
            durability.begin_write(number, range, 0, lasts, now);
        }
        Request::Discard => {
            durability.begin_write(number, range, 0, Lasts::Discard, now);
        }
        Request::Copy => {
            durability.begin_copy(number, asked.from, range, lasts, now);
        }
    }
}

fn respond(
    models: &mut Models,
    asked: &Asked,
    (number, effects, ignored): (u64, u64, bool),
    end: End,
    stage: &Stage,
) -> Result<(), Violation> {
    let Models { register, durability, forgets, .. } = models;
    match end {
        // Nobody learns of an end.
        End::Held | End::GivenUp => Ok(()),
        // What it returned is nobody's data.
        End::Answered(Ok(Answer::Data(_) | Answer::Status(_))) if ignored => {
            register.respond_failed(number)
        }
        End::Answered(Ok(Answer::Data(data))) => register.respond_read(number, &data),
        End::Answered(Ok(Answer::Status(extent))) => {
            register.respond_status(number, extent.len, extent.zero)
        }
        End::Answered(Err(_)) if !asked.kind.writes() => register.respond_failed(number),
        End::Answered(outcome) => {
            // What is forgotten is kept once there is an overlay: as if it may have failed.
            let well = outcome.is_ok() && !ignored && !*forgets;
            durability.end(number, well, stage.world.step());
            effects_of(number, effects).try_for_each(|one| register.respond_write(one, well))
        }
    }
}

/// Until it ends, is given up, or guests are held.
async fn run(stage: &Stage, device: &Device, asked: &Asked, tag: u64) -> End {
    let mut end = End::GivenUp;
    let patience = async {
        match asked.cancel_after {
            None => pending().await,
            Some(steps) => {
                for _ in 0..steps {
                    door::boundary().await;
                }
            }
        }
    };
    let request = async { end = End::Answered(submit(device, asked, tag).await) };
    let wanted = async {
        first_of(patience, request).await;
    };
    let held = first_of(stage.hold.wait(), wanted).await;
    if held && matches!(end, End::GivenUp) { End::Held } else { end }
}

async fn submit(device: &Device, asked: &Asked, tag: u64) -> Result<Answer, BlockError> {
    let Asked { kind, range, from, flags, .. } = *asked;
    let backend = &device.backend;
    let data = || guest_data(tag, range);
    let kind = match kind {
        Request::Read => return backend.read(range).await.map(Answer::Data),
        Request::Status => {
            return backend.block_status(range).await.map(|above| Answer::Status(above.extent));
        }
        Request::Copy => {
            return backend.copy_range(from, range, flags).await.map(|()| Answer::Done);
        }
        Request::Write => WriteKind::Data(data()),
        Request::Compressed => WriteKind::Compressed(data()),
        Request::Zeroes => WriteKind::Zeroes,
        Request::Discard => WriteKind::Discard,
    };
    backend.write(Write { kind, range, flags }).await.map(|()| Answer::Done)
}

/// Makes one guest flush; one that fails promises nothing.
pub(crate) async fn flush(stage: &Stage, name: &str) {
    let device = stage.device(name);
    let tried = stage.tally.begin(true);
    // Which writes have ended before it matters only if power may be lost.
    let from = if stage.world.may_lose_power() { 0 } else { u64::MAX };
    let number = device.invoke(&[ByteRange::between(from, u64::MAX)], |models, number| {
        models.durability.begin_flush(number, stage.world.step());
    });
    let since = stage.world.observed_ns();
    let begun = stage.told.request_begins(name);
    let flushed = device.backend.flush().await;
    let ignored = stage.told.request_ends(&begun, name, None, flushed.as_ref().err());
    let well = flushed.is_ok() && !ignored;
    if well {
        measure(stage, name, None, since);
    }
    device.note(|models| models.durability.end(number, well, stage.world.step()));
    stage.tally.end(tried, [FLUSH], well);
}

/// Writes at random places until no actor is at work any more, or it has made all its writes.
pub(crate) async fn run_load(stage: &Stage, load: &Load) {
    let Some(options) = &stage.script.load else { return };
    let runtime = stage.world.runtime();
    let device = stage.device(&options.device);
    let size = device.backend.len().map_or(0, |len: ByteLen| len.0);
    let places = size / options.length.0;
    if places == 0 {
        let (length, device) = (options.length.0, &options.device);
        let message = format!("load: {length} bytes do not fit {device}, which has {size}");
        stage.world.report("script", message);
        return;
    }
    let began = runtime.now_ns();
    let mut written = 0;
    while stage.at_work.read(|left| *left > 0) && !stage.hold.is_set() {
        if options.writes.is_some_and(|most| written >= most) {
            stage.checks.figures.load_is_over();
            return;
        }
        let offset = (runtime.random_u64() % places) * options.length.0;
        let asked = Asked::plain(Request::Write, ByteRange::new(offset, options.length.0));
        let tag = FIRST_LOAD_TAG + written;
        written += 1;
        if request(stage, &options.device, &asked, tag).await {
            load.writes.add(|writes| *writes += 1);
            stage.world.load_wrote();
        }
        let due = began.saturating_add(written.saturating_mul(options.every));
        // A load that is late lets others go on all the same.
        runtime.sleep(due.saturating_sub(runtime.now_ns())).await;
    }
}
