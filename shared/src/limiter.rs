//! Limits: token buckets and places in flight, each shared by the whole fleet.
//!
//! A limit lies in a slot of its own. A call that may not go yet is given a time to come back at and waits for it in its
//! queue, holding no slot; when it comes, it asks again, and only that lets it go. So a time that was given and not used, or
//! used late, never becomes a burst. The arithmetic is in `lua/lib/bucket.lua`.

use std::time::Duration;

use crate::id::Token;
use crate::task::Limit;
use crate::{Error, Queue, UnixMs, script};

/// The longest that a call sits a wait out in its worker, holding a slot; beyond it, it waits in Redis.
pub const HOLD: Duration = Duration::from_millis(50);
/// How long a limit that only tasks define is kept after its last use, at least.
const KEEP: Duration = Duration::from_secs(3600);

/// The limits of a fleet.
#[derive(Debug, Clone)]
pub struct Limits {
    queue: Queue,
}

/// Who says what a limit is, the first before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// By hand: `redial limits set`.
    Set,
    /// The configuration of the workers.
    Config,
    /// A task.
    Inline,
    /// No one here: only its name is given.
    Name,
}

impl Source {
    /// As it stands in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Config => "config",
            Self::Inline => "inline",
            Self::Name => "name",
        }
    }
}

/// One call that asks a limit.
#[derive(Debug, Clone)]
pub struct Ask {
    /// On whose behalf: flows that want more than there is get equal shares.
    pub flow: String,
    /// How much it takes.
    pub cost: f64,
    /// What it was given before.
    pub given: Option<i64>,
    /// What names its place in flight.
    pub token: Token,
}

/// What a limit says to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// Go, after a wait of at most 10 ms.
    Go {
        /// From now.
        wait: Duration,
        /// Whether it holds a place in flight, to be given back.
        holds_place: bool,
        /// When, by this limit's clock in us.
        at: f64,
    },
    /// Come back after a wait, and say then what was given here.
    Park(Duration, i64),
    /// It takes more than may ever be taken at once: this much.
    Over(f64),
    /// No one says what this limit is.
    Undefined,
}

/// How a limit stands.
#[derive(Debug, Clone)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Who defines it; `None` when no one does any more.
    pub source: Option<Source>,
    /// What it is.
    pub limit: Limit,
    /// What may go at once; less than nothing when there is a debt. `None` without a rate.
    pub left: Option<f64>,
    /// For how long nothing goes, as the upstream said.
    pub closed: Duration,
    /// How many flows wait.
    pub flows: u64,
    /// How many calls are in flight, where they are counted.
    pub in_flight: u64,
    /// When the last that waits may go.
    pub clears_in: Duration,
}

/// The definition of a limit as scripts read it.
pub fn definition(limit: &Limit) -> String {
    let or_none = |n: Option<String>| n.unwrap_or_else(|| "-".into());
    format!(
        "{} {} {} {}",
        or_none(limit.rate.map(|n| n.to_string())),
        limit.per_ms.unwrap_or(1000),
        or_none(limit.burst.map(|n| n.to_string())),
        or_none(limit.concurrency.map(|n| n.to_string())),
    )
}

impl Limits {
    /// Those of the fleet that `queue` belongs to.
    pub fn new(queue: Queue) -> Self {
        Self { queue }
    }

    /// Asks a limit for calls, in turn. `lease` is how long a place in flight lasts unless it is kept for longer; `stated` when
    /// the newest task came that defines it so. `true` when it is defined otherwise than before: see [`Self::hasten`].
    ///
    /// # Errors
    /// That of Redis. Safe to ask again: what an answer that was lost had granted is lost as well.
    pub async fn acquire(
        &self,
        limit: &Limit,
        source: Source,
        stated: UnixMs,
        lease: Duration,
        asks: &[Ask],
    ) -> Result<(bool, Vec<Grant>), Error> {
        let keys = &self.queue.keys;
        let name = &limit.name;
        let text = if source == Source::Name { String::new() } else { definition(limit) };
        let mut call = script::ACQUIRE
            .call()
            .key(keys.limit(name))
            .key(keys.limit_flows(name))
            .key(keys.limit_places(name))
            .key(keys.limit_lines(name))
            .arg(source.as_str())
            .arg(text)
            .arg(HOLD.as_micros())
            .arg(lease.as_millis())
            .arg(KEEP.as_millis())
            .arg(stated.0);
        for ask in asks {
            call = call.arg(&ask.flow).arg(ask.cost).arg(ask.given.unwrap_or(0)).arg(ask.token.as_str());
        }
        let mut replies = self.queue.run::<Vec<redis::Value>>(&call).await?.into_iter();
        let has_changed = redis::from_redis_value(replies.next().unwrap_or(redis::Value::Nil)).map_err(|_| bad())?;
        let words = |reply| redis::from_redis_value(reply).map_err(|_| bad()).and_then(grant);
        Ok((has_changed, replies.map(words).collect::<Result<_, _>>()?))
    }

