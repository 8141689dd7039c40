//! Checks of `matmul`, for every storage format.

use super::{FORMATS, Random, compare, find, outputs, weights};
use ir::DType;
use ir::storage::decode_rows;
use kernels_cpu::{Kernel, LANES, Tail, Tile, pack};

/// Every way that few rows of `x` take.
pub(crate) fn few_rows(kernels: &'static [Kernel]) -> f64 {
    let problems = (1..=8).flat_map(|m| [(m, 16), (m, 33), (m, 70), (m, 300)]);
    check(kernels, problems.collect())
}

/// Every height of tile, blocks of rows, and ragged last panels.
pub(crate) fn many_rows(kernels: &'static [Kernel]) -> f64 {
    let problems = (9..=20).map(|m| (m, 23 + 16 * (m % 4)));
    check(kernels, problems.chain([(67, 100), (200, 50), (130, 230)]).collect())
}

/// Nothing to multiply: no rows, no columns, or sums of nothing.
pub(crate) fn empty(kernels: &'static [Kernel]) -> f64 {
    let of = |m, n, k| Problem::new(&[DType::F32], m, &[n], k).check(kernels);
    of(0, 5, 7) + of(5, 0, 7) + of(1, 5, 0) + of(9, 5, 0)
}

/// Parts whose products follow each other in one result or are results, in several formats.
pub(crate) fn parts(kernels: &'static [Kernel]) -> f64 {
    let mut worst: f64 = 0.0;
    let formats =
        [[DType::Q4K, DType::Q4K, DType::Q6K], [DType::NvFp4, DType::Q8_0, DType::F8E4M3]];
    for (dtypes, m) in formats.iter().flat_map(|it| [1, 3, 7, 40].map(|m| (it, m))) {
        for n in [[48, 16, 33], [400, 130, 1]] {
            let problem = Problem::new(dtypes, m, &n, 512);
            worst = worst.max(problem.check(kernels)).max(problem.check_results(kernels));
        }
    }
    worst
}

/// A tail on one product, on products that follow each other, and on products beside each other.
pub(crate) fn tails(kernels: &'static [Kernel]) -> f64 {
    let mut worst: f64 = 0.0;
    for m in [1, 2, 5, 8, 9, 100, 210] {
        for (dtypes, n) in [
            (&[DType::F32][..], &[70][..]),
            (&[DType::BF16], &[300]),
            (&[DType::Q4_1, DType::Q8_0], &[50, 120]),
        ] {
            worst = worst.max(Problem::new(dtypes, m, n, 192).check_tail(kernels, false));
        }
        for dtypes in [&[DType::F32, DType::F32][..], &[DType::Q4_0, DType::Q8_0, DType::F16]] {
            let problem = Problem::new(dtypes, m, &vec![130; dtypes.len()], 96);
            worst = worst.max(problem.check_tail(kernels, true));
        }
    }
    worst
}

/// Every code of the small floats, by a product with the unit matrix.
pub(crate) fn codes(kernels: &'static [Kernel]) -> f64 {
    const K: usize = 256;
    let mut worst: f64 = 0.0;
    for (dtype, scale) in [
        (DType::F8E4M3, &[][..]),
        (DType::F8E5M2, &[]),
        (DType::F8Block, &[0, 0, 0, 63]),
        (DType::MxFp8, &[129]),
        (DType::MxFp4, &[120]),
        (DType::NvFp4, &[0x35]),
    ] {
        let bytes = row_of_all_codes(dtype, scale, K);
        let mut values = vec![0.0; K];
        decode_rows(dtype, K, &bytes, &mut values).unwrap();
        let mut packed = vec![0; pack::packed_bytes(dtype, 1, K).unwrap()];
        pack::pack(dtype, 1, K, &bytes, &mut packed).unwrap();
        let unit: Vec<f32> = (0..K * K).map(|i| f32::from(i % (K + 1) == 0)).collect();
        for (m, first) in (0..K).step_by(4).map(|it| (4, it)).chain([(K, 0)]) {
            let (x, packed) = (unit[first * K..].to_vec(), packed.clone());
            let parts = vec![Part { dtype, n: 1, packed, values: values.clone() }];
            worst = worst.max(Problem { m, k: K, x, x_stride: K, parts }.check(kernels));
        }
    }
    worst
}

