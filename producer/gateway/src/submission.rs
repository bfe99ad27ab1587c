//! A task on its way to the queue: checked, with an id, under the limits of whoever sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use redial::{Client, Completed, PreparedTask, Results, TaskFingerprint};
use redial_core::protocol::credentials;
use redial_core::protocol::task::{InvalidTask, MAX_BYTES, TaskError};
use redial_core::{QueueName, Task, TaskId};
use redial_traces::context::TRACEPARENT;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::body;
use crate::config::{AccessRules, UpstreamTarget};
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::tokens::{Access, Caller};
use crate::traces::RequestContext;

/// For how long a push that may have reached Redis is recognized when the gateway sends it again.
const REPEATED: Duration = Duration::from_secs(60);

/// A checked task that is about to be pushed.
#[derive(Debug)]
pub(crate) struct Submission {
    task: PreparedTask,
    fingerprint: TaskFingerprint,
    origin: IdOrigin,
}

/// Where a task's id is from.
#[derive(Debug, Clone, Copy)]
enum IdOrigin {
    /// The gateway made it up.
    Random,
    /// It stands for an `Idempotency-Key`, for as long as the result is kept.
    Key(Duration),
    /// The task has it.
    Producer,
}

/// Who sends a task, and to which queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub access: &'a AccessRules,
    pub caller: &'a Caller,
    pub queue: &'a QueueName,
    /// The context of the request, for tasks that have none of their own.
    pub context: Option<&'a RequestContext>,
}

impl Sender<'_> {
    /// Checks a task, and gives it what it lacks: an id, and the key as its `idempotency_key`.
    ///
    /// # Errors
    /// It is invalid, or the caller may not send it.
    pub fn submission(self, raw: &str, key: Option<&str>) -> Result<Submission, Problem> {
        let task = Task::parse(raw.as_bytes(), MAX_BYTES).map_err(|error| invalid(&error))?;
        self.check_permission(&task)?;
        let (id, origin) = match (&task.id, key) {
            (Some(id), _) if !self.caller.owns(id) => {
                let detail = format!("`id` is {id}: the ids of your tasks begin with {:?}", self.caller.id_prefix());
                return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_id", detail));
            }
            (Some(id), Some(_)) => (id.clone(), IdOrigin::Key(task.result_ttl)),
            (Some(id), None) => (id.clone(), IdOrigin::Producer),
            (None, Some(key)) => (self.id_of_key(&task, key)?, IdOrigin::Key(task.result_ttl)),
            (None, None) => (self.new_id(TaskId::random().as_str())?, IdOrigin::Random),
        };
        // It parsed as a task, so it is an object.
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(raw).unwrap_or_default();
        set(&mut fields, "id", &id);
        if let Some(tenant) = self.caller.tenant() {
            set(&mut fields, "tenant", tenant);
        }
        if let Some(key) = task.idempotency_key.as_deref().or(key) {
            set(&mut fields, "idempotency_key", key);
        }
        if let Some(RequestContext(context)) = self.context.filter(|_| !task.headers.contains_key(TRACEPARENT)) {
            set(&mut fields, "traceparent", context);
        }
        self.add_limits(&task, &mut fields);
        // It cannot fail: keys and values are JSON already.
        let json = serde_json::to_string(&fields).unwrap_or_default();
        let task_ready = redial::prepare(&json).map_err(|error| match error {
            redial::Error::InvalidTask { task, .. } => invalid(&task),
            other => Problem::redis(&other),
        })?;
        let parts = [task.method.as_str().as_bytes(), task.url.as_str().as_bytes()];
        let body = task.body.as_deref().unwrap_or_default();
        let fingerprint = TaskFingerprint::of(parts.into_iter().chain([body]));
        Ok(Submission { task: task_ready, fingerprint, origin })
    }

    fn check_permission(self, task: &Task) -> Result<(), Problem> {
        if let (Some(own), Some(tenant)) = (self.caller.tenant(), &task.tenant)
            && own != tenant
        {
            let detail = format!("`tenant` is {tenant:?}, and the token {:?} is for {own:?}", self.caller.name());
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        }
        if task.reply_to.is_some() {
            self.caller.require(Access::Operate)?;
        }
        let forbidden = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        if self.caller.is_confined() && (task.then.is_some() || task.callback_url.is_some()) {
            return forbidden(format!(
                "the token {:?} is for a tenant or for some upstreams only, so its tasks have no `then` and no `callback_url`",
                self.caller.name()
            ));
        }
        let Some(allowed) = self.caller.upstreams() else { return Ok(()) };
        let name = find(&self.access.upstreams, &task.url).and_then(|target| target.name.as_ref());
        if name.is_none_or(|name| !allowed.contains(name)) {
            return forbidden(format!(
                "the token {:?} is for calls to {} only",
                self.caller.name(),
                allowed.join(", ")
            ));
        }
        Ok(())
    }

    /// The same id each time the same caller sends the same key: different callers and accounts do not share keys.
    fn id_of_key(self, task: &Task, key: &str) -> Result<TaskId, Problem> {
        let origin = task.url.origin().ascii_serialization();
        let mut parts = vec![self.caller.account().as_bytes(), self.queue.as_str().as_bytes(), origin.as_bytes()];
        parts.push(task.tenant.as_deref().unwrap_or_default().as_bytes());
        let secret = task.headers.iter().filter(|(name, _)| credentials::is_identity(name.as_str()));
        parts.extend(secret.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]));
        parts.push(key.as_bytes());
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        self.new_id(&format!("key-{:032x}", u128::from_be_bytes(half)))
    }

    fn new_id(self, name: &str) -> Result<TaskId, Problem> {
        let id = TaskId::new(&format!("{}{name}", self.caller.id_prefix()));
        id.map_err(|error| Problem::invalid(error.to_string()))
    }

    /// Puts the task under the caller's limits. What the task itself says about these does not count: it could make itself free.
    fn add_limits(self, task: &Task, fields: &mut BTreeMap<String, Box<RawValue>>) {
        let required = self.caller.limits();
        if required.is_empty() {
            return;
        }
        let own = fields.get("limit").map_or_else(Vec::new, |raw| {
            serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()).unwrap_or_else(|_| vec![raw.clone()])
        });
        let own = own.into_iter().zip(&task.limits).filter(|(_, limit)| !required.contains(&limit.name));
        let required = required.iter().filter_map(|name| to_raw_value(name).ok());
        let limits: Vec<_> = required.chain(own.map(|(raw, _)| raw)).collect();
        set(fields, "limit", &limits);
    }
}

