//! Keeping attendance: tells members and the other servers who comes and goes, many at a time.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use papo_protocol::{
    UserName, event,
    topology::{PRESENCE_KEY, TYPING_KEY},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    Room,
    fanout::{MemberId, Sink, Tell},
    presence::{Presence, REPEAT, Roster},
};
use crate::{
    broker::{Broker, Signal},
    chat::Member,
    frame::Frame,
};

/// How long changes are gathered before they are told: a storm of arrivals is one event, not one each.
const GATHER: Duration = Duration::from_millis(250);

/// Who is here. Clones share it.
#[derive(Clone)]
pub(super) struct Attendance(Arc<Mutex<Here>>);

struct Here {
    roster: Roster,
    members: HashMap<MemberId, UserName>,
}

impl Attendance {
    pub(super) fn new() -> Self {
        let roster = Roster::new(Uuid::new_v4().to_string());
        Self(Arc::new(Mutex::new(Here {
            roster,
            members: HashMap::new(),
        })))
    }

    pub(super) fn join(&self, id: MemberId, user: &UserName) {
        let mut here = self.0.lock();
        here.roster.join(user);
        here.members.insert(id, user.clone());
    }

    /// One that leaves twice has left once.
    pub(super) fn leave(&self, id: MemberId) {
        let mut here = self.0.lock();
        if let Some(user) = here.members.remove(&id) {
            here.roster.leave(&user);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.with(|roster| roster.count())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Roster) -> T) -> T {
        act(&mut self.0.lock().roster)
    }
}

/// A typing signal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Typing {
    /// Who.
    #[serde(flatten)]
    pub member: Member,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// Lets the others know that a member is typing. May be lost.
    pub fn typing(&self, member: &Member) {
        let typing = Typing {
            member: member.clone(),
        };
        self.send(TYPING_KEY, &typing);
    }

    fn send(&self, key: &str, body: &impl Serialize) {
        // Names and numbers always encode.
        if let Ok(body) = serde_json::to_vec(body) {
            self.broker.signal(Signal {
                key: key.to_owned(),
                body: body.into(),
            });
        }
    }

    /// The first `presence` event of one who has just come.
    pub fn presence(&self) -> Frame {
        packet(
            event::PRESENCE,
            &self.attendance.with(|roster| roster.all()),
        )
    }

    fn tell_presence(&self, presence: &Presence) {
        self.fanout.tell(Tell {
            packet: packet(event::PRESENCE, presence),
            except: None,
        });
    }

    fn hear(&self, signal: &Signal) {
        match signal.key.as_str() {
            PRESENCE_KEY => {
                let Ok(report) = serde_json::from_slice(&signal.body) else {
                    return;
                };
                let news = self
                    .attendance
                    .with(|roster| roster.hear(report, Instant::now()));
                if let Some(presence) = news {
                    self.tell_presence(&presence);
                }
            }
            TYPING_KEY => {
                let Ok(Typing { member }) = serde_json::from_slice(&signal.body) else {
                    return;
                };
                self.fanout.tell(Tell {
                    packet: packet(event::TYPING, &member),
                    except: Some(member.sender),
                });
            }
            _ => {}
        }
    }
}

/// Tells of what changes, for ever.
pub(super) async fn keep<B: Broker, S: Sink>(room: &Room<B, S>) {
    let mut signals = room.broker.signals();
    let (mut gather, mut repeat) = (interval(GATHER), interval(REPEAT));
    gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
    repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            signal = signals.recv() => match signal {
                Ok(signal) => room.hear(&signal),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = gather.tick() => {
                if let Some((report, presence)) = room.attendance.with(Roster::changes) {
                    room.send(PRESENCE_KEY, &report);
                    room.tell_presence(&presence);
                }
            }
            _ = repeat.tick() => {
                let (report, expired) = room.attendance.with(|roster| (roster.report(), roster.expire(Instant::now())));
                room.send(PRESENCE_KEY, &report);
                if let Some(presence) = expired {
                    room.tell_presence(&presence);
                }
            }
        }
    }
}

fn packet(event: &str, body: &impl Serialize) -> Frame {
    let body = serde_json::to_string(body).expect("names and numbers always encode");
    format!(r#"2["{event}",{body}]"#).into()
}
