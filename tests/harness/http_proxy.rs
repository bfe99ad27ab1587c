//! A forward proxy, as companies have them: `CONNECT` for HTTPS, absolute URLs for HTTP, with or without a login.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest head of a request that it reads.
const MAX_HEAD: usize = 64 << 10;

/// A forward proxy for which every name is at 127.0.0.1.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// The only `Proxy-Authorization` that it accepts.
    login: Mutex<Option<String>>,
    requests: Mutex<Vec<String>>,
}

impl HttpProxy {
    /// Starts one that wants this `Proxy-Authorization`, if any.
    pub async fn start(login: Option<&str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { login: Mutex::new(login.map(str::to_owned)), requests: Mutex::default() });
        let served = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(socket).await });
            }
        });
        Self { address, shared, accepting }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The first lines of the requests that it passed on, such as `CONNECT example.com:443 HTTP/1.1`.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }

    /// Wants this `Proxy-Authorization` from now on.
    pub fn set_login(&self, login: &str) {
        *self.shared.login.lock() = Some(login.to_owned());
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        let head = read_head(&mut client).await?;
        let (line, headers) = head.split_once("\r\n")?;
        // What is for the proxy alone is not passed on (RFC 9110 section 11.7.2).
        let is_login = |line: &&str| line.to_ascii_lowercase().starts_with("proxy-authorization:");
        let (login, headers): (Vec<&str>, Vec<&str>) = headers.split("\r\n").partition(is_login);
        let given = login.first().and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned());
        let wanted = self.login.lock().clone();
        if wanted.is_some() && given != wanted {
            let refusal =
                b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return client.write_all(refusal).await.ok();
        }
        self.requests.lock().push(line.to_owned());
        let (method, target) = line.split_once(' ')?;
        let target = target.strip_suffix(" HTTP/1.1")?;
        let mut server = if method == "CONNECT" {
            let server = connect(target).await?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            server
        } else {
            let (host, path) = target.strip_prefix("http://")?.split_once('/')?;
            let mut server = connect(host).await?;
            let head = format!("{method} /{path} HTTP/1.1\r\nconnection: close\r\n{}", headers.join("\r\n"));
            server.write_all(head.as_bytes()).await.ok()?;
            server
        };
        // Ends when either side does.
        let _ = copy_bidirectional(&mut client, &mut server).await;
        Some(())
    }
}

async fn connect(target: &str) -> Option<TcpStream> {
    let port = target.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok())?;
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()
}

/// Everything up to the empty line, which a client does not go beyond before it is answered. Bodies are not read here.
async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