/// A row of `k` elements whose codes count up, but for those that stand for no number; `scale` is
/// that of every block.
fn row_of_all_codes(dtype: DType, scale: &[u8], k: usize) -> Vec<u8> {
    let is_number = |it: u8| match dtype {
        DType::F8E5M2 => it & 0x7f < 0x7c,
        DType::MxFp4 | DType::NvFp4 => true,
        _ => it & 0x7f != 0x7f,
    };
    let mut bytes = vec![0; dtype.bytes(1, k).unwrap()];
    let (head, blocks) = bytes.split_at_mut(dtype.head_bytes());
    head.copy_from_slice(&2f32.to_le_bytes()[..head.len()]);
    let mut codes = (0..=255).cycle().map(|it| if is_number(it) { it } else { 0 });
    for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
        let (to, of_elements) = block.split_at_mut(scale.len());
        to.copy_from_slice(scale);
        of_elements.iter_mut().zip(&mut codes).for_each(|(to, code)| *to = code);
    }
    bytes
}

fn check(kernels: &'static [Kernel], problems: Vec<(usize, usize)>) -> f64 {
    let mut worst: f64 = 0.0;
    for dtype in FORMATS {
        let depths: &[usize] = match dtype.block_len() {
            1 => &[1, 37, 160, 700],
            16 => &[16, 48, 160, 688],
            32 => &[32, 96, 160, 288, 672],
            _ => &[256, 512, 768],
        };
        for (index, &(m, n)) in problems.iter().enumerate() {
            let k = depths[index % depths.len()];
            worst = worst.max(Problem::new(&[dtype], m, &[n], k).check(kernels));
        }
    }
    worst
}

/// One factor of a product.
struct Part {
    dtype: DType,
    n: usize,
    packed: Vec<u8>,
    values: Vec<f32>,
}

/// What becomes of some parts.
struct Result {
    y: *mut f32,
    y_stride: usize,
    parts: usize,
    beside: bool,
    tail: Option<(Tail, [u64; 4])>,
}

struct Problem {
    m: usize,
    k: usize,
    x: Vec<f32>,
    x_stride: usize,
    parts: Vec<Part>,
}

impl Problem {
    fn new(dtypes: &[DType], m: usize, n: &[usize], k: usize) -> Problem {
        let mut random = Random::new((m * 1000 + n[0]) as u64);
        let parts = dtypes.iter().zip(n).map(|(&dtype, &n)| {
            let (bytes, values) = weights(&mut random, dtype, n, k);
            let mut packed = vec![0; pack::packed_bytes(dtype, n, k).unwrap()];
            pack::pack(dtype, n, k, &bytes, &mut packed).unwrap();
            Part { dtype, n, packed, values }
        });
        let (parts, x_stride) = (parts.collect(), k + 3);
        Problem { m, k, x: random.floats(m * x_stride), x_stride, parts }
    }

    /// All columns of parts that follow each other.
    fn columns(&self) -> usize {
        self.parts.iter().map(|it| it.n).sum()
    }

    /// Words for results of so many `parts` each: `y` with its stride, and a tail with its words.
    fn words(&self, results: &[Result]) -> Vec<u64> {
        let [x_stride, m, k, n] =
            [self.x_stride, self.m, self.k, results.len()].map(|it| it as u64);
        let mut words = vec![self.x.as_ptr() as u64, x_stride, m, k, n, 0];
        let mut tail_words = words.len() + 6 * results.len() + 3 * self.parts.len();
        for it in results {
            let (tail, count) =
                it.tail.map_or((0, 0), |(tail, words)| (tail as usize as u64, words.len()));
            let (stride, parts) = (it.y_stride as u64, it.parts as u64);
            words.extend([
                it.y as u64,
                stride,
                tail,
                tail_words as u64,
                parts,
                u64::from(it.beside),
            ]);
            tail_words += count;
        }
        for part in &self.parts {
            words.extend([part.packed.as_ptr() as u64, part.dtype as u64, part.n as u64]);
        }
        words.extend(results.iter().filter_map(|it| it.tail).flat_map(|it| it.1));
        words
    }

    /// What a product is, and the sum of the magnitudes of what is added up.
    fn product(&self, part: &Part, row: usize, column: usize) -> (f64, f64) {
        let x = &self.x[row * self.x_stride..][..self.k];
        let w = &part.values[column * self.k..][..self.k];
        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.fold((0.0, 0.0), |(sum, all), it| (sum + it, all + it.abs()))
    }

