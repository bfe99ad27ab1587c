//! Why a task is invalid, and whom to tell.

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::{InvalidLimit, MAX_HOST_BYTES, MAX_MS, MAX_REDIRECTS};
use crate::protocol::id::InvalidId;
use crate::protocol::json::{MAX_DEPTH, too_deep};
use crate::{Reason, TaskId};

/// A task that cannot be accepted: the cause, and where its result can be sent all the same.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{cause}")]
pub struct TaskError {
    /// What is wrong, where, and what to do about it.
    pub cause: InvalidTask,
    /// Where the dead letter's result goes.
    pub return_address: ReturnAddress,
}

impl TaskError {
    /// The reason that the dead letter gets.
    pub fn reason(&self) -> Reason {
        match self.cause {
            InvalidTask::TooLarge { .. } => Reason::TooLarge,
            InvalidTask::CrashesWorkers(_) => Reason::CrashedWorker,
            _ => Reason::InvalidTask,
        }
    }
}

/// What is wrong with a task. The message names the field and says what is allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidTask {
    /// It has too many bytes.
    #[error(
        "the task has {bytes} bytes; at most {limit} are allowed: store large inputs elsewhere and send a reference"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It has to be set aside without being parsed.
    #[error(
        "{0} times a worker died while it ran the task, or could not go on with it; replay it once the cause is fixed"
    )]
    CrashesWorkers(u32),
    /// It is not UTF-8.
    #[error("the task is not UTF-8: byte {valid_up_to} is invalid")]
    NotUtf8 {
        /// How many bytes before the first invalid one.
        valid_up_to: usize,
    },
    /// Its brackets nest too deep.
    #[error("the task nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It is not JSON.
    #[error("the task is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not an object.
    #[error("the task is JSON but not an object: push {{\"url\": \"https://...\"}}")]
    NotAnObject,
    /// Something follows the object.
    #[error("the task is not one JSON object: {0}")]
    TrailingData(String),
    /// A field is missing, appears twice, or has the wrong type.
    #[error("{0}")]
    WrongType(String),
    /// Redial's own record of the task cannot be read.
    #[error("the task's entry in Redis cannot be read: {0}")]
    UnreadableEntry(String),
    /// `id`.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A URL that cannot be parsed.
    #[error("`{field}` {cause}: use an absolute URL such as \"https://api.example.com/v1/extract\"")]
    Url {
        /// The field.
        field: &'static str,
        /// What the parser found.
        cause: url::ParseError,
    },
    /// A URL of a scheme that Redial does not call.
    #[error("`{field}` has the scheme {scheme:?}: only http and https are supported")]
    Scheme {
        /// The field.
        field: &'static str,
        /// Its scheme.
        scheme: String,
    },
    /// A URL with a host that no DNS server could know.
    #[error("`{field}` names a host of {bytes} bytes: the names of hosts have at most {MAX_HOST_BYTES}")]
    Host {
        /// The field.
        field: &'static str,
        /// The length of the host's name.
        bytes: usize,
    },
    /// `method`.
    #[error("`method` {0:?} is unknown: use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")]
    Method(String),
    /// A header name that HTTP does not allow.
    #[error("`headers` {0:?} is not a valid header name")]
    HeaderName(String),
    /// A header value that HTTP does not allow.
    #[error("`headers` {0:?} has a value with a control character, such as a line break")]
    HeaderValue(String),
    /// A header that only the worker may set.
    #[error("`headers` {0:?} belongs to the connection: omit it, the worker sets it")]
    ConnectionHeader(String),
    /// More than one kind of body.
    #[error("more than one of `body`, `body_text`, `body_base64`, `form` and `parts` is set: a call has one body")]
    SeveralBodies,
    /// `body_base64`.
    #[error("`body_base64` cannot be decoded: {0}")]
    Base64(String),
    /// A value in `form`.
    #[error("`form` {0:?} is an object or a nested list: use text, a number, true or false, or a list of these")]
    FormValue(String),
    /// The length of `parts`.
    #[error("`parts` has {count} parts: use 1 to {limit}")]
    PartCount {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// One of `parts`.
    #[error("`parts[{index}]` {why}")]
    Part {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A content type without the boundary.
    #[error(
        "`parts` and the header `Content-Type` are both set: omit the header, the worker sets it with the boundary"
    )]
    ContentTypeOfParts,
    /// `ok_when` or `retry_when`.
    #[error("`{field}` {why}")]
    Condition {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// `redirects`.
    #[error("`redirects` is {0}: use 0 to {MAX_REDIRECTS}")]
    Redirects(u32),
    /// A delivery with a body of its own.
    #[error("`callback_of` and a body are both set: the body of a delivery is the result")]
    BodyOfDelivery,
    /// A delivery that Redial did not make.
    #[error(
        "`callback_of` is for deliveries, which only Redial makes: give the task whose result is to be delivered a `callback_url`"
    )]
    ForgedDelivery,
    /// `callback_of`.
    #[error("`callback_of`: {0}")]
    CallbackOf(InvalidId),
    /// The length of a field.
    #[error("`{field}` has {bytes} bytes: use 1 to {limit}")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The number of values in a field.
    #[error("`{field}` has {count} values: at most {limit} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// `idempotency_key` is sent as a header.
    #[error("`idempotency_key` contains characters that a header may not: use printable ASCII")]
    IdempotencyKey,
    /// `traceparent` is sent as a header.
    #[error("`traceparent` is not a valid header value")]
    Traceparent,
    /// A time span out of range.
    #[error("`{field}` is {value}: use milliseconds from {min} to {MAX_MS}")]
    Milliseconds {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The smallest allowed.
        min: u64,
    },
    /// A number beyond what the operator allows.
    #[error("`{field}` is {value}, and this worker allows at most {max} ({setting})")]
    AboveMaximum {
        /// The field.
        field: &'static str,
        /// What the task asks for, in the unit of the field.
        value: u64,
        /// What the operator allows.
        max: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// `retry.max_attempts`.
    #[error("`retry.max_attempts` is {0}: use 1 to 1000")]
    MaxAttempts(u32),
    /// `retry.on`.
    #[error("`retry.on` contains {0}: use statuses from 300 to 599")]
    RetryStatus(u16),
    /// `limit`.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
    /// `reply_to` is empty.
    #[error("`reply_to` is empty: name a list, or omit it")]
    EmptyReplyTo,
    /// `reply_to` would overwrite Redial's data.
    #[error("`reply_to` names a key of Redial's own: use a list of yours, such as answers:{{default}}")]
    ReservedReplyTo,
    /// `reply_to` is a list that the operator does not allow.
    #[error("`reply_to` is {list:?}, and this worker replies to {allowed} only (reply_lists)")]
    ForbiddenReplyTo {
        /// The list.
        list: String,
        /// The patterns that it would have to match.
        allowed: String,
    },
    /// `tenant`.
    #[error("`tenant` is {0:?}: use printable ASCII characters")]
    Tenant(String),
    /// The task is on a queue of another tenant.
    #[error(
        "`tenant` is {tenant:?}, and the tasks of this queue belong to {owner:?}: omit it, or push to a queue of the tenant's own"
    )]
    ForeignQueue {
        /// Its tenant.
        tenant: String,
        /// The tenant that the operator bound the queue to.
        owner: String,
    },
    /// The tenant has queues of its own, and the task is on another one.
    #[error("`tenant` is {0:?}, which has queues of its own: push to one of these")]
    TenantElsewhere(String),
    /// A limit that only the operator may apply.
    #[error("`limit` names {0:?}, which tasks may not: its [[limit]] block says `tasks = false`")]
    OperatorsLimit(String),
    /// `then`.
    #[error("{0}")]
    Then(Box<InvalidThen>),
    /// This is the next task of a chain, and it could not be made.
    #[error("the task before it is complete, but `then` could not be filled in from its result: {0}")]
    ThenFailed(String),
}

