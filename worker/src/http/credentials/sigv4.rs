//! Signs calls as AWS wants them: Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>).

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

/// What signs the calls of an upstream.
#[derive(Clone)]
pub struct AwsSigner {
    pub region: String,
    pub service: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for AwsSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secrets are left out.
        f.debug_struct("AwsSigner")
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// A call that cannot be signed.
#[derive(Debug, thiserror::Error)]
#[error("the call cannot be signed for AWS: {0}")]
pub struct Unsigned(String);

impl AwsSigner {
    /// What stands for its signatures, which change, in the identity of calls.
    pub fn identity(&self) -> HeaderValue {
        super::identity(&["aws", &self.access_key_id])
    }

    /// The headers that authorize a call which is made at this time with these `headers`. Signed are the host, `Content-Type`, what begins with
    /// `x-amz-`, and the body.
    ///
    /// # Errors
    /// A header cannot be signed.
    pub fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: &[u8],
        at: SystemTime,
    ) -> Result<HeaderMap, Unsigned> {
        let unsigned = |error: &dyn fmt::Display| Unsigned(error.to_string());
        let identity =
            Credentials::new(&self.access_key_id, &self.secret_access_key, self.session_token.clone(), None, "redial")
                .into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(at)
            .settings(self.settings())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let mut to_sign = Vec::new();
        for (name, value) in headers.iter().filter(|(name, _)| is_signed(name)) {
            to_sign.push((name.as_str(), value.to_str().map_err(|error| unsigned(&error))?));
        }
        let url = sent(url);
        let request =
            SignableRequest::new(method.as_str(), url.as_str(), to_sign.into_iter(), SignableBody::Bytes(body));
        let signed = sign(request.map_err(|error| unsigned(&error))?, &params).map_err(|error| unsigned(&error))?;
        let (instructions, _) = signed.into_parts();
        let mut added = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsigned(&error))?;
            let mut value = HeaderValue::from_str(value).map_err(|error| unsigned(&error))?;
            value.set_sensitive(true);
            added.insert(name, value);
        }
        Ok(added)
    }

    /// S3 differs from all other services.
    fn settings(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        if self.service.starts_with("s3") {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        settings
    }
}

fn is_signed(name: &HeaderName) -> bool {
    name == CONTENT_TYPE || name.as_str().starts_with("x-amz-")
}

/// A URL as far as it is sent.
fn sent(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    // Both fail only for URLs that cannot have a host.
    let _ = (url.set_username(""), url.set_password(None));
    url
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The `Authorization` of a call of the test suite, which are all of 2015-08-30 12:36:00.
    fn signed(method: &Method, url: &str, content_type: Option<&'static str>, body: &str) -> anyhow::Result<String> {
        let signer = AwsSigner {
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        // Headers that proxies may change are not signed.
        headers.insert("user-agent", HeaderValue::from_static("redial"));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let added = signer.sign(method, &Url::parse(url)?, &headers, body.as_bytes(), at)?;
        Ok(added.get("authorization").map_or(Ok(""), |value| value.to_str())?.to_owned())
    }

    #[test]
    fn signatures_are_those_of_the_published_test_suite() -> anyhow::Result<()> {
        // https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-test-suite.html: get-vanilla, post-vanilla,
        // get-vanilla-query-order-key-case, post-x-www-form-urlencoded.
        let form = "application/x-www-form-urlencoded";
        let base = "https://example.amazonaws.com/";
        let query = "https://user:pass@example.amazonaws.com/?Param2=value2&Param1=value1#fragment";
        for (method, url, content_type, body, signature) in [
            (Method::GET, base, None, "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (Method::POST, base, None, "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (Method::GET, query, None, "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            (
                Method::POST,
                base,
                Some(form),
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let authorization = signed(&method, url, content_type, body)?;
            let names = if content_type.is_some() { "content-type;host;x-amz-date" } else { "host;x-amz-date" };
            let scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
            let expected = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}");
            assert_eq!(authorization, expected, "{method} {url}");
        }
        Ok(())
    }
}
