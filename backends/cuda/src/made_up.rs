//! Weights that a program makes up before its first step, so that nobody has to bring them.

use ir::storage::Encoding;
use kernels_cuda::{MANY, random};

use crate::alone::by_itself;
use crate::program::{Base, Blocks, GpuProgram, Launch, Sum, Word};

/// A weight that is drawn from a seed: `random.cuh` says how.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its slot.
    pub slot: u64,
    /// Rows and columns.
    pub shape: [u64; 2],
    /// How it is stored; plain numbers in rows, all others as kernels want them.
    pub encoding: Encoding,
    /// The key of its parameter.
    pub key: u64,
    /// The place of its first number among all of the parameter.
    pub first: u64,
    /// Numbers are the first one, plus the second one times what is drawn.
    pub line: [f32; 2],
    /// Whether what is drawn is uniform from 0 to 1, and not normal.
    pub is_uniform: bool,
}

impl Drawn {
    /// Whether a device can make up a weight in this format.
    pub fn can_be(encoding: Encoding) -> bool {
        random::instances(encoding).is_some()
    }

    fn words(&self) -> [Word; random::WORDS] {
        let [from, by] = self.line.map(|it| u64::from(it.to_bits()));
        let [rows, columns] = self.shape;
        let number = |it| (Base::Zero, Sum::number(it));
        [
            (Base::Weight(self.slot, None), Sum::default()),
            (Base::Scratch, Sum::number(kernels_cuda::COUNTER_BYTES)),
            number(self.key),
            number(self.first),
            number(rows),
            number(columns),
            number(from | by << 32),
            number(u64::from(self.is_uniform)),
        ]
        .map(|(base, sum)| Word { base, sum, moves: false, pitch: None })
    }
}

impl GpuProgram {
    /// Has the program make up these weights, all that it has, before its first step. What is not
    /// [`Drawn::can_be`] stays zero.
    pub fn make_up(&mut self, weights: &[Drawn]) {
        for drawn in weights {
            let scratch = kernels_cuda::COUNTER_BYTES + 4 * drawn.shape[0];
            self.scratch_bytes = self.scratch_bytes.max(scratch);
            for instance in random::instances(drawn.encoding).into_iter().flatten() {
                let kernel = self.add(by_itself("random", &instance, random::WORDS));
                let (maps, words, parts) = (Vec::new(), drawn.words().to_vec(), Vec::new());
                let blocks = [MANY, 1].map(|most| Blocks { of: Vec::new(), each: 1, most });
                self.made_up.push(Launch { kernel, maps, words, blocks, parts });
            }
        }
    }
}
