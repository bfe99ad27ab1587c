//! Every Lua script as a typed call: a struct with the script's keys and arguments as fields, and the reply as a type.
//!
//! The order of a script's keys and arguments stands once in Rust, in the declaration of its call, and once in Lua, in the script's
//! first lines; a test compares the two. What a script replies is defined and parsed beside its call, and the modules that use
//! it re-export it.

pub mod breaker;
pub mod dead_page;
pub mod ending;
pub mod fleet;
pub mod limit;
pub mod memo;
pub(crate) mod memo_value;
pub mod push_checkpoint;
pub mod schedule;
pub mod stored;
pub mod stream;
pub mod task;
pub mod turn;

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, FromRedisValue, RedisResult, ServerErrorKind, Value};

use crate::{Error, UnixMs};

/// A script: its source, preceded by the pieces of `lua/lib` that it uses, and the SHA-1 that Redis knows it by.
#[derive(Debug)]
pub struct Script {
    /// Its path below `lua/`, without `.lua`.
    pub path: &'static str,
    /// The names of its keys, as in its first lines.
    pub keys: &'static [&'static str],
    /// The names of its arguments, as in its first lines.
    pub args: &'static [&'static str],
    /// The names of the arguments that follow those, once or once for each item, as in the loop that reads them.
    pub rest: &'static [&'static str],
    source: &'static str,
    sha1: LazyLock<String>,
}

impl Script {
    /// The command that tells Redis the script before it is called: then its first call takes no longer than the others.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.source);
        command
    }
}

/// All scripts.
pub fn all() -> Vec<&'static Script> {
    [
        task::SCRIPTS,
        stored::SCRIPTS,
        dead_page::SCRIPTS,
        fleet::SCRIPTS,
        limit::SCRIPTS,
        breaker::SCRIPTS,
        memo::SCRIPTS,
        schedule::SCRIPTS,
        stream::SCRIPTS,
    ]
    .concat()
    .iter()
    .map(|f| f())
    .collect()
}

/// A call of a script.
pub trait TypedCall {
    /// What the script returns.
    type Reply: FromRedisValue;

    /// The script.
    fn script() -> &'static Script;

    /// The call as it is sent to Redis. It can be sent any number of times.
    fn invocation(&self) -> Invocation;

    /// Parses what the script returned.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not what this version of the script returns.
    fn parse(reply: Value) -> Result<Self::Reply, Error> {
        let bad = |error| Error::Data(format!("the reply of {}.lua: {error}", Self::script().path));
        Self::Reply::from_redis_value(reply).map_err(bad)
    }
}

/// A call of a script, ready to be sent.
#[derive(Debug, Clone)]
pub struct Invocation {
    script: &'static Script,
    by_hash: Cmd,
}

impl Invocation {
    fn new(script: &'static Script, keys: &[&str]) -> Self {
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(&*script.sha1).arg(keys.len()).arg(keys);
        Self { script, by_hash }
    }

    fn arg(&mut self, arg: &impl ScriptArg) {
        arg.write_to(&mut self.by_hash);
    }

    /// Sends it by its hash, and with its source if Redis does not know that (after a restart, a failover or `SCRIPT FLUSH`).
    ///
    /// # Errors
    /// Redis is unreachable or refuses the script. It may have run all the same: every script can be sent again.
    pub async fn run(&self, connection: &mut impl ConnectionLike) -> RedisResult<Value> {
        match self.by_hash.query_async(connection).await {
            Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.by_source().query_async(connection).await
            }
            reply => reply,
        }
    }

    fn by_source(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script.source);
        for arg in self.by_hash.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        command
    }
}

/// An argument of a script: one string in `ARGV`.
pub trait ScriptArg {
    /// Appends it to a command.
    fn write_to(&self, command: &mut Cmd);
}

macro_rules! script_args {
    ($($type:ty),*) => {
        $(impl ScriptArg for $type {
            fn write_to(&self, command: &mut Cmd) {
                command.arg(*self);
            }
        })*
    };
}

script_args!(&str, &[u8], u32, u64, i64, usize, f64);

impl ScriptArg for String {
    fn write_to(&self, command: &mut Cmd) {
        command.arg(self);
    }
}

/// `1` or `0`.
impl ScriptArg for bool {
    fn write_to(&self, command: &mut Cmd) {
        command.arg(u8::from(*self));
    }
}

impl ScriptArg for UnixMs {
    fn write_to(&self, command: &mut Cmd) {
        command.arg(self.0);
    }
}

/// The empty string stands for none.
impl<T: ScriptArg> ScriptArg for Option<T> {
    fn write_to(&self, command: &mut Cmd) {
        match self {
            Some(arg) => arg.write_to(command),
            None => "".write_to(command),
        }
    }
}