    /// Lets nothing go under a limit for a while; takes `cost` besides what was taken, or gives it back when it is less than
    /// nothing, to a call that was let go at that time; lets no more than `at_most` go at once from now on.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn adjust(
        &self,
        name: &str,
        closed_for: Duration,
        cost: (&str, f64),
        at_most: Option<f64>,
        let_go_at: f64,
    ) -> Result<(), Error> {
        let keys = &self.queue.keys;
        let call = script::ADJUST
            .call()
            .key(keys.limit(name))
            .key(keys.limit_flows(name))
            .arg(closed_for.as_micros())
            .arg(cost.1)
            .arg(cost.0)
            .arg(at_most.map(|n| n.to_string()).unwrap_or_default())
            .arg(let_go_at);
        let _known: u8 = self.queue.run(&call).await?;
        Ok(())
    }

    /// Gives back the places of calls in flight that have ended, each with how long its call took.
    ///
    /// # Errors
    /// That of Redis: then they end by themselves with their lease.
    pub async fn give_places(&self, name: &str, ended: &[(Token, Duration)]) -> Result<(), Error> {
        self.places(name, Duration::ZERO, ended).await
    }

    /// Keeps the places of calls that are still in flight.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn keep_places(&self, name: &str, lease: Duration, held: &[Token]) -> Result<(), Error> {
        let held: Vec<_> = held.iter().map(|token| (token.clone(), Duration::ZERO)).collect();
        self.places(name, lease, &held).await
    }

    async fn places(&self, name: &str, lease: Duration, tokens: &[(Token, Duration)]) -> Result<(), Error> {
        let keys = &self.queue.keys;
        for some in tokens.chunks(crate::consumer::MAX_BATCH) {
            let mut call = script::GIVE_PLACE.call().key(keys.limit(name)).key(keys.limit_places(name));
            call = call.arg(lease.as_millis());
            for (token, took) in some {
                call = call.arg(token.as_str()).arg(took.as_micros());
            }
            let _held: u64 = self.queue.run(&call).await?;
        }
        Ok(())
    }

    /// Says by hand what a limit is, or, with `None`, no more. In force at once. `false`: there was nothing to take back.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn define(&self, name: &str, limit: Option<&Limit>) -> Result<bool, Error> {
        let keys = &self.queue.keys;
        let text = limit.map(definition).unwrap_or_default();
        let call = script::DEFINE.call().key(keys.limit(name)).key(keys.limit_flows(name)).key(keys.limit_lines(name));
        let call = call.arg(text).arg(KEEP.as_millis());
        let done = self.queue.run(&call).await?;
        self.note(name).await?;
        Ok(done)
    }

    /// Lets all tasks that wait for a limit, in whichever queue, ask again at once, as it is another than when they were given their
    /// times.
    ///
    /// # Errors
    /// That of Redis; safe to send again.
    pub async fn hasten(&self, name: &str) -> Result<(), Error> {
        let mut queues = self.queue.known().await?;
        queues.insert(self.queue.name.clone());
        for queue in queues {
            Self::hasten_in(&self.queue.sibling(queue), name).await?;
        }
        Ok(())
    }

    async fn hasten_in(queue: &Queue, name: &str) -> Result<(), Error> {
        const AT_A_TIME: usize = 500;
        // A string is always JSON.
        let name = serde_json::to_string(name).unwrap_or_default();
        let mut from = 0;
        loop {
            let call = script::HASTEN.call().key(&queue.keys.scheduled).arg(&name).arg(from).arg(AT_A_TIME);
            let seen: usize = queue.run(&call).await?;
            if seen < AT_A_TIME {
                return Ok(());
            }
            from += seen;
        }
    }

    /// Notes that a limit is in use, so that it can be listed.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn note(&self, name: &str) -> Result<(), Error> {
        self.queue.note_name(&self.queue.keys.limits(), name).await
    }

    /// The limits that are, or were in use not long ago, each as it stands. Those that are gone are forgotten.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn list(&self) -> Result<Vec<Level>, Error> {
        let index = self.queue.keys.limits();
        let mut levels = Vec::new();
        for name in self.queue.noted_names(&index).await? {
            let level = self.level(&name).await?;
            if level.source.is_some() {
                levels.push(level);
            } else {
                self.queue.forget_name(&index, &name).await?;
            }
        }
        Ok(levels)
    }

    /// How a limit stands.
    ///
    /// # Errors
    /// That of Redis.
    pub async fn level(&self, name: &str) -> Result<Level, Error> {
        let keys = &self.queue.keys;
        let call = script::LEVEL.call().key(keys.limit(name)).key(keys.limit_flows(name)).key(keys.limit_places(name));
        let (source, text, left, closed, flows, in_flight, clears): (String, String, String, u64, u64, u64, u64) =
            self.queue.run(&call).await?;
        let source = [Source::Set, Source::Config, Source::Inline].into_iter().find(|s| s.as_str() == source);
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let limit = Limit {
            name: name.to_owned(),
            cost: None,
            rate: word().parse().ok(),
            per_ms: word().parse().ok(),
            burst: word().parse().ok(),
            concurrency: word().parse().ok(),
            usage: None,
        };
        let us = Duration::from_micros;
        Ok(Level {
            name: name.to_owned(),
            source,
            limit,
            left: left.parse().ok(),
            closed: us(closed),
            flows,
            in_flight,
            clears_in: us(clears),
        })
    }
}

fn bad() -> Error {
    Error::Data("what a limit says".into())
}

fn grant(words: Vec<redis::Value>) -> Result<Grant, Error> {
    let mut words = words.into_iter();
    let mut next = || words.next().unwrap_or(redis::Value::Nil);
    let us = |value| redis::from_redis_value::<u64>(value).map(Duration::from_micros).map_err(|_| bad());
    let code: String = redis::from_redis_value(next()).map_err(|_| bad())?;
    Ok(match code.as_str() {
        "go" => Grant::Go {
            wait: us(next())?,
            holds_place: redis::from_redis_value(next()).map_err(|_| bad())?,
            at: redis::from_redis_value(next()).map_err(|_| bad())?,
        },
        "park" => Grant::Park(us(next())?, redis::from_redis_value(next()).map_err(|_| bad())?),
        "over" => Grant::Over(redis::from_redis_value(next()).map_err(|_| bad())?),
        "undefined" => Grant::Undefined,
        _ => return Err(bad()),
    })
}
