use super::*;

fn upstreams(blocks: &[(&str, &str, &str)]) -> anyhow::Result<Upstreams> {
    let blocks: Vec<_> = blocks
        .iter()
        .map(|(url, name, value)| RawUpstream {
            max_in_flight: None,
            url: (*url).to_owned(),
            name: None,
            headers: BTreeMap::from([((*name).to_owned(), (*value).to_owned())]),
            limits: vec![],
            adjusts: vec![],
            breaker: true,
            timeout_ms: None,
            redirects: None,
            retry: RetryConfig::default(),
            preset: None,
            account: None,
            oauth: None,
            aws: None,
            connection: RawConnection::default(),
            words: BTreeMap::new(),
        })
        .collect();
    let var = |name: &str| (name == "KEY").then(|| "geheim".to_owned());
    Upstreams::new(&blocks, TaskDefaults::default(), &SecretReader::new(&var))
}

fn added(upstreams: &Upstreams, url: &str, more: &str) -> anyhow::Result<String> {
    let raw = format!(r#"{{"url":"{url}"{more}}}"#);
    let task = Task::parse(raw.as_bytes(), 1000)?;
    let headers = upstreams.headers_for(&task);
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or_default())).collect();
    Ok(lines.join("\n"))
}

#[test]
fn the_longest_matching_block_adds_its_headers_unless_the_task_has_its_own() -> anyhow::Result<()> {
    let both = upstreams(&[
        ("https://api.example.com/", "Authorization", "Bearer ${KEY}"),
        ("https://api.example.com/v2", "Authorization", "Bearer 2"),
    ])?;
    for (url, more, expected) in [
        ("https://api.example.com/v1/x", "", "authorization=Bearer geheim"),
        ("https://API.example.com:443/v2/x?q", "", "authorization=Bearer 2"),
        ("https://api.example.com/v20", "", "authorization=Bearer geheim"),
        ("https://api.example.com/", r#","headers":{"authorization":"own"}"#, ""),
        ("http://api.example.com/", "", ""),
        ("https://api.example.com.evil.org/", "", ""),
        ("https://u@evil.org/https://api.example.com/", "", ""),
    ] {
        assert_eq!(added(&both, url, more)?, expected, "{url}");
    }
    assert!(!format!("{both:?}").contains("geheim"), "a secret in a log");
    Ok(())
}

#[test]
fn an_error_in_a_block_is_described_without_its_secret() {
    for (block, says) in [
        (("api.example.com", "A", "b"), "cannot be parsed"),
        (("ftp://h/", "A", "b"), "neither http nor https"),
        (("https://h/?q", "A", "b"), "query"),
        (("https://h/", "A b", "c"), "not a valid header name"),
        (("https://h/", "A", "${KEY"), "a ${ has no }"),
        (("https://h/", "A", "${NO_SUCH}"), "NO_SUCH is not set"),
        (("https://h/", "A", "${file:/no/such}"), "cannot read the file /no/such"),
        (("https://h/", "A", "${KEY}\n"), "must not have"),
    ] {
        let error = upstreams(&[block]).map(|_| ()).map_err(|error| format!("{error:#}"));
        let told = error.as_ref().is_err_and(|error| error.contains(says) && !error.contains("geheim"));
        assert!(told, "{block:?}: {error:?}");
    }
}

fn parsed(text: &str) -> anyhow::Result<Upstreams> {
    let file = config::File::from_str(text, config::FileFormat::Toml);
    let raw: BTreeMap<String, Vec<RawUpstream>> =
        config::Config::builder().add_source(file).build()?.try_deserialize()?;
    let blocks: Vec<RawUpstream> = raw.into_values().flatten().collect();
    Upstreams::new(&blocks, TaskDefaults::default(), &SecretReader::new(&|_| None))
}

#[test]
fn a_block_sets_defaults_for_its_tasks_and_their_own_fields_win() -> anyhow::Result<()> {
    let upstreams =
        parsed("[[upstream]]\nurl = \"https://h/slow\"\ntimeout_ms = 90000\nretry = { max_attempts = 3, on = [423] }")?;
    let task = |more: &str, path: &str| {
        let raw = format!(r#"{{"url":"https://h/{path}"{more}}}"#);
        Task::parse_with(raw.as_bytes(), 1000, |url| upstreams.defaults_for(url))
    };
    let slow = task("", "slow/x")?;
    assert_eq!((slow.timeout.as_secs(), slow.retry.max_attempts, &slow.retry.on[..]), (90, 3, &[423][..]));
    assert_eq!(slow.retry.base, TaskDefaults::default().retry.base);
    let own = task(r#","timeout_ms":7000,"retry":{"max_attempts":2,"on":[]}"#, "slow")?;
    assert_eq!((own.timeout.as_secs(), own.retry.max_attempts, own.retry.on.len()), (7, 2, 0));
    let other = task("", "other")?;
    assert_eq!((other.timeout.as_secs(), other.retry.max_attempts), (30, 8));
    Ok(())
}

#[test]
fn a_block_extends_the_preset_of_its_host_or_the_one_that_it_names() -> anyhow::Result<()> {
    let upstreams = parsed(
        "[[upstream]]\nurl = \"https://api.openai.com/\"\nretry_statuses = [423]\n\
         [[upstream]]\nurl = \"https://pay.example.com/\"\npreset = \"paypal\"",
    )?;
    let statuses = |url: &str| Ok::<_, anyhow::Error>(&upstreams.preset_for(&Url::parse(url)?).retry_statuses[..]);
    assert_eq!(statuses("https://api.openai.com/v1")?, [409, 423]);
    assert_eq!(statuses("https://api.anthropic.com/v1")?, [409]);
    assert!(statuses("https://example.com/")?.is_empty());

    let task = Task::parse(br#"{"url":"https://pay.example.com/","idempotency_key":"k"}"#, 1000)?;
    let mut headers = HeaderMap::new();
    upstreams.add_idempotency_header(&task, &mut headers);
    assert_eq!(headers.get("paypal-request-id").map(HeaderValue::as_bytes), Some(&b"k"[..]));
    Ok(())
}

#[test]
fn an_invalid_setting_of_a_block_is_named() {
    for (line, says) in [
        ("hedaers = {}", "hedaers"),
        ("preset = \"opnai\"", "there is no preset \"opnai\""),
        ("timeout_ms = 0", "timeout_ms"),
        ("redirects = 21", "`redirects` is 21"),
        ("ok_when = { path = \"x\" }", "`ok_when` has the path \"x\""),
        ("retry = { max_attempts = 0 }", "max_attempts"),
        ("retry = { attempts = 3 }", "attempts"),
        ("retry = { on = [200] }", "200"),
        ("final_statuses = [99]", "99 is not a status"),
    ] {
        let error = parsed(&format!("[[upstream]]\nurl = \"https://h/\"\n{line}"));
        let error = error.map(|_| ()).map_err(|error| format!("{error:#}"));
        assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{line}: {error:?}");
    }
}
