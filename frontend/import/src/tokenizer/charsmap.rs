//! Checks a charsmap: SentencePiece's table of what characters become, a double array trie.
//!
//! The runtime walks the trie without looking where it steps, so a table is let in only if no walk
//! leaves it. The format is that of darts-clone: the trie's size in bytes, its units, and behind
//! them the replacements, each with a zero at its end.

/// A unit of the trie, 32 bits wide.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    fn has_leaf(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    /// Of a leaf: where its replacement begins.
    fn value(self) -> usize {
        (self.0 & 0x7FFF_FFFF) as usize
    }

    fn label(self) -> u32 {
        self.0 & 0x8000_00FF
    }

    fn offset(self) -> usize {
        ((self.0 >> 10) << ((self.0 & 1 << 9) >> 6)) as usize
    }
}

/// Whether the bytes are a charsmap.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    let Some((size, rest)) = bytes.split_first_chunk() else { return false };
    let Some((trie, replacements)) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)
    else {
        return false;
    };
    let (units, more) = trie.as_chunks();
    let units: Vec<Unit> = units.iter().map(|&unit| Unit(u32::from_le_bytes(unit))).collect();
    let replacements = std::str::from_utf8(replacements);
    more.is_empty() && replacements.is_ok_and(|text| walks_stay_inside(&units, text))
}

/// Follows every way through the trie.
fn walks_stay_inside(units: &[Unit], replacements: &str) -> bool {
    let Some(root) = units.first() else { return false };
    let mut seen = vec![false; units.len()];
    let mut ahead = vec![root.offset()];
    while let Some(node) = ahead.pop() {
        // The children of a node are in one block of 256.
        if units.len() <= (node | 0xFF) {
            return false;
        }
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for label in 1..=0xFF {
            let place = node ^ label as usize;
            let unit = units[place];
            if unit.label() != label {
                continue;
            }
            let child = place ^ unit.offset();
            let leaf = units.get(child).map(|leaf| leaf.value());
            if unit.has_leaf() && !leaf.is_some_and(|at| replacements.is_char_boundary(at)) {
                return false;
            }
            ahead.push(child);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_sound;

    /// A trie that knows `a`, which becomes the replacement at `value`.
    fn charsmap(value: u32, changes: &[(usize, u32)]) -> Vec<u8> {
        let mut units = [0u32; 512];
        units[0] = 256 << 10;
        // From node 256 by `a` to the unit there, and on to node 256 again for its leaf.
        units[256 ^ 97] = 97 | 1 << 8 | 97 << 10;
        units[256] = value;
        changes.iter().for_each(|&(at, unit)| units[at] = unit);
        let trie = units.iter().flat_map(|unit| unit.to_le_bytes());
        let size = (4 * units.len() as u32).to_le_bytes();
        size.into_iter().chain(trie).chain("é\0b\0".bytes()).collect()
    }

    #[test]
    fn a_walk_must_not_leave_the_table() {
        assert!(is_sound(&charsmap(0, &[])));
        assert!(is_sound(&charsmap(5, &[])));
        assert!(!is_sound(&charsmap(1, &[])), "inside a character");
        assert!(!is_sound(&charsmap(6, &[])), "behind the last");
        assert!(!is_sound(&charsmap(0, &[(0, 512 << 10)])), "the root's children are outside");
        assert!(!is_sound(&charsmap(0, &[(256 ^ 97, 97 | 4096 << 10)])), "the child is outside");
        assert!(!is_sound(&charsmap(0, &[])[..1000]), "cut short");
        assert!(!is_sound(&[]) && !is_sound(&[0; 4]));
    }
}
