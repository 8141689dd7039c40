//! The registry of codes. Each has a section in `explain.md` with an example that earns it.

const TEXT: &str = include_str!("explain.md");

/// The codes with their titles, in order.
pub fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXT.split("\n## ").skip(1).filter_map(|it| it.lines().next()?.split_once(": "))
}

/// The long explanation of a code: its title, what is wrong, an example and the way out.
pub fn explain(code: &str) -> Option<&'static str> {
    let code = code.trim();
    TEXT.split("\n## ")
        .skip(1)
        .find(|it| it.split_once(": ").is_some_and(|(own, _)| own.eq_ignore_ascii_case(code)))
        .map(str::trim_end)
}

/// The one-line title of a code.
pub(crate) fn title(code: &str) -> Option<&'static str> {
    codes().find(|(own, _)| *own == code).map(|(_, title)| title)
}
