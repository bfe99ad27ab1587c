//! What the address of Redis says beyond host and login, after its `?`: certificates, and how Sentinels are asked.

use std::fs;

use percent_encoding::percent_decode_str;
use redis::{ClientTlsConfig, TlsCertificates};

use crate::Error;

/// The options of an address.
#[derive(Debug, Default)]
pub(super) struct AddressOptions {
    /// Root certificates and a client certificate, for every connection over TLS.
    pub(super) certificates: Option<TlsCertificates>,
    /// Whether Sentinels are asked over TLS, if it is said.
    pub(super) sentinel_tls: Option<bool>,
    /// The login for Sentinels. That in front of the hosts is for the master.
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<String>,
}

/// Takes the options out of an address. Those that the Redis client knows, and a `#insecure`, stay in it.
///
/// # Errors
/// An option is unknown or invalid, or a file cannot be read. The message contains no value but the name of a file.
pub(super) fn take_options(url: &str) -> Result<(String, AddressOptions), Error> {
    let (address, fragment) = url.split_once('#').map_or((url, None), |(address, fragment)| (address, Some(fragment)));
    let is_socket = address.starts_with("unix") || address.starts_with("redis+unix");
    let Some((address, query)) = address.split_once('?').filter(|_| !is_socket) else {
        return Ok((url.to_owned(), AddressOptions::default()));
    };
    let mut options = AddressOptions::default();
    let (mut roots, mut certificate, mut key, mut kept) = (None, None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || {
            let decoded = percent_decode_str(value).decode_utf8().ok().filter(|value| !value.is_empty());
            decoded
                .map(String::from)
                .ok_or_else(|| Error::Url(format!("the option {name} has no value, or an invalid one")))
        };
        match name {
            "ca_file" => roots = Some(file(name, &value()?)?),
            "client_certificate_file" => certificate = Some(file(name, &value()?)?),
            "client_key_file" => key = Some(file(name, &value()?)?),
            "sentinel_user" => options.sentinel_user = Some(value()?),
            "sentinel_password" => options.sentinel_password = Some(value()?),
            "sentinel_tls" => options.sentinel_tls = Some(is_true(&value()?)?),
            "protocol" => kept.push(pair),
            other => return Err(unknown(other)),
        }
    }
    options.certificates = certificates(roots, certificate, key)?;
    let kept = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    let fragment = fragment.map_or(String::new(), |fragment| format!("#{fragment}"));
    Ok((format!("{address}{kept}{fragment}"), options))
}

fn unknown(name: &str) -> Error {
    Error::Url(format!(
        "unknown option {name:?} after the ?; there are ca_file, client_certificate_file, client_key_file, sentinel_tls, sentinel_user, \
         sentinel_password and protocol"
    ))
}

fn is_true(value: &str) -> Result<bool, Error> {
    value.parse().map_err(|_| Error::Url("the option sentinel_tls is neither true nor false".to_owned()))
}

fn file(option: &str, path: &str) -> Result<Vec<u8>, Error> {
    let contents = fs::read(path).map_err(|error| Error::Url(format!("cannot read the {option} {path}: {error}")))?;
    if contents.trim_ascii().is_empty() {
        return Err(Error::Url(format!("the {option} {path} is empty")));
    }
    Ok(contents)
}

fn certificates(
    roots: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
) -> Result<Option<TlsCertificates>, Error> {
    let client_tls = match (certificate, key) {
        (None, None) => None,
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        (Some(_), None) => return Err(Error::Url("client_certificate_file needs client_key_file".to_owned())),
        (None, Some(_)) => return Err(Error::Url("client_key_file needs client_certificate_file".to_owned())),
    };
    let is_any = roots.is_some() || client_tls.is_some();
    Ok(is_any.then_some(TlsCertificates { client_tls, root_cert: roots }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_out_and_what_is_not_ours_stays() -> Result<(), Error> {
        for (url, left) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://h:1?", "redis://h:1"),
            ("redis://h:1/2?protocol=resp3", "redis://h:1/2?protocol=resp3"),
            (
                "rediss-sentinel://h:1/m?sentinel_tls=false&protocol=resp3#insecure",
                "rediss-sentinel://h:1/m?protocol=resp3#insecure",
            ),
            ("unix:///run/redis.sock?db=2&pass=p", "unix:///run/redis.sock?db=2&pass=p"),
        ] {
            assert_eq!(take_options(url)?.0, left);
        }
        let (_, options) =
            take_options("redis-sentinel://h/m?sentinel_user=u&sentinel_password=p%26%3F&sentinel_tls=true")?;
        assert_eq!(options.sentinel_user.as_deref(), Some("u"));
        assert_eq!(options.sentinel_password.as_deref(), Some("p&?"));
        assert_eq!(options.sentinel_tls, Some(true));
        Ok(())
    }

    #[test]
    fn an_error_names_the_option_and_never_quotes_a_password() {
        for (query, says) in [
            ("ca_fil=x", "\"ca_fil\""),
            ("ca_file=/no/such", "cannot read the ca_file /no/such"),
            ("ca_file=", "ca_file has no value"),
            ("ca_file=/dev/null", "is empty"),
            ("client_key_file=/etc/hosts", "needs client_certificate_file"),
            ("client_certificate_file=/etc/hosts", "needs client_key_file"),
            ("sentinel_tls=maybe", "neither true nor false"),
            ("sentinel_password=%ffgeheim", "sentinel_password has no value, or an invalid one"),
        ] {
            let error =
                take_options(&format!("rediss://:geheim@h?{query}")).map(|_| ()).map_err(|error| error.to_string());
            assert!(
                error.as_ref().is_err_and(|error| error.contains(says) && !error.contains("geheim")),
                "{query}: {error:?}"
            );
        }
    }
}
