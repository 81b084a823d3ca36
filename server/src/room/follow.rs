//! Following the log: one reader per server fills the window, and begins again where it was when it is cut off.

use std::{
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use papo_telemetry::Latch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    Room,
    fanout::Sink,
    window::{Pushed, Size, Window},
};
use crate::{
    backoff::Backoff,
    broker::{Attached, Broker, ReadError, Reader, Start, Stored},
};

/// Why the reading has ended.
enum Ended {
    /// The broker cannot or will not go on.
    Failed(ReadError),
    /// Nobody needs it.
    Unwanted,
}

/// Follows the log for ever. The latch is ready while this server has all there is, or can have it when it is needed.
pub(super) async fn follow<B: Broker, S: Sink>(room: &Room<B, S>, latch: Latch) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    latch.not_ready("the log has not been read yet");
    loop {
        let before = *room.log.tail.borrow();
        let error = match follow_once(room, &latch).await {
            Ended::Failed(error) => error,
            Ended::Unwanted => {
                debug!("nobody is here: the log is not read");
                room.demand.wanted().await;
                backoff.reset();
                continue;
            }
        };
        latch.not_ready(format!("the log: {error}"));
        if *room.log.tail.borrow() != before {
            backoff.reset();
        }
        let wait = backoff.delay();
        warn!(%error, retry_in = ?wait, "cannot read the log");
        sleep(wait).await;
    }
}

/// Attaches where the window ends, and reads on until that fails or is not needed any more.
async fn follow_once<B: Broker, S: Sink>(room: &Room<B, S>, latch: &Latch) -> Ended {
    let mut attached = match attach(room).await {
        Ok(attached) => attached,
        Err(error) => return Ended::Failed(error),
    };
    info!(epoch = %attached.epoch, bounds = ?attached.bounds, from = attached.from, "reading the log");
    let mut unwanted = pin!(room.demand.unwanted(room.reader_idle_timeout));
    let mut caught_up = false;
    loop {
        if !caught_up && room.log.tail.borrow().next >= Some(attached.bounds.end) {
            caught_up = true;
            room.log.tail.send_modify(|tail| tail.asleep = false);
            latch.ready();
        }
        tokio::select! {
            records = attached.reader.next() => match records {
                Ok(records) => take_in(room, &records),
                Err(error) => return Ended::Failed(error),
            },
            () = &mut unwanted, if caught_up => {
                room.log.tail.send_modify(|tail| tail.asleep = true);
                return Ended::Unwanted;
            }
        }
    }
}

/// Attaches, and begins the window anew when it cannot be continued: another log, a shorter one, or a hole.
async fn attach<B: Broker, S: Sink>(room: &Room<B, S>) -> Result<Attached<B::Reader>, ReadError> {
    let place = room
        .log
        .window
        .read()
        .as_ref()
        .map(|window| (window.epoch().clone(), window.next()));
    let (start, due) = match place {
        Some((epoch, next)) => (Start::At(epoch, next), Some(next)),
        None => (Start::BeforeEnd(Window::WARM_UP), None),
    };
    let asleep = room.log.tail.borrow().asleep;
    let newest = Start::BeforeEnd(Window::WARM_UP);
    let attached = match room.broker.attach(start).await {
        // More has come while nobody was here than the window holds.
        Ok(attached) if asleep && attached.bounds.end - attached.from > Window::WARM_UP => {
            room.broker.attach(newest).await?
        }
        Ok(attached) if due == Some(attached.from) => return Ok(attached),
        Ok(attached) => attached,
        Err(error @ (ReadError::EpochChanged { .. } | ReadError::BeyondEnd { .. })) => {
            warn!(%error, "the window belongs to a log that is no more");
            room.broker.attach(newest).await?
        }
        Err(error) => return Err(error),
    };
    begin_anew(room, &attached);
    Ok(attached)
}

fn begin_anew<B: Broker, S: Sink>(room: &Room<B, S>, attached: &Attached<B::Reader>) {
    let window = Window::new(
        attached.epoch.clone(),
        &attached.bounds,
        attached.from,
        Size::default(),
    );
    let next = Some(window.next());
    // Held until the generation is told: no cursor of before may meet the window of now.
    let mut current = room.log.window.write();
    *current = Some(window);
    room.log.tail.send_modify(|tail| {
        tail.generation += 1;
        tail.next = next;
    });
}

/// Takes records into the window, tells those who wait for them, then wakes the members' cursors.
fn take_in<B: Broker, S: Sink>(room: &Room<B, S>, records: &[Stored]) {
    let mut window = room.log.window.write();
    let Some(window) = window.as_mut() else {
        return;
    };
    for stored in records {
        match window.push(stored) {
            Pushed::Shown(key, message) => {
                observe(room, stored);
                room.outcomes.tell(&key, message.offset());
            }
            Pushed::Copy(key, earlier) => {
                debug!(offset = stored.offset, earlier, "a second copy");
                room.metrics.copies.inc();
                room.outcomes.tell(&key, earlier);
            }
            Pushed::Nothing => {}
        }
    }
    let next = Some(window.next());
    room.log.tail.send_modify(|tail| tail.next = next);
}

fn observe<B: Broker, S: Sink>(room: &Room<B, S>, stored: &Stored) {
    let Some(record) = &stored.record else { return };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let taken = Duration::from_millis(record.at.try_into().unwrap_or_default());
    room.metrics.read(now.saturating_sub(taken));
    if let Some(trace) = &stored.trace {
        let span = tracing::info_span!("deliver", otel.kind = "consumer", offset = stored.offset, id = %record.id);
        let parent = papo_telemetry::extract(|header| match header {
            "traceparent" => Some(trace.parent.clone()),
            "tracestate" => Some(trace.state.clone()),
            _ => None,
        });
        if let Some(parent) = parent {
            papo_telemetry::set_parent(&span, parent);
        }
        span.in_scope(|| debug!("read from the log"));
    }
}
