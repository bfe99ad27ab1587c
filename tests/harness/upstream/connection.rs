//! The server side of one HTTP/1.1 connection: reads requests, sends replies or misbehaves.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use httparse::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::reply::{Reply, SendMode};
use super::request::{Headers, Request};

const MAX_HEADERS: usize = 100;
/// Enough for most requests; the buffer grows for larger ones.
const READ_SIZE: usize = 4096;

pub(super) struct ServerConnection {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
}

/// The parts of a request's head that determine how to read the rest.
struct RequestHead {
    length: usize,
    method: Method,
    path: String,
    body: Framing,
    keep_alive: bool,
}

enum Framing {
    Length(usize),
    Chunked,
}

impl ServerConnection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // A response is one write, which must not wait for the acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
        Self { stream, input: BytesMut::new(), output: Vec::new() }
    }

    /// The next complete request, and whether the connection stays open after it; `None` if the client has disconnected or does
    /// not speak HTTP.
    pub(super) async fn receive(&mut self) -> Option<(Request, bool)> {
        if self.input.is_empty() {
            self.read_more().await?;
        }
        let (at, wall) = (Instant::now(), SystemTime::now());
        let head = loop {
            match parse_head(&self.input)? {
                Some(head) => break head,
                None => self.read_more().await?,
            }
        };
        let raw_head = self.input.split_to(head.length).freeze();
        let body = match head.body {
            Framing::Length(0) => Bytes::new(),
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.take_chunks().await?,
        };
        let since_1970 = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let request = Request {
            at,
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or_default(),
            nth: 0,
            method: head.method,
            path: head.path,
            headers: Headers::new(raw_head),
            body,
        };
        Some((request, head.keep_alive))
    }

    /// Sends the reply in its mode; returns whether the connection can take another call.
    pub(super) async fn send(&mut self, reply: &Reply, is_head: bool, keep_alive: bool) -> bool {
        if !reply.delay.is_zero() && !self.delay_while_connected(reply.delay).await {
            return false;
        }
        match reply.mode {
            SendMode::Complete => {
                let is_open = self.write_response(reply, is_head, keep_alive).await.is_some() && keep_alive;
                is_open && self.stays_in_use(reply.idle).await
            }
            SendMode::Streamed => self.write_pieces(reply, keep_alive).await.is_some() && keep_alive,
            SendMode::StreamCutOff => {
                self.write_pieces(reply, keep_alive).await;
                false
            }
            SendMode::StreamStalled => {
                if self.write_pieces(reply, keep_alive).await.is_some() {
                    self.client_disconnected().await;
                }
                false
            }
            SendMode::Raw => {
                let _ = self.stream.write_all(&reply.body).await;
                false
            }
            SendMode::Truncated | SendMode::ChunksCutOff => {
                self.write_response(reply, false, false).await;
                false
            }
            SendMode::Garbage => {
                let _ = self.stream.write_all(b"\x16\x03this is not HTTP\xff\r\n\r\n").await;
                false
            }
            SendMode::Reset => {
                let _ = self.stream.set_zero_linger();
                false
            }
            SendMode::Close => false,
            SendMode::Hang => {
                self.client_disconnected().await;
                false
            }
        }
    }

    async fn write_response(&mut self, reply: &Reply, is_head: bool, keep_alive: bool) -> Option<()> {
        self.output.clear();
        write_head(&mut self.output, reply, keep_alive);
        if !is_head && !reply.body_delay.is_zero() {
            self.stream.write_all(&self.output).await.ok()?;
            self.output.clear();
            if !self.delay_while_connected(reply.body_delay).await {
                return None;
            }
        }
        if !is_head {
            if reply.mode == SendMode::ChunksCutOff {
                write!(self.output, "{:x}\r\n", reply.body.len()).expect("memory takes writes");
            }
            self.output.extend_from_slice(&reply.body);
            if reply.mode == SendMode::ChunksCutOff {
                self.output.extend_from_slice(b"\r\n");
            }
        }
        self.stream.write_all(&self.output).await.ok()
    }

    /// Sends a chunked body piece by piece, and its end if it has one.
    async fn write_pieces(&mut self, reply: &Reply, keep_alive: bool) -> Option<()> {
        self.output.clear();
        write_head(&mut self.output, reply, keep_alive);
        for (pause, piece) in &reply.pieces {
            if !pause.is_zero() {
                self.stream.write_all(&self.output).await.ok()?;
                self.output.clear();
                if !self.delay_while_connected(*pause).await {
                    return None;
                }
            }
            write!(self.output, "{:x}\r\n", piece.len()).expect("memory takes writes");
            self.output.extend_from_slice(piece);
            self.output.extend_from_slice(b"\r\n");
        }
        if reply.mode == SendMode::Streamed {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
        self.stream.write_all(&self.output).await.ok()
    }

    /// Waits this long; false if the client disconnects meanwhile.
    async fn delay_while_connected(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            () = self.client_disconnected() => false,
        }
    }

    /// Resolves when the client disconnects. What it sends before that is kept for the next request.
    async fn client_disconnected(&mut self) {
        while self.read_more().await.is_some() {}
    }

    /// Whether the next call begins within this time.
    async fn stays_in_use(&mut self, idle: Option<Duration>) -> bool {
        let Some(idle) = idle else { return true };
        if !self.input.is_empty() {
            return true;
        }
        tokio::select! {
            () = sleep(idle) => false,
            read = self.read_more() => read.is_some(),
        }
    }

    async fn read_more(&mut self) -> Option<()> {
        self.input.reserve(READ_SIZE);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    async fn take(&mut self, length: usize) -> Option<Bytes> {
        while self.input.len() < length {
            self.read_more().await?;
        }
        Some(self.input.split_to(length).freeze())
    }

    async fn take_chunks(&mut self) -> Option<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let (size_line, size) = loop {
                match httparse::parse_chunk_size(&self.input).ok()? {
                    Status::Complete(found) => break found,
                    Status::Partial => self.read_more().await?,
                }
            };
            let size = usize::try_from(size).ok()?;
            self.take(size_line).await?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Some(body.freeze());
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
}