/// The block that a worker applies to calls of a URL: the same origin, and a path that begins with the same whole segments.
pub(crate) fn find<'a>(targets: &'a [UpstreamTarget], url: &url::Url) -> Option<&'a UpstreamTarget> {
    targets.iter().find(|target| {
        let base = target.url.path().trim_end_matches('/');
        let is_below = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        target.url.origin() == url.origin() && is_below
    })
}

fn set(fields: &mut BTreeMap<String, Box<RawValue>>, name: &str, value: &(impl serde::Serialize + ?Sized)) {
    // It cannot fail: strings and JSON are always JSON.
    if let Ok(value) = to_raw_value(value) {
        fields.insert(name.to_owned(), value);
    }
}

fn invalid(error: &TaskError) -> Problem {
    match error.cause {
        InvalidTask::TooLarge { .. } => body::too_large(),
        _ => Problem::new(StatusCode::BAD_REQUEST, "invalid_task", error.to_string()),
    }
}

impl Submission {
    pub fn id(&self) -> &TaskId {
        &self.task.id
    }

    /// Whether an SDK that sends the request again does not have the call made again.
    pub fn is_repeatable(&self) -> bool {
        matches!(self.origin, IdOrigin::Key(_))
    }
}

impl Gateway {
    /// Pushes a task: once, whatever replies from Redis are lost.
    ///
    /// # Errors
    /// Redis is away, or another task was sent with the same key.
    pub async fn push(&self, client: &Client, task: &Submission) -> Result<(), Problem> {
        let keep = match task.origin {
            IdOrigin::Producer => {
                let pushed = Box::pin(client.push(std::slice::from_ref(&task.task))).await;
                return pushed.map_err(|error| Problem::redis(&error));
            }
            IdOrigin::Random => REPEATED,
            IdOrigin::Key(keep) => keep,
        };
        if self.patiently(|| client.push_once(&task.task, task.fingerprint, keep)).await? {
            return Ok(());
        }
        Err(mismatch())
    }

    /// Pushes a task and waits for its result; `None` at the deadline. While it waits it holds nothing of the task but its id.
    ///
    /// # Errors
    /// As [`Gateway::push`], or the gateway is about to end.
    pub async fn push_and_wait(
        &self,
        client: &Client,
        task: Submission,
        deadline: Instant,
    ) -> Result<Option<Completed>, Problem> {
        let mut results = Box::pin(self.push_and_subscribe(client, task)).await?;
        self.next_result(&mut results, deadline).await
    }

    async fn push_and_subscribe(&self, client: &Client, task: Submission) -> Result<Results, Problem> {
        let keep = match task.origin {
            IdOrigin::Producer => {
                let pushed = client.enqueue_all_and_wait([task.task]).await;
                return pushed.map_err(|error| Problem::redis(&error));
            }
            IdOrigin::Random => REPEATED,
            IdOrigin::Key(keep) => keep,
        };
        let push = || client.push_once_and_wait(&task.task, task.fingerprint, keep);
        self.patiently(push).await?.ok_or_else(mismatch)
    }
}

fn mismatch() -> Problem {
    let detail = "the Idempotency-Key was used for another call: use a new key for a new call";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch", detail).should_retry(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GatewayArgs, GatewayConfig};

    fn submit(config: &GatewayConfig, caller: &Caller, raw: &str, key: Option<&str>) -> Result<Submission, Problem> {
        let queue = QueueName::new("default").map_err(|error| Problem::invalid(error.to_string()))?;
        Sender { access: &config.access, caller, queue: &queue, context: None }.submission(raw, key)
    }

    #[test]
    fn a_key_is_the_same_task_for_the_same_caller_and_account() -> Result<(), Problem> {
        let config =
            GatewayConfig::load(None, GatewayArgs::default()).map_err(|error| Problem::invalid(error.to_string()))?;
        let id = |raw: &str, key| submit(&config, &Caller::anyone(), raw, key).map(|task| task.id().clone());
        let task = r#"{"url":"http://h/a","body":{"n":9007199254740993}}"#;
        assert_eq!(id(task, Some("k"))?, id(task, Some("k"))?);
        assert_ne!(id(task, Some("k"))?, id(task, Some("k2"))?);
        assert_ne!(id(task, Some("k"))?, id(r#"{"url":"http://h/a","headers":{"authorization":"x"}}"#, Some("k"))?);
        assert_ne!(id(task, None)?, id(task, None)?);
        let kept = submit(&config, &Caller::anyone(), task, Some("k"))?;
        assert!(kept.task.json.contains(r#""body":{"n":9007199254740993}"#), "{}", kept.task.json);
        assert!(kept.task.json.contains(r#""idempotency_key":"k""#), "{}", kept.task.json);
        Ok(())
    }
}
