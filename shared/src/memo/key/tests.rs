#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "tests: brevity before speed, a panic is a failure"
)]

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{MemoKey, upstream_key};
use crate::Task;

fn task(fields: Value) -> Task {
    let mut task =
        json!({"url": "https://api.example.com/v1/extract", "body": {"a": 1, "b": [2, 3]}, "idempotency_key": "k"});
    for (field, value) in fields.as_object().unwrap() {
        task[field] = value.clone();
    }
    Task::parse(task.to_string().as_bytes(), 1 << 20).unwrap()
}

fn cache(fields: Value) -> String {
    MemoKey::cache(&task(fields), &HeaderMap::new()).hash
}

fn idempotency(fields: Value) -> (String, String) {
    let key = MemoKey::idempotency(&task(fields), &HeaderMap::new()).unwrap();
    (key.hash, key.call)
}

fn adding(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[test]
fn details_that_never_change_an_answer_do_not_change_the_memo() {
    let plain = cache(json!({}));
    for same in [
        json!({"id": "x", "meta": 1, "timeout_ms": 5, "idempotency_key": "other", "reply_to": "answers"}),
        json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}),
        json!({"headers": {"User-Agent": "x", "X-Stainless-Retry-Count": "1", "X-Request-Id": "r"}}),
        json!({"headers": {"content-type": "application/json"}}),
        json!({"url": "https://API.example.com:443/v1/extract#part"}),
    ] {
        assert_eq!(cache(same.clone()), plain, "{same}");
    }
}

#[test]
fn details_that_may_change_an_answer_change_the_memo() {
    let mut seen = vec![cache(json!({}))];
    for other in [
        json!({"body": {"a": 1, "b": [3, 2]}}),
        json!({"body": {}}),
        json!({"body": null}),
        json!({"body": null, "method": "POST"}),
        json!({"body": null, "body_text": ""}),
        json!({"body": null, "body_text": "{\"a\":1,\"b\":[2,3]}"}),
        json!({"method": "PUT"}),
        json!({"url": "https://api.example.com/v1/extract?q=1"}),
        json!({"url": "http://api.example.com/v1/extract"}),
        json!({"headers": {"Accept-Language": "de"}}),
        json!({"headers": {"OpenAI-Beta": "assistants=v2"}}),
        json!({"headers": {"a": "bc"}}),
        json!({"headers": {"ab": "c"}}),
        json!({"cache_key": "k"}),
        json!({"cache_key": "k2"}),
    ] {
        let hash = cache(other.clone());
        assert!(!seen.contains(&hash), "{other}");
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        seen.push(hash);
    }
}

#[test]
fn two_tenants_never_share() {
    for name in [json!({}), json!({"cache_key": "doc-42"})] {
        let of = |more: Value| {
            let mut fields = name.clone();
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fields
        };
        let mut seen = Vec::new();
        for tenant in [
            json!({}),
            json!({"headers": {"Authorization": "Bearer a"}}),
            json!({"headers": {"Authorization": "Bearer b"}}),
            json!({"headers": {"X-Api-Key": "a"}}),
            json!({"headers": {"Authorization": "Bearer a", "OpenAI-Organization": "o"}}),
            json!({"url": "https://a:b@api.example.com/v1/extract"}),
            json!({"url": "https://api.example.com/v1/extract?key=a"}),
            json!({"url": "https://api.example.com/v1/extract?key=b"}),
            json!({"headers": {"X-Auth-Key": "a"}}),
            json!({"headers": {"Ocp-Apim-Subscription-Key": "a"}}),
            json!({"headers": {"X-User-Id": "a"}}),
            json!({"headers": {"X-Tenant": "a"}}),
            json!({"headers": {"X-Tenant": "b"}}),
            json!({"tenant": "a"}),
            json!({"tenant": "b"}),
            json!({"tenant": "b", "headers": {"X-Tenant": "b"}}),
        ] {
            let (hash, (held, call)) = (cache(of(tenant.clone())), idempotency(of(tenant.clone())));
            assert!(!seen.contains(&hash) && !seen.contains(&held), "{tenant}");
            seen.extend([hash, held]);
            // What stands in a query may be another question, so it counts also where credentials don't.
            let mut public = of(tenant.clone());
            public["cache_scope"] = json!("public");
            let mut anyone = name.clone();
            anyone["cache_scope"] = json!("public");
            let asks_another = public["url"].as_str().is_some_and(|url| url.contains('?')) && name == json!({});
            // A header that nobody knows may change the answer, unless the task itself names it.
            let is_unknown = tenant.to_string().contains("\"X-") && !tenant.to_string().contains("Api-Key");
            let is_unknown = (is_unknown || tenant.to_string().contains("Ocp")) && name == json!({});
            let is_another = asks_another || is_unknown || tenant.get("tenant").is_some();
            assert_eq!(cache(public) == cache(anyone), !is_another, "{tenant}");
            assert_eq!(call == idempotency(json!({})).1, !tenant.to_string().contains('?'), "{tenant}");
        }
        let added =
            ["a", "b"].map(|value| MemoKey::of(&task(of(json!({"cache_ttl_ms": 1}))), &adding("authorization", value)));
        let [a, b] = added.map(|keys| keys.into_iter().map(|key| key.hash).collect::<Vec<_>>());
        assert_eq!(a.len(), 2);
        assert!(a.iter().zip(&b).all(|(a, b)| a != b), "what the worker adds counts as well");
    }
}