    /// The part that column `at` of all is in, and the place there.
    fn part_at(&self, mut at: usize) -> (&Part, usize) {
        for part in &self.parts {
            if at < part.n {
                return (part, at);
            }
            at -= part.n;
        }
        unreachable!("a column")
    }

    fn check(&self, kernels: &'static [Kernel]) -> f64 {
        let (m, n) = (self.m, self.columns());
        let y_stride = n + 5;
        let before = vec![f32::NAN; m * y_stride];
        let y = outputs(find(kernels, "matmul"), &before, (m, n, y_stride), |y| {
            let y = y.as_mut_ptr();
            self.words(&[Result {
                y,
                y_stride,
                parts: self.parts.len(),
                beside: false,
                tail: None,
            }])
        });
        self.compare_all(&y, y_stride)
    }

    /// Compares `y` with the products of all parts.
    fn compare_all(&self, y: &[f32], y_stride: usize) -> f64 {
        let (m, n) = (self.m, self.columns());
        let mut worst = 0.0;
        for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
            let (part, at) = self.part_at(column);
            let (sum, scale) = self.product(part, row, at);
            let what = format!("matmul {} {m}x{n}x{} at ({row}, {column})", part.dtype, self.k);
            compare(&mut worst, 16.0, y[row * y_stride + column], sum, scale, &what);
        }
        worst
    }

    /// Each part gives a result of its own; they lie side by side.
    fn check_results(&self, kernels: &'static [Kernel]) -> f64 {
        let (m, n) = (self.m, self.columns());
        let before = vec![f32::NAN; m * n];
        let y = outputs(find(kernels, "matmul"), &before, (m, n, n), |y| {
            let mut column = 0;
            let results = self.parts.iter().map(|part| {
                let y = y[column..].as_mut_ptr();
                column += part.n;
                Result { y, y_stride: n, parts: 1, beside: false, tail: None }
            });
            self.words(&results.collect::<Vec<_>>())
        });
        self.compare_all(&y, n)
    }

    /// `y = bias + residual + product`, or with the sum of all products beside each other; the
    /// residual is where `y` is.
    fn check_tail(&self, kernels: &'static [Kernel], beside: bool) -> f64 {
        let m = self.m;
        let n = if beside { self.parts[0].n } else { self.columns() };
        let mut random = Random::new(n as u64);
        let (bias, residual) = (random.floats(n), random.floats(m * n));
        let tail: Tail = add_bias_and_residual;
        let y = outputs(find(kernels, "matmul"), &residual, (m, n, n), |y| {
            let parts = self.parts.len();
            let products = if beside { parts } else { 1 };
            let words = [y.as_mut_ptr() as u64, n as u64, bias.as_ptr() as u64, products as u64];
            let (y, tail) = (std::ptr::null_mut(), Some((tail, words)));
            self.words(&[Result { y, y_stride: 0, parts, beside, tail }])
        });
        let mut worst = 0.0;
        for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
            let products: Vec<(f64, f64)> = if beside {
                self.parts.iter().map(|it| self.product(it, row, column)).collect()
            } else {
                let (part, at) = self.part_at(column);
                vec![self.product(part, row, at)]
            };
            let given = f64::from(bias[column]) + f64::from(residual[row * n + column]);
            let (sum, scale) =
                products.iter().fold((given, 2.0), |(a, b), it| (a + it.0, b + it.1));
            let what = format!("matmul with a tail {m}x{n}x{} at ({row}, {column})", self.k);
            compare(&mut worst, 16.0, y[row * n + column], sum, scale, &what);
        }
        worst
    }
}

/// A tail; its words are `y`, its stride, a bias and how many products there are.
unsafe extern "C" fn add_bias_and_residual(words: *const u64, tile: *const Tile) {
    let ([y, stride, bias, products], tile) = unsafe { (*words.cast::<[u64; 4]>(), *tile) };
    let (y, bias) = (y as *mut f32, bias as *const f32);
    assert!(tile.row < tile.row_end && tile.column < tile.column_end);
    assert!(tile.column_end - tile.column <= tile.stride && tile.stride.is_multiple_of(LANES));
    for row in tile.row..tile.row_end {
        for column in tile.column..tile.column_end {
            let at = tile.products.wrapping_add(row * tile.stride + column);
            unsafe {
                let y = y.add(row * stride as usize + column);
                let product = |part| *at.wrapping_add(part as usize * tile.apart);
                *y += *bias.add(column) + (0..products).map(product).sum::<f32>();
            }
        }
    }
}
