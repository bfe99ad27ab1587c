//! Every Lua script, with what its header promises as types. The only place where a script's keys and arguments are laid out.

use std::sync::LazyLock;

use redis::{FromRedisValue, RedisResult, ServerErrorKind, aio::ConnectionLike};

/// A script: its source with the pieces of `lua/lib` that it uses, and the SHA-1 that Redis knows it by.
#[derive(Debug)]
pub struct Script {
    /// Its file name without `.lua`.
    pub name: &'static str,
    source: &'static str,
    sha1: LazyLock<String>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $const:ident = $name:literal $(+ $lib:literal)*;)*) => {
        $($(#[$doc])* pub static $const: Script = Script {
            name: $name,
            source: concat!($(include_str!(concat!("../lua/lib/", $lib, ".lua")),)* include_str!(concat!("../lua/", $name, ".lua"))),
            sha1: LazyLock::new(|| redis::Script::new($const.source).get_hash().to_owned()),
        };)*
        /// All of them.
        pub static ALL: &[&Script] = &[$(&$const),*];
    };
}

scripts! {
    /// Puts the next tasks of a batch on the queue, once.
    ENQUEUE_ONCE = "enqueue_once";
    /// Takes due and waiting tasks for one worker.
    CLAIM = "claim" + "clock" + "full" + "once";
    /// Puts down that a call is about to go out.
    BEGIN = "begin" + "entry" + "full";
    /// Completes a batch of tasks.
    FINISH = "finish" + "push" + "answer" + "wake";
    /// Gives a task back for later.
    RETRY_AT = "retry_at" + "clock" + "entry";
    /// Ends a task as a dead letter.
    BURY = "bury" + "clock" + "entry" + "push" + "answer" + "wake";
    /// Delivers a reply to a list in another Cluster slot than its queue.
    DELIVER = "deliver" + "push";
    /// Renews a worker's lease.
    HEARTBEAT = "heartbeat" + "clock" + "full";
    /// Takes tasks back from a worker.
    REAP = "reap" + "clock" + "entry";
    /// Puts a dead letter back on its queue.
    REPLAY = "replay" + "entry";
    /// Deletes a dead letter.
    DROP = "drop";
    /// Asks a memo what a task is to do.
    LEAD = "lead" + "clock";
    /// Ends a task's lead of a memo.
    SETTLE = "settle" + "clock";
    /// Drops the answer that a memo keeps.
    FORGET = "forget";
    /// Parks a task in a line.
    FOLLOW = "follow" + "clock" + "entry";
    /// Reads the next tasks of a line.
    FOLLOWERS = "followers";
    /// Lets tasks of a line run.
    PROMOTE = "promote" + "clock";
    /// Which lines and tasks in them it is time to look after.
    WATCH = "watch" + "clock" + "full";
    /// Asks to be told of results.
    WAIT = "wait" + "clock" + "full";
    /// Tells a breaker what became of calls, and asks it for leave.
    BREAKER = "breaker" + "clock";
    /// Asks a limit for calls.
    ACQUIRE = "acquire" + "bucket" + "limit";
    /// Tells a limit what was learnt after a call.
    ADJUST = "adjust" + "bucket" + "limit";
    /// Frees, or keeps, places of calls in flight.
    RELEASE_SLOTS = "release_slots" + "bucket" + "limit";
    /// Says by hand what a limit is.
    DEFINE = "define" + "bucket" + "limit";
    /// Lets those that wait for a limit ask again.
    HASTEN = "hasten" + "clock" + "entry";
    /// Puts a schedule down, or takes it away.
    SCHEDULE = "schedule" + "entry";
    /// Which schedules it is time to fire.
    DUE = "due" + "clock" + "entry";
    /// Pushes the task of a schedule whose time has come.
    FIRE = "fire" + "clock" + "entry";
    /// How a limit stands.
    LEVEL = "level" + "bucket" + "limit";
}

impl Script {
    /// A call of this script.
    pub fn call(&'static self) -> Invocation {
        Invocation { script: self, keys: Vec::new(), args: Vec::new() }
    }
}

/// A call of a script, with its keys and arguments.
#[derive(Debug)]
pub struct Invocation {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Invocation {
    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    #[expect(clippy::needless_pass_by_value)] // numbers and names alike, without `&` at each of them
    pub fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string().into_bytes());
        self
    }

    /// Adds an argument that may be no text.
    #[must_use]
    pub fn bytes(mut self, arg: &[u8]) -> Self {
        self.args.push(arg.to_vec());
        self
    }

    /// Sends it: by its hash, and whole where Redis does not know it (a restart, a failover, `SCRIPT FLUSH`).
    ///
    /// # Errors
    /// What Redis answered; after an error nothing, or everything, may have been done: every script may be sent again.
    pub async fn run<T: FromRedisValue>(&self, connection: &mut impl ConnectionLike) -> RedisResult<T> {
        let by_hash = self.command("EVALSHA", &self.script.sha1);
        match by_hash.query_async(connection).await {
            Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.source).query_async(connection).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str) -> redis::Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.args);
        command
    }
}