#[test]
fn a_key_used_for_another_call_has_the_same_hash_but_another_fingerprint() {
    let (name, call) = idempotency(json!({}));
    for other in [
        json!({"body": {"a": 2}}),
        json!({"method": "PUT"}),
        json!({"url": "https://api.example.com/v1/refund"}),
        json!({"url": "https://api.example.com/v1/extract?q=1"}),
    ] {
        let (its_name, its_call) = idempotency(other.clone());
        assert!(its_name == name && its_call != call, "{other}");
    }
    for same in [
        json!({"headers": {"X-Request-Id": "2"}}),
        json!({"body": {"b": [2.0, 3], "a": 1}}),
        json!({"cache_ttl_ms": 1}),
    ] {
        assert_eq!(idempotency(same.clone()), (name.clone(), call.clone()), "{same}");
    }
    for other_name in [json!({"idempotency_key": "k2"}), json!({"url": "https://api.example.org/v1/extract"})] {
        assert_ne!(idempotency(other_name).0, name);
    }
}

#[test]
fn a_cache_key_names_an_answer_within_its_origin() {
    let of = |url: &str, scope: &str| {
        cache(json!({"url": url, "cache_key": "k", "cache_scope": scope, "headers": {"X-User-Id": "a"}}))
    };
    for scope in ["private", "public"] {
        let one = of("https://api.example.com/v1/extract", scope);
        assert_eq!(one, of("https://api.example.com/v2/other?q=1", scope), "{scope}");
        for other in ["http://api.example.com/", "https://api.example.com:8443/", "https://api.example.org/"] {
            assert_ne!(one, of(other, scope), "{scope} {other}");
        }
    }
}

#[test]
fn a_task_asks_its_idempotency_memo_first_and_the_cache_only_if_it_uses_one() {
    let purposes = |fields| {
        MemoKey::of(&task(fields), &HeaderMap::new()).iter().map(|key| key.purpose.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(purposes(json!({"cache_ttl_ms": 0})), ["idempotency", "cache"]);
    assert_eq!(purposes(json!({"idempotency_key": null, "cache_ttl_ms": 1})), ["cache"]);
    assert!(purposes(json!({"idempotency_key": null, "cache_key": "k"})).is_empty());
}

#[test]
fn two_tenants_have_different_keys_at_an_upstream() {
    assert_eq!(upstream_key("acme", "k.1"), "acme.k.1");
    assert_ne!(upstream_key("a", "b.c"), upstream_key("a.b", "c"));
    let long = "k".repeat(255);
    assert_ne!(upstream_key("a", &long), upstream_key("b", &long));
    assert!(upstream_key("a", &long).len() <= 255);
}
