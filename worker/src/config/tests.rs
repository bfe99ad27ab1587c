use super::*;

fn with(vars: &[(&str, &str)]) -> anyhow::Result<Config> {
    let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::load(None, var)
}

#[test]
fn the_defaults_match_the_protocol() -> anyhow::Result<()> {
    let config = with(&[])?;
    assert_eq!(config.concurrency, 256);
    assert_eq!(config.redis_url, None);
    assert_eq!(config.metrics_addr, Some(DEFAULT_METRICS_ADDR));
    assert_eq!(config.queues, [(QueueName::new("default")?, 1)]);
    assert_eq!(config.max_task_bytes, redial_core::protocol::task::MAX_BYTES);
    assert_eq!(config.idempotency_hold, Duration::from_millis(redial_core::memo::IDEMPOTENCY_TTL_MS));
    assert!(config.allow_private.is_empty());
    Ok(())
}

#[test]
fn the_environment_overrides_the_defaults() -> anyhow::Result<()> {
    let config = with(&[
        ("REDIS_URL", "redis://r:1"),
        ("REDIAL_QUEUES", "critical=6, default"),
        ("REDIAL_CONCURRENCY", "9"),
        ("REDIAL_ALLOW_PRIVATE", "10.0.0.0/8,::1"),
        ("REDIAL_DRAIN_MS", "100"),
        ("REDIAL_LOG_FORMAT", "json"),
        ("REDIAL_METRICS_ADDR", ""),
    ])?;
    assert_eq!(config.redis_url.as_deref(), Some("redis://r:1"));
    assert_eq!(config.queues, [(QueueName::new("critical")?, 6), (QueueName::new("default")?, 1)]);
    assert_eq!(config.concurrency, 9);
    assert_eq!(config.allow_private.len(), 2);
    assert_eq!(config.drain, Duration::from_millis(100));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.metrics_addr, None);
    Ok(())
}

#[test]
fn an_invalid_setting_is_named() {
    for (name, value, says) in [
        ("REDIAL_CONCURRENCY", "0", "concurrency is 0"),
        ("REDIAL_CONCURRENCY", "many", "concurrency"),
        ("REDIAL_QUEUES", "a=0", "queues holds \"a=0\""),
        ("REDIAL_QUEUES", "a,a", "queues names a twice"),
        ("REDIAL_QUEUES", "", "queues is empty"),
        ("REDIAL_ALLOW_PRIVATE", "10.0.0.0/99", "allow_private holds"),
        ("REDIAL_NAME_SERVERS", "dns.example.com", "name_servers holds \"dns.example.com\""),
        ("REDIAL_METRICS_ADDR", "9464", "metrics_addr is"),
        ("REDIAL_LOG_FORMAT", "xml", "log_format"),
        ("REDIAL_IDEMPOTENCY_HOLD_MS", "5", "idempotency_hold_ms is 5"),
        ("REDIAL_BREAKER_FAILING_PERCENT", "0", "breaker_failing_percent is 0"),
        ("REDIAL_BREAKER_PROBE_MS", "5", "breaker_probe_ms is 5"),
        ("REDIAL_RETRY_BUDGET_PERCENT", "-1", "retry_budget_percent is -1"),
    ] {
        let error = with(&[(name, value)]).map(|_| ()).map_err(|error| format!("{error:#}"));
        assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{name}={value}: {error:?}");
    }
}

#[test]
fn a_misspelled_variable_is_noticed() -> anyhow::Result<()> {
    let given = ["REDIAL_CONCURENCY", "REDIAL_PREFIX", "REDIAL_CONFIG", "PATH"].map(String::from);
    assert_eq!(unknown_variables(given.into_iter())?, ["REDIAL_CONCURENCY"]);
    Ok(())
}

#[test]
fn the_settings_of_the_gateway_may_be_in_the_same_file_and_names_of_upstreams_are_checked() -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("redial-gateway-settings-{}.toml", std::process::id()));
    let load = |text: &str| {
        std::fs::write(&file, text)?;
        let loaded = Config::load(Some(&file), |_| None);
        std::fs::remove_file(&file)?;
        loaded
    };
    let gateway = "[gateway]\nlisten = \"127.0.0.1:1\"\n[[token]]\nname = \"ci\"\n";
    let block = |name: &str| format!("[[upstream]]\nurl = \"https://{name}.example/\"\nname = \"{name}\"\n");
    load(&(gateway.to_owned() + &block("one") + &block("two")))?;
    for (text, says) in [
        (block("one") + &block("one"), "is that of another block"),
        (block("one").replace("name = \"one\"", "name = \"a/b\""), "its name is \"a/b\""),
    ] {
        let error = load(&text).map(|_| ()).map_err(|error| format!("{error:#}"));
        assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{text}: {error:?}");
    }
    Ok(())
}
