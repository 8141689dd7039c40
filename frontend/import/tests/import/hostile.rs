//! Files that somebody made to hurt: never a panic, and never much memory.
#![expect(unsafe_code, reason = "an allocator that counts")]

use crate::support::{self, Pair, gguf_bytes, safetensors_bytes};
use import::gguf::Gguf;
use import::{Error, safetensors};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use text::{Encoding, Tokenizer, TokenizerSpec};

/// Counts, for each thread, the bytes in use and the most that there have been.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let in_use = IN_USE.get() + bytes;
    IN_USE.set(in_use);
    PEAK.set(PEAK.get().max(in_use));
}

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most bytes in use while `f` ran, beyond those before.
fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = f();
    (result, (PEAK.get() - before) as usize)
}

/// A seeded generator: the multiplier of Knuth's MMIX, the high half of the state.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Where arithmetic goes wrong.
const BOUNDARIES: [u64; 12] = [
    0,
    1,
    0x7F,
    0xFF,
    0xFFFF,
    1 << 31,
    1 << 32,
    (1 << 61) - 1,
    1 << 61,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Damages `bytes` in one to four places.
fn mutate(bytes: &mut Vec<u8>, random: &mut Lcg) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => overwrite(bytes, at, &BOUNDARIES[random.below(12)].to_le_bytes()),
            3 => bytes.truncate(at + 1),
            4 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len() - 1).max(at))),
            _ => {
                let end = (at + random.below(64)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (old, new) in bytes[at..].iter_mut().zip(new) {
        *old = *new;
    }
}

/// Parses `n` damaged copies of `seed`. Some must be refused and some read.
fn fuzz<T>(seed: &[u8], n: usize, parse: impl Fn(&[u8]) -> Result<T, Error>) {
    fuzz_within(seed, n, 1024, parse);
}

/// As [`fuzz`]; `spare` bytes of memory may be used for what does not depend on the file.
fn fuzz_within<T>(seed: &[u8], n: usize, spare: usize, parse: impl Fn(&[u8]) -> Result<T, Error>) {
    let mut random = Lcg(2024);
    let mut accepted = 0;
    for round in 0..n {
        let mut bytes = seed.to_vec();
        mutate(&mut bytes, &mut random);
        let (result, used) = peak(|| parse(&bytes));
        let limit = 8 * bytes.len() + spare;
        assert!(used <= limit, "round {round}: {used} bytes for a file of {}", bytes.len());
        accepted += usize::from(result.is_ok());
    }
    assert!(0 < accepted && accepted < n, "{accepted} of {n} were read");
}

#[test]
fn a_hundred_thousand_damaged_gguf_files() {
    fuzz(&gguf_bytes(&support::every_value(), &support::tensors()), 100_000, Gguf::parse);
}

#[test]
fn a_hundred_thousand_damaged_safetensors_files() {
    fuzz(&safetensors_bytes(), 100_000, safetensors::parse);
}

/// What a regular expression may take once it is compiled, however short it is.
const REGEX_BYTES: usize = 10 << 20;

/// A tokenizer that is let in must work, or say why not, whatever else is wrong with it.
fn use_it(spec: &TokenizerSpec) {
    let Ok(tokenizer) = Tokenizer::new(spec.clone()) else { return };
    for text in ["", " The  café ①ﬁ e\u{301}\u{200d} 1234!\n", "<s>[CLS]<0x41>▁日本🚀"] {
        let how = Encoding { framed: true, parse_special: true };
        let Ok(ids) = tokenizer.encode(text, how) else { continue };
        let _ = tokenizer.decode(&ids, false);
    }
}

fn fuzz_tokenizer(seed: &[u8], parse: impl Fn(&[u8]) -> Result<TokenizerSpec, Error>) {
    fuzz_within(seed, 1000, REGEX_BYTES, &parse);
    let mut random = Lcg(7);
    for _ in 0..1000 {
        let mut bytes = seed.to_vec();
        mutate(&mut bytes, &mut random);
        parse(&bytes).iter().for_each(use_it);
    }
}

/// A vocabulary so large that nothing else counts.
#[test]
fn the_memory_of_a_large_vocabulary() {
    let words: String = (0..50_000).map(|id| format!("\"w{id}\":{id},")).collect();
    let json = format!(
        r#"{{"model":{{"type":"WordPiece","unk_token":"w0","vocab":{{{}"x":50000}}}}}}"#,
        words
    );
    let (spec, used) = peak(|| import::tokenizer_from_json(&json, None));
    assert!(spec.is_ok() && used <= 16 * json.len(), "{used} bytes for a file of {}", json.len());
    let piece = |id: u32| {
        let text = format!("w{id:05}");
        [&[10, 8, 10, 6][..], text.as_bytes()].concat()
    };
    let model: Vec<u8> = (0..50_000).flat_map(piece).chain([18, 2, 24, 2]).collect();
    let (spec, used) = peak(|| import::tokenizer_from_sentence_piece(&model, None));
    assert!(spec.is_ok() && used <= 8 * model.len(), "{used} bytes for a file of {}", model.len());
}

#[test]
fn damaged_sentence_piece_models() {
    let t5 = include_bytes!("../fixtures/tokenizers/t5.model");
    let llama = include_bytes!("../fixtures/tokenizers/llama.model");
    for seed in [&t5[..], llama] {
        fuzz_tokenizer(seed, |bytes| import::tokenizer_from_sentence_piece(bytes, None));
    }
}

#[test]
fn damaged_tokenizer_json() {
    for fixture in crate::tokenizers::fixtures() {
        fuzz_tokenizer(fixture["tokenizer"].to_string().as_bytes(), |bytes| {
            import::tokenizer_from_json(&String::from_utf8_lossy(bytes), None)
        });
    }
}

#[test]
fn every_prefix_is_refused() {
    let gguf = gguf_bytes(&support::every_value(), &support::tensors());
    assert!((0..gguf.len()).all(|end| Gguf::parse(&gguf[..end]).is_err()));
    let safe = safetensors_bytes();
    assert!((0..safe.len()).all(|end| safetensors::parse(&safe[..end]).is_err()));
}

/// Lists that each claim all the bytes that are left, inside one another.
#[test]
fn claims_do_not_add_up() {
    let mut nested = Vec::new();
    for _ in 0..3 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(80_000u64.to_le_bytes());
    }
    nested.extend(8u32.to_le_bytes());
    nested.extend(100_000u64.to_le_bytes());
    nested.resize(1 << 20, 0);
    let bytes = gguf_bytes(&[Pair { key: "a", kind: 9, value: nested }], &[]);
    let (result, used) = peak(|| Gguf::parse(&bytes));
    assert!(result.is_err());
    assert!(used <= 8 * bytes.len(), "{used} bytes for a file of {}", bytes.len());
}