/// Where to send the result of a task that is otherwise invalid.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReturnAddress {
    /// The task's id, where it can be read.
    pub id: Option<TaskId>,
    /// The list for its reply, where it can be read.
    pub reply_to: Option<String>,
    /// The URL that its result is delivered to, where it can be read.
    pub callback_url: Option<Url>,
    /// What is echoed in its result, as JSON, where it can be read and is not large.
    pub meta: Option<String>,
}

/// The most bytes of `meta` in the result of a task that is not valid: of one that is too large, `meta` may be what is. Of one that nests
/// too deep none is kept, for the sake of whoever reads the result.
const MAX_META_BYTES: usize = 64 << 10;

impl ReturnAddress {
    /// Whatever can be read of it.
    pub fn read(raw: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Fields {
            id: Option<serde_json::Value>,
            reply_to: Option<serde_json::Value>,
            callback_url: Option<serde_json::Value>,
            meta: Option<Box<RawValue>>,
        }
        let fields: Fields = serde_json::from_slice(raw).unwrap_or_default();
        let text = |field: Option<serde_json::Value>| match field {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        Self {
            id: text(fields.id).and_then(|id| TaskId::new(&id).ok()),
            reply_to: text(fields.reply_to).filter(|list| !list.is_empty()),
            callback_url: text(fields.callback_url).and_then(|url| super::url("callback_url", &url).ok()),
            meta: fields
                .meta
                .filter(|meta| meta.get().len() <= MAX_META_BYTES && !too_deep(raw))
                .map(|meta| meta.get().to_owned()),
        }
    }
}

/// The maximum number of tasks in a chain.
pub(super) const MAX_LENGTH: usize = 20;
/// The most paths in one task of a chain.
pub(super) const MAX_PATHS: usize = 256;
/// The most filters in the paths of a chain: each takes the parser a while.
pub(super) const MAX_FILTERS: usize = 16;
/// What is wrong with a `then`, or why it could not be filled in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidThen {
    /// It is JSON of another kind.
    #[error("`then`: it is not a JSON object: use a task")]
    NotAnObject,
    /// It does not say what to call.
    #[error("`then`: missing field `url`")]
    NoUrl,
    /// It names a tenant.
    #[error("`then`: omit `tenant`: all tasks of a chain belong to the tenant of the first one")]
    Tenant,
    /// The chain is too long.
    #[error("`then` is nested {MAX_LENGTH} tasks deep or more: split the chain")]
    TooLong,
    /// The task itself is invalid.
    #[error("`then`: {0}")]
    Task(InvalidTask),
    /// A path in it is wrong.
    #[error("`then`: {0}")]
    Path(PathError),
}

