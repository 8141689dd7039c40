//! Rules that lie, in the language of rules. Their names say what is wrong.

use super::{Mistake, Mutant};

const fn lie(name: &'static str, text: &'static str) -> Mutant {
    Mutant { name, of: "fuse", before: "inline", mistake: Mistake::Rule(text) }
}

/// See the module.
pub(super) const ALL: &[Mutant] = &[
    lie("rule: difference swapped", "exact rewrite lie: x - y => y - x"),
    lie("rule: quotient swapped", "exact rewrite lie: x / y => y / x"),
    lie("rule: relu dropped", "exact rewrite lie: max(y, 0) => y"),
    lie("rule: sign dropped", "exact rewrite lie: exp(-y) => exp(y)"),
    lie("rule: square dropped", "exact rewrite lie: max(y, 0) * max(y, 0) => max(y, 0)"),
    lie(
        "rule: silu without its product",
        "exact rewrite lie: y * (1 / (1 + exp(-y))) => 1 / (1 + exp(-y))",
    ),
    lie(
        "rule: the other half gated",
        "exact rewrite lie: y * (1 / (1 + exp(-y))) * z => z * (1 / (1 + exp(-z))) * y
           where type(y) = type(z)",
    ),
    lie(
        "rule: residual dropped",
        "exact rewrite lie: x + contract(y, w, over = a) => contract(y, w, over = a)
           where weight(w), type(x) = type(result)",
    ),
    // Right in another order, which is not exact.
    lie("rule: sum regrouped", "exact rewrite lie: (x + y) + z => x + (y + z)"),
    lie(
        "rule: scale into the weight",
        "exact rewrite lie: contract(x, w, over = a) * c => contract(x, w * c, over = a)
           where weight(w), constant(c)",
    ),
    lie(
        "rule: inverse scale",
        "exact rewrite lie: contract(x, w, over = a) * c => contract(x, w / c, over = a)
           where weight(w), constant(c)",
    ),
    lie(
        "rule: norm weight forgotten",
        "exact rewrite lie: rms_norm(x, g) => rms_norm(x, fill(1, g)) where weight(g)",
    ),
    // Premises left out.
    lie(
        "rule: rounding is nothing",
        "exact rewrite lie: cast(cast(x, dtype = \"bf16\"), dtype = \"f32\") => x
           where dtype(x) = \"f32\"",
    ),
];
