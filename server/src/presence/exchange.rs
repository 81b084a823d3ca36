//! The exchange of presence and typing: tells other servers of this server's members, and members of everybody.

use std::time::{Duration, Instant};

use papo_protocol::{
    Position, event,
    topology::{PRESENCE_KEY, TYPING_KEY},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval},
};

use super::{
    Presence, event_frame,
    report::Report,
    roster::{PresenceEvent, REPEAT, Roster},
};
use crate::{
    broker::{Broker, Signal},
    chat::{Member, Rate},
    fanout::{Notice, Notices},
};

/// How long changes are gathered: a thousand members that join at once are one event, not a thousand.
const GATHER: Duration = Duration::from_millis(250);

/// Typing signals, of all servers, that members get in a second, and at once. Each is a packet for every member.
const TYPING: (u32, u32) = (20, 40);

/// A typing signal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Typing {
    /// Who is typing.
    #[serde(flatten)]
    pub(super) member: Member,
}

/// Sends a typing signal to all servers. It may be lost.
pub(crate) fn send_typing<B: Broker>(broker: &B, member: &Member) {
    let typing = Typing {
        member: member.clone(),
    };
    send(broker, TYPING_KEY, &typing);
}

/// The task that exchanges signals between the broker and this server's members.
///
/// Servers also tell each other how far they have read the log: one that gets no records learns so that there are some.
pub(crate) struct Exchange<B, E, R> {
    pub(crate) broker: B,
    pub(crate) presence: Presence,
    pub(crate) notices: Notices,
    /// How far this server has read the log.
    pub(crate) end: E,
    /// Called with what another server has read to.
    pub(crate) on_reported: R,
}

impl<B: Broker, E: Fn() -> Option<Position>, R: Fn(Position)> Exchange<B, E, R> {
    /// Runs until the broker's signals end.
    pub(crate) async fn run(self) {
        let mut signals = self.broker.signals();
        let mut typing = Rate::new(TYPING.0, TYPING.1);
        let (mut gather, mut repeat) = (interval(GATHER), interval(REPEAT));
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Ok(signal) if signal.key == TYPING_KEY => {
                        if typing.take(Instant::now()).is_ok() {
                            self.notify_typing(&signal);
                        }
                    }
                    Ok(signal) => self.receive(&signal),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = gather.tick() => self.send_changes(),
                _ = repeat.tick() => self.repeat(),
            }
        }
    }

    fn receive(&self, signal: &Signal) {
        if signal.key != PRESENCE_KEY {
            return;
        }
        if let Ok(report) = serde_json::from_slice::<Report>(&signal.body) {
            if let Some(end) = report.end.as_ref().and_then(|end| end.parse().ok()) {
                (self.on_reported)(end);
            }
            let event = self
                .presence
                .with_roster(|roster| roster.receive(report, Instant::now()));
            self.notify_presence(event.as_ref());
        }
    }

    fn notify_typing(&self, signal: &Signal) {
        if let Ok(Typing { member }) = serde_json::from_slice(&signal.body) {
            self.notices.notify(Notice {
                packet: event_frame(event::TYPING, &member),
                except: Some(member.sender),
            });
        }
    }

    /// Tells servers and members what has changed on this server.
    fn send_changes(&self) {
        if let Some((report, event)) = self.presence.with_roster(Roster::changes) {
            send(&self.broker, PRESENCE_KEY, &report);
            self.notify_presence(Some(&event));
        }
    }

    /// Repeats this server's report, and forgets silent servers.
    fn repeat(&self) {
        let (mut report, event) = self
            .presence
            .with_roster(|roster| (roster.repeated_report(), roster.expire(Instant::now())));
        report.end = (self.end)().map(|end| end.to_string());
        send(&self.broker, PRESENCE_KEY, &report);
        self.notify_presence(event.as_ref());
    }

    fn notify_presence(&self, event: Option<&PresenceEvent>) {
        if let Some(event) = event {
            self.notices.notify(Notice {
                packet: event_frame(event::PRESENCE, event),
                except: None,
            });
        }
    }
}

fn send<B: Broker>(broker: &B, key: &str, body: &impl Serialize) {
    // Names and numbers always encode.
    if let Ok(body) = serde_json::to_vec(body) {
        broker.signal(Signal {
            key: key.to_owned(),
            body: body.into(),
        });
    }
}
