//! Random numbers that need no state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as
//! easy as 1, 2, 3", 2011).

/// What each round multiplies with, and what it adds to the key.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const ADDED: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// 64 random bits for each counter of two numbers, others for each key.
pub(crate) fn bits(key: u64, low: u64, high: u64) -> u64 {
    let counter = [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32];
    let [first, second, ..] = philox(counter, [key as u32, (key >> 32) as u32]);
    u64::from(first) | u64::from(second) << 32
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(ADDED[0]), key[1].wrapping_add(ADDED[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::{bits, philox};

    /// The known answers that come with the authors' library, Random123.
    #[test]
    fn numbers_are_those_of_the_authors() {
        let zeros = [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8];
        assert_eq!(philox([0; 4], [0; 2]), zeros);
        let ones = [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD];
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), ones);
        let pi = [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344];
        let answer = [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1];
        assert_eq!(philox(pi, [0xA409_3822, 0x299F_31D0]), answer);
    }

    #[test]
    fn words_lie_where_kernels_put_them() {
        let (low, high) = (0x85A3_08D3_243F_6A88, 0x0370_7344_1319_8A2E);
        assert_eq!(bits(0x299F_31D0_A409_3822, low, high), 0x94FD_CCEB_D16C_FE09);
    }
}
