//! What an upstream sends, byte for byte, through the HTTP client of the worker. The first byte chooses the call and the end.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use redial_core::{Task, TaskResult};
use redial_worker::fuzz::{self, HttpClient, MAX_WAIT, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::bound::BOUND;

/// How long the client waits for an answer that does not end.
const TIMEOUT: Duration = Duration::from_millis(100);
/// The largest answer, decompressed.
const MAX_ANSWER: usize = 64 << 10;

struct Caller {
    runtime: Runtime,
    client: HttpClient,
}

fn caller() -> &'static Caller {
    static CALLER: OnceLock<Caller> = OnceLock::new();
    CALLER.get_or_init(|| {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async { fuzz::client(MAX_ANSWER) }).unwrap();
        Caller { runtime, client }
    })
}

/// The attempt ends in time, with an answer of a bounded size or a failure in words, and the task has an outcome that fits it.
pub fn run(bytes: &[u8]) {
    let Some((choice, answer)) = bytes.split_first() else { return };
    let Caller { runtime, client } = caller();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let task = task(*choice, listener.local_addr().unwrap().port());
        let started = Instant::now();
        let result = tokio::select! {
            result = fuzz::attempt(client, &task) => result,
            () = serve(&listener, answer, choice & 1 == 0) => unreachable!("it serves until the attempt has ended"),
        };
        assert!(started.elapsed() < BOUND, "the attempt took {:?}", started.elapsed());
        let outcome = fuzz::outcome(&task, &result).unwrap();
        match (&outcome, &result) {
            (Outcome::Complete, Ok(response)) => assert!((200..300).contains(&response.status), "{response:?}"),
            (Outcome::Complete, Err(failure)) => panic!("{failure} is complete"),
            (Outcome::Retry { wait, error, .. }, _) => {
                assert!(
                    !error.is_empty() && *wait <= MAX_WAIT.max(task.retry.cap).mul_f64(1.2) + TIMEOUT,
                    "{outcome:?}"
                );
            }
            (Outcome::Dead { error, .. }, _) => assert!(!error.is_empty()),
        }
        let Ok(response) = result else { return };
        assert!(response.body.len() <= MAX_ANSWER, "{} bytes", response.body.len());
        let body = response.body.clone();
        is_stored_as_it_is(&fuzz::result_of(response), &body);
    });
}

fn task(choice: u8, port: u16) -> Task {
    let method = ["GET", "HEAD", "POST", "DELETE"][usize::from(choice >> 1) % 4];
    let effect = if choice & 8 == 0 { "idempotent" } else { "once" };
    let redirects = u8::from(choice & 16 != 0) * 3;
    let fields = format!(r#""timeout_ms":{},"redirects":{redirects},"effect":"{effect}""#, TIMEOUT.as_millis());
    Task::parse(format!(r#"{{"url":"http://127.0.0.1:{port}/","method":"{method}",{fields}}}"#).as_bytes(), 1_000)
        .unwrap()
}

/// Sends the same answer on every connection, and then closes it or leaves it open.
async fn serve(listener: &TcpListener, answer: &[u8], closes: bool) {
    let mut open = Vec::new();
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        respond(&mut client, answer).await;
        if !closes {
            open.push(client);
        }
    }
}

async fn respond(client: &mut TcpStream, answer: &[u8]) {
    let (mut head, mut part) = (Vec::<u8>::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut part).await {
            Ok(count) if count > 0 => head.extend(&part[..count]),
            _ => return,
        }
    }
    // Whoever has heard enough hangs up.
    let _ = client.write_all(answer).await;
}

/// A result is JSON that any language reads, and holds the body as it came, but for white space around JSON and line breaks in it.
fn is_stored_as_it_is(result: &TaskResult, body: &[u8]) {
    let line = result.to_line();
    assert!(!line.contains(['\n', '\r']), "{line}");
    let read: TaskResult = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let one_line = |body: &[u8]| -> Vec<u8> {
        let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii();
        text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
    };
    if result.body.is_some() {
        assert_eq!(one_line(&read.body_as_bytes()), one_line(body));
    } else {
        assert_eq!(read.body_as_bytes(), body);
    }
    assert_eq!(read.to_line(), line);
    let headers = read.headers.unwrap();
    assert!(headers.len() <= 64 && !headers.contains_key("set-cookie"), "{headers:?}");
}
