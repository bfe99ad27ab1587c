//! Memo keys: which calls count as the same call.

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::Task;
use crate::consumer::WaitList;
use crate::protocol::canonical::canonical;
use crate::protocol::task::CacheScope;
use crate::protocol::{credentials, json};

/// What a memo is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoPurpose {
    /// One call and one answer, good or bad, under an idempotency key.
    Idempotency,
    /// A good answer that is shared and kept.
    Cache,
}

/// The name of a memo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoKey {
    /// What it is for.
    pub purpose: MemoPurpose,
    /// SHA-256, in 64 hex digits.
    pub hash: String,
    /// SHA-256 of the call itself, for a memo of an idempotency key, whose hash does not cover the call; empty for others.
    pub call: String,
}

impl MemoPurpose {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idempotency => "idempotency",
            Self::Cache => "cache",
        }
    }
}

impl MemoKey {
    /// The memos of a task: first that of its idempotency key, then that of the cache. `added` are the headers that a worker adds, its
    /// credentials.
    pub fn of(task: &Task, added: &HeaderMap) -> Vec<Self> {
        let body = BodyForm::of(task);
        let cache = task.cache_ttl.map(|_| Self::cache_with(task, added, &body));
        Self::idempotency_with(task, added, &body).into_iter().chain(cache).collect()
    }

    /// The wait list of the tasks that follow its leader.
    pub fn wait_list(&self) -> WaitList {
        WaitList::memo(&self.hash)
    }

    /// The memo of a task's idempotency key, if it has one: the key at that origin, for that tenant and these credentials.
    pub fn idempotency(task: &Task, added: &HeaderMap) -> Option<Self> {
        task.idempotency_key.as_ref()?;
        Self::idempotency_with(task, added, &BodyForm::of(task))
    }

    fn idempotency_with(task: &Task, added: &HeaderMap, body: &BodyForm<'_>) -> Option<Self> {
        let key = task.idempotency_key.as_ref()?;
        let mut name = Hash::new("idempotency");
        name.add(key);
        name.add(task.url.origin().ascii_serialization());
        name.add_tenant(task);
        name.add_identity(task, added);
        let mut call = Hash::new("call");
        call.add(task.method.as_str());
        call.add(address(&task.url).as_str());
        let content_type = content_type(task).and_then(|value| value.split(';').next());
        call.add(content_type.unwrap_or_default().trim().to_ascii_lowercase());
        call.add_body(body);
        Some(Self { purpose: MemoPurpose::Idempotency, hash: name.hex(), call: call.hex() })
    }

    /// The memo of a task's call, or of its `cache_key` at that origin, whether or not the task uses the cache. Calls of other tenants
    /// never share it, and calls with other credentials only if its scope is public.
    pub fn cache(task: &Task, added: &HeaderMap) -> Self {
        Self::cache_with(task, added, &BodyForm::of(task))
    }

    fn cache_with(task: &Task, added: &HeaderMap, body: &BodyForm<'_>) -> Self {
        let mut name = Hash::new("cache");
        name.add_tenant(task);
        if task.cache_scope == CacheScope::Private {
            name.add_identity(task, added);
        }
        // One task may take for good what another does not.
        for (field, condition) in [("ok_when", &task.ok_when), ("retry_when", &task.retry_when)] {
            if let Some(condition) = condition {
                name.add(field);
                name.add(condition.identity());
            }
        }
        if let Some(key) = &task.cache_key {
            name.add("key");
            name.add(task.url.origin().ascii_serialization());
            name.add(key);
        } else {
            name.add(task.method.as_str());
            name.add(address(&task.url).as_str());
            // A header that nobody knows may change the answer, so it counts here as well.
            name.add_headers(&task.headers, |name| !credentials::is_credential(name) && !credentials::is_neutral(name));
            name.add_body(body);
        }
        Self { purpose: MemoPurpose::Cache, hash: name.hex(), call: String::new() }
    }
}

/// The idempotency key that the upstream gets for a task of a tenant: two tenants behind one account of an upstream do not share keys
/// there either. It is `<tenant>.<key>`, or where that is ambiguous or has more than 255 bytes, a hash of both.
pub fn upstream_key(tenant: &str, key: &str) -> String {
    const MAX_BYTES: usize = 255;
    if tenant.contains('.') || tenant.len() + 1 + key.len() > MAX_BYTES {
        let mut hash = Hash::new("upstream key");
        hash.add(tenant);
        hash.add(key);
        return hash.hex();
    }
    format!("{tenant}.{key}")
}

/// A body as far as it makes a difference: JSON by its meaning. Found out once for all memos of a task.
enum BodyForm<'a> {
    Absent,
    Json(String),
    Bytes(&'a [u8]),
}

impl<'a> BodyForm<'a> {
    fn of(task: &'a Task) -> Self {
        let Some(body) = &task.body else { return Self::Absent };
        let text = std::str::from_utf8(body).ok().filter(|_| json::is_declared_by(content_type(task)));
        text.and_then(canonical).map_or(Self::Bytes(body), Self::Json)
    }
}

/// A hash of parts, each preceded by its length, so that no two lists of parts hash the same text.
struct Hash(Sha256);

impl Hash {
    fn new(what: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.add(what);
        hash
    }

    fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn add_tenant(&mut self, task: &Task) {
        self.add("tenant");
        self.add([u8::from(task.tenant.is_some())]);
        self.add(task.tenant.as_deref().unwrap_or_default());
    }

    /// Adds on whose behalf a call is made.
    fn add_identity(&mut self, task: &Task, added: &HeaderMap) {
        self.add("identity");
        let of_url = credentials::in_url(&task.url);
        self.add(of_url.len().to_le_bytes());
        for part in of_url {
            self.add(part);
        }
        self.add_headers(added, |_| true);
        self.add_headers(&task.headers, credentials::is_identity);
    }

    fn add_headers(&mut self, headers: &HeaderMap, matters: impl Fn(&str) -> bool) {
        let mut lines: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .filter(|(name, _)| matters(name))
            .collect();
        // A stable sort: values of one name keep their order, which may matter.
        lines.sort_by_key(|(name, _)| *name);
        self.add(lines.len().to_le_bytes());
        for (name, value) in lines {
            self.add(name);
            self.add(value);
        }
    }

    fn add_body(&mut self, body: &BodyForm<'_>) {
        match body {
            BodyForm::Absent => self.add("no body"),
            BodyForm::Json(form) => {
                self.add("json");
                self.add(form);
            }
            BodyForm::Bytes(bytes) => {
                self.add("bytes");
                self.add(bytes);
            }
        }
    }

    fn hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
        let hash = self.0.finalize();
        let mut hex = String::with_capacity(2 * hash.len());
        hash.iter().for_each(|byte| hex.extend([digit(byte >> 4), digit(byte & 15)]));
        hex
    }
}

fn content_type(task: &Task) -> Option<&str> {
    task.headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// A URL without its login, which says on whose behalf the call is made, and without its fragment, which is never sent.
fn address(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    // Both fail only for URLs that cannot have a host, and those have no login either.
    let _ = (url.set_username(""), url.set_password(None));
    url
}

#[cfg(test)]
mod tests;
