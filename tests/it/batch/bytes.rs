//! Whatever JSON stands in a file, exactly that is sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use redial_tests::{Reply, Upstream};

use super::BatchFixture;

/// How many documents.
const DOCUMENTS: usize = 300;

/// The text of a JSON document: numbers, escapes, order, duplicate keys and white space as nobody would write them.
fn document() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?";
    let string = "\"([ !#-\\[\\]-~]|é|\u{2028}|😀|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,12}\"";
    let leaf = prop_oneof![number, string, "true|false|null"];
    let space = "[ \t]{0,2}";
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let items = prop::collection::vec((space, inner.clone()), 0..5);
        let fields = prop::collection::vec((string, space, inner), 0..5);
        let array = items.prop_map(|items| {
            let items: Vec<String> = items.into_iter().map(|(space, item)| format!("{space}{item}{space}")).collect();
            format!("[{}]", items.join(","))
        });
        let object = fields.prop_map(|fields| {
            let field = |(name, space, value)| format!("{space}{name}{space}:{value}{space}");
            format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
        });
        prop_oneof![array, object]
    })
}

#[tokio::test]
async fn any_json_document_in_a_file_is_sent_byte_for_byte() {
    let fixture = BatchFixture::new(Upstream::start(|_| Reply::ok()).await).await;
    let mut runner = TestRunner::deterministic();
    let documents: Vec<String> = (0..DOCUMENTS).map(|_| document().new_tree(&mut runner).unwrap().current()).collect();
    // As bodies of OpenAI Batch, as whole lines, and as the values and the whole row of a template.
    let (mut openai, mut rows, base) = (String::new(), String::new(), fixture.upstream.url(""));
    for (n, document) in documents.iter().enumerate() {
        let _ = writeln!(
            openai,
            "{{\"custom_id\":\"{n}\",\"method\":\"POST\",\"url\":\"/openai/{n}\",\"body\":{document}}}"
        );
        let _ = writeln!(rows, "{{\"n\":{n},\"v\":{document}}}");
    }
    let template = format!("{{\"url\":\"{base}/rows/{{{{n}}}}\",\"body\":[{{{{v}}}},{{{{*}}}},\"{{{{none?}}}}\"]}}");
    let template = fixture.write("template.json", template);
    let whole = format!("{base}/whole");
    let runs: [(&str, &str, &[&str]); 3] = [
        ("openai", &openai, &["--base-url", &base]),
        ("rows", &rows, &["--template", &template]),
        ("whole", &documents.join("\n"), &["--url", &whole]),
    ];
    for (name, text, options) in runs {
        let (input, out) = (fixture.write(&format!("{name}.in"), text), fixture.path(name));
        let args = [&["batch", &input, "-o", out.to_str().unwrap()], options].concat();
        let output = redial_tests::Cli::new(&fixture.redis).run(&args).await;
        let errors = std::fs::read_to_string(fixture.path(&format!("{name}.errors"))).unwrap_or_default();
        assert_eq!(output.status, 0, "{} {errors}", output.stderr);
    }
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in fixture.upstream.calls() {
        sent.entry(call.path).or_default().push(String::from_utf8(call.body.to_vec()).unwrap());
    }
    let mut wholes = documents.clone();
    wholes.sort();
    sent.get_mut("/whole").unwrap().sort();
    assert_eq!(sent["/whole"], wholes);
    for (n, document) in documents.iter().enumerate() {
        // A `body` that is null counts as absent, as in a task.
        let body = if document == "null" { "" } else { document };
        assert_eq!(sent[&format!("/openai/{n}")], [body]);
        let row = format!("{{\"n\":{n},\"v\":{document}}}");
        assert_eq!(sent[&format!("/rows/{n}")], [format!("[{document},{row},\"\"]")]);
    }
}
