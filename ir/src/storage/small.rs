//! Floats of four and of eight bits.
//!
//! | name | bits: sign, exponent, fraction | largest | smallest normal | beyond |
//! |---|---|---|---|---|
//! | E4M3 | 1, 4, 3 | 448 | 2^-6 | no infinity; 0x7f is no number |
//! | E5M2 | 1, 5, 2 | 57344 | 2^-14 | 0x7c is infinite, above it are no numbers |
//! | E2M1 | 1, 2, 1 | 6 | 1 | neither |
//! | E8M0 | 0, 8, 0 | 2^127 | 2^-127 | 0xff is no number |
//!
//! Numbers are rounded to the nearest, ties to even, and what is too large becomes the largest.
//! (OCP 8-bit Floating Point Specification 1.0, Microscaling Formats Specification 1.0.)

/// A float with a sign, of at most eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    exponent_bits: u32,
    fraction_bits: u32,
    /// The code of the largest number.
    largest: u8,
    /// The code of what is no number, if there is one.
    nan: Option<u8>,
}

/// Four bits of exponent, three of fraction.
pub const E4M3: Small =
    Small { exponent_bits: 4, fraction_bits: 3, largest: 0x7e, nan: Some(0x7f) };
/// Five bits of exponent, two of fraction.
pub const E5M2: Small =
    Small { exponent_bits: 5, fraction_bits: 2, largest: 0x7b, nan: Some(0x7f) };
/// Two bits of exponent, one of fraction.
pub const E2M1: Small = Small { exponent_bits: 2, fraction_bits: 1, largest: 7, nan: None };

impl Small {
    /// The largest number.
    #[inline(always)]
    pub fn max(self) -> f32 {
        self.decode(self.largest)
    }

    fn sign(self) -> u8 {
        1 << (self.exponent_bits + self.fraction_bits)
    }

    fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    // Inlined: all that depends on the kind is then known when compiling, and nine tenths of what
    // weights cost to be rounded is spent here.

    /// The number of a code; of [`E2M1`], the lower four bits count.
    #[inline(always)]
    pub fn decode(self, code: u8) -> f32 {
        let magnitude = code & (self.sign() - 1);
        let value = if self.nan.is_some() && self.largest < magnitude {
            // E5M2 alone has a code for infinity.
            if magnitude == 0x7c { f32::INFINITY } else { f32::NAN }
        } else {
            let (exponent, fraction) =
                (magnitude >> self.fraction_bits, magnitude & ((1 << self.fraction_bits) - 1));
            let hidden = u8::from(exponent != 0) << self.fraction_bits;
            let power = i32::from(exponent.max(1)) - self.bias() - self.fraction_bits as i32;
            f32::from(hidden | fraction) * power_of_two(power)
        };
        if code & self.sign() == 0 { value } else { -value }
    }

    /// The code of the nearest number.
    #[inline(always)]
    pub fn encode(self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        if value.is_nan() {
            return sign | self.nan.unwrap_or(self.largest);
        }
        let value = value.abs().min(self.max());
        // What a last place of the fraction is worth, at least that of the smallest normal number.
        let exponent = (value.to_bits() >> 23) as i32 - 127;
        let exponent = exponent.max(1 - self.bias());
        let units = value * power_of_two(self.fraction_bits as i32 - exponent);
        let units = round_ties_even(units) as i32;
        let binade = exponent + self.bias() - 1;
        // Rounding up to the next binade carries into the exponent by itself.
        sign | ((binade << self.fraction_bits) + units) as u8
    }
}

/// A number from 0 to 2^22, rounded: where numbers are so large that they have no fraction, the
/// addition rounds as all do. The method of that name is a call of a function without SSE4.1.
fn round_ties_even(value: f32) -> f32 {
    const WHOLE: f32 = 8_388_608.0;
    (value + WHOLE) - WHOLE
}

/// Two to the power of a number from -126 to 127.
fn power_of_two(power: i32) -> f32 {
    f32::from_bits(((power + 127) as u32) << 23)
}

/// The number of an E8M0 code.
pub fn decode_e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The E8M0 code of the smallest power of two that is no smaller than `value`, which is no
/// negative number.
pub fn encode_e8m0_up(value: f32) -> u8 {
    if value.is_nan() {
        return 255;
    }
    let (exponent, fraction) = ((value.to_bits() >> 23) as u8, value.to_bits() & 0x007f_ffff);
    let fits = if exponent == 0 { fraction <= 0x0040_0000 } else { fraction == 0 };
    if fits { exponent.min(254) } else { exponent.saturating_add(1).min(254) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for (kind, codes) in [(E4M3, 256), (E5M2, 256), (E2M1, 16)] {
            for code in (0..codes).map(|it| it as u8) {
                let value = kind.decode(code);
                if value.is_finite() {
                    assert_eq!(kind.encode(value), code, "{value}");
                }
            }
        }
    }

    #[test]
    fn between_two_numbers_the_nearest_and_the_even_one() {
        for kind in [E4M3, E5M2, E2M1] {
            for code in 0..kind.largest {
                let (low, high) = (kind.decode(code), kind.decode(code + 1));
                let middle = f32::midpoint(low, high);
                assert_eq!(kind.encode(middle), code + code % 2, "{middle}");
                assert_eq!(kind.encode(-middle), kind.sign() | (code + code % 2));
                assert_eq!(kind.encode(middle.next_down()), code);
                assert_eq!(kind.encode(middle.next_up()), code + 1);
            }
            for large in [kind.max() * 1.5, f32::MAX, f32::INFINITY] {
                assert_eq!(kind.encode(large), kind.largest);
                assert_eq!(kind.encode(-large), kind.sign() | kind.largest);
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        assert!(E4M3.decode(0x7f).is_nan() && E4M3.decode(0xff).is_nan());
        assert!(E5M2.decode(0x7d).is_nan() && E5M2.decode(0x7c) == f32::INFINITY);
        assert_eq!(E4M3.encode(f32::NAN) & 0x7f, 0x7f);
    }

    #[test]
    fn powers_are_rounded_up() {
        assert_eq!(encode_e8m0_up(1.0), 127);
        assert_eq!(encode_e8m0_up(1.0f32.next_up()), 128);
        assert_eq!(encode_e8m0_up(0.0), 0);
        assert_eq!(encode_e8m0_up(f32::INFINITY), 254);
        for code in 0..255 {
            assert_eq!(encode_e8m0_up(decode_e8m0(code)), code);
        }
    }
}
