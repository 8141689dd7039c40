//! Panics of passes are faults of theirs, and nothing that stops the compiler.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use crate::{Fault, FaultKind};

thread_local! {
    /// What the panic was, of a thread that is guarded; none where panics are told as ever.
    static GUARDED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `work` gives, or with which words and where it panics.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !note(panic) {
                usual(panic);
            }
        }));
    });
    let outer = GUARDED.replace(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let told = GUARDED.replace(outer).unwrap_or_default();
    outcome.unwrap_or_else(|_| Err(Fault::of(FaultKind::Panic, format!("it panics: {told}"))))
}

/// Keeps what a guarded thread says; false where nobody guards it.
fn note(panic: &PanicHookInfo<'_>) -> bool {
    GUARDED.with_borrow_mut(|guarded| {
        let Some(told) = guarded else { return false };
        let text = panic.payload_as_str().unwrap_or_default();
        let place = panic.location().map(|it| format!(" ({it})")).unwrap_or_default();
        *told = format!("{text}{place}");
        true
    })
}
