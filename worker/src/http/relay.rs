//! Passes a response on while it arrives.

use http::HeaderMap;
use tokio::sync::mpsc;

use super::answer_memory::HeldMemory;
use super::own_secrets::{ArrivingBody, OwnSecrets};

/// How many pieces may wait. Whoever takes them too slowly slows the reading of the response down.
const MAX_WAITING: usize = 16;

/// What reading a response needs.
#[derive(Debug)]
pub struct AnswerReading<'a> {
    /// Where it is passed on to while it arrives.
    pub relay: Option<BodyRelay<'a>>,
    /// What it may occupy.
    pub memory: &'a HeldMemory,
}

/// A piece of a response.
#[derive(Debug)]
pub enum BodyPiece {
    /// Its status and headers, as soon as there is a first byte of its body.
    Head(u16, HeaderMap),
    /// Bytes of its body, decompressed.
    Data(Vec<u8>),
}

/// Where the pieces of a response go. Its end is that of the response.
pub struct BodyRelay<'a> {
    pieces: mpsc::Sender<BodyPiece>,
    secrets: &'a OwnSecrets,
    accepts: Box<dyn Fn(u16) -> bool + Send + Sync + 'a>,
}

impl<'a> BodyRelay<'a> {
    /// A relay for responses whose status `accepts` allows, and where their pieces arrive, without the `secrets`.
    pub fn new(
        accepts: impl Fn(u16) -> bool + Send + Sync + 'a,
        secrets: &'a OwnSecrets,
    ) -> (Self, mpsc::Receiver<BodyPiece>) {
        let (pieces, receiver) = mpsc::channel(MAX_WAITING);
        (Self { pieces, secrets, accepts: Box::new(accepts) }, receiver)
    }

    /// What takes the secrets out of the bytes before they are passed on.
    pub fn arriving_body(&self) -> ArrivingBody<'a> {
        ArrivingBody::new(self.secrets)
    }

    /// Whether a response with this status is passed on.
    pub fn accepts(&self, status: u16) -> bool {
        (self.accepts)(status)
    }

    /// Passes the next bytes on, behind the head if they are the first. Waits while too many wait. Nobody may want them any more.
    pub async fn pass(&self, head: Option<(u16, &HeaderMap)>, bytes: &[u8]) {
        if let Some((status, headers)) = head {
            let mut headers = headers.clone();
            self.secrets.clean_headers(&mut headers);
            let _ = self.pieces.send(BodyPiece::Head(status, headers)).await;
        }
        let _ = self.pieces.send(BodyPiece::Data(bytes.to_vec())).await;
    }
}

impl std::fmt::Debug for BodyRelay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyRelay").finish_non_exhaustive()
    }
}
