//! What a text of rules may say, and what it may not.

use super::*;

fn mistake(text: &str) -> (usize, &'static str) {
    let error = Rules::parse(text).expect_err(text);
    (error.line, error.code)
}

#[test]
fn standard_rules_can_be_read() -> Result<(), RuleError> {
    let texts = [
        include_str!("../../rules/views.rules"),
        include_str!("../../rules/products.rules"),
        include_str!("../../rules/norms.rules"),
        include_str!("../../rules/sums.rules"),
    ];
    let mut all = Rules::default();
    for text in texts {
        all = all.with(Rules::parse(text)?).expect("names of their own");
    }
    assert_eq!(all.list.len(), Rules::standard().list.len());
    assert_eq!(all.get("relu").map(Rule::kind), Some(("exact", "fuse")));
    Ok(())
}

#[test]
fn mistakes_have_a_place_and_a_code() {
    let cases = [
        ("rewrite a: neg(x) => x", (1, "expected")),
        ("exact rewrite a: neg(x) =>", (1, "expected")),
        ("exact rewrite a:\n  neg(x) => y", (1, "unbound")),
        ("exact rewrite a: x => neg(x)", (1, "any")),
        ("exact rewrite a: transpose(x, to = a) => x", (1, "unused")),
        ("exact rewrite a: transpose(x) => x", (1, "attribute")),
        ("exact rewrite a: transpose(x, too = a) => x", (1, "unknown")),
        (
            "exact rewrite a: cast(x, dtype = d) => cast(x, dtype = e) where dtype(x) = d",
            (1, "unbound"),
        ),
        ("exact rewrite a: neg(x, y) => x", (1, "operands")),
        ("exact rewrite a: x * c => x where constant(c)", (1, "unused")),
        ("exact rewrite a: neg(x) => f(x)", (1, "unbound")),
        ("exact rewrite a: neg(x) => x where colour(x)", (1, "unknown")),
        ("exact rewrite a: neg(x) => x where y is product", (1, "unbound")),
        ("exact rewrite a: neg(x) => x where x is product", (1, "is")),
        ("fuse a: neg(x) as k\n\n// Again.\nfuse a: exp(x) as k", (4, "twice")),
        ("fuse a: neg(x) as k;", (1, "character")),
        ("fuse a: cast(x, dtype = \"f32) as k", (1, "character")),
    ];
    for (text, expected) in cases {
        assert_eq!(mistake(text), expected, "{text}");
    }
    let deep = format!("fuse a: {}x{} as k", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(mistake(&deep).1, "too-deep");
    assert_eq!(mistake(&" ".repeat(2 << 20)).1, "too-long");
}

/// Cut anywhere, a text of rules is read or refused.
#[test]
fn no_text_is_too_odd() {
    let text = include_str!("../../rules/products.rules");
    for end in (0..text.len()).step_by(5).filter(|it| text.is_char_boundary(*it)) {
        let _ = Rules::parse(&text[..end]);
        let _ = Rules::parse(&text[end..]);
    }
}