/// Keys and arguments that follow the fixed ones.
pub trait Rest {
    /// Appends its keys.
    fn push_keys<'k>(&'k self, _keys: &mut Vec<&'k str>) {}

    /// Appends its arguments.
    fn push_args(&self, call: &mut Invocation);
}

impl Rest for &str {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(self);
    }
}

impl Rest for String {
    fn push_args(&self, call: &mut Invocation) {
        call.arg(self);
    }
}

impl<T: Rest> Rest for &[T] {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        for item in *self {
            item.push_keys(keys);
        }
    }

    fn push_args(&self, call: &mut Invocation) {
        for item in *self {
            item.push_args(call);
        }
    }
}

impl<T: Rest> Rest for Option<T> {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        if let Some(item) = self {
            item.push_keys(keys);
        }
    }

    fn push_args(&self, call: &mut Invocation) {
        if let Some(item) = self {
            item.push_args(call);
        }
    }
}

/// Keys without arguments.
#[derive(Debug, Clone, Copy)]
pub struct MoreKeys<'a>(pub &'a [String]);

impl Rest for MoreKeys<'_> {
    fn push_keys<'k>(&'k self, keys: &mut Vec<&'k str>) {
        keys.extend(self.0.iter().map(String::as_str));
    }

    fn push_args(&self, _call: &mut Invocation) {}
}

/// Declares typed calls, and all of them as `SCRIPTS`. A macro, so that the fields, their order on the wire and the names that are
/// compared with the Lua source cannot differ. The header of each script explains its keys and arguments.
macro_rules! typed_calls {
    ($(
        $(#[$doc:meta])*
        $name:ident = $path:literal + [$($lib:literal),*] -> $reply:ty {
            keys: $($key:ident),* $(; then $($optional_key:ident),+)?;
            args: $($arg:ident: $type:ty),*;
            $(rest $rest:ident: $rest_type:ty = [$($rest_name:ident),*];)?
        }
    )*) => {
        /// The scripts of this module.
        pub(super) const SCRIPTS: &[fn() -> &'static $crate::script::Script] = &[$(<$name as $crate::script::TypedCall>::script),*];
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name<'a> {
                $(#[doc = concat!("The key `", stringify!($key), "`.")] pub $key: &'a str,)*
                $(#[doc = concat!("The argument `", stringify!($arg), "`.")] pub $arg: $type,)*
                $(#[doc = "What follows the arguments above."] pub $rest: $rest_type,)?
            }

            impl $name<'_> {
                /// The names of the script's keys.
                pub const KEYS: &'static [&'static str] = &[$(stringify!($key),)* $($(stringify!($optional_key)),+)?];
                /// The names of the script's arguments.
                pub const ARGS: &'static [&'static str] = &[$(stringify!($arg)),*];
                /// The names of the arguments that follow.
                pub const REST: &'static [&'static str] = &[$($(stringify!($rest_name)),*)?];
            }

            impl $crate::script::TypedCall for $name<'_> {
                type Reply = $reply;

                fn script() -> &'static $crate::script::Script {
                    const SOURCE: &str = concat!(
                        $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/lib/", $lib, ".lua")),)*
                        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/", $path, ".lua")),
                    );
                    static SCRIPT: $crate::script::Script = $crate::script::Script {
                        path: $path,
                        keys: $name::KEYS,
                        args: $name::ARGS,
                        rest: $name::REST,
                        source: SOURCE,
                        sha1: std::sync::LazyLock::new(|| redis::Script::new(SOURCE).get_hash().to_owned()),
                    };
                    &SCRIPT
                }

                fn invocation(&self) -> $crate::script::Invocation {
                    #[allow(unused_mut, reason = "only some scripts take more keys and arguments")]
                    let mut keys = vec![$(self.$key),*];
                    $($crate::script::Rest::push_keys(&self.$rest, &mut keys);)?
                    #[allow(unused_mut, reason = "some scripts take no arguments")]
                    let mut call = $crate::script::Invocation::new(Self::script(), &keys);
                    $(call.arg(&self.$arg);)*
                    $($crate::script::Rest::push_args(&self.$rest, &mut call);)?
                    call
                }
            }
        )*
    };
}
use typed_calls;

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The values of a reply that is an array, one by one.
struct Values(std::vec::IntoIter<Value>);

impl Values {
    fn of(reply: Value) -> Result<Self, redis::ParsingError> {
        Vec::<Value>::from_redis_value(reply).map(|values| Self(values.into_iter()))
    }

    fn next<T: FromRedisValue>(&mut self) -> Result<T, redis::ParsingError> {
        T::from_redis_value(self.0.next().ok_or("the reply is too short")?)
    }

    fn rest<T: FromRedisValue>(self) -> Result<Vec<T>, redis::ParsingError> {
        self.0.map(T::from_redis_value).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

impl FromRedisValue for UnixMs {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        u64::from_redis_value(value).map(Self)
    }
}
