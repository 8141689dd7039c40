//! What walks along positions with a state: convolutions and state-space models.

use ir::DType;

use crate::{COUNTER_BYTES, Call, Grid, Instance, Word, element};

/// Words: y, x, weight, bias, window, positions, channels, width; and, if there is a tail, its code
/// and where its words begin.
pub(crate) fn conv1d(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    const THREADS: u64 = 256;
    let pointers: Vec<String> =
        (0..5).map(|it| call.pointer(it, element(call.types[it]))).collect();
    let [y, x, weight, bias, window] = &pointers[..] else { unreachable!("five pointers") };
    let (channels, width, rows) = (call.fixed(6)?, call.fixed(7)?, call.text(5));
    let tail = match call.words.get(8) {
        Some(Word::Tail(tail)) => Some(tail),
        _ => None,
    };
    let preface = tail.map_or(String::new(), |it| it.text.clone());
    let make = tail.map_or("Same{}", |it| it.make.as_str());
    let name = tail.map_or("Same", |it| it.name.as_str());
    let pitch = if call.is_own(4) { "c4" } else { "0" };
    // They load weights at once.
    let waits = call.is_constant[2] && call.is_constant[3];
    let token = Instance {
        includes: vec!["conv_token.cuh", "tails.cuh"],
        body: format!(
            "conv_token<{channels}, {width}>({x}, {weight}, {bias}, {window}, {pitch}, (int){rows}, \
             OfChannel<{name}>{{{make}}}, {y}, blockIdx.x);"
        ),
        preface: preface.clone(),
        threads: THREADS as u32,
        grid: [Grid::all(&[5, 6], THREADS), Grid::fixed(1)],
        waits,
        ..Instance::default()
    };
    if call.is_own(4) {
        return Ok(vec![token]);
    }
    let token = Instance { rows: Some((5, 1)), ..token };
    let prompt = Instance {
        includes: vec!["conv_prompt.cuh", "tails.cuh"],
        body: format!(
            "static_assert(CONV_THREADS == 128 && CONV_ROWS == 32);\n  \
             conv_prompt<{channels}, {width}, {channels}>({x}, {weight}, {bias}, {window}, {y}, \
             (int){rows}, {make});"
        ),
        preface: preface.clone(),
        threads: 128,
        grid: [Grid::fixed(channels.div_ceil(4 * 128)), Grid::all(&[5], 32)],
        waits,
        ..Instance::default()
    };
    let naive = Instance {
        includes: vec!["naive.cuh", "tails.cuh"],
        preface: preface.clone(),
        body: format!("conv1d<128, {width}>({}, {rows}, {channels}, {make});", pointers.join(", ")),
        threads: 128,
        grid: Grid::over(&[6], 128),
        ..Instance::default()
    };
    // A wider window would be read by blocks behind the one that replaces it.
    let fits = channels.is_multiple_of(4) && width <= 33;
    Ok(vec![token, if fits { prompt } else { naive }])
}

/// Words: y, x, dt, a, b, c, state, S, H, J, D, N, scratch.
pub(crate) fn ssd(call: &Call<'_>) -> Result<Vec<Instance>, String> {
    let ssd = Ssd {
        pointers: pointers(call, 7),
        x: call.types[1],
        rows: call.text(7),
        sizes: [call.fixed(8)?, call.fixed(9)?, call.fixed(10)?, call.fixed(11)?],
    };
    if call.is_own(6) {
        return Ok(vec![ssd.token().unwrap_or_else(|| ssd.naive_batch())]);
    }
    let mut forms = Vec::new();
    forms.extend(ssd.token().map(|it| Instance { rows: Some((7, 1)), ..it }));
    forms.extend(ssd.prompt().filter(|_| call.rounds));
    forms.push(ssd.naive());
    Ok(forms)
}

/// The first `n` words of a call as pointers.
fn pointers(call: &Call<'_>, n: usize) -> Vec<String> {
    (0..n).map(|it| call.row_pointer(it, element(call.types[it]))).collect()
}

struct Ssd {
    pointers: Vec<String>,
    /// The type of x, b and c.
    x: DType,
    rows: String,
    /// Groups, heads of each, channels of a head, numbers of a state.
    sizes: [u64; 4],
}

impl Ssd {
    /// The pointers, for `row`.
    fn of_row(&self) -> [String; 7] {
        let [h, j, d, n] = self.sizes;
        let widths = [h * j * d, h * j * d, h * j, 0, h * n, h * n, 0];
        std::array::from_fn(|i| format!("{} + row * {}", self.pointers[i], widths[i]))
    }