/// What is wrong with a path in a `then`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PathError {
    /// Its braces are not closed.
    #[error("{0:?} has a {{{{ without the closing }}}}")]
    Unclosed(String),
    /// It cannot be parsed.
    #[error("{{{{{path}}}}} is not a JSONPath such as {{{{$.body.text}}}}: {why}")]
    Syntax {
        /// The path.
        path: String,
        /// What the parser found.
        why: String,
    },
    /// It is long or nested enough to keep a parser busy.
    #[error("{{{{{path}...}}}} is too complex: {why}")]
    TooComplex {
        /// How the path begins.
        path: String,
        /// What there is too much of.
        why: String,
    },
    /// There are too many.
    #[error("it has more than {MAX_PATHS} paths: split the chain")]
    TooMany,
    /// There are too many filters.
    #[error("its paths have more than {MAX_FILTERS} filters: split the chain")]
    TooManyFilters,
    /// Evaluating it would take seconds.
    #[error("{{{{{0}}}}} would take too long on a result of this size: use a path without filters, `..` and `*`")]
    TooSlow(String),
    /// What it finds is too large.
    #[error("filled in, it has too many bytes: pass a reference instead")]
    TooLarge,
    /// A field makes the task larger than a task may be.
    #[error(
        "with `{field}` filled in, the task has more than {limit} bytes, which max_task_bytes allows: pass a part of the result, or a reference"
    )]
    FieldTooLarge {
        /// The field.
        field: String,
        /// What is allowed.
        limit: usize,
    },
    /// The result does not have what it asks for.
    #[error("{{{{{0}}}}} finds nothing in the result")]
    NotFound(String),
    /// The result or the template cannot be read as JSON.
    #[error("the result cannot be read: {0}")]
    Unreadable(String),
}