/// `None` if the input is not HTTP, `Some(None)` if it is incomplete.
#[allow(clippy::option_option, reason = "the caller's `?` ends the connection on `None`")]
fn parse_head(input: &[u8]) -> Option<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(length) = request.parse(input).ok()? else {
        return Some(None);
    };
    let mut head = RequestHead {
        length,
        method: request.method?.parse().ok()?,
        path: request.path?.to_owned(),
        body: Framing::Length(0),
        keep_alive: request.version == Some(1),
    };
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body = Framing::Length(std::str::from_utf8(header.value).ok()?.parse().ok()?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.body = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.keep_alive &= !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Some(Some(head))
}

fn write_head(output: &mut Vec<u8>, reply: &Reply, keep_alive: bool) {
    let status = StatusCode::from_u16(reply.status).expect("a reply has a status from 100 to 999");
    let reason = status.canonical_reason().unwrap_or("Unknown");
    write!(output, "HTTP/1.1 {} {reason}\r\n", status.as_str()).expect("memory takes writes");
    for (name, value) in &reply.headers {
        write!(output, "{name}: {value}\r\n").expect("memory takes writes");
    }
    match reply.mode {
        SendMode::ChunksCutOff | SendMode::Streamed | SendMode::StreamCutOff | SendMode::StreamStalled => {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        // These statuses never have a body, so they have no length either.
        _ if matches!(reply.status, 100..200 | 204 | 304) => {}
        mode => {
            let missing = usize::from(mode == SendMode::Truncated) * (reply.body.len() + 1);
            let length = reply.body.len() + missing;
            write!(output, "content-length: {length}\r\n").expect("memory takes writes");
        }
    }
    if !keep_alive {
        output.extend_from_slice(b"connection: close\r\n");
    }
    output.extend_from_slice(b"\r\n");
}