fn refuse_header(header: &str, why: &str) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 8]);
    let error = safetensors::parse(&bytes).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn safetensors_headers_that_lie() {
    let row = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let (a, b) = (row("a", "[1]", "[0,4]"), row("b", "[1]", "[4,8]"));
    refuse_header(&format!("{{{a},{}}}", row("a", "[1]", "[4,8]")), "two tensors");
    refuse_header(&format!("{{{a},{}}}", row("b", "[1]", "[0,4]")), "share bytes");
    refuse_header(&format!("{{{a}}}"), "after the last");
    refuse_header(&format!("{{{b}}}"), "between");
    refuse_header(&format!("{{{a},{}}}", row("b", "[2]", "[4,12]")), "ends inside");
    refuse_header(&format!("{{{}}}", row("a", "[2]", "[0,4]")), "do not hold");
    refuse_header(&format!("{{{}}}", row("a", "[4294967296,4294967296]", "[0,0]")), "do not hold");
    refuse_header(&format!("{{{}}}", row("a", "[1,1,1,1,1,1,1,1,1]", "[0,4]")), "axes");
    let huge = u64::MAX / 8;
    let rows: Vec<String> = (0..8u64)
        .map(|i| {
            let offsets = format!("[{},{}]", i * huge, (i + 1) * huge);
            row(&i.to_string(), &format!("[{huge}]"), &offsets)
        })
        .collect();
    refuse_header(&format!("{{{}}}", rows.join(",")).replace("F32", "U8"), "overflows");
    refuse_header(&row("a", "[1]", "[0,4]"), "parse");
    refuse_header(&"[".repeat(100_000), "parse");
}