    /// One position of each sequence.
    fn token(&self) -> Option<Instance> {
        let [h, j, d, n] = self.sizes;
        let pointers = self.of_row();
        let (y, inputs) = (&pointers[0], pointers[1..].join(", "));
        n.is_multiple_of(4).then(|| Instance {
            includes: vec!["ssd_token.cuh", "tails.cuh"],
            body: format!(
                "const int row = blockIdx.y;\n  \
                 ssd_token<SsdToken<{j}, {d}, {n}>>({inputs}, Same{{}}, {y}, blockIdx.x);"
            ),
            threads: 256,
            grid: [Grid::fixed(h * j), Grid::all(&[7], 1)],
            waits: true,
            ..Instance::default()
        })
    }

    /// Many positions, by chunks.
    fn prompt(&self) -> Option<Instance> {
        const CHUNK: u64 = 64;
        let [h, j, d, n] = self.sizes;
        let stride = |width: u64| width.next_multiple_of(16) + 8;
        let tile = 2 * CHUNK * (2 * stride(n) + stride(d));
        let mixed = 2 * CHUNK * stride(CHUNK) + 4 * 3 * CHUNK;
        let stages = if 60 * 1024 < tile { 2 } else { 3 };
        let of = |stages| stages * tile + 2 * d.next_multiple_of(16) * stride(n) + 2 * mixed;
        let (shared, before_hopper) = (of(stages), of(2));
        let fits = d.is_multiple_of(8) && n.is_multiple_of(8) && shared <= 232_448;
        let rows = &self.rows;
        let [x, b, c] = self.rounded();
        let [y, _, dt, a, _, _, state] = &self.pointers[..] else { unreachable!("seven pointers") };
        fits.then(|| Instance {
            includes: vec!["ssd_prompt.cuh"],
            body: format!(
                "static_assert(sizeof(SsdShared<{d}, {n}>) == \
                 (SSD_STAGES == 3 ? {shared} : {before_hopper}));\n  \
                 SHARED(u8, shared);\n  \
                 ssd_prompt<{h}, {j}, {d}, {n}, {x_row}, {b_row}, {b_row}>\
                 (shared, {x}, {dt}, {a}, {b}, {c}, {state}, {y}, (int){rows});",
                x_row = h * j * d,
                b_row = h * n,
            ),
            threads: 512,
            residents: 1,
            grid: [Grid::fixed(h * j), Grid::fixed(1)],
            shared: shared as u32,
            shared_before_hopper: Some(before_hopper as u32),
            waits: true,
            scratch: self.before().map(|_| (COUNTER_BYTES, 2 * h * (j * d + 2 * n), 7)),
            before: self.before(),
            ..Instance::default()
        })
    }

    /// Where x, b and c are as `bf16`.
    fn rounded(&self) -> [String; 3] {
        let [h, j, d, n] = self.sizes;
        let rows = &self.rows;
        match self.x {
            DType::BF16 => [1, 4, 5].map(|it| self.pointers[it].clone()),
            _ => [0, h * j * d, h * (j * d + n)]
                .map(|it| format!("(bf16*)(w12 + {COUNTER_BYTES} + 2 * {rows} * {it})")),
        }
    }

    /// Rounds x, b and c.
    fn before(&self) -> Option<Box<Instance>> {
        let [h, j, d, n] = self.sizes;
        let parts = self.rounded().into_iter().zip([(1, j * d), (4, n), (5, n)]);
        let narrow = |(to, (from, width)): (String, (usize, u64))| {
            let (from, rows) = (&self.pointers[from], &self.rows);
            format!("narrow<256>({to}, {from}, (long){rows} * {});", h * width)
        };
        (self.x != DType::BF16).then(|| {
            Box::new(Instance {
                includes: vec!["rows.cuh"],
                body: parts.map(narrow).collect::<Vec<_>>().join("\n  "),
                threads: 256,
                grid: Grid::over(&[7, 8, 9, 10], 1024),
                ..Instance::default()
            })
        })
    }

    fn naive(&self) -> Instance {
        let [h, j, d, n] = self.sizes;
        Instance {
            includes: vec!["naive.cuh"],
            body: format!(
                "ssd<128, {n}>({}, {}, {h}, {j}, {d});",
                self.pointers.join(", "),
                self.rows
            ),
            threads: 128,
            grid: Grid::over(&[8, 9, 10], 4),
            ..Instance::default()
        }
    }

    /// One position of each sequence, by the plain form.
    fn naive_batch(&self) -> Instance {
        let pointers = self.of_row().to_vec();
        let plain = Ssd { pointers, rows: "1".to_owned(), ..*self }.naive();
        let body = format!("const int row = blockIdx.y;\n  {}", plain.body);
        let [x, _] = plain.grid;
        Instance { body, grid: [x, Grid::all(&[7], 1)], ..plain }
    }
}
