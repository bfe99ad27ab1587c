//! Settings that can be reloaded while the worker runs: the `[[upstream]]` blocks with their secrets and certificates, the `[[tenant]]` blocks,
//! `[retry]` and `webhook_secret`. The others take effect at the next start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use config::Value;
use parking_lot::RwLock;
use redial_core::QueueName;
use redial_core::protocol::task::TaskDefaults;
use redial_core::watched_files::WatchedFiles;

use super::limit::LimitConfig;
use super::retry::RetryConfig;
use super::secrets::SecretReader;
use super::tenant::{RawTenant, Tenants};
use super::upstream::{RawUpstream, Upstreams};
use super::webhook::WebhookSecrets;

/// The settings that can change while the worker runs, by the names that they have in the file.
pub const RELOADABLE: [&str; 4] = ["retry", "tenant", "upstream", "webhook_secret"];

/// A setting that can be replaced while others read it. Clones share it.
#[derive(Debug, Default)]
pub struct Reloadable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Reloadable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Reloadable<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value as it is now. Whoever holds it keeps it.
    pub fn current(&self) -> Arc<T> {
        self.0.read().clone()
    }

    fn replace(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}

/// These settings as written.
#[derive(Clone)]
pub struct RawReloadable {
    pub upstream: Vec<RawUpstream>,
    pub retry: RetryConfig,
    pub tenant: Vec<RawTenant>,
    pub webhook_secret: String,
}

/// The values of these settings, and the files that some of them are in.
pub struct ReadSettings {
    pub upstreams: Upstreams,
    pub tenants: Tenants,
    pub webhook_secrets: WebhookSecrets,
    files: Vec<PathBuf>,
}

impl RawReloadable {
    /// Checks the settings and reads their secrets.
    ///
    /// # Errors
    /// A setting is invalid, or a secret cannot be read.
    pub fn read(
        &self,
        limits: &LimitConfig,
        queues: &[(QueueName, u32)],
        var: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<ReadSettings> {
        let secrets = SecretReader::new(var);
        let defaults = TaskDefaults::default().with(None, self.retry.clone().into(), None).context("[retry]")?;
        let upstreams = Upstreams::new(&self.upstream, defaults, &secrets)?;
        upstreams.limits_named().try_for_each(|name| limits.require(name))?;
        let tenants = Tenants::new(&self.tenant, queues.iter().map(|(name, _)| name))?;
        let webhook_secret = secrets.fill(&self.webhook_secret).context("webhook_secret")?;
        let webhook_secrets = WebhookSecrets::parse(&webhook_secret)?;
        Ok(ReadSettings { upstreams, tenants, webhook_secrets, files: secrets.into_files() })
    }
}

/// The settings as they were last read: what a reload compares with.
#[derive(Clone)]
pub struct SettingsSource {
    /// The file as given on the command line.
    pub path: Option<PathBuf>,
    /// All settings.
    pub all: BTreeMap<String, Value>,
    pub raw: RawReloadable,
}

impl fmt::Debug for SettingsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        f.debug_struct("SettingsSource").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads and checks all settings, from a file and the environment.
pub type LoadSettings = fn(Option<&Path>) -> anyhow::Result<SettingsSource>;

/// Reloads settings. If something is wrong with the new ones, the old ones stay in force.
#[derive(Debug)]
pub struct Reloader {
    /// Reads and checks all settings.
    load: LoadSettings,
    source: SettingsSource,
    limits: LimitConfig,
    queues: Vec<(QueueName, u32)>,
    handles: ReloadableHandles,
    /// Those that hold a secret or a certificate.
    files: WatchedFiles,
}

/// What a reload replaces.
#[derive(Debug, Clone)]
pub struct ReloadableHandles {
    pub upstreams: Reloadable<Upstreams>,
    pub tenants: Reloadable<Tenants>,
    pub webhook_secrets: Reloadable<WebhookSecrets>,
}

/// Which settings differ from those in force.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangedSettings {
    /// Those that are in force now.
    pub reloaded: Vec<String>,
    /// Those that take effect at the next start.
    pub at_restart: Vec<String>,
}

impl Reloader {
    /// Replaces what these handles share. `load` reads and checks all settings.
    pub fn new(
        load: LoadSettings,
        source: SettingsSource,
        limits: LimitConfig,
        queues: Vec<(QueueName, u32)>,
        handles: ReloadableHandles,
    ) -> Self {
        let mut reloader = Self { load, source, limits, queues, handles, files: WatchedFiles::default() };
        // What is wrong was told when the settings were first read.
        if let Ok(read) = reloader.source.raw.read(&reloader.limits, &reloader.queues, &from_environment) {
            reloader.watch(&read.files);
        }
        reloader
    }

    fn watch(&mut self, files: &[PathBuf]) {
        self.files = WatchedFiles::new(files.iter().map(PathBuf::as_path));
    }

    /// Which files of secrets and certificates have changed since they were last read.
    pub fn changed_files(&mut self) -> Vec<PathBuf> {
        self.files.changed()
    }

    /// Reloads all secrets and certificates, by the settings as they were last read.
    ///
    /// # Errors
    /// One of them cannot be used: the old ones stay in force, until a file changes again.
    pub fn reload_secrets(&mut self) -> anyhow::Result<()> {
        self.files.reading();
        let read = self.source.raw.read(&self.limits, &self.queues, &from_environment)?;
        self.put_in_force(read);
        Ok(())
    }

    /// Reloads the settings, and all secrets and certificates.
    ///
    /// # Errors
    /// One of them cannot be used: the old ones stay in force.
    pub fn reload(&mut self) -> anyhow::Result<ChangedSettings> {
        // All of them are checked, so that an error shows now and not at the next start.
        let source = (self.load)(self.source.path.as_deref())?;
        let read = source.raw.read(&self.limits, &self.queues, &from_environment)?;
        let changed = ChangedSettings::between(&self.source.all, &source.all);
        self.source = source;
        self.put_in_force(read);
        Ok(changed)
    }

    fn put_in_force(&mut self, read: ReadSettings) {
        self.watch(&read.files);
        self.handles.upstreams.replace(read.upstreams);
        self.handles.tenants.replace(read.tenants);
        self.handles.webhook_secrets.replace(read.webhook_secrets);
    }
}

impl ChangedSettings {
    fn between(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Self {
        let differs =
            |name: &&String| before.get(*name).map(|value| &value.kind) != after.get(*name).map(|value| &value.kind);
        let names: Vec<String> = before
            .keys()
            .chain(after.keys().filter(|name| !before.contains_key(*name)))
            .filter(differs)
            .cloned()
            .collect();
        let (reloaded, at_restart) = names.into_iter().partition(|name| RELOADABLE.contains(&name.as_str()));
        Self { reloaded, at_restart }
    }
}

/// The environment does not change while a process runs.
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
