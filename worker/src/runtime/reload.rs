//! Reloads settings and secrets: all of them at SIGHUP, and the secrets and certificates when one of their files changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::reload::{ChangedSettings, Reloader};

/// How often files are looked at. A change is read at the second look that sees it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What asks for a reload.
enum Trigger {
    Hangup,
    Look,
}

/// Reloads until the worker stops. Nothing that is wrong with new settings ends it: the old ones stay in force.
pub async fn run(mut reloader: Reloader, hangups: Arc<Notify>, stop: CancellationToken) {
    loop {
        let trigger = tokio::select! {
            () = hangups.notified() => Trigger::Hangup,
            () = tokio::time::sleep(LOOK_INTERVAL) => Trigger::Look,
            () = stop.cancelled() => return,
        };
        // A file may be on a disk that hangs.
        let work = tokio::task::spawn_blocking(move || {
            reload(&mut reloader, &trigger);
            reloader
        });
        match work.await {
            Ok(back) => reloader = back,
            Err(error) => return tracing::error!(%error, "settings can't be reloaded any more: restart this worker"),
        }
    }
}

fn reload(reloader: &mut Reloader, trigger: &Trigger) {
    match trigger {
        Trigger::Hangup => report(reloader.reload().context("the settings were not reloaded")),
        Trigger::Look => {
            let files = reloader.changed_files();
            if !files.is_empty() {
                report_files(&files, reloader.reload_secrets());
            }
        }
    }
}

fn report(reloaded: anyhow::Result<ChangedSettings>) {
    match reloaded {
        Ok(ChangedSettings { reloaded, at_restart }) => {
            let reloaded = if reloaded.is_empty() { "none".to_owned() } else { reloaded.join(", ") };
            tracing::info!(
                changed = reloaded,
                "SIGHUP: reloaded [[upstream]], [[tenant]], [retry], webhook_secret, and the secrets and certificates in files"
            );
            if !at_restart.is_empty() {
                tracing::warn!(changed = at_restart.join(", "), "SIGHUP: these settings take effect at the next start");
            }
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "SIGHUP: the settings in force stay as they are"),
    }
}

fn report_files(files: &[PathBuf], reloaded: anyhow::Result<()>) {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let files = files.join(", ");
    match reloaded {
        Ok(()) => tracing::info!(files, "reloaded the secrets and certificates, since a file has changed"),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(
                files,
                error,
                "a file has changed and cannot be used: the secrets and certificates in force stay as they are"
            );
        }
    }
}
