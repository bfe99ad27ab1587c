//! A memo as Redis stores it. `lua/lib/memo.lua` defines and writes it.

use redis::ParsingError;

use crate::UnixMs;

/// A memo, as far as a program needs to know it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoValue<'a> {
    /// When the stored answer expires.
    pub(crate) expires_at: UnixMs,
    /// The serial of the task that got the answer.
    pub(crate) stored_by: &'a str,
    /// The serial of the task that leads, and the token of its delivery.
    pub(crate) lead: Option<(&'a str, &'a str)>,
    /// The stored answer, or an empty slice if the memo stores none.
    pub(crate) answer: &'a [u8],
}

impl<'a> MemoValue<'a> {
    /// More bytes than the header has before the queues of the followers: two serials, a token and a fingerprint have 200.
    pub(crate) const MAX_HEAD_BYTES: usize = 2_048;

    /// Reads a memo, or the first [`MAX_HEAD_BYTES`](Self::MAX_HEAD_BYTES) of one.
    ///
    /// # Errors
    /// It is no memo.
    pub(crate) fn parse(memo: &'a [u8]) -> Result<Self, ParsingError> {
        Self::try_parse(memo).ok_or_else(|| ParsingError::from("the value of its key is not a memo"))
    }

    fn try_parse(memo: &'a [u8]) -> Option<Self> {
        let line_bytes = memo.iter().position(|byte| *byte == b'\n').unwrap_or(memo.len());
        let (line, answer) = memo.split_at(line_bytes);
        let mut parts = std::str::from_utf8(line).ok()?.split(';');
        let mut answer_info = parts.next()?.split(' ');
        let mut lead = parts.nth(1)?.split(' ');
        Some(Self {
            expires_at: UnixMs(answer_info.next()?.parse().ok()?),
            stored_by: answer_info.nth(2)?,
            lead: Some((lead.next()?, lead.next()?)).filter(|(serial, _)| *serial != "-"),
            answer: answer.get(1..).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_has_an_answer_or_a_lead_or_both() {
        let lead = Some(("s2", "w:1:2"));
        let parsed = |memo: &'static str| MemoValue::parse(memo.as_bytes()).ok();
        for (memo, expires_at, stored_by, lead, answer) in [
            ("50 20 1 s1;fp;- - 0 0;\n{\"a\":\n1}", 50, "s1", None, "{\"a\":\n1}"),
            ("0 0 0 -;;s2 w:1:2 70 0;q mail \n", 0, "-", lead, ""),
            ("50 20 1 s1;;s2 w:1:2 70 0;q \n{}", 50, "s1", lead, "{}"),
            // Cut off after its head.
            ("50 20 1 s1;;s2 w:1:2 70 0;q/", 50, "s1", lead, ""),
        ] {
            let expected = MemoValue { expires_at: UnixMs(expires_at), stored_by, lead, answer: answer.as_bytes() };
            assert_eq!(parsed(memo), Some(expected), "{memo}");
        }
    }

    #[test]
    fn what_is_no_memo_is_an_error() {
        for text in ["", "by hand", "a b c;d;e", "50 20;;s2 t 1 0;", "50 20 1 s1;fp\n;s2 t 1 0;"] {
            assert!(MemoValue::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(MemoValue::parse(b"50 20 1 \xff;;- - 0 0;\n").is_err());
    }
}
