//! A name server that answers what a test says, or nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// How often it looks whether it has to end.
const POLL: Duration = Duration::from_millis(100);
/// The types of records that it has (RFC 1035, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;

/// What is known about a name.
#[derive(Debug, Clone)]
pub enum NameAnswer {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Nothing is said, ever.
    Silence,
}

/// A name server over UDP on loopback. Names that no test has told it about do not exist.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Debug, Default)]
struct Zone {
    answers: HashMap<String, NameAnswer>,
    queries: HashMap<String, usize>,
}

impl DnsServer {
    /// Starts one. Its thread ends when it is dropped.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        socket.set_read_timeout(Some(POLL)).expect("a timeout can be set");
        let address = socket.local_addr().expect("a bound socket has an address");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let served = Arc::downgrade(&zone);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Some(zone) = served.upgrade() {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(reply) = zone.lock().reply(&buffer[..length]) {
                    // A client that is gone needs no answer.
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Self { address, zone }
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Says from now on what is known about a name.
    pub fn set(&self, name: &str, answer: NameAnswer) {
        self.zone.lock().answers.insert(name.to_owned(), answer);
    }

    /// Gives a name addresses for so many seconds.
    pub fn set_addresses(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        self.set(name, NameAnswer::Addresses(addresses, ttl));
    }

    /// How many questions about a name's IPv4 addresses arrived.
    pub fn queries(&self, name: &str) -> usize {
        self.zone.lock().queries.get(name).copied().unwrap_or_default()
    }
}

impl Zone {
    /// The answer to a query; `None` if there is to be none.
    fn reply(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = question_name(query)?;
        let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
        if kind == A {
            *self.queries.entry(name.clone()).or_default() += 1;
        }
        let question = query.get(12..end + 4)?;
        let (code, records) = match self.answers.get(&name) {
            Some(NameAnswer::Silence) => return None,
            Some(NameAnswer::Addresses(addresses, ttl)) => (0, records(addresses, kind, *ttl)),
            None => (3, Vec::new()),
        };
        let mut reply = query.get(..2)?.to_vec();
        // A response with recursion, then the counts of questions, answers, authorities and additional records.
        reply.extend([0x81, 0x80 | code, 0, 1]);
        reply.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
        reply.extend([0; 4]);
        reply.extend(question);
        reply.extend(records.concat());
        Some(reply)
    }
}

/// The name that is asked for, in lower case, and where it ends.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}

/// The records of one type, each of which points to the name in the question.
fn records(addresses: &[IpAddr], kind: u16, ttl: u32) -> Vec<Vec<u8>> {
    let of_kind = |address: &IpAddr| match address {
        IpAddr::V4(v4) if kind == A => Some(v4.octets().to_vec()),
        IpAddr::V6(v6) if kind == AAAA => Some(v6.octets().to_vec()),
        _ => None,
    };
    let record = |data: Vec<u8>| {
        let length = u16::try_from(data.len()).expect("an address is short").to_be_bytes();
        [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, &data].concat()
    };
    addresses.iter().filter_map(of_kind).map(record).collect()
}
