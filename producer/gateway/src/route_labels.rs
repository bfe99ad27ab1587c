//! The route of a request as metrics and traces name it: one of a fixed number, whatever the path.

/// What begins with this is a call to an upstream.
const CALLS: &str = "/u";
/// All other paths.
const OTHER: &str = "other";
/// The routes with a label of their own, the most frequent ones first. A part in braces stands for any.
const ROUTES: [&str; 33] = [
    "/v1/tasks",
    "/v1/tasks/{id}",
    "/v1/tasks/{id}/stream",
    "/v1/tasks/{id}/events",
    "/v1/tasks/{id}/story",
    "/v1/queues",
    "/v1/statistics",
    "/v1/batches",
    "/v1/limits",
    "/v1/breakers",
    "/v1/queues/{queue}/waits",
    "/v1/workers",
    "/v1/access",
    "/v1/queues/{queue}/events",
    "/v1/queues/{queue}/pause",
    "/v1/queues/{queue}/resume",
    "/v1/queues/{queue}/tasks",
    "/v1/queues/{queue}/schedules",
    "/v1/queues/{queue}/schedules/{name}",
    "/v1/queues/{queue}/dead",
    "/v1/queues/{queue}/dead/groups",
    "/v1/queues/{queue}/dead/{letter}",
    "/v1/queues/{queue}/dead/{letter}/replay",
    "/v1/queues/{queue}/dead-jobs",
    "/v1/queues/{queue}/dead-jobs/{job}",
    "/v1/limits/{name}",
    "/v1/limits/{name}/reset",
    "/",
    "/dashboard/{file}",
    "/openapi.json",
    "/metrics",
    "/healthz",
    "/readyz",
];

/// The label of a path.
pub(crate) fn route_of(path: &str) -> &'static str {
    if path.strip_prefix(CALLS).is_some_and(|rest| rest.starts_with('/')) {
        return CALLS;
    }
    ROUTES.into_iter().find(|route| is_of(path, route)).unwrap_or(OTHER)
}

fn is_of(path: &str, route: &str) -> bool {
    let (mut parts, mut wanted) = (path.split('/'), route.split('/'));
    loop {
        match (parts.next(), wanted.next()) {
            (None, None) => return true,
            (Some(part), Some(wanted)) if wanted.starts_with('{') && !part.is_empty() || part == wanted => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_openapi_document_has_a_label_of_its_own() {
        let document = crate::openapi::document();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap_or_default();
        let paths =
            document["paths"].as_object().map(|paths| paths.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        assert!(paths.len() > 20, "{paths:?}");
        for path in paths.iter().filter(|path| !path.starts_with("/u/")) {
            let asked = path.replace(['{', '}'], "");
            assert_eq!(route_of(&asked), path, "{asked}");
        }
    }

    #[test]
    fn whatever_is_asked_for_the_labels_are_few() {
        for (path, label) in [
            ("/u/api/v1/chat", "/u"),
            ("/u", "other"),
            ("/ux/y", "other"),
            ("/v1/tasks/order-7", "/v1/tasks/{id}"),
            ("/v1/tasks/a/b/c", "other"),
            ("/v1/tasks/", "other"),
            ("/v1/queues/mail/dead/groups", "/v1/queues/{queue}/dead/groups"),
            ("/v1/queues/mail/dead/17-s:1:1", "/v1/queues/{queue}/dead/{letter}"),
            ("/", "/"),
            ("/other", "other"),
            ("", "other"),
        ] {
            assert_eq!(route_of(path), label, "{path}");
        }
    }
}
