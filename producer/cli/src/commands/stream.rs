//! `redial stream`

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use redial::{Client, EntryId, Status, StreamEntry, StreamEvent, StreamFailure, TaskId};
use serde_json::{Value, json};

use crate::output::{self, BodyPrinter, Output};

/// Print the answer of a call with `"stream": true` while it arrives; exit code 5 if the call is dead in the end, 3 if nothing more comes
/// in time.
///
/// The body is printed as it is; on a terminal, control characters in it are escaped. With --json, each entry of the stream is a line with its id, for --after.
#[derive(Debug, clap::Args)]
pub struct StreamArgs {
    /// The id of the call.
    id: String,
    /// Go on behind this entry.
    #[arg(long, value_name = "ENTRY")]
    after: Option<String>,
    /// How long to wait for the next bytes, in seconds. Default: forever.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

impl StreamArgs {
    pub async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        let id = TaskId::new(&self.id)?;
        let after = self.after.as_deref().map_or(Ok(EntryId::START), EntryId::parse)?;
        let mut printer = BodyPrinter::new();
        let mut entries = client.stream(&id, after);
        loop {
            let patience = self.timeout.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()));
            let Ok(next) = tokio::time::timeout(patience, entries.next()).await else {
                let queue = client.queue().name();
                output::complain(&format!("{id}: nothing more in its stream in queue {queue} in time"));
                return Ok(ExitCode::from(super::NOT_FOUND));
            };
            let Some(entry) = next else { return Ok(ExitCode::SUCCESS) };
            let failure = match &entry.event {
                StreamEvent::Error(failure) => Some(failure.clone()),
                _ => None,
            };
            match output {
                Output::Json => output::json_line(&as_json(&entry).to_string())?,
                Output::Text => print(&entry, &mut printer)?,
            }
            if let Some(StreamFailure { status, error, .. }) = failure {
                output::complain(&format!("{id}: {}", output::escaped(&error)));
                // If the result has the answer all the same, only the stream has failed.
                let is_dead = status == Status::Dead;
                return Ok(if is_dead { super::exit_code(false, true) } else { ExitCode::FAILURE });
            }
        }
    }
}

/// Prints the bytes of the body.
fn print(entry: &StreamEntry, printer: &mut BodyPrinter) -> io::Result<()> {
    match &entry.event {
        StreamEvent::Data(bytes) => printer.print(bytes),
        StreamEvent::Restart { why } => {
            output::complain(&format!(
                "the answer broke off, and there will be another attempt: {}",
                output::escaped(why)
            ));
            Ok(())
        }
        StreamEvent::End | StreamEvent::Error(_) => printer.end(),
        StreamEvent::Head(_) => Ok(()),
    }
}

fn as_json(entry: &StreamEntry) -> Value {
    let id = entry.id.to_string();
    match &entry.event {
        StreamEvent::Head(head) => json!({"entry": id, "type": "head", "status": head.status, "headers": head.headers}),
        StreamEvent::Data(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!({"entry": id, "type": "data", "text": text}),
            Err(_) => {
                json!({"entry": id, "type": "data", "base64": base64::engine::general_purpose::STANDARD.encode(bytes)})
            }
        },
        StreamEvent::Restart { why } => json!({"entry": id, "type": "restart", "why": why}),
        StreamEvent::End => json!({"entry": id, "type": "end"}),
        StreamEvent::Error(StreamFailure { status, reason, error }) => {
            json!({"entry": id, "type": "error", "status": status, "reason": reason, "error": error})
        }
    }
}
