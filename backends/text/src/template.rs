//! A chat template: messages to the text that a model was tuned on.

use crate::error::Error;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A Jinja template as Hugging Face publishes them.
///
/// The template is not trusted: it reads no file, sees no clock, and takes a bounded number of
/// steps.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

const NAME: &str = "chat_template";
const FUEL: u64 = 5_000_000;

impl ChatTemplate {
    /// Compiles a template. `now` is what `strftime_now(FORMAT)` answers. Without it there is no
    /// such function, so that output depends on nothing but the input: templates that ask whether
    /// it is defined have a fixed date for that case, and others fail.
    ///
    /// # Errors
    /// When the template is no Jinja.
    pub fn new(source: &str, now: Option<String>) -> Result<ChatTemplate, Error> {
        let failed = |error| Error::new("the chat template does not parse", error);
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        if let Some(now) = now {
            environment.add_function("strftime_now", move |_format: String| now.clone());
        }
        environment.add_template_owned(NAME, without_generation(source)).map_err(failed)?;
        Ok(ChatTemplate { environment })
    }

    /// The text of a conversation. `add_generation_prompt` opens the assistant's next turn.
    ///
    /// # Errors
    /// When the template refuses the conversation, fails, or takes too many steps.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos: &str,
        eos: &str,
    ) -> Result<String, Error> {
        let failed = |error| Error::new("the chat template fails", error);
        let turn = |Message { role, content }: &Message| context! { role, content };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let values = context! {
            messages, add_generation_prompt, bos_token => bos, eos_token => eos,
        };
        self.environment.get_template(NAME).and_then(|it| it.render(values)).map_err(failed)
    }
}

/// `{% generation %}` marks what a model is trained on; it adds nothing to the text.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        let (body, after) = tag.split_once("%}").unwrap_or((tag, ""));
        let name = body.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        if matches!(name, "generation" | "endgeneration") {
            // An empty comment trims the white space around it as the tag did.
            let (left, right) = (body.starts_with('-'), body.ends_with('-'));
            out.push_str(if left { "{#-" } else { "{#" });
            out.push_str(if right { "-#}" } else { "#}" });
            rest = after;
        } else {
            out.push_str("{%");
            rest = tag;
        }
    }
    out.push_str(rest);
    out
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python writes it. What minijinja escapes for HTML is put back.
fn to_json(value: &Value, indent: Option<Value>, more: Kwargs) -> Result<Value, minijinja::Error> {
    const ESCAPES: [(&str, char); 4] =
        [("\\u003c", '<'), ("\\u003e", '>'), ("\\u0026", '&'), ("\\u0027", '\'')];
    // Python's arguments that change nothing for what is in a conversation.
    let _: (Option<bool>, Option<bool>) = (more.get("ensure_ascii")?, more.get("sort_keys")?);
    let json = minijinja::filters::tojson(value, indent, more)?.to_string();
    let mut out = String::with_capacity(json.len());
    let mut rest = &*json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let known = ESCAPES.iter().find(|(code, _)| escape.starts_with(code));
        let length = known.map_or(2, |(code, _)| code.len());
        match known {
            Some(&(_, character)) => out.push(character),
            None => out.push_str(&escape[..length]),
        }
        rest = &escape[length..];
    }
    out.push_str(rest);
    Ok(Value::from_safe_string(out))
}

#[cfg(test)]
mod tests {
    use super::{ChatTemplate, Message};

    fn render(template: &str) -> Result<String, crate::Error> {
        let message =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let messages = [message("user", "a < 'b' \\u003c"), message("assistant", " yes ")];
        ChatTemplate::new(template, None)?.render(&messages, true, "<s>", "</s>")
    }

    #[test]
    fn chat_ml() {
        let template = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' \
            + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        let expected = "<|im_start|>user\na < 'b' \\u003c<|im_end|>\n\
            <|im_start|>assistant\n yes <|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(render(template).expect("it renders"), expected);
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_known() {
        let template = "{{ bos_token }}\n  {% for m in messages if m.role == 'assistant' %}\n\
            {{ m.content.strip().upper() }}{% break %}\n  {% endfor %}\n{{ eos_token }}";
        assert_eq!(render(template).expect("it renders"), "<s>\nYES</s>");
    }

    #[test]
    fn generation_tags_add_nothing() {
        let template = "a {%- generation -%} b {% endgeneration %}c";
        assert_eq!(render(template).expect("it renders"), "ab c");
    }

    #[test]
    fn json_is_not_escaped_for_html() {
        let template = "{{ messages[0]|tojson }}";
        let expected = r#"{"role": "user", "content": "a < 'b' \\u003c"}"#;
        assert_eq!(render(template).expect("it renders"), expected);
    }

    #[test]
    fn what_fails_says_so() {
        let fails = |template, why| {
            let error = render(template).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        fails("{{ raise_exception('roles must alternate') }}", "roles must alternate");
        fails("{{ strftime_now('%Y') }}", "strftime_now is unknown");
        fails("{% for %}", "does not parse");
        fails("{% if", "does not parse");
        fails(
            "{% for a in range(10000) %}{% for b in range(10000) %}.{% endfor %}{% endfor %}",
            "fuel",
        );
    }

    #[test]
    fn the_time_is_known_only_if_it_is_given() {
        let template = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}\
            {% else %}26 Jul 2024{% endif %}";
        let text =
            |now| ChatTemplate::new(template, now).and_then(|it| it.render(&[], false, "", ""));
        assert_eq!(text(Some("2026".into())).expect("it renders"), "2026");
        assert_eq!(text(None).expect("it renders"), "26 Jul 2024");
    }
}
